//! Nodes that are killed, and nodes that hang and come back late.

use super::{SOME, crowd, nothing_was_lost};
use crate::harness::cluster::TestCluster;
use crate::harness::until;

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
