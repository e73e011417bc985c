//! Chat events on `/ws`: `chatMessage`, with a cursor of their own.

use super::pair;
use crate::harness::app::TestApp;
use crate::harness::live::TestClient;
use crate::harness::person::Person;
use crate::harness::rest::text;
use serde_json::{Value, json};

async fn comes_with(person: &Person, chat_cursor: &str) -> TestClient {
    let mut client = person.opens(&format!("&chat_cursor={chat_cursor}")).await;
    client.begins().await;
    client
}

/// The next frames must be these messages; answers the last one's cursor.
async fn expect_messages(client: &mut TestClient, messages: &[String]) -> String {
    let mut cursor = String::new();
    for message in messages {
        let frame = client.frame().await;
        assert!(
            frame["type"] == "chatMessage" && frame["data"]["messageId"] == **message,
            "{message}: {frame}"
        );
        assert_eq!(frame["cursor"], Value::Null, "it says nothing of posts");
        cursor = text(&frame, "chat_cursor");
    }
    cursor
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_is_told_what_streams_are_beside_posts() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    bob.follows(&ann).await;
    let (mut socket, mut stream) = (bob.connects().await, bob.streams().await);
    let message = ann.says(&conversation, "hello").await;
    let frame = socket.frame().await;
    assert_eq!(frame["data"], json!({"messageId": message, "conversationId": conversation}));
    stream.expect_messages(&[message]).await;
    assert_eq!(text(&frame, "chat_cursor"), stream.last_event_id, "the places are the same");
    let post = ann.posts("to all").await;
    socket.expect_post(&post).await;
    let second = ann.says(&conversation, "again").await;
    expect_messages(&mut socket, &[second]).await;
    socket.pings().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_frame_says_where_the_inbox_stands_and_a_socket_resumes_from_there() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let mut raw = bob.opens("").await;
    let connected = raw.frame().await;
    let place = text(&connected, "chat_cursor");
    raw.cut();
    let mut sent = Vec::new();
    for number in 0..150 {
        sent.push(ann.says(&conversation, &number.to_string()).await);
    }
    let mut client = comes_with(&bob, &place).await;
    let middle = expect_messages(&mut client, &sent[..70]).await;
    client.cut();
    let mut client = comes_with(&bob, &middle).await;
    expect_messages(&mut client, &sent[70..]).await;
    // A stream goes on where a socket was.
    bob.streams_from(&middle).await.expect_messages(&sent[70..]).await;
}
