//! The host's socket: effects in order, kept while it is away; acknowledgements; who takes whose place; how it ends.

use crate::harness::app::TestApp;
use crate::harness::live::TestClient;
use crate::harness::person::{Person, upgrade};
use crate::harness::raw::{RawSocket, masked};
use crate::harness::rest::{Rest, names, text};
use crate::harness::room::{Heard, number};
use crate::harness::until;
use futures_util::future::join_all;
use roost::actors::wire::Pressing;
use roost::model::room::{PressKey, ViewerKey};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// Presses that make so many effects of `skill1`, of one viewer.
async fn effects(rest: &Rest, room: &str, many: usize) {
    for _ in 0..5 * many {
        rest.presses(room, "skill1", "one").await;
    }
}

async fn expect_seqs(host: &mut TestClient, seqs: impl IntoIterator<Item = u64>) {
    for seq in seqs {
        let frame = host.frame().await;
        assert_eq!((&frame["type"], number(&frame, "seq")), (&json!("game_event"), seq), "{frame}");
    }
}

/// Waits until the home knows that the host has gone, and what it had.
async fn is_away(rest: &Rest, room: &str) {
    until("the host is gone", async || {
        let shown = rest.get(&format!("/api/rooms/{room}")).await.expect(200);
        (shown["host_connected"] == false).then_some(())
    })
    .await;
}

async fn scene() -> (TestApp, Person, String) {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let room = ann.makes_room().await;
    (app, ann, room)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_makes_a_room_and_is_told_of_its_effects() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let url = app.url(&format!("/ws/rooms?token={}", ann.token)).replacen("http", "ws", 1);
    let mut host = TestClient::open(&url).await;
    let first = host.frame().await;
    assert_eq!(names(&first), ["room_id", "type", "web_url"]);
    assert_eq!(first["type"], "room_created");
    let room = text(&first, "room_id");
    assert_eq!(first["web_url"], app.url(&format!("/rooms/{room}")));
    let shown = app.get(&format!("/api/rooms/{room}")).await.expect(200);
    assert_eq!(shown["host_connected"], true);
    effects(&app, &room, 1).await;
    let expected = json!({
        "type": "game_event", "room_id": room, "event_type": "skill1", "trigger_count": 5, "viewer_count": 1,
        "seq": 1,
    });
    assert_eq!(host.frame().await, expected);
    host.pings().await;
    host.cut();
    is_away(&app, &room).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_refused_before_it_is_one() {
    let (app, ann, room) = scene().await;
    let eve = app.person("eve").await;
    let path = format!("/ws/rooms/{room}");
    app.get(&path).await.refused(426, "upgrade_required");
    app.get("/ws/rooms").await.refused(426, "upgrade_required");
    upgrade(app.get(&path)).await.refused(401, "unauthorized");
    upgrade(app.get("/ws/rooms?token=x")).await.refused(401, "unauthorized");
    upgrade(eve.get(&path)).await.refused(403, "forbidden");
    upgrade(ann.get("/ws/rooms/01ARZ3NDEKTSV4RRFFQ69G5FAV")).await.refused(404, "not_found");
    upgrade(ann.get("/ws/rooms/x")).await.refused(404, "not_found");
    assert_eq!(app.node().roster.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_has_ended_is_none_to_its_host_though_it_was_there_a_moment_ago() {
    let (app, ann, room) = scene().await;
    let host = ann.hosts(&room).await;
    host.cut();
    // Not by the service, which remembers it.
    assert!(app.node().rooms.end(room.parse().unwrap()).await.unwrap());
    upgrade(ann.get(&format!("/ws/rooms/{room}"))).await.refused(404, "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_says_at_once_is_answered_behind_the_first_frame() {
    let (app, ann, room) = scene().await;
    let ping = masked(true, 1, br#"{"type":"ping"}"#);
    let said = [ping.clone(), masked(true, 9, b"at once"), masked(true, 1, b"nothing"), ping].concat();
    let path = format!("/ws/rooms/{room}");
    let mut host = RawSocket::upgrade_saying(&app, &path, &ann.token, None, &said).await;
    let first = host.frame().await.expect("a first frame");
    let first = String::from_utf8_lossy(&first.payload).into_owned();
    assert!(first.contains("room_created"), "{first}");
    let (mut texts, mut pongs) = (Vec::new(), Vec::new());
    while texts.len() < 3 || pongs.is_empty() {
        let frame = host.frame().await.expect("an answer");
        match frame.opcode {
            1 => texts.push(String::from_utf8_lossy(&frame.payload).into_owned()),
            10 => pongs.push(frame.payload),
            other => panic!("a frame of the kind {other}"),
        }
    }
    for (text, kind) in texts.iter().zip(["pong", "error", "pong"]) {
        assert!(text.contains(&format!(r#""type":"{kind}""#)), "{texts:?}");
    }
    assert_eq!(pongs, [b"at once"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_has_spoken_and_gone_takes_nobodys_place() {
    let (app, ann, room) = scene().await;
    let mut host = ann.hosts(&room).await;
    let ping = masked(true, 1, br#"{"type":"ping"}"#);
    let said = [ping, masked(true, 9, b"x"), masked(true, 8, &1000_u16.to_be_bytes())].concat();
    let path = format!("/ws/rooms/{room}");
    let mut gone = RawSocket::upgrade_saying(&app, &path, &ann.token, None, &said).await;
    assert_eq!(gone.closed().await, 1000);
    // One whose place was taken would hear of that first.
    effects(&app, &room, 1).await;
    expect_seqs(&mut host, 1..=1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_wait_for_a_host_that_is_away_and_one_that_is_silent_gets_each_once() {
    let (mut app, ann, room) = scene().await;
    effects(&app, &room, 2).await;
    let mut host = ann.hosts(&room).await;
    expect_seqs(&mut host, 1..=2).await;
    effects(&app, &room, 1).await;
    expect_seqs(&mut host, 3..=3).await;
    host.cut();
    effects(&app, &room, 2).await;
    // It had read all that was written, and went.
    let mut host = ann.hosts(&room).await;
    expect_seqs(&mut host, 4..=5).await;
    host.cut();
    app.restart().await;
    effects(&app, &room, 1).await;
    let mut host = ann.hosts(&room).await;
    let mut heard = number(&host.frame().await, "seq");
    // What was not stored yet when it went may come again.
    while heard < 6 {
        let next = number(&host.frame().await, "seq");
        assert_eq!(next, heard + 1);
        heard = next;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_acknowledges_gets_again_what_it_has_not_acknowledged() {
    let (app, ann, room) = scene().await;
    let mut host = ann.hosts(&room).await;
    effects(&app, &room, 4).await;
    expect_seqs(&mut host, 1..=4).await;
    host.says(json!({"type": "ack", "seq": 2})).await;
    host.pings().await;
    host.cut();
    let mut host = ann.hosts(&room).await;
    expect_seqs(&mut host, 3..=4).await;
    // Without another word it is known for one that acknowledges.
    host.cut();
    let mut host = ann.hosts(&room).await;
    expect_seqs(&mut host, 3..=4).await;
    // Of what it was not told it has nothing.
    host.says(json!({"type": "ack", "seq": 99})).await;
    host.pings().await;
    effects(&app, &room, 1).await;
    expect_seqs(&mut host, 5..=5).await;
    host.cut();
    let mut host = ann.hosts(&room).await;
    expect_seqs(&mut host, 5..=5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_known_for_one_that_acknowledges_after_a_restart() {
    let (mut app, ann, room) = scene().await;
    effects(&app, &room, 4).await;
    let mut host = ann.hosts(&room).await;
    expect_seqs(&mut host, 1..=4).await;
    host.says(json!({"type": "ack", "seq": 2})).await;
    host.pings().await;
    host.cut();
    is_away(&app, &room).await;
    // What was to be stored, is with this.
    app.presses(&room, "skill3", "one").await;
    app.restart().await;
    // It says no more, and has read all that is written when it goes.
    let mut host = ann.hosts(&room).await;
    expect_seqs(&mut host, 3..=4).await;
    host.cut();
    is_away(&app, &room).await;
    let mut host = ann.hosts(&room).await;
    expect_seqs(&mut host, 3..=4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_host_takes_the_place_of_the_older() {
    let (app, ann, room) = scene().await;
    let mut older = ann.hosts(&room).await;
    let mut newer = ann.hosts(&room).await;
    assert_eq!(older.closed().await, 4409);
    effects(&app, &room, 1).await;
    expect_seqs(&mut newer, 1..=1).await;
    newer.pings().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_says_that_is_not_understood_is_told_it_and_ten_in_a_row_end_it() {
    let (_app, ann, room) = scene().await;
    let mut host = ann.hosts(&room).await;
    for (frame, code) in [
        (json!({"type": "ack"}), "malformed_frame"),
        (json!({"type": "ack", "seq": "1"}), "malformed_frame"),
        (json!({"type": "press"}), "unknown_type"),
        (json!([1]), "malformed_frame"),
    ] {
        host.says(frame).await;
        assert_eq!(host.expect("error").await["code"], code);
    }
    host.pings().await;
    for _ in 0..10 {
        host.says(json!({"type": "press"})).await;
    }
    assert_eq!(host.closed().await, 4400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_goes_with_its_login_its_room_and_its_node() {
    let (mut app, ann, room) = scene().await;
    let mut host = ann.hosts(&room).await;
    host.says(json!({"type": "auth", "data": {"token": "nothing"}})).await;
    assert_eq!(host.expect("error").await["code"], "unauthorized");
    let again = ann.again().await;
    host.says(json!({"type": "auth", "data": {"token": again.token}})).await;
    host.expect("authenticated").await;
    ann.call("POST", "/auth/logout").await.expect(204);
    host.pings().await;
    again.call("POST", "/auth/logout").await.expect(204);
    assert_eq!(host.closed().await, 4401);

    let ann = ann.again().await;
    let mut host = ann.hosts(&room).await;
    ann.delete(&format!("/api/rooms/{room}")).await.expect(204);
    assert_eq!(host.closed().await, 1000);

    let room = ann.makes_room().await;
    let mut host = ann.hosts(&room).await;
    app.stop().await;
    assert_eq!(host.frame().await["type"], "reconnect");
    assert_eq!(host.closed().await, 1012);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_read_is_closed_with_4008_and_loses_nothing() {
    /// Room that the host asks its system for.
    const ROOM: Option<u32> = Some(2048);
    /// Presses on their way at once.
    const BATCH: usize = 512;
    /// Bytes that may wait for it.
    const BOUND: usize = 16_384;
    /// About the bytes of an effect.
    const FRAME: usize = 200;
    let app = TestApp::with(|config| {
        config.outbox_bytes = BOUND;
        config.room_min_presses = 1;
    })
    .await;
    let ann = app.person("ann").await;
    let name = "x".repeat(64);
    let room = ann.makes_room_of(&[(&name, 1)]).await;
    let mut slow = RawSocket::upgrade_at(&app, &format!("/ws/rooms/{room}"), &ann.token, ROOM).await;
    let first = slow.frame().await.expect("a first frame");
    assert!(String::from_utf8_lossy(&first.payload).contains("room_created"));

    // By the actors, for it takes tens of thousands to fill the system's buffers.
    let enough = (RawSocket::buffers(ROOM).await + 8 * BOUND) / FRAME;
    let (id, mut presses) = (room.parse().unwrap(), 0);
    while presses < enough {
        let press =
            || Pressing { event_type: 0, viewer: ViewerKey(1), key: PressKey(*Uuid::new_v4().as_bytes()) };
        for pressed in join_all((0..BATCH).map(|_| app.node().rooms.press(id, press()))).await {
            assert!(pressed.expect("it is counted").expect("there is a room").effect_triggered);
            presses += 1;
        }
    }
    // Its system took them, and it reads none: it is closed, and in the end dropped.
    until("the host is closed", async || (app.node().roster.count() == 0).then_some(())).await;
    let metrics = app.get("/metrics").await.text;
    assert!(
        metrics.lines().any(|line| line.starts_with("roost_closes_total{reason=\"too slow\"}")),
        "{metrics}"
    );
    let (mut heard, presses) = (Heard::default(), presses as u64);
    let mut back = ann.hosts(&room).await;
    while heard.seq < presses {
        heard.take(&back.frame().await);
    }
    assert_eq!(heard.presses, presses);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_token_is_over_is_closed_and_idle_ones_too() {
    let app = TestApp::with(|config| config.access_token = Duration::from_secs(3)).await;
    let ann = app.person("ann").await;
    let room = ann.makes_room().await;
    assert_eq!(ann.hosts(&room).await.closed().await, 4401);
    let app = TestApp::with(|config| config.idle_timeout = Duration::from_secs(1)).await;
    let ann = app.person("ann").await;
    let room = ann.makes_room().await;
    assert_eq!(ann.hosts(&room).await.closed().await, 4408);
}
