//! What is kept, and what may be relied on: a trait for each aggregate, its semantics in its docs.
//!
//! Every call answers a [`Pending`]. A write begins when the call is made, not when the future is first
//! polled; dropping the future does not undo it. **An author's posts and deletions take their place in the
//! author's order when they are called.** What else is begun at once has no order among itself. A write
//! that answers `Ok` is durable; one that answers [`StorageError::Unavailable`] may have been done, or
//! be done yet. Writes are refused, never queued without bound: a store that cannot keep up answers
//! [`StorageError::Unavailable`].
//!
//! Counts are exact: each is changed in the same write as the rows that it counts.

mod accounts;
pub mod chats;
pub mod circuit;
mod graph;
mod jobs;
pub mod memory;
pub mod moving;
mod posts;
pub mod redis;
pub mod rooms;
pub mod scylla;
pub mod sqlite;
mod timelines;
pub mod volatile;

pub use accounts::{Accounts, NewRefresh, NewUser, Refresh, Registration, Renaming};
pub use graph::{Followed, Graph};
pub use jobs::{Backlog, DeadLetter, EventJob, Jobs};
pub use posts::{
    Appended, Attempt, Deletion, Entry, EntryChange, IdempotencyKey, KeyUse, Liking, NewPost, Posts,
};
pub use timelines::{EntryClock, FanOut, Loss, Missed, Place, TimelineFrom, Timelines, Told};

use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

/// The answer of a store, on its way.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send>>;

/// A timeline holds at most this many entries; a resume replays at most as many posts.
pub const TIMELINE_ENTRIES: usize = 800;
/// A timeline's entries, and the cursors that can be resumed from, are at most this old.
pub const TIMELINE_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Posts of the followed that a new follow puts on the timeline.
pub const BACKFILL_POSTS: usize = 20;
/// How long an idempotency key is kept.
pub const KEY_AGE: Duration = Duration::from_secs(24 * 3600);

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// It cannot now: full, read-only, busy, gone. Trying again later is right.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It never will: a fault of ours or a damaged store.
    #[error("the store refused: {0}")]
    Refused(String),
}

/// Hears of entries before anybody can read them, so that no low-water mark passes one that is on its
/// way. Called by the store itself, in order of `Seq`.
pub trait EntryObserver: Send + Sync {
    /// The entry is about to be committed.
    fn entering(&self, seq: Seq, author: UserId);
    /// The commit failed: there is no such entry. Of several, the newest is withdrawn first; the newest
    /// of all may have its number given again.
    fn withdrawn(&self, seq: Seq);
}

/// The SHA-256 of an opaque token.
pub type TokenHash = [u8; 32];

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only what stands behind this place.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// A part of a list, each item with its place in it, and how many there are in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// Place and item, in the list's order.
    pub items: Vec<(u64, T)>,
    /// The length of the whole list.
    pub total: u64,
}

/// A copy of a store made by itself; where the engine's own tools do that, there is none.
pub trait Backup: Send + Sync {
    /// Writes a whole copy into `file`, which must not exist, while everything goes on; the copy gets a
    /// [`StoreName`](crate::model::cursor::StoreName) of its own. `progress` hears pages left and pages in all.
    fn backup(&self, file: PathBuf, progress: Box<dyn Fn(u64, u64) + Send>) -> Pending<()>;
}

/// Keeping the store itself.
pub trait Upkeep: Send + Sync {
    /// Whether it can be read, and written, now.
    fn check(&self) -> Pending<()>;
    /// The newest committed entry.
    fn head(&self) -> Pending<Seq>;
    /// Removes what has expired (keys, tokens, entries past [`TIMELINE_AGE`]), a bounded slice at a
    /// time; answers how many rows went.
    fn sweep(&self, now: Timestamp) -> Pending<u64>;
    /// Ends writing: what was taken is committed, what comes later is refused.
    fn close(&self) -> Pending<()>;
}
