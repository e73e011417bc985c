//! Chat, as a store keeps it: conversations, their messages, and each user's inbox.

use super::{Pending, TokenHash};
use crate::model::chat::{
    Conversation, ConversationKey, ConversationView, Message, MessageBody, MessageEvent,
};
use crate::model::id::{ConversationId, MessageId, UserId};
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// How long an inbox keeps an event.
pub const INBOX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Conversations and inboxes.
///
/// Messages of a conversation are numbered from 1 without a gap, in the order of the calls of its home, and are kept for
/// ever. Each has an event in the inbox of everybody who takes part, the sender's too; of one conversation they stand there
/// in its order. A place is a number that grows from one event of an inbox to the next.
///
/// Where a store has one home for all, an append gives its event one place for all inboxes, in the same write: an inbox is
/// read, and its places have gaps; [`Chats::placements`] tells of each. Elsewhere each inbox numbers its own events from 1
/// without a gap: the home of the conversation has each placed by [`Chats::place`], which the home of the inbox calls, and
/// says by [`Chats::placed`] how far that is done; what is not done is found by [`Chats::unplaced`].
///
/// A home that another has superseded may have stored messages that this one was not told of. Where an append answers a
/// number that is not the next after the last one that it answered, or a repeated message, those that have no places are
/// found by [`Chats::to_place`].
pub trait Chats: Send + Sync {
    /// The conversation of that key, made where there is none; of two at once, one is made. Who takes part is only looked
    /// at where it is made.
    fn converse(&self, new: NewConversation) -> Pending<Conversing>;
    /// A conversation that `user` takes part in; none where there is none, or it does not: by the same reads.
    fn conversation(&self, id: ConversationId, user: UserId) -> Pending<Option<Conversation>>;
    /// What `user` takes part in, newest activity first (where nothing was sent, when it was made), behind a place.
    fn conversations(
        &self,
        user: UserId,
        behind: Option<ConversationPlace>,
        limit: usize,
    ) -> Pending<Vec<ConversationView>>;
    /// All messages up to that one are read by `user`. A mark never goes back.
    fn mark_read(&self, id: ConversationId, user: UserId, message: MessageId) -> Pending<Marking>;

    /// Stores a message and its key: all or nothing. To be called for one conversation at a time, by its home.
    fn append_message(&self, new: NewMessage) -> Pending<MessageAppended>;
    /// The newest messages below number `before`, newest first; none where `user` does not take part.
    fn history(
        &self,
        id: ConversationId,
        user: UserId,
        before: Option<u64>,
        limit: usize,
    ) -> Pending<Option<Vec<Message>>>;

    /// Gives events of one conversation's messages, in its order, the next places in the inbox of `user`, and answers which;
    /// where that may have been done before (`is_repeat`) and was lately, an event keeps the place that it has. To be called
    /// for one inbox at a time, by its home.
    fn place(&self, user: UserId, events: Vec<MessageEvent>, is_repeat: bool) -> Pending<Vec<u64>>;
    /// The events of all messages up to number `through` have their places in every inbox.
    fn placed(&self, id: ConversationId, through: u64) -> Pending<()>;
    /// Conversations of these shards that may have messages whose events have no places yet.
    fn unplaced(&self, shards: Vec<Shard>) -> Pending<Vec<ConversationId>>;
    /// Who takes part in a conversation, and its messages that may have no places yet, in order.
    fn to_place(&self, id: ConversationId) -> Pending<ToPlace>;

    /// What appends place from now on, in its order, without a gap, each once it is durable; `None` where they place nothing.
    fn placements(&self) -> Option<broadcast::Receiver<Placement>>;

    /// The events of an inbox behind a place, oldest first.
    fn inbox(&self, user: UserId, after: u64, limit: usize) -> Pending<InboxPage>;
    /// How far an inbox reaches, and what of it was seen.
    fn reach(&self, user: UserId) -> Pending<InboxReach>;
    /// The inboxes of these users were written to live streams up to there. A mark never goes back.
    fn seen(&self, marks: Vec<(UserId, u64)>) -> Pending<()>;
}

/// A conversation to be made.
#[derive(Clone, Debug)]
pub struct NewConversation {
    /// The id that it gets.
    pub id: ConversationId,
    /// What makes it the same one when it is asked for again.
    pub key: ConversationKey,
    /// Who takes part.
    pub participants: Vec<UserId>,
    /// When it is made.
    pub created_at: Timestamp,
}

/// What came of asking for a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conversing {
    /// It was made.
    Made(Conversation),
    /// It was there.
    Found(Conversation),
    /// These users are not there; nothing was made.
    Unknown(Vec<UserId>),
}

/// Where a conversation stands in its user's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationPlace {
    /// When its newest message was sent, or it was made.
    pub active_at: Timestamp,
    /// Which; of several of one instant, the greater id is first.
    pub id: ConversationId,
}

/// What came of a read mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marking {
    /// It stands there, or further on.
    Done,
    /// The user does not take part, or there is no such conversation.
    Forbidden,
    /// The conversation has no such message.
    NoSuchMessage,
}

/// A message to be stored.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Where it is sent.
    pub conversation: ConversationId,
    /// Who sends it.
    pub sender: UserId,
    /// What it says.
    pub body: MessageBody,
    /// The client's key, unique to its user for [`KEY_AGE`](super::KEY_AGE).
    pub key: String,
    /// The SHA-256 of what it came with: the conversation and the body.
    pub digest: TokenHash,
    /// When it is sent.
    pub created_at: Timestamp,
}

/// What came of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageAppended {
    /// Stored.
    Stored {
        /// As it is stored.
        message: Message,
        /// Where its event stands in all inboxes, where the store has placed it; else `None`.
        place: Option<u64>,
    },
    /// The key was used for the same before: nothing was stored now.
    Repeated(Message),
    /// The key was used for something else.
    KeyReused,
    /// The sender does not take part, or there is no such conversation.
    Forbidden,
}

/// An event that an append placed in inboxes.
#[derive(Clone, Debug)]
pub struct Placement {
    /// In whose.
    pub participants: Arc<[UserId]>,
    /// Where, in all of them.
    pub place: u64,
    /// What.
    pub event: MessageEvent,
}

/// What remains to be placed of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToPlace {
    /// In whose inboxes.
    pub participants: Vec<UserId>,
    /// The events of all messages up to this number have their places.
    pub through: u64,
    /// Number and event of each message behind that, in order.
    pub events: Vec<(u64, MessageEvent)>,
}

/// How far an inbox reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxReach {
    /// No event that was ever there has a place behind this one; 0 where there was none.
    pub newest: u64,
    /// Everything behind this place is kept; 0 where nothing has been removed.
    pub gone: u64,
    /// What [`Chats::seen`] said last.
    pub seen: u64,
}

/// A part of an inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboxPage {
    /// Each with its place, in order.
    pub events: Vec<(u64, MessageEvent)>,
    /// Whatever is kept of the inbox between the place that was asked for and this one is in `events`.
    pub through: u64,
}
