//! The cookie `roost_session`: what it stands for, and from where a write by it may come.

use crate::harness::app::TestApp;
use crate::harness::person::{Person, upgrade};
use crate::harness::rest::{Answer, Call};
use serde_json::json;

/// The cookie that an answer sets: its value and its attributes.
fn cookie(answer: &Answer) -> (String, Vec<String>) {
    let line = answer.header("set-cookie").expect("a cookie");
    let mut parts = line.split("; ").map(str::to_owned);
    let value = parts.next().and_then(|pair| pair.strip_prefix("roost_session=").map(str::to_owned));
    let mut attributes: Vec<_> = parts.collect();
    attributes.sort();
    (value.expect("its name"), attributes)
}

fn by(call: Call, cookie: &str) -> Call {
    call.header("cookie", format!("theme=dark; roost_session={cookie}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn register_login_and_refresh_set_it_and_logout_clears_it() {
    let app = TestApp::start().await;
    let month = ["HttpOnly", "Max-Age=2592000", "Path=/", "SameSite=Lax"];
    let registered = app.register("eve").await;
    let (first, attributes) = cookie(&registered);
    assert_eq!(attributes, month);
    let refresh_token = registered.expect(201)["refresh_token"].clone();
    let (second, attributes) = cookie(&app.login("eve").await);
    assert_eq!(attributes, month);
    let (third, attributes) =
        cookie(&app.post("/auth/refresh", json!({"refresh_token": refresh_token})).await);
    assert_eq!(attributes, month);
    for value in [&first, &second, &third] {
        by(app.get("/timeline"), value).await.expect(200);
    }
    let own = app.url("");
    let out = by(app.call("POST", "/auth/logout"), &second).header("origin", &own).await;
    let (value, attributes) = cookie(&out);
    assert_eq!(
        (value.as_str(), attributes),
        ("", ["HttpOnly", "Max-Age=0", "Path=/", "SameSite=Lax"].map(str::to_owned).to_vec())
    );
    out.expect(204);
    by(app.get("/timeline"), &second).await.refused(401, "unauthorized");
    by(app.get("/timeline"), &first).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_by_cookie_needs_an_origin_of_ours_or_an_allowed_one() {
    let app = TestApp::with(|config| {
        config.allowed_origins = vec!["https://app.example.com".parse().expect("an origin")];
    })
    .await;
    let (value, _) = cookie(&app.register("eve").await);
    let post = || by(app.post("/posts", json!({"content": "by cookie"})), &value);
    post().await.refused(403, "foreign_origin");
    post().header("origin", "https://evil.example").await.refused(403, "foreign_origin");
    post().header("origin", "null").await.refused(403, "foreign_origin");
    post().header("sec-fetch-site", "cross-site").await.refused(403, "foreign_origin");
    post()
        .header("sec-fetch-site", "cross-site")
        .header("origin", "https://evil.example")
        .await
        .refused(403, "foreign_origin");
    post().header("origin", app.url("")).await.expect(201);
    post().header("sec-fetch-site", "same-origin").await.expect(201);
    post().header("origin", "https://app.example.com").await.expect(201);
    // Reading does not.
    by(app.get("/timeline"), &value).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bearer_token_needs_no_origin_and_goes_before_the_cookie() {
    let app = TestApp::start().await;
    let ann: Person = app.person("ann").await;
    let (eves, _) = cookie(&app.register("eve").await);
    let made = by(ann.asks_to_post("whose?"), &eves).await.expect(201);
    assert_eq!(made["user_id"], ann.id);
    by(app.get("/timeline").bearer("nonsense"), &eves).await.refused(401, "unauthorized");
    // The cookie's value is not a bearer token, nor the reverse.
    app.get("/timeline").bearer(&eves).await.refused(401, "unauthorized");
    by(app.get("/timeline"), &ann.token).await.refused(401, "unauthorized");
    // `?token=` is for upgrades alone.
    app.get(&format!("/users/{}?token={}", ann.id, ann.token)).await.refused(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_takes_the_cookie_from_a_page_of_ours() {
    let app = TestApp::start().await;
    let (value, _) = cookie(&app.register("eve").await);
    let headers = [("cookie", format!("roost_session={value}")), ("origin", app.url(""))];
    let url = app.url("/ws").replacen("http", "ws", 1);
    let mut client = crate::harness::live::TestClient::open_with(&url, &headers, None).await;
    client.begins().await;
    // A page of another's could listen with its visitor's cookie.
    let foreign = upgrade(by(app.get("/ws"), &value)).header("origin", "https://evil.example").await;
    assert!(matches!(foreign.status, 401 | 403), "{}", foreign.text);
}
