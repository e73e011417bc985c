//! TLS: https and wss by a certificate that is taken up anew on SIGHUP.

use crate::harness::child::RealServer;
use crate::harness::live::TestClient;
use crate::harness::until;
use rustix::process::Signal;
use std::path::Path;
use std::sync::Arc;
use tokio_tungstenite::Connector;

/// A certificate for this machine, written as an operator would.
fn certify(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
        .expect("a certificate");
    let pem = made.cert.pem();
    std::fs::write(folder.join("cert.pem"), &pem).expect("a file");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("a file");
    pem
}

/// A client that trusts this certificate and no other.
fn trusting(pem: &str) -> reqwest::Client {
    let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).expect("a certificate");
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([certificate]);
    builder.build().expect("a client")
}

fn connector(pem: &str) -> Connector {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Connector::Rustls(Arc::new(config))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_over_http_2_holds_no_event_back() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certify(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut server =
        RealServer::with(&[("ROOST_TLS_CERT", &path("cert.pem")), ("ROOST_TLS_KEY", &path("key.pem"))]);
    server.reached_by(trusting(&certificate));
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let conversation = ann.talks_with(&[&bob]).await;
    let version = bob.asks_to_stream(None).response().await.unwrap().version();
    assert_eq!(version, reqwest::Version::HTTP_2);
    let mut stream = bob.streams().await;
    for number in 0..3 {
        let message = ann.says(&conversation, &format!("number {number}")).await;
        stream.expect_messages(&[message]).await;
    }
    assert_eq!(stream.comments, 0, "no event waited for what is sent where nothing is");
    // Many streams are on one connection, beside other calls.
    let mut streams =
        futures_util::future::join_all((0..20).map(|_| bob.streams_from(&stream.last_event_id))).await;
    let message = ann.says(&conversation, "to all").await;
    for stream in &mut streams {
        stream.expect_messages(std::slice::from_ref(&message)).await;
    }
    bob.call("POST", "/auth/logout").await.expect(204);
    for stream in &mut streams {
        stream.expect("expired").await;
        stream.ended().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_and_wss_are_served_and_a_new_certificate_is_taken_up_on_sighup() {
    let folder = tempfile::tempdir().unwrap();
    let first = certify(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut server =
        RealServer::with(&[("ROOST_TLS_CERT", &path("cert.pem")), ("ROOST_TLS_KEY", &path("key.pem"))]);
    assert!(server.greeting.contains("https://127.0.0.1:"), "{}", server.greeting);
    server.reached_by(trusting(&first));
    let registered = server.register("ann").await;
    assert!(registered.header("set-cookie").unwrap().contains("; Secure"));
    let ann = {
        let shown = registered.expect(201);
        shown["token"].as_str().unwrap().to_owned()
    };
    let url = format!("{}?token={ann}", server.url("/ws").replacen("https", "wss", 1));
    let mut client = TestClient::open_with(&url, &[], Some(connector(&first))).await;
    client.begins().await;
    let post = server
        .call("POST", "/posts")
        .bearer(&ann)
        .json(&serde_json::json!({"content": "sealed"}))
        .await
        .expect(201);
    client.expect_post(post["id"].as_str().unwrap()).await;
    client.pings().await;

    // Half a certificate is none: the old one stays.
    std::fs::write(folder.path().join("cert.pem"), &first[..first.len() / 2]).unwrap();
    server.signal(Signal::HUP);
    until("the refusal is logged", async || server.log().contains("not taken up").then_some(())).await;
    // A new client, for it has no connection yet.
    server.reached_by(trusting(&first));
    server.get("/health/live").await.expect(200);

    let second = certify(folder.path());
    server.signal(Signal::HUP);
    let taken_up = async || {
        let other = crate::harness::rest::Rest::by(trusting(&second), &server.url(""));
        other.get("/health/live").attempt().await.ok().map(|answer| answer.status)
    };
    assert_eq!(until("the new certificate is served", taken_up).await, 200);
    // Who is connected stays so.
    client.pings().await;
    // A client of plain text is not left waiting.
    let plain = crate::harness::rest::Rest::to(&server.url("").replacen("https", "http", 1));
    assert!(plain.get("/health/live").attempt().await.is_err());
}
