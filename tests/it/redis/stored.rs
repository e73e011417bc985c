//! How it stands in Redis, for who looks at it there: `ws:connection:*`, `timeline:*`, limits, the stream.

use super::contract::{page, place};
use super::{app_on, open};
use crate::harness::engines::redis_server::RedisServer;
use crate::harness::rest::text;
use crate::harness::until;
use roost::model::id::UserId;
use roost::storage::memory::Rates;
use roost::storage::volatile::{Counted, Limits, Read, TimelineCache};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use tokio_tungstenite::tungstenite::Message;

/// The key's number of seconds to live.
fn lifetime(redis: &RedisServer, key: &str) -> i64 {
    redis.says(&["ttl", key]).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_stands_there_from_its_upgrade_to_its_end_and_a_ping_extends_it() {
    let Some(redis) = RedisServer::start().await else { return };
    let app = app_on(&redis.url(), |config| config.node_name = "node-1".parse().expect("a name")).await;
    let ann = app.person("ann").await;
    let mut client = ann.connects().await;
    let id = text(&client.connected, "connection_id");
    let key = format!("ws:connection:{id}");
    let stored = until("the connection is there", async || {
        let stored = redis.says(&["get", &key]);
        (!stored.is_empty()).then_some(stored)
    })
    .await;
    let stored: Value = serde_json::from_str(&stored).expect("it is JSON");
    let connected_at = text(&stored, "connectedAt");
    let expected =
        json!({"connectionId": id, "userId": ann.id, "connectedAt": connected_at, "node": "node-1"});
    assert_eq!(stored, expected);
    assert!(connected_at.ends_with('Z') && connected_at.contains('T'), "{connected_at}");
    assert!((590..=600).contains(&lifetime(&redis, &key)));

    // A ping of either kind extends it, and makes it anew where it was lost.
    for by_protocol in [false, true] {
        redis.says(&["expire", &key, "100"]);
        until("the connection is extended", async || {
            match by_protocol {
                true => client.sends(Message::Ping("x".into())).await,
                false => client.pings().await,
            }
            (lifetime(&redis, &key) > 590).then_some(())
        })
        .await;
    }
    redis.flush();
    until("the connection is there again", async || {
        client.pings().await;
        (lifetime(&redis, &key) > 590).then_some(())
    })
    .await;
    let again: Value = serde_json::from_str(&redis.says(&["get", &key])).expect("it is JSON");
    assert_eq!(again, expected);

    client.cut();
    until("the connection is gone", async || redis.says(&["get", &key]).is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_sent_away_by_a_stop_is_gone() {
    let Some(redis) = RedisServer::start().await else { return };
    let mut app = app_on(&redis.url(), |_| {}).await;
    let ann = app.person("ann").await;
    let clients = [ann.connects().await, ann.connects().await];
    until("both are there", async || {
        (redis.says(&["keys", "ws:connection:*"]).lines().count() == clients.len()).then_some(())
    })
    .await;
    app.stop().await;
    assert_eq!(redis.says(&["keys", "ws:connection:*"]), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeline_is_kept_for_a_minute_and_what_somebody_else_left_there_is_a_miss() {
    let Some(redis) = RedisServer::start().await else { return };
    let shared = open(&redis.url()).await;
    let (cache, anna, list) = (shared.timeline_cache(), UserId::make(), vec![place(2), place(1)]);
    let key = format!("timeline:{anna}");
    let kept = page(&list, "kept");
    let reading = cache.recall(anna, list.clone()).await.reading.expect("it is there");
    let read = Read { total: Some(2), page: Some((list.clone(), kept.clone())) };
    cache.keep(anna, reading, read.clone()).await;
    assert!((50..=60).contains(&lifetime(&redis, &key)));
    assert_eq!(cache.recall(anna, list.clone()).await.page, Some(kept.clone()));

    // Of another version, or no page at all.
    let field = redis.says(&["hkeys", &key]);
    let field = field.lines().find(|field| field.starts_with("page:")).expect("a page");
    for odd in [r#"{"version":2,"began":1,"cached_at":1,"posts":[]}"#, "{}", "\u{1F600}", ""] {
        redis.says(&["hset", &key, field, odd, "total", odd]);
        let recalled = cache.recall(anna, list.clone()).await;
        assert_eq!((recalled.page, recalled.total), (None, None), "{odd}");
    }
    // Not even a hash: that is forgotten.
    redis.says(&["set", &key, "a page of long ago"]);
    let reading = cache.recall(anna, list.clone()).await.reading.expect("it is there");
    cache.keep(anna, reading, read).await;
    assert_eq!(cache.recall(anna, list.clone()).await.page, Some(kept));
    // Flushed between the two: nobody knows what was forgotten meanwhile.
    let reading = cache.recall(anna, list.clone()).await.reading.expect("it is there");
    redis.flush();
    cache.keep(anna, reading, Read { total: Some(1), page: None }).await;
    assert_eq!(cache.recall(anna, list).await.total, None);
    assert!(shared.state().is_well(), "none of it was the fault of Redis");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_a_minute_by_its_own_clock_is_not_shown() {
    let Some(redis) = RedisServer::start().await else { return };
    let shared = open(&redis.url()).await;
    let (cache, anna, list) = (shared.timeline_cache(), UserId::make(), vec![place(1)]);
    let key = format!("timeline:{anna}");
    let reading = cache.recall(anna, list.clone()).await.reading.expect("it is there");
    let read = Read { total: Some(1), page: Some((list.clone(), page(&list, "kept"))) };
    cache.keep(anna, reading, read).await;
    let now: u64 = redis.says(&["time"]).lines().next().expect("seconds").parse().expect("a number");
    let total = |seconds: u64| format!("{} 1", seconds * 1_000);
    for (began, shown) in [(now - 50, Some(1)), (now - 61, None), (now + 100, None)] {
        redis.says(&["hset", &key, "total", &total(began)]);
        assert_eq!(cache.recall(anna, list.clone()).await.total, shown, "{began} at {now}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_expires_when_it_is_full_and_a_clock_set_back_locks_nobody_out() {
    let Some(redis) = RedisServer::start().await else { return };
    let shared = open(&redis.url()).await;
    let five = NonZeroU32::new(5);
    let limits = shared.limits(Rates {
        requests_per_second: five,
        request_burst: None,
        posts_per_minute: five,
        address_requests_per_second: None,
        logins_per_minute: None,
        registrations_per_hour: None,
        presses_per_second: None,
    });
    let user = UserId::make();
    let key = format!("roost:limit:post:{user}");
    assert!(limits.take(Counted::Post(user)).await.expect("an answer").is_ok());
    assert!((10..=12).contains(&lifetime(&redis, &key)));
    // By a clock that was a year ahead.
    let ahead = (roost::model::timestamp::Timestamp::now().millis() + 365 * 24 * 3_600_000) * 1_000;
    redis.says(&["set", &key, &ahead.to_string()]);
    let wait = limits.take(Counted::Post(user)).await.expect("an answer").expect_err("it is empty");
    assert!(wait.as_secs() <= 12, "{wait:?}");
    // What is no bucket is not Redis' fault, and this node's own decides.
    redis.says(&["del", &key]);
    redis.says(&["rpush", &key, "x"]);
    assert!(limits.take(Counted::Post(user)).await.expect("an answer").is_ok());
    assert!(shared.state().is_well());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripts_are_sent_again_where_redis_forgot_them() {
    let Some(redis) = RedisServer::start().await else { return };
    let shared = open(&redis.url()).await;
    let (cache, list) = (shared.timeline_cache(), vec![place(1)]);
    for _ in 0..2 {
        assert!(cache.recall(UserId::make(), list.clone()).await.reading.is_some());
        redis.says(&["script", "flush"]);
    }
    assert!(cache.recall(UserId::make(), list).await.reading.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_added_to_a_stream_that_is_capped() {
    let Some(redis) = RedisServer::start().await else { return };
    // Nothing in a key means anything to Redis.
    let key = "roost:{events}\u{1F600} *";
    let app = app_on(&redis.url(), |config| {
        config.events_stream = Some(key.to_owned());
        config.events_stream_length = 100;
    })
    .await;
    let ann = app.person("ann").await;
    let smile = "\u{1F600}".repeat(280);
    let post = ann.posts(&smile).await;
    let entries = until("the post is in the stream", async || {
        let entries = redis.says(&["xrange", key, "-", "+"]);
        entries.contains("com.mini-sns.post.created").then_some(entries)
    })
    .await;
    let lines: Vec<_> = entries.lines().collect();
    let event = lines.iter().rev().find(|line| line.contains("post.created") && line.starts_with('{'));
    let event: Value = serde_json::from_str(event.expect("an event")).expect("it is JSON");
    assert_eq!((&event["specversion"], &event["data"]["postId"]), (&json!("1.0"), &json!(post)));
    assert_eq!(event["data"]["content"], smile);
    assert!(lines.contains(&event["id"].as_str().expect("an id")), "the id is a field of its own");
    assert!(entries.contains("com.mini-sns.user.registered"));

    for number in 0..400 {
        ann.posts(&number.to_string()).await;
    }
    // About: whole nodes of the stream go at once.
    until("the last is in the stream", async || {
        redis.says(&["xrevrange", key, "+", "-", "COUNT", "1"]).contains("\"399\"").then_some(())
    })
    .await;
    let length: u64 = redis.says(&["xlen", key]).parse().expect("a number");
    assert!((100..300).contains(&length), "{length}");
}
