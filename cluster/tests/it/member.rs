//! Clusters of several nodes in one process, over a real Redis and real connections.

use crate::ground::member::{Member, Watch, options, settled, until};
use crate::ground::proxy::{Mode, Proxy};
use crate::ground::redis::{Redis, at};
use crate::ground::{name, quick, within};
use roost_cluster::link::{CallError, SendError};
use roost_cluster::{Cluster, Event, RedisState, Shard, StartError, Timing};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

async fn three(redis: &Redis) -> (Member, Member, Member) {
    let a = Member::start("a", redis.options()).await;
    let b = Member::start("b", redis.options()).await;
    let c = Member::start("c", redis.options()).await;
    settled(&[&a, &b, &c]).await;
    (a, b, c)
}

/// Waits for longer than a node may act without news.
async fn longer_than_the_fence() {
    tokio::time::sleep(quick().fence + quick().renew).await;
}

fn numbers_of_views(node: &Member) -> Vec<u64> {
    node.heard().iter().filter_map(|heard| heard.strip_prefix("view ")?.parse().ok()).collect()
}

#[tokio::test]
async fn nodes_come_one_after_the_other_and_share_the_shards() {
    let redis = Redis::start().await;
    let a = Member::start("a", redis.options()).await;
    settled(&[&a]).await;
    let mut watch = Watch::over(&[&a]);
    let b = Member::start("b", redis.options()).await;
    watch.add(&b);
    settled(&[&a, &b]).await;
    let c = Member::start("c", redis.options()).await;
    watch.add(&c);
    settled(&[&a, &b, &c]).await;
    for node in [&a, &b, &c] {
        let has = node.acts_for().len();
        assert!((50..130).contains(&has), "{} has {has}", node.name());
        let numbers = numbers_of_views(node);
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }
    // It was joining first: by no view did it have homes before all had confirmed that it is there.
    assert!(c.heard().len() > 3, "{:?}", c.heard());
    watch.end();
}

#[tokio::test]
async fn several_that_start_at_once_become_one_cluster() {
    let redis = Redis::start().await;
    let (c, a, b) = tokio::join!(
        Member::start("c", redis.options()),
        Member::start("a", redis.options()),
        Member::start("b", redis.options()),
    );
    let watch = Watch::over(&[&a, &b, &c]);
    settled(&[&a, &b, &c]).await;
    watch.end();
}

#[tokio::test]
async fn a_shard_begins_nowhere_before_all_have_confirmed_that_it_moves() {
    let redis = Redis::start().await;
    let a = Member::start("a", redis.options()).await;
    let b = Member::start("b", redis.options()).await;
    settled(&[&a, &b]).await;
    // One that takes its time to say that it knows of the newcomer: that is joining for so long.
    b.goes_on.send_replace(b.number());
    let c = Member::start("c", redis.options()).await;
    let watch = Watch::over(&[&a, &b, &c]);
    until("c joins", || c.view() == "a b c+").await;
    longer_than_the_fence().await;
    assert_eq!((c.view().as_str(), a.view().as_str()), ("a b c+", "a b c+"));
    // One that takes its time to end what it loses: until then the newcomer has it not.
    b.goes_on.send_replace(a.number());
    until("c is up", || c.view() == "a b c").await;
    longer_than_the_fence().await;
    assert!(c.acts_for().is_empty() && !c.heard().contains(&format!("all confirmed {}", c.number())));
    assert!(b.acts_for().iter().any(|shard| c.cluster.is_home(*shard)), "b acts on while it ends");
    b.goes_on.send_replace(u64::MAX);
    settled(&[&a, &b, &c]).await;
    watch.end();
}

#[tokio::test]
async fn frames_and_calls_go_between_nodes_of_a_view() {
    let redis = Redis::start().await;
    let (a, _b, c) = three(&redis).await;
    a.cluster.send(&name("c"), b"hello").unwrap();
    c.hears("frame hello").await;
    let answer = a.cluster.call(&name("c"), b"who", LONG).await.unwrap();
    assert!(answer.ends_with(b" heard who"), "{answer:?}");
    assert_eq!(a.cluster.send(&name("x"), b""), Err(SendError::NotInView));
}

#[tokio::test]
async fn a_killed_nodes_shards_move_and_its_next_start_takes_them_back() {
    let redis = Redis::start().await;
    let (a, b, c) = three(&redis).await;
    let mut watch = Watch::over(&[&a, &b]);
    let before = c.acts_for();
    c.kill();
    settled(&[&a, &b]).await;
    // Only what it had has moved.
    assert!(before.iter().all(|shard| a.cluster.is_home(*shard) || b.cluster.is_home(*shard)));
    assert_eq!(a.cluster.call(&name("c"), b"", LONG).await, Err(CallError::NotSent(SendError::NotInView)));
    let c = Member::start("c", redis.options()).await;
    watch.add(&c);
    settled(&[&a, &b, &c]).await;
    assert_eq!(c.acts_for(), before);
    watch.end();
}

#[tokio::test]
async fn a_start_that_follows_a_death_at_once_waits_for_the_lease_and_comes_in() {
    let redis = Redis::start().await;
    let (a, b, c) = three(&redis).await;
    let boot = c.cluster.me().boot;
    c.kill();
    let c = Member::start("c", redis.options()).await;
    assert_ne!(c.cluster.me().boot, boot);
    settled(&[&a, &b, &c]).await;
}

#[tokio::test]
async fn after_all_have_died_their_next_starts_are_one_cluster_again() {
    let redis = Redis::start().await;
    let a = Member::start("a", redis.options()).await;
    settled(&[&a]).await;
    let number = a.number();
    a.kill();
    let a = Member::start("a", redis.options()).await;
    settled(&[&a]).await;
    assert!(a.number() > number);
    a.kill();

    let redis = Redis::start().await;
    let (a, b, c) = three(&redis).await;
    let number = a.number();
    [a, b, c].into_iter().for_each(Member::kill);
    // Not all come back: the others are not waited for.
    let (b, c) = tokio::join!(Member::start("b", redis.options()), Member::start("c", redis.options()));
    let watch = Watch::over(&[&b, &c]);
    settled(&[&b, &c]).await;
    assert!(b.number() > number);
    watch.end();
}

#[tokio::test]
async fn with_redis_gone_all_goes_on_by_the_links_on_a_frozen_view() {
    let mut redis = Redis::start().await;
    let (a, b, c) = three(&redis).await;
    let watch = Watch::over(&[&a, &b, &c]);
    let number = a.number();
    redis.stop();
    longer_than_the_fence().await;
    for node in [&a, &b, &c] {
        assert!(node.cluster.may_act(), "{}", node.name());
        assert!(!node.heard().contains(&"Fenced".to_owned()), "{:?}", node.heard());
        assert_eq!(node.number(), number);
        until("trouble", || matches!(node.cluster.redis(), Some(RedisState::Trouble(_)))).await;
    }
    // It comes back empty: the numbers go on.
    redis.start_again().await;
    until("a new view", || [&a, &b, &c].iter().all(|node| node.number() > number)).await;
    settled(&[&a, &b, &c]).await;
    watch.end();
}

#[tokio::test]
async fn with_redis_gone_and_a_node_gone_too_nobody_acts_until_one_is_back() {
    let mut redis = Redis::start().await;
    let (a, b, c) = three(&redis).await;
    let watch = Watch::over(&[&a, &b]);
    redis.stop();
    c.kill();
    a.hears("Fenced").await;
    b.hears("Fenced").await;
    assert!(!a.cluster.may_act() && !b.cluster.may_act());
    redis.start_again().await;
    settled(&[&a, &b]).await;
    assert!(a.heard().contains(&"Unfenced".to_owned()));
    watch.end();
}

#[tokio::test]
async fn a_flushed_redis_has_leases_and_a_greater_view_again_and_nobody_leaves() {
    let redis = Redis::start().await;
    let (a, b, c) = three(&redis).await;
    let watch = Watch::over(&[&a, &b, &c]);
    for _ in 0..5 {
        let number = a.number();
        redis.flush().await;
        until("a new view", || a.number() > number).await;
        settled(&[&a, &b, &c]).await;
    }
    for node in [&a, &b, &c] {
        assert!(!node.heard().contains(&"Fenced".to_owned()), "{:?}", node.heard());
    }
    for key in ["node:a", "node:b", "node:c", "cluster:view"] {
        within(key, async {
            while redis.ask(&format!("EXISTS {key}")).await.as_deref() != Some(":1") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
    watch.end();
}

#[tokio::test]
async fn a_newcomer_to_a_flushed_redis_begins_no_cluster_of_its_own() {
    let redis = Redis::start().await;
    let (a, b, c) = three(&redis).await;
    let mut watch = Watch::over(&[&a, &b, &c]);
    redis.flush().await;
    let d = Member::start("d", redis.options()).await;
    watch.add(&d);
    settled(&[&a, &b, &c, &d]).await;
    watch.end();
}

#[tokio::test]
async fn a_drained_node_has_no_homes_and_gets_them_back_and_its_stop_is_noticed_at_once() {
    let redis = Redis::start().await;
    let (a, b, c) = three(&redis).await;
    let watch = Watch::over(&[&a, &b, &c]);
    c.cluster.drain();
    until("c has none", || c.acts_for().is_empty() && a.view() == "a b c-").await;
    until("others have", || a.acts_for().len() + b.acts_for().len() == 256).await;
    c.cluster.undrain();
    settled(&[&a, &b, &c]).await;
    c.cluster.drain();
    until("others have", || a.acts_for().len() + b.acts_for().len() == 256).await;
    let begun = tokio::time::Instant::now();
    c.cluster.stop().await;
    settled(&[&a, &b]).await;
    assert_eq!(redis.ask("EXISTS node:c").await.unwrap(), ":0");
    // Nobody waited for a lease to run out; a bound as long as that says so.
    assert!(begun.elapsed() < LONG);
    assert!(!c.cluster.may_act());
    watch.end();
}

#[tokio::test]
async fn the_last_node_drains_and_the_next_begins_where_it_ended() {
    let redis = Redis::start().await;
    let a = Member::start("a", redis.options()).await;
    settled(&[&a]).await;
    a.cluster.drain();
    until("no homes", || a.acts_for().is_empty()).await;
    let number = a.number();
    a.cluster.stop().await;
    let b = Member::start("b", redis.options()).await;
    settled(&[&b]).await;
    assert!(b.number() > number);
}

#[tokio::test]
async fn a_second_node_of_a_name_waits_for_one_lease_and_refuses() {
    let redis = Redis::start().await;
    let a = Member::start("a", redis.options()).await;
    settled(&[&a]).await;
    let refused = Cluster::start(options("a", redis.options()).await).await.map(|_| ()).unwrap_err();
    let boot = a.cluster.me().boot;
    assert!(refused.to_string().starts_with("the name a is taken: a node at 127.0.0.1:"), "{refused}");
    assert!(refused.to_string().ends_with(&format!("has it (boot {boot})")), "{refused}");
    settled(&[&a]).await;
}

#[tokio::test]
async fn another_clusters_redis_is_refused() {
    let redis = Redis::start().await;
    let _a = Member::start("a", redis.options()).await;
    let mut other = options("b", redis.options()).await;
    other.cluster = "other".to_owned();
    let refused = Cluster::start(other).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.to_string(), r#"this Redis is of the cluster "test", not of this one"#);
}

#[tokio::test]
async fn times_that_are_not_safe_are_refused() {
    let mut wrong = options("a", at("127.0.0.1:1")).await;
    wrong.timing = Timing { fence: wrong.timing.lease, ..wrong.timing };
    assert!(matches!(Cluster::start(wrong).await, Err(StartError::Timing)));
}

#[tokio::test]
async fn a_node_that_starts_without_redis_has_no_view_until_it_answers() {
    let mut redis = Redis::start().await;
    redis.stop();
    let a = Member::start("a", redis.options()).await;
    longer_than_the_fence().await;
    assert_eq!((a.view(), a.cluster.may_act()), ("none".to_owned(), false));
    assert_eq!(a.cluster.home(Shard::new(0)), None);
    redis.start_again().await;
    settled(&[&a]).await;
}

/// A node whose ways to Redis, and to and from the others, go through proxies.
async fn isolable(node: &str, redis: &Redis, others: &[&Member]) -> (Member, Vec<Proxy>) {
    let to_redis = Proxy::to(redis.address()).await;
    let mut options = options(node, at(&to_redis.address.to_string())).await;
    let to_it = Proxy::to(options.listener.local_addr().expect("it is bound").to_string()).await;
    options.advertise = to_it.address.to_string();
    let mut proxies = vec![to_redis, to_it];
    for other in others {
        let address = other.cluster.nodes().into_iter().find(|n| n.link.is_none()).expect("itself").address;
        let to_other = Proxy::to(address).await;
        options.routes.insert(other.name().clone(), to_other.address.to_string());
        proxies.push(to_other);
    }
    (Member::start_by(options).await.expect("it starts"), proxies)
}

#[tokio::test]
async fn a_node_that_is_cut_off_stops_acting_before_its_shards_move_and_comes_back_anew() {
    let redis = Redis::start().await;
    let a = Member::start("a", redis.options()).await;
    let b = Member::start("b", redis.options()).await;
    settled(&[&a, &b]).await;
    let (c, proxies) = isolable("c", &redis, &[&a, &b]).await;
    settled(&[&a, &b, &c]).await;
    let watch = Watch::over(&[&a, &b, &c]);
    proxies.iter().for_each(|proxy| proxy.set(Mode::Stall));
    c.hears("Fenced").await;
    settled(&[&a, &b]).await;
    assert!(c.acts_for().is_empty());
    proxies.iter().for_each(|proxy| proxy.set(Mode::Pass));
    settled(&[&a, &b, &c]).await;
    // Whatever it had sent or heard before is told as missing.
    until("a gap", || a.heard().iter().filter(|heard| heard.starts_with("gap c/")).count() >= 2).await;
    watch.end();
}

#[tokio::test]
async fn a_lost_link_alone_moves_nothing() {
    let redis = Redis::start().await;
    let a = Member::start("a", redis.options()).await;
    let b = Member::start("b", redis.options()).await;
    settled(&[&a, &b]).await;
    let (c, proxies) = isolable("c", &redis, &[&a, &b]).await;
    settled(&[&a, &b, &c]).await;
    let (watch, number) = (Watch::over(&[&a, &b, &c]), a.number());
    proxies[1..].iter().for_each(|proxy| proxy.set(Mode::Cut));
    longer_than_the_fence().await;
    longer_than_the_fence().await;
    assert_eq!((a.number(), c.number()), (number, number));
    assert!([&a, &b, &c].iter().all(|node| node.cluster.may_act()));
    a.cluster.send(&name("c"), b"sent meanwhile").unwrap();
    proxies[1..].iter().for_each(|proxy| proxy.set(Mode::Pass));
    c.hears("frame sent meanwhile").await;
    assert_eq!(a.number(), number);
    watch.end();
}

#[tokio::test]
async fn who_cannot_reach_redis_goes_on_by_the_links() {
    let redis = Redis::start().await;
    let a = Member::start("a", redis.options()).await;
    let b = Member::start("b", redis.options()).await;
    settled(&[&a, &b]).await;
    let (c, proxies) = isolable("c", &redis, &[&a, &b]).await;
    settled(&[&a, &b, &c]).await;
    let (watch, number) = (Watch::over(&[&a, &b, &c]), a.number());
    proxies[0].set(Mode::Stall);
    // Until its lease has run out.
    within("that its lease runs out", async {
        while redis.ask("EXISTS node:c").await.as_deref() != Some(":0") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    longer_than_the_fence().await;
    assert!(c.cluster.may_act());
    assert_eq!((a.number(), a.view().as_str()), (number, "a b c"));
    // Views reach it by its links.
    let d = Member::start("d", redis.options()).await;
    until("c has the new view", || c.view() == "a b c d" || c.view() == "a b c d+").await;
    proxies[0].set(Mode::Pass);
    settled(&[&a, &b, &c, &d]).await;
    watch.end();
}

#[tokio::test]
async fn alone_without_redis_a_node_is_home_to_all() {
    let (cluster, mut events) = Cluster::alone(name("a")).unwrap();
    assert!(Shard::all().all(|shard| cluster.is_home(shard)));
    assert!(!cluster.may_act());
    let Some(Event::View(view)) = events.next().await else { panic!("no view") };
    assert!(cluster.confirm(view.number()) && cluster.may_act());
    assert!(matches!(events.next().await, Some(Event::AllConfirmed(1))));
    cluster.drain();
    let Some(Event::View(view)) = events.next().await else { panic!("no view") };
    assert_eq!(view.home(Shard::new(0)), None);
    cluster.undrain();
    assert!(Shard::all().all(|shard| cluster.is_home(shard)));
    assert_eq!(cluster.send(&name("b"), b""), Err(SendError::NotInView));
    assert_eq!(cluster.nodes().len(), 1);
}
