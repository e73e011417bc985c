//! Pages of other origins may call only where they are named (CORS).

use crate::harness::app::TestApp;

const PAGE: &str = "https://app.example.com";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_origin_is_let_in_unless_it_is_named() {
    let closed = TestApp::start().await;
    let answer = closed.get("/health/live").header("origin", PAGE).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let open = TestApp::with(|config| config.allowed_origins = vec![PAGE.parse().expect("an origin")]).await;
    let answer = open.get("/timeline").header("origin", PAGE).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "refusals can be read too");
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    answer.refused(401, "unauthorized");
    let other = open.get("/health/live").header("origin", "https://evil.example").await;
    assert_eq!(other.header("access-control-allow-origin"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preflight_of_a_named_origin_says_what_may_be_sent() {
    let app = TestApp::with(|config| config.allowed_origins = vec![PAGE.parse().expect("an origin")]).await;
    let preflight = |origin: &str| {
        app.call("OPTIONS", "/posts")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,idempotency-key")
    };
    let answer = preflight(PAGE).await;
    assert!((200..300).contains(&answer.status), "{}", answer.status);
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    let allowed = |name: &str| answer.header(name).unwrap_or_default().to_lowercase();
    assert!(allowed("access-control-allow-methods").contains("post"));
    for header in ["authorization", "content-type", "idempotency-key"] {
        assert!(allowed("access-control-allow-headers").contains(header), "{header}");
    }
    assert_eq!(preflight("https://evil.example").await.header("access-control-allow-origin"), None);
}
