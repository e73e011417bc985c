//! Posting, deleting and reading posts. A post's text is checked by [`Content::parse`], its durability
//! and order are its author's business ([`crate::actors::author`]).

use super::{Listing, PageRequest, ServiceError, to_the_end};
use crate::actors::homes::Homes;
use crate::actors::turns::Turns;
use crate::model::id::{PostId, UserId};
use crate::model::post::{Content, Post, PostView};
use crate::model::timestamp::Timestamp;
use crate::model::user::Caller;
use crate::storage::volatile::{Counted, Limits, TimelineCache};
use crate::storage::{Appended, Deletion, EntryChange, IdempotencyKey, KeyUse, Posts, TokenHash};
use std::sync::Arc;

/// What can be done with posts.
pub struct Publish(Arc<Parts>);

struct Parts {
    posts: Arc<dyn Posts>,
    homes: Arc<Homes>,
    limits: Arc<dyn Limits>,
    cache: Arc<dyn TimelineCache>,
    /// A repeat of a key waits for the first.
    keys: Turns,
}

impl Publish {
    /// On these parts.
    #[must_use]
    pub fn new(
        posts: Arc<dyn Posts>,
        homes: Arc<Homes>,
        limits: Arc<dyn Limits>,
        cache: Arc<dyn TimelineCache>,
    ) -> Self {
        Self(Arc::new(Parts { posts, homes, limits, cache, keys: Turns::default() }))
    }

    /// Posts. With a `key` that was used within 24 hours for the same `body` (by its SHA-256), answers
    /// what was answered then and spends no limit.
    ///
    /// # Errors
    /// `Invalid` content, `KeyReused` with another body, `Limited`, `Unavailable`.
    pub async fn publish(
        &self,
        caller: &Caller,
        content: &str,
        key: Option<String>,
        body: TokenHash,
    ) -> Result<Post, ServiceError> {
        let content = Content::parse(content).map_err(|error| ServiceError::invalid("content", error))?;
        let (parts, user) = (self.0.clone(), caller.user);
        match key {
            None => parts.append(user, content, None).await,
            // To the end: a repeat must not pass a first whose client has hung up.
            Some(key) => {
                let key = IdempotencyKey { key, body };
                to_the_end(async move { parts.append_once(user, content, key).await }).await
            }
        }
    }

    /// Deletes one's own post.
    ///
    /// # Errors
    /// `Forbidden` for another's, `NotFound`, `Unavailable`.
    pub async fn delete(&self, caller: &Caller, id: PostId) -> Result<(), ServiceError> {
        match self.0.homes.delete(caller.user, id).await? {
            Deletion::Done(_) => {
                self.0.cache.forget(caller.user).await;
                Ok(())
            }
            Deletion::Missing => Err(NO_POST),
            Deletion::Forbidden => Err(ServiceError::Forbidden("the post is another user's")),
        }
    }

    /// One post.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn post(&self, caller: &Caller, id: PostId) -> Result<PostView, ServiceError> {
        self.0.posts.post(id, caller.user).await?.ok_or(NO_POST)
    }

    /// Several posts, in the order of `ids` without repeats, and those that are not there.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn posts(
        &self,
        caller: &Caller,
        mut ids: Vec<PostId>,
    ) -> Result<(Vec<PostView>, Vec<PostId>), ServiceError> {
        let mut seen = std::collections::HashSet::new();
        ids.retain(|id| seen.insert(*id));
        let found = self.0.posts.posts(ids.clone(), caller.user).await?;
        ids.retain(|id| !found.iter().any(|view| view.post.id == *id));
        Ok((found, ids))
    }

    /// An author's posts, newest first.
    ///
    /// # Errors
    /// `NotFound` where there is no such user, `Unavailable`.
    pub async fn by_author(
        &self,
        caller: &Caller,
        author: UserId,
        page: PageRequest,
    ) -> Result<Listing<PostView>, ServiceError> {
        let listed = self.0.posts.by_author(author, caller.user, page.with_one_more()).await?;
        Ok(page.listing(listed.ok_or(super::NO_USER)?))
    }
}

impl Parts {
    async fn append_once(
        &self,
        user: UserId,
        content: Content,
        key: IdempotencyKey,
    ) -> Result<Post, ServiceError> {
        let _turn = self.keys.of((user, &key.key)).await;
        match self.posts.keyed(user, key.key.clone(), Timestamp::now()).await? {
            Some(used) => repeated(used, &key.body),
            None => self.append(user, content, Some(key)).await,
        }
    }

    async fn append(
        &self,
        user: UserId,
        content: Content,
        key: Option<IdempotencyKey>,
    ) -> Result<Post, ServiceError> {
        let taken = self.limits.take(Counted::Post(user)).await?;
        taken.map_err(|retry_after| ServiceError::Limited { retry_after, what: "posts" })?;
        let body = key.as_ref().map(|key| key.body);
        match self.homes.publish(user, content, key).await? {
            Appended::Stored(entry) => {
                self.cache.forget(user).await;
                match entry.change {
                    EntryChange::Posted { post, .. } => Ok(post),
                    EntryChange::Deleted { .. } => {
                        Err(ServiceError::Internal("a post was stored as a deletion".into()))
                    }
                }
            }
            Appended::Repeated(used) => repeated(used, &body.unwrap_or_default()),
            Appended::NoAuthor => Err(ServiceError::Unauthorized("the token's user is gone")),
        }
    }
}

const NO_POST: ServiceError = ServiceError::NotFound("there is no such post");

fn repeated(used: KeyUse, body: &TokenHash) -> Result<Post, ServiceError> {
    if used.body == *body { Ok(used.post) } else { Err(ServiceError::KeyReused) }
}
