//! Each mode of the fault proxy, before a real Redis.

use super::Lines;
use crate::harness::engines::redis_server::RedisServer;
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::harness::until;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// A Redis, a proxy before it, and a client that the proxy has connected.
async fn proxied() -> Option<(RedisServer, FaultProxy, Lines)> {
    let server = RedisServer::start().await?;
    let proxy = FaultProxy::to(&server.address()).await;
    let mut lines = connect(&proxy).await;
    assert_eq!(lines.ask("PING").await.expect("it answers"), "+PONG");
    Some((server, proxy, lines))
}

async fn connect(proxy: &FaultProxy) -> Lines {
    Lines::to(&proxy.address().to_string()).await.expect("it listens")
}

#[tokio::test]
async fn what_passes_arrives_whole_and_in_order() {
    let Some((server, _proxy, mut lines)) = proxied().await else { return };
    let long = "x".repeat(1_000_000);
    assert_eq!(lines.ask(&format!("APPEND long {}", &long[..60_000])).await.unwrap(), ":60000");
    for number in 1..=500 {
        assert_eq!(lines.ask("INCR count").await.unwrap(), format!(":{number}"));
    }
    server.says(&["set", "long", &long[..100_000]]);
    assert_eq!(lines.ask("GET long").await.unwrap(), "$100000");
    assert_eq!(lines.hear().await.unwrap(), long[..100_000]);
    assert_eq!(lines.ask("QUIT").await.unwrap(), "+OK");
    assert_eq!(lines.hear().await.unwrap_err().kind(), ErrorKind::UnexpectedEof, "an end is not a reset");
}

#[tokio::test]
async fn a_lost_answer_is_one_to_a_command_that_was_done() {
    let Some((server, proxy, mut lines)) = proxied().await else { return };
    proxy.set(Mode::LoseAnswers { cut_after: Duration::ZERO }).await;
    lines.ask("INCR count").await.expect_err("the answer is lost");
    connect(&proxy).await.ask("INCR count").await.expect_err("and the next");
    assert_eq!(server.says(&["get", "count"]), "2");
    assert_eq!(proxy.answers_lost(), 2);
    proxy.set(Mode::Pass).await;
    assert_eq!(connect(&proxy).await.ask("GET count").await.unwrap(), "$1");
}

#[tokio::test]
async fn answers_may_be_lost_for_a_while_before_the_connection_ends() {
    let Some((server, proxy, mut lines)) = proxied().await else { return };
    proxy.set(Mode::LoseAnswers { cut_after: Duration::from_secs(2) }).await;
    lines.say("INCR count").await.unwrap();
    assert!(lines.hears_nothing().await);
    // What the client now says is done too, though the others are answered again.
    proxy.set(Mode::Pass).await;
    assert_eq!(connect(&proxy).await.ask("PING").await.unwrap(), "+PONG");
    lines.say("INCR count").await.unwrap();
    until("it is done", async || (server.says(&["get", "count"]) == "2").then_some(())).await;
    lines.hear().await.expect_err("never answered");
}

#[tokio::test]
async fn one_answer_is_lost_and_no_more() {
    let Some((server, proxy, mut lines)) = proxied().await else { return };
    let mut other = connect(&proxy).await;
    other.ask("PING").await.unwrap();
    proxy.set(Mode::LoseOneAnswer).await;
    lines.ask("INCR count").await.expect_err("the answer is lost");
    assert_eq!(other.ask("INCR count").await.unwrap(), ":2", "the others' connections stay");
    assert_eq!((server.says(&["get", "count"]).as_str(), proxy.answers_lost()), ("2", 1));
}

#[tokio::test]
async fn a_stall_holds_everything_and_lets_it_go() {
    let Some((server, proxy, mut lines)) = proxied().await else { return };
    proxy.set(Mode::Stall).await;
    lines.say("INCR count").await.unwrap();
    let mut another = connect(&proxy).await;
    another.say("INCR other").await.unwrap();
    assert!(lines.hears_nothing().await && another.hears_nothing().await);
    assert_eq!(server.says(&["exists", "count", "other"]), "0", "requests are held too");
    proxy.set(Mode::Pass).await;
    assert_eq!((lines.hear().await.unwrap(), another.hear().await.unwrap()), (":1".into(), ":1".into()));
}

#[tokio::test]
async fn a_delay_holds_each_way_and_does_not_add_up() {
    let Some((_server, proxy, mut lines)) = proxied().await else { return };
    let each_way = Duration::from_millis(150);
    proxy.set(Mode::Delay(each_way)).await;
    let began = Instant::now();
    assert_eq!(lines.ask("INCR count").await.unwrap(), ":1");
    assert!(began.elapsed() >= each_way * 2, "{:?}", began.elapsed());
    // Said one by one, and all on their way at once: else a hundred would take half a minute, more than one
    // waits for a line.
    for _ in 0..100 {
        lines.say("INCR count").await.unwrap();
        tokio::task::yield_now().await;
    }
    for number in 2..=101 {
        assert_eq!(lines.hear().await.unwrap(), format!(":{number}"));
    }
}

#[tokio::test]
async fn a_cut_resets_all_and_refuses_until_it_is_over() {
    let Some((server, proxy, mut lines)) = proxied().await else { return };
    proxy.set(Mode::Cut).await;
    assert_eq!(lines.hear().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let refused = Lines::to(&proxy.address().to_string()).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
    assert_eq!(server.says(&["ping"]), "PONG", "the server knows nothing of it");
    proxy.set(Mode::Pass).await;
    assert_eq!(connect(&proxy).await.ask("PING").await.unwrap(), "+PONG");
}

#[tokio::test]
async fn a_server_that_ends_is_felt_through_the_proxy_and_found_again() {
    let Some((mut server, proxy, mut lines)) = proxied().await else { return };
    server.kill();
    lines.hear().await.expect_err("its connections end");
    connect(&proxy).await.hear().await.expect_err("nobody is behind it");
    server.start_again().await;
    assert_eq!(connect(&proxy).await.ask("PING").await.unwrap(), "+PONG");
}

#[tokio::test]
async fn a_dropped_proxy_takes_its_connections_along() {
    let Some((_server, proxy, mut lines)) = proxied().await else { return };
    let address = proxy.address().to_string();
    drop(proxy);
    lines.hear().await.expect_err("it ended");
    until("nobody listens", async || Lines::to(&address).await.err().map(|_| ())).await;
}
