//! `/ws` by the page: its frames, its handshake, its limits and its close codes.

mod ending;
mod handshake;

use crate::harness::app::TestApp;
use crate::harness::rest::{names, text};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_have_the_shapes_of_the_protocol() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    eve.follows(&ann).await;
    let mut listening = eve.connects().await;
    let expected = ["connection_id", "heartbeat_seconds", "idle_timeout_seconds", "resumed", "user_id"];
    assert_eq!(names(&listening.connected), expected);
    assert_eq!(listening.connected["user_id"], eve.id);
    assert_eq!(listening.connected["heartbeat_seconds"], 30);
    assert_eq!(listening.connected["idle_timeout_seconds"], 600);
    assert!(listening.connected["resumed"].is_null());

    let post = ann.asks_to_post("a \"quoted\" post\nwith é and \u{1F426}").await.expect(201);
    let frame = listening.expect_post(&text(&post, "id")).await;
    assert_eq!(names(&frame), ["cursor", "data", "type"]);
    let expected = json!({
        "id": post["id"], "user_id": ann.id, "content": "a \"quoted\" post\nwith é and \u{1F426}",
        "author": {"id": ann.id, "username": "ann"}, "likes_count": 0, "created_at": post["created_at"],
    });
    assert_eq!(frame["data"], expected);

    ann.deletes(&text(&post, "id")).await;
    let frame = listening.expect_deleted(&text(&post, "id")).await;
    assert_eq!(names(&frame), ["cursor", "data", "type"]);
    assert_eq!(names(&frame["data"]), ["deleted_at", "id", "user_id"]);

    listening.pings().await;
    listening.says(json!({"type": "auth", "data": {"token": eve.again().await.token}})).await;
    let renewed = listening.expect("authenticated").await;
    assert_eq!(names(&renewed), ["expires_at"]);
    listening.says(json!({"type": "shout"})).await;
    let error = listening.expect("error").await;
    assert_eq!(names(&error), ["code", "detail"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ones_own_posts_come_too_and_nothing_older_than_the_connection() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    eve.follows(&ann).await;
    ann.posts("before").await;
    eve.posts("own, before").await;
    let mut listening = eve.connects().await;
    let own = eve.posts("own").await;
    listening.expect_post(&own).await;
    let post = ann.posts("after").await;
    listening.expect_post(&post).await;
    // Whom one does not follow is not heard.
    let stranger = app.person("stranger").await;
    stranger.posts("unheard").await;
    let marker = eve.posts("marker").await;
    listening.expect_post(&marker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_not_understood_get_an_error_and_ten_in_a_row_close() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    let mut listening = eve.connects().await;
    let bad = [
        Message::text("not json"),
        Message::text("[]"),
        Message::text(r#"{"type":7}"#),
        Message::text(r#"{"type":"newPost","data":{}}"#),
        Message::text(r#"{"type":"auth"}"#),
        Message::text(r#"{"type":"auth","data":{"token":7}}"#),
        Message::text(""),
        Message::binary(vec![0, 159, 146, 150]),
        Message::binary(r#"{"type":"ping"}"#.as_bytes().to_vec()),
    ];
    for round in 0..3 {
        for message in &bad {
            listening.sends(message.clone()).await;
            let error = listening.expect("error").await;
            assert!(!text(&error, "code").is_empty() && !text(&error, "detail").is_empty(), "{error}");
        }
        // Nine in a row are forgiven by one that is understood.
        listening.pings().await;
        assert!(round < 3);
    }
    for _ in 0..10 {
        listening.sends(Message::text("?")).await;
    }
    assert_eq!(listening.closed().await, 4400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_or_none_at_all_does_not_renew() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let mut listening = eve.connects().await;
    for token in [ann.token.as_str(), "nonsense", ""] {
        listening.says(json!({"type": "auth", "data": {"token": token}})).await;
        let error = listening.expect("error").await;
        assert_eq!(error["code"], "unauthorized");
        assert!(!error.to_string().contains("nonsense"), "{error}");
    }
    listening.pings().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_counts_sessions_and_authors() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    let census = async || app.get("/health").await.expect(200)["actors"].clone();
    assert_eq!(census().await["session"], 0);
    let listening = eve.connects().await;
    eve.posts("hello").await;
    let actors = census().await;
    assert_eq!((&actors["session"], &actors["author"], &actors["node"]), (&json!(1), &json!(1), &json!(1)));
    assert!(actors["relay"].as_u64() >= Some(1) && actors["courier"] == 1, "{actors}");
    listening.cut();
    crate::harness::until("it is gone", async || (census().await["session"] == 0).then_some(())).await;
}
