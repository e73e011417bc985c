//! Messages: numbered in the write that stores them, and never changed. With a message come its key, its events in the
//! inboxes and its conversation's place in the lists, all or nothing.

use super::inboxes::{self, Event};
use super::{Member, member, message_id};
use crate::model::chat::{Message, MessageBody};
use crate::model::id::{ConversationId, MessageId};
use crate::storage::chats::{MessageAppended, NewMessage};
use crate::storage::sqlite::statement::{Statements, before, count, rows, time, user_id};
use crate::storage::sqlite::writer::Write;
use crate::storage::{KEY_AGE, StorageError, TokenHash};
use rusqlite::{Connection, Row, params};

pub(super) fn append(write: &Write<'_>, new: &NewMessage) -> Result<MessageAppended, StorageError> {
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
    let event = Event { conversation: sender.conversation, message: message.id, at: new.created_at };
    let places = inboxes::place(store, &event)?;
    Ok(MessageAppended::Stored { message, places: Some(places) })
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

/// Gives a message the next number, and its conversation a new place in the lists of all.
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
        "UPDATE conversations SET last_number = ?2, last_id = ?3 WHERE key = ?1",
        params![sender.conversation, number.cast_signed(), id.0.as_bytes()],
    )?;
    store.change(
        "UPDATE conversation_members SET active_at = ?2, sent = sent + (user = ?3) WHERE conversation = ?1",
        params![sender.conversation, new.created_at.millis(), sender.user],
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
