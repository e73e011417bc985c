//! `/posts`: posting, reading, deleting, keys, batches, liking.

mod keys;
mod likes;

use crate::harness::app::TestApp;
use crate::harness::rest::{ids, names, text};
use roost::config::Limit;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_is_answered_shown_and_gone() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let answer = ann.asks_to_post("  hello\r\nthere  ").await;
    let location = answer.header("location").unwrap().to_owned();
    let post = answer.expect(201);
    assert_eq!(names(&post), ["content", "created_at", "id", "likes_count", "user_id"]);
    assert_eq!(
        (&post["content"], &post["user_id"], &post["likes_count"]),
        (&json!("hello\nthere"), &json!(ann.id), &json!(0))
    );
    assert_eq!(location, format!("/posts/{}", text(&post, "id")));
    assert_eq!(uuid::Uuid::parse_str(&text(&post, "id")).unwrap().get_version_num(), 7);

    let shown = eve.get(&location).await.expect(200);
    let fields = ["author", "content", "created_at", "id", "is_liked", "likes_count", "user_id"];
    assert_eq!(names(&shown), fields);
    assert_eq!(
        (&shown["author"], &shown["is_liked"]),
        (&json!({"id": ann.id, "username": "ann"}), &json!(false))
    );

    eve.delete(&location).await.refused(403, "forbidden");
    let gone = ann.delete(&location).await;
    assert!(gone.text.is_empty());
    gone.expect(204);
    ann.delete(&location).await.refused(404, "not_found");
    eve.get(&location).await.refused(404, "not_found");
    eve.delete(&location).await.refused(404, "not_found");
    ann.get(&format!("/posts/{}", uuid::Uuid::now_v7())).await.refused(404, "not_found");
    ann.get("/posts/nonsense").await.refuses_fields(&["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_posts_text_is_kept_by_its_rules() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let kept = async |sent: &str| text(&ann.asks_to_post(sent).await.expect(201), "content");
    // NFC: e and a combining acute become one.
    assert_eq!(kept("cafe\u{301}").await, "caf\u{e9}");
    assert_eq!(kept("\n\t a\r\nb\nc \u{3000}").await, "a\nb\nc");
    assert_eq!(kept("<script>alert(1)</script> & \"\\\"").await, "<script>alert(1)</script> & \"\\\"");
    // 280 scalar values, whatever their bytes; what counts is what is stored.
    let long = "\u{1F426}".repeat(280);
    assert_eq!(kept(&format!(" {long} ")).await, long);
    assert_eq!(kept(&"e\u{301}".repeat(280)).await, "\u{e9}".repeat(280));

    let refused = async |sent: &str| ann.asks_to_post(sent).await.refuses_fields(&["content"]);
    refused("").await;
    refused(" \r\n\t ").await;
    refused(&"x".repeat(281)).await;
    for forbidden in
        ["\0", "\t", "\r", "\u{1b}", "\u{7f}", "\u{85}", "\u{202a}", "\u{202e}", "\u{2066}", "\u{2069}"]
    {
        refused(&format!("a{forbidden}b")).await;
    }
    assert_eq!(kept("\u{202f}a\u{200d}b\u{2065}").await, "a\u{200d}b\u{2065}", "their neighbours are fine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_not_of_the_shape_is_refused_by_field() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    ann.post("/posts", json!({})).await.refuses_fields(&["content"]);
    ann.post("/posts", json!({"content": 7})).await.refuses_fields(&["content"]);
    ann.post("/posts", json!({"content": null})).await.refuses_fields(&["content"]);
    ann.post("/posts", json!({"content": "x", "likes_count": 9})).await.refuses_fields(&["likes_count"]);
    let post =
        |body: &'static str| ann.call("POST", "/posts").header("content-type", "application/json").body(body);
    post(r#"{"content": "a", "content": "b"}"#).await.refuses_fields(&["content"]);
    post("{\"content\": \"\\ud800\"}").await.refused(400, "malformed_json");
    app.post("/posts", json!({"content": "whose?"})).await.refused(401, "unauthorized");
    assert!(ann.timeline().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_eleventh_post_of_a_minute_is_429_and_refused_ones_spend_nothing() {
    let app = TestApp::with(|config| config.limit_posts_per_minute = Limit::of(10)).await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    for number in 0..10 {
        ann.asks_to_post("").await.refuses_fields(&["content"]);
        ann.posts(&format!("number {number}")).await;
    }
    let refused = ann.asks_to_post("one more").await;
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=6).contains(&wait), "one more comes every 6 s: {wait}");
    let problem = refused.refused(429, "rate_limited");
    assert_eq!(problem["retryable"], true);
    eve.posts("of another").await;
    assert_eq!(ann.timeline().await.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_shows_those_that_are_there_in_order_and_names_the_others() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let (one, two, gone) = (ann.posts("one").await, ann.posts("two").await, ann.posts("gone").await);
    ann.deletes(&gone).await;
    eve.call("POST", &format!("/posts/{two}/likes")).await.expect(201);
    let nowhere = uuid::Uuid::now_v7().to_string();
    let asked = json!({"post_ids": [two, nowhere, one, two, gone]});
    let found = eve.post("/posts/batch", asked).await.expect(200);
    assert_eq!(names(&found), ["not_found", "posts"]);
    assert_eq!(ids(&found["posts"]), [two.clone(), one]);
    assert_eq!(
        (&found["posts"][0]["is_liked"], &found["posts"][0]["likes_count"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(found["not_found"], json!([nowhere, gone]));

    let many = |count: usize| json!({"post_ids": (0..count).map(|_| uuid::Uuid::now_v7().to_string()).collect::<Vec<_>>()});
    let none = eve.post("/posts/batch", many(100)).await.expect(200);
    assert_eq!(none["not_found"].as_array().unwrap().len(), 100);
    eve.post("/posts/batch", many(101)).await.refuses_fields(&["post_ids"]);
    eve.post("/posts/batch", many(0)).await.refuses_fields(&["post_ids"]);
    eve.post("/posts/batch", json!({"post_ids": [two, "nonsense"]})).await.refuses_fields(&["post_ids[1]"]);
    eve.post("/posts/batch", json!({"post_ids": "nonsense"})).await.refuses_fields(&["post_ids"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authors_posts_are_listed_newest_first_and_counted() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let mut posts = Vec::new();
    for number in 0..25 {
        posts.push(ann.posts(&format!("number {number}")).await);
    }
    ann.deletes(&posts.remove(7)).await;
    posts.reverse();
    let path = format!("/users/{}/posts", ann.id);
    let page = eve.get(&path).await.expect(200);
    assert_eq!(names(&page), ["next_cursor", "posts", "total"]);
    assert_eq!((ids(&page["posts"]), &page["total"]), (posts[..20].to_vec(), &json!(24)));
    let rest = eve.get(&format!("{path}?cursor={}", text(&page, "next_cursor"))).await.expect(200);
    assert_eq!((ids(&rest["posts"]), &rest["next_cursor"]), (posts[20..].to_vec(), &json!(null)));
    let empty = eve.get(&format!("/users/{}/posts", eve.id)).await.expect(200);
    assert_eq!(empty, json!({"posts": [], "total": 0, "next_cursor": null}));
    eve.get(&format!("/users/{}/posts", uuid::Uuid::now_v7())).await.refused(404, "not_found");
}
