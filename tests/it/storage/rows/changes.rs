//! Follows and likes, made and ended by chance: afterwards the claims, what is made from them, the counts and the
//! events agree with each other and with the answers.

use super::{Ground, a_follow, first};
use crate::harness::dice::Dice;
use crate::harness::fault_proxy::{FaultProxy, Mode};
use futures_util::future::join_all;
use roost::model::id::{LikeId, PostId, UserId};
use roost::model::shard::Shard;
use roost::model::social::Like;
use roost::model::timestamp::Timestamp;
use roost::storage::scylla::{Access, Store};
use roost::storage::{Followed, Graph, Jobs, Liking, Posts, StorageError};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

/// Those who act, and what they like.
#[derive(Clone)]
struct World {
    users: Vec<UserId>,
    posts: Vec<PostId>,
}

/// What is made and ended: who follows or likes, and whom or what.
type Pair = (&'static str, Uuid, Uuid);

/// What the answers said of a pair; a change is unsure until it is answered.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    made: i64,
    ended: i64,
    unsure: i64,
}

type Told = Mutex<HashMap<Pair, Tally>>;

impl World {
    async fn on(ground: &Ground) -> Self {
        let users = ground.users(4).await;
        let posts = vec![ground.post(users[0]).await, ground.post(users[1]).await];
        Self { users, posts }
    }

    /// Changes by chance, so many.
    async fn change(&self, store: &Store, mut dice: Dice, changes: usize, told: &Told) {
        for _ in 0..changes {
            let (user, other) = (self.users[dice.below(4)], self.users[dice.below(4)]);
            let post = self.posts[dice.below(2)];
            let (is_follow, begins) = (dice.one_in(2), dice.one_in(2));
            if is_follow && user == other {
                continue;
            }
            let pair = if is_follow { ("follow", user.0, other.0) } else { ("like", user.0, post.0) };
            told.lock().unwrap().entry(pair).or_default().unsure += 1;
            let now = Timestamp::now();
            let is_changed = match (is_follow, begins) {
                (true, true) => {
                    let made = store.follow(a_follow(user, other), 10_000).await;
                    made.map(|made| matches!(made, Followed::Done { .. }))
                }
                (true, false) => store.unfollow(user, other, now).await.map(|ended| ended.is_some()),
                (false, true) => {
                    let like = Like { id: LikeId::make(), user, post, created_at: now };
                    store.like(like).await.map(|made| made == Liking::Done)
                }
                (false, false) => store.unlike(user, post, now).await,
            };
            let is_changed = match is_changed {
                Ok(is_changed) => is_changed,
                Err(StorageError::Unavailable(_)) => continue,
                Err(error) => panic!("{error}"),
            };
            let mut told = told.lock().unwrap();
            let tally = told.entry(pair).or_default();
            tally.unsure -= 1;
            *(if begins { &mut tally.made } else { &mut tally.ended }) += i64::from(is_changed);
        }
    }

    /// Holds all rows against each other and against the answers.
    async fn check(&self, ground: &Ground, store: &Store, told: &Told) {
        let follows = self.check_follows(ground, store).await;
        let likes = self.check_likes(ground).await;
        let pairs: BTreeSet<Pair> = follows
            .into_iter()
            .map(|(from, to)| ("follow", from, to))
            .chain(likes.into_iter().map(|(user, post)| ("like", user, post)))
            .collect();
        let published = published(ground).await;
        let count = |pair: Pair, begins| published.get(&(pair, begins)).copied().unwrap_or(0);
        for (pair, tally) in told.lock().unwrap().iter() {
            let (made, ended) = (count(*pair, true), count(*pair, false));
            assert_eq!(made - ended, i64::from(pairs.contains(pair)), "events of {pair:?}: {tally:?}");
            assert!(made >= tally.made && ended >= tally.ended, "{made} {ended} {pair:?}: {tally:?}");
            let more = made - tally.made + ended - tally.ended;
            assert!(more <= tally.unsure, "{made} {ended} {pair:?}: {tally:?}");
        }
        let told = told.lock().unwrap();
        let sum = |of: fn(&Tally) -> i64| told.values().map(of).sum::<i64>();
        println!(
            "{} made, {} ended, {} unsure; {} events",
            sum(|tally| tally.made),
            sum(|tally| tally.ended),
            sum(|tally| tally.unsure),
            published.values().sum::<i64>()
        );
        assert!(sum(|tally| tally.made) > 0);
    }

    async fn check_follows(&self, ground: &Ground, store: &Store) -> BTreeSet<(Uuid, Uuid)> {
        let claims: Vec<(Uuid, Uuid, Option<i8>)> =
            ground.all("SELECT follower, followee, state FROM following").await;
        let pairs = living(claims);
        let sides: Vec<(Uuid, Uuid, Option<i8>)> =
            ground.all("SELECT follower, followee, state FROM followers").await;
        assert_eq!(living(sides), pairs, "both sides say the same");
        for list in ["following_by_place", "followers_by_place"] {
            let listed: Vec<(Uuid, Uuid)> =
                ground.all(&format!("SELECT follower, followee FROM {list}")).await;
            assert_eq!(listed.len(), pairs.len(), "{list}: {listed:?} {pairs:?}");
            assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), pairs, "{list}");
        }
        for user in &self.users {
            let following = pairs.iter().filter(|pair| pair.0 == user.0).count();
            let followers = pairs.iter().filter(|pair| pair.1 == user.0).count();
            let list = Graph::following(store, *user, first(100)).await.unwrap().unwrap();
            assert_eq!((list.total as usize, list.items.len()), (following, following));
            let list = Graph::followers(store, *user, first(100)).await.unwrap().unwrap();
            assert_eq!((list.total as usize, list.items.len()), (followers, followers));
            assert_eq!(store.followees(*user).await.unwrap().len(), following);
        }
        pairs
    }

    async fn check_likes(&self, ground: &Ground) -> BTreeSet<(Uuid, Uuid)> {
        let claims: Vec<(Uuid, Uuid, Option<i8>)> = ground.all("SELECT user, post, state FROM likes").await;
        let pairs = living(claims);
        let shown: Vec<(Uuid, Option<BTreeMap<i32, i64>>)> = ground.all("SELECT id, likes FROM posts").await;
        for (post, likes) in shown {
            let shown: i64 = likes.unwrap_or_default().values().sum();
            assert_eq!(shown, pairs.iter().filter(|pair| pair.1 == post).count() as i64, "likes of {post}");
        }
        pairs
    }
}

/// Of claims those that say that it is so.
fn living(claims: Vec<(Uuid, Uuid, Option<i8>)>) -> BTreeSet<(Uuid, Uuid)> {
    claims.into_iter().filter(|(.., state)| *state == Some(1)).map(|(of, to, _)| (of, to)).collect()
}

/// How many events tell that a pair was made, or ended.
async fn published(ground: &Ground) -> HashMap<(Pair, bool), i64> {
    let mut counts = HashMap::new();
    let events: Vec<(Option<String>,)> = ground.all("SELECT event FROM events").await;
    for (event,) in events {
        let event: serde_json::Value = serde_json::from_str(&event.unwrap()).unwrap();
        let id = |name: &str| Uuid::parse_str(event["data"][name].as_str().unwrap()).unwrap();
        let kind = event["type"].as_str().unwrap();
        let pair = if kind.contains("follow") {
            ("follow", id("followerId"), id("followeeId"))
        } else {
            ("like", id("userId"), id("postId"))
        };
        *counts.entry((pair, kind.ends_with("created"))).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_the_same_pairs_at_once_leave_exact_counts() {
    let Some(ground) = Ground::lay().await else { return };
    let mut dice = Dice::thrown("changes_of_the_same_pairs_at_once_leave_exact_counts");
    // Two stores on one keyspace: between processes nobody takes turns.
    let stores = [ground.open().await, ground.open().await];
    let (world, told) = (World::on(&ground).await, Told::default());
    join_all((0..12).map(|number| world.change(&stores[number % 2], dice.split(), 30, &told))).await;
    assert!(told.lock().unwrap().values().all(|tally| tally.unsure == 0));
    world.check(&ground, &stores[0], &told).await;
    ground.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_leave_exact_counts() {
    let Some(ground) = Ground::lay().await else { return };
    let mut dice = Dice::thrown("lost_answers_leave_exact_counts");
    let proxy = FaultProxy::to(&ground.access.nodes[0]).await;
    let store = ground.open_behind(&proxy).await;
    let (world, told) = (World::on(&ground).await, Told::default());
    let mut chance = dice.split();
    let changing = join_all((0..6).map(|_| world.change(&store, dice.split(), 60, &told)));
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
            tokio::time::sleep(Duration::from_millis(200 + chance.below(600) as u64)).await;
        }
    };
    tokio::select! {
        _ = changing => {}
        () = failing => {}
    }
    proxy.set(Mode::Pass).await;
    assert!(proxy.answers_lost() > 0);
    ground.settled().await;
    world.check(&ground, &ground.open().await, &told).await;
    ground.end().await;
}

/// A run of a store that ends after so long, wherever it is.
fn short_run(access: Access, world: World, mut dice: Dice, told: Arc<Told>) {
    let run = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let after = Duration::from_millis(200 + dice.below(400) as u64);
        runtime.block_on(async {
            let store = super::open(access).await;
            // As a node does before anything else.
            store.take_over(Shard::all().collect()).await.unwrap();
            let changing = join_all((0..8).map(|_| world.change(&store, dice.split(), 1_000, &told)));
            assert!(tokio::time::timeout(after, changing).await.is_err(), "it ends in the middle");
        });
        runtime.shutdown_background();
    });
    run.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_left_half_way_the_next_one_finishes() {
    let Some(ground) = Ground::lay().await else { return };
    let mut dice = Dice::thrown("what_a_run_left_half_way_the_next_one_finishes");
    let (world, told) = (World::on(&ground).await, Arc::new(Told::default()));
    for _ in 0..6 {
        let (access, world, dice, told) = (ground.access.clone(), world.clone(), dice.split(), told.clone());
        tokio::task::spawn_blocking(|| short_run(access, world, dice, told)).await.unwrap();
    }
    let store = ground.open().await;
    store.take_over(Shard::all().collect()).await.unwrap();
    ground.settled().await;
    world.check(&ground, &store, &told).await;
    ground.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_at_once_keep_every_claim_list_count_and_event() {
    let Some(ground) = Ground::lay().await else { return };
    let mut dice = Dice::thrown("two_nodes_at_once_keep_every_claim_list_count_and_event");
    let (world, told) = (World::on(&ground).await, Told::default());
    let nodes = [ground.open_one_of_many().await, ground.open_one_of_many().await];
    let changing = nodes.iter().flat_map(|node| [node; 3]);
    join_all(changing.map(|node| world.change(node, dice.split(), 25, &told))).await;
    ground.settled().await;
    world.check(&ground, &nodes[0], &told).await;
    ground.end().await;
}
