//! A Redis of a test's own.

use super::Lines;
use crate::harness::engines::redis_server::RedisServer;
use crate::harness::engines::redis_url;
use std::io::ErrorKind;

#[tokio::test]
async fn the_shared_redis_answers() {
    let Some(url) = redis_url() else { return };
    let address = url.rsplit(['/', '@']).find(|part| part.contains(':')).expect("host and port");
    let mut lines = Lines::to(address).await.expect("it listens");
    // One with a password says so.
    let answer = lines.ask("PING").await.expect("it answers");
    assert!(answer == "+PONG" || answer.starts_with("-NOAUTH"), "{answer}");
}

#[tokio::test]
async fn a_killed_redis_refuses_and_comes_back_empty_where_it_was() {
    let Some(mut server) = RedisServer::start().await else { return };
    let url = server.url();
    let mut lines = Lines::to(&server.address()).await.unwrap();
    assert_eq!(lines.ask("SET key value").await.unwrap(), "+OK");
    server.kill();
    lines.ask("PING").await.expect_err("its connections end");
    let refused = Lines::to(&server.address()).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
    server.start_again().await;
    assert_eq!(server.url(), url);
    assert_eq!(server.says(&["dbsize"]), "0");
}

#[tokio::test]
async fn a_paused_redis_hangs_and_then_answers_all() {
    let Some(server) = RedisServer::start().await else { return };
    let mut lines = Lines::to(&server.address()).await.unwrap();
    server.pause();
    lines.say("INCR count").await.unwrap();
    assert!(lines.hears_nothing().await);
    let mut another = Lines::to(&server.address()).await.expect("it is connected all the same");
    another.say("PING").await.unwrap();
    assert!(another.hears_nothing().await);
    server.resume();
    assert_eq!(lines.hear().await.unwrap(), ":1");
    assert_eq!(another.hear().await.unwrap(), "+PONG");
}

#[tokio::test]
async fn a_redis_can_be_emptied_made_read_only_and_short_of_memory() {
    let Some(server) = RedisServer::start().await else { return };
    let mut lines = Lines::to(&server.address()).await.unwrap();
    lines.ask("SET key value").await.unwrap();
    server.flush();
    assert_eq!(lines.ask("EXISTS key").await.unwrap(), ":0");

    lines.ask("SET key value").await.unwrap();
    server.refuse_writes();
    let refused = lines.ask("SET key other").await.unwrap();
    assert!(refused.starts_with("-READONLY"), "{refused}");
    assert_eq!(server.says(&["get", "key"]), "value", "it still answers reads");
    server.take_writes();
    assert_eq!(lines.ask("SET key other").await.unwrap(), "+OK");

    server.limit_memory(1);
    let refused = lines.ask("SET key more").await.unwrap();
    assert!(refused.starts_with("-OOM"), "{refused}");
    server.limit_memory(0);
    assert_eq!(lines.ask("SET key more").await.unwrap(), "+OK");
}
