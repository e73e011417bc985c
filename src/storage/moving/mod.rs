//! Moving house: everything that a store keeps, as records that no engine knows, from one store into another.
//!
//! A store that can be left gives its records by [`Export`], kind after kind, a page at a time; one that can be moved
//! into takes them by [`Import`] and makes of them what it would have made itself: claims, counts, lists,
//! timelines. [`copy()`] brings one into the other. Deleted posts, ended follows and deliveries under way stay
//! behind: cursors of the old store are foreign to the new one, and who comes with one reads its timeline.

mod chat;
mod copy;
mod record;
mod room;
mod sum;

pub use chat::{InboxEvent, MovedChatKey, MovedConversation, MovedInbox, MovedMember, MovedMessage};
pub use copy::{Compared, CopyError, Step, copy};
pub use record::{
    EndedLogin, Kind, Liked, MovedAuthor, MovedFollow, MovedKey, MovedLetter, MovedLogin, MovedOutsider,
    MovedPost, MovedToken, MovedUser, Record, SeesFrom, WaitingEvent,
};
pub use room::{MovedEffect, MovedPresses, MovedRoom};
pub use sum::Sum;

use super::Pending;
use crate::model::cursor::StoreName;
use crate::model::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// What the numbers of a store's entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// Counted, in the order in which records come.
    Counted,
    /// Stamps, which tell their time; records come in any order.
    Stamped,
}

/// Some records of one kind.
#[derive(Debug, Default)]
pub struct Portion {
    /// The records; none is no end.
    pub records: Vec<Record>,
    /// Behind which place the next portion begins; none at the end of the kind.
    pub next: Option<String>,
    /// Which share of the kind (0 to 1) lies before that place, where the store knows.
    pub share: Option<f64>,
}

/// A store that can be left. Nobody else uses it meanwhile.
pub trait Export: Send + Sync {
    /// Its name.
    fn name(&self) -> StoreName;
    /// What the numbers of its posts are.
    fn numbering(&self) -> Numbering;
    /// How many records of a kind there are, where that is quickly known; of those that expire some may have.
    fn count(&self, kind: Kind) -> Pending<Option<u64>>;
    /// The records of a kind behind a place, without those that have expired at `alive_at`.
    fn portion(&self, kind: Kind, after: Option<String>, alive_at: Timestamp) -> Pending<Portion>;
}

/// A store that can be moved into. Nobody else uses it meanwhile; until [`Import::finish`] no server opens it.
pub trait Import: Export {
    /// The copy that was begun here and is not finished.
    fn unfinished(&self) -> Pending<Option<Progress>>;
    /// Whether it holds nothing.
    fn is_empty(&self) -> Pending<bool>;
    /// Notes down, durably, how far the copy is; the first time that it was begun.
    fn note(&self, progress: Progress) -> Pending<()>;
    /// Takes records, and notes down how far that is; answers what was noted down. The same records again, with the
    /// progress that was noted down before them, change nothing.
    fn take(&self, records: Vec<Record>, from: Numbering, progress: Progress) -> Pending<Progress>;
    /// Makes the counts, a part at a time, from what was taken; answers where the next part begins, if there is one.
    fn settle(&self, after: Option<String>) -> Pending<Option<String>>;
    /// Whether records of a kind are kept as they come; others follow from what is kept, and are not compared.
    fn keeps(&self, kind: Kind) -> bool;
    /// The copy is whole: servers may use it.
    fn finish(&self) -> Pending<()>;
}

/// How far a copy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The name of the store that it is of.
    pub source: u64,
    /// When it was begun: milliseconds since 1970.
    pub begun_at: i64,
    /// What is being done.
    pub stage: Stage,
    /// Behind which place it goes on.
    pub place: Option<String>,
    /// The greatest number that was given so far, as the target counts.
    pub last: u64,
}

/// What is done, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Records of a kind are taken.
    Take(Kind),
    /// Counts are made.
    Settle,
    /// Source and target are compared.
    Compare,
}

impl Stage {
    /// All of them. Who is named by a record comes before it; what an author has is counted once all of it is there.
    pub const ALL: [Self; 23] = [
        Self::Take(Kind::Users),
        Self::Take(Kind::Outsiders),
        Self::Take(Kind::Logins),
        Self::Take(Kind::Ended),
        Self::Take(Kind::Tokens),
        Self::Take(Kind::Keys),
        Self::Take(Kind::Posts),
        Self::Take(Kind::Likes),
        Self::Take(Kind::Follows),
        Self::Take(Kind::Conversations),
        Self::Take(Kind::Members),
        Self::Take(Kind::Messages),
        Self::Take(Kind::ChatKeys),
        Self::Take(Kind::Inboxes),
        Self::Take(Kind::InboxEvents),
        Self::Take(Kind::Rooms),
        Self::Take(Kind::Effects),
        Self::Take(Kind::Presses),
        Self::Settle,
        Self::Take(Kind::Authors),
        Self::Take(Kind::Events),
        Self::Take(Kind::Letters),
        Self::Compare,
    ];

    /// The one behind it; the last is behind itself.
    #[must_use]
    pub fn next(self) -> Self {
        let at = Self::ALL.iter().position(|stage| *stage == self);
        at.and_then(|at| Self::ALL.get(at + 1)).copied().unwrap_or(Self::Compare)
    }
}
