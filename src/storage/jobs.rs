//! What remains to be done for changes that are durable, and what was given up.

use super::{Entry, Listed, Page, Pending};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;

/// What remains to be done for changes that are durable, and what was given up. Each belongs to a [`Shard`], and each
/// shard to one node at a time, its home; a database in a folder has one home for all.
pub trait Jobs: Send + Sync {
    /// This node is home of these shards from now on. Answers every delivery there that is not done, in order of
    /// `Seq`; what former homes left is finished or void when this answers, and none of them can change that.
    fn take_over(&self, shards: Vec<Shard>) -> Pending<Vec<(Seq, UserId)>>;
    /// This node is no longer home of these shards. Answers when its writes there have been answered, or are past
    /// their deadline.
    fn let_go(&self, shards: Vec<Shard>) -> Pending<()>;
    /// The entries of these shards behind a place, delivered or not, in order of `Seq`, without posts that are deleted
    /// now; they are kept for an hour. For a node that cannot hear their home. [`StorageError::Refused`](super::StorageError::Refused) where the
    /// store has one home for all.
    fn told_since(&self, shards: Vec<Shard>, after: Seq) -> Pending<Vec<Entry>>;
    /// Finishes what nodes began in the shards of this home more than a minute ago and did not finish; answers the
    /// deliveries that are on their way by that, in no order. To be called every few seconds: it looks every ten, and
    /// again at once where it found something.
    fn tend(&self) -> Pending<Vec<(Seq, UserId)>>;
    /// Those deliveries are done.
    fn delivered(&self, seqs: Vec<Seq>) -> Pending<()>;
    /// Events that are due at `now`, oldest first.
    fn due_events(&self, now: Timestamp, limit: usize) -> Pending<Vec<EventJob>>;
    /// Those events were accepted by their sink.
    fn sent(&self, ids: Vec<u64>) -> Pending<()>;
    /// An event was not accepted: try it again at `due_at`.
    fn postpone(&self, id: u64, due_at: Timestamp) -> Pending<()>;
    /// An event is given up, for `error`: it is a dead letter now.
    fn bury(&self, id: u64, error: String, now: Timestamp) -> Pending<()>;
    /// What waits.
    fn backlog(&self) -> Pending<Backlog>;

    /// Dead letters, oldest first.
    fn dead_letters(&self, page: Page) -> Pending<Listed<DeadLetter>>;
    /// One of them.
    fn dead_letter(&self, id: u64) -> Pending<Option<DeadLetter>>;
    /// Makes a dead letter a job again, its tries counted anew; answers whether it was there.
    fn redrive(&self, id: u64, now: Timestamp) -> Pending<bool>;
    /// Forgets a dead letter; answers whether it was there.
    fn drop_letter(&self, id: u64) -> Pending<bool>;
}

/// An event to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventJob {
    /// The job.
    pub id: u64,
    /// The CloudEvent, as JSON.
    pub event: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// What waits to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Deliveries that are not done.
    pub deliveries: u64,
    /// Events that are not sent.
    pub events: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// When the oldest waiting job was made.
    pub oldest: Option<Timestamp>,
}

/// An event that was given up.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeadLetter {
    /// Its number; a redriven one keeps none.
    pub id: u64,
    /// The CloudEvent, as JSON.
    pub event: String,
    /// What its last try said.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up.
    pub buried_at: Timestamp,
}
