//! Who follows whom, as a store keeps it.

use super::{Listed, Page, Pending};
use crate::model::cursor::Seq;
use crate::model::id::{FollowId, UserId};
use crate::model::social::Follow;
use crate::model::timestamp::Timestamp;
use crate::model::user::Named;

/// Who follows whom.
pub trait Graph: Send + Sync {
    /// Follows, if the follower has fewer than `max` followees. The follow sees what comes after
    /// `Followed::Done.since`; the [`BACKFILL_POSTS`](super::BACKFILL_POSTS) newest before it join the timeline.
    fn follow(&self, follow: Follow, max: u64) -> Pending<Followed>;
    /// Every connection that the follower had when it was stored knows of this follow: what was missed behind a cursor
    /// need not be looked for from the follow on. Forgotten after an hour.
    fn follow_told(&self, follow: FollowId) -> Pending<()>;
    /// Unfollows; answers the follow that ended.
    fn unfollow(&self, follower: UserId, followee: UserId, now: Timestamp) -> Pending<Option<Follow>>;
    /// Who follows `user`, newest follow first; none where there is no such user.
    fn followers(&self, user: UserId, page: Page) -> Pending<Option<Listed<Named>>>;
    /// Whom `user` follows, newest follow first; none where there is no such user.
    fn following(&self, user: UserId, page: Page) -> Pending<Option<Listed<Named>>>;
    /// All whom `user` follows, each with the entry after which the follow began.
    fn followees(&self, user: UserId) -> Pending<Vec<(UserId, Seq)>>;
}

/// What came of a follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Followed: everything of the followee behind `since` is new to the follower.
    Done {
        /// The newest entry of the store when the follow was committed.
        since: Seq,
    },
    /// Followed already.
    Already {
        /// When that began.
        since: Timestamp,
    },
    /// There is no such user to follow.
    Missing,
    /// As many followees as allowed.
    TooMany,
}
