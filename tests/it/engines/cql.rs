//! CQL servers: the shared one, and three that can be broken.

use crate::harness::engines::cql_cluster::CqlCluster;
use crate::harness::engines::cql_nodes;
use tokio::net::TcpStream;

#[tokio::test]
async fn the_shared_cql_server_is_there() {
    let Some(nodes) = cql_nodes() else { return };
    for node in nodes {
        TcpStream::connect(&node).await.unwrap_or_else(|error| panic!("{node}: {error}"));
    }
}

#[tokio::test]
async fn nodes_of_a_cluster_can_be_killed_paused_and_mended() {
    let Some(mut cluster) = CqlCluster::borrow().await else { return };
    assert_eq!(cluster.nodes().len(), 3);
    assert_eq!(cluster.answering().await, [true; 3]);
    cluster.kill(1);
    assert_eq!(cluster.answering().await, [true, false, true]);
    cluster.pause(2);
    assert_eq!(cluster.answering().await, [true, false, false]);
    cluster.resume(2);
    cluster.start(1).await;
    assert_eq!(cluster.answering().await, [true; 3]);
    cluster.kill_all();
    assert_eq!(cluster.answering().await, [false; 3]);
    cluster.mend().await;
    assert_eq!(cluster.answering().await, [true; 3]);
}
