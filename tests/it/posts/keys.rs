//! `Idempotency-Key`: one post for one key, however often and at once it is sent.

use crate::harness::app::TestApp;
use crate::harness::rest::text;
use roost::actors::instant::Instant;
use roost::config::Limit;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_and_body_get_the_same_answer_and_another_body_422() {
    let mut app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let send = |content: &str| ann.asks_to_post(content).header("idempotency-key", "key-1");
    let first = send("once").await;
    let again = send("once").await;
    assert_eq!((again.header("location"), &again.json), (first.header("location"), &first.json));
    let first = first.expect(201);
    assert_eq!(again.expect(201), first);
    send("twice").await.refused(422, "key_reused");
    // Keys are each user's own.
    let other = eve.asks_to_post("once").header("idempotency-key", "key-1").await.expect(201);
    assert_ne!(other["id"], first["id"]);
    assert_eq!(ann.timeline().await, [text(&first, "id")]);

    app.restart().await;
    let ann = crate::harness::person::Person { rest: app.clone(), ..ann };
    let send = |content: &str| ann.asks_to_post(content).header("idempotency-key", "key-1");
    assert_eq!(send("once").await.expect(201), first);
    // A like since does not change what was answered, nor does the post's end.
    ann.call("POST", &format!("/posts/{}/likes", text(&first, "id"))).await.expect(201);
    assert_eq!(send("once").await.expect(201), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_requests_at_once_with_one_key_make_one_post_and_get_fifty_equal_answers() {
    let app = TestApp::with(|config| config.limit_posts_per_minute = Limit::of(10)).await;
    let ann = app.person("ann").await;
    let sending: Vec<_> = (0..50)
        .map(|_| {
            let call = ann.asks_to_post("once").header("idempotency-key", "fifty");
            tokio::spawn(async move { call.await.expect(201) })
        })
        .collect();
    let mut answers = Vec::new();
    for one in sending {
        answers.push(one.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(ann.timeline().await.len(), 1);
    // They spent one of the ten.
    for number in 0..9 {
        ann.posts(&format!("number {number}")).await;
    }
    ann.asks_to_post("one too many").await.refused(429, "rate_limited");
    assert_eq!(ann.asks_to_post("once").header("idempotency-key", "fifty").await.expect(201), answers[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_while_the_first_is_under_way_waits_for_it() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let mut held = app.barriers.hold(Instant::Committed(ann.id.parse().unwrap()));
    let send = |content: &str| {
        let call = ann.asks_to_post(content).header("idempotency-key", "slow");
        tokio::spawn(async move { call.await })
    };
    let first = send("once");
    held.reached().await;
    let (repeat, other) = (send("once"), send("other"));
    app.get("/health/live").await.expect(200);
    assert!(!repeat.is_finished(), "it waits");
    held.release();
    let first = first.await.unwrap().expect(201);
    assert_eq!(repeat.await.unwrap().expect(201), first);
    other.await.unwrap().refused(422, "key_reused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_post_spends_no_key() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let send = |content: &str| ann.asks_to_post(content).header("idempotency-key", "key");
    send("").await.refuses_fields(&["content"]);
    ann.post("/posts", json!({})).header("idempotency-key", "key").await.refuses_fields(&["content"]);
    send("another body, and the first that is fine").await.expect(201);
    send("").await.refuses_fields(&["content"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_none_is_refused() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    for key in ["", &"k".repeat(129), "with space", "\u{e9}"] {
        let answer = ann.post("/posts", json!({"content": "x"})).header("idempotency-key", key).await;
        answer.refuses_fields(&["Idempotency-Key"]);
    }
    ann.asks_to_post("x").header("idempotency-key", "k".repeat(128)).await.expect(201);
}
