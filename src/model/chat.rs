//! Chat: conversations, messages, and where one stands in a user's inbox ([`InboxPosition`]). The one place where a
//! message's text is checked: [`MessageBody::parse`].

use super::cursor::StoreName;
use super::id::{ConversationId, MessageId, UserId};
use super::post::{ContentError, parse_text};
use super::timestamp::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// The most Unicode scalar values that a message may have.
pub const MAX_BODY_CHARS: usize = 4_000;
/// The most who take part in one conversation; and, but for support, at least two.
pub const MAX_PARTICIPANTS: usize = 100;

/// A message's text as it is stored and shown, by the rules of posts, with 1 to 4,000 Unicode scalar values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageBody(String);

impl MessageBody {
    /// Normalises and checks `text`.
    ///
    /// # Errors
    /// What is wrong with it, in words for its sender.
    pub fn parse(text: &str) -> Result<Self, ContentError> {
        parse_text(text, MAX_BODY_CHARS).map(Self)
    }

    /// A text that was stored, hence checked, before.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What makes a conversation the same one when it is asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConversationKey(pub [u8; 32]);

impl ConversationKey {
    /// That of exactly these users, in whatever order.
    #[must_use]
    pub fn of(participants: &[UserId]) -> Self {
        let mut sorted = participants.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut hash = Sha256::new_with_prefix(b"participants");
        sorted.iter().for_each(|user| hash.update(user.0.as_bytes()));
        Self(hash.finalize().into())
    }

    /// That of a user's own support conversation, whoever answers there.
    #[must_use]
    pub fn of_support(user: UserId) -> Self {
        let hash = Sha256::new_with_prefix(b"support").chain_update(user.0.as_bytes());
        Self(hash.finalize().into())
    }
}

/// A conversation. Who takes part does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Who takes part, by id.
    pub participants: Vec<UserId>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A conversation as one who takes part sees it in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationView {
    /// The conversation.
    pub conversation: Conversation,
    /// When its newest message was sent, if it has one.
    pub last_message_at: Option<Timestamp>,
    /// How many messages of others lie behind the one up to which all is read.
    pub unread: u64,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Where it was sent.
    pub conversation: ConversationId,
    /// Its place in the conversation, counted from 1 without a gap.
    pub number: u64,
    /// Who sent it.
    pub sender: UserId,
    /// What it says.
    pub body: MessageBody,
    /// When.
    pub created_at: Timestamp,
}

/// What an inbox says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageEvent {
    /// Which.
    pub message: MessageId,
    /// Where it was sent.
    pub conversation: ConversationId,
}

/// A place in one user's inbox: everything up to it was sent. Events there are counted from 1 without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxPosition {
    /// The store that counted.
    pub store: StoreName,
    /// Whose inbox.
    pub user: UserId,
    /// Up to where.
    pub place: u64,
}

/// A text that no position of ours looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a position in an inbox of this server")]
pub struct PositionError;

/// Tells a position in an inbox from other cursors.
const INBOX: u8 = b'i';
/// Kind, store, user and place.
const POSITION_BYTES: usize = 1 + 8 + 16 + 8;

impl fmt::Display for InboxPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(POSITION_BYTES);
        bytes.push(INBOX);
        bytes.extend_from_slice(&self.store.0.to_be_bytes());
        bytes.extend_from_slice(self.user.0.as_bytes());
        bytes.extend_from_slice(&self.place.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for InboxPosition {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| PositionError)?;
        let bytes: [u8; POSITION_BYTES] = bytes.try_into().map_err(|_| PositionError)?;
        let number =
            |from: usize| bytes[from..from + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let user = Uuid::from_slice(&bytes[9..25]).map_err(|_| PositionError)?;
        let place = number(25);
        // A store counts in signed integers; what does not fit was never ours.
        if bytes[0] != INBOX || i64::try_from(place).is_err() {
            return Err(PositionError);
        }
        Ok(Self { store: StoreName(number(1)), user: UserId(user), place })
    }
}

#[cfg(test)]
mod tests {
    use super::{ConversationKey, InboxPosition, StoreName};
    use crate::model::id::UserId;

    #[test]
    fn a_position_reads_back_and_nothing_else_reads_as_one() {
        let position = InboxPosition { store: StoreName(u64::MAX - 1), user: UserId::make(), place: 42 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", "x", "42", &"A".repeat(44), &"A".repeat(10_000), "é"] {
            assert!(bad.parse::<InboxPosition>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_set_of_users_is_one_conversation_in_whatever_order_and_no_ones_support() {
        let (ann, bob) = (UserId::make(), UserId::make());
        let key = ConversationKey::of(&[ann, bob]);
        assert_eq!(ConversationKey::of(&[bob, ann, bob]), key);
        assert_ne!(ConversationKey::of(&[ann]), key);
        assert_ne!(ConversationKey::of_support(ann), ConversationKey::of(&[ann]));
    }
}
