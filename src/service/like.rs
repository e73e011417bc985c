//! Likes.

use super::ServiceError;
use crate::model::id::{LikeId, PostId};
use crate::model::social::Like;
use crate::model::timestamp::Timestamp;
use crate::model::user::Caller;
use crate::storage::volatile::TimelineCache;
use crate::storage::{Liking, Posts};
use std::sync::Arc;

/// What can be done with likes.
pub struct Likes {
    posts: Arc<dyn Posts>,
    cache: Arc<dyn TimelineCache>,
}

impl Likes {
    /// On these parts.
    #[must_use]
    pub fn new(posts: Arc<dyn Posts>, cache: Arc<dyn TimelineCache>) -> Self {
        Self { posts, cache }
    }

    /// Likes a post.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` if liked already, `Unavailable`.
    pub async fn like(&self, caller: &Caller, post: PostId) -> Result<Like, ServiceError> {
        let like = Like { id: LikeId::make(), user: caller.user, post, created_at: Timestamp::now() };
        let liking = self.posts.like(like).await?;
        self.cache.forget(caller.user).await;
        match liking {
            Liking::Done => Ok(like),
            Liking::Already => {
                Err(ServiceError::Conflict { code: "already_liked", detail: "the post is liked already" })
            }
            Liking::Missing => Err(ServiceError::NotFound("there is no such post")),
        }
    }

    /// Takes a like back.
    ///
    /// # Errors
    /// `NotFound` where there was none, `Unavailable`.
    pub async fn unlike(&self, caller: &Caller, post: PostId) -> Result<(), ServiceError> {
        let was_liked = self.posts.unlike(caller.user, post, Timestamp::now()).await?;
        self.cache.forget(caller.user).await;
        if was_liked { Ok(()) } else { Err(ServiceError::NotFound("the post is not liked")) }
    }
}
