//! Redis, without which a cluster goes on as it is: stopped, killed, flushed, and out of one node's reach.

use super::{SOME, crowd, nothing_was_lost};
use crate::harness::cluster::TestCluster;
use crate::harness::fault_proxy::Mode;
use crate::harness::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_all_goes_on_and_no_view_shrinks() {
    let Some(mut cluster) = TestCluster::start(3).await else { return };
    let hangs = crowd(&cluster, "hangs").await;
    let view = cluster.view(0).await;
    cluster.redis.pause();
    redis_is_missed(&cluster).await;
    hangs.posts(3 * SOME).await;
    assert_eq!(cluster.view(0).await, view, "the view is frozen");
    nothing_was_lost(&mut cluster, hangs, "redis hung").await;

    let flushed = crowd(&cluster, "flushed").await;
    cluster.redis.flush();
    until("the leases are there again", async || {
        let leases = cluster.redis.says(&["keys", "node:*"]);
        (leases.lines().count() == cluster.count()).then_some(())
    })
    .await;
    flushed.posts(SOME).await;
    nothing_was_lost(&mut cluster, flushed, "redis was flushed").await;

    let gone = crowd(&cluster, "gone").await;
    cluster.redis.kill();
    redis_is_missed(&cluster).await;
    gone.posts(3 * SOME).await;
    nothing_was_lost(&mut cluster, gone, "redis was killed, and came back empty").await;

    let unseen = crowd(&cluster, "unseen").await;
    cluster.redis_of(0, Mode::Cut).await;
    unseen.posts(3 * SOME).await;
    nothing_was_lost(&mut cluster, unseen, "one node did not reach redis").await;
    // An empty Redis gets a view of a higher number, and of the same nodes.
    for view in cluster.views_since(view) {
        assert!(view.contains("a, b, c"), "somebody left: {view}");
    }
}

async fn redis_is_missed(cluster: &TestCluster) {
    until("redis is missed", async || {
        let health = cluster.node(0).server.get("/health").await.expect(200);
        (health["dependencies"]["redis"]["state"] != "ok").then_some(())
    })
    .await;
}
