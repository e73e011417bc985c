//! `roost listen` against a server that plays a part: each connection is one scene.

use super::Listen;
use crate::cli::{Command, Line};
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// What the server does with one connection.
enum Scene {
    /// Upgrades, says this, closes with that code (or just goes away).
    Talks(Vec<String>, Option<u16>),
    /// Answers so, without an upgrade.
    Answers(&'static str),
}

/// Plays the scenes in order, then listens no more; answers the head of each connection's request.
async fn play(listener: TcpListener, scenes: Vec<Scene>) -> Vec<String> {
    let mut heads = Vec::new();
    for scene in scenes {
        let (mut stream, _) = listener.accept().await.unwrap();
        match scene {
            Scene::Answers(answer) => {
                heads.push(request(&mut stream).await);
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
            Scene::Talks(frames, close) => heads.push(talk(stream, frames, close).await),
        }
    }
    heads
}

/// A request's head and, where it says how long, its body.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "cut off: {text}");
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    frames: Vec<String>,
    close: Option<u16>,
) -> String {
    let mut head = String::new();
    #[expect(clippy::result_large_err, reason = "the library says what its callback answers")]
    let note = |request: &Request, response: Response| {
        let bearer = request.headers()["authorization"].to_str().unwrap();
        head = format!("{} {bearer}", request.uri());
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, note).await.unwrap();
    for frame in frames {
        socket.send(Message::text(frame)).await.unwrap();
    }
    if let Some(code) = close {
        let frame = CloseFrame { code: code.into(), reason: "for a reason".into() };
        // The client may have left first, having heard enough.
        let _ = socket.close(Some(frame)).await;
        while let Some(Ok(_)) = socket.next().await {}
    }
    head
}

fn listen(address: SocketAddr, arguments: &[&str]) -> Listen {
    listen_to(&format!("http://{address}"), arguments)
}

fn listen_to(url: &str, arguments: &[&str]) -> Listen {
    let line = ["roost", "listen", "--url", url];
    match Line::try_parse_from(line.iter().chain(arguments)).unwrap().command {
        Some(Command::Listen(listen)) => listen,
        _ => panic!("not listen"),
    }
}

struct Played {
    heads: Vec<String>,
    printed: Vec<String>,
    ended: Result<(), String>,
}

async fn against(scenes: Vec<Scene>, arguments: &[&str]) -> Played {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listen(listener.local_addr().unwrap(), arguments);
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let (heads, ended) = tokio::join!(play(listener, scenes), listen.listen(&mut out, &mut notes));
    let printed = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
    Played { heads, printed, ended: ended.map_err(|error| error.to_string()) }
}

fn connected(cursor: &str) -> String {
    format!(r#"{{"type":"connected","data":{{"heartbeat_seconds":30}},"cursor":"{cursor}"}}"#)
}

fn post(id: u32, cursor: &str) -> String {
    format!(r#"{{"type":"newPost","data":{{"id":"{id}"}},"cursor":"{cursor}"}}"#)
}

/// The answer to a login.
fn login(token: &str) -> &'static str {
    let body = format!(r#"{{"user":{{}},"token":"{token}","refresh_token":"r"}}"#);
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).leak()
}

const TOKEN: &[&str] = &["--token", "t1"];

#[tokio::test]
async fn a_lost_connection_is_taken_up_with_the_last_cursor_and_repeats_are_dropped() {
    let first = vec![connected("a"), post(1, "b"), post(2, "c")];
    let second = vec![connected("c"), post(2, "c"), post(3, "d")];
    let scenes = vec![Scene::Talks(first.clone(), None), Scene::Talks(second.clone(), Some(1000))];
    let played = against(scenes, &["--token", "t1", "--count", "3"]).await;
    assert_eq!(played.ended, Ok(()));
    assert_eq!(played.heads, ["/ws Bearer t1", "/ws?cursor=c Bearer t1"]);
    assert_eq!(played.printed, [&first[..], &[second[0].clone(), second[2].clone()]].concat());
}

#[tokio::test]
async fn a_first_cursor_may_be_given() {
    let scenes = vec![Scene::Talks(vec![connected("z"), post(1, "z")], Some(1000))];
    let played = against(scenes, &["--token", "t1", "--cursor", "y", "--count", "1"]).await;
    assert_eq!(played.heads, ["/ws?cursor=y Bearer t1"]);
}

#[tokio::test]
async fn a_leaving_node_is_come_back_to_when_it_said() {
    let leaving = r#"{"type":"reconnect","data":{"after_ms":30}}"#.to_owned();
    let scenes = vec![
        Scene::Talks(vec![connected("a"), leaving], Some(1012)),
        Scene::Talks(vec![connected("a"), post(1, "b")], Some(1000)),
    ];
    assert_eq!(against(scenes, &["--token", "t1", "--count", "1"]).await.ended, Ok(()));
}

#[tokio::test]
async fn some_ends_are_final() {
    for code in [4400, 4409, 4413] {
        let played = against(vec![Scene::Talks(vec![connected("a")], Some(code))], TOKEN).await;
        assert_eq!(played.ended, Err(format!("closed with {code} (for a reason)")));
    }
    let problem =
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 38\r\n\r\n{\"detail\":\"is not a cursor of ours\"}  ";
    let played = against(vec![Scene::Answers(problem)], TOKEN).await;
    assert_eq!(played.ended, Err("the server answered 400: is not a cursor of ours".to_owned()));
}

#[tokio::test]
async fn a_given_token_that_is_over_is_told() {
    let played = against(vec![Scene::Talks(vec![connected("a")], Some(4401))], TOKEN).await;
    assert_eq!(played.ended, Err("closed with 4401 (for a reason); come again with a new token".to_owned()));
}

#[tokio::test]
async fn who_has_a_password_logs_in_again_when_the_token_is_over() {
    let scenes = vec![
        Scene::Answers(
            "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n",
        ),
        Scene::Answers(login("t1")),
        Scene::Talks(vec![connected("a")], Some(4401)),
        Scene::Answers(login("t2")),
        Scene::Talks(vec![connected("a"), post(1, "b")], Some(1000)),
    ];
    let played = against(scenes, &["--email", "a@example.com", "--password", "p", "--count", "1"]).await;
    assert_eq!(played.ended, Ok(()));
    assert!(played.heads[0].starts_with("POST /auth/login ") && played.heads[0].contains("a@example.com"));
    assert_eq!([&played.heads[2], &played.heads[4]], ["/ws Bearer t1", "/ws?cursor=a Bearer t2"]);
}

#[tokio::test]
async fn a_refused_login_is_final_and_repeats_no_secret() {
    let refused = "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 24\r\n\r\n{\"detail\":\"wrong words\"}";
    let played =
        against(vec![Scene::Answers(refused)], &["--email", "a@example.com", "--password", "hunter2"]).await;
    assert_eq!(played.ended, Err("no login: the server answered 401: wrong words".to_owned()));
}

#[tokio::test]
async fn tls_is_spoken_with_whom_the_named_file_vouches_for_and_nobody_else() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(made.cert.pem().as_bytes()).unwrap();
    let ca = file.path().to_str().unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let server = async {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        request(&mut stream).await;
        stream.write_all(login("t1").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let head = talk(stream, vec![connected("a"), post(1, "b")], Some(1000)).await;
        let login = acceptor.accept(listener.accept().await.unwrap().0).await.is_err();
        let upgrade = acceptor.accept(listener.accept().await.unwrap().0).await.is_err();
        (head, login && upgrade)
    };
    let client = async {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let who = ["--email", "a@example.com", "--password", "p", "--count", "1", "--ca", ca];
        listen_to(&url, &who).listen(&mut out, &mut notes).await.unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(other.cert.pem().as_bytes()).unwrap();
        let other = file.path().to_str().unwrap();
        let login = ["--email", "a@example.com", "--password", "p", "--ca", other];
        let login = listen_to(&url, &login).listen(&mut out, &mut notes).await.unwrap_err().to_string();
        let upgrade = ["--token", "t1", "--ca", other];
        let upgrade = listen_to(&url, &upgrade).listen(&mut out, &mut notes).await.unwrap_err().to_string();
        [login, upgrade]
    };
    let ((head, refused), [login, upgrade]) = tokio::join!(server, client);
    assert_eq!(head, "/ws Bearer t1");
    assert!(refused, "the client went on with a server that nobody vouches for");
    assert!(login.starts_with("no login (invalid peer certificate"), "{login}");
    assert!(upgrade.starts_with("no connection (") && upgrade.contains("certificate"), "{upgrade}");
}
