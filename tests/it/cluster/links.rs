//! Links that are cut, stalled one way and slow: everything goes on, and nothing is lost.

use super::{SOME, crowd, nothing_was_lost};
use crate::harness::cluster::TestCluster;
use std::time::Duration;

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
    cluster.isolate(2).await;
    crowd.posts(3 * SOME).await;
    nothing_was_lost(&mut cluster, crowd, "a node was alone").await;
}
