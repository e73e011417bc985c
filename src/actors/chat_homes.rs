//! The way to where a conversation, and an inbox, is at home: the one place through which messages go there.
//!
//! A conversation's home gives its messages one order; an inbox's home gives events their places, those of one conversation
//! after those of another, and tells who listens, on other nodes too. Neither ever waits for the other's answer to a call that waits for it:
//! a conversation calls inboxes, an inbox calls nobody. What may have been done by a home that does not answer is asked
//! for again: a message by its key, which is stored once; events as such that may have their places.

use super::conversations::{Conversations, Traffic};
use super::homes::Homes;
use super::inboxes::Inboxes;
use super::neighbours::Neighbours;
use super::turns::Turns;
use super::wire::{Answer, Asking, Nothing, PlaceText, PlacedText, SendText, Telling, Told};
use crate::model::chat::MessageEvent;
use crate::model::id::{MessageId, UserId};
use crate::model::shard::Shard;
use crate::storage::StorageError;
use crate::storage::chats::{Chats, MessageAppended, NewMessage};
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;

/// For so long a link may hold a try back: a node that was not heard for so long has left the view.
const LATE: Duration = Duration::from_secs(300);
/// Events asked for again that are remembered, at most.
const REMEMBERED: u64 = 100_000;

/// Where conversations are at home.
pub struct ConversationHomes {
    homes: Arc<Homes>,
    conversations: Arc<Conversations>,
}

/// Where inboxes are at home.
pub struct InboxHomes {
    homes: Arc<Homes>,
    chats: Arc<dyn Chats>,
    inboxes: Arc<Inboxes>,
    /// The nodes where others may listen, in a cluster.
    neighbours: Option<Arc<Neighbours>>,
    /// One call at a time for each inbox.
    turns: Turns,
    /// Events that were asked for again: a first try that a stalled link delivers behind its repeat is no first one.
    again: Cache<(UserId, MessageId), ()>,
}

impl ConversationHomes {
    /// Of this node.
    #[must_use]
    pub fn new(homes: Arc<Homes>, conversations: Arc<Conversations>) -> Self {
        Self { homes, conversations }
    }

    /// Sends a message, at the conversation's home. The answer says that it is durable, and that its event will be in
    /// every participant's inbox.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] where the store, or the conversation's home, does not answer within 10 s; then the
    /// message may have been stored all the same, and a repeat of its key tells.
    pub async fn send(&self, message: NewMessage) -> Result<MessageAppended, StorageError> {
        let asking = |_| Asking::Send(SendText::from(&message));
        let here = |_| async { Answer::from(self.conversations.send(message.clone()).await) };
        let (answer, is_repeat) =
            self.homes.at_home(Shard::of_conversation(message.conversation), asking, here).await?;
        let sent = answer.sent().unwrap_or_else(|error| Err(StorageError::Refused(error.to_string())));
        match sent {
            // By a try of this call whose answer was lost.
            Ok(MessageAppended::Repeated(stored)) if is_repeat && stored.created_at == message.created_at => {
                Ok(MessageAppended::Stored { message: stored, place: None })
            }
            sent => sent,
        }
    }

    /// Another node asks this one, as the conversation's home, to send a message.
    pub(super) async fn send_as_home(&self, asked: SendText) -> Option<Answer> {
        let message = asked.read().ok()?;
        let shard = Shard::of_conversation(message.conversation);
        let send = async { self.conversations.send(message).await.into() };
        Some(self.homes.as_home(shard, send).await)
    }

    /// These shards have begun here: what of them has no place yet gets it.
    pub(super) async fn take_over(&self, shards: Vec<Shard>) {
        self.conversations.take_over(shards).await;
    }

    /// This node is home to no more than these shards.
    pub(super) fn keep(&self, is_ours: impl Fn(Shard) -> bool) {
        self.conversations.end_lost(|id| !is_ours(Shard::of_conversation(id)));
    }

    /// How much goes on here.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.conversations.traffic()
    }
}

impl InboxHomes {
    /// Of this node.
    #[must_use]
    pub fn new(
        homes: Arc<Homes>,
        chats: Arc<dyn Chats>,
        inboxes: Arc<Inboxes>,
        neighbours: Option<Arc<Neighbours>>,
    ) -> Self {
        let again = Cache::builder().time_to_live(LATE).max_capacity(REMEMBERED).build();
        Self { homes, chats, inboxes, neighbours, turns: Turns::default(), again }
    }

    /// Gives events of one conversation, in its order, their places in an inbox, at the inbox's home; whoever listens is
    /// told. Where some may have their places already (`is_repeat`), those keep them.
    ///
    /// # Errors
    /// Where the store, or the inbox's home, does not answer; then they may have their places.
    pub async fn place(
        &self,
        user: UserId,
        events: &[MessageEvent],
        is_repeat: bool,
    ) -> Result<(), StorageError> {
        let asking = |again| Asking::Place(PlaceText::of(user, events, is_repeat || again));
        let here = |again| self.place_here(user, events.to_vec(), is_repeat || again);
        let (answer, _) = self.homes.at_home(Shard::of(user), asking, here).await?;
        answer.placed().unwrap_or_else(|error| Err(StorageError::Refused(error.to_string())))
    }

    /// Another node asks this one, as the inbox's home, to place events.
    pub(super) async fn place_as_home(&self, asked: &PlaceText) -> Option<Answer> {
        let (user, events, is_repeat) = asked.read().ok()?;
        Some(self.homes.as_home(Shard::of(user), self.place_here(user, events, is_repeat)).await)
    }

    /// An event has its place.
    fn placed(&self, user: UserId, place: u64, event: MessageEvent) {
        self.inboxes.push(user, place, event);
        if let Some(neighbours) = &self.neighbours {
            neighbours.tell_interested(user, || {
                Told::encode_frame(Telling::Placed(PlacedText::of(user, place, event)))
            });
        }
    }

    /// A message may be stored, and its events placed, of which nobody will hear.
    pub fn doubt(&self) {
        self.inboxes.doubt();
    }

    async fn place_here(&self, user: UserId, events: Vec<MessageEvent>, is_repeat: bool) -> Answer {
        let _turn = self.turns.of(user).await;
        let tried = |event: &MessageEvent| (user, event.message);
        let is_repeat = is_repeat || events.iter().any(|event| self.again.contains_key(&tried(event)));
        if is_repeat {
            events.iter().for_each(|event| self.again.insert(tried(event), ()));
        }
        match self.chats.place(user, events.clone(), is_repeat).await {
            Ok(places) => {
                places.into_iter().zip(events).for_each(|(place, event)| self.placed(user, place, event));
                Answer::Done(Nothing {})
            }
            Err(error) => error.into(),
        }
    }
}
