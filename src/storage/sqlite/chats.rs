//! Conversations: who takes part, where each stands in its users' lists, what of them is read. Messages are in
//! `messages`, inboxes in `inboxes`.
//!
//! One home for all: what an append changes is one write, its event's place included, so that nothing waits to be placed. It
//! changes as many rows whether two take part or a hundred.

mod inboxes;
mod messages;

pub(super) use inboxes::{CHAT_EVENTS, sweep_events};
pub(super) use messages::{Participants, sweep_keys};

use super::Store;
use super::statement::{Statements, count, rows, time, user_id, uuid};
use super::writer::Write;
use crate::model::chat::{Conversation, ConversationView, Message, MessageEvent};
use crate::model::id::{ConversationId, MessageId, UserId};
use crate::model::shard::Shard;
use crate::storage::chats::{
    Chats, ConversationPlace, Conversing, InboxPage, InboxReach, Marking, MessageAppended, NewConversation,
    NewMessage, Placement, ToPlace,
};
use crate::storage::{Pending, StorageError};
use rusqlite::{Connection, Row, params};
use std::future::ready;
use tokio::sync::broadcast;

impl Chats for Store {
    fn converse(&self, new: NewConversation) -> Pending<Conversing> {
        self.write(move |write| converse(write, &new))
    }

    fn conversation(&self, id: ConversationId, user: UserId) -> Pending<Option<Conversation>> {
        self.read(move |store| match member(store, id, user)? {
            Some(member) => known(store, member.conversation).map(Some),
            None => Ok(None),
        })
    }

    fn conversations(
        &self,
        user: UserId,
        behind: Option<ConversationPlace>,
        limit: usize,
    ) -> Pending<Vec<ConversationView>> {
        self.read(move |store| conversations(store, user, behind, limit))
    }

    fn mark_read(&self, id: ConversationId, user: UserId, message: MessageId) -> Pending<Marking> {
        self.write(move |write| mark_read(write, id, user, message))
    }

    fn append_message(&self, new: NewMessage) -> Pending<MessageAppended> {
        let participants = self.participants.clone();
        self.write(move |write| messages::append(write, &participants, &new))
    }

    fn history(
        &self,
        id: ConversationId,
        user: UserId,
        before: Option<u64>,
        limit: usize,
    ) -> Pending<Option<Vec<Message>>> {
        self.read(move |store| match member(store, id, user)? {
            Some(member) => messages::newest(store, (member.conversation, id), before, limit).map(Some),
            None => Ok(None),
        })
    }

    fn place(&self, _: UserId, _: Vec<MessageEvent>, _: bool) -> Pending<Vec<u64>> {
        let why = "events are placed with their message".to_owned();
        Box::pin(ready(Err(StorageError::Refused(why))))
    }

    fn placed(&self, _: ConversationId, _: u64) -> Pending<()> {
        Box::pin(ready(Ok(())))
    }

    fn unplaced(&self, _: Vec<Shard>) -> Pending<Vec<ConversationId>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn to_place(&self, _: ConversationId) -> Pending<ToPlace> {
        Box::pin(ready(Ok(ToPlace::default())))
    }

    fn placements(&self) -> Option<broadcast::Receiver<Placement>> {
        Some(self.placements.subscribe())
    }

    fn inbox(&self, user: UserId, after: u64, limit: usize) -> Pending<InboxPage> {
        self.read(move |store| inboxes::page(store, user, after, limit))
    }

    fn reach(&self, user: UserId) -> Pending<InboxReach> {
        self.read(move |store| inboxes::reach(store, user))
    }

    fn seen(&self, marks: Vec<(UserId, u64)>) -> Pending<()> {
        self.write(move |write| inboxes::seen(write, &marks))
    }
}

/// One who takes part.
struct Member {
    /// The conversation's key in the store.
    conversation: i64,
    /// The user's.
    user: i64,
    /// How many messages the user has sent there.
    sent: i64,
}

/// A user's part in a conversation; none where there is none, or no such conversation.
fn member(store: &Connection, id: ConversationId, user: UserId) -> Result<Option<Member>, StorageError> {
    store.first(
        "SELECT m.conversation, m.user, m.sent FROM conversation_members m
         WHERE m.user = (SELECT key FROM users WHERE id = ?1)
           AND m.conversation = (SELECT key FROM conversations WHERE id = ?2)",
        params![user.0.as_bytes(), id.0.as_bytes()],
        |row| Ok(Member { conversation: row.get(0)?, user: row.get(1)?, sent: row.get(2)? }),
    )
}

/// The conversation of that key in the store, which has one.
fn known(store: &Connection, key: i64) -> Result<Conversation, StorageError> {
    let found = store.first("SELECT id, created_at FROM conversations WHERE key = ?1", [key], |row| {
        Ok((conversation_id(row, 0)?, time(row, 1)?))
    })?;
    let Some((id, created_at)) = found else {
        return Err(StorageError::Refused("a conversation that is not there".to_owned()));
    };
    Ok(Conversation { id, participants: participants(store, key)?, created_at })
}

pub(super) fn participants(store: &Connection, key: i64) -> Result<Vec<UserId>, StorageError> {
    store.all(
        "SELECT u.id FROM conversation_members m JOIN users u ON u.key = m.user
         WHERE m.conversation = ?1 ORDER BY u.id",
        [key],
        |row| user_id(row, 0),
    )
}

fn converse(write: &Write<'_>, new: &NewConversation) -> Result<Conversing, StorageError> {
    let store = write.connection;
    let there = store
        .first("SELECT key FROM conversations WHERE set_key = ?1", [new.key.0], |row| row.get::<_, i64>(0))?;
    if let Some(key) = there {
        return Ok(Conversing::Found(known(store, key)?));
    }
    let mut participants = new.participants.clone();
    participants.sort_unstable();
    participants.dedup();
    let (mut keys, mut unknown) = (Vec::with_capacity(participants.len()), Vec::new());
    for user in &participants {
        match super::statement::key_of(store, *user)? {
            Some(key) => keys.push(key),
            None => unknown.push(*user),
        }
    }
    if !unknown.is_empty() {
        return Ok(Conversing::Unknown(unknown));
    }
    store.change(
        "INSERT INTO conversations (id, set_key, created_at, active_at) VALUES (?1, ?2, ?3, ?3)",
        params![new.id.0.as_bytes(), new.key.0, new.created_at.millis()],
    )?;
    let conversation = store.last_insert_rowid();
    for user in keys {
        store.change(
            "INSERT INTO conversation_members (user, conversation) VALUES (?1, ?2)",
            [user, conversation],
        )?;
    }
    Ok(Conversing::Made(Conversation { id: new.id, participants, created_at: new.created_at }))
}

fn conversations(
    store: &Connection,
    user: UserId,
    behind: Option<ConversationPlace>,
    limit: usize,
) -> Result<Vec<ConversationView>, StorageError> {
    // Nothing is behind the end of time, whatever its id.
    let (active_at, id) =
        behind.map_or((i64::MAX, [u8::MAX; 16]), |place| (place.active_at.millis(), *place.id.0.as_bytes()));
    let listed = store.all(
        "SELECT c.key, c.last_number, c.active_at, c.last_number - m.read_number - (m.sent - m.read_own)
         FROM conversation_members m JOIN conversations c ON c.key = m.conversation
         WHERE m.user = (SELECT key FROM users WHERE id = ?1) AND (c.active_at, c.id) < (?2, ?3)
         ORDER BY c.active_at DESC, c.id DESC LIMIT ?4",
        params![user.0.as_bytes(), active_at, id, rows(limit)],
        |row| {
            let last_message_at = (count(row, 1)? > 0).then(|| time(row, 2)).transpose()?;
            Ok((row.get(0)?, last_message_at, count(row, 3)?))
        },
    )?;
    let view = |(key, last_message_at, unread)| {
        Ok(ConversationView { conversation: known(store, key)?, last_message_at, unread })
    };
    listed.into_iter().map(view).collect()
}

fn mark_read(
    write: &Write<'_>,
    id: ConversationId,
    user: UserId,
    message: MessageId,
) -> Result<Marking, StorageError> {
    let store = write.connection;
    let Some(member) = member(store, id, user)? else {
        return Ok(Marking::Forbidden);
    };
    let Some(number) = messages::number_of(store, member.conversation, message)? else {
        return Ok(Marking::NoSuchMessage);
    };
    // What this user had sent by then, its newest message up to there says.
    store.change(
        "UPDATE conversation_members SET read_number = ?3, read_own = coalesce(
             (SELECT sender_count FROM messages WHERE conversation = ?2 AND sender = ?1 AND number <= ?3
              ORDER BY number DESC LIMIT 1), 0)
         WHERE user = ?1 AND conversation = ?2 AND read_number < ?3",
        params![member.user, member.conversation, number],
    )?;
    Ok(Marking::Done)
}

/// A column that is a conversation's id.
pub(super) fn conversation_id(row: &Row<'_>, column: usize) -> rusqlite::Result<ConversationId> {
    uuid(row, column).map(ConversationId)
}

/// A column that is a message's id.
pub(super) fn message_id(row: &Row<'_>, column: usize) -> rusqlite::Result<MessageId> {
    uuid(row, column).map(MessageId)
}
