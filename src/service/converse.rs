//! Talking: conversations, their messages, and how far they are read. A message's text is checked by
//! [`MessageBody::parse`]; its order is its conversation's business ([`crate::actors::conversation`]).
//!
//! Whoever does not take part in a conversation is told the same, after the same reads, as if it did not exist.

use super::ServiceError;
use crate::actors::chat_homes::ConversationHomes;
use crate::model::chat::{
    Conversation, ConversationKey, ConversationView, MAX_PARTICIPANTS, Message, MessageBody,
};
use crate::model::cursor::ConversationCursor;
use crate::model::id::{ConversationId, MessageId, UserId};
use crate::model::timestamp::Timestamp;
use crate::model::user::{Caller, Username};
use crate::storage::chats::{
    Chats, ConversationPlace, Conversing, Marking, MessageAppended, NewConversation, NewMessage,
};
use crate::storage::{Accounts, TokenHash};
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The name of everybody's own support conversation.
pub const SUPPORT: &str = "support-demo";
/// Users whose support conversation is remembered.
const SUPPORTED: u64 = 10_000;

const FORBIDDEN: ServiceError =
    ServiceError::Forbidden("there is no such conversation, or you do not take part in it");

/// What can be done with conversations.
pub struct Converse {
    chats: Arc<dyn Chats>,
    accounts: Arc<dyn Accounts>,
    homes: Arc<ConversationHomes>,
    /// Who answers in support conversations.
    support: Vec<Username>,
    /// Each user's own.
    supported: Cache<UserId, ConversationId>,
}

/// A conversation as a client names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConversationName {
    /// By its id.
    Id(ConversationId),
    /// The caller's own support conversation.
    Support,
}

/// What came of opening a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The conversation.
    pub conversation: Conversation,
    /// Whether there was none before.
    pub is_new: bool,
}

/// What came of sending a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The message.
    pub message: Message,
    /// Whether it was sent before, by the same key.
    pub is_repeat: bool,
}

/// A part of a list whose cursors are of this kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<T, C> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where the next part begins, if there is one.
    pub next: Option<C>,
}

impl std::str::FromStr for ConversationName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            SUPPORT => Ok(Self::Support),
            id => id.parse().map(Self::Id).map_err(|_| ()),
        }
    }
}

impl Converse {
    /// On these parts; `support` answers in support conversations.
    #[must_use]
    pub fn new(
        chats: Arc<dyn Chats>,
        accounts: Arc<dyn Accounts>,
        homes: Arc<ConversationHomes>,
        support: Vec<Username>,
    ) -> Self {
        Self { chats, accounts, homes, support, supported: Cache::new(SUPPORTED) }
    }

    /// The conversation of the caller and these users, made where there is none.
    ///
    /// # Errors
    /// `Invalid` where that are fewer than 2 or more than 100, or one is not known; `Unavailable`.
    pub async fn open(&self, caller: &Caller, mut participants: Vec<UserId>) -> Result<Opened, ServiceError> {
        participants.push(caller.user);
        participants.sort_unstable();
        participants.dedup();
        if !(2..=MAX_PARTICIPANTS).contains(&participants.len()) {
            let rule = format!("must name 2 to {MAX_PARTICIPANTS} different users, the caller counted");
            return Err(ServiceError::invalid("participants", rule));
        }
        self.converse(ConversationKey::of(&participants), participants).await
    }

    /// What the caller takes part in, newest activity first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list(
        &self,
        caller: &Caller,
        limit: usize,
        behind: Option<ConversationCursor>,
    ) -> Result<Part<ConversationView, ConversationCursor>, ServiceError> {
        let behind = behind.map(|cursor| ConversationPlace { active_at: cursor.active_at, id: cursor.id });
        let mut items = self.chats.conversations(caller.user, behind, limit + 1).await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let cursor = |view: &ConversationView| ConversationCursor {
            active_at: view.last_message_at.unwrap_or(view.conversation.created_at),
            id: view.conversation.id,
        };
        let next = items.last().filter(|_| more).map(cursor);
        Ok(Part { items, next })
    }

    /// The caller has read everything up to that message.
    ///
    /// # Errors
    /// `Forbidden`; `Invalid` where the conversation has no such message; `Unavailable`.
    pub async fn mark_read(
        &self,
        caller: &Caller,
        name: ConversationName,
        message: MessageId,
    ) -> Result<(), ServiceError> {
        let id = self.id(caller, name).await?;
        match self.chats.mark_read(id, caller.user, message).await? {
            Marking::Done => Ok(()),
            Marking::Forbidden => Err(FORBIDDEN),
            Marking::NoSuchMessage => {
                Err(ServiceError::invalid("messageId", "must be a message of this conversation"))
            }
        }
    }

    /// Sends a message. With a `key` that was used within 24 hours for the same, answers what was answered then.
    ///
    /// # Errors
    /// `Invalid` text, `Forbidden`, `KeyReused` where the key was used for another text or elsewhere, `Unavailable`.
    pub async fn send(
        &self,
        caller: &Caller,
        name: ConversationName,
        body: &str,
        key: String,
    ) -> Result<Sent, ServiceError> {
        let body = MessageBody::parse(body).map_err(|error| ServiceError::invalid("body", error))?;
        let conversation = self.id(caller, name).await?;
        // Before it goes anywhere: whoever takes no part makes no conversation active.
        self.chats.conversation(conversation, caller.user).await?.ok_or(FORBIDDEN)?;
        let message = NewMessage {
            conversation,
            sender: caller.user,
            digest: digest(conversation, &body),
            body,
            key,
            created_at: Timestamp::now(),
        };
        match self.homes.send(message).await? {
            MessageAppended::Stored { message, .. } => Ok(Sent { message, is_repeat: false }),
            MessageAppended::Repeated(message) => Ok(Sent { message, is_repeat: true }),
            MessageAppended::KeyReused => Err(ServiceError::KeyReused),
            MessageAppended::Forbidden => Err(FORBIDDEN),
        }
    }

    /// A conversation's messages below number `before`, newest first; the next part is below the number that is answered.
    ///
    /// # Errors
    /// `Forbidden`, `Unavailable`.
    pub async fn history(
        &self,
        caller: &Caller,
        name: ConversationName,
        limit: usize,
        before: Option<u64>,
    ) -> Result<Part<Message, u64>, ServiceError> {
        let id = self.id(caller, name).await?;
        let items = self.chats.history(id, caller.user, before, limit + 1).await?;
        let mut items = items.ok_or(FORBIDDEN)?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|message| message.number);
        Ok(Part { items, next })
    }

    /// A conversation's id; the caller's support conversation is made at first use.
    async fn id(&self, caller: &Caller, name: ConversationName) -> Result<ConversationId, ServiceError> {
        if let ConversationName::Id(id) = name {
            return Ok(id);
        }
        if let Some(id) = self.supported.get(&caller.user) {
            return Ok(id);
        }
        let mut participants = Vec::with_capacity(MAX_PARTICIPANTS);
        for name in &self.support {
            match self.accounts.profile_by_name(name.key(), caller.user).await? {
                Some(profile) => participants.push(profile.user.id),
                None => tracing::warn!(name = name.as_str(), "support user {} is not there", name.as_str()),
            }
        }
        participants.retain(|id| *id != caller.user);
        participants.truncate(MAX_PARTICIPANTS - 1);
        participants.push(caller.user);
        participants.sort_unstable();
        participants.dedup();
        let opened = self.converse(ConversationKey::of_support(caller.user), participants).await?;
        self.supported.insert(caller.user, opened.conversation.id);
        Ok(opened.conversation.id)
    }

    async fn converse(
        &self,
        key: ConversationKey,
        participants: Vec<UserId>,
    ) -> Result<Opened, ServiceError> {
        let id = ConversationId::make();
        let new = NewConversation { id, key, participants, created_at: Timestamp::now() };
        match self.chats.converse(new).await? {
            Conversing::Made(conversation) => Ok(Opened { conversation, is_new: true }),
            Conversing::Found(conversation) => Ok(Opened { conversation, is_new: false }),
            Conversing::Unknown(users) => {
                let named: Vec<_> = users.iter().map(ToString::to_string).collect();
                let rule =
                    format!("must name users that are there, which these are not: {}", named.join(", "));
                Err(ServiceError::invalid("participants", rule))
            }
        }
    }
}

/// What a key was used for.
fn digest(conversation: ConversationId, body: &MessageBody) -> TokenHash {
    Sha256::new_with_prefix(conversation.0.as_bytes()).chain_update(body.as_str()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::{ConversationName, SUPPORT, digest};
    use crate::model::chat::MessageBody;
    use crate::model::id::ConversationId;

    #[test]
    fn a_conversation_is_named_by_its_id_or_is_ones_support() {
        let id = ConversationId::make();
        assert_eq!(id.to_string().parse(), Ok(ConversationName::Id(id)));
        assert_eq!(SUPPORT.parse(), Ok(ConversationName::Support));
        assert!("support".parse::<ConversationName>().is_err());
    }

    #[test]
    fn a_key_is_for_one_text_in_one_conversation() {
        let (here, there) = (ConversationId::make(), ConversationId::make());
        let [hello, bye] = ["hello", "bye"].map(|text| MessageBody::parse(text).unwrap());
        assert_eq!(digest(here, &hello), digest(here, &MessageBody::parse(" hello ").unwrap()));
        assert_ne!(digest(here, &hello), digest(there, &hello));
        assert_ne!(digest(here, &hello), digest(here, &bye));
    }
}
