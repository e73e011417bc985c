//! Which authors are active here, and the way to each: made at first use, retired when idle.
//!
//! An author is retired only while nobody waits for it, and under the same lock under which it is
//! found; so no message is ever sent to one that is on its way out, and there are never two of one author.

use super::author::{Author, AuthorArguments, AuthorMsg};
use super::instant::Instants;
use super::neighbours::Neighbours;
use super::relays::Relays;
use super::watermark::Watermark;
use crate::model::id::{PostId, UserId};
use crate::model::post::Content;
use crate::storage::{Appended, Attempt, Deletion, IdempotencyKey, Posts, StorageError};
use ractor::{Actor, ActorCell, ActorRef, MessagingErr, RpcReplyPort};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// How long an author stays without anything to do.
pub const IDLE: Duration = Duration::from_secs(120);
/// How many may wait for one author.
const WAITING: usize = 1024;
/// How long a caller waits for its author.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The node's active authors.
pub struct Authors {
    posts: Arc<dyn Posts>,
    relays: Arc<Relays>,
    neighbours: Option<Arc<Neighbours>>,
    watermark: Arc<Watermark>,
    instants: Instants,
    supervisor: OnceLock<ActorCell>,
    active: Mutex<HashMap<UserId, Active>>,
}

struct Active {
    actor: Arc<OnceCell<ActorRef<AuthorMsg>>>,
    waiting: usize,
    used: Instant,
}

/// One who waits for an author; while there is one, the author is not retired.
struct Ticket<'a> {
    authors: &'a Authors,
    author: UserId,
    actor: Arc<OnceCell<ActorRef<AuthorMsg>>>,
}

impl Authors {
    /// None is active yet; `supervise` must be called before the first is used.
    #[must_use]
    pub fn new(
        posts: Arc<dyn Posts>,
        relays: Arc<Relays>,
        neighbours: Option<Arc<Neighbours>>,
        watermark: Arc<Watermark>,
        instants: Instants,
    ) -> Self {
        let (supervisor, active) = (OnceLock::new(), Mutex::default());
        Self { posts, relays, neighbours, watermark, instants, supervisor, active }
    }

    /// Whose children authors are.
    pub fn supervise(&self, supervisor: ActorCell) {
        // There is one supervisor a node; a second call changes nothing.
        let _ = self.supervisor.set(supervisor);
    }

    /// Posts. The answer says that it is durable and on its way to every follower that is here.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] where the store, or the author, does not answer within 10 s; then
    /// the post may have been stored all the same.
    pub async fn publish(
        &self,
        author: UserId,
        content: Content,
        key: Option<IdempotencyKey>,
        attempt: Option<Attempt>,
    ) -> Result<Appended, StorageError> {
        self.ask(author, |reply| AuthorMsg::Publish { content, key, attempt, reply }).await
    }

    /// Deletes an author's own post.
    ///
    /// # Errors
    /// As for [`Self::publish`].
    pub async fn delete(&self, author: UserId, id: PostId) -> Result<Deletion, StorageError> {
        self.ask(author, |reply| AuthorMsg::Delete { id, reply }).await
    }

    /// Has the author bring its unfinished entries to the relay again.
    ///
    /// # Errors
    /// Where the author cannot be started.
    pub async fn redrive(&self, author: UserId) -> Result<(), StorageError> {
        let ticket = self.ticket(author)?;
        let actor = ticket.actor().await?;
        actor.send_message(AuthorMsg::Redrive).map_err(|_| gone())
    }

    /// Retires those that nobody waits for and that had nothing to do for `idle`.
    pub fn retire(&self, idle: Duration) {
        self.lock().retain(|_, active| {
            let stays = active.waiting > 0 || active.used.elapsed() < idle;
            if !stays && let Some(actor) = active.actor.get() {
                actor.stop(None);
            }
            stays
        });
    }

    /// This node is no longer home of these: they end with what they have at hand, and whoever waits for one is told.
    pub fn end(&self, is_lost: impl Fn(UserId) -> bool) {
        self.lock().retain(|author, active| {
            let stays = !is_lost(*author);
            if !stays && let Some(actor) = active.actor.get() {
                actor.stop(None);
            }
            stays
        });
    }

    /// An author ended by itself: its next post makes it anew.
    pub fn ended(&self, cell: &ActorCell) {
        self.lock()
            .retain(|_, active| active.actor.get().is_none_or(|actor| actor.get_id() != cell.get_id()));
    }

    /// How many are active, and how many wait for them.
    pub fn count(&self) -> (usize, usize) {
        let active = self.lock();
        (active.len(), active.values().map(|active| active.waiting).sum())
    }

    async fn ask<T: Send + 'static>(
        &self,
        author: UserId,
        message: impl FnOnce(RpcReplyPort<Result<T, StorageError>>) -> AuthorMsg,
    ) -> Result<T, StorageError> {
        let (reply, answer) = ractor::concurrency::oneshot();
        let mut message = message(reply.into());
        let asking = async {
            loop {
                let ticket = self.ticket(author)?;
                match ticket.actor().await?.send_message(message) {
                    Ok(()) => return answer.await.map_err(|_| gone())?,
                    // It ended before it got the message; the next one is asked.
                    Err(MessagingErr::SendErr(unsent)) => message = unsent,
                    Err(_) => return Err(gone()),
                }
                self.forget(author, &ticket.actor);
            }
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(StorageError::Unavailable("the author did not answer in time".into())),
        }
    }

    fn ticket(&self, author: UserId) -> Result<Ticket<'_>, StorageError> {
        let mut all = self.lock();
        let active = all.entry(author).or_insert_with(|| Active {
            actor: Arc::default(),
            waiting: 0,
            used: Instant::now(),
        });
        if active.waiting >= WAITING {
            return Err(StorageError::Unavailable("too many wait for this author".into()));
        }
        active.waiting += 1;
        active.used = Instant::now();
        Ok(Ticket { authors: self, author, actor: active.actor.clone() })
    }

    fn forget(&self, author: UserId, actor: &Arc<OnceCell<ActorRef<AuthorMsg>>>) {
        let mut all = self.lock();
        if all.get(&author).is_some_and(|active| Arc::ptr_eq(&active.actor, actor)) {
            all.remove(&author);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// The author, started by whoever comes first.
    async fn actor(&self) -> Result<&ActorRef<AuthorMsg>, StorageError> {
        let Authors { posts, relays, neighbours, watermark, instants, supervisor, .. } = self.authors;
        let start = || async {
            let arguments = AuthorArguments {
                author: self.author,
                posts: posts.clone(),
                relays: relays.clone(),
                neighbours: neighbours.clone(),
                watermark: watermark.clone(),
                instants: instants.clone(),
            };
            let supervisor = supervisor.get().cloned().ok_or_else(gone)?;
            let spawned = Actor::spawn_linked(None, Author, arguments, supervisor).await;
            spawned.map(|(actor, _)| actor).map_err(|error| StorageError::Unavailable(error.to_string()))
        };
        self.actor.get_or_try_init(start).await
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(active) = self.authors.lock().get_mut(&self.author)
            && Arc::ptr_eq(&active.actor, &self.actor)
        {
            active.waiting -= 1;
            active.used = Instant::now();
        }
    }
}

fn gone() -> StorageError {
    StorageError::Unavailable("the author ended while it was asked".into())
}
