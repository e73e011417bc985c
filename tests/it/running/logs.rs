//! Log lines: JSON where nobody looks, each request's with its ids, and no secret in any of them.

use crate::harness::child::RealServer;
use crate::harness::person::{PASSWORD, upgrade};
use crate::harness::until;
use serde_json::{Value, json};

/// Everything that a line says, flattened.
fn all(line: &Value) -> String {
    line.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_json_with_the_ids_of_their_request_and_no_secrets() {
    let server = RealServer::with(&[("ROOST_LOG", "trace,tungstenite=trace"), ("ROOST_DRAIN_SECONDS", "0")]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (ann, eve) = (server.person("ann").await, server.person("eve").await);
    eve.follows(&ann).await;
    let mut listening = eve.connects().await;
    let refreshed =
        server.post("/auth/refresh", json!({"refresh_token": eve.refresh_token})).await.expect(200);
    listening.says(json!({"type": "auth", "data": {"token": refreshed["token"]}})).await;
    listening.expect("authenticated").await;
    listening.says(json!({"type": "auth", "data": {"token": "frame-secret"}})).await;
    listening.expect("error").await;
    // Wrong ones are no less secret.
    server
        .post("/auth/login", json!({"email": "ann@example.com", "password": "wrong-hunter2!"}))
        .await
        .refused(401, "unauthorized");
    server
        .post("/auth/login", json!({"email": "nobody@example.com", "password": PASSWORD}))
        .await
        .refused(401, "unauthorized");
    server
        .post("/auth/refresh", json!({"refresh_token": "refresh-secret"}))
        .await
        .refused(401, "unauthorized");
    upgrade(server.get("/ws?token=query-secret")).await.refused(401, "unauthorized");
    server.get("/timeline").bearer("bearer-secret").await.refused(401, "unauthorized");
    server
        .get("/timeline")
        .header("cookie", "roost_session=cookie-secret")
        .await
        .refused(401, "unauthorized");
    server
        .post("/auth/refresh", json!({"refresh_token": eve.refresh_token}))
        .await
        .refused(401, "unauthorized");
    let traced = server.get("/health/live").header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    traced.header("x-request-id", "my-request").await.expect(200);

    let log = until("the request is logged", async || {
        let log = server.log();
        log.contains("my-request").then_some(log)
    })
    .await;
    for secret in [
        PASSWORD,
        "hunter2",
        "@example.com",
        "frame-secret",
        "refresh-secret",
        "query-secret",
        "bearer-secret",
        "cookie-secret",
        &ann.token,
        &eve.token,
        &eve.refresh_token,
        refreshed["token"].as_str().unwrap(),
        ann.token.rsplit('.').next().unwrap(),
        "argon2id$",
    ] {
        let told = log.lines().find(|line| line.contains(secret));
        assert!(told.is_none(), "{secret} is in the log: {told:?}");
    }
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    assert!(lines.len() > 10);
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    let of_request: Vec<_> = lines.iter().filter(|line| all(line).contains("my-request")).collect();
    assert!(of_request.iter().all(|line| all(line).contains(trace)), "{of_request:?}");
    // Whatever was said within a request carries its ids.
    for line in lines.iter().filter(|line| all(line).contains("answered")) {
        assert!(all(line).contains("request_id") && all(line).contains("trace_id"), "{line}");
    }
}
