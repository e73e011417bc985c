//! SIGTERM sends the clients away, finishes requests and ends; a second one ends at once.

use crate::harness::child::RealServer;
use crate::harness::{soon, until};
use rustix::process::Signal;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_sent_away_spread_over_the_time_and_closed_with_1012() {
    let mut server = RealServer::with(&[("ROOST_DRAIN_SECONDS", "3")]);
    let (ann, eve) = (server.person("ann").await, server.person("eve").await);
    eve.follows(&ann).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(eve.connects().await);
    }
    let last = ann.posts("the last before").await;
    for client in &mut clients {
        client.expect_post(&last).await;
    }
    let began = Instant::now();
    server.signal(Signal::TERM);
    until("it is not ready", async || {
        let answer = server.get("/health/ready").attempt().await;
        answer.map_or(Some(()), |answer| (answer.status == 503).then_some(()))
    })
    .await;

    let leaving = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            let after = client.expect("reconnect").await["after_ms"].as_u64().expect("a time");
            let told = began.elapsed();
            assert_eq!(client.closed().await, 1012);
            (after, told, client.cursor)
        })
    });
    let (mut told, mut cursor) = (Vec::new(), String::new());
    for one in leaving.collect::<Vec<_>>() {
        let (_, at, its) = one.await.unwrap();
        told.push(at);
        cursor = its;
    }
    let spread = *told.iter().max().unwrap() - *told.iter().min().unwrap();
    assert!(spread > Duration::from_millis(300), "they are not sent away all at once: {told:?}");
    assert!(*told.iter().max().unwrap() < Duration::from_secs(6), "{told:?}");
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");

    server.spawn();
    let next = ann.posts("the first after").await;
    let mut resumed = eve.resumes(&cursor).await;
    resumed.expect_post(&next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_nobody_connected_it_ends_at_once_with_status_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = RealServer::with(&[("ROOST_DRAIN_SECONDS", "30")]);
        let ann = server.person("ann").await;
        ann.posts("kept").await;
        server.signal(signal);
        // It is waited for a third of the time over which clients would be sent away.
        assert_eq!(server.ended().await.code(), Some(0));
        server.spawn();
        assert_eq!(ann.timeline().await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let mut server = RealServer::with(&[("ROOST_DRAIN_SECONDS", "300")]);
    let eve = server.person("eve").await;
    // Sent away over five minutes: some are still here when the second comes.
    let mut listening = Vec::new();
    for _ in 0..10 {
        listening.push(eve.connects().await);
    }
    server.signal(Signal::TERM);
    let drains = async || {
        let answer = server.get("/health/ready").attempt().await;
        answer.map_or(Some(()), |answer| (answer.status == 503).then_some(()))
    };
    until("it drains", drains).await;
    server.signal(Signal::TERM);
    let status = server.ended().await;
    assert!(status.code() != Some(0), "{status}");
    // The clients see their connections end, by a frame or without one.
    for mut client in listening {
        soon("the end", async { while client.message().await.is_some() {} }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_under_way_are_finished() {
    let mut server = RealServer::with(&[("ROOST_DRAIN_SECONDS", "1")]);
    let ann = server.person("ann").await;
    let mut listening = ann.connects().await;
    let posting: Vec<_> = (0..64)
        .map(|number| {
            let call = ann.asks_to_post(&format!("number {number}"));
            tokio::spawn(async move { call.attempt().await })
        })
        .collect();
    let first = listening.expect("newPost").await;
    assert!(first["id"].is_string());
    server.signal(Signal::TERM);
    let mut made = Vec::new();
    for one in posting {
        // A connection that came too late is refused as a whole.
        if let Ok(answer) = one.await.unwrap() {
            match answer.status {
                201 => made.push(crate::harness::rest::text(&answer.json, "id")),
                status => assert_eq!(status, 503, "{}", answer.text),
            }
        }
    }
    assert_eq!(server.ended().await.code(), Some(0));
    server.spawn();
    let timeline = ann.timeline().await;
    assert!(made.iter().all(|id| timeline.contains(id)), "what was answered 201 is there");
    assert!(!made.is_empty());
}
