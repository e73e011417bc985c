//! What a home tells the other nodes: entries, to those that are interested, in order; and how far it has come.
//!
//! An entry that was sent is *unheard* until each of those nodes has answered a mark that was sent behind it, has left
//! the view, or could not be sent it any more (its window is full: it hears of a gap, and begins anew from the store).
//! Marks are calls, one at a time to a node. What waits for a node is bounded by its link's window; what is noted
//! here is eight bytes an entry of that.

use super::homes::Homes;
use super::interest::Interests;
use super::watermark::Watermark;
use super::wire::{Answer, Answered, Asked, Asking, EntryText, Mark, Telling, Told};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::shard::Shard;
use crate::storage::{Entry, EntryClock};
use crate::telemetry::metric;
use bytes::Bytes;
use roost_cluster::{Cluster, Node, State, View};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Between two marks.
const BETWEEN_MARKS: Duration = Duration::from_millis(200);
/// How long a node may take to answer one, before it is sent the next.
const PATIENCE: Duration = Duration::from_secs(2);

/// The other nodes, as their home sees them.
pub struct Neighbours {
    cluster: Arc<Cluster>,
    clock: Arc<dyn EntryClock>,
    watermark: Arc<Watermark>,
    interests: Interests,
    nodes: Mutex<HashMap<Node, Sent>>,
    /// A mark is to be sent now.
    hurry: Notify,
}

/// What a node was sent and has not taken.
#[derive(Default)]
struct Sent {
    /// Entries, in order.
    unheard: VecDeque<Seq>,
    /// How many it was sent, and how many of them it has taken.
    sent: u64,
    heard: u64,
    /// A mark is on its way.
    is_asked: bool,
}

impl Neighbours {
    /// Of a node of a cluster.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, clock: Arc<dyn EntryClock>, watermark: Arc<Watermark>) -> Self {
        let (interests, nodes) = (Interests::default(), Mutex::default());
        Self { cluster, clock, watermark, interests, nodes, hurry: Notify::new() }
    }

    /// Who is interested in whom.
    #[must_use]
    pub const fn interests(&self) -> &Interests {
        &self.interests
    }

    /// An entry of this home is durable: it goes to every other node that is interested.
    pub fn tell(&self, entry: &Entry) {
        let others = self.others();
        let nodes = self.interests.among(&others, entry.author());
        self.watermark.to_be_heard(entry.seq, nodes.len());
        if !nodes.is_empty() {
            let frame = Told::encode_frame(Telling::Entry(EntryText::from(entry)));
            nodes.iter().for_each(|node| self.send(node, entry.seq, &frame));
            metrics::counter!(metric::LINK_FRAMES).increment(nodes.len() as u64);
        }
        self.watermark.sent(entry.seq);
    }

    /// A frame for every other node that is interested in a user; one that is not sent it hears of a gap.
    pub fn tell_interested(&self, user: UserId, frame: impl FnOnce() -> Bytes) {
        let others = self.others();
        let nodes = self.interests.among(&others, user);
        if nodes.is_empty() {
            return;
        }
        let frame = frame();
        for node in &nodes {
            // It has left, or will hear of a gap.
            let _ = self.cluster.send(&node.name, &frame);
        }
        metrics::counter!(metric::LINK_FRAMES).increment(nodes.len() as u64);
    }

    /// By a new view, nodes have gone and shards have moved.
    pub(super) fn look(&self, view: &View) {
        let gone: Vec<Seq> = {
            let mut nodes = self.lock();
            let gone = nodes.extract_if(|node, _| !view.has(node));
            gone.flat_map(|(_, sent)| sent.unheard).collect()
        };
        self.watermark.heard(gone);
        let me = self.cluster.me();
        let is_ours = |shard: Shard| view.home(shard.into()).is_some_and(|home| home.node == *me);
        self.interests.keep(|node| view.has(node), is_ours);
    }

    /// The next mark is sent now.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Tells the other nodes how far this one has come, for ever.
    pub(super) async fn keep_marking(self: Arc<Self>, homes: Arc<Homes>) {
        loop {
            // Either way it is time.
            let _ = tokio::time::timeout(BETWEEN_MARKS, self.hurry.notified()).await;
            let view = homes.begun_view();
            let head = self.clock.head();
            let progress = self.watermark.progress(head);
            // Where homes moved meanwhile, something may be missing in it.
            let view = if homes.begun_view() == view { view } else { 0 };
            for node in self.others() {
                let Some(count) = self.begin_mark(&node) else { continue };
                let wanted = self.interests.missing(&node, self.ours());
                let mark = Mark {
                    view,
                    mark: progress.sent.0,
                    spread: progress.spread.0,
                    head: head.0,
                    wanted: wanted.iter().map(|shard| shard.0).collect(),
                };
                let this = self.clone();
                tokio::spawn(async move {
                    let call = Asked::encode_call(Asking::Mark(mark));
                    let answer = this.cluster.call(&node.name, &call, PATIENCE).await;
                    let is_taken = matches!(answer.map(Answered::read), Ok(Ok(Some(Answer::Done(_)))));
                    this.end_mark(&node, is_taken.then_some(count));
                });
            }
        }
    }

    /// How many entries wait to be heard.
    #[must_use]
    pub fn unheard(&self) -> usize {
        self.lock().values().map(|sent| sent.unheard.len()).sum()
    }

    /// The other nodes that may have sockets.
    fn others(&self) -> Vec<Node> {
        let Some(view) = self.cluster.view() else { return Vec::new() };
        let me = self.cluster.me();
        let others =
            view.members().iter().filter(|member| member.node != *me && member.state != State::Joining);
        others.map(|member| member.node.clone()).collect()
    }

    /// The shards that this node is home to, by the view.
    fn ours(&self) -> impl Iterator<Item = Shard> {
        let (view, me) = (self.cluster.view(), self.cluster.me().clone());
        Shard::all().filter(move |shard| {
            let home = view.as_ref().and_then(|view| view.home((*shard).into()));
            home.is_some_and(|home| home.node == me)
        })
    }

    fn send(&self, node: &Node, seq: Seq, frame: &Bytes) {
        // Under the lock, so that what is noted and what is sent have one order.
        let mut nodes = self.lock();
        match self.cluster.send(&node.name, frame) {
            Ok(()) => {
                let sent = nodes.entry(node.clone()).or_default();
                sent.unheard.push_back(seq);
                sent.sent += 1;
            }
            // It has left, or will hear of a gap.
            Err(_) => {
                drop(nodes);
                self.watermark.heard([seq]);
            }
        }
    }

    fn begin_mark(&self, node: &Node) -> Option<u64> {
        let mut nodes = self.lock();
        let sent = nodes.entry(node.clone()).or_default();
        (!std::mem::replace(&mut sent.is_asked, true)).then_some(sent.sent)
    }

    fn end_mark(&self, node: &Node, taken: Option<u64>) {
        let heard: Vec<Seq> = {
            let mut nodes = self.lock();
            let Some(sent) = nodes.get_mut(node) else { return };
            sent.is_asked = false;
            let count = taken.map_or(0, |count| count.saturating_sub(sent.heard));
            sent.heard += count;
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(sent.unheard.len());
            sent.unheard.drain(..count).collect()
        };
        self.watermark.heard(heard);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Node, Sent>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
