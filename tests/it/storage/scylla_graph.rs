//! Follows on a CQL cluster: what both of its sides and the lists hold after many changes of the same pairs at
//! once, and after answers were lost. Users and posts are written as rows; whatever is counted is counted anew.

use crate::harness::dice::Dice;
use crate::harness::engines::cql_nodes;
use crate::harness::fault_proxy::{FaultProxy, Mode};
use futures_util::future::join_all;
use roost::model::cursor::Seq;
use roost::model::id::{FollowId, UserId};
use roost::model::social::Follow;
use roost::model::timestamp::Timestamp;
use roost::storage::scylla::{Access, Options, Replication, Store};
use roost::storage::{EntryObserver, Followed, Graph, Page, StorageError};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

struct Nobody;

impl EntryObserver for Nobody {
    fn entering(&self, _: Seq, _: UserId) {}
    fn withdrawn(&self, _: Seq) {}
}

/// A keyspace of a test's own, and the way to its rows past any proxy.
struct Ground {
    access: Access,
    rows: Session,
}

impl Ground {
    async fn lay() -> Option<Self> {
        let nodes = cql_nodes()?;
        let keyspace = format!("graph_{}", Uuid::new_v4().simple());
        let access = Access {
            nodes: nodes.clone(),
            keyspace: keyspace.clone(),
            replication: Replication::default(),
            user: None,
            ca: None,
            translate: HashMap::new(),
        };
        access.apply().await.unwrap();
        let rows = SessionBuilder::new().known_nodes(&nodes).use_keyspace(keyspace, false).build().await.unwrap();
        Some(Self { access, rows })
    }

    async fn open(&self) -> Store {
        open(self.access.clone()).await
    }

    /// The store behind a proxy.
    async fn open_behind(&self, proxy: &FaultProxy) -> Store {
        let node: SocketAddr = self.access.nodes[0].parse().unwrap();
        let mut access = self.access.clone();
        access.nodes = vec![proxy.address().to_string()];
        // The driver asks for the address that it was given, too.
        access.translate = HashMap::from([(node, proxy.address()), (proxy.address(), proxy.address())]);
        open(access).await
    }

    async fn all<R>(&self, query: &str) -> Vec<R>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let found = self.rows.query_unpaged(query, ()).await.unwrap().into_rows_result().unwrap();
        found.rows::<R>().unwrap().map(Result::unwrap).collect()
    }

    async fn run(&self, statement: &str) {
        self.rows.query_unpaged(statement, ()).await.unwrap();
    }

    async fn users(&self, count: usize) -> Vec<UserId> {
        let mut users = Vec::new();
        for number in 0..count {
            let user = UserId::make();
            self.run(&format!("INSERT INTO users (id, username) VALUES ({user}, 'user-{number}') IF NOT EXISTS"))
                .await;
            users.push(user);
        }
        users
    }

    /// Waits until every job that was begun is done.
    async fn settled(&self) {
        let settled = async {
            loop {
                let jobs: Vec<(Option<bool>,)> = self.all("SELECT done FROM jobs").await;
                if jobs.iter().all(|(done,)| *done == Some(true)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(90), settled).await.expect("some job is never done");
    }

    async fn end(self) {
        self.run(&format!("DROP KEYSPACE {}", self.access.keyspace)).await;
    }
}

async fn open(access: Access) -> Store {
    let options = Options {
        access,
        events: true,
        observer: Arc::new(Nobody),
        wide_author_followers: 10_000,
    };
    Store::open(options).await.unwrap()
}

fn a_follow(follower: UserId, followee: UserId) -> Follow {
    Follow { id: FollowId::make(), follower, followee, created_at: Timestamp::now() }
}

const fn first(limit: usize) -> Page {
    Page { before: None, limit }
}

/// What the answers said of a pair.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    made: i64,
    ended: i64,
    unsure: i64,
}

type Tallies = Mutex<HashMap<(UserId, UserId), Tally>>;

/// Follows and unfollows by chance, so often.
async fn act(store: &Store, mut dice: Dice, users: &[UserId], turns: usize, told: &Tallies) {
    for _ in 0..turns {
        let (from, to) = (dice.below(users.len()), dice.below(users.len()));
        if from == to {
            continue;
        }
        let pair = (users[from], users[to]);
        let (made, ended, unsure) = if dice.one_in(2) {
            match store.follow(a_follow(pair.0, pair.1), 10_000).await {
                Ok(followed) => (i64::from(matches!(followed, Followed::Done { .. })), 0, 0),
                Err(StorageError::Unavailable(_)) => (0, 0, 1),
                Err(error) => panic!("{error}"),
            }
        } else {
            match store.unfollow(pair.0, pair.1, Timestamp::now()).await {
                Ok(ended) => (0, i64::from(ended.is_some()), 0),
                Err(StorageError::Unavailable(_)) => (0, 0, 1),
                Err(error) => panic!("{error}"),
            }
        };
        let mut told = told.lock().unwrap();
        let tally = told.entry(pair).or_default();
        tally.made += made;
        tally.ended += ended;
        tally.unsure += unsure;
    }
}

/// Holds claims, both sides, lists, counts and events against each other and against the answers.
async fn check(ground: &Ground, store: &Store, users: &[UserId], told: &Tallies) {
    let claims: Vec<(Uuid, Uuid, Option<i8>, Option<i64>)> =
        ground.all("SELECT follower, followee, state, total FROM following").await;
    let pairs: BTreeSet<(Uuid, Uuid)> =
        claims.iter().filter(|claim| claim.2 == Some(1)).map(|claim| (claim.0, claim.1)).collect();
    let sides: Vec<(Uuid, Uuid, Option<i8>)> = ground.all("SELECT followee, follower, state FROM followers").await;
    let theirs: BTreeSet<(Uuid, Uuid)> =
        sides.iter().filter(|side| side.2 == Some(1)).map(|side| (side.1, side.0)).collect();
    assert_eq!(pairs, theirs, "both sides say the same");
    let listed: Vec<(Uuid, Uuid)> = ground.all("SELECT follower, followee FROM following_by_place").await;
    assert_eq!((listed.len(), listed.into_iter().collect::<BTreeSet<_>>()), (pairs.len(), pairs.clone()));
    let listed: Vec<(Uuid, Uuid)> = ground.all("SELECT follower, followee FROM followers_by_place").await;
    assert_eq!((listed.len(), listed.into_iter().collect::<BTreeSet<_>>()), (pairs.len(), pairs.clone()));
    for user in users {
        let following = pairs.iter().filter(|pair| pair.0 == user.0).count();
        let followers = pairs.iter().filter(|pair| pair.1 == user.0).count();
        let list = Graph::following(store, *user, first(100)).await.unwrap().unwrap();
        assert_eq!((list.total as usize, list.items.len()), (following, following));
        let list = Graph::followers(store, *user, first(100)).await.unwrap().unwrap();
        assert_eq!((list.total as usize, list.items.len()), (followers, followers));
        assert_eq!(store.followees(*user).await.unwrap().len(), following);
    }
    let events: Vec<(String,)> = ground.all("SELECT event FROM events").await;
    let mut published: BTreeMap<(String, String, bool), i64> = BTreeMap::new();
    for (event,) in events {
        let event: serde_json::Value = serde_json::from_str(&event).unwrap();
        let text = |name: &str| event["data"][name].as_str().unwrap().to_owned();
        let is_made = event["type"].as_str().unwrap().ends_with("follow.created");
        *published.entry((text("followerId"), text("followeeId"), is_made)).or_default() += 1;
    }
    for ((from, to), tally) in told.lock().unwrap().iter() {
        let is_there = i64::from(pairs.contains(&(from.0, to.0)));
        let count =
            |is_made| published.get(&(from.to_string(), to.to_string(), is_made)).copied().unwrap_or(0);
        assert_eq!(count(true) - count(false), is_there, "events of {from} {to}: {tally:?}");
        assert!(count(true) >= tally.made && count(false) >= tally.ended, "{from} {to}: {tally:?}");
        assert!(count(true) - tally.made + count(false) - tally.ended <= tally.unsure, "{from} {to}: {tally:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follows_and_unfollows_of_the_same_pairs_at_once_leave_exact_counts() {
    let Some(ground) = Ground::lay().await else { return };
    let mut dice = Dice::thrown("follows_and_unfollows_of_the_same_pairs_at_once_leave_exact_counts");
    // Two stores on one keyspace: between processes nobody takes turns.
    let stores = [ground.open().await, ground.open().await];
    let users = ground.users(4).await;
    let told = Tallies::default();
    join_all((0..12).map(|number| act(&stores[number % 2], dice.split(), &users, 25, &told))).await;
    assert!(told.lock().unwrap().values().all(|tally| tally.unsure == 0));
    check(&ground, &stores[0], &users, &told).await;
    ground.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_leave_exact_counts() {
    let Some(ground) = Ground::lay().await else { return };
    let mut dice = Dice::thrown("lost_answers_leave_exact_counts");
    let proxy = FaultProxy::to(&ground.access.nodes[0]).await;
    let store = ground.open_behind(&proxy).await;
    let users = ground.users(4).await;
    let told = Tallies::default();
    let mut chance = dice.split();
    let acting = join_all((0..6).map(|_| act(&store, dice.split(), &users, 40, &told)));
    let failing = async {
        loop {
            let mode = match chance.below(4) {
                0 => Mode::LoseAnswers { cut_after: Duration::from_millis(20) },
                1 => Mode::Cut,
                _ => Mode::LoseOneAnswer,
            };
            proxy.set(mode).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            proxy.set(Mode::Pass).await;
            tokio::time::sleep(Duration::from_millis(300 + chance.below(500) as u64)).await;
        }
    };
    tokio::select! {
        _ = acting => {}
        () = failing => {}
    }
    proxy.set(Mode::Pass).await;
    assert!(proxy.answers_lost() > 0);
    ground.settled().await;
    let direct = ground.open().await;
    check(&ground, &direct, &users, &told).await;
    ground.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_follow_one_at_once() {
    let Some(ground) = Ground::lay().await else { return };
    let store = ground.open().await;
    let users = ground.users(301).await;
    let (star, crowd) = users.split_first().unwrap();
    let before = store.requests();
    let made = join_all(crowd.iter().map(|user| store.follow(a_follow(*user, *star), 10))).await;
    assert!(made.into_iter().all(|made| matches!(made, Ok(Followed::Done { .. }))));
    println!("{} requests a follow", (store.requests() - before) / 300);
    let followers = Graph::followers(&store, *star, first(1_000)).await.unwrap().unwrap();
    assert_eq!((followers.total, followers.items.len()), (300, 300));
    let changes: Vec<(i64,)> = ground.all("SELECT changes FROM followers LIMIT 1").await;
    assert!(changes[0].0 < 150, "those that wait go together: {changes:?}");
    ground.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_brings_the_newest_twenty_that_are_not_deleted() {
    let Some(ground) = Ground::lay().await else { return };
    let store = ground.open().await;
    let users = ground.users(2).await;
    let (reader, author) = (users[0], users[1]);
    let now = Timestamp::now().millis();
    let stamp = |minutes: i64| ((now - minutes * 60_000) * 1_000) << 8;
    // A post every two hours, every third one deleted.
    let mut living = Vec::new();
    for number in 0..60 {
        let seq = stamp(number * 120);
        let day = (now - number * 120 * 60_000) / 86_400_000;
        let deleted = if number % 3 == 0 { "1" } else { "null" };
        ground.run(&format!("INSERT INTO days_by_author (author, day) VALUES ({author}, {day})")).await;
        ground
            .run(&format!(
                "INSERT INTO posts_by_author (author, day, seq, post, created_at, deleted_at)
                 VALUES ({author}, {day}, {seq}, {}, {}, {deleted})",
                Uuid::new_v4(),
                now - number * 120 * 60_000,
            ))
            .await;
        if number % 3 != 0 {
            living.push(seq);
        }
    }
    let newest = stamp(0);
    ground
        .run(&format!(
            "INSERT INTO authors (id, version, newest_seq) VALUES ({author}, 60, {newest}) IF NOT EXISTS"
        ))
        .await;
    let made = store.follow(a_follow(reader, author), 10).await.unwrap();
    assert_eq!(made, Followed::Done { since: Seq(newest.unsigned_abs()) });
    let entries: Vec<(i64, i32)> = ground.all("SELECT seq, TTL(post) FROM home_timeline").await;
    let seqs: BTreeSet<i64> = entries.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, living[..20].iter().copied().collect());
    let month = 30 * 24 * 3600;
    assert!(entries.iter().all(|(_, left)| (month - 3 * 24 * 3600..=month).contains(left)));
    let sees: Vec<(Option<i64>,)> = ground.all("SELECT sees_from FROM following").await;
    assert!(sees.contains(&(Some(living[19]),)));
    ground.end().await;
}
