//! Nodes that are killed, and nodes that hang and come back late.

use super::{SOME, crowd, nothing_was_lost};
use crate::harness::cluster::TestCluster;
use crate::harness::person::Person;
use crate::harness::{soon, until};
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::Value;
use std::collections::HashSet;
use tokio_tungstenite::tungstenite::Message;

/// Those who come back at once, one of whom finds the node when it has just joined.
const IMPATIENT: usize = 12;
/// With so many authors, each node is home to some.
const AUTHORS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_killed_and_come_back_lose_nothing() {
    let Some(mut cluster) = TestCluster::start(3).await else { return };
    // Each in its turn, so that everybody's home is killed once.
    for node in 0..cluster.count() {
        let crowd = crowd(&cluster, &format!("killed-{node}")).await;
        cluster.kill9(node);
        crowd.posts(2 * SOME).await;
        nothing_was_lost(&mut cluster, crowd, &format!("node {node} was killed")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_does_not_act_on_its_old_leases() {
    let Some(mut cluster) = TestCluster::start(3).await else { return };
    let short = crowd(&cluster, "short").await;
    cluster.stop(1);
    short.posts(SOME / 4).await;
    cluster.cont(1);
    nothing_was_lost(&mut cluster, short, "a node hung for a moment").await;

    let long = crowd(&cluster, "long").await;
    let before = cluster.view(0).await;
    cluster.stop(1);
    until("the others go on without it", async || (cluster.view(0).await > before).then_some(())).await;
    long.posts(SOME).await;
    cluster.cont(1);
    long.posts(SOME).await;
    nothing_was_lost(&mut cluster, long, "a node hung for longer than its lease").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_to_a_node_that_was_left_out_as_soon_as_it_is_back_is_shown_all() {
    let Some(mut cluster) = TestCluster::start(3).await else { return };
    let (mut authors, mut listeners) = (Vec::new(), Vec::new());
    for number in 0..AUTHORS {
        authors.push(cluster.person(0, &format!("author-{number}")).await);
    }
    for number in 0..IMPATIENT {
        let listener = cluster.person(1, &format!("impatient-{number}")).await;
        join_all(authors.iter().map(|author| listener.follows(author))).await;
        // The node hears of the authors from now on.
        let cursor = listener.connects().await.cut();
        listeners.push((listener, cursor));
    }
    let before = cluster.view(0).await;
    cluster.stop(1);
    until("the others go on without it", async || (cluster.view(0).await > before).then_some(())).await;
    let posts = join_all(authors.iter().map(|author| author.posts("while it hung"))).await;
    let posts: HashSet<String> = posts.into_iter().collect();
    let all_shown = listeners.iter().map(|(listener, cursor)| is_shown(listener, cursor.clone(), &posts));
    let all_shown = join_all(all_shown);
    cluster.cont(1);
    soon("all posts at all listeners", all_shown).await;
}

/// Comes to its node, again and again from where it was, until it was shown all of these.
async fn is_shown(listener: &Person, mut cursor: String, posts: &HashSet<String>) {
    let mut missing = posts.clone();
    while !missing.is_empty() {
        let url = listener.live_url(&format!("&cursor={cursor}"));
        let Ok((mut stream, _)) = tokio_tungstenite::connect_async(url).await else {
            tokio::task::yield_now().await;
            continue;
        };
        while let Some(Ok(message)) = stream.next().await
            && !missing.is_empty()
        {
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
            if let Some(id) = frame["data"]["id"].as_str() {
                missing.remove(id);
            }
            if let Some(newer) = frame["cursor"].as_str() {
                newer.clone_into(&mut cursor);
            }
        }
    }
}
