//! A node that does what whoever uses the cluster is to do, and a watch over several that no shard ever has two homes
//! that act.

use super::{boot, quick, short, within};
use roost_cluster::{
    Cluster, Event, Events, NodeName, Options, RedisOptions, Secret, Shard, StartError, State,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What a node began, and what it heard.
#[derive(Default)]
struct Told {
    begun: BTreeSet<Shard>,
    heard: Vec<String>,
}

/// A node of a cluster with its little application.
pub struct Member {
    pub cluster: Arc<Cluster>,
    told: Arc<Mutex<Told>>,
    /// Up to which view it goes on; at the next it takes its time to end what it loses.
    pub goes_on: watch::Sender<u64>,
    task: JoinHandle<()>,
}

/// How a node is started.
pub async fn options(name: &str, redis: RedisOptions) -> Options {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    let name = NodeName::parse(name).expect("a good name");
    let mut options = Options::new(name, "test", listener, &address, Secret::new(b"secret"), redis);
    options.timing = quick();
    options
}

impl Member {
    pub async fn start(name: &str, redis: RedisOptions) -> Self {
        Self::start_by(options(name, redis).await).await.expect("it starts")
    }

    pub async fn start_by(options: Options) -> Result<Self, StartError> {
        let (cluster, events) = Cluster::start(options).await?;
        Ok(Self::of(cluster, events))
    }

    pub fn of(cluster: Cluster, events: Events) -> Self {
        let (cluster, told) = (Arc::new(cluster), Arc::default());
        let (goes_on, gate) = watch::channel(u64::MAX);
        let task = tokio::spawn(live(Arc::downgrade(&cluster), events, Arc::clone(&told), gate));
        Self { cluster, told, goes_on, task }
    }

    pub fn name(&self) -> &NodeName {
        &self.cluster.me().name
    }

    /// Ends as a process that is killed.
    pub fn kill(self) {
        self.task.abort();
    }

    /// Shards for which it acts as home, now.
    pub fn acts_for(&self) -> BTreeSet<Shard> {
        // In the order in which whoever acts asks.
        let begun = self.told.lock().expect("nobody panicked").begun.clone();
        if self.cluster.may_act() { begun } else { BTreeSet::new() }
    }

    /// What it heard so far, in short.
    pub fn heard(&self) -> Vec<String> {
        self.told.lock().expect("nobody panicked").heard.clone()
    }

    /// Waits until it has heard this.
    pub async fn hears(&self, what: &str) {
        until(&format!("{} hears {what}", self.name()), || self.heard().iter().any(|heard| heard == what))
            .await;
    }

    /// The view's nodes, in short: `a b+ c-` is c draining, b joining.
    pub fn view(&self) -> String {
        let Some(view) = self.cluster.view() else { return "none".to_owned() };
        let member = |member: &roost_cluster::Member| match member.state {
            State::Up => member.node.name.to_string(),
            State::Joining => format!("{}+", member.node.name),
            State::Draining => format!("{}-", member.node.name),
        };
        view.members().iter().map(member).collect::<Vec<_>>().join(" ")
    }

    pub fn number(&self) -> u64 {
        self.cluster.view().map_or(0, |view| view.number())
    }
}

/// What whoever uses the cluster does.
async fn live(
    cluster: std::sync::Weak<Cluster>,
    mut events: Events,
    told: Arc<Mutex<Told>>,
    mut gate: watch::Receiver<u64>,
) {
    while let Some(event) = events.next().await {
        if let Event::View(view) = &event
            && gate.wait_for(|newest| view.number() <= *newest).await.is_err()
        {
            return;
        }
        let Some(cluster) = cluster.upgrade() else { return };
        let mut told = told.lock().expect("nobody panicked");
        told.heard.push(match &event {
            Event::View(view) => format!("view {}", view.number()),
            Event::AllConfirmed(number) => format!("all confirmed {number}"),
            event => short(event),
        });
        match event {
            Event::View(view) => {
                let me = cluster.me().clone();
                told.begun.retain(|shard| view.home(*shard).is_some_and(|home| home.node == me));
                cluster.confirm(view.number());
            }
            Event::AllConfirmed(number) => {
                let Some(view) = cluster.view().filter(|view| view.number() == number) else { continue };
                let mine = |shard: &Shard| view.home(*shard).is_some_and(|home| home.node == *cluster.me());
                told.begun = Shard::all().filter(mine).collect();
            }
            Event::Fenced => told.begun.clear(),
            Event::Unfenced => {
                if let Some(view) = cluster.view() {
                    cluster.confirm(view.number());
                }
            }
            Event::Call(call) => {
                let answer = [boot(cluster.me()).as_bytes(), b" heard ", &call.bytes[..]].concat();
                call.answer(&answer);
            }
            _ => {}
        }
    }
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until all of these nodes go by one view of all of them, and each shard has exactly one home that acts.
pub async fn settled(nodes: &[&Member]) {
    let names: Vec<String> = nodes.iter().map(|node| node.name().to_string()).collect();
    let views = names.join(" ");
    let mut last = String::new();
    let holds = || {
        let seen: Vec<String> = nodes
            .iter()
            .map(|node| format!("{} of {}: {}", node.name(), node.number(), node.view()))
            .collect();
        let acting: usize = nodes.iter().map(|node| node.acts_for().len()).sum();
        last = format!("{seen:?}, {acting} shards have a home");
        let is_same = nodes.iter().all(|node| node.view() == views && node.number() == nodes[0].number());
        is_same && acting == roost_cluster::SHARDS
    };
    let mut holds = holds;
    let waited = tokio::time::timeout(super::LONG, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let ended = waited.await;
    assert!(ended.is_ok(), "not settled: {last}");
}

/// A node, what it heard, and the newest of its views.
type Watched = (Arc<Cluster>, Arc<Mutex<Told>>, u64);

/// Looks, all the time, that no shard has two homes that act, and that no node's views go back.
#[derive(Default)]
pub struct Watch {
    nodes: Arc<Mutex<Vec<Watched>>>,
    tasks: JoinSet<()>,
}

impl Watch {
    pub fn over(nodes: &[&Member]) -> Self {
        let mut watch = Self::default();
        nodes.iter().for_each(|node| watch.add(node));
        let nodes = Arc::clone(&watch.nodes);
        watch.tasks.spawn(async move {
            loop {
                check(&mut nodes.lock().expect("nobody panicked"));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        watch
    }

    pub fn add(&mut self, node: &Member) {
        let one = (Arc::clone(&node.cluster), Arc::clone(&node.told), 0);
        self.nodes.lock().expect("nobody panicked").push(one);
    }

    /// Ends, and fails if something was seen.
    pub fn end(mut self) {
        if let Some(Err(error)) = self.tasks.try_join_next() {
            panic!("the watch saw something: {error}");
        }
    }
}

fn check(nodes: &mut [Watched]) {
    let mut taken = BTreeSet::new();
    for (cluster, told, newest) in nodes {
        if let Some(view) = cluster.view() {
            assert!(view.number() >= *newest, "the views of {} went back", cluster.me());
            *newest = view.number();
        }
        if cluster.may_act() {
            for shard in &told.lock().expect("nobody panicked").begun {
                assert!(taken.insert(*shard), "{shard:?} has two homes that act, one is {}", cluster.me());
            }
        }
    }
}
