//! CQL servers: the shared one, and three that can be broken.

use crate::harness::engines::cql_cluster::CqlCluster;
use crate::harness::engines::cql_nodes;
use crate::harness::until;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::response::query_result::QueryResult;
use scylla::statement::unprepared::Statement;
use std::time::Duration;
use tokio::net::TcpStream;

#[tokio::test]
async fn the_shared_cql_server_is_there() {
    let Some(nodes) = cql_nodes() else { return };
    for node in nodes {
        TcpStream::connect(&node).await.unwrap_or_else(|error| panic!("{node}: {error}"));
    }
}

/// A session with a keyspace of three copies and a table of numbers.
async fn session(cluster: &CqlCluster) -> Session {
    let session = SessionBuilder::new().known_nodes(cluster.nodes()).build().await.expect("a session");
    for statement in [
        "CREATE KEYSPACE harness WITH replication = \
         {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
        "CREATE TABLE harness.numbers (number int PRIMARY KEY)",
    ] {
        session.query_unpaged(statement, ()).await.expect(statement);
    }
    session
}

/// A node that hangs is not waited for as long as the driver would.
async fn ask(session: &Session, text: &str) -> Option<QueryResult> {
    let mut statement = Statement::new(text);
    statement.set_request_timeout(Some(Duration::from_secs(5)));
    session.query_unpaged(statement, ()).await.ok()
}

async fn put(session: &Session, number: i32) -> bool {
    ask(session, &format!("INSERT INTO harness.numbers (number) VALUES ({number})")).await.is_some()
}

async fn count(session: &Session) -> Option<usize> {
    let answer = ask(session, "SELECT number FROM harness.numbers").await?;
    Some(answer.into_rows_result().expect("rows").rows_num())
}

#[tokio::test]
async fn nodes_of_a_cluster_can_be_killed_paused_and_mended_and_forget_nothing() {
    let Some(mut cluster) = CqlCluster::borrow().await else { return };
    let session = session(&cluster).await;
    assert_eq!(cluster.answering().await, [true; 3]);
    assert!(put(&session, 0).await);
    cluster.kill(1);
    assert_eq!(cluster.answering().await, [true, false, true]);
    until("two of three take a write", async || put(&session, 1).await.then_some(())).await;
    cluster.pause(2);
    assert_eq!(cluster.answering().await, [true, false, false]);
    assert!(!put(&session, 2).await, "one of three is too few");
    cluster.resume(2);
    cluster.start(1).await;
    assert_eq!(cluster.answering().await, [true; 3]);
    until("they take a write again", async || put(&session, 3).await.then_some(())).await;
    cluster.kill_all();
    assert_eq!(cluster.answering().await, [false; 3]);
    cluster.mend().await;
    assert_eq!(cluster.answering().await, [true; 3]);
    // The one that was refused may have been taken.
    let kept = until("they answer again", async || count(&session).await).await;
    assert!(kept == 3 || kept == 4, "{kept}");
}
