//! Several nodes of one cluster: real processes on loopback, a Redis of their own and a keyspace of their own, and on
//! every way between any two of them a proxy that can fail: each directed link, and each node's to Redis and to CQL.
//!
//! A test breaks what it likes; [`TestCluster::heal`] has everything there again, [`TestCluster::is_whole`] waits until
//! the nodes are one cluster. Dropped, everything that it started ends.

mod clock;
mod links;

use super::child::RealServer;
use super::engines::cql_nodes;
use super::engines::redis_server::RedisServer;
use super::fault_proxy::{FaultProxy, Mode};
use super::ground::Keyspace;
use super::person::Person;
use super::rest::{Rest, text};
use super::{until, until_some};
use clock::Clock;
use links::Links;
use rustix::process::Signal;
use serde_json::Value;
use std::env;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// What nodes are called.
pub const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// What all nodes of a cluster know.
const SECRET: &str = "nobody else knows these 32 bytes";
/// The shards that all homes together have.
const SHARDS: u64 = 256;
/// What all nodes sign tokens by.
const KEY: &str = "they all sign their tokens by it";
/// A node whose clock is off by so much does not start.
const SKEW_SECONDS: i32 = 3;

/// Nodes and what they stand on. Nodes are named by their number here.
pub struct TestCluster {
    nodes: Vec<Node>,
    links: Links,
    pub redis: RedisServer,
    /// Goes last: nobody uses it any more.
    keyspace: Keyspace,
}

/// One node, and its ways out.
pub struct Node {
    pub server: RealServer,
    to_redis: FaultProxy,
    to_cql: FaultProxy,
    clock: Option<Clock>,
    condition: Condition,
}

/// What a test has made of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Runs,
    Stopped,
    Leaves,
    Gone,
}

impl TestCluster {
    /// So many nodes that are one cluster; none where there is no engine for them.
    #[track_caller]
    pub fn start(count: usize) -> impl Future<Output = Option<Self>> {
        let prepared = Self::prepare(count);
        async move {
            let mut cluster = prepared.await?;
            cluster.spawn_all();
            cluster.is_whole().await;
            Some(cluster)
        }
    }

    /// Everything but the processes.
    #[track_caller]
    pub fn prepare(count: usize) -> impl Future<Output = Option<Self>> {
        let (nodes, redis) = (cql_nodes(), RedisServer::start());
        async move {
            let (nodes, redis) = (nodes?, redis.await?);
            let keyspace = Keyspace::on(nodes);
            let links = Links::between(count).await;
            let mut all = Vec::new();
            for number in 0..count {
                all.push(Node::new(number, &links, &redis, &keyspace).await);
            }
            // Made once, not by all of them at the same time.
            let made = all[0].server.runs(&["schema", "apply"]);
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            Some(Self { nodes: all, links, redis, keyspace })
        }
    }

    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    pub fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    /// The ways to all nodes, in their order; each stays right when its node starts again.
    pub fn doors(&self) -> Vec<Rest> {
        self.nodes.iter().map(|node| Rest::clone(&node.server)).collect()
    }

    /// Changes a setting of every node, for its next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.nodes.iter_mut().for_each(|node| node.server.set(name, value));
    }

    /// Changes a setting of one.
    pub fn set_on(&mut self, node: usize, name: &str, value: &str) {
        self.nodes[node].server.set(name, value);
    }

    /// Starts all that do not run, at the same time, and waits until they say where they listen.
    pub fn spawn_all(&mut self) {
        // The proxies of this runtime go on meanwhile.
        tokio::task::block_in_place(|| {
            thread::scope(|threads| {
                for node in self.nodes.iter_mut().filter(|node| node.condition == Condition::Gone) {
                    threads.spawn(|| node.starts());
                }
            });
        });
    }

    /// Starts one that does not run.
    pub fn restart(&mut self, node: usize) {
        tokio::task::block_in_place(|| self.nodes[node].starts());
    }

    /// As by kill -9.
    pub fn kill9(&mut self, node: usize) {
        self.nodes[node].dies();
    }

    /// The process hangs, as by SIGSTOP.
    pub fn stop(&mut self, node: usize) {
        self.nodes[node].hangs();
    }

    /// It goes on.
    pub fn cont(&mut self, node: usize) {
        self.nodes[node].goes_on();
    }

    /// An orderly end, as by SIGTERM; answers whether it was one.
    pub async fn terminate(&mut self, node: usize) -> bool {
        self.asks_to_leave(node);
        self.nodes[node].has_left().await
    }

    /// Sends SIGTERM, if it runs, and waits for nothing.
    pub fn asks_to_leave(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        if node.condition == Condition::Runs {
            node.server.signal(Signal::TERM);
            node.condition = Condition::Leaves;
        }
    }

    /// One that is gone, or leaves, starts again, if it can reach what it needs for that and its clock is not so wrong
    /// that it must refuse.
    pub async fn comes_back(&mut self, node: usize) {
        let reaches_redis = self.redis.is_there() && self.nodes[node].to_redis.mode() == Mode::Pass;
        let is_right = |clock: &Clock| clock.seconds().abs() < SKEW_SECONDS;
        let may_start = reaches_redis && self.nodes[node].clock.as_ref().is_none_or(is_right);
        if self.nodes[node].condition == Condition::Leaves {
            self.nodes[node].has_left().await;
        }
        if self.nodes[node].condition == Condition::Gone && may_start {
            self.restart(node);
        }
    }

    /// One that was alone hears the others and Redis again.
    pub async fn joins_again(&self, node: usize) {
        for other in (0..self.count()).filter(|other| *other != node) {
            self.mend_link(node, other).await;
        }
        self.redis_of(node, Mode::Pass).await;
    }

    /// Neither hears the other any more; connections are reset and refused.
    pub async fn cut(&self, one: usize, other: usize) {
        self.links.set_both(one, other, Mode::Cut).await;
    }

    /// What `from` says does not arrive at `to`; what `to` says does arrive.
    pub async fn stall(&self, from: usize, to: usize) {
        self.links.set(from, to, Mode::StallRequests).await;
        self.links.set(to, from, Mode::StallAnswers).await;
    }

    /// Neither hears the other any more; connections stay.
    pub async fn stall_both(&self, one: usize, other: usize) {
        self.links.set_both(one, other, Mode::Stall).await;
    }

    /// A node that no other hears, and that does not reach Redis; connections stay.
    pub async fn isolate(&self, node: usize) {
        for other in (0..self.count()).filter(|other| *other != node) {
            self.stall_both(node, other).await;
        }
        self.redis_of(node, Mode::Stall).await;
    }

    /// Everything between them comes so much later.
    pub async fn delay(&self, one: usize, other: usize, by: Duration) {
        self.links.set_both(one, other, Mode::Delay(by)).await;
    }

    /// The link between them is as it should be.
    pub async fn mend_link(&self, one: usize, other: usize) {
        self.links.set_both(one, other, Mode::Pass).await;
    }

    /// What a node's way to Redis does.
    pub async fn redis_of(&self, node: usize, mode: Mode) {
        self.nodes[node].to_redis.set(mode).await;
    }

    /// What a node's way to the CQL servers does.
    pub async fn cql_of(&self, node: usize, mode: Mode) {
        self.nodes[node].to_cql.set(mode).await;
    }

    /// Gives all nodes clocks that can be set, from their next start on; false where this machine has none.
    pub fn give_clocks(&mut self) -> bool {
        if !clock::can_be_set() {
            return false;
        }
        for node in &mut self.nodes {
            let clock = Clock::in_folder(node.server.folder());
            clock.variables().iter().for_each(|(name, value)| node.server.set(name, value));
            node.clock = Some(clock);
        }
        true
    }

    /// A node's clock is off by so many seconds from here on.
    pub fn clock_off(&self, node: usize, seconds: i32) {
        self.nodes[node].clock.as_ref().expect("it was given one").set(seconds);
    }

    /// Every way is open, every clock right, every process there.
    pub async fn heal(&mut self) {
        self.redis.goes_on().await;
        self.links.heal().await;
        for node in &mut self.nodes {
            node.to_redis.set(Mode::Pass).await;
            node.to_cql.set(Mode::Pass).await;
            if let Some(clock) = &node.clock {
                clock.set(0);
            }
            if node.condition == Condition::Stopped {
                node.goes_on();
            }
            if node.condition == Condition::Leaves {
                node.has_left().await;
            }
            // Some end by themselves, as they must: one whose name another has, or whose clock is wrong.
            if node.condition == Condition::Runs && node.server.has_ended() {
                node.condition = Condition::Gone;
            }
        }
        self.spawn_all();
    }

    /// All nodes that run are ready, of one view, and home to all shards between them.
    pub async fn is_whole(&self) {
        let mut last = Vec::new();
        let whole = until_some(async || {
            last = self.reports().await;
            let running = self.nodes.iter().filter(|node| node.condition == Condition::Runs).count();
            is_whole(&last, running).then_some(())
        });
        if whole.await.is_none() {
            for (node, name) in self.nodes.iter().zip(NAMES) {
                eprintln!("the last of {name}:");
                node.server.last_words().iter().for_each(|line| eprintln!("  {line}"));
            }
            panic!("the nodes are not one cluster: {last:?}");
        }
    }

    /// What every ready node says of its place.
    async fn reports(&self) -> Vec<Value> {
        let mut reports = Vec::new();
        for node in self.nodes.iter().filter(|node| node.condition == Condition::Runs) {
            let patience = Duration::from_secs(2);
            let asking = async {
                let health = node.server.get("/health").attempt().await.ok()?;
                let cluster = health.json["cluster"].clone();
                // Asked once it may be: a node tells of every request that it did not serve.
                let may_be = cluster["homes"].as_u64().is_some_and(|homes| homes > 0);
                let ready = may_be && node.server.get("/health/ready").attempt().await.ok()?.status == 200;
                ready.then_some(cluster)
            };
            reports.extend(tokio::time::timeout(patience, asking).await.ok().flatten());
        }
        reports
    }

    /// The view's number, as a node knows it.
    pub async fn view(&self, node: usize) -> u64 {
        let health = self.nodes[node].server.get("/health").await.expect(200);
        health["cluster"]["view"].as_u64().unwrap_or_else(|| panic!("no view in {health}"))
    }

    /// The first node has a newer view: one was left out.
    pub async fn has_a_view_after(&self, view: u64) {
        until("the others go on without it", async || (self.view(0).await > view).then_some(())).await;
    }

    /// Where a node listens for the others.
    pub fn link_address(&self, node: usize) -> String {
        self.links.address(node)
    }

    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// One more on the same CQL servers.
    pub fn another_keyspace(&self) -> Keyspace {
        Keyspace::on(self.keyspace.nodes().to_vec())
    }

    /// One that has everything of this cluster's nodes, on this keyspace, and has not started.
    pub fn newcomer(&self, name: &str, keyspace: &Keyspace) -> RealServer {
        let cql = keyspace.nodes().join(",");
        prepare(name, "127.0.0.1:0", &self.redis.url(), &cql, keyspace)
    }

    /// Has the logs of all nodes in a folder, for who looks for what went wrong.
    pub fn keep_logs(&self, folder: &Path, prefix: &str) {
        for (node, name) in self.nodes.iter().zip(NAMES) {
            fs::create_dir_all(folder).expect("a folder");
            fs::write(folder.join(format!("{prefix}-{name}.log")), node.server.log()).expect("a file");
        }
    }

    /// What the first node's log says of views with higher numbers than this.
    pub fn views_since(&self, number: u64) -> Vec<String> {
        let log = self.nodes[0].server.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let views = lines.filter(|line| line["nodes"].is_string() && line["number"].as_u64() > Some(number));
        views.map(|line| text(&line, "message")).collect()
    }

    /// Somebody new, who is at that node.
    pub async fn person(&self, node: usize, name: &str) -> Person {
        self.nodes[node].server.person(name).await
    }
}

/// Whether so many nodes say the same view, and are home to everything.
fn is_whole(reports: &[Value], running: usize) -> bool {
    let views: Vec<_> = reports.iter().filter_map(|report| report["view"].as_u64()).collect();
    let homes: u64 = reports.iter().filter_map(|report| report["homes"].as_u64()).sum();
    views.len() == running && views.iter().all(|view| *view == views[0]) && homes == SHARDS
}

/// A node that is not started.
fn prepare(name: &str, listen: &str, redis: &str, cql: &str, keyspace: &Keyspace) -> RealServer {
    RealServer::prepare(&[
        ("ROOST_NODE_NAME", name),
        ("ROOST_CLUSTER_LISTEN", listen),
        ("ROOST_CLUSTER_SECRET", SECRET),
        ("ROOST_CLUSTER_LEASE_SECONDS", "2"),
        ("ROOST_JWT_SECRET", KEY),
        ("ROOST_REDIS_URL", redis),
        ("ROOST_SCYLLA_NODES", cql),
        ("ROOST_SCYLLA_KEYSPACE", keyspace.name()),
        // A client that hears no ping for long goes elsewhere.
        ("ROOST_HEARTBEAT_SECONDS", "2"),
        ("ROOST_DRAIN_SECONDS", "1"),
    ])
}

impl Node {
    async fn new(number: usize, links: &Links, redis: &RedisServer, keyspace: &Keyspace) -> Self {
        let to_redis = FaultProxy::to(&redis.address()).await;
        let to_cql = FaultProxy::to(&keyspace.nodes()[0]).await;
        let (redis, cql) = (format!("redis://{}", to_redis.address()), to_cql.address().to_string());
        let mut server = prepare(NAMES[number], &links.address(number), &redis, &cql, keyspace);
        server.set("ROOST_CLUSTER_ROUTES", &links.routes_of(number));
        Self { server, to_redis, to_cql, clock: None, condition: Condition::Gone }
    }

    fn starts(&mut self) {
        self.server.spawn();
        self.condition = Condition::Runs;
    }

    fn dies(&mut self) {
        if self.condition != Condition::Gone {
            let pid = self.server.pid();
            self.server.kill();
            clock::forget(pid);
            self.condition = Condition::Gone;
        }
    }

    async fn has_left(&mut self) -> bool {
        let ended = self.server.ended().await;
        self.condition = Condition::Gone;
        ended.success()
    }

    fn hangs(&mut self) {
        if self.condition == Condition::Runs {
            self.server.signal(Signal::STOP);
            self.condition = Condition::Stopped;
        }
    }

    fn goes_on(&mut self) {
        if self.condition == Condition::Stopped {
            self.server.signal(Signal::CONT);
            self.condition = Condition::Runs;
        }
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if let Some(folder) = env::var_os("ROOST_TEST_LOGS").filter(|_| thread::panicking()) {
            let test = thread::current().name().unwrap_or("test").replace("::", "-");
            self.keep_logs(Path::new(&folder), &test);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.dies();
    }
}
