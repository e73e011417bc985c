//! How far this node has heard: what the homes of its view have told, and hence the ceiling of its mark.
//!
//! Each home says how far it has come, behind the entries that it sent; the ceiling is the least of those, of this
//! node's own view only. A new view freezes it until every home in it has begun all its shards. A home to which there is
//! no link is read instead: its jobs in the store hold whole posts. Clocks of homes differ by up to [`SKEW`] from
//! Redis', so the order of entries across homes is only known to that.
//!
//! Its polling is one task; what it reads is bounded by what a home took since its last mark.

use super::relays::Relays;
use super::watermark::{Ceiling, Start, Watermark};
use super::wire::Mark;
use crate::model::cursor::Seq;
use crate::model::id::PostId;
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::{Entry, EntryChange, EntryClock, Jobs, StorageError};
use moka::sync::Cache;
use roost_cluster::{Cluster, Node, State as NodeState, View};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How far a node's clock may be from Redis'.
pub const SKEW: Duration = Duration::from_secs(3);
/// How long a write of the store may take to be known.
const WRITE: Duration = Duration::from_secs(5);
/// What is older than everything that was told by so much does not come any more: a write's time, and twice the skew.
const OVERLAP: Duration =
    WRITE.saturating_add(SKEW).saturating_add(SKEW).saturating_add(Duration::from_secs(1));
/// What was passed on is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Deletions that are remembered meanwhile.
const DELETED: u64 = 100_000;
/// A connection without a cursor is sent nothing older.
const FRESH: Duration = Duration::from_secs(10);
/// Between two readings of homes that cannot be heard.
const ROUND: Duration = Duration::from_secs(1);
/// Between two looks at how far all have come.
const LOOK: Duration = Duration::from_millis(50);

/// What this node has heard.
pub struct Horizon {
    cluster: Arc<Cluster>,
    clock: Arc<dyn EntryClock>,
    jobs: Arc<dyn Jobs>,
    watermark: Arc<Watermark>,
    relays: Arc<Relays>,
    /// Posts whose deletion has come: one that comes behind it, by another way, is not shown any more.
    deleted: Cache<PostId, ()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    view: Option<View>,
    /// The view for which this node has begun its own shards.
    own: u64,
    marks: HashMap<Node, Heard>,
    /// Homes to which there is no link, with when the last reading of each began that succeeded.
    unlinked: HashMap<Node, Option<Instant>>,
    /// Nodes that were homes in a view that this node knew.
    homes: HashSet<Node>,
}

/// How far a home has come, and by which view.
#[derive(Clone, Copy)]
struct Heard {
    mark: Seq,
    view: u64,
}

impl Horizon {
    /// Nothing has been heard yet.
    #[must_use]
    pub fn new(
        cluster: Arc<Cluster>,
        clock: Arc<dyn EntryClock>,
        jobs: Arc<dyn Jobs>,
        watermark: Arc<Watermark>,
        relays: Arc<Relays>,
    ) -> Self {
        let deleted = Cache::builder().max_capacity(DELETED).time_to_live(REMEMBERED * 2).build();
        Self { cluster, clock, jobs, watermark, relays, deleted, state: Mutex::default() }
    }

    /// Where a connection that comes now, without a cursor, begins.
    #[must_use]
    pub fn start(&self) -> Start {
        let fresh = self.clock.at(Timestamp::now().before(FRESH));
        // Its clock may be behind that of the author's home.
        let told = self.clock.earlier(self.watermark.mark(), SKEW + SKEW);
        let from = told.max(fresh);
        Start { mark: from, head: from, ..Start::default() }
    }

    /// An entry of another home has come: it goes to whoever follows its author here.
    pub async fn receive(&self, entry: Entry) {
        let (seq, author) = (entry.seq, entry.author());
        match &entry.change {
            EntryChange::Deleted { id, .. } => self.deleted.insert(*id, ()),
            EntryChange::Posted { post, .. } if self.deleted.contains_key(&post.id) => return,
            EntryChange::Posted { .. } => {}
        }
        self.watermark.may_be_missing(seq, author);
        if self.watermark.arrive(seq, author) {
            self.relays.carry(entry).await;
        }
    }

    /// The clock of this node.
    pub(super) fn head(&self) -> Seq {
        self.clock.head()
    }

    /// How far a home of this node's view has come, as it was heard here; none before it has begun by that view, and
    /// said so: until then it may be about to say that it has forgotten who is interested.
    pub(super) fn heard(&self, home: &Node) -> Option<Seq> {
        let head = self.clock.head();
        self.lock().heard(home, self.cluster.me(), head)
    }

    /// Whether this home cannot be heard and has been read since.
    pub(super) fn was_read_since(&self, home: &Node, since: Instant) -> bool {
        self.lock().unlinked.get(home).is_some_and(|read| read.is_some_and(|read| read >= since))
    }

    /// Whether this home cannot be heard and has been read.
    pub(super) fn is_read(&self, home: &Node) -> bool {
        self.lock().unlinked.get(home).is_some_and(Option::is_some)
    }

    /// Whether there is no link to a node.
    pub(super) fn is_unlinked(&self, node: &Node) -> bool {
        self.lock().unlinked.contains_key(node)
    }

    /// Whether there is a link to every node.
    pub(super) fn hears_all(&self) -> bool {
        self.lock().unlinked.is_empty()
    }

    /// Whether a node was a home in a view that this node knew.
    pub(super) fn was_home(&self, node: &Node) -> bool {
        self.lock().homes.contains(node)
    }

    /// There is a new view: the mark stays where it is until its homes have begun.
    pub(super) fn look(&self, view: &View) {
        let mut state = self.lock();
        self.watermark.freeze();
        state.own = 0;
        state.marks.retain(|node, _| view.has(node));
        state.unlinked.retain(|node, _| view.has(node));
        let homes = view.members().iter().filter(|member| member.state == NodeState::Up);
        let homes: HashSet<Node> = homes.map(|member| member.node.clone()).collect();
        state.homes.retain(|node| view.has(node));
        state.homes.extend(homes);
        state.view = Some(view.clone());
    }

    /// This node may not act: its mark stays where it is.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        self.watermark.freeze();
        state.own = 0;
    }

    /// This node has begun all its shards of a view.
    pub(super) fn begin(&self, view: u64) {
        self.lock().own = view;
    }

    /// A home has come so far.
    pub(super) fn note(&self, home: &Node, mark: &Mark) {
        let head = Seq(mark.head);
        // Numbers grow with whoever is ahead, as far as clocks may be apart.
        if head <= self.clock.at(Timestamp::now().after(SKEW + SKEW)) {
            self.clock.advance(head);
        }
        let mut state = self.lock();
        if state.view.as_ref().is_some_and(|view| view.has(home)) {
            // What it takes over again it has told before.
            let before = state.marks.get(home).map_or(Seq::default(), |heard| heard.mark);
            let mark = Heard { mark: before.max(Seq(mark.mark)), view: mark.view };
            state.marks.insert(home.clone(), mark);
        }
        drop(state);
        self.raise();
    }

    /// There is a link to a node, or none.
    pub(super) fn link(&self, node: &Node, is_up: bool) {
        let mut state = self.lock();
        if is_up {
            state.unlinked.remove(node);
        } else {
            state.unlinked.entry(node.clone()).or_default();
        }
    }

    /// Looks how far all have come, and reads homes that cannot be heard, for ever.
    pub(super) async fn keep_reading(self: Arc<Self>) {
        let mut read = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            self.raise();
            if read.elapsed() >= ROUND {
                read = Instant::now();
                for home in self.unlinked_homes() {
                    if let Err(error) = self.read(&home).await {
                        tracing::warn!(%home, %error, "node {home} cannot be heard, nor read: {error}");
                    }
                }
            }
        }
    }

    /// Whether every home has been heard of since this node came: before that it cannot say what is new.
    #[must_use]
    pub(super) fn is_open(&self) -> bool {
        self.watermark.mark() > Seq::default()
    }

    /// Whether all homes of the view have begun, this node's own aside.
    #[must_use]
    pub(super) fn have_all_begun(&self) -> bool {
        let state = self.lock();
        let Some(view) = &state.view else { return true };
        let mut homes = view
            .members()
            .iter()
            .filter(|member| member.state == NodeState::Up && member.node != *self.cluster.me());
        homes.all(|home| state.marks.get(&home.node).is_some_and(|heard| heard.view >= view.number()))
    }

    /// How far behind now the mark is.
    #[must_use]
    pub fn lag(&self) -> Duration {
        let (head, mark) = (self.clock.head(), self.watermark.mark());
        self.clock.between(mark, head)
    }

    /// Raises the ceiling to where all homes have come.
    fn raise(&self) {
        // Before anything is looked at: what is numbered up to here has been heard of.
        let head = self.clock.head();
        let told = {
            let state = self.lock();
            let Some(view) = &state.view else { return };
            let homes = view.members().iter().filter(|member| member.state == NodeState::Up);
            let told = homes.map(|home| state.heard(&home.node, self.cluster.me(), head));
            told.collect::<Option<Vec<Seq>>>().and_then(|told| told.into_iter().min())
        };
        if let Some(told) = told {
            let [settled, floor] = [OVERLAP, REMEMBERED].map(|by| self.clock.earlier(told, by));
            self.watermark.raise(Ceiling { told, settled, floor });
        }
    }

    fn unlinked_homes(&self) -> Vec<Node> {
        let state = self.lock();
        let Some(view) = &state.view else { return Vec::new() };
        let is_home = |node: &&Node| view.member_of(node).is_some_and(|m| m.state == NodeState::Up);
        state.unlinked.keys().filter(is_home).cloned().collect()
    }

    /// Reads what a home took, in place of hearing it.
    async fn read(&self, home: &Node) -> Result<(), StorageError> {
        let began = Instant::now();
        let (shards, mark, view) = {
            let state = self.lock();
            let Some(view) = state.view.clone() else { return Ok(()) };
            let is_its =
                |shard: &Shard| view.home((*shard).into()).is_some_and(|member| member.node == *home);
            let shards: Vec<Shard> = Shard::all().filter(is_its).collect();
            let mark = state.marks.get(home).map(|heard| heard.mark);
            (shards, mark, view)
        };
        // Of a home that was never heard, what is on its way anywhere.
        let mark = mark.unwrap_or_else(|| self.watermark.mark());
        let upto = self.clock.earlier(self.clock.at(Timestamp::now()), OVERLAP);
        let after = self.clock.earlier(mark, OVERLAP);
        let entries = self.jobs.told_since(shards, after).await?;
        {
            let state = self.lock();
            if state.view.as_ref() != Some(&view) || !state.unlinked.contains_key(home) {
                // It is heard again, or was left behind: what it tells, and what sessions have read since, is newer.
                return Ok(());
            }
        }
        for entry in entries {
            self.receive(entry).await;
        }
        let mut state = self.lock();
        if state.view.as_ref() == Some(&view)
            && let Some(read) = state.unlinked.get_mut(home)
        {
            *read = Some(began);
            let mark = mark.max(upto);
            state.marks.insert(home.clone(), Heard { mark, view: view.number() });
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How far a home has come by the view that is now; this node itself has come to `head`.
    fn heard(&self, home: &Node, me: &Node, head: Seq) -> Option<Seq> {
        let view = self.view.as_ref()?.number();
        if home == me {
            return (self.own == view).then_some(head);
        }
        self.marks.get(home).filter(|heard| heard.view >= view).map(|heard| heard.mark)
    }
}
