//! Several nodes on one Redis: limits, news and caches are one.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing to unwrap has failed, and says where")]

use super::{app_on, open};
use crate::harness::engines::redis_server::RedisServer;
use crate::harness::until;
use roost::model::id::{LoginId, UserId};
use roost::model::timestamp::Timestamp;
use roost::storage::memory::Rates;
use roost::storage::redis::{News, Redis, SharedRevocations};
use roost::storage::volatile::{Counted, Limits, Read, Revocations, TimelineCache};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::contract::{page, place};

const RATES: Rates = Rates {
    requests_per_second: None,
    request_burst: None,
    posts_per_minute: NonZeroU32::new(10),
    address_requests_per_second: None,
    logins_per_minute: None,
    registrations_per_hour: None,
    presses_per_second: None,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_one_for_all_nodes_and_each_nodes_own_while_redis_is_away() {
    let Some(mut redis) = RedisServer::start().await else { return };
    let nodes = [open(&redis.url()).await, open(&redis.url()).await, open(&redis.url()).await];
    let limits: Vec<_> = nodes.iter().map(|node| node.limits(RATES)).collect();
    let taken = async |user: UserId| {
        let mut taken = 0;
        for number in 0..60 {
            let answer = limits[number % 3].take(Counted::Post(user)).await.expect("limits never fail");
            taken += u32::from(answer.is_ok());
        }
        taken
    };
    let (ann, ben) = (UserId::make(), UserId::make());
    assert_eq!(taken(ann).await, 10);
    redis.kill();
    assert_eq!(taken(ben).await, 30, "each node's own decides");
    // What Redis granted was charged here as well: nobody starts anew.
    assert_eq!(taken(ann).await, 20);
    redis.start_again().await;
    for node in &nodes {
        until("it mends", async || node.state().is_well().then_some(())).await;
    }
    assert_eq!(taken(UserId::make()).await, 10);
}

/// A node that hears news.
struct Node {
    redis: Redis,
    revocations: Arc<SharedRevocations>,
    ended: Arc<Mutex<Vec<LoginId>>>,
    readings: Arc<AtomicUsize>,
}

async fn node(url: &str) -> Node {
    let mut redis = open(url).await;
    let revocations = Arc::new(redis.revocations());
    let (ended, readings): (Arc<Mutex<Vec<LoginId>>>, Arc<AtomicUsize>) = Default::default();
    let (to, count) = (ended.clone(), readings.clone());
    let news = News {
        ended: Box::new(move |login| to.lock().expect("what ended").push(login)),
        missed: Box::new(move || {
            // The first time the store cannot be read.
            let could = count.fetch_add(1, Ordering::SeqCst) > 0;
            Box::pin(std::future::ready(could))
        }),
    };
    redis.listen(revocations.clone(), news).expect("the address is one");
    let node = Node { redis, revocations, ended, readings };
    node.reads(2).await;
    node
}

impl Node {
    /// The store was read so often at least.
    async fn reads(&self, times: usize) {
        until("the store is read", async || (self.readings.load(Ordering::SeqCst) >= times).then_some(()))
            .await;
    }

    async fn hears_of(&self, login: LoginId) {
        until("the news", async || self.revocations.is_revoked(login).then_some(())).await;
        until("it is acted on", async || self.ended.lock().unwrap().contains(&login).then_some(())).await;
    }
}

fn later() -> Timestamp {
    Timestamp::now().after(Duration::from_secs(60))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_ends_on_one_node_ends_on_all_and_once() {
    let Some(redis) = RedisServer::start().await else { return };
    let (one, other) = (node(&redis.url()).await, node(&redis.url()).await);
    let (first, second) = (LoginId::make(), LoginId::make());
    one.revocations.revoke(first, later()).await;
    one.revocations.revoke(first, later()).await;
    other.hears_of(first).await;
    other.revocations.revoke(second, later()).await;
    one.hears_of(second).await;
    // Its own news come back to a node, and are none.
    assert_eq!(*one.ended.lock().unwrap(), [second]);
    assert_eq!(*other.ended.lock().unwrap(), [first]);
    redis.says(&["publish", "roost:revoked", "nonsense \u{1F600}"]);
    let third = LoginId::make();
    one.revocations.revoke(third, later()).await;
    other.hears_of(third).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_gap_the_store_is_read_again_and_the_subscription_goes_on() {
    let Some(mut redis) = RedisServer::start().await else { return };
    let (one, other) = (node(&redis.url()).await, node(&redis.url()).await);
    redis.kill();
    // Told to nobody: the others are to read the store.
    let untold = LoginId::make();
    one.revocations.revoke(untold, later()).await;
    assert!(one.revocations.is_revoked(untold));
    redis.start_again().await;
    other.reads(3).await;
    one.reads(3).await;
    until("it mends", async || one.redis.state().is_well().then_some(())).await;
    // Once for the gap, and once more because somebody could not tell.
    other.reads(4).await;
    let login = LoginId::make();
    one.revocations.revoke(login, later()).await;
    other.hears_of(login).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_hears_nothing_for_too_long_is_made_anew() {
    let Some(redis) = RedisServer::start().await else { return };
    let (one, other) = (node(&redis.url()).await, node(&redis.url()).await);
    redis.pause();
    until("it is away", async || (!one.redis.state().is_well()).then_some(())).await;
    redis.resume();
    until("it mends", async || one.redis.state().is_well().then_some(())).await;
    let login = LoginId::make();
    until("the news", async || {
        one.revocations.revoke(login, later()).await;
        other.revocations.is_revoked(login).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_read_before_a_change_on_another_is_not_kept() {
    let Some(redis) = RedisServer::start().await else { return };
    let (one, other) = (open(&redis.url()).await, open(&redis.url()).await);
    let (one, other) = (one.timeline_cache(), other.timeline_cache());
    let (anna, list) = (UserId::make(), vec![place(1)]);
    let before = one.recall(anna, list.clone()).await.reading.expect("it is there");
    other.forget(anna).await;
    let read = Read { total: Some(1), page: Some((list.clone(), page(&list, "before"))) };
    one.keep(anna, before, read.clone()).await;
    assert_eq!(other.recall(anna, list.clone()).await.total, None);
    let after = other.recall(anna, list.clone()).await.reading.expect("it is there");
    one.keep(anna, before, read.clone()).await;
    assert_eq!(one.recall(anna, list.clone()).await.page, None);
    // What one node keeps the other shows.
    other.keep(anna, after, read.clone()).await;
    assert_eq!(one.recall(anna, list).await.page, read.page.map(|(_, page)| page));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_reaches_another_node_that_shares_keys_and_redis() {
    let Some(redis) = RedisServer::start().await else { return };
    let secret = || Some(roost::model::secret::Secret::new("0123456789abcdef0123456789abcdef"));
    let one = app_on(&redis.url(), |config| config.jwt_secret = secret()).await;
    let other = app_on(&redis.url(), |config| config.jwt_secret = secret()).await;
    let ann = one.person("ann").await;
    // Tokens say who it is; the other node's store need not know the user to hold its socket.
    let mut there = crate::harness::live::TestClient::open(
        &other.url(&format!("/ws?token={}", ann.token)).replacen("http", "ws", 1),
    )
    .await;
    there.begins().await;
    ann.call("POST", "/auth/logout").await.expect(204);
    assert_eq!(there.closed().await, 4401);
    other.get("/timeline").bearer(&ann.token).await.expect(401);
}
