//! Positions that are of no use: a stream and a socket say so, and go on as without one; never with another's events.

use super::pair;
use crate::harness::app::TestApp;
use crate::harness::live::TestClient;
use crate::harness::person::Person;
use crate::harness::stream::TestStream;
use roost::model::chat::InboxPosition;
use serde_json::json;

/// A stream from a position of no use, behind its word on that.
async fn resynced(person: &Person, position: &str, reason: &str) -> TestStream {
    let mut stream = person.streams_from(position).await;
    assert_ne!(stream.last_event_id, position, "it says where it really stands");
    assert_eq!(stream.expect("resync").await, json!({"reason": reason}), "{position}");
    stream
}

/// The same on a socket.
async fn resynced_socket(person: &Person, position: &str) -> TestClient {
    let mut client = person.opens(&format!("&chat_cursor={position}")).await;
    client.begins().await;
    assert_eq!(client.expect("resync").await, json!({"reason": "chat"}), "{position}");
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_that_are_bad_foreign_or_of_the_future_are_told_so_and_begin_as_without_one() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let eve = app.person("eve").await;
    let own: InboxPosition = bob.streams().await.cut().parse().expect("a position");
    let foreign = eve.streams().await.cut();
    let mut elsewhere = own;
    elsewhere.store.0 ^= 1;
    let future = InboxPosition { place: own.place + 100, ..own };
    let missed = ann.says(&conversation, "while nobody listened").await;
    let bad = [
        ("nonsense".to_owned(), "malformed"),
        ("x".repeat(5_000), "malformed"),
        (foreign.clone(), "foreign"),
        (elsewhere.to_string(), "foreign"),
        (future.to_string(), "future"),
    ];
    // What a stream was told that is cut at once does not count as told.
    for (position, reason) in &bad {
        let mut stream = resynced(&bob, position, reason).await;
        assert_eq!(stream.last_event_id.parse(), Ok(own));
        assert_eq!(stream.expect("message").await["messageId"], missed.as_str());
    }
    for (position, reason) in &bad {
        let mut stream = resynced(&bob, position, reason).await;
        let mut client = resynced_socket(&bob, &position[..position.len().min(1_000)]).await;
        let next = ann.says(&conversation, "next").await;
        stream.messages_until(&next).await;
        while client.expect("chatMessage").await["messageId"] != next.as_str() {}
    }
    // Whose position it was is told nothing of it.
    let message = eve.says(&eve.talks_with(&[&ann]).await, "mine").await;
    eve.streams_from(&foreign).await.expect_messages(&[message]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_outlives_a_restart() {
    let mut app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let mut stream = bob.streams().await;
    let first = ann.says(&conversation, "one").await;
    stream.expect_messages(&[first]).await;
    let place = stream.cut();
    let second = ann.says(&conversation, "two").await;
    app.restart().await;
    let third = ann.says(&conversation, "three").await;
    bob.streams_from(&place).await.expect_messages(&[second, third]).await;
}
