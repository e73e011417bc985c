//! Messages: numbered in the write that stores them, and never changed. With a message come its key, its event's place in the
//! inboxes and its conversation's place in the lists, all or nothing.

use super::{Member, member, message_id, participants};
use crate::model::chat::{Message, MessageBody, MessageEvent};
use crate::model::id::{ConversationId, MessageId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::chats::{MessageAppended, NewMessage, Placement};
use crate::storage::sqlite::statement::{Statements, before, count, rows, time, user_id};
use crate::storage::sqlite::writer::Write;
use crate::storage::{KEY_AGE, StorageError, TokenHash};
use moka::sync::Cache;
use rusqlite::{Connection, Row, params};
use std::sync::Arc;

/// Names of who takes part that are kept at hand.
const NAMES: u64 = 1_000_000;

/// Who takes part in conversations that were written to lately, which never changes. Clones are the same.
#[derive(Clone)]
pub(in crate::storage::sqlite) struct Participants(Cache<ConversationId, Arc<[UserId]>>);

impl Default for Participants {
    fn default() -> Self {
        let size = |_: &ConversationId, users: &Arc<[UserId]>| u32::try_from(users.len()).unwrap_or(u32::MAX);
        Self(Cache::builder().weigher(size).max_capacity(NAMES).build())
    }
}

impl Participants {
    /// Those of the conversation of that id, which has that key in the store.
    fn of(
        &self,
        store: &Connection,
        (key, id): (i64, ConversationId),
    ) -> Result<Arc<[UserId]>, StorageError> {
        if let Some(known) = self.0.get(&id) {
            return Ok(known);
        }
        let read: Arc<[UserId]> = participants(store, key)?.into();
        self.0.insert(id, read.clone());
        Ok(read)
    }
}

pub(super) fn append(
    write: &mut Write<'_>,
    participants: &Participants,
    new: &NewMessage,
) -> Result<MessageAppended, StorageError> {
    let store = write.connection;
    let Some(sender) = member(store, new.conversation, new.sender)? else {
        return Ok(MessageAppended::Forbidden);
    };
    if let Some((digest, conversation, number)) = key_use(store, &sender, new)? {
        return if digest == new.digest && conversation == sender.conversation {
            numbered(store, (conversation, new.conversation), number).map(MessageAppended::Repeated)
        } else {
            Ok(MessageAppended::KeyReused)
        };
    }
    let message = insert(store, &sender, new)?;
    // A key that is older than it is kept, and not swept yet, is overwritten.
    store.change(
        "INSERT OR REPLACE INTO chat_keys (user, key, digest, conversation, number, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            sender.user,
            new.key,
            new.digest,
            sender.conversation,
            message.number.cast_signed(),
            new.created_at.millis(),
        ],
    )?;
    store.change(
        "INSERT INTO chat_events (conversation, message, at) VALUES (?1, ?2, ?3)",
        params![sender.conversation, message.id.0.as_bytes(), new.created_at.millis()],
    )?;
    let place = store.last_insert_rowid().cast_unsigned();
    let participants = participants.of(store, (sender.conversation, new.conversation))?;
    let event = MessageEvent { message: message.id, conversation: new.conversation };
    write.place(Placement { participants, place, event });
    Ok(MessageAppended::Stored { message, place: Some(place) })
}

/// What a key was used for lately: its digest, the conversation and the number there.
fn key_use(
    store: &Connection,
    sender: &Member,
    new: &NewMessage,
) -> Result<Option<(TokenHash, i64, i64)>, StorageError> {
    store.first(
        "SELECT digest, conversation, number FROM chat_keys WHERE user = ?1 AND key = ?2 AND at >= ?3",
        params![sender.user, new.key, new.created_at.before(KEY_AGE).millis()],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

/// Gives a message the next number, and its conversation a new place in the lists.
fn insert(store: &Connection, sender: &Member, new: &NewMessage) -> Result<Message, StorageError> {
    let last = store.first(
        "SELECT last_number, last_id FROM conversations WHERE key = ?1",
        [sender.conversation],
        |row| Ok((count(row, 0)?, row.get::<_, Option<[u8; 16]>>(1)?)),
    )?;
    let Some((last, last_id)) = last else {
        return Err(StorageError::Refused("a message of no conversation".to_owned()));
    };
    let number = last + 1;
    let last_id = last_id.map(|id| MessageId(uuid::Uuid::from_bytes(id)));
    let id = MessageId::numbered(number, last_id, new.created_at);
    store.change(
        "INSERT INTO messages (conversation, number, id, sender, sender_count, body, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            sender.conversation,
            number.cast_signed(),
            id.0.as_bytes(),
            sender.user,
            sender.sent + 1,
            new.body.as_str(),
            new.created_at.millis(),
        ],
    )?;
    store.change(
        "UPDATE conversations SET last_number = ?2, last_id = ?3, active_at = ?4 WHERE key = ?1",
        params![sender.conversation, number.cast_signed(), id.0.as_bytes(), new.created_at.millis()],
    )?;
    store.change(
        "UPDATE conversation_members SET sent = sent + 1 WHERE user = ?1 AND conversation = ?2",
        [sender.user, sender.conversation],
    )?;
    Ok(Message {
        id,
        conversation: new.conversation,
        number,
        sender: new.sender,
        body: new.body.clone(),
        created_at: new.created_at,
    })
}

/// The newest messages of a conversation (by its key, which has that id) below a number, newest first.
pub(super) fn newest(
    store: &Connection,
    (key, id): (i64, ConversationId),
    below: Option<u64>,
    limit: usize,
) -> Result<Vec<Message>, StorageError> {
    store.all(
        "SELECT m.id, m.number, u.id, m.body, m.created_at FROM messages m JOIN users u ON u.key = m.sender
         WHERE m.conversation = ?1 AND m.number < ?2 ORDER BY m.number DESC LIMIT ?3",
        params![key, before(below), rows(limit)],
        |row| read(row, id),
    )
}

fn numbered(
    store: &Connection,
    (key, id): (i64, ConversationId),
    number: i64,
) -> Result<Message, StorageError> {
    let found = store.first(
        "SELECT m.id, m.number, u.id, m.body, m.created_at FROM messages m JOIN users u ON u.key = m.sender
         WHERE m.conversation = ?1 AND m.number = ?2",
        [key, number],
        |row| read(row, id),
    )?;
    found.ok_or_else(|| StorageError::Refused("a key of no message".to_owned()))
}

fn read(row: &Row<'_>, conversation: ConversationId) -> rusqlite::Result<Message> {
    Ok(Message {
        id: message_id(row, 0)?,
        conversation,
        number: count(row, 1)?,
        sender: user_id(row, 2)?,
        body: MessageBody::stored(row.get(3)?),
        created_at: time(row, 4)?,
    })
}

/// The number of a message; none where the conversation of that key has none with that id.
pub(super) fn number_of(store: &Connection, key: i64, id: MessageId) -> Result<Option<i64>, StorageError> {
    store.first(
        "SELECT number FROM messages WHERE conversation = ?1 AND number = ?2 AND id = ?3",
        params![key, id.number().cast_signed(), id.0.as_bytes()],
        |row| row.get(0),
    )
}

/// Removes keys that are no longer kept, `slice` at most.
pub(in crate::storage::sqlite) fn sweep_keys(
    store: &Connection,
    now: Timestamp,
    slice: i64,
) -> Result<usize, StorageError> {
    store.change(
        "DELETE FROM chat_keys WHERE (user, key) IN (SELECT user, key FROM chat_keys WHERE at < ?1 LIMIT ?2)",
        [now.before(KEY_AGE).millis(), slice],
    )
}
