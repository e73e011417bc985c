//! The records of chat.

use crate::model::chat::MessageEvent;
use crate::model::id::{ConversationId, MessageId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::TokenHash;
use serde_json::{Value, json};

/// A conversation.
#[derive(Clone, Debug)]
pub struct MovedConversation {
    /// Its id.
    pub id: ConversationId,
    /// What makes it the same one when it is asked for again.
    pub key: TokenHash,
    /// Who takes part, in order.
    pub participants: Vec<UserId>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Where a conversation stands for one who takes part.
#[derive(Clone, Copy, Debug)]
pub struct MovedMember {
    /// Who takes part.
    pub user: UserId,
    /// In what.
    pub conversation: ConversationId,
    /// The newest message's number; 0 where there is none.
    pub number: u64,
    /// When that was sent.
    pub at: Option<Timestamp>,
    /// How many the user has sent.
    pub sent: u64,
    /// Up to which number all is read.
    pub read_number: u64,
    /// How many of those the user sent.
    pub read_own: u64,
}

/// A message.
#[derive(Clone, Debug)]
pub struct MovedMessage {
    /// Where it was sent.
    pub conversation: ConversationId,
    /// Its number there.
    pub number: u64,
    /// Its id.
    pub id: MessageId,
    /// Who sent it.
    pub sender: UserId,
    /// What it says.
    pub body: String,
    /// When.
    pub created_at: Timestamp,
    /// How many each who takes part had sent, this one included, in the order of the participants.
    pub counts: Vec<u64>,
}

/// What a client's key was used for.
#[derive(Clone, Debug)]
pub struct MovedChatKey {
    /// Whose key.
    pub user: UserId,
    /// The key.
    pub key: String,
    /// The SHA-256 of what it came with.
    pub digest: TokenHash,
    /// Where the message was sent.
    pub conversation: ConversationId,
    /// Its number.
    pub number: u64,
    /// Its id.
    pub id: MessageId,
    /// When it was sent.
    pub created_at: Timestamp,
}

/// An inbox that ever had an event.
#[derive(Clone, Copy, Debug)]
pub struct MovedInbox {
    /// Whose.
    pub user: UserId,
    /// The newest event's place.
    pub newest: u64,
    /// Up to which place it was written to a live stream.
    pub seen: u64,
}

/// An event in an inbox.
#[derive(Clone, Copy, Debug)]
pub struct InboxEvent {
    /// Whose inbox.
    pub user: UserId,
    /// Its place there.
    pub place: u64,
    /// What it tells.
    pub event: MessageEvent,
    /// When it was put there, as nearly as its store knows.
    pub at: Timestamp,
}

impl MovedConversation {
    pub(super) fn sealed(&self) -> Value {
        json!([self.id, self.key, self.participants, self.created_at.millis()])
    }
}

impl MovedMember {
    pub(super) fn sealed(&self) -> Value {
        let at = self.at.map(Timestamp::millis);
        json!([self.user, self.conversation, self.number, at, self.sent, self.read_number, self.read_own])
    }
}

impl MovedMessage {
    pub(super) fn sealed(&self) -> Value {
        json!([
            self.conversation,
            self.number,
            self.id,
            self.sender,
            self.body,
            self.created_at.millis(),
            self.counts
        ])
    }
}

impl MovedChatKey {
    pub(super) fn sealed(&self) -> Value {
        let created_at = self.created_at.millis();
        json!([self.user, self.key, self.digest, self.conversation, self.number, self.id, created_at])
    }
}

impl MovedInbox {
    pub(super) fn sealed(&self) -> Value {
        json!([self.user, self.newest, self.seen])
    }
}

impl InboxEvent {
    pub(super) fn sealed(&self) -> Value {
        json!([self.user, self.place, self.event.message, self.event.conversation])
    }
}
