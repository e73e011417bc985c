//! The stream of how a room stands.

use crate::harness::app::TestApp;
use crate::harness::room::number;
use crate::harness::stream::TestStream;
use crate::harness::until;
use roost::config::Limit;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Events until one whose first event type has that count.
async fn until_count(stream: &mut TestStream, count: u64) -> usize {
    let mut events = 0;
    loop {
        let stats = stream.expect("stats").await;
        events += 1;
        if number(&stats["stats"][0], "current_count") == count {
            return events;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_begins_with_how_the_room_stands_and_tells_when_that_changed() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let room = ann.makes_room_of(&[("jump", 100)]).await;
    app.presses(&room, "jump", "one").await;
    let mut streams = [app.watches(&room).await, app.watches(&room).await];
    for stream in &mut streams {
        let stats = stream.expect("stats").await;
        assert_eq!(stats["room_id"], room);
        let expected = json!([{
            "event_type": "jump", "current_count": 1, "required_count": 100, "next_threshold": 100, "viewer_count": 1,
        }]);
        assert_eq!(stats["stats"], expected);
        assert!(stream.retry.is_some());
    }
    app.presses(&room, "jump", "two").await;
    for stream in &mut streams {
        assert_eq!(until_count(stream, 2).await, 1);
    }
    ann.call("POST", &format!("/api/rooms/{room}/reset")).await.expect(204);
    for stream in &mut streams {
        until_count(stream, 0).await;
    }
    ann.delete(&format!("/api/rooms/{room}")).await.expect(204);
    for stream in &mut streams {
        assert_eq!(stream.expect("ended").await, json!({}));
        stream.ended().await;
    }
    until("nobody looks any more", async || (app.node().roster.streams.count() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_tells_no_more_than_four_times_a_second() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let room = ann.makes_room_of(&[("jump", 100)]).await;
    let mut stream = app.watches(&room).await;
    stream.expect("stats").await;
    let began = Instant::now();
    for _ in 0..50 {
        app.presses(&room, "jump", "one").await;
    }
    let events = until_count(&mut stream, 50).await;
    // However long that took.
    let quarters = began.elapsed().as_millis() / Duration::from_millis(250).as_millis();
    assert!(events as u128 <= quarters + 1, "{events} events in {quarters} quarters of a second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_bounded_by_room_and_by_address() {
    let app = TestApp::with(|config| {
        config.limit_room_streams = Limit::of(2);
        config.limit_address_streams = Limit::of(3);
    })
    .await;
    let ann = app.person("ann").await;
    let rooms = [ann.makes_room().await, ann.makes_room().await];
    let first = app.watches(&rooms[0]).await;
    let _second = app.watches(&rooms[0]).await;
    let stream = |room: &String| app.get(&format!("/api/rooms/{room}/stream"));
    stream(&rooms[0]).await.refused(429, "rate_limited");
    let _third = app.watches(&rooms[1]).await;
    stream(&rooms[1]).await.refused(429, "rate_limited");
    drop(first);
    until("one that has gone makes room", async || {
        let answer = stream(&rooms[1]).response().await.expect("an answer");
        (answer.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_when_its_node_leaves() {
    let mut app = TestApp::start().await;
    let ann = app.person("ann").await;
    let room = ann.makes_room().await;
    let mut stream = app.watches(&room).await;
    stream.expect("stats").await;
    app.stop().await;
    let last: Value = stream.expect("reconnect").await;
    assert!(last["after_ms"].is_u64(), "{last}");
    stream.ended().await;
}
