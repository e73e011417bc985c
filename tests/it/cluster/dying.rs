//! Nodes that are killed, and nodes that hang and come back late.

use super::listening::Listening;
use super::{SOME, crowd, nothing_was_lost};
use crate::harness::cluster::TestCluster;
use crate::harness::fault_proxy::Mode;
use crate::harness::{soon, until};
use futures_util::future::join_all;
use std::time::Duration;

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
async fn nodes_that_are_all_killed_at_once_come_back_as_one_cluster_and_lose_nothing() {
    let Some(mut cluster) = TestCluster::start(3).await else { return };
    // Nothing is under way at the store, or everything.
    for mode in [Mode::Pass, Mode::Stall] {
        let crowd = crowd(&cluster, &format!("all-{mode:?}")).await;
        crowd.posts(SOME).await;
        for node in 0..cluster.count() {
            cluster.cql_of(node, mode).await;
        }
        (0..cluster.count()).for_each(|node| cluster.kill9(node));
        nothing_was_lost(&mut cluster, crowd, &format!("all were killed, the store's way {mode:?}")).await;
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
    cluster.has_a_view_after(before).await;
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
        listeners.push(Listening::from(&listener, cursor));
    }
    let before = cluster.view(0).await;
    cluster.stop(1);
    cluster.has_a_view_after(before).await;
    let posts = join_all(authors.iter().map(|author| author.posts("while it hung"))).await;
    let all_shown = join_all(listeners.iter_mut().map(async |listening| {
        for post in &posts {
            listening.until(post).await;
        }
    }));
    cluster.cont(1);
    soon("all posts at all listeners", all_shown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_that_is_found_stored_by_a_node_that_died_reaches_the_followers_connections() {
    let Some(mut cluster) = TestCluster::start(3).await else { return };
    let (author, follower) = (cluster.person(2, "author").await, cluster.person(1, "follower").await);
    let mut listening = Listening::at(&follower).await;
    // The node does not hear that the follow is stored.
    cluster.cql_of(0, Mode::Delay(Duration::from_millis(500))).await;
    let following = tokio::spawn(follower.at(&cluster.doors()[0]).asks_to_follow(&author).attempt());
    let path = format!("/users/{}", author.id);
    until("the follow is stored", async || {
        let profile = follower.get(&path).await.expect(200);
        (profile["is_following"] == true).then_some(())
    })
    .await;
    cluster.kill9(0);
    let answer = following.await.expect("it was asked");
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(follower.asks_to_follow(&author).await.status, 409);
    let post = author.posts("after the follow").await;
    soon("the post", listening.until(&post)).await;
}
