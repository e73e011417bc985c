//! The same histories while answers are lost, connections cut, and processes end half-way. What was not answered may
//! have been done; afterwards everything agrees all the same, and with every answer that was given.

use super::{Keyspace, RUNTIME, alone, on, opened};
use crate::harness::dice::Dice;
use crate::harness::engines::cql_nodes;
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::storage::fixture::{Open, TestStore};
use crate::storage::histories;
use crate::storage::history::History;
use crate::storage::observed::{Heard, Observed};
use futures_util::future::join_all;
use roost::model::shard::Shard;
use roost::storage::scylla::Store;
use std::collections::HashSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Those who act at once, and how often each does.
const ACTORS: usize = 10;
const ACTS: usize = 30;
/// The circuit stays open for thirty seconds.
const HEALING: Duration = Duration::from_secs(90);

/// A store whose only way to the cluster is the proxy.
pub(super) async fn behind(proxy: &FaultProxy, nodes: &[String], keyspace: Keyspace) -> TestStore {
    let mut keyspace = keyspace;
    // What is at the end of the way is made beforehand, so that no fault keeps it from being made.
    drop(keyspace.open(Arc::new(Observed::default())).await);
    keyspace.access.nodes = vec![proxy.address().to_string()];
    let node = nodes[0].to_socket_addrs().unwrap().next().unwrap();
    let named = [node, SocketAddr::new(node.ip(), proxy.address().port())];
    keyspace.access.translate = named.into_iter().map(|named| (named, proxy.address())).collect();
    alone(keyspace).await
}

/// Waits until the store works again.
pub(super) async fn healed(store: &TestStore) {
    let until = Instant::now() + HEALING;
    while let Err(error) = store.engine.check().await {
        assert!(Instant::now() < until, "it does not work again: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Does what a node does when it starts: what is left of a former run is finished, or void.
pub(super) async fn redrive(store: &TestStore) {
    let left: Vec<_> = store
        .engine
        .take_over(Shard::all().collect())
        .await
        .unwrap()
        .into_iter()
        .map(|(seq, _)| seq)
        .collect();
    store.spread(&left).await;
    store.engine.delivered(left).await.unwrap();
    assert_eq!(store.engine.take_over(Shard::all().collect()).await.unwrap(), []);
}

/// Loses an answer now and then, as the acts go on; `cuts` of the times it cuts every connection.
async fn disturb(proxy: &FaultProxy, history: &History, mut dice: Dice, cuts: usize) {
    let mut acted = history.acted.subscribe();
    let mut next = 0;
    while next < ACTORS * ACTS - 20 {
        next += 3 + dice.below(8);
        if acted.wait_for(|acted| *acted >= next).await.is_err() {
            return;
        }
        if dice.below(100) < cuts {
            proxy.set(Mode::Cut).await;
            proxy.set(Mode::Pass).await;
        } else {
            proxy.set(Mode::LoseOneAnswer).await;
        }
    }
}

async fn disturbed(what: &str, cuts: usize) {
    let Some(nodes) = cql_nodes() else { return };
    let mut dice = Dice::thrown(what);
    let proxy = FaultProxy::to(&nodes[0]).await;
    let store = behind(&proxy, &nodes, Keyspace::new(&nodes)).await;
    let history = History::begin(&store, 5).await;
    let acting = join_all((0..ACTORS).map(|_| history.act_by_chance(&store, dice.split(), ACTS)));
    let disturbing = disturb(&proxy, &history, dice.split(), cuts);
    tokio::join!(acting, disturbing);
    proxy.set(Mode::Pass).await;
    healed(&store).await;
    assert!(proxy.answers_lost() > 5, "only {} answers were lost", proxy.answers_lost());

    // What was taken is finished before the end; the next run does the rest.
    store.engine.close().await.unwrap();
    let again = again(&store).await;
    redrive(&again).await;
    histories::check(&again, &history).await;
    assert_no_trace_of_the_withdrawn(&store, &again, &history).await;
}

/// What an observer was told to forget is nowhere.
async fn assert_no_trace_of_the_withdrawn(store: &TestStore, again: &TestStore, history: &History) {
    let heard = store.observed.heard();
    let mut shown = HashSet::new();
    for user in &history.users {
        shown.extend(again.timeline(*user, 800).await);
        shown.extend(again.missed(*user, history.start).await.iter().map(|entry| entry.seq));
    }
    for heard in heard {
        assert!(!matches!(heard, Heard::Withdrawn(seq) if shown.contains(&seq)), "{heard:?} is there");
    }
}

/// Another instance with the same data, as the store of a test.
pub(super) async fn again(store: &TestStore) -> TestStore {
    let mut opened = Some(store.open_again().await);
    let once = std::sync::Mutex::new(opened.take());
    let open: Open = Box::new(move |_| {
        let opened = once.lock().unwrap().take().unwrap();
        Box::pin(std::future::ready(opened))
    });
    on(open).await
}

#[test]
fn lost_answers_double_nothing_and_lose_nothing() {
    RUNTIME.block_on(disturbed("lost_answers_double_nothing_and_lose_nothing", 0));
}

#[test]
fn cut_connections_double_nothing_and_lose_nothing() {
    RUNTIME.block_on(disturbed("cut_connections_double_nothing_and_lose_nothing", 30));
}

/// A process that ends in the midst of everything: all its tasks stop where they wait.
#[test]
fn what_a_crash_leaves_is_finished_or_void() {
    let Some(nodes) = cql_nodes() else { return };
    let mut dice = Dice::thrown("what_a_crash_leaves_is_finished_or_void");
    let keyspace = Arc::new(Keyspace::new(&nodes));
    let mut left: Option<Arc<History>> = None;
    for _ in 0..4 {
        let process = Runtime::new().unwrap();
        let (keyspace, former, mut dice) = (keyspace.clone(), left.clone(), dice.split());
        let ended = process.block_on(async {
            let store = Arc::new(store_of(&keyspace).await);
            redrive(&store).await;
            let history = match former {
                Some(history) => {
                    histories::check(&store, &history).await;
                    return history;
                }
                None => Arc::new(History::begin(&store, 5).await),
            };
            let mut acted = history.acted.subscribe();
            let mut actors = JoinSet::new();
            for _ in 0..ACTORS {
                let (history, store, dice) = (history.clone(), store.clone(), dice.split());
                actors.spawn(async move { history.act_by_chance(&store, dice, ACTS).await });
            }
            let enough = 20 + dice.below(ACTORS * ACTS - 40);
            acted.wait_for(|acted| *acted >= enough).await.unwrap();
            // Nobody hears any more what became of the calls that are under way.
            actors.shutdown().await;
            history
        });
        // Tasks are dropped at whatever they await.
        process.shutdown_background();
        left = if left.is_some() { None } else { Some(ended) };
    }
}

pub(super) async fn store_of(keyspace: &Arc<Keyspace>) -> TestStore {
    let keyspace = keyspace.clone();
    let open: Open = Box::new(move |observed| {
        let keyspace = keyspace.clone();
        Box::pin(async move {
            let store: Store = keyspace.open(observed).await;
            opened(store)
        })
    });
    on(open).await
}
