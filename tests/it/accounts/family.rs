//! Refresh tokens are a family: each is spent once; a spent one used again ends them all.

use super::has_tokens;
use crate::harness::app::TestApp;
use crate::harness::rest::{Call, text};
use serde_json::json;
use std::time::Duration;

fn refresh(app: &TestApp, token: &str) -> Call {
    app.post("/auth/refresh", json!({"refresh_token": token}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_rotates_and_the_session_goes_on() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    let mut listening = eve.connects().await;
    let mut token = eve.refresh_token.clone();
    for _ in 0..3 {
        let next = has_tokens(refresh(&app, &token).await, 200, &["refresh_token", "token"]);
        app.get("/timeline").bearer(&text(&next, "token")).await.expect(200);
        assert_ne!(text(&next, "refresh_token"), token);
        token = text(&next, "refresh_token");
    }
    eve.get("/timeline").await.expect(200);
    listening.pings().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_token_used_again_revokes_the_family_with_its_access_tokens_and_sockets() {
    let mut app = TestApp::start().await;
    let eve = app.person("eve").await;
    let other = eve.again().await;
    let (mut listening, mut others) = (eve.connects().await, other.connects().await);
    let next = refresh(&app, &eve.refresh_token).await.expect(200);
    refresh(&app, &eve.refresh_token).await.refused(401, "unauthorized");

    assert_eq!(listening.closed().await, 4401);
    eve.get("/timeline").await.refused(401, "unauthorized");
    app.get("/timeline").bearer(&text(&next, "token")).await.refused(401, "unauthorized");
    refresh(&app, &text(&next, "refresh_token")).await.refused(401, "unauthorized");
    // Another login of the same user is another family.
    others.pings().await;
    refresh(&app, &other.refresh_token).await.expect(200);

    app.restart().await;
    eve.get("/timeline").await.refused(401, "unauthorized");
    other.get("/timeline").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_used_by_two_at_once_revokes_the_family() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    for _ in 0..3 {
        let session = eve.again().await;
        let mut listening = session.connects().await;
        let both = [0, 1].map(|_| {
            let call = refresh(&app, &session.refresh_token);
            tokio::spawn(async move { call.await })
        });
        let mut good = Vec::new();
        for one in both {
            let answer = one.await.unwrap();
            match answer.status {
                200 => good.push(text(&answer.json, "token")),
                status => assert_eq!(status, 401, "{}", answer.text),
            }
        }
        assert_eq!(good.len(), 1, "one is the first");
        assert_eq!(listening.closed().await, 4401);
        app.get("/timeline").bearer(&good[0]).await.refused(401, "unauthorized");
        session.get("/timeline").await.refused(401, "unauthorized");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_ends_the_session_at_once_and_for_good() {
    let mut app = TestApp::start().await;
    let eve = app.person("eve").await;
    let answer = eve.call("POST", "/auth/logout").await;
    assert!(answer.text.is_empty());
    answer.expect(204);
    eve.get("/timeline").await.refused(401, "unauthorized");
    eve.call("POST", "/auth/logout").await.refused(401, "unauthorized");
    refresh(&app, &eve.refresh_token).await.refused(401, "unauthorized");
    app.restart().await;
    eve.get("/timeline").await.refused(401, "unauthorized");
    eve.again().await.get("/timeline").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_refresh_token_is_refused() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    for token in ["", "nonsense", eve.token.as_str(), &"x".repeat(5000)] {
        refresh(&app, token).await.refused(401, "unauthorized");
    }
    app.post("/auth/refresh", json!({})).await.refuses_fields(&["refresh_token"]);
    // A refresh token is no access token either.
    app.get("/timeline").bearer(&eve.refresh_token).await.refused(401, "unauthorized");
    eve.get("/timeline").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_public_key_is_served_and_checks_our_tokens() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    let set = app.get("/.well-known/jwks.json").await.expect(200);
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(set).unwrap();
    let header = jsonwebtoken::decode_header(&eve.token).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(set.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    validation.validate_aud = false;
    let claims = jsonwebtoken::decode::<serde_json::Value>(&eve.token, &key, &validation).unwrap().claims;
    assert_eq!(claims["sub"], eve.id);
    let lifetime = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(Duration::from_secs(lifetime as u64), Duration::from_secs(3600));
}
