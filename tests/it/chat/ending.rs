//! Why streams end: logout, the token's time, one stream too many, a node that leaves.

use super::pair;
use crate::harness::app::TestApp;
use crate::harness::child::RealServer;
use crate::harness::raw::RawSocket;
use crate::harness::until;
use roost::config::Limit;
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_ends_the_streams_of_that_login_alone() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let other = bob.again().await;
    let (mut ending, mut staying) = (bob.streams().await, other.streams().await);
    bob.call("POST", "/auth/logout").await.expect(204);
    assert_eq!(ending.expect("expired").await, json!({}));
    ending.ended().await;
    bob.asks_to_stream(Some(&ending.last_event_id)).await.refused(401, "unauthorized");
    let message = ann.says(&conversation, "still there?").await;
    staying.expect_messages(&[message]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_token() {
    let app = TestApp::with(|config| config.access_token = 3 * SECOND).await;
    let bob = app.person("bob").await;
    let began = Instant::now();
    let mut stream = bob.streams().await;
    assert_eq!(stream.expect("expired").await, json!({}));
    assert!(began.elapsed() >= SECOND);
    stream.ended().await;
    let newer = bob.again().await;
    newer.streams_from(&stream.last_event_id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_too_many_ends_the_oldest() {
    let app = TestApp::with(|config| config.limit_streams = Limit::of(3)).await;
    let (ann, bob, conversation) = pair(&app).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(bob.streams().await);
    }
    for stream in &mut streams[..2] {
        assert_eq!(stream.expect("taken_over").await, json!({}));
        assert!(stream.retry >= Some(60 * SECOND), "it does not come back at once");
        stream.ended().await;
    }
    let message = ann.says(&conversation, "hello").await;
    for stream in &mut streams[2..] {
        stream.expect_messages(std::slice::from_ref(&message)).await;
    }
    until("the others are forgotten", async || (app.node().roster.streams.count() == 3).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_sends_streams_away_spread_over_the_time_and_nothing_is_lost() {
    let mut server = RealServer::with(&[("ROOST_DRAIN_SECONDS", "3")]);
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let conversation = ann.talks_with(&[&bob]).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(bob.streams().await);
    }
    let began = Instant::now();
    server.signal(Signal::TERM);
    let leaving = streams.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            let after_ms = stream.expect("reconnect").await["after_ms"].as_u64().expect("a time");
            let told = began.elapsed();
            assert_eq!(stream.retry, Some(Duration::from_millis(after_ms)));
            stream.ended().await;
            (told, stream.cut())
        })
    });
    let (mut told, mut place) = (Vec::new(), String::new());
    for one in leaving.collect::<Vec<_>>() {
        let (at, its) = one.await.expect("it was sent away");
        told.push(at);
        place = its;
    }
    let spread = *told.iter().max().unwrap() - *told.iter().min().unwrap();
    assert!(spread > Duration::from_millis(300), "they are not sent away all at once: {told:?}");
    assert_eq!(server.ended().await.code(), Some(0));
    server.spawn();
    let message = ann.says(&conversation, "after").await;
    bob.streams_from(&place).await.expect_messages(&[message]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_streams() {
    let mut app = TestApp::start().await;
    let bob = app.person("bob").await;
    let mut stream = bob.streams().await;
    // One that reads nothing holds nothing up either.
    let mut unread = RawSocket::connect(&app).await;
    unread.write(request(&app.authority(), &bob.token).as_bytes()).await;
    until("both are there", async || (app.node().roster.streams.count() == 2).then_some(())).await;
    let began = Instant::now();
    app.stop().await;
    assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
    stream.expect("reconnect").await;
    stream.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_its_connection_to_itself_which_ends_with_it() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let mut socket = RawSocket::connect(&app).await;
    socket.write(request(&app.authority(), &bob.token).as_bytes()).await;
    let head = socket.head().await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("connection: close"), "{head}");
    // As any other answer has them.
    for name in ["date: ", "x-content-type-options: nosniff", "x-request-id: "] {
        assert!(head.contains(name), "{head}");
    }
    // Nobody reads this, nor what comes before the end.
    socket.write(format!("GET /health/live HTTP/1.1\r\nhost: {}\r\n\r\n", app.authority()).as_bytes()).await;
    let message = ann.says(&conversation, "hello").await;
    let mut read = String::new();
    while !read.contains(&message) {
        read.push_str(&socket.some().await.expect("it goes on"));
    }
    bob.call("POST", "/auth/logout").await.expect(204);
    while let Some(more) = socket.some().await {
        read.push_str(&more);
    }
    assert!(read.ends_with("event: expired\ndata: {}\n\n"), "{read}");
}

fn request(authority: &str, token: &str) -> String {
    format!("GET /api/chat/stream?token={token} HTTP/1.1\r\nhost: {authority}\r\n\r\n")
}
