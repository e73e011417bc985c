//! Timelines: what each user reads, and what of it was missed; how they are written, where they are; and the numbers of entries.

use super::{Entry, Pending};
use crate::model::cursor::{Cursor, Seq, StoreName};
use crate::model::id::{PostId, UserId};
use crate::model::post::PostView;
use crate::model::timestamp::Timestamp;
use std::time::Duration;

/// What each user reads: its own posts and those of the users it follows.
pub trait Timelines: Send + Sync {
    /// The places of `limit` entries of the timeline, newest first, behind `before` or after leaving out
    /// `skip`: posts of the last [`TIMELINE_AGE`](super::TIMELINE_AGE) that are not deleted now, by those who are followed now.
    fn list(&self, user: UserId, from: TimelineFrom, limit: usize) -> Pending<Vec<Place>>;
    /// How many entries the timeline has, [`TIMELINE_ENTRIES`](super::TIMELINE_ENTRIES) at most.
    fn total(&self, user: UserId) -> Pending<u64>;
    /// The posts at those places as `user` sees them, in that order, as they are now or were when they were listed
    /// a moment ago; those deleted since may be left out.
    fn show(&self, user: UserId, places: Vec<Place>) -> Pending<Vec<PostView>>;
    /// What `user` missed behind `cursor`.
    fn since(&self, user: UserId, cursor: Cursor) -> Pending<Missed>;
    /// The store's name, for cursors.
    fn store_name(&self) -> StoreName;
}

/// Where a post stands in a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The number of its entry.
    pub seq: Seq,
    /// The post.
    pub post: PostId,
    /// Who wrote it.
    pub author: UserId,
}

/// Where a timeline's page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimelineFrom {
    /// Behind the newest so many entries.
    Offset(usize),
    /// Behind the entry at this place.
    Before(Seq),
}

/// What lies behind a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missed {
    /// All of it, in order of `Seq`; a post that was deleted since is told by its deletion alone.
    Entries {
        /// The entries of the user's timeline behind the cursor.
        entries: Vec<Entry>,
        /// What need not be told any more.
        told: Told,
    },
    /// It cannot be replayed.
    Lost(Loss),
}

/// What a reading of missed entries has covered: none of it is to be shown again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Everything up to here.
    pub through: Seq,
    /// And these, in order: entries behind `through` that were read, posts that were found deleted among them.
    pub also: Vec<Seq>,
}

impl Told {
    /// Everything up to a place, and nothing behind it.
    #[must_use]
    pub const fn up_to(through: Seq) -> Self {
        Self { through, also: Vec::new() }
    }

    /// Whether an entry was covered.
    #[must_use]
    pub fn covers(&self, seq: Seq) -> bool {
        seq <= self.through || self.also.binary_search(&seq).is_ok()
    }
}

/// Why a cursor cannot be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is older than [`TIMELINE_AGE`](super::TIMELINE_AGE).
    Expired,
    /// More than [`TIMELINE_ENTRIES`](super::TIMELINE_ENTRIES) posts, or than 10,000 deletions, lie behind it.
    TooMany,
    /// It is of another store, or from this one's future.
    Foreign,
}

impl Loss {
    /// The reason in a `resync` frame.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::TooMany => "too_many",
            Self::Foreign => "foreign",
        }
    }
}

/// Timelines that are written when a post is made; a store that reads them from the posts has none.
pub trait FanOut: Send + Sync {
    /// Brings an entry into the timeline of everybody who follows its author: answers once everybody's
    /// shows it, at once or, of a wide author, when it is read. Begins again where a former call, in a
    /// former run too, was interrupted; doing it twice changes nothing.
    fn fan_out(&self, seq: Seq) -> Pending<()>;
}

/// The numbers of entries, where several nodes give them: they grow with time, and tell it.
pub trait EntryClock: Send + Sync {
    /// A number that no entry of this node so far exceeds, each of which has been heard of; all that come do.
    fn head(&self) -> Seq;
    /// This node gives no number that is not greater than this one.
    fn advance(&self, past: Seq);
    /// The least number of so long before.
    fn earlier(&self, seq: Seq, by: Duration) -> Seq;
    /// The least number of a time.
    fn at(&self, time: Timestamp) -> Seq;
    /// The time from one to a later one.
    fn between(&self, earlier: Seq, later: Seq) -> Duration;
}
