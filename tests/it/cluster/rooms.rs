//! Rooms whose viewers and hosts are at different nodes, while nodes die, hang and leave: every press that was answered is in an
//! effect or in the count, once.

use crate::harness::cluster::TestCluster;
use crate::harness::game::Game;
use crate::harness::room::{Heard, number};
use crate::harness::until;
use futures_util::future::join_all;
use serde_json::json;
use std::time::Duration;

/// What comes of a fault is seen in so many presses.
const SOME: u64 = 200;
/// Between two presses of a viewer.
const PACE: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presses_at_every_node_reach_the_host_at_another_and_every_stream() {
    let Some(cluster) = TestCluster::start(3).await else { return };
    let doors = cluster.doors();
    let ann = cluster.person(0, "ann").await;
    let room = ann.makes_room_of(&[("jump", 7)]).await;
    let mut heard = Heard::default();
    for (node, there) in doors.iter().enumerate() {
        let mut host = ann.at(there).hosts(&room).await;
        let mut stream = doors[(node + 1) % 3].watches(&room).await;
        stream.expect("stats").await;
        for press in 0..7 {
            doors[press % 3].presses(&room, "jump", "one").await;
        }
        while heard.seq <= node as u64 {
            heard.take(&host.frame().await);
        }
        doors[node].presses(&room, "jump", "one").await;
        while number(&stream.expect("stats").await["stats"][0], "current_count") != 1 {}
        ann.at(there).call("POST", &format!("/api/rooms/{room}/reset")).await.expect(204);
        while number(&stream.expect("stats").await["stats"][0], "current_count") != 0 {}
        // Another takes its place, at another node.
        let _next = ann.at(&doors[(node + 1) % 3]).hosts(&room).await;
        assert_eq!(host.closed().await, 4409);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_press_is_lost_or_counted_twice_while_nodes_die_hang_and_leave() {
    let Some(mut cluster) = TestCluster::start(3).await else { return };
    let ann = cluster.person(0, "ann").await;
    for (node, fault) in ["killed", "hangs", "leaves"].into_iter().enumerate() {
        // Several, so that some are at home at the node that fails.
        let mut games = Vec::new();
        for _ in 0..4 {
            games.push(Game::begins(cluster.doors(), ann.clone(), 6, PACE).await);
        }
        join_all(games.iter().map(|game| game.presses(SOME))).await;
        match fault {
            "killed" => cluster.kill9(node),
            "hangs" => cluster.stop(node),
            _ => cluster.asks_to_leave(node),
        }
        join_all(games.iter().map(|game| game.presses(SOME))).await;
        cluster.heal().await;
        cluster.is_whole().await;
        println!("{fault}:");
        for tally in join_all(games.into_iter().map(Game::settle)).await {
            tally.must_be_clean();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presses_are_taken_by_api_nodes_and_hosts_by_realtime_nodes() {
    let Some(mut cluster) = TestCluster::prepare(2).await else { return };
    for (node, role) in ["api", "realtime"].into_iter().enumerate() {
        cluster.set_on(node, "ROOST_ROLE", role);
    }
    cluster.spawn_all();
    cluster.is_whole().await;
    let (api, realtime) = (&cluster.doors()[0], &cluster.doors()[1]);
    let ann = cluster.person(0, "ann").await;
    let room = ann.makes_room_of(&[("jump", 3)]).await;
    let mut host = ann.at(realtime).hosts(&room).await;
    for _ in 0..3 {
        api.presses(&room, "jump", "one").await;
    }
    assert_eq!(host.frame().await["type"], "game_event");
    realtime.asks_to_press(&room, json!({"event_type": "jump"})).await.refused(421, "wrong_role");
    realtime.get(&format!("/api/rooms/{room}")).await.refused(421, "wrong_role");
    ann.at(realtime).call("POST", "/api/rooms").await.refused(421, "wrong_role");
    api.get(&format!("/api/rooms/{room}/stream")).await.refused(421, "wrong_role");
    api.get("/ws/rooms").await.refused(421, "wrong_role");
    // Whichever node's address a host was told, viewers have a page there.
    for node in [api, realtime] {
        assert_eq!(node.get(&format!("/rooms/{room}")).await.status, 200);
    }
    let mut stream = realtime.watches(&room).await;
    stream.expect("stats").await;
    until("the host is known at the other node", async || {
        let shown = api.get(&format!("/api/rooms/{room}")).await.expect(200);
        (shown["host_connected"] == true).then_some(())
    })
    .await;
}
