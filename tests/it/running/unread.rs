//! A client that takes nothing of what it is sent. How much it is to be sent first is the system's matter, so this needs a
//! store that takes thousands of messages a second.

use crate::harness::child::RealServer;
use crate::harness::raw::RawSocket;
use crate::harness::rest::text;
use crate::harness::until;
use futures_util::future::join_all;
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long buffers may take to fill, and the stream to end.
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_takes_nothing_makes_nothing_pile_up_a_stream_is_ended_and_resumes_without_loss() {
    // Sockets that answer no pings for a while stay.
    let mut server = RealServer::with(&[("ROOST_HEARTBEAT_SECONDS", "600")]);
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let conversation = ann.talks_with(&[&bob]).await;
    let mut late = RawSocket::upgrade(&server, &bob.token, Some(2048)).await;
    let place = bob.streams().await.cut();
    let mut unread = RawSocket::connect_with(&server, Some(2048)).await;
    let request =
        format!("GET /api/chat/stream?token={} HTTP/1.1\r\nhost: {}\r\n\r\n", bob.token, server.authority());
    unread.write(request.as_bytes()).await;
    unread.head().await.expect("an answer");
    let streams = async || {
        let metrics = server.get("/metrics").await.text;
        let line = metrics.lines().find(|line| line.starts_with("roost_streams ")).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next().map(str::to_owned))
    };
    until("it is counted", async || (streams().await.as_deref() == Some("1")).then_some(())).await;

    // More than the systems between the two take: it stops being asked for more, and that is all.
    let mut sent = Vec::new();
    let began = server.resident_kib();
    let mut ended_after = None;
    let since = Instant::now();
    while ended_after.is_none() && since.elapsed() < PATIENCE {
        let more = (0..64).map(|_| ann.says(&conversation, "x"));
        sent.extend(join_all(more).await);
        if streams().await.as_deref() == Some("0") {
            ended_after = Some(since.elapsed());
        }
    }
    println!("ended after {ended_after:?} and {} messages", sent.len());
    assert!(ended_after.is_some(), "it still has its place after {} messages", sent.len());
    let grown = server.resident_kib().saturating_sub(began);
    assert!(grown < 64 * 1024, "{grown} KiB for one that does not read");

    sent.sort_unstable();
    // A socket that reads nothing is given no more than it has room for, and so is not closed.
    let mut told = Vec::new();
    while told.len() < sent.len() {
        let frame = late.frame().await.expect("it is open");
        assert_eq!(frame.opcode, 1, "{}", String::from_utf8_lossy(&frame.payload));
        let frame: Value = serde_json::from_slice(&frame.payload).expect("JSON");
        if frame["type"] == "chatMessage" {
            told.push(text(&frame["data"], "messageId"));
        }
    }
    assert_eq!(told, sent);
    let mut resumed = bob.streams_from(&place).await;
    resumed.expect_messages(&sent).await;
    server.kill();
}
