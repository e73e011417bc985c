//! What a listener promises, over real sockets.

use super::{Certificates, Listener, Peer, Slot, Tcp};
use axum::Router;
use axum::extract::{Extension, Request};
use axum::http::StatusCode;
use axum::routing::get;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::server::TlsStream;

/// A listener on a port of its own, and what ends it.
struct Running {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

fn start(router: Router, tls: Option<Arc<Certificates>>, connections: usize) -> Running {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = tcp.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = Listener::new(tcp, tls, router, connections).unwrap();
    let stopped = async { drop(stopped.await) };
    let served = tokio::spawn(listener.serve(stopped, Duration::from_secs(5)));
    Running { addr, stop, served }
}

fn hello() -> Router {
    Router::new()
        .route("/", get(|Extension(peer): Extension<Peer>| async move { format!("tls {}", peer.tls) }))
}

/// Sends `text` and reads until the server closes.
async fn say(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // A reset after the answer is a close, too.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

const ONE_REQUEST: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_request_reaches_the_router_with_its_peer() {
    let running = start(hello(), None, 10);
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let answer = say(&mut stream, ONE_REQUEST).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("tls false"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_or_half_a_request_is_not_waited_for() {
    let running = start(hello(), None, 10);
    for part in ["", "PRI * HT", "GET / HTTP/1.1\r\nhost: x\r\n", "GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(running.addr).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(130), say(&mut stream, part)).await;
        assert!(answer.is_ok(), "{part:?} holds a connection");
    }
}

#[tokio::test]
async fn one_connection_more_than_allowed_is_closed_and_a_place_comes_free_again() {
    let running = start(hello(), None, 1);
    let first = TcpStream::connect(running.addr).await.unwrap();
    // Accepted in order: the second is turned away because the first has the place.
    let mut second = TcpStream::connect(running.addr).await.unwrap();
    assert_eq!(say(&mut second, "").await, "");
    drop(first);
    let answer = loop {
        let mut third = TcpStream::connect(running.addr).await.unwrap();
        let answer = say(&mut third, ONE_REQUEST).await;
        if !answer.is_empty() {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn stopping_takes_nobody_new_and_lets_what_is_under_way_end() {
    let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (inside, wait) = (Arc::clone(&entered), Arc::clone(&go_on));
    let slow = Router::new().route(
        "/",
        get(move || async move {
            inside.notify_one();
            wait.notified().await;
            "done"
        }),
    );
    let running = start(slow, None, 10);
    let mut idle = TcpStream::connect(running.addr).await.unwrap();
    let mut busy = TcpStream::connect(running.addr).await.unwrap();
    let answer = tokio::spawn(async move { say(&mut busy, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await });
    entered.notified().await;

    running.stop.send(()).unwrap();
    assert_eq!(say(&mut idle, "").await, "", "an idle connection ends at once");
    assert!(TcpStream::connect(running.addr).await.is_err(), "nobody new is taken");
    assert!(!running.served.is_finished());

    go_on.notify_one();
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    running.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_in_time_is_cut_off() {
    let entered = Arc::new(Notify::new());
    let inside = Arc::clone(&entered);
    let stuck = Router::new().route(
        "/",
        get(move || async move {
            inside.notify_one();
            std::future::pending::<()>().await;
        }),
    );
    let running = start(stuck, None, 10);
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    stream.write_all(ONE_REQUEST.as_bytes()).await.unwrap();
    entered.notified().await;
    running.stop.send(()).unwrap();
    running.served.await.unwrap();
    assert_eq!(say(&mut stream, "").await, "");
}

/// Takes any request over and echoes one byte, by the stream's own type.
fn echo<I>() -> Router
where
    TokioIo<I>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    Router::new().route(
        "/",
        get(|Extension(slot): Extension<Slot>, mut request: Request| async move {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let parts = downcast::<TokioIo<I>>(upgrade.await.unwrap()).unwrap();
                let mut stream = parts.io.into_inner();
                let byte = match parts.read_buf.first() {
                    Some(byte) => *byte,
                    None => stream.read_u8().await.unwrap(),
                };
                stream.write_u8(byte).await.unwrap();
                stream.shutdown().await.unwrap();
                drop(slot);
            });
            (StatusCode::SWITCHING_PROTOCOLS, [("connection", "upgrade"), ("upgrade", "echo")])
        }),
    )
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n!";

#[tokio::test]
async fn an_upgraded_connection_is_its_tcp_stream() {
    let running = start(echo::<Tcp>(), None, 1);
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let answer = say(&mut stream, UPGRADE).await;
    assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with('!'), "{answer}");
}

#[tokio::test]
async fn under_tls_an_upgraded_connection_is_its_tls_stream() {
    let (client, certificates) = certificates();
    let running = start(echo::<TlsStream<Tcp>>(), Some(certificates), 1);
    let tcp = TcpStream::connect(running.addr).await.unwrap();
    let mut stream = client.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with('!'), "{answer}");
}

#[tokio::test]
async fn under_tls_http_2_is_spoken_where_the_client_chooses_it() {
    let (client, certificates) = certificates();
    let running = start(hello(), Some(certificates), 1);
    let tcp = TcpStream::connect(running.addr).await.unwrap();
    let stream = client.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://localhost/").body(axum::body::Body::empty()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    assert_eq!(body, "tls true");
}

/// Certificates of our own, and a client that trusts them and offers HTTP/2 first.
fn certificates() -> (tokio_rustls::TlsConnector, Arc<Certificates>) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let certificates = Arc::new(Certificates::load(&cert, &key).unwrap());

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (tokio_rustls::TlsConnector::from(Arc::new(config)), certificates)
}
