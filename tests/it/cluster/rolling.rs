//! All nodes are replaced, one after the other, by SIGTERM, while people use them.

use super::{SOME, crowd, nothing_was_lost};
use crate::harness::cluster::TestCluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_nothing() {
    let Some(mut cluster) = TestCluster::start(3).await else { return };
    let crowd = crowd(&cluster, "rolling").await;
    for node in 0..cluster.count() {
        assert!(cluster.terminate(node).await, "it ends in order");
        crowd.posts(SOME).await;
        cluster.restart(node);
        cluster.is_whole().await;
        crowd.posts(SOME).await;
    }
    nothing_was_lost(&mut cluster, crowd, "all were replaced").await;
}
