//! The cluster as whoever uses it sees it: one way for one node alone and for one of many.

use crate::event::{Event, Events, Item};
use crate::link::{CallError, LinkOptions, LinkState, Links, SendError, Tls, WINDOW};
use crate::member::keeper::{Keeper, RedisState, Renewal};
use crate::member::redis::{RedisOptions, Store, StoreError};
use crate::node::{Boot, Node, NodeName};
use crate::ring::Shard;
use crate::secret::{NoRandom, Secret, random};
use crate::timing::Timing;
use crate::view::{Member, State, View, ViewRecord};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// What a node of many is made by.
#[derive(Debug)]
pub struct Options {
    /// What this node is called.
    pub name: NodeName,
    /// What the cluster is called; nodes of another, and another's Redis, are refused.
    pub cluster: String,
    /// Where links are taken.
    pub listener: TcpListener,
    /// Where other nodes reach that, `host:port`.
    pub advertise: String,
    /// What all nodes of the cluster know.
    pub secret: Secret,
    /// Mutual TLS for links, beside the secret.
    pub tls: Option<Tls>,
    /// Where leases and views are kept.
    pub redis: RedisOptions,
    /// The times.
    pub timing: Timing,
    /// The bytes that may be on their way to one node and not acknowledged.
    pub window: usize,
    /// Where nodes are reached from here, in place of what they advertise.
    pub routes: BTreeMap<NodeName, String>,
}

impl Options {
    /// Without TLS, with the default times and window.
    #[must_use]
    pub fn new(
        name: NodeName,
        cluster: &str,
        listener: TcpListener,
        advertise: &str,
        secret: Secret,
        redis: RedisOptions,
    ) -> Self {
        Self {
            name,
            cluster: cluster.to_owned(),
            listener,
            advertise: advertise.to_owned(),
            secret,
            tls: None,
            redis,
            timing: Timing::default(),
            window: WINDOW,
            routes: BTreeMap::new(),
        }
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another has its name, and renews its lease.
    #[error("the name {} is taken: a node at {address} has it (boot {})", .node.name, .node.boot)]
    NameTaken {
        /// Which.
        node: Node,
        /// Where it is.
        address: String,
    },
    /// Redis' time is too far from ours.
    #[error("this machine's clock is {} ms from Redis', {} ms are allowed", .0.as_millis(), .1.as_millis())]
    Skew(Duration, Duration),
    /// It is another cluster's Redis, or holds what is none of ours, or its address makes no sense.
    #[error(transparent)]
    Redis(#[from] StoreError),
    /// The times would let two nodes be home to one shard.
    #[error("the cluster's times are not safe: a fence must be at most silence and shorter than a lease")]
    Timing,
    /// No port.
    #[error("the cluster port cannot be used: {0}")]
    Listen(#[from] io::Error),
    /// No random numbers.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

/// A node of the cluster, as another sees it.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// It.
    pub node: Node,
    /// What the view says of it; `None` where it is not in the view.
    pub state: Option<State>,
    /// Where it is reached.
    pub address: String,
    /// Its link; `None` for this node itself.
    pub link: Option<LinkState>,
}

/// One node of the cluster. Dropped without `stop`, it ends as if the process had been killed.
#[derive(Debug)]
pub struct Cluster(Mode);

enum Mode {
    Alone(Alone),
    Many { keeper: Arc<Keeper>, tasks: Mutex<JoinSet<()>> },
}

struct Alone {
    me: Node,
    state: Mutex<AloneState>,
    queue: mpsc::UnboundedSender<Item>,
}

struct AloneState {
    view: View,
    confirmed: u64,
}

impl Cluster {
    /// A node that is alone, without Redis and without links: home to all. It may act once it has confirmed its view,
    /// for ever.
    pub fn alone(name: NodeName) -> Result<(Self, Events), NoRandom> {
        let me = Node { name, boot: Boot::new(random()?) };
        let (queue, queued) = mpsc::unbounded_channel();
        let view = view_of_one(&me, 1, State::Up);
        let alone = Alone { me, state: Mutex::new(AloneState { view: view.clone(), confirmed: 0 }), queue };
        alone.tell(Event::View(view));
        Ok((Self(Mode::Alone(alone)), Events::new(queued)))
    }

    /// A node of many. Waits until its name is its own: for the lease of a former start that died to run out, at most.
    /// Where Redis does not answer it starts all the same, and has no view until it does.
    pub async fn start(options: Options) -> Result<(Self, Events), StartError> {
        Self::start_by(options, crate::member::keeper::wall).await
    }

    pub(crate) async fn start_by(
        options: Options,
        wall: fn() -> Duration,
    ) -> Result<(Self, Events), StartError> {
        let timing = options.timing;
        if !timing.is_safe() {
            return Err(StartError::Timing);
        }
        let me = Node { name: options.name, boot: Boot::new(random()?) };
        let store = Store::new(&options.redis, &options.cluster, &me, &timing)?;
        let link_options = LinkOptions {
            me: me.clone(),
            cluster: options.cluster.clone(),
            secret: options.secret,
            tls: options.tls,
            window: options.window,
            routes: options.routes,
            timing,
        };
        let (links, events) = Links::start(link_options, options.listener)?;
        let links = Arc::new(links);
        let mut keeper = Keeper::new(me, options.advertise, options.cluster, timing, links, store);
        keeper.wall = wall;
        claim(&keeper).await?;
        let keeper = Arc::new(keeper);
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&keeper).keep_lease());
        tasks.spawn(Arc::clone(&keeper).conclude());
        Ok((Self(Mode::Many { keeper, tasks: Mutex::new(tasks) }), events))
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> &Node {
        match &self.0 {
            Mode::Alone(alone) => &alone.me,
            Mode::Many { keeper, .. } => &keeper.me,
        }
    }

    /// The view that is gone by; `None` until there is one.
    #[must_use]
    pub fn view(&self) -> Option<View> {
        match &self.0 {
            Mode::Alone(alone) => Some(alone.state().view.clone()),
            Mode::Many { keeper, .. } => keeper.links.view(),
        }
    }

    /// Where a shard is at home, by the view; `None` while no node is up.
    #[must_use]
    pub fn home(&self, shard: Shard) -> Option<Node> {
        self.view()?.home(shard).map(|member| member.node.clone())
    }

    /// Whether a shard is at home here, by the view. That alone is no leave to act: see `may_act`, and for a shard that
    /// was just gained `Event::AllConfirmed`.
    #[must_use]
    pub fn is_home(&self, shard: Shard) -> bool {
        self.home(shard).is_some_and(|node| node == *self.me())
    }

    /// Whether this node may act as home now. To be asked when something is taken, and again before it is answered.
    #[must_use]
    pub fn may_act(&self) -> bool {
        match &self.0 {
            Mode::Alone(alone) => alone.state().confirmed > 0,
            Mode::Many { keeper, .. } => keeper.permit.may_act(),
        }
    }

    /// Says that everything that this node loses by the view of this number has ended here. Whether that is the newest
    /// view; where it is not, the newer one is among the events.
    pub fn confirm(&self, number: u64) -> bool {
        match &self.0 {
            Mode::Alone(alone) => alone.confirm(number),
            Mode::Many { keeper, .. } => keeper.permit.confirm(number),
        }
    }

    /// Sends a frame; see `Links::send`.
    pub fn send(&self, to: &NodeName, bytes: &[u8]) -> Result<(), SendError> {
        match &self.0 {
            Mode::Alone(_) => Err(SendError::NotInView),
            Mode::Many { keeper, .. } => keeper.links.send(to, bytes),
        }
    }

    /// Waits until a frame of this length would be taken; see `Links::room`.
    pub async fn room(&self, to: &NodeName, length: usize) -> Result<(), SendError> {
        match &self.0 {
            Mode::Alone(_) => Err(SendError::NotInView),
            Mode::Many { keeper, .. } => keeper.links.room(to, length).await,
        }
    }

    /// Asks a node something; see `Links::call`.
    pub async fn call(&self, to: &NodeName, bytes: &[u8], deadline: Duration) -> Result<Bytes, CallError> {
        match &self.0 {
            Mode::Alone(_) => Err(SendError::NotInView.into()),
            Mode::Many { keeper, .. } => keeper.links.call(to, bytes, deadline).await,
        }
    }

    /// Gives up this node's homes, by a view; it stays in the cluster until `stop`.
    pub fn drain(&self) {
        self.set_drains(true);
    }

    /// Takes homes again.
    pub fn undrain(&self) {
        self.set_drains(false);
    }

    fn set_drains(&self, drains: bool) {
        match &self.0 {
            Mode::Alone(alone) => alone.drain(drains),
            Mode::Many { keeper, .. } => keeper.drain(drains),
        }
    }

    /// How Redis is; `None` for a node that is alone.
    #[must_use]
    pub fn redis(&self) -> Option<RedisState> {
        match &self.0 {
            Mode::Alone(_) => None,
            Mode::Many { keeper, .. } => Some(keeper.own().redis.clone()),
        }
    }

    /// All nodes that are known, this one too, in order of their names.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeState> {
        let view = self.view();
        let me = self.me();
        let member = |node: &Node| view.as_ref().and_then(|view| view.member_of(node).cloned());
        let (address, links) = match &self.0 {
            Mode::Alone(_) => (String::new(), Vec::new()),
            Mode::Many { keeper, .. } => (keeper.address.clone(), keeper.links.states()),
        };
        let own = NodeState { node: me.clone(), state: member(me).map(|m| m.state), address, link: None };
        let other = |link: LinkState| NodeState {
            state: member(&link.node).map(|member| member.state),
            node: link.node.clone(),
            address: link.address.clone(),
            link: Some(link),
        };
        let mut nodes: Vec<NodeState> = links.into_iter().map(other).chain([own]).collect();
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        nodes
    }

    /// Ends: gives its lease back and says so to the others. `drain` first, where homes are to move in good order.
    pub async fn stop(&self) {
        match &self.0 {
            // Whoever uses it ends by itself.
            Mode::Alone(_) => {}
            Mode::Many { keeper, tasks } => {
                tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
                keeper.permit.end();
                if let Err(error) = keeper.store.release().await {
                    tracing::warn!(%error, "the lease could not be given back; it runs out: {error}");
                }
                keeper.links.stop().await;
            }
        }
    }
}

/// Takes the node's name, and looks whether this is a cluster that it may join.
async fn claim(keeper: &Keeper) -> Result<(), StartError> {
    let timing = keeper.timing;
    if !keeper.store.connected(timing.command).await {
        tracing::warn!("Redis does not answer: this node is in no view until it does");
        return Ok(());
    }
    match keeper.look().await {
        Ok(_) => {}
        Err(StoreError::Away(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let (is_skewed, skew) = {
        let own = keeper.own();
        (own.is_skewed, own.skew)
    };
    if is_skewed {
        return Err(StartError::Skew(skew, timing.skew));
    }
    let by = Instant::now() + timing.lease + timing.look;
    let mut was_told = false;
    loop {
        match keeper.renew().await {
            Renewal::Held | Renewal::Failed(StoreError::Away(_)) => return Ok(()),
            Renewal::Failed(error) => return Err(error.into()),
            Renewal::Refused(lease) if Instant::now() >= by => {
                return Err(StartError::NameTaken { node: lease.node(), address: lease.record.address });
            }
            Renewal::Refused(lease) => {
                if !was_told {
                    let other = lease.node();
                    tracing::info!(%other, "waiting whether the lease of {other} runs out");
                    was_told = true;
                }
                sleep(timing.look.min(by.saturating_duration_since(Instant::now()))).await;
            }
        }
    }
}

fn view_of_one(me: &Node, number: u64, state: State) -> View {
    let member = Member { node: me.clone(), state, address: String::new() };
    View::from(ViewRecord { number, maker: me.boot, members: vec![member] })
}

impl Alone {
    fn state(&self) -> MutexGuard<'_, AloneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more: then nobody misses it.
        let _ = self.queue.send(Item::Event(event));
    }

    fn confirm(&self, number: u64) -> bool {
        let mut state = self.state();
        if state.view.number() != number {
            return false;
        }
        if state.confirmed < number {
            state.confirmed = number;
            self.tell(Event::AllConfirmed(number));
        }
        true
    }

    fn drain(&self, drains: bool) {
        let to_be = if drains { State::Draining } else { State::Up };
        let mut state = self.state();
        if state.view.members().iter().any(|member| member.state != to_be) {
            state.view = view_of_one(&self.me, state.view.number() + 1, to_be);
            self.tell(Event::View(state.view.clone()));
        }
    }
}

impl std::fmt::Debug for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alone(alone) => f.debug_tuple("Alone").field(&alone.me).finish(),
            Self::Many { keeper, .. } => f.debug_tuple("Many").field(&keeper.me).finish(),
        }
    }
}

#[cfg(test)]
mod tests;
