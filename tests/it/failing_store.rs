//! A server on three CQL nodes of which one is killed, one hangs, and then all are gone: what was answered 201 is
//! on the timelines and was shown live, nothing else was, and it goes on by itself. And starts that cannot be.

mod crowd;
mod starting;

use crate::harness::child::RealServer;
use crate::harness::engines::cql_cluster::CqlCluster;
use crate::harness::rest::text;
use crate::harness::until;
use crowd::Crowd;
use roost::storage::circuit::OPEN_FOR;
use std::collections::HashSet;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

/// A node that is missed is missed by the others for some seconds, too; until then changes that they vote on may
/// end without an answer.
const DETECTION: Duration = Duration::from_secs(40);

/// A server whose keyspace is on all nodes.
async fn server_on(cluster: &CqlCluster) -> RealServer {
    let keyspace = format!("failing_{}", Uuid::new_v4().simple());
    let mut server = RealServer::prepare(&[
        ("ROOST_SCYLLA_NODES", &cluster.nodes().join(",")),
        ("ROOST_SCYLLA_KEYSPACE", &keyspace),
        ("ROOST_SCYLLA_REPLICATION", "3"),
        // So often is every socket looked after, by both.
        ("ROOST_HEARTBEAT_SECONDS", "4"),
    ]);
    // Tables of three nodes take longer than a start may.
    let made = server.runs(&["schema", "apply"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    server.spawn();
    server
}

/// All in one: the nodes take half a minute to start, the tables on them a quarter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_killed_hanging_and_all_gone_lose_nothing_and_the_server_goes_on() {
    let Some(mut cluster) = CqlCluster::borrow().await else { return };
    let server = server_on(&cluster).await;
    one_is_killed(&server, &mut cluster).await;
    cluster.mend().await;
    one_hangs(&server, &cluster).await;
    cluster.mend().await;
    all_are_gone(&server, &mut cluster).await;
}

async fn one_is_killed(server: &RealServer, cluster: &mut CqlCluster) {
    let crowd = Crowd::gather(server, "killed").await;
    crowd.acts(5).await;
    cluster.kill(1);
    crowd.is_served_again(DETECTION).await;
    is_well(server).await;
    crowd.has_lost_nothing().await;
}

async fn one_hangs(server: &RealServer, cluster: &CqlCluster) {
    let crowd = Crowd::gather(server, "hanging").await;
    crowd.acts(5).await;
    cluster.pause(2);
    crowd.is_served_again(DETECTION).await;
    is_well(server).await;
    // It comes back to what it missed.
    cluster.resume(2);
    crowd.acts(10).await;
    crowd.has_lost_nothing().await;
}

async fn all_are_gone(server: &RealServer, cluster: &mut CqlCluster) {
    let ann = server.person("gone-ann").await;
    let crowd = Crowd::gather(server, "gone").await;
    crowd.acts(5).await;
    let away = crowd.follower.connects().await.cut();
    // What was under way then is answered; what comes next is missed.
    crowd.acts(2).await;
    let before = crowd.posted();
    crowd.acts(5).await;
    cluster.kill_all();
    until("the circuit opens", async || (circuit(server).await == "open").then_some(())).await;
    let shows = "roost_circuit_open{dependency=\"store_reads\"} 1";
    until("the metrics show it", async || server.get("/metrics").await.text.contains(shows).then_some(()))
        .await;
    server.get("/health/ready").await.refused(503, "not_ready");
    server.get("/health/live").await.expect(200);

    // An open circuit lets nothing through: nobody waits for nodes that are not there.
    for call in [
        ann.asks_to_post("into the void"),
        ann.get("/timeline"),
        ann.get(&format!("/users/{}", ann.id)),
        ann.asks_to_follow(&crowd.follower),
        server.login(&ann.username),
        server.register(&format!("{}-2", ann.username)),
    ] {
        assert_eq!(circuit(server).await, "open");
        call.await.refused(503, "unavailable");
    }
    // A token needs no store; where a socket would begin, it does.
    let mut late = ann.opens("").await;
    match late.message().await {
        Some(Message::Close(Some(frame))) => assert_eq!(u16::from(frame.code), 1011),
        other => panic!("{other:?}"),
    }
    crowd.socket_answers().await;

    cluster.mend().await;
    // Nobody asks before the circuit lets one through.
    crowd.is_served_again(OPEN_FOR + DETECTION).await;
    is_well(server).await;
    let follower = crowd.follower.clone();
    let all = crowd.has_lost_nothing().await;
    // Who was away all the while is shown the same.
    let mut missed: HashSet<_> = all.difference(&before).collect();
    let mut back = follower.resumes(&away).await;
    while !missed.is_empty() {
        let post = back.expect("newPost").await;
        missed.remove(&text(&post, "id"));
    }
    until("no delivery is left", async || {
        let metrics = server.get("/metrics").await.text;
        metrics.lines().any(|line| line == "roost_jobs_waiting{kind=\"delivery\"} 0").then_some(())
    })
    .await;
}

async fn circuit(server: &RealServer) -> String {
    let health = server.get("/health").await.expect(200);
    let store = &health["dependencies"]["store"];
    let circuit = store["read_circuit"].as_str().expect("a word").to_owned();
    let state = if circuit == "closed" { "ok" } else { "unavailable" };
    assert_eq!((&health["status"], &store["state"]), (&state.into(), &state.into()), "{health}");
    circuit
}

async fn is_well(server: &RealServer) {
    assert_eq!(circuit(server).await, "closed");
    server.get("/health/ready").await.expect(200);
}
