//! The crowd that the other tests rely on holds where nothing is broken, and finds what is lost.

use crate::harness::child::RealServer;
use crate::harness::crowd::{Crowd, Size};
use crate::harness::dice::Dice;
use crate::harness::rest::Rest;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_at_one_node_loses_nothing() {
    let mut server = RealServer::with(&[("ROOST_DRAIN_SECONDS", "1")]);
    let doors = vec![Rest::clone(&server)];
    let crowd = Crowd::gather(doors, "one", Dice::thrown("a crowd"), Size::default()).await;
    crowd.posts(50).await;
    server.kill();
    server.spawn();
    crowd.posts(50).await;
    crowd.settle().await.must_be_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_tells_what_was_lost() {
    let server = RealServer::start();
    let doors = vec![Rest::clone(&server)];
    let crowd = Crowd::gather(doors, "lossy", Dice::thrown("a crowd"), Size::default()).await;
    crowd.posts(20).await;
    crowd.loses_one().await;
    let tally = crowd.settle_within(Duration::from_secs(2)).await;
    println!("{tally}");
    // By those of its followers who did not begin under way.
    assert!(tally.lost.len() >= Size::default().followers, "{tally}");
    assert!(!tally.is_clean() && tally.doubled.is_empty() && tally.inverted.is_empty(), "{tally}");
}
