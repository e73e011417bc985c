//! Which conversations are active here, and the way to each: made at first use, retired when idle.
//!
//! As authors are ([`super::authors`]): one is retired only while nobody waits for it and nothing of it waits to be
//! placed, under the same lock under which it is found; so there are never two of one conversation.

use super::authors::PATIENCE;
use super::chat_homes::InboxHomes;
use super::conversation::{Conversation, ConversationArguments, ConversationMsg};
use super::placing::Placing;
use crate::model::id::ConversationId;
use crate::model::shard::Shard;
use crate::storage::StorageError;
use crate::storage::chats::{Chats, MessageAppended, NewMessage};
use ractor::{Actor, ActorCell, ActorRef, MessagingErr};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

/// How many may wait for one conversation.
const WAITING: usize = 1_024;
/// The first and the longest pause before what was left unplaced is looked for again, where the store fails.
const BACKOFF: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(10)];

/// The node's active conversations.
pub struct Conversations {
    chats: Arc<dyn Chats>,
    inboxes: Arc<InboxHomes>,
    supervisor: OnceLock<ActorCell>,
    active: Mutex<HashMap<ConversationId, Active>>,
}

struct Active {
    actor: Arc<OnceCell<ActorRef<ConversationMsg>>>,
    placing: Arc<Placing>,
    waiting: usize,
    used: Instant,
}

/// One who waits for a conversation; while there is one, the conversation is not retired.
struct Ticket<'a> {
    conversations: &'a Conversations,
    id: ConversationId,
    actor: Arc<OnceCell<ActorRef<ConversationMsg>>>,
    placing: Arc<Placing>,
}

/// How much goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Conversations that are active.
    pub active: usize,
    /// Callers that wait for them.
    pub waiting: usize,
    /// Messages whose events are not in every inbox.
    pub unplaced: usize,
    /// How long the oldest of these has waited.
    pub oldest: Duration,
}

impl Conversations {
    /// None is active yet; `supervise` must be called before the first is used.
    #[must_use]
    pub fn new(chats: Arc<dyn Chats>, inboxes: Arc<InboxHomes>) -> Self {
        Self { chats, inboxes, supervisor: OnceLock::new(), active: Mutex::default() }
    }

    /// Whose children conversations are.
    pub fn supervise(&self, supervisor: ActorCell) {
        // There is one supervisor a node; a second call changes nothing.
        let _ = self.supervisor.set(supervisor);
    }

    /// Sends a message, behind those that came before.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] where the store, or the conversation, does not answer within 10 s; then the message
    /// may have been stored all the same.
    pub async fn send(&self, message: NewMessage) -> Result<MessageAppended, StorageError> {
        let id = message.conversation;
        let (reply, answer) = ractor::concurrency::oneshot();
        let mut message = ConversationMsg::Send(Box::new(message), reply.into());
        let sending = async {
            loop {
                let ticket = self.ticket(id)?;
                match ticket.actor().await?.send_message(message) {
                    Ok(()) => return answer.await.map_err(|_| gone())?,
                    // It ended before it got the message; the next one is asked.
                    Err(MessagingErr::SendErr(unsent)) => message = unsent,
                    Err(_) => return Err(gone()),
                }
                self.forget(id, &ticket.actor);
            }
        };
        match tokio::time::timeout(PATIENCE, sending).await {
            Ok(answer) => answer,
            Err(_) => Err(StorageError::Unavailable("the conversation did not answer in time".into())),
        }
    }

    /// Has these shards' conversations place what they left unplaced; tries until the store has said which those are.
    pub async fn take_over(&self, shards: Vec<Shard>) {
        let [mut pause, longest] = BACKOFF;
        loop {
            match self.redrive_unplaced(shards.clone()).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "messages that are in no inbox yet wait: {error}"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Retires those that nobody waits for, that have placed everything and had nothing to do for `idle`.
    pub fn retire(&self, idle: Duration) {
        self.end(|_, active| {
            active.waiting == 0 && active.used.elapsed() >= idle && active.placing.backlog().0 == 0
        });
    }

    /// This node is no longer home of these: they end with what they have at hand, and whoever waits for one is told.
    pub fn end_lost(&self, is_lost: impl Fn(ConversationId) -> bool) {
        self.end(|id, _| is_lost(id));
    }

    /// A conversation ended by itself: its next message makes it anew. Answers which.
    pub fn ended(&self, cell: &ActorCell) -> Option<ConversationId> {
        let mut all = self.lock();
        let is_it = |active: &Active| active.actor.get().is_some_and(|actor| actor.get_id() == cell.get_id());
        let id = all.iter().find(|(_, active)| is_it(active)).map(|(id, _)| *id)?;
        all.remove(&id);
        Some(id)
    }

    /// Has a conversation place what it left unplaced.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub async fn redrive(&self, id: ConversationId) -> Result<(), StorageError> {
        let ticket = self.ticket(id)?;
        ticket.actor().await?.send_message(ConversationMsg::Redrive).map_err(|_| gone())
    }

    /// How much goes on.
    pub fn traffic(&self) -> Traffic {
        let active = self.lock();
        let mut traffic = Traffic { active: active.len(), ..Traffic::default() };
        for one in active.values() {
            let (unplaced, since) = one.placing.backlog();
            traffic.waiting += one.waiting;
            traffic.unplaced += unplaced;
            traffic.oldest = since.map_or(Duration::ZERO, |since| since.elapsed()).max(traffic.oldest);
        }
        traffic
    }

    async fn redrive_unplaced(&self, shards: Vec<Shard>) -> Result<(), StorageError> {
        for id in self.chats.unplaced(shards).await? {
            self.redrive(id).await?;
        }
        Ok(())
    }

    fn end(&self, ends: impl Fn(ConversationId, &Active) -> bool) {
        self.lock().retain(|id, active| {
            let stays = !ends(*id, active);
            if !stays && let Some(actor) = active.actor.get() {
                actor.stop(None);
            }
            stays
        });
    }

    fn ticket(&self, id: ConversationId) -> Result<Ticket<'_>, StorageError> {
        let mut all = self.lock();
        let active = all.entry(id).or_insert_with(|| Active {
            actor: Arc::default(),
            placing: Arc::new(Placing::new(id, self.chats.clone(), self.inboxes.clone())),
            waiting: 0,
            used: Instant::now(),
        });
        if active.waiting >= WAITING {
            return Err(StorageError::Unavailable("too many wait for this conversation".into()));
        }
        active.waiting += 1;
        active.used = Instant::now();
        let (actor, placing) = (active.actor.clone(), active.placing.clone());
        Ok(Ticket { conversations: self, id, actor, placing })
    }

    fn forget(&self, id: ConversationId, actor: &Arc<OnceCell<ActorRef<ConversationMsg>>>) {
        let mut all = self.lock();
        if all.get(&id).is_some_and(|active| Arc::ptr_eq(&active.actor, actor)) {
            all.remove(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConversationId, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// The conversation, started by whoever comes first.
    async fn actor(&self) -> Result<&ActorRef<ConversationMsg>, StorageError> {
        let Conversations { chats, inboxes, supervisor, .. } = self.conversations;
        let start = || async {
            let (chats, inboxes) = (chats.clone(), inboxes.clone());
            let arguments = ConversationArguments { chats, inboxes, placing: self.placing.clone() };
            let supervisor = supervisor.get().cloned().ok_or_else(gone)?;
            let spawned = Actor::spawn_linked(None, Conversation, arguments, supervisor).await;
            spawned.map(|(actor, _)| actor).map_err(|error| StorageError::Unavailable(error.to_string()))
        };
        self.actor.get_or_try_init(start).await
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(active) = self.conversations.lock().get_mut(&self.id)
            && Arc::ptr_eq(&active.actor, &self.actor)
        {
            active.waiting -= 1;
            active.used = Instant::now();
        }
    }
}

fn gone() -> StorageError {
    StorageError::Unavailable("the conversation ended while it was asked".into())
}
