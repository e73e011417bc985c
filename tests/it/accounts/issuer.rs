//! Tokens of outside issuers: their keys from a file or a URL, their users, and what is never taken.

use crate::harness::app::TestApp;
use crate::harness::live::TestClient;
use crate::harness::rest::{Call, text};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};
use roost::config::OutsideIssuer;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

const ISSUER: &str = "https://id.example.com";
const AUDIENCE: &str = "roost-app";

/// A key of an issuer.
struct OutsideKey {
    algorithm: Algorithm,
    kid: String,
    signing: EncodingKey,
}

impl OutsideKey {
    /// One for RS256 or ES256.
    fn make(algorithm: Algorithm, kid: &str) -> Self {
        let kind: &SignatureAlgorithm = match algorithm {
            Algorithm::RS256 => &PKCS_RSA_SHA256,
            _ => &PKCS_ECDSA_P256_SHA256,
        };
        let pem = KeyPair::generate_for(kind).expect("a key").serialize_pem();
        let signing = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            _ => EncodingKey::from_ec_pem(pem.as_bytes()),
        };
        Self { algorithm, kid: kid.to_owned(), signing: signing.expect("a key") }
    }

    fn public(&self) -> Value {
        let mut jwk = serde_json::to_value(
            Jwk::from_encoding_key(&self.signing, self.algorithm).expect("its public half"),
        )
        .expect("a JWK is JSON");
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    fn signs(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.signing).expect("a token")
    }
}

/// The public half of an Ed25519 key, and the key.
fn ed25519(kid: &str) -> (OutsideKey, Value) {
    let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let signing = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).expect("a key");
    let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
    let public = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "alg": "EdDSA", "use": "sig"});
    (OutsideKey { algorithm: Algorithm::EdDSA, kid: kid.to_owned(), signing }, public)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs()
}

fn claims(subject: &str) -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": now() + 600, "preferred_username": subject})
}

async fn trusting(jwks: &str) -> TestApp {
    let issuer =
        OutsideIssuer { issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned(), jwks: jwks.to_owned() };
    TestApp::with(|config| config.jwt_issuers = vec![issuer]).await
}

/// Whose a token is.
fn whose(app: &TestApp, token: &str, name: &str) -> Call {
    app.get(&format!("/users?username={name}")).bearer(token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_by_rs256_es256_and_eddsa_are_taken_and_make_a_user_at_first_use() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let (ed, ed_public) = ed25519("ed");
    let keys = [OutsideKey::make(Algorithm::RS256, "rs"), OutsideKey::make(Algorithm::ES256, "es"), ed];
    let set = json!({"keys": [keys[0].public(), keys[1].public(), ed_public]});
    std::fs::write(&file, set.to_string()).unwrap();
    let app = trusting(file.to_str().unwrap()).await;

    let mut ids = Vec::new();
    for key in &keys {
        let shown = whose(&app, &key.signs(&claims("zoe")), "zoe").await.expect(200);
        assert_eq!(shown["username"], "zoe");
        ids.push(text(&shown, "id"));
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "one subject is one user: {ids:?}");

    // Another subject who would like the same name gets one that is free; one without a wish gets some.
    let mut other = claims("other-subject");
    other["preferred_username"] = json!("zoe");
    let token = keys[1].signs(&other);
    app.post("/posts", json!({"content": "hello from outside"})).bearer(&token).await.expect(201);
    let page = app.get("/timeline").bearer(&token).await.expect(200);
    let author = text(&page["posts"][0]["author"], "username");
    assert!(author.starts_with("zoe") && author != "zoe", "{author}");
    let mut nameless = claims("nameless");
    nameless.as_object_mut().unwrap().remove("preferred_username");
    app.get("/timeline").bearer(&keys[2].signs(&nameless)).await.expect(200);

    // It connects as well, and a logout ends that token.
    let url = format!("{}?token={token}", app.url("/ws").replacen("http", "ws", 1));
    let mut client = TestClient::open(&url).await;
    client.begins().await;
    app.call("POST", "/auth/logout").bearer(&token).await.expect(204);
    assert_eq!(client.closed().await, 4401);
    app.get("/timeline").bearer(&token).await.refused(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alg_none_mismatches_and_wrong_claims_are_never_taken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let (rsa, stranger) =
        (OutsideKey::make(Algorithm::RS256, "rs"), OutsideKey::make(Algorithm::RS256, "rs"));
    let public = rsa.public();
    std::fs::write(&file, json!({"keys": [public]}).to_string()).unwrap();
    let app = trusting(file.to_str().unwrap()).await;
    let refused = async |token: String, why: &str| {
        let answer = app.get("/timeline").bearer(&token).await;
        assert_eq!(answer.status, 401, "{why}: {}", answer.text);
        answer.refused(401, "unauthorized");
    };
    app.get("/timeline").bearer(&rsa.signs(&claims("zoe"))).await.expect(200);

    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for algorithm in ["none", "None", "HS256"] {
        let head = part(json!({"alg": algorithm, "typ": "JWT", "kid": "rs"}));
        refused(format!("{head}.{}.", part(claims("zoe"))), algorithm).await;
    }
    // What everybody knows, as a shared secret.
    let known = EncodingKey::from_secret(public["n"].as_str().unwrap().as_bytes());
    let header = Header { kid: Some("rs".to_owned()), ..Header::new(Algorithm::HS256) };
    refused(encode(&header, &claims("zoe"), &known).unwrap(), "HS256 by the public key").await;
    let header = Header { kid: Some("rs".to_owned()), ..Header::new(Algorithm::RS512) };
    refused(encode(&header, &claims("zoe"), &rsa.signing).unwrap(), "RS512").await;
    refused(stranger.signs(&claims("zoe")), "another's key").await;
    for (name, value, why) in [
        ("iss", json!("https://evil.example"), "issuer"),
        ("aud", json!("another app"), "audience"),
        ("exp", json!(now() - 600), "expired"),
        ("nbf", json!(now() + 600), "not yet"),
        ("sub", json!(""), "nobody"),
    ] {
        let mut wrong = claims("zoe");
        wrong[name] = value;
        refused(rsa.signs(&wrong), why).await;
    }
    let mut endless = claims("zoe");
    endless.as_object_mut().unwrap().remove("exp");
    refused(rsa.signs(&endless), "never expires").await;
    // Nor can an outsider speak for a user of ours.
    let mut ours = claims("zoe");
    ours["iss"] = json!("roost");
    refused(rsa.signs(&ours), "as if it were ours").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_fetched_from_a_url_kept_and_rotated() {
    let (old, new) = (OutsideKey::make(Algorithm::ES256, "old"), OutsideKey::make(Algorithm::ES256, "new"));
    let served = Arc::new(Mutex::new((json!({"keys": [old.public()]}), 0)));
    let router = axum::Router::new().route(
        "/jwks",
        get({
            let served = served.clone();
            async move || {
                let mut served = served.lock().unwrap();
                served.1 += 1;
                served.0.to_string()
            }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let app = trusting(&url).await;

    for _ in 0..5 {
        whose(&app, &old.signs(&claims("zoe")), "zoe").await.expect(200);
    }
    assert_eq!(served.lock().unwrap().1, 1, "the set is kept");
    served.lock().unwrap().0 = json!({"keys": [new.public()]});
    whose(&app, &new.signs(&claims("zoe")), "zoe").await.expect(200);
    whose(&app, &old.signs(&claims("zoe")), "zoe").await.refused(401, "unauthorized");
    assert_eq!(
        served.lock().unwrap().1,
        2,
        "an unknown key asks for the set at once, but not again and again"
    );

    // The issuer is away: what is known goes on.
    serving.abort();
    whose(&app, &new.signs(&claims("zoe")), "zoe").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_keys_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let (old, new) = (OutsideKey::make(Algorithm::ES256, "old"), OutsideKey::make(Algorithm::ES256, "new"));
    std::fs::write(&file, json!({"keys": [old.public()]}).to_string()).unwrap();
    let app = trusting(file.to_str().unwrap()).await;
    whose(&app, &old.signs(&claims("zoe")), "zoe").await.expect(200);
    // A set that cannot be read is none: the last good one stays.
    std::fs::write(&file, "half a fi").unwrap();
    whose(&app, &new.signs(&claims("zoe")), "zoe").await.refused(401, "unauthorized");
    whose(&app, &old.signs(&claims("zoe")), "zoe").await.expect(200);
    std::fs::write(&file, json!({"keys": [new.public(), {"kty": "unknown"}]}).to_string()).unwrap();
    let taken = async || {
        let answer = whose(&app, &new.signs(&claims("zoe")), "zoe").await;
        (answer.status == 200).then_some(())
    };
    crate::harness::until("the new key is taken", taken).await;
    whose(&app, &old.signs(&claims("zoe")), "zoe").await.refused(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_whose_keys_were_never_had_is_503_and_everything_else_goes_on() {
    // A port that nobody listens on.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let app = trusting(&format!("http://{free}/jwks")).await;
    let key = OutsideKey::make(Algorithm::ES256, "any");
    app.get("/timeline").bearer(&key.signs(&claims("zoe"))).await.refused(503, "unavailable");
    app.person("eve").await.get("/timeline").await.expect(200);
}
