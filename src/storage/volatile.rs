//! What is shared but need not survive: limits, presence, news of revoked logins, pages of timelines.
//!
//! Never the only copy of anything: losing all of it costs time, not truth. [`super::memory`] keeps it
//! in this process, [`super::redis`] shares it among nodes. What is asked for answers [`Asked`], which
//! never fails: where it cannot be known, the answer is that of somebody who knows nothing.

use super::{Pending, Place};
use crate::model::id::{ConnectionId, LoginId, RoomId, UserId};
use crate::model::post::PostView;
use crate::model::room::ViewerKey;
use crate::model::timestamp::Timestamp;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// An answer that is on its way, soon. The call is made when it is called, not when the future is first
/// polled; dropping the future does not undo it.
pub type Asked<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How long a page of a timeline, or its count, may be shown.
pub const PAGE_AGE: Duration = Duration::from_secs(60);
/// Pages that are kept of one user; of more, the oldest goes.
pub const PAGES: usize = 4;
/// How long a connection counts as present after it came or its client last pinged.
pub const PRESENCE_AGE: Duration = Duration::from_secs(600);

/// What a limit counts, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// A request with a token.
    Request(UserId),
    /// A request without one, by address (of IPv6 the /64).
    AddressRequest(IpAddr),
    /// A try to log in or to refresh, by address.
    Login(IpAddr),
    /// A try to register, by address.
    Registration(IpAddr),
    /// A post.
    Post(UserId),
    /// A press of a viewer, in a room.
    Press(RoomId, ViewerKey),
}

/// Token buckets for each [`Counted`]; a limit of 0 is none. A bucket that was never taken from is full.
pub trait Limits: Send + Sync {
    /// Takes one token, or answers how long it is until there is one; then nothing was taken.
    fn take(&self, what: Counted) -> Pending<Result<(), Duration>>;
}

/// Which logins were ended before their tokens expired. The store has them too; this answers at once.
pub trait Revocations: Send + Sync {
    /// The login is ended; forgotten again after `expires_at`. Known here when this is called; other
    /// nodes have been told, if they can be, when it answers.
    fn revoke(&self, login: LoginId, expires_at: Timestamp) -> Asked<()>;
    /// The same of one that the store, or another node, knows to be ended: nobody else is told. Answers
    /// whether that was new.
    fn learn(&self, login: LoginId, expires_at: Timestamp) -> bool;
    /// Whether it was ended.
    fn is_revoked(&self, login: LoginId) -> bool;
}

/// Who beside a room's host hears of its effects. Waits for nothing, and nothing depends on it: what cannot be told now is
/// told nobody.
pub trait GameEvents: Send + Sync {
    /// An effect, as its host is told of it. Those of a room are told in their order.
    fn publish(&self, event: String);
}

/// Who is connected, for others to see. Waits for nothing and may forget: where there is more to tell
/// than can be told, the newest is not.
pub trait Presence: Send + Sync {
    /// The connection is there, for [`PRESENCE_AGE`] from now: it came, or its client pinged.
    fn put(&self, present: Present);
    /// It is gone.
    fn remove(&self, connection: ConnectionId);
}

/// A connection as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// Which.
    pub connection: ConnectionId,
    /// Whose.
    pub user: UserId,
}

/// Pages of timelines and their counts, [`PAGE_AGE`] at most. A page is good for the very list of places
/// that it was made of; [`PAGES`] are kept of a user.
pub trait TimelineCache: Send + Sync {
    /// What is kept of a user: the count, and the page that was made of exactly this list. Asked *before*
    /// the store is asked for what is missing, which may then be kept under the [`Reading`].
    fn recall(&self, user: UserId, list: Vec<Place>) -> Asked<Recalled>;
    /// Keeps what was read of the store since [`Self::recall`] answered `reading`, unless the user was
    /// forgotten since.
    fn keep(&self, user: UserId, reading: Reading, read: Read) -> Asked<()>;
    /// Forgets everything of a user, who just changed something and must see it: what began to be read
    /// before is not kept afterwards either. To be awaited before the change is answered.
    fn forget(&self, user: UserId) -> Asked<()>;
}

/// What a cache remembers of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// How many entries the timeline has.
    pub total: Option<u64>,
    /// The page.
    pub page: Option<CachedPage>,
    /// Under what is missing can be kept, if at all.
    pub reading: Option<Reading>,
}

/// When a reading of the store began, as the cache knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Changes when the user is forgotten.
    pub(super) epoch: u128,
    /// Milliseconds by the cache's own clock.
    pub(super) began: u64,
}

/// What was read of the store.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// How many entries the timeline has.
    pub total: Option<u64>,
    /// A page, and the list that it was made of.
    pub page: Option<(Vec<Place>, CachedPage)>,
}

/// A page as it was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedPage {
    /// The posts, in the order of the list.
    pub posts: Arc<Vec<PostView>>,
    /// When they were read: a moment before the store was asked.
    pub cached_at: Timestamp,
}
