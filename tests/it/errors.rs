//! Every refusal is a problem+json that says what was wrong, and every answer has its headers.

mod description;

use crate::harness::app::TestApp;
use crate::harness::raw::RawSocket;
use crate::harness::rest::{Rest, text};
use serde_json::{Value, json};

const MOST: usize = 64 * 1024;

fn register(app: &Rest, body: &str) -> crate::harness::rest::Call {
    app.call("POST", "/auth/register").header("content-type", "application/json").body(body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_not_json_of_the_shape_are_400() {
    let app = TestApp::start().await;
    for body in ["", "{", "nonsense", "{\"email\": }", "{} {}", "\u{feff}{}", "{\"a\":\"\u{1}\"}", "NaN"] {
        register(&app, body).await.refused(400, "malformed_json");
    }
    register(&app, &"[".repeat(20_000)).await.refused(400, "malformed_json");
    for body in ["[]", "7", "null", "\"text\"", "true"] {
        let problem = register(&app, body).await;
        assert_eq!(problem.status, 400, "{body}");
        problem.refused(400, "invalid");
    }
    register(&app, "{}").await.refuses_fields(&["email", "username", "password"]);
    let whole = |extra: &str| {
        register(
            &app,
            &format!(r#"{{"email":"a@example.com","username":"abc","password":"aaaaaa1!"{extra}}}"#),
        )
    };
    whole(r#","admin":true"#).await.refuses_fields(&["admin"]);
    let invalid_utf8 = app.call("POST", "/auth/register").header("content-type", "application/json");
    invalid_utf8.body(b"{\"email\":\"\xff\"}".to_vec()).await.refused(400, "malformed_json");
    whole("").await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_64_kib_is_413_however_it_is_sent() {
    let app = TestApp::start().await;
    let padded = |length: usize| format!("{{}}{}", " ".repeat(length - 2));
    register(&app, &padded(MOST)).await.refused(400, "invalid");
    register(&app, &padded(MOST + 1)).await.refused(413, "payload_too_large");
    register(&app, &padded(5 * MOST)).await.refused(413, "payload_too_large");
    // A refusal for another reason is not lost over the body either.
    for _ in 0..10 {
        let large = " ".repeat(8 * MOST);
        app.call("POST", "/posts").body(large.clone()).await.refused(401, "unauthorized");
        app.call("POST", "/nothing").body(large).await.refused(404, "not_found");
    }
    // In chunks, so that no length is told beforehand.
    let mut raw = RawSocket::connect(&app).await;
    let head = "POST /auth/register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    raw.write(head.as_bytes()).await;
    for _ in 0..3 {
        raw.write(format!("{:x}\r\n{}\r\n", MOST / 2, " ".repeat(MOST / 2)).as_bytes()).await;
    }
    let head = raw.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_not_declared_as_json_is_415() {
    let app = TestApp::start().await;
    let send = |kind: Option<&str>| {
        let call = app.call("POST", "/auth/register");
        let call = kind.map_or(app.call("POST", "/auth/register"), |kind| call.header("content-type", kind));
        call.body("{}")
    };
    for kind in [
        None,
        Some(""),
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/jsonx"),
    ] {
        send(kind).await.refused(415, "unsupported_media_type");
    }
    for kind in ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON;charset=\"UTF-8\""]
    {
        send(Some(kind)).await.refused(400, "invalid");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_paths_are_404_and_wrong_methods_405_with_what_is_allowed() {
    let app = TestApp::start().await;
    for path in ["/", "/nothing", "/posts/", "/auth", "/timeline/x", "//timeline", "/..%2ftimeline"] {
        app.get(path).await.refused(404, "not_found");
    }
    for (method, path, allowed) in [
        ("GET", "/auth/register", "POST"),
        ("DELETE", "/timeline", "GET"),
        ("POST", "/ws", "GET"),
        ("PUT", "/posts", "POST"),
        ("PATCH", "/posts/0190a4f0-0000-7000-8000-000000000000", "GET,DELETE"),
        ("POST", "/openapi.json", "GET"),
    ] {
        let answer = app.call(method, path).await;
        let named: Vec<_> = answer
            .header("allow")
            .unwrap_or_default()
            .split(',')
            .map(|name| name.trim().to_owned())
            .collect();
        for name in allowed.split(',') {
            assert!(named.contains(&name.to_owned()), "{method} {path}: {named:?}");
        }
        answer.refused(405, "method_not_allowed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_good_credentials_it_is_401_for_all_that_needs_them() {
    let app = TestApp::start().await;
    let id = uuid::Uuid::now_v7();
    for (method, path) in [
        ("GET", "/timeline".to_owned()),
        ("POST", "/auth/logout".to_owned()),
        ("GET", format!("/users/{id}")),
        ("GET", "/users?username=abc".to_owned()),
        ("PUT", format!("/users/{id}")),
        ("POST", "/posts".to_owned()),
        ("POST", "/posts/batch".to_owned()),
        ("GET", format!("/posts/{id}")),
        ("DELETE", format!("/posts/{id}")),
        ("GET", format!("/users/{id}/posts")),
        ("POST", format!("/users/{id}/follow")),
        ("DELETE", format!("/users/{id}/follow")),
        ("GET", format!("/users/{id}/followers")),
        ("GET", format!("/users/{id}/following")),
        ("POST", format!("/posts/{id}/likes")),
        ("DELETE", format!("/posts/{id}/likes")),
    ] {
        let json = json!({"content": "x", "username": "abc", "post_ids": [id]});
        let call = || app.call(method, &path).json(&json);
        call().await.refused(401, "unauthorized");
        call().bearer("nonsense").await.refused(401, "unauthorized");
        call().header("authorization", "Basic YTpi").await.refused(401, "unauthorized");
        call().header("authorization", "Bearer").await.refused(401, "unauthorized");
    }
    for path in
        ["/health", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/.well-known/jwks.json"]
    {
        app.get(path).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_is_taken_over_and_a_request_id_goes_both_ways() {
    let app = TestApp::start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced = app.get("/nothing").header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let problem = traced.header("x-request-id", "mine-1").await;
    assert_eq!(problem.header("x-request-id"), Some("mine-1"));
    assert_eq!(problem.refused(404, "not_found")["trace_id"], trace);
    let (one, two) = (app.get("/nothing").await, app.get("/nothing").header("traceparent", "nonsense").await);
    let ids = [&one, &two].map(|answer| answer.header("x-request-id").unwrap().to_owned());
    assert_ne!(ids[0], ids[1]);
    let traces = [one, two].map(|answer| text(&answer.refused(404, "not_found"), "trace_id"));
    assert_ne!(traces[0], traces[1]);
    assert!(traces.iter().all(|trace| trace.len() == 32), "{traces:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_name_their_path_and_repeat_no_secret() {
    let app = TestApp::start().await;
    let problem = app.get("/users?username=abc&token=very-secret").await;
    let problem: Value = problem.refused(401, "unauthorized");
    assert_eq!(problem["instance"], "/users");
    let body = json!({"email": "x", "username": "abc", "password": "hunter2-secret!", "extra": "hunter3"});
    let problem = app.post("/auth/register", body).await.refused(400, "invalid").to_string();
    assert!(!problem.contains("hunter"), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_request_gets_the_head_of_its_get() {
    let app = TestApp::start().await;
    let answer = app.call("HEAD", "/health/live").await;
    assert!(answer.text.is_empty());
    answer.expect(200);
}
