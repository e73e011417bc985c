//! `Relay`: carries entries from their authors into the outboxes of those who follow them here.
//!
//! A node has a few, each for a share of the authors; the `Node` supervises them. A relay keeps the
//! order of its queue, hence that of each author. Its queue has 1,024 places, and who brings an
//! entry waits for one; its mailbox carries entering, leaving and following, one message for each. A
//! relay that ends has lost its index: the `Node` starts it anew and closes every session (1011); they
//! resume, and the entries that it had not passed on still hold the mark back.

use super::index::Index;
use super::instant::{Instant, Instants};
use super::outbox::Outbox;
use super::wanted::Wanted;
use super::watermark::Watermark;
use crate::model::cursor::{Cursor, Seq, StoreName};
use crate::model::frame::{Frame, ServerFrame};
use crate::model::id::{ConnectionId, UserId};
use crate::storage::{Entry, EntryChange};
use crate::telemetry::metric;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Entries that may wait for one relay.
const QUEUE: usize = 1024;
/// Entries that one round carries at most, so that entering and leaving get their turn.
const ROUND: usize = 64;
/// Followers after which a round lets others run.
const YIELD_AFTER: usize = 256;

/// The entries on their way to one relay: bounded, and outliving it.
pub struct Inflow {
    waiting: Mutex<VecDeque<(Entry, OwnedSemaphorePermit)>>,
    /// A [`RelayMsg::Carry`] is in the mailbox: one is enough.
    called: AtomicBool,
    room: Arc<Semaphore>,
}

/// What relays are told.
pub enum RelayMsg {
    /// Entries wait in the inflow.
    Carry,
    /// A connection is here, with whom it follows and since which entry.
    Enter {
        /// Which connection.
        connection: ConnectionId,
        /// Where its frames go.
        outbox: Arc<Outbox>,
        /// Whom it follows, of this relay's authors.
        followees: Vec<(UserId, Seq)>,
        /// Told once every later entry will reach it.
        entered: RpcReplyPort<()>,
    },
    /// A connection is gone.
    Leave(ConnectionId),
    /// A follow is about to be stored: from now on the author's entries are kept for these connections.
    Expect {
        /// Names the follow until it is settled.
        follow: u64,
        /// Who is followed.
        author: UserId,
        /// The follower's connections.
        connections: Vec<ConnectionId>,
        /// Told once entries are kept.
        expecting: RpcReplyPort<()>,
    },
    /// The follow was stored, after entry `since`, or was not.
    Settle {
        /// Which follow.
        follow: u64,
        /// The entry after which it sees.
        since: Option<Seq>,
        /// Told once what was kept went out.
        settled: RpcReplyPort<()>,
    },
    /// These connections no longer follow the author.
    Unfollow {
        /// Who was followed.
        author: UserId,
        /// The follower's connections.
        connections: Vec<ConnectionId>,
        /// Told once nothing more goes to them.
        done: RpcReplyPort<()>,
    },
}

/// The actor.
pub struct Relay;

/// What a relay is started with.
pub struct RelayArguments {
    /// Its entries.
    pub inflow: Arc<Inflow>,
    /// What is on its way.
    pub watermark: Arc<Watermark>,
    /// Who is told whom sessions here follow, where other nodes are homes.
    pub wanted: Option<Arc<Wanted>>,
    /// The store that cursors name.
    pub store: StoreName,
    /// Where tests listen.
    pub instants: Instants,
}

/// What a relay knows.
pub struct RelayState {
    arguments: RelayArguments,
    index: Index,
    expected: Vec<Expected>,
}

/// A follow that is being stored.
struct Expected {
    follow: u64,
    author: UserId,
    connections: Vec<ConnectionId>,
    kept: Vec<(Seq, Frame)>,
}

impl Default for Inflow {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            called: AtomicBool::new(false),
            room: Arc::new(Semaphore::new(QUEUE)),
        }
    }
}

impl Inflow {
    /// Waits for room for one entry.
    pub async fn room(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.room.clone().acquire_owned().await.ok()
    }

    /// Puts an entry at the end.
    pub fn put(&self, entry: Entry, room: OwnedSemaphorePermit) {
        self.lock().push_back((entry, room));
    }

    /// Whether the relay needs a [`RelayMsg::Carry`], which the caller then sends.
    pub fn calls(&self) -> bool {
        self.waiting() > 0 && !self.called.swap(true, Ordering::AcqRel)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    fn round(&self) -> Vec<Entry> {
        let mut waiting = self.lock();
        let most = waiting.len().min(ROUND);
        waiting.drain(..most).map(|(entry, _)| entry).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Entry, OwnedSemaphorePermit)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Actor for Relay {
    type Msg = RelayMsg;
    type State = RelayState;
    type Arguments = RelayArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<RelayMsg>,
        arguments: RelayArguments,
    ) -> Result<RelayState, ActorProcessingErr> {
        // What waited for a relay that ended is carried by this one; what called for that one did not arrive.
        arguments.inflow.called.store(true, Ordering::Release);
        myself.send_message(RelayMsg::Carry)?;
        Ok(RelayState { arguments, index: Index::default(), expected: Vec::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<RelayMsg>,
        message: RelayMsg,
        state: &mut RelayState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RelayMsg::Carry => {
                // Before the round: what comes during it calls again.
                state.arguments.inflow.called.store(false, Ordering::Release);
                state.carry().await;
                if state.arguments.inflow.calls() {
                    myself.send_message(RelayMsg::Carry)?;
                }
            }
            RelayMsg::Enter { connection, outbox, followees, entered } => {
                let settled = state.arguments.watermark.settled();
                state.index.enter(connection, outbox, &followees, settled);
                let _ = entered.send(());
            }
            RelayMsg::Leave(connection) => state.index.leave(connection),
            RelayMsg::Expect { follow, author, connections, expecting } => {
                state.expected.push(Expected { follow, author, connections, kept: Vec::new() });
                let _ = expecting.send(());
            }
            RelayMsg::Settle { follow, since, settled } => {
                state.settle(follow, since);
                let _ = settled.send(());
            }
            RelayMsg::Unfollow { author, connections, done } => {
                state.index.unfollow(&connections, author);
                let _ = done.send(());
            }
        }
        state.tell_changes();
        Ok(())
    }
}

impl RelayState {
    /// One round: what waits goes into the outboxes; of several entries, all to one reader in one write.
    async fn carry(&mut self) {
        let round = self.arguments.inflow.round();
        if let [entry] = round.as_slice() {
            self.push(entry, true).await;
            return;
        }
        let mut touched = Vec::new();
        for entry in &round {
            touched.extend(self.push(entry, false).await);
        }
        touched.sort_unstable_by_key(Arc::as_ptr);
        touched.dedup_by(|one, other| Arc::ptr_eq(one, other));
        for (count, outbox) in touched.iter().enumerate() {
            outbox.write();
            if count % YIELD_AFTER == YIELD_AFTER - 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Puts one entry into every follower's outbox; answers those that are still to be written.
    async fn push(&mut self, entry: &Entry, write: bool) -> Vec<Arc<Outbox>> {
        let RelayArguments { watermark, store, instants, .. } = &self.arguments;
        let (seq, author) = (entry.seq, entry.author());
        // Whoever found an entry unfinished brings it again; the first time counts.
        let Some(since) = watermark.carry(seq) else { return Vec::new() };
        instants.pass(Instant::Carried(author)).await;
        let expected = self.expected.iter().any(|expected| expected.author == author);
        if !expected && !self.index.is_followed(author) {
            watermark.release(seq);
            return Vec::new();
        }
        let cursor = Cursor { store: *store, seq: watermark.mark_after(seq) };
        let frame = encode(entry, cursor);
        let mut delivered = 0;
        let mut touched = Vec::new();
        for (count, outbox) in self.index.followers(author, seq, watermark.settled()).enumerate() {
            if write {
                delivered += u64::from(outbox.push(seq, &frame));
            } else if outbox.queue(seq, &frame) {
                delivered += 1;
                touched.push(outbox.clone());
            }
            if count % YIELD_AFTER == YIELD_AFTER - 1 {
                tokio::task::yield_now().await;
            }
        }
        for expected in self.expected.iter_mut().filter(|expected| expected.author == author) {
            watermark.hold(seq);
            expected.kept.push((seq, frame.clone()));
        }
        watermark.release(seq);
        metrics::counter!(metric::DELIVERIES).increment(delivered);
        metrics::histogram!(metric::DELIVERY_SECONDS).record(since.elapsed());
        touched
    }

    /// Says whom sessions here follow now, or no longer.
    fn tell_changes(&mut self) {
        let changes = self.index.take_changes();
        if let Some(wanted) = &self.arguments.wanted {
            changes.into_iter().for_each(|(author, is_followed)| wanted.follow(author, is_followed));
        }
    }

    fn settle(&mut self, follow: u64, since: Option<Seq>) {
        let Some(place) = self.expected.iter().position(|expected| expected.follow == follow) else { return };
        let Expected { author, connections, kept, .. } = self.expected.swap_remove(place);
        let watermark = &self.arguments.watermark;
        if let Some(since) = since {
            self.index.follow(&connections, author, since, watermark.settled());
        }
        for (seq, frame) in kept {
            if since.is_some_and(|since| seq > since) {
                for connection in &connections {
                    if let Some(outbox) = self.index.outbox(*connection) {
                        outbox.push(seq, &frame);
                    }
                }
            }
            watermark.release(seq);
        }
    }
}

/// An entry as it goes over every follower's wire: encoded once, header and cursor included.
#[must_use]
pub fn encode(entry: &Entry, cursor: Cursor) -> Frame {
    match &entry.change {
        EntryChange::Posted { post, author_name } => ServerFrame::new_post(post, author_name),
        EntryChange::Deleted { id, author, deleted_at } => {
            ServerFrame::PostDeleted { id: *id, user_id: *author, deleted_at: *deleted_at }
        }
    }
    .encode(Some(cursor))
}
