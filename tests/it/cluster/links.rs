//! Links that are cut, stalled one way and slow: everything goes on, and nothing is lost.

use super::listening::Listening;
use super::{SOME, crowd, nothing_was_lost};
use crate::harness::cluster::TestCluster;
use crate::harness::soon;
use futures_util::future::join_all;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// So many that each of three nodes is home to some.
const AUTHORS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_fail_lose_nothing_and_stop_nobody() {
    let Some(mut cluster) = TestCluster::start(3).await else { return };
    let view = cluster.view(0).await;
    let cut = crowd(&cluster, "cut").await;
    cluster.cut(0, 1).await;
    cut.posts(3 * SOME).await;
    nothing_was_lost(&mut cluster, cut, "a link was cut").await;

    let mute = crowd(&cluster, "mute").await;
    cluster.stall(0, 1).await;
    mute.posts(3 * SOME).await;
    nothing_was_lost(&mut cluster, mute, "a link was stalled one way").await;

    let slow = crowd(&cluster, "slow").await;
    cluster.delay(1, 2, Duration::from_millis(500)).await;
    slow.posts(3 * SOME).await;
    nothing_was_lost(&mut cluster, slow, "a link was slow").await;
    assert_eq!(cluster.view(0).await, view, "a link alone moves nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_links_and_redis_is_gone_and_comes_back() {
    let Some(mut cluster) = TestCluster::start(3).await else { return };
    let crowd = crowd(&cluster, "alone").await;
    let before = cluster.view(0).await;
    cluster.isolate(2).await;
    cluster.has_a_view_after(before).await;
    // A client that asks the lonely node waits for seconds before it asks elsewhere.
    crowd.posts(SOME).await;
    nothing_was_lost(&mut cluster, crowd, "a node was alone").await;
}

/// The follower's connections are behind the slow link; the follow is stored on this side of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_posted_while_a_follow_crosses_a_slow_link_is_shown_in_order() {
    let Some(cluster) = TestCluster::start(3).await else { return };
    let author = cluster.person(2, "author").await;
    for number in 0..3 {
        let follower = cluster.person(1, &format!("follower-{number}")).await;
        let mut listening = Listening::at(&follower).await;
        cluster.delay(0, 1, Duration::from_millis(500)).await;
        let at_first = follower.at(&cluster.doors()[0]);
        let follows = AtomicBool::new(false);
        let posting = async {
            let (mut posts, mut after) = (Vec::new(), 0);
            while after < SOME {
                after += usize::from(follows.load(Ordering::Relaxed));
                posts.push(author.posts(&format!("{number}: {}", posts.len())).await);
            }
            posts
        };
        let following = async {
            at_first.follows(&author).await;
            follows.store(true, Ordering::Relaxed);
        };
        let (posts, ()) = tokio::join!(posting, following);
        let after = &posts[posts.len() - SOME];
        let shown = soon("the last", listening.until(posts.last().expect("some"))).await;
        let mut sorted = shown.clone();
        sorted.sort_unstable();
        assert_eq!(shown, sorted, "in the order of their ids");
        let missing: Vec<_> = posts.iter().filter(|post| *post >= after && !shown.contains(post)).collect();
        assert!(missing.is_empty(), "posted after the follow and not shown: {missing:?}");
        cluster.mend_link(0, 1).await;
    }
}

/// A home there answers later than links take a second there and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_authors_whose_homes_are_behind_a_slow_link_hears_them() {
    let Some(cluster) = TestCluster::start(3).await else { return };
    let follower = cluster.person(1, "follower").await;
    let mut authors = Vec::new();
    // Some of them are at home at the first node.
    for number in 0..AUTHORS {
        authors.push(cluster.person(2, &format!("author-{number}")).await);
    }
    cluster.delay(0, 1, Duration::from_millis(500)).await;
    join_all(authors.iter().map(|author| follower.follows(author))).await;
    let mut listening = soon("the follower is connected", Listening::at(&follower)).await;
    for author in &authors {
        let post = author.posts("behind the slow link").await;
        soon("the post", listening.until(&post)).await;
    }
}

/// The node that stores a follow cannot tell the one where the follower is connected, until it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_stored_behind_a_cut_link_reaches_connections_when_it_is_mended() {
    let Some(cluster) = TestCluster::start(3).await else { return };
    let (author, follower) = (cluster.person(2, "author").await, cluster.person(1, "follower").await);
    let mut listening = Listening::at(&follower).await;
    cluster.cut(0, 1).await;
    follower.at(&cluster.doors()[0]).follows(&author).await;
    let post = author.posts("while the link was cut").await;
    cluster.mend_link(0, 1).await;
    soon("the post", listening.until(&post)).await;
}
