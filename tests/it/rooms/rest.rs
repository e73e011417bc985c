//! Rooms made, shown, pressed in, reset and ended.

use crate::harness::app::TestApp;
use crate::harness::rest::{names, text};
use crate::harness::room::number;
use crate::harness::until;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_is_made_and_shown_to_anybody() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let answer = ann.call("POST", "/api/rooms").await;
    assert!(answer.header("location").is_some_and(|path| path.starts_with("/api/rooms/")));
    let made = answer.expect(201);
    assert_eq!(names(&made), ["room_id", "web_url"]);
    let room = text(&made, "room_id");
    assert_eq!(room.len(), 26);
    assert_eq!(made["web_url"], app.url(&format!("/rooms/{room}")));

    let shown = app.get(&format!("/api/rooms/{room}")).await.expect(200);
    assert_eq!(names(&shown), ["created_at", "event_types", "host_connected", "room_id"]);
    assert_eq!((&shown["room_id"], &shown["host_connected"]), (&made["room_id"], &json!(false)));
    let bases =
        [("skill1", 5), ("skill2", 10), ("skill3", 15), ("enemy1", 5), ("enemy2", 10), ("enemy3", 15)];
    let expected: Vec<_> =
        bases.iter().map(|(name, base)| json!({"event_type": name, "base": base})).collect();
    assert_eq!(shown["event_types"], json!(expected));
    assert_eq!(app.counts(&room).await, bases.map(|(name, _)| (name.to_owned(), 0)));

    let own = ann.makes_room_of(&[("jump", 7)]).await;
    let shown = app.get(&format!("/api/rooms/{}", own.to_lowercase())).await.expect(200);
    assert_eq!(shown["event_types"], json!([{"event_type": "jump", "base": 7}]));
    let listed = ann.get("/api/rooms?mine=true").await.expect(200);
    let listed: Vec<_> = listed["rooms"].as_array().unwrap().iter().map(|of| text(of, "room_id")).collect();
    assert_eq!(listed, [own, room], "newest first");
    assert_eq!(app.person("eve").await.get("/api/rooms?mine=true").await.expect(200), json!({"rooms": []}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_a_room_needs_a_token_and_event_types_that_make_sense() {
    let app = TestApp::start().await;
    app.call("POST", "/api/rooms").await.refused(401, "unauthorized");
    app.get("/api/rooms?mine=true").await.refused(401, "unauthorized");
    let ann = app.person("ann").await;
    ann.get("/api/rooms").await.refuses_fields(&["mine"]);
    ann.get("/api/rooms?mine=false").await.refuses_fields(&["mine"]);
    let one = |name: Value, base: Value| json!([{"event_type": name, "base": base}]);
    for (event_types, field) in [
        (json!("skill1"), "event_types"),
        (json!([]), "event_types"),
        (json!([{"event_type": "a", "base": 5}, {"event_type": "a", "base": 6}]), "event_types"),
        (one(json!("a b"), json!(5)), "event_types[0]"),
        (one(json!("a"), json!(0)), "event_types[0]"),
        (one(json!("a"), json!(-1)), "event_types[0]"),
        (one(json!("a"), json!(1.5)), "event_types[0]"),
        (one(json!(1), json!(5)), "event_types[0]"),
        (json!(["a"]), "event_types[0]"),
        (json!([{"event_type": "a", "base": 5, "more": 1}]), "event_types[0]"),
    ] {
        ann.post("/api/rooms", json!({"event_types": event_types})).await.refuses_fields(&[field]);
    }
    ann.post("/api/rooms", json!({"name": "x"})).await.refuses_fields(&["name"]);
    let many: Vec<_> = (0..65).map(|number| json!({"event_type": format!("e{number}"), "base": 1})).collect();
    ann.post("/api/rooms", json!({"event_types": many})).await.refuses_fields(&["event_types"]);
    ann.post("/api/rooms", json!({"event_types": null})).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presses_are_counted_up_to_the_threshold_and_start_again() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let room = ann.makes_room().await;
    for count in 1..=5 {
        let pressed = app.presses(&room, "skill1", "one").await;
        let expected = json!({
            "event_type": "skill1", "current_count": count, "required_count": 5,
            "effect_triggered": count == 5, "viewer_count": 1, "next_threshold": 5,
        });
        assert_eq!(pressed, expected);
    }
    assert_eq!(number(&app.presses(&room, "skill1", "one").await, "current_count"), 1);
    assert_eq!(app.counts(&room).await[0], ("skill1".to_owned(), 1));
    // The sixth viewer raises the threshold for the next press.
    for viewer in 2..6 {
        app.presses(&room, "skill2", &format!("viewer {viewer}")).await;
    }
    let sixth = app.presses(&room, "skill2", "viewer 6").await;
    assert_eq!(
        (number(&sixth, "required_count"), number(&sixth, "next_threshold"), number(&sixth, "viewer_count")),
        (10, 12, 6)
    );
    let seventh = app.presses(&room, "skill2", "viewer 6").await;
    assert_eq!((number(&seventh, "required_count"), number(&seventh, "viewer_count")), (12, 6));
    let stats = app.get(&format!("/api/rooms/{room}/stats")).await.expect(200);
    assert_eq!(names(&stats), ["room_id", "stats", "time"]);
    let expected = json!({
        "event_type": "skill2", "current_count": 6, "required_count": 12, "next_threshold": 12, "viewer_count": 6,
    });
    assert_eq!(stats["stats"][1], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_is_its_id_else_the_user_else_the_address() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let room = ann.makes_room().await;
    let path = format!("/api/rooms/{room}/events");
    let press = || json!({"event_type": "skill3"});
    let mut viewers = Vec::new();
    for call in [
        app.post(&path, press()),
        app.post(&path, press()),
        ann.post(&path, press()),
        eve.post(&path, press()),
        eve.post(&path, press()),
        app.post(&path, json!({"event_type": "skill3", "viewer_id": eve.id})),
        eve.post(&path, json!({"event_type": "skill3", "viewer_id": eve.id})),
    ] {
        viewers.push(number(&call.await.expect(200), "viewer_count"));
    }
    assert_eq!(viewers, [1, 1, 2, 3, 3, 4, 4]);
    // Whoever shows a token wants to be known by it; a cookie that is over is nobody's.
    app.post(&path, press()).bearer("no.token.of.ours").await.refused(401, "unauthorized");
    let answer = app.post(&path, press()).header("cookie", "roost_session=nothing").await.expect(200);
    assert_eq!(number(&answer, "viewer_count"), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_are_active_for_the_window_though_nobody_asks_for_the_room_meanwhile() {
    let app = TestApp::start().await;
    let room = app.person("ann").await.makes_room().await;
    for viewer in 1..=6 {
        app.presses(&room, "skill3", &format!("viewer {viewer}")).await;
    }
    app.node().rooms.retire(Duration::ZERO);
    assert_eq!(number(&app.presses(&room, "skill3", "viewer 6").await, "viewer_count"), 6);

    let app = TestApp::with(|config| config.room_active_window = Duration::from_secs(1)).await;
    let room = app.person("ann").await.makes_room().await;
    app.presses(&room, "skill3", "one").await;
    until("a room where nobody is any more is retired", async || {
        app.node().rooms.retire(Duration::ZERO);
        (app.node().rooms.count().0 == 0).then_some(())
    })
    .await;
    assert_eq!(number(&app.presses(&room, "skill3", "one").await, "current_count"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_press_that_is_sent_again_is_counted_once_and_answered_as_it_was() {
    let mut app = TestApp::start().await;
    let ann = app.person("ann").await;
    let room = ann.makes_room().await;
    let press = |viewer: &str, id: &str| json!({"event_type": "skill1", "viewer_id": viewer, "press_id": id});
    let first = app.asks_to_press(&room, press("one", "a")).await.expect(200);
    app.asks_to_press(&room, press("one", "b")).await.expect(200);
    // Another viewer's of the same id is another press.
    app.asks_to_press(&room, press("two", "a")).await.expect(200);
    assert_eq!(app.asks_to_press(&room, press("one", "a")).await.expect(200), first);
    // All at once, too.
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let call = app.asks_to_press(&room, press("one", "c"));
            tokio::spawn(async move { call.await.expect(200) })
        })
        .collect();
    for asked in asking {
        assert_eq!(number(&asked.await.unwrap(), "current_count"), 4);
    }
    assert_eq!(app.counts(&room).await[0].1, 4);
    // And by who takes the room after a restart.
    app.restart().await;
    assert_eq!(app.asks_to_press(&room, press("one", "a")).await.expect(200), first);
    assert_eq!(app.counts(&room).await[0].1, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_and_counts_nothing() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let room = ann.makes_room_of(&[("jump", 3), ("duck", 3)]).await;
    let problem = app.asks_to_press(&room, json!({"event_type": "skill1"})).await.refused(400, "invalid");
    assert_eq!(problem["errors"][0]["field"], "event_type");
    let detail = text(&problem["errors"][0], "detail");
    assert!(detail.contains("jump") && detail.contains("duck"), "{detail}");
    for (body, field) in [
        (json!({}), "event_type"),
        (json!({"event_type": 1}), "event_type"),
        (json!({"event_type": "jump", "viewer_id": ""}), "viewer_id"),
        (json!({"event_type": "jump", "viewer_id": "x".repeat(65)}), "viewer_id"),
        (json!({"event_type": "jump", "viewer_id": "a\nb"}), "viewer_id"),
        (json!({"event_type": "jump", "press_id": 7}), "press_id"),
        (json!({"event_type": "jump", "press_id": "x".repeat(65)}), "press_id"),
        (json!({"event_type": "jump", "base": 7}), "base"),
    ] {
        app.asks_to_press(&room, body).await.refuses_fields(&[field]);
    }
    let huge = json!({"event_type": "jump", "viewer_id": "x".repeat(500_000)});
    app.asks_to_press(&room, huge).await.refused(413, "payload_too_large");
    for room in ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "nothing", "019b8a7e-7c04-7000-8000-000000000004"] {
        app.asks_to_press(room, json!({"event_type": "jump"})).await.refused(404, "not_found");
        app.get(&format!("/api/rooms/{room}")).await.refused(404, "not_found");
        app.get(&format!("/api/rooms/{room}/stats")).await.refused(404, "not_found");
        app.get(&format!("/api/rooms/{room}/stream")).await.refused(404, "not_found");
        ann.call("POST", &format!("/api/rooms/{room}/reset")).await.refused(404, "not_found");
        ann.delete(&format!("/api/rooms/{room}")).await.refused(404, "not_found");
    }
    assert_eq!(app.counts(&room).await, [("jump".to_owned(), 0), ("duck".to_owned(), 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_its_owner_resets_and_ends_a_room() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let room = ann.makes_room().await;
    app.presses(&room, "skill1", "one").await;
    let (path, reset) = (format!("/api/rooms/{room}"), format!("/api/rooms/{room}/reset"));
    app.call("POST", &reset).await.refused(401, "unauthorized");
    eve.call("POST", &reset).await.refused(403, "forbidden");
    eve.delete(&path).await.refused(403, "forbidden");
    app.call("DELETE", &path).await.refused(401, "unauthorized");
    ann.call("POST", &reset).await.expect(204);
    assert_eq!(app.counts(&room).await[0].1, 0);
    assert_eq!(number(&app.presses(&room, "skill1", "one").await, "current_count"), 1);
    ann.delete(&path).await.expect(204);
    app.get(&path).await.refused(404, "not_found");
    app.asks_to_press(&room, json!({"event_type": "skill1"})).await.refused(404, "not_found");
    ann.delete(&path).await.refused(404, "not_found");
    assert_eq!(ann.get("/api/rooms?mine=true").await.expect(200), json!({"rooms": []}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_say_what_can_be_pressed_and_how_often() {
    let app = TestApp::with(|config| {
        config.room_event_types = vec![roost::model::room::EventType::parse("wave", 4).unwrap()];
        config.room_steps = vec![roost::model::room::rules::Step { viewers: 2, hundredths: 150 }];
        config.room_min_presses = 1;
        config.public_url = Some("https://roost.example/".parse().unwrap());
    })
    .await;
    let ann = app.person("ann").await;
    let made = ann.post("/api/rooms", json!({})).await.expect(201);
    let room = text(&made, "room_id");
    assert_eq!(text(&made, "web_url"), format!("https://roost.example/rooms/{room}"));
    assert_eq!(number(&app.presses(&room, "wave", "one").await, "next_threshold"), 4);
    assert_eq!(number(&app.presses(&room, "wave", "two").await, "next_threshold"), 6);
}
