//! Following: who reads whom, in the store and, for sessions that are connected, in the relays' index.
//!
//! A post made during a follow is either older than it, and then among those that the follow puts on
//! the timeline, or newer, and then pushed: relays keep the author's entries from before the follow is
//! stored until they know after which entry it sees.

use super::{Listing, NO_USER, PageRequest, ServiceError, to_the_end};
use crate::actors::follows::FollowNews;
use crate::actors::instant::{Instant, Instants};
use crate::actors::relays::RelayGone;
use crate::actors::turns::Turns;
use crate::model::id::{FollowId, UserId};
use crate::model::social::Follow;
use crate::model::timestamp::Timestamp;
use crate::model::user::{Caller, Named};
use crate::storage::volatile::TimelineCache;
use crate::storage::{Followed, Graph};
use std::sync::Arc;
use std::time::Duration;

/// What can be done with follows.
#[derive(Clone)]
pub struct Follows(Arc<Parts>);

/// What follows stand on.
pub struct Parts {
    /// Who follows whom.
    pub graph: Arc<dyn Graph>,
    /// The follower's connections, here and on other nodes.
    pub news: Arc<FollowNews>,
    /// One change at a time for each follower.
    pub turns: Arc<Turns>,
    /// Pages that a change makes stale for its maker.
    pub cache: Arc<dyn TimelineCache>,
    /// How many a user may follow.
    pub followees: u64,
    /// Where tests listen.
    pub instants: Instants,
}

impl Follows {
    /// On these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Follows. Once answered, every later post reaches the follower's connections.
    ///
    /// # Errors
    /// `Invalid` for oneself or over the bound, `NotFound`, `Conflict` if followed already, `Unavailable`.
    pub async fn follow(&self, caller: &Caller, followee: UserId) -> Result<Follow, ServiceError> {
        if followee == caller.user {
            return Err(ServiceError::invalid("id", "one cannot follow oneself"));
        }
        let parts = self.0.clone();
        let follow =
            Follow { id: FollowId::make(), follower: caller.user, followee, created_at: Timestamp::now() };
        to_the_end(async move { parts.follow(follow).await }).await
    }

    /// Unfollows. Once answered, nothing more of the followee reaches the follower.
    ///
    /// # Errors
    /// `NotFound` if not followed, `Unavailable`.
    pub async fn unfollow(&self, caller: &Caller, followee: UserId) -> Result<(), ServiceError> {
        let (parts, follower) = (self.0.clone(), caller.user);
        to_the_end(async move { parts.unfollow(follower, followee).await }).await
    }

    /// Who follows a user, newest follow first.
    ///
    /// # Errors
    /// `NotFound` where there is no such user, `Unavailable`.
    pub async fn followers(
        &self,
        _: &Caller,
        user: UserId,
        page: PageRequest,
    ) -> Result<Listing<Named>, ServiceError> {
        let listed = self.0.graph.followers(user, page.with_one_more()).await?;
        Ok(page.listing(listed.ok_or(NO_USER)?))
    }

    /// Whom a user follows, newest follow first.
    ///
    /// # Errors
    /// `NotFound` where there is no such user, `Unavailable`.
    pub async fn following(
        &self,
        _: &Caller,
        user: UserId,
        page: PageRequest,
    ) -> Result<Listing<Named>, ServiceError> {
        let listed = self.0.graph.following(user, page.with_one_more()).await?;
        Ok(page.listing(listed.ok_or(NO_USER)?))
    }
}

impl Parts {
    async fn follow(&self, follow: Follow) -> Result<Follow, ServiceError> {
        let _turn = self.turns.of(follow.follower).await;
        let expected = self.news.expect(follow.follower, follow.followee).await?;
        self.instants.pass(Instant::FollowExpected(follow.follower)).await;
        let most = self.followees;
        match self.graph.follow(follow, most).await? {
            Followed::Done { since } => {
                self.instants.pass(Instant::FollowStored(follow.follower)).await;
                self.cache.forget(follow.follower).await;
                if expected.settle(since).await {
                    // Nobody waits for it: where it is not noted down, a resume reads more than it needs.
                    tokio::spawn(self.graph.follow_told(follow.id));
                }
                Ok(follow)
            }
            Followed::Already { since } => {
                expected.is_stored(since);
                Err(ServiceError::Conflict {
                    code: "already_following",
                    detail: "the user is followed already",
                })
            }
            Followed::Missing => Err(NO_USER),
            Followed::TooMany => {
                Err(ServiceError::invalid("id", format!("a user follows at most {most} others")))
            }
        }
    }

    async fn unfollow(&self, follower: UserId, followee: UserId) -> Result<(), ServiceError> {
        let _turn = self.turns.of(follower).await;
        let ended = self.graph.unfollow(follower, followee, Timestamp::now()).await?;
        ended.ok_or(ServiceError::NotFound("the user is not followed"))?;
        self.cache.forget(follower).await;
        self.news.unfollow(follower, followee).await;
        Ok(())
    }
}

impl From<RelayGone> for ServiceError {
    fn from(_: RelayGone) -> Self {
        Self::Unavailable { retry_after: Duration::from_secs(1) }
    }
}
