//! What is shared but need not survive: limits, news of revoked logins, pages of timelines.
//!
//! Never the only copy of anything: losing all of it costs time, not truth. [`super::memory`] keeps it
//! in this process.

use super::{Pending, Place};
use crate::model::id::{LoginId, UserId};
use crate::model::post::PostView;
use crate::model::timestamp::Timestamp;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

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
}

/// Token buckets for each [`Counted`]; a limit of 0 is none.
pub trait Limits: Send + Sync {
    /// Takes one token, or answers how long it is until there is one.
    fn take(&self, what: Counted) -> Pending<Result<(), Duration>>;
}

/// Which logins were ended before their tokens expired. The store has them too; this answers at once.
pub trait Revocations: Send + Sync {
    /// The login is ended; forgotten again after `expires_at`.
    fn revoke(&self, login: LoginId, expires_at: Timestamp);
    /// Whether it was ended.
    fn is_revoked(&self, login: LoginId) -> bool;
}

/// Pages of timelines, 60 s at most, each made of a list of places and good for that same list only.
pub trait TimelineCache: Send + Sync {
    /// The page kept for exactly this list.
    fn page(&self, user: UserId, list: &[Place]) -> Option<CachedPage>;
    /// Keeps a page, unless its user was forgotten since it was begun to be read.
    fn keep_page(&self, user: UserId, list: &[Place], page: CachedPage);
    /// The kept count of the timeline's entries.
    fn total(&self, user: UserId) -> Option<u64>;
    /// Keeps the count, which was begun to be read at `read_at`, unless its user was forgotten since.
    fn keep_total(&self, user: UserId, total: u64, read_at: Timestamp);
    /// Forgets everything of a user, who just changed something and must see it: what was read before
    /// is not kept afterwards either.
    fn forget(&self, user: UserId);
}

/// A page as it was shown.
#[derive(Clone)]
pub struct CachedPage {
    /// The posts, in the order of the list.
    pub posts: Arc<Vec<PostView>>,
    /// When they were read: a moment before the store was asked.
    pub cached_at: Timestamp,
}
