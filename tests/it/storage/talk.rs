//! Short words for what tests do with conversations.

use super::TestStore;
use roost::model::chat::{Conversation, ConversationKey, Message, MessageBody, MessageEvent};
use roost::model::id::{ConversationId, UserId};
use roost::model::timestamp::Timestamp;
use roost::storage::StorageError;
use roost::storage::chats::{
    Chats, Conversing, InboxPage, InboxReach, MessageAppended, NewConversation, NewMessage,
};
use sha2::{Digest, Sha256};

/// A conversation of those users that is to be made.
pub fn among(users: &[UserId]) -> NewConversation {
    NewConversation {
        id: ConversationId::make(),
        key: ConversationKey::of(users),
        participants: users.to_vec(),
        created_at: Timestamp::now(),
    }
}

/// A message that is to be stored, with that key.
pub fn keyed(conversation: ConversationId, sender: UserId, text: &str, key: &str) -> NewMessage {
    let digest = Sha256::new_with_prefix(conversation.0.as_bytes()).chain_update(text);
    NewMessage {
        conversation,
        sender,
        body: MessageBody::parse(text).unwrap(),
        key: key.to_owned(),
        digest: digest.finalize().into(),
        created_at: Timestamp::now(),
    }
}

/// A message with a key that no other has.
pub fn a_message(conversation: ConversationId, sender: UserId, text: &str) -> NewMessage {
    keyed(conversation, sender, text, &uuid::Uuid::new_v4().to_string())
}

/// What an inbox says of a message.
pub fn event(message: &Message) -> MessageEvent {
    MessageEvent { message: message.id, conversation: message.conversation }
}

/// Places one event; answers where.
pub async fn place_one(
    store: &(impl Chats + ?Sized),
    user: UserId,
    event: MessageEvent,
    is_repeat: bool,
) -> Result<u64, StorageError> {
    store.place(user, vec![event], is_repeat).await.map(|places| places[0])
}

/// What an append must have answered.
pub fn sent(appended: MessageAppended) -> Message {
    match appended {
        MessageAppended::Stored { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

/// The events of a page, without their places.
pub fn events_of(page: InboxPage) -> Vec<MessageEvent> {
    page.events.into_iter().map(|(_, event)| event).collect()
}

/// A page behind a place of an inbox that numbers its own events.
pub fn numbered(after: u64, events: &[MessageEvent]) -> InboxPage {
    let events: Vec<_> = (after + 1..).zip(events.iter().copied()).collect();
    InboxPage { through: after + events.len() as u64, events }
}

/// Text of all of them.
pub fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
}

impl TestStore {
    /// A conversation that was not there before.
    pub async fn converse(&self, users: &[UserId]) -> Conversation {
        match self.engine.converse(among(users)).await.unwrap() {
            Conversing::Made(conversation) => conversation,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a message and has its events placed; answers where they stand.
    pub async fn deliver(&self, new: NewMessage) -> (Message, Vec<(UserId, u64)>) {
        let (conversation, sender) = (new.conversation, new.sender);
        match self.engine.append_message(new).await.unwrap() {
            MessageAppended::Stored { message, place } => {
                let known = self.engine.conversation(conversation, sender).await.unwrap().unwrap();
                let mut places = Vec::new();
                for user in known.participants {
                    let place = match place {
                        Some(place) => place,
                        None => place_one(&*self.engine, user, event(&message), false).await.unwrap(),
                    };
                    places.push((user, place));
                }
                if place.is_none() {
                    self.engine.placed(conversation, message.number).await.unwrap();
                }
                (message, places)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Sends a message now.
    pub async fn send(&self, conversation: &Conversation, sender: UserId, text: &str) -> Message {
        self.deliver(a_message(conversation.id, sender, text)).await.0
    }

    /// The newest messages, newest first.
    pub async fn history(&self, conversation: ConversationId, user: UserId) -> Vec<Message> {
        self.engine.history(conversation, user, None, 1_000).await.unwrap().unwrap()
    }

    /// How many messages each of a user's conversations has unread, newest activity first.
    pub async fn unread(&self, user: UserId) -> Vec<(ConversationId, u64)> {
        let listed = self.engine.conversations(user, None, 100).await.unwrap();
        listed.into_iter().map(|view| (view.conversation.id, view.unread)).collect()
    }

    /// All events of an inbox that are kept.
    pub async fn events(&self, user: UserId) -> Vec<MessageEvent> {
        events_of(self.engine.inbox(user, 0, 10_000).await.unwrap())
    }

    /// How far an inbox reaches.
    pub async fn reach(&self, user: UserId) -> InboxReach {
        self.engine.reach(user).await.unwrap()
    }
}
