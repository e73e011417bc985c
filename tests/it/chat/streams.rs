//! What a stream is told, and from where on.

use super::pair;
use crate::harness::app::TestApp;
use crate::harness::person::Person;
use crate::harness::rest::text;
use crate::harness::stream::{TestStream, stream_call};
use crate::harness::until;
use roost::actors::instant::Instant;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_who_takes_part_is_told_of_every_message_the_sender_too() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let eve = app.person("eve").await;
    let (mut to_ann, mut to_bob, mut to_eve) =
        (ann.streams().await, bob.streams().await, eve.streams().await);
    assert_eq!(to_ann.retry, Some(Duration::from_secs(2)));
    let first = ann.says(&conversation, "hello").await;
    let event = json!({"messageId": first, "conversationId": conversation});
    for stream in [&mut to_ann, &mut to_bob] {
        let before = stream.last_event_id.clone();
        assert_eq!(stream.expect("message").await, event);
        assert_ne!(stream.last_event_id, before);
    }
    let second = bob.says(&conversation, "hi").await;
    let among_all = ann.talks_with(&[&bob, &eve]).await;
    let third = ann.says(&among_all, "all of you").await;
    for stream in [&mut to_ann, &mut to_bob] {
        stream.expect_messages(&[second.clone(), third.clone()]).await;
    }
    // It was told of nothing before.
    to_eve.expect_messages(&[third]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_several_tabs_is_told_of_everything() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let mut tabs = Vec::new();
    for _ in 0..3 {
        tabs.push(bob.streams().await);
    }
    let mut sent = Vec::new();
    for number in 0..10 {
        sent.push(ann.says(&conversation, &number.to_string()).await);
    }
    for tab in &mut tabs {
        tab.expect_messages(&sent).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_while_nobody_listened_comes_first() {
    let mut app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let missed = [ann.says(&conversation, "one").await, ann.says(&conversation, "two").await];
    let mut first = bob.streams().await;
    first.expect_messages(&missed).await;
    // That they were written is noted once the next is asked for, and stored in a while.
    is_noted(&bob).await;
    let three = ann.says(&conversation, "three").await;
    first.expect_messages(std::slice::from_ref(&three)).await;
    first.cut();
    let four = ann.says(&conversation, "four").await;
    app.restart().await;
    let mut second = bob.streams().await;
    let told = second.messages_until(&four).await;
    assert!(told == [four.clone()] || told == [three, four], "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_while_a_listener_begins_is_told_whatever_it_has_read_by_then() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let at = Instant::InboxRead(bob.id.parse().expect("an id"));
    let mut held = app.barriers.hold(at);
    let opening = tokio::spawn({
        let bob = bob.clone();
        async move { bob.streams().await }
    });
    held.reached().await;
    let message = ann.says(&conversation, "meanwhile").await;
    held.release();
    let mut stream = opening.await.expect("a stream");
    stream.expect_messages(&[message]).await;

    let mut held = app.barriers.hold(at);
    let mut socket = bob.opens("").await;
    held.reached().await;
    let message = ann.says(&conversation, "meanwhile, again").await;
    held.release();
    socket.begins().await;
    while text(&socket.expect("chatMessage").await, "messageId") != message {}
}

/// Waits until one who comes anew is told of nothing old; an orderly stop stores what is noted, too.
async fn is_noted(person: &Person) {
    until("what was written is noted", async || {
        let mut anew = person.streams().await;
        let begins = tokio::time::timeout(Duration::from_millis(200), anew.event()).await;
        begins.is_err().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_resumes_after_the_last_event_that_it_was_told() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let empty = bob.streams().await.cut();
    let mut sent = Vec::new();
    for number in 0..200 {
        sent.push(ann.says(&conversation, &number.to_string()).await);
    }
    // Even one that was cut before its first event.
    let mut stream = bob.streams_from(&empty).await;
    assert_eq!(stream.last_event_id, empty, "it opens with where it stands");
    stream.expect_messages(&sent[..50]).await;
    let place = stream.cut();
    let mut by_header = bob.streams_from(&place).await;
    by_header.expect_messages(&sent[50..]).await;
    let query = format!("?token={}&lastEventId={place}", bob.token);
    let mut by_query = TestStream::open(stream_call(&app, &query)).await;
    by_query.expect_messages(&sent[50..]).await;
    // The header is newer than the URL that an EventSource comes back to.
    let newer = by_header.cut();
    let call = stream_call(&app, &query).header("last-event-id", &newer);
    let mut both = TestStream::open(call).await;
    let last = ann.says(&conversation, "last").await;
    both.expect_messages(&[last]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_may_stand_in_the_query_the_header_or_the_cookie() {
    let app = TestApp::start().await;
    let registered = app.register("ann").await;
    let cookie = registered.header("set-cookie").and_then(|line| line.split(';').next()).unwrap().to_owned();
    let token = text(&registered.expect(201), "token");
    let call = || stream_call(&app, "");
    TestStream::open(call().bearer(&token)).await;
    TestStream::open(call().header("cookie", &cookie)).await;
    TestStream::open(call().header("cookie", &cookie).header("sec-fetch-site", "same-origin")).await;
    let foreign = call().header("cookie", &cookie).header("origin", "https://evil.example");
    foreign.await.refused(403, "foreign_origin");
    call()
        .header("cookie", &cookie)
        .header("sec-fetch-site", "same-site")
        .await
        .refused(403, "foreign_origin");
    call().await.refused(401, "unauthorized");
    call().bearer("nonsense").await.refused(401, "unauthorized");
    stream_call(&app, "?token=nonsense").await.refused(401, "unauthorized");
    // It is for upgrades and streams only.
    app.get(&format!("/api/chat/conversations?token={token}")).await.refused(401, "unauthorized");
    call().bearer(&token).header("accept-encoding", "gzip, br").response().await.expect("a stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_one_role_send_the_others_calls_away() {
    let api = TestApp::with(|config| config.role = roost::config::Role::Api).await;
    let (ann, bob, conversation) = pair(&api).await;
    ann.says(&conversation, "hello").await;
    bob.asks_to_stream(None).await.refused(421, "wrong_role");
    let realtime = TestApp::with(|config| config.role = roost::config::Role::Realtime).await;
    stream_call(&realtime, "").await.refused(401, "unauthorized");
    realtime.get("/api/chat/conversations").await.refused(421, "wrong_role");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comment_comes_where_nothing_else_does() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let mut quiet = bob.streams().await;
    let began = std::time::Instant::now();
    assert!(quiet.is_commented().await);
    assert!(began.elapsed() >= Duration::from_secs(14));
    let message = ann.says(&conversation, "hello").await;
    quiet.expect_messages(&[message]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_and_deliveries_are_counted_and_streams_too() {
    let app = TestApp::start().await;
    let (ann, bob, conversation) = pair(&app).await;
    let mut listening = bob.streams().await;
    let message = ann.says(&conversation, "hello").await;
    listening.expect_messages(&[message]).await;
    // Other tests in this process count, too.
    until("it is counted", async || {
        let metrics = app.get("/metrics").await.text;
        let has = |name: &str| metrics.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0"));
        let counted = has("roost_chat_deliveries_total{way=\"stream\"}") && has("roost_streams ");
        (counted && has("roost_chat_delivery_seconds_count")).then_some(())
    })
    .await;
}
