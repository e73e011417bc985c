//! Outside tokens as an issuer signs them, with its key set in a file and behind a URL.

use super::{IssuerConfig, Issuers, LEEWAY};
use crate::identity::IdentityError;
use crate::model::secret::Secret;
use crate::model::timestamp::Timestamp;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ISSUER: &str = "https://login.example.com/";
const NOW: Timestamp = Timestamp::from_millis(1_767_398_400_000);

struct Signer {
    kid: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    /// The public key as the issuer shows it.
    public: Value,
}

impl Signer {
    fn new(algorithm: Algorithm, kid: &'static str) -> Self {
        let key = match algorithm {
            Algorithm::EdDSA => {
                EncodingKey::from_ed_der(Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref())
            }
            Algorithm::ES256 => {
                let rng = SystemRandom::new();
                let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
                EncodingKey::from_ec_der(pair.as_ref())
            }
            _ => {
                let der = RsaKeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
                let body = STANDARD.encode(der.as_ref());
                let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
                EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
            }
        };
        let mut public = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        public["kid"] = json!(kid);
        Self { kid, algorithm, key, public }
    }

    fn sign(&self, claims: &Value) -> Secret {
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(self.algorithm) };
        Secret::new(encode(&header, claims, &self.key).unwrap())
    }
}

fn set(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| &signer.public).collect::<Vec<_>>() }).to_string()
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "roost", "sub": "42", "exp": NOW.millis() / 1000 + 600, "jti": "one"})
}

fn issuers(jwks: &str) -> Issuers {
    let entry = json!({"issuer": ISSUER, "audience": "roost", "jwks": jwks});
    Issuers::new(vec![serde_json::from_value(entry).unwrap()]).unwrap()
}

fn write(file: &Path, signers: &[&Signer]) {
    std::fs::write(file, set(signers)).unwrap();
}

/// What an issuer's server answers now, and how often it was asked.
#[derive(Clone)]
struct Served {
    answer: Arc<Mutex<String>>,
    /// Nothing is answered while somebody holds this.
    held: Arc<tokio::sync::Mutex<()>>,
    asked: Arc<AtomicUsize>,
}

impl Served {
    fn put(&self, status: &str, body: &str) {
        let head =
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        *self.answer.lock().unwrap() = head + body;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(body: &str) -> (String, Served) {
    let served = Served { answer: Arc::default(), held: Arc::default(), asked: Arc::default() };
    served.put("200 OK", body);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let state = served.clone();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && socket.read_buf(&mut request).await.unwrap() > 0 {}
            state.asked.fetch_add(1, Ordering::SeqCst);
            let _ = state.held.lock().await;
            let answer = state.answer.lock().unwrap().clone();
            // A client that has read enough may be gone.
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (url, served)
}

#[tokio::test]
async fn each_of_the_three_algorithms_is_taken() {
    let signers =
        [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].map(|algorithm| Signer::new(algorithm, "key"));
    let folder = tempfile::tempdir().unwrap();
    for signer in &signers {
        let file = folder.path().join(format!("{:?}.json", signer.algorithm));
        write(&file, &[signer]);
        let mut claims = claims();
        claims["preferred_username"] = json!("anna");
        claims["aud"] = json!(["others", "roost"]);
        let outside = issuers(file.to_str().unwrap()).verify(&signer.sign(&claims), NOW).await.unwrap();
        assert_eq!((outside.issuer.as_str(), outside.subject.as_str()), (ISSUER, "42"));
        assert_eq!(outside.preferred_username.as_deref(), Some("anna"));
        assert_eq!(outside.expires_at, NOW.after(Duration::from_secs(600) + LEEWAY));
    }
}

#[tokio::test]
async fn a_key_is_not_taken_under_another_algorithm() {
    let rsa = Signer::new(Algorithm::RS256, "key");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    write(&file, &[&rsa]);
    let issuers = issuers(file.to_str().unwrap());
    assert!(issuers.verify(&rsa.sign(&claims()), NOW).await.is_ok());

    let header = |algorithm| Header { kid: Some("key".to_owned()), ..Header::new(algorithm) };
    let mut forged = Vec::new();
    for algorithm in [Algorithm::PS256, Algorithm::RS384, Algorithm::RS512] {
        forged.push(encode(&header(algorithm), &claims(), &rsa.key).unwrap());
    }
    // What everybody knows of the key, as if it were a shared secret.
    for known in [rsa.public["n"].as_str().unwrap(), &rsa.public.to_string(), &set(&[&rsa])] {
        let secret = EncodingKey::from_secret(known.as_bytes());
        forged.push(encode(&header(Algorithm::HS256), &claims(), &secret).unwrap());
    }
    let other = Signer::new(Algorithm::ES256, "key");
    forged.push(other.sign(&claims()).expose().to_owned());
    let payload = URL_SAFE_NO_PAD.encode(claims().to_string());
    for alg in ["none", "None", "RS256", "HS256"] {
        let unsigned = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": "key"}).to_string());
        forged.push(format!("{unsigned}.{payload}."));
    }
    for token in forged {
        assert_eq!(
            issuers.verify(&Secret::new(token.clone()), NOW).await,
            Err(IdentityError::Invalid),
            "{token}"
        );
    }
}

#[tokio::test]
async fn another_issuer_audience_or_key_is_refused() {
    let (signer, stranger) = (Signer::new(Algorithm::EdDSA, "key"), Signer::new(Algorithm::EdDSA, "key"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    write(&file, &[&signer]);
    let issuers = issuers(file.to_str().unwrap());
    assert_eq!(issuers.verify(&stranger.sign(&claims()), NOW).await, Err(IdentityError::Invalid));
    for (name, wrong) in [
        ("iss", json!("https://other.example.com/")),
        ("iss", json!([ISSUER])),
        ("iss", json!("roost")),
        ("aud", json!("others")),
        ("aud", json!([])),
        ("sub", json!("")),
        ("sub", json!("x".repeat(256))),
        ("sub", json!(42)),
        ("exp", json!("tomorrow")),
        ("nbf", json!(NOW.millis() / 1000 + 61)),
    ] {
        let mut claims = claims();
        claims[name] = wrong;
        assert_eq!(issuers.verify(&signer.sign(&claims), NOW).await, Err(IdentityError::Invalid), "{claims}");
    }
    for name in ["iss", "aud", "sub", "exp"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        assert_eq!(
            issuers.verify(&signer.sign(&claims), NOW).await,
            Err(IdentityError::Invalid),
            "no {name}"
        );
    }
}

#[tokio::test]
async fn the_issuers_clock_may_be_a_minute_off_and_no_more() {
    let signer = Signer::new(Algorithm::EdDSA, "key");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    write(&file, &[&signer]);
    let issuers = issuers(file.to_str().unwrap());
    let token = signer.sign(&claims());
    let expires = NOW.after(Duration::from_secs(600));
    assert!(issuers.verify(&token, expires.after(Duration::from_secs(59))).await.is_ok());
    assert_eq!(issuers.verify(&token, expires.after(LEEWAY)).await, Err(IdentityError::Expired));

    let mut early = claims();
    early["nbf"] = json!(NOW.millis() / 1000 + 60);
    assert!(issuers.verify(&signer.sign(&early), NOW).await.is_ok());

    let mut endless = claims();
    endless["exp"] = json!(1e18);
    let outside = issuers.verify(&signer.sign(&endless), NOW).await.unwrap();
    assert!(outside.expires_at.to_string().starts_with("9999-"));
}

#[tokio::test]
async fn a_tokens_login_is_its_own_and_stays_the_same() {
    let signer = Signer::new(Algorithm::ES256, "key");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    write(&file, &[&signer]);
    let issuers = issuers(file.to_str().unwrap());
    let mut logins = Vec::new();
    for (name, value) in [
        ("jti", json!("one")),
        ("jti", json!("two")),
        ("sub", json!("43")),
        ("jti", json!(null)),
        ("jti", json!("")),
    ] {
        let mut claims = claims();
        claims[name] = value;
        // ECDSA signs differently each time: the second token has another text.
        let (one, two) = (signer.sign(&claims), signer.sign(&claims));
        assert!(one != two);
        let login = issuers.verify(&one, NOW).await.unwrap().login;
        assert_eq!(issuers.verify(&two, NOW).await.unwrap().login, login);
        logins.push(login);
    }
    logins.sort();
    logins.dedup();
    assert_eq!(logins.len(), 5);
}

#[tokio::test]
async fn a_changed_file_is_read_again_at_an_unknown_key() {
    let (old, new) = (Signer::new(Algorithm::EdDSA, "old"), Signer::new(Algorithm::EdDSA, "new"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let issuers = issuers(file.to_str().unwrap());
    let unread = issuers.verify(&old.sign(&claims()), NOW).await;
    assert!(matches!(unread, Err(IdentityError::KeysUnreachable { .. })), "{unread:?}");

    let file_pause = tokio::time::timeout(Duration::from_secs(30), async {
        write(&file, &[&old]);
        while issuers.verify(&old.sign(&claims()), NOW).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    file_pause.await.expect("the file is there");
    assert_eq!(issuers.verify(&new.sign(&claims()), NOW).await, Err(IdentityError::Invalid));
    write(&file, &[&old, &new]);
    assert!(issuers.verify(&new.sign(&claims()), NOW).await.is_ok());
    assert!(issuers.verify(&old.sign(&claims()), NOW).await.is_ok());
}

#[tokio::test]
async fn a_url_is_fetched_once_and_again_at_an_unknown_key_once() {
    let (old, new, forged) = (
        Signer::new(Algorithm::EdDSA, "old"),
        Signer::new(Algorithm::EdDSA, "new"),
        Signer::new(Algorithm::EdDSA, "forged"),
    );
    let (url, served) = serve(&set(&[&old])).await;
    let issuers = issuers(&url);
    let token = old.sign(&claims());
    let at_once = futures_util::future::join_all((0..20).map(|_| issuers.verify(&token, NOW))).await;
    assert!(at_once.iter().all(Result::is_ok), "{at_once:?}");
    assert_eq!(served.asked(), 1);

    served.put("200 OK", &set(&[&new]));
    assert!(issuers.verify(&token, NOW).await.is_ok(), "the kept set is good for its five minutes");
    assert!(issuers.verify(&new.sign(&claims()), NOW).await.is_ok());
    assert_eq!(served.asked(), 2);
    assert_eq!(issuers.verify(&token, NOW).await, Err(IdentityError::Invalid), "the old key is gone");
    for _ in 0..5 {
        assert_eq!(issuers.verify(&forged.sign(&claims()), NOW).await, Err(IdentityError::Invalid));
    }
    assert_eq!(served.asked(), 2, "forged key ids cost the issuer nothing");
}

#[tokio::test]
async fn the_last_good_set_outlives_a_failing_fetch() {
    let (signer, unknown) = (Signer::new(Algorithm::EdDSA, "key"), Signer::new(Algorithm::EdDSA, "unknown"));
    let huge = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300 * 1024));
    for (status, body) in
        [("500 Oops", "{\"keys\":[]}"), ("302 Found", ""), ("200 OK", "<html>"), ("200 OK", &huge)]
    {
        let (url, served) = serve(&set(&[&signer])).await;
        let issuers = issuers(&url);
        assert!(issuers.verify(&signer.sign(&claims()), NOW).await.is_ok());
        served.put(status, body);
        assert_eq!(issuers.verify(&unknown.sign(&claims()), NOW).await, Err(IdentityError::Invalid));
        assert_eq!(served.asked(), 2, "{status}");
        assert!(issuers.verify(&signer.sign(&claims()), NOW).await.is_ok(), "{status}");

        let (url, served) = serve("").await;
        served.put(status, body);
        let never_had = self::issuers(&url).verify(&signer.sign(&claims()), NOW).await;
        assert!(matches!(never_had, Err(IdentityError::KeysUnreachable { .. })), "{status}: {never_had:?}");
    }
}

#[tokio::test]
async fn a_fetch_goes_on_though_who_asked_has_left() {
    let signer = Signer::new(Algorithm::EdDSA, "key");
    let (url, served) = serve(&set(&[&signer])).await;
    let issuers = Arc::new(issuers(&url));
    let token = signer.sign(&claims());
    let held = served.held.clone().lock_owned().await;
    let leaving = tokio::spawn({
        let (issuers, token) = (Arc::clone(&issuers), token.clone());
        async move { issuers.verify(&token, NOW).await }
    });
    let asked = tokio::time::timeout(Duration::from_secs(30), async {
        while served.asked() == 0 {
            tokio::task::yield_now().await;
        }
    });
    asked.await.expect("the issuer is asked");
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    drop(held);
    assert!(issuers.verify(&token, NOW).await.is_ok());
    assert_eq!(served.asked(), 1);
}

#[test]
fn an_entry_that_cannot_be_meant_is_refused() {
    for (issuer, audience, jwks) in [
        ("", "roost", "keys.json"),
        (ISSUER, "", "keys.json"),
        (ISSUER, "roost", ""),
        ("roost", "roost", "keys.json"),
        (ISSUER, "roost", "https://"),
    ] {
        let entry =
            IssuerConfig { issuer: issuer.to_owned(), audience: audience.to_owned(), jwks: jwks.to_owned() };
        assert!(matches!(Issuers::new(vec![entry.clone()]), Err(IdentityError::Setup(_))), "{entry:?}");
    }
}
