//! Clients that are slow, stop halfway, close one direction or read nothing: what they may hold is bounded in
//! time and memory, and nobody else waits for them.

use crate::harness::child::RealServer;
use crate::harness::person::Person;
use crate::harness::raw::RawSocket;
use crate::harness::until;
use futures_util::future::join_all;
use serde_json::Value;
use std::fs;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

/// So many of them at once.
const CLIENTS: usize = 200;
/// Memory that one of them may take, in KiB.
const EACH: u64 = 64;
/// A head is due within 10 s, a body within 30 s; that much more on a slow machine.
const HEAD: Duration = Duration::from_secs(20);
const BODY: Duration = Duration::from_secs(45);
/// Between two bytes of one who dribbles.
const DRIBBLE: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_come_is_given_up_and_nobody_waits_for_it() {
    let server = RealServer::start();
    let ann = server.person("ann").await;
    let before = server.resident_kib();
    let mut slow = Vec::new();
    for number in 0..CLIENTS {
        let mut socket = RawSocket::connect(&server).await;
        let head = ["", "GET", "GET /timeline HTTP/1.1\r\nhost: here\r\nx-slow: "][number % 3];
        socket.write(head.as_bytes()).await;
        slow.push(socket);
    }
    ann.posts("others are served").await;
    let taken = server.resident_kib().saturating_sub(before);
    assert!(taken <= EACH * CLIENTS as u64, "{CLIENTS} slow clients take {taken} KiB");

    let ending = join_all(slow.into_iter().enumerate().map(async |(number, mut socket)| {
        // Some go on, a byte at a time; that gains them nothing.
        let dribbling = async {
            while number % 2 == 0 && socket.stream.write_all(b"a").await.is_ok() {
                sleep(DRIBBLE).await;
            }
        };
        timeout(HEAD, dribbling).await.expect("it is not read for ever");
        timeout(HEAD, socket.rest()).await.expect("it is ended")
    }));
    for said in ending.await {
        let said = String::from_utf8(said).expect("text");
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 408") || said.starts_with("HTTP/1.1 400"),
            "{said}"
        );
    }
    ann.posts("and afterwards").await;
    has_let_go(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_is_given_up() {
    let server = RealServer::start();
    let ann = server.person("ann").await;
    let waiting = join_all((0..CLIENTS / 4).map(async |_| {
        let mut socket = RawSocket::connect(&server).await;
        socket.write(post_head(&ann, 1_000).as_bytes()).await;
        socket.write(br#"{"content": "#).await;
        let mut said = Vec::new();
        let answered = async { while socket.stream.read_buf(&mut said).await.expect("it is open") > 0 {} };
        timeout(BODY, answered).await.expect("it is answered and ended");
        String::from_utf8(said).expect("text")
    }));
    for answer in waiting.await {
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("\"code\":\"request_timeout\""), "{answer}");
    }
    has_let_go(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_was_cut_off_is_refused_and_one_that_is_whole_is_answered_though_no_more_will_come() {
    let server = RealServer::start();
    let ann = server.person("ann").await;
    let body = r#"{"content": "the whole of it"}"#;
    for (sent, status) in [(&body[..body.len() - 1], "400"), ("", "400"), (body, "201")] {
        let mut socket = RawSocket::connect(&server).await;
        socket.write(format!("{}{sent}", post_head(&ann, body.len())).as_bytes()).await;
        socket.stream.shutdown().await.expect("it is open");
        let answer = String::from_utf8(socket.rest().await).expect("text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        let (_, document) = answer.split_once("\r\n\r\n").expect("a body");
        let document: Value = serde_json::from_str(document).expect("JSON");
        let says = if status == "201" { &document["content"] } else { &document["code"] };
        assert!(says == "the whole of it" || says == "malformed_json", "{document}");
    }
    assert_eq!(ann.timeline().await.len(), 1);
    has_let_go(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_anywhere_leave_nothing_behind() {
    let server = RealServer::with(&[("ROOST_HEARTBEAT_SECONDS", "1")]);
    let ann = server.person("ann").await;
    for number in 0..CLIENTS {
        if number % 4 == 0 {
            // A WebSocket, in the middle of a frame.
            let mut socket = RawSocket::upgrade(&server, &ann.token, None).await;
            socket.write(&[0x81, 0xfe, 0x10][..number / 4 % 4]).await;
        } else {
            let mut socket = RawSocket::connect(&server).await;
            let whole = format!("{}{{\"content\": \"number {number}\"}}", post_head(&ann, 100));
            socket.write(&whole.as_bytes()[..whole.len() * (number % 50) / 50]).await;
        }
    }
    // Some do not even end: they answer no ping, or have said that no more comes, and stay.
    let mut silent = Vec::new();
    for number in 0..CLIENTS / 4 {
        let mut socket = RawSocket::upgrade(&server, &ann.token, None).await;
        if number % 2 == 0 {
            socket.stream.shutdown().await.expect("it is open");
        }
        silent.push(socket);
    }
    until("no session is left", async || {
        let health = server.get("/health").await.expect(200);
        (health["actors"]["session"] == 0).then_some(())
    })
    .await;
    has_let_go(&server).await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_asks_and_never_reads_fills_no_memory() {
    let server = RealServer::start();
    let ann = server.person("ann").await;
    let before = server.resident_kib();
    let asked = "GET /openapi.json HTTP/1.1\r\nhost: here\r\n\r\n".repeat(100);
    let mut deaf = Vec::new();
    for _ in 0..CLIENTS / 10 {
        let mut socket = RawSocket::connect_with(&server, Some(4_096)).await;
        // Until nothing more is taken from it.
        while timeout(Duration::from_millis(500), socket.stream.write_all(asked.as_bytes())).await.is_ok() {}
        deaf.push(socket);
    }
    let taken = server.resident_kib().saturating_sub(before);
    assert!(taken <= 8 * EACH * deaf.len() as u64, "{} deaf clients take {taken} KiB", deaf.len());
    ann.posts("others are served").await;
    drop(deaf);
    has_let_go(&server).await;
}

fn post_head(person: &Person, length: usize) -> String {
    format!(
        "POST /posts HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n",
        person.token
    )
}

/// The server has no more connections open than one who only just started would.
async fn has_let_go(server: &RealServer) {
    /// That of the call that looks, and some that reqwest keeps.
    const OF_THE_TEST: usize = 4;
    until("the server lets go of its connections", async || {
        server.get("/health/live").await.expect(200);
        let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs").flatten();
        let sockets = open.filter(|file| {
            fs::read_link(file.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        });
        // Its listener and its operators' socket.
        (sockets.count() <= 2 + OF_THE_TEST).then_some(())
    })
    .await;
}
