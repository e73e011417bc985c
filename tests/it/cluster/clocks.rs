//! A node's clock that is wrong: a little is borne, much makes it leave, and refuse to start.

use super::{SOME, crowd, nothing_was_lost};
use crate::harness::cluster::TestCluster;
use crate::harness::{skip, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_off_by_two_seconds_loses_nothing_and_by_ten_is_no_home() {
    let Some(mut cluster) = TestCluster::prepare(3).await else { return };
    if !cluster.give_clocks() {
        return skip("cluster::clocks", "needs libfaketime (Debian package faketime)");
    }
    cluster.spawn_all();
    cluster.is_whole().await;
    for (node, seconds) in [(0, 2), (1, -2)] {
        let crowd = crowd(&cluster, &format!("clock-{node}")).await;
        cluster.clock_off(node, seconds);
        crowd.posts(3 * SOME).await;
        nothing_was_lost(&mut cluster, crowd, &format!("a clock was off by {seconds} s")).await;
    }

    let far = crowd(&cluster, "far").await;
    let before = cluster.view(0).await;
    cluster.clock_off(2, 10);
    until("it stops acting", async || {
        cluster.node(2).server.log().contains("this node stops acting as home").then_some(())
    })
    .await;
    cluster.has_a_view_after(before).await;
    far.posts(SOME).await;
    nothing_was_lost(&mut cluster, far, "a clock was off by 10 s").await;

    assert!(cluster.terminate(2).await, "it ends in order");
    cluster.clock_off(2, 10);
    let refused = tokio::task::block_in_place(|| cluster.node(2).server.runs(&[]));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("clock"), "{said}");
}
