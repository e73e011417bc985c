//! The store of a cluster, on the CQL servers that the environment names: the suite, and what only it promises.
//!
//! A keyspace takes a second to make, so most tests share one store and have users of their own in it; those
//! that look at a whole store have a keyspace of their own. Both run on one runtime, which outlives each test: a
//! store's own tasks are started by whoever calls it.

mod ages;
mod bounds;
mod claimed;
mod faults;
mod interrupted;
mod lockstep;
mod moving;
mod nodes;
mod rounds;
mod rows;
mod versions;
mod wide;

use super::fixture::{Ground, Open, Opened, TestStore};
use super::observed::Observed;
use super::{contract, model, step};
use crate::harness::engines::cql_nodes;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use roost::storage::EntryObserver;
use roost::storage::scylla::{Access, Nodes, Options, Replication, Store};
use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, LazyLock};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;
use uuid::Uuid;

contract!(super::run, super::run_alone);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// The store that most tests share.
static SHARED: OnceCell<Store> = OnceCell::const_new();

/// Runs a test with users of its own in the store that most share.
fn run<F: Future<Output = ()>>(test: impl FnOnce(TestStore) -> F) {
    let Some(nodes) = cql_nodes() else { return };
    RUNTIME.block_on(async {
        let store = SHARED.get_or_init(|| async {
            remove_old(&nodes).await;
            let keyspace = Keyspace::new(&nodes);
            let store = keyspace.open(Arc::new(Observed::default())).await;
            // It is dropped by the next run: no test knows that it is the last.
            std::mem::forget(keyspace);
            store
        });
        let store = store.await.clone();
        let open: Open = Box::new(move |_| Box::pin(ready(opened(store.clone()))));
        test(on(open).await).await;
    });
}

/// Runs a test in a store of its own.
fn run_alone<F: Future<Output = ()>>(test: impl FnOnce(TestStore) -> F) {
    let Some(nodes) = cql_nodes() else { return };
    RUNTIME.block_on(async { test(alone(Keyspace::new(&nodes)).await).await });
}

/// A store in that keyspace.
async fn alone(keyspace: Keyspace) -> TestStore {
    let keyspace = Arc::new(keyspace);
    let open: Open = Box::new(move |observed| {
        let keyspace = Arc::clone(&keyspace);
        Box::pin(async move { opened(keyspace.open(observed).await) })
    });
    on(open).await
}

async fn on(open: Open) -> TestStore {
    let tag = format!("-{}", &Uuid::new_v4().simple().to_string()[..10]);
    let folder = Arc::new(tempfile::tempdir().unwrap());
    TestStore::on(Ground { open, tag, is_ordered: false }, folder).await
}

fn opened(store: Store) -> Opened {
    let engine = Arc::new(store);
    Opened { fan_out: Some(engine.clone()), engine, backup: None }
}

/// A keyspace that is removed when it is dropped.
struct Keyspace {
    access: Access,
    /// The nodes, whatever way its stores go to them.
    nodes: Vec<String>,
    wide_author_followers: u64,
    node_count: Nodes,
}

impl Keyspace {
    fn new(nodes: &[String]) -> Self {
        let name = format!("{}{}", prefix(std::process::id()), &Uuid::new_v4().simple().to_string()[..10]);
        let access = Access {
            nodes: nodes.to_vec(),
            keyspace: name,
            replication: Replication::default(),
            user: None,
            ca: None,
            translate: HashMap::new(),
        };
        Self { access, nodes: nodes.to_vec(), wide_author_followers: 10_000, node_count: Nodes::One }
    }

    async fn open(&self, observer: Arc<dyn EntryObserver>) -> Store {
        let (access, wide_author_followers) = (self.access.clone(), self.wide_author_followers);
        let nodes = self.node_count;
        Store::open(Options { access, events: true, observer, wide_author_followers, nodes }).await.unwrap()
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        let (nodes, keyspace) = (self.nodes.clone(), self.access.keyspace.clone());
        RUNTIME.spawn(async move { remove(&session(&nodes).await, &keyspace).await });
    }
}

fn prefix(process: u32) -> String {
    format!("test_{process}_")
}

async fn session(nodes: &[String]) -> scylla::client::session::Session {
    scylla::client::session_builder::SessionBuilder::new().known_nodes(nodes).build().await.unwrap()
}

async fn remove(session: &scylla::client::session::Session, keyspace: &str) {
    // Another run may have been quicker.
    let _ = session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {keyspace}"), ()).await;
}

/// Removes what earlier runs left, whose processes are gone.
async fn remove_old(nodes: &[String]) {
    let session = session(nodes).await;
    let asked = session.query_unpaged("SELECT keyspace_name FROM system_schema.keyspaces", ()).await.unwrap();
    let rows = asked.into_rows_result().unwrap();
    for row in rows.rows::<(String,)>().unwrap() {
        let (name,) = row.unwrap();
        let process = name.strip_prefix("test_").and_then(|rest| rest.split('_').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !std::path::Path::new(&format!("/proc/{process}")).exists()) {
            remove(&session, &name).await;
        }
    }
}

/// One after the other: only an author's own have an order among each other here. Fewer cases than in memory.
#[test]
fn a_store_does_what_a_plain_model_does() {
    run(|store| async move {
        let seed = *Uuid::new_v4().as_bytes();
        let seed = [seed, seed].concat();
        println!("seed: {seed:?}");
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        for case in 0..12 {
            let steps = step::steps(60).new_tree(&mut runner).unwrap().current();
            println!("case {case}: {steps:?}");
            model::check(&store, &store.name(&format!("case{case}")), &steps).await;
        }
    });
}
