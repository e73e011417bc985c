//! Who does not belong to the cluster gets nothing, and one clear line on both sides; who belongs notices nothing.

use crate::harness::cluster::TestCluster;
use crate::harness::until;
use std::io::Write;
use std::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_with_one_line_and_disturb_nobody() {
    let Some(mut cluster) = TestCluster::prepare(2).await else { return };
    // The one socket here is not read all the while.
    cluster.set("ROOST_HEARTBEAT_SECONDS", "60");
    cluster.spawn_all();
    cluster.is_whole().await;
    let view = cluster.view(0).await;
    let (ann, bob) = (cluster.person(0, "ann").await, cluster.person(1, "bob").await);
    bob.follows(&ann).await;
    let mut hears = bob.connects().await;

    a_second_node_of_one_name_is_refused(&cluster).await;
    garbage_and_a_trickle_are_refused(&cluster).await;
    another_secret_is_refused(&cluster).await;
    another_clusters_redis_is_refused(&cluster);

    // Who can write to Redis may stand in a view, and never gets beyond joining.
    for view in cluster.views_since(view) {
        assert!(!view.replace("x (joining)", "").contains(['x', 'y']), "{view}");
    }
    let post = ann.posts("undisturbed").await;
    hears.expect_post(&post).await;
}

async fn a_second_node_of_one_name_is_refused(cluster: &TestCluster) {
    let twin = cluster.newcomer("a", cluster.keyspace());
    let refused = tokio::task::block_in_place(|| twin.runs(&[]));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("the name a is taken"), "{said}");
}

async fn garbage_and_a_trickle_are_refused(cluster: &TestCluster) {
    let mut garbage = TcpStream::connect(cluster.link_address(0)).expect("it listens");
    // It may be refused in mid sentence.
    let _ = garbage.write_all(&[b'x'; 65_536]);
    let mut trickle = TcpStream::connect(cluster.link_address(0)).expect("it listens");
    trickle.write_all(b"P").expect("it listens");
    until("both are told of", async || (refusals(cluster, 0, "").len() >= 2).then_some(())).await;
}

/// One that has a store of its own, and everything else of the cluster but its secret.
async fn another_secret_is_refused(cluster: &TestCluster) {
    let keyspace = cluster.another_keyspace();
    let mut stranger = cluster.newcomer("x", &keyspace);
    stranger.set("ROOST_CLUSTER_SECRET", "somebody else has another secret.");
    tokio::task::block_in_place(|| stranger.spawn());
    until("it is refused", async || {
        (!refusals(cluster, 0, "it has another secret").is_empty()).then_some(())
    })
    .await;
    until("it knows", async || stranger.log().contains("your secret is not this cluster's").then_some(()))
        .await;
    stranger.get("/health/ready").await.refused(503, "not_ready");
}

fn another_clusters_redis_is_refused(cluster: &TestCluster) {
    let keyspace = cluster.another_keyspace();
    let mut stranger = cluster.newcomer("y", &keyspace);
    stranger.set("ROOST_CLUSTER_NAME", "another");
    let refused = tokio::task::block_in_place(|| stranger.runs(&[]));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("this Redis is of the cluster"), "{said}");
}

/// Lines of a node's log that refuse somebody on the cluster port.
fn refusals(cluster: &TestCluster, node: usize, why: &str) -> Vec<String> {
    let log = cluster.node(node).server.log();
    let refused = log.lines().filter(|line| line.contains("refused a connection") && line.contains(why));
    refused.map(str::to_owned).collect()
}
