//! What nodes say to each other of chat, and what it means here.

use super::reading::{hash_of, uuid_of};
use super::{Answer, Garbled, id_bytes, user_of};
use crate::model::chat::{Message as Sent, MessageBody, MessageEvent};
use crate::model::id::{ConversationId, MessageId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use crate::storage::chats::{MessageAppended, NewMessage};
use bytes::Bytes;
use prost::Message;

/// A message to be sent.
#[derive(Clone, PartialEq, Message)]
pub struct SendText {
    /// The conversation.
    #[prost(bytes = "bytes", tag = "1")]
    pub conversation: Bytes,
    /// Who sends it.
    #[prost(bytes = "bytes", tag = "2")]
    pub sender: Bytes,
    /// What it says.
    #[prost(string, tag = "3")]
    pub body: String,
    /// The client's key.
    #[prost(string, tag = "4")]
    pub key: String,
    /// The SHA-256 of what the key came with.
    #[prost(bytes = "bytes", tag = "5")]
    pub digest: Bytes,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "6")]
    pub at: i64,
}

/// A message that was sent.
#[derive(Clone, PartialEq, Message)]
pub struct MessageText {
    /// Its id.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// The conversation.
    #[prost(bytes = "bytes", tag = "2")]
    pub conversation: Bytes,
    /// Its number there.
    #[prost(uint64, tag = "3")]
    pub number: u64,
    /// Who sent it.
    #[prost(bytes = "bytes", tag = "4")]
    pub sender: Bytes,
    /// What it says.
    #[prost(string, tag = "5")]
    pub body: String,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "6")]
    pub at: i64,
}

/// Why a message is refused.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct NotSent {
    /// The key was used for something else; otherwise the sender does not take part.
    #[prost(bool, tag = "1")]
    pub is_key_reused: bool,
}

/// Events of one conversation that are to have places in an inbox.
#[derive(Clone, PartialEq, Message)]
pub struct PlaceText {
    /// Whose inbox.
    #[prost(bytes = "bytes", tag = "1")]
    pub user: Bytes,
    /// The messages, in their order.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub messages: Vec<Bytes>,
    /// The conversation.
    #[prost(bytes = "bytes", tag = "3")]
    pub conversation: Bytes,
    /// Whether some may have their places already.
    #[prost(bool, tag = "4")]
    pub is_repeat: bool,
}

/// An event that has its place in an inbox.
#[derive(Clone, PartialEq, Message)]
pub struct PlacedText {
    /// Whose inbox.
    #[prost(bytes = "bytes", tag = "1")]
    pub user: Bytes,
    /// Where it stands there.
    #[prost(uint64, tag = "2")]
    pub place: u64,
    /// The message.
    #[prost(bytes = "bytes", tag = "3")]
    pub message: Bytes,
    /// The conversation.
    #[prost(bytes = "bytes", tag = "4")]
    pub conversation: Bytes,
}

impl SendText {
    /// What is to be sent.
    ///
    /// # Errors
    /// Where it makes no sense.
    pub fn read(self) -> Result<NewMessage, Garbled> {
        Ok(NewMessage {
            conversation: conversation_of(&self.conversation)?,
            sender: user_of(&self.sender)?,
            body: MessageBody::stored(self.body),
            key: self.key,
            digest: hash_of(&self.digest)?,
            created_at: Timestamp::from_millis(self.at),
        })
    }
}

impl From<&NewMessage> for SendText {
    fn from(new: &NewMessage) -> Self {
        Self {
            conversation: id_bytes(new.conversation.0),
            sender: id_bytes(new.sender.0),
            body: new.body.as_str().to_owned(),
            key: new.key.clone(),
            digest: Bytes::copy_from_slice(&new.digest),
            at: new.created_at.millis(),
        }
    }
}

impl MessageText {
    fn read(self) -> Result<Sent, Garbled> {
        Ok(Sent {
            id: MessageId(uuid_of(&self.id)?),
            conversation: conversation_of(&self.conversation)?,
            number: self.number,
            sender: user_of(&self.sender)?,
            body: MessageBody::stored(self.body),
            created_at: Timestamp::from_millis(self.at),
        })
    }
}

impl From<Sent> for MessageText {
    fn from(sent: Sent) -> Self {
        Self {
            id: id_bytes(sent.id.0),
            conversation: id_bytes(sent.conversation.0),
            number: sent.number,
            sender: id_bytes(sent.sender.0),
            body: sent.body.as_str().to_owned(),
            at: sent.created_at.millis(),
        }
    }
}

impl PlaceText {
    /// Of those events of one conversation, in the inbox of that user.
    #[must_use]
    pub fn of(user: UserId, events: &[MessageEvent], is_repeat: bool) -> Self {
        let conversation = events.first().map(|event| id_bytes(event.conversation.0)).unwrap_or_default();
        let messages = events.iter().map(|event| id_bytes(event.message.0)).collect();
        Self { user: id_bytes(user.0), messages, conversation, is_repeat }
    }

    /// Whose inbox, which events, and whether some may have their places already.
    ///
    /// # Errors
    /// Where it makes no sense.
    pub fn read(&self) -> Result<(UserId, Vec<MessageEvent>, bool), Garbled> {
        let events = self.messages.iter().map(|message| event_of(message, &self.conversation));
        Ok((user_of(&self.user)?, events.collect::<Result<_, _>>()?, self.is_repeat))
    }
}

impl PlacedText {
    /// That place of that event, in the inbox of that user.
    #[must_use]
    pub fn of(user: UserId, place: u64, event: MessageEvent) -> Self {
        let (message, conversation) = (id_bytes(event.message.0), id_bytes(event.conversation.0));
        Self { user: id_bytes(user.0), place, message, conversation }
    }

    /// Whose inbox, which place, and which event.
    ///
    /// # Errors
    /// Where it makes no sense.
    pub fn read(&self) -> Result<(UserId, u64, MessageEvent), Garbled> {
        Ok((user_of(&self.user)?, self.place, event_of(&self.message, &self.conversation)?))
    }
}

impl From<Result<MessageAppended, StorageError>> for Answer {
    fn from(result: Result<MessageAppended, StorageError>) -> Self {
        match result {
            Ok(MessageAppended::Stored { message, .. }) => Self::Sent(message.into()),
            Ok(MessageAppended::Repeated(message)) => Self::SentBefore(message.into()),
            Ok(MessageAppended::KeyReused) => Self::NotSent(NotSent { is_key_reused: true }),
            Ok(MessageAppended::Forbidden) => Self::NotSent(NotSent { is_key_reused: false }),
            Err(error) => error.into(),
        }
    }
}

impl Answer {
    /// What came of sending a message.
    ///
    /// # Errors
    /// Where it is no answer to that, or makes no sense.
    pub fn sent(self) -> Result<Result<MessageAppended, StorageError>, Garbled> {
        Ok(match self {
            Self::Sent(message) => Ok(MessageAppended::Stored { message: message.read()?, place: None }),
            Self::SentBefore(message) => Ok(MessageAppended::Repeated(message.read()?)),
            Self::NotSent(NotSent { is_key_reused: true }) => Ok(MessageAppended::KeyReused),
            Self::NotSent(NotSent { is_key_reused: false }) => Ok(MessageAppended::Forbidden),
            Self::Failed(failed) => Err(failed.into()),
            _ => return Err(Garbled),
        })
    }

    /// What came of placing events.
    ///
    /// # Errors
    /// Where it is no answer to that.
    pub fn placed(self) -> Result<Result<(), StorageError>, Garbled> {
        match self {
            Self::Done(_) => Ok(Ok(())),
            Self::Failed(failed) => Ok(Err(failed.into())),
            _ => Err(Garbled),
        }
    }
}

fn conversation_of(bytes: &[u8]) -> Result<ConversationId, Garbled> {
    uuid_of(bytes).map(ConversationId)
}

fn event_of(message: &[u8], conversation: &[u8]) -> Result<MessageEvent, Garbled> {
    Ok(MessageEvent { message: MessageId(uuid_of(message)?), conversation: conversation_of(conversation)? })
}
