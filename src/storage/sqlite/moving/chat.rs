//! Chat, out of a database and into one.

use super::super::chats::{CHAT_EVENTS, conversation_id, message_id};
use super::super::statement::{Statements, count, newest_of, time, user_id};
use super::export::{PORTION, key, number, portion};
use crate::model::chat::MessageEvent;
use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use crate::storage::chats::INBOX_AGE;
use crate::storage::moving::{
    InboxEvent, MovedChatKey, MovedConversation, MovedInbox, MovedMember, MovedMessage, Portion, Record,
};
use crate::storage::{KEY_AGE, StorageError};
use rusqlite::{Connection, params};

pub(super) fn conversations(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    let rows = store.all(
        "SELECT key, id, set_key, created_at FROM conversations WHERE key > ?1 ORDER BY key LIMIT ?2",
        [key(after, 0)?, PORTION as i64],
        |row| Ok((number(row, 0)?, conversation_id(row, 1)?, row.get(2)?, time(row, 3)?)),
    )?;
    let mut found = Vec::with_capacity(rows.len());
    for (place, id, key, created_at) in rows {
        let participants = super::super::chats::participants(store, place)?;
        found.push((
            place,
            Some(Record::Conversation(MovedConversation { id, key, participants, created_at })),
        ));
    }
    portion(found)
}

pub(super) fn members(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    let (user, conversation): (i64, i64) = key(after, (0, 0))?;
    portion(store.all(
        "SELECT m.user, m.conversation, u.id, c.id, c.last_number, c.active_at, m.sent, m.read_number, m.read_own
         FROM conversation_members m JOIN users u ON u.key = m.user JOIN conversations c ON c.key = m.conversation
         WHERE (m.user, m.conversation) > (?1, ?2) ORDER BY m.user, m.conversation LIMIT ?3",
        [user, conversation, PORTION as i64],
        |row| {
            let last = count(row, 4)?;
            let member = MovedMember {
                user: user_id(row, 2)?,
                conversation: conversation_id(row, 3)?,
                number: last,
                at: (last > 0).then(|| time(row, 5)).transpose()?,
                sent: count(row, 6)?,
                read_number: count(row, 7)?,
                read_own: count(row, 8)?,
            };
            Ok(((number(row, 0)?, number(row, 1)?), Some(Record::Member(member))))
        },
    )?)
}

/// The counts are carried on from one message to the next.
pub(super) fn messages(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    let (conversation, from): (i64, i64) = key(after, (0, 0))?;
    let rows = store.all(
        "SELECT m.conversation, m.number, c.id, m.id, u.id, m.body, m.created_at
         FROM messages m JOIN conversations c ON c.key = m.conversation JOIN users u ON u.key = m.sender
         WHERE (m.conversation, m.number) > (?1, ?2) ORDER BY m.conversation, m.number LIMIT ?3",
        [conversation, from, PORTION as i64],
        |row| {
            let message = MovedMessage {
                conversation: conversation_id(row, 2)?,
                number: count(row, 1)?,
                id: message_id(row, 3)?,
                sender: user_id(row, 4)?,
                body: row.get(5)?,
                created_at: time(row, 6)?,
                counts: Vec::new(),
            };
            Ok(((number(row, 0)?, number(row, 1)?), message))
        },
    )?;
    let mut found = Vec::with_capacity(rows.len());
    let (mut of, mut counts): (Option<i64>, Vec<(UserId, u64)>) = (None, Vec::new());
    for (place, mut message) in rows {
        if of != Some(place.0) {
            (of, counts) = (Some(place.0), counts_before(store, place)?);
        }
        let sender = counts.iter_mut().find(|(user, _)| *user == message.sender);
        sender.into_iter().for_each(|(_, sent)| *sent += 1);
        message.counts = counts.iter().map(|(_, sent)| *sent).collect();
        found.push((place, Some(Record::Message(message))));
    }
    portion(found)
}

/// How many each who takes part had sent before a message.
fn counts_before(
    store: &Connection,
    (conversation, before): (i64, i64),
) -> Result<Vec<(UserId, u64)>, StorageError> {
    store.all(
        "SELECT u.id, coalesce((SELECT s.sender_count FROM messages s
            WHERE s.conversation = ?1 AND s.sender = m.user AND s.number < ?2 ORDER BY s.number DESC LIMIT 1), 0)
         FROM conversation_members m JOIN users u ON u.key = m.user WHERE m.conversation = ?1 ORDER BY u.id",
        [conversation, before],
        |row| Ok((user_id(row, 0)?, count(row, 1)?)),
    )
}

pub(super) fn keys(
    store: &Connection,
    after: Option<&str>,
    alive_at: Timestamp,
) -> Result<Portion, StorageError> {
    let (user, text): (i64, String) = key(after, Default::default())?;
    portion(store.all(
        "SELECT k.user, k.key, u.id, k.digest, c.id, k.number, m.id, k.at
         FROM chat_keys k JOIN users u ON u.key = k.user JOIN conversations c ON c.key = k.conversation
         JOIN messages m ON m.conversation = k.conversation AND m.number = k.number
         WHERE (k.user, k.key) > (?1, ?2) ORDER BY k.user, k.key LIMIT ?3",
        params![user, text, PORTION as i64],
        |row| {
            let key = MovedChatKey {
                user: user_id(row, 2)?,
                key: row.get(1)?,
                digest: row.get(3)?,
                conversation: conversation_id(row, 4)?,
                number: count(row, 5)?,
                id: message_id(row, 6)?,
                created_at: time(row, 7)?,
            };
            let place = (number(row, 0)?, key.key.clone());
            let is_kept = key.created_at.after(KEY_AGE) > alive_at;
            Ok((place, is_kept.then_some(Record::ChatKey(key))))
        },
    )?)
}

/// Inboxes in which something is, as if each had numbered its own events from the oldest that is there.
pub(super) fn inboxes(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    portion(store.all(
        "SELECT m.user, u.id, count(*), sum(e.place <= coalesce(i.seen, 0))
         FROM conversation_members m JOIN chat_events e ON e.conversation = m.conversation
         JOIN users u ON u.key = m.user LEFT JOIN inboxes i ON i.user = m.user
         WHERE m.user > ?1 GROUP BY m.user ORDER BY m.user LIMIT ?2",
        [key(after, 0)?, PORTION as i64],
        |row| {
            let inbox = MovedInbox { user: user_id(row, 1)?, newest: count(row, 2)?, seen: count(row, 3)? };
            Ok((number(row, 0)?, Some(Record::Inbox(inbox))))
        },
    )?)
}

/// The events of those, numbered likewise.
pub(super) fn inbox_events(
    store: &Connection,
    after: Option<&str>,
    alive_at: Timestamp,
) -> Result<Portion, StorageError> {
    let (mut of, place, mut numbered): (i64, i64, u64) = key(after, (0, 0, 0))?;
    portion(store.all(
        "SELECT m.user, e.place, u.id, e.message, c.id, e.at
         FROM conversation_members m JOIN chat_events e ON e.conversation = m.conversation
         JOIN users u ON u.key = m.user JOIN conversations c ON c.key = m.conversation
         WHERE (m.user, e.place) > (?1, ?2) ORDER BY m.user, e.place LIMIT ?3",
        [of, place, PORTION as i64],
        |row| {
            let user = number(row, 0)?;
            numbered = if user == of { numbered + 1 } else { 1 };
            of = user;
            let event = MessageEvent { message: message_id(row, 3)?, conversation: conversation_id(row, 4)? };
            let event = InboxEvent { user: user_id(row, 2)?, place: numbered, event, at: time(row, 5)? };
            let is_kept = event.at.after(INBOX_AGE) > alive_at;
            Ok(((user, number(row, 1)?, numbered), is_kept.then_some(Record::InboxEvent(event))))
        },
    )?)
}

pub(super) fn keep_conversation(store: &Connection, new: &MovedConversation) -> Result<(), StorageError> {
    let (id, created_at) = (new.id.0.as_bytes(), new.created_at.millis());
    store.change(
        "INSERT OR IGNORE INTO conversations (id, set_key, created_at, active_at) VALUES (?1, ?2, ?3, ?3)",
        params![id, new.key, created_at],
    )?;
    for user in &new.participants {
        store.change(
            "INSERT OR IGNORE INTO conversation_members (user, conversation)
             SELECT u.key, c.key FROM users u, conversations c WHERE u.id = ?1 AND c.id = ?2",
            params![user.0.as_bytes(), id],
        )?;
    }
    Ok(())
}

pub(super) fn keep_member(store: &Connection, member: &MovedMember) -> Result<(), StorageError> {
    store.change(
        "UPDATE conversation_members SET sent = ?3, read_number = ?4, read_own = ?5
         WHERE user = (SELECT key FROM users WHERE id = ?1)
           AND conversation = (SELECT key FROM conversations WHERE id = ?2)",
        params![
            member.user.0.as_bytes(),
            member.conversation.0.as_bytes(),
            member.sent.cast_signed(),
            member.read_number.cast_signed(),
            member.read_own.cast_signed(),
        ],
    )?;
    Ok(())
}

pub(super) fn keep_message(store: &Connection, message: &MovedMessage) -> Result<(), StorageError> {
    // How many its sender had sent is counted once all are there.
    store.change(
        "INSERT OR IGNORE INTO messages (conversation, number, id, sender, sender_count, body, created_at)
         SELECT c.key, ?3, ?4, u.key, 0, ?5, ?6 FROM conversations c, users u WHERE c.id = ?1 AND u.id = ?2",
        params![
            message.conversation.0.as_bytes(),
            message.sender.0.as_bytes(),
            message.number.cast_signed(),
            message.id.0.as_bytes(),
            message.body,
            message.created_at.millis(),
        ],
    )?;
    Ok(())
}

pub(super) fn keep_key(store: &Connection, key: &MovedChatKey) -> Result<(), StorageError> {
    store.change(
        "INSERT OR IGNORE INTO chat_keys (user, key, digest, conversation, number, at)
         SELECT u.key, ?3, ?4, c.key, ?5, ?6 FROM users u, conversations c WHERE u.id = ?1 AND c.id = ?2",
        params![
            key.user.0.as_bytes(),
            key.conversation.0.as_bytes(),
            key.key,
            key.digest,
            key.number.cast_signed(),
            key.created_at.millis(),
        ],
    )?;
    Ok(())
}

/// Up to which of the places that the other store gave it was written, until [`settle`] knows this one's.
pub(super) fn keep_inbox(store: &Connection, inbox: &MovedInbox) -> Result<(), StorageError> {
    store.change(
        "INSERT OR REPLACE INTO inboxes (user, seen) SELECT key, ?2 FROM users WHERE id = ?1",
        params![inbox.user.0.as_bytes(), inbox.seen.cast_signed()],
    )?;
    Ok(())
}

/// Of events those are kept that were written: the events themselves are those of the messages.
pub(super) fn keep_inbox_event(store: &Connection, event: &InboxEvent) -> Result<(), StorageError> {
    store.change(
        "INSERT OR IGNORE INTO unfinished_copy_seen (user, message)
         SELECT i.user, ?3 FROM inboxes i JOIN users u ON u.key = i.user WHERE u.id = ?1 AND i.seen >= ?2",
        params![event.user.0.as_bytes(), event.place.cast_signed(), event.event.message.0.as_bytes(),],
    )?;
    Ok(())
}

/// What follows from the messages that are there, and from what was written of them.
pub(super) fn settle(store: &Connection) -> Result<(), StorageError> {
    store.change(
        "UPDATE conversations SET (last_number, last_id, active_at) =
            (SELECT coalesce(max(number), 0), id, coalesce(created_at, conversations.created_at) FROM messages
             WHERE conversation = conversations.key)",
        [],
    )?;
    store.change(
        "UPDATE messages SET sender_count = counted.count FROM
            (SELECT rowid AS message, row_number() OVER (PARTITION BY conversation, sender ORDER BY number) AS count
             FROM messages) counted
         WHERE messages.rowid = counted.message",
        [],
    )?;
    // By id they stand in the order of their times, and those of one conversation in its own.
    store.change("DELETE FROM chat_events", [])?;
    store.change(
        "INSERT INTO chat_events (conversation, message, at)
         SELECT conversation, id, created_at FROM messages WHERE created_at >= ?1 ORDER BY id",
        [Timestamp::now().before(INBOX_AGE).millis()],
    )?;
    // Up to the first one that was not written. Where the orders of the stores differ, some behind it come again.
    store.change(
        "INSERT OR REPLACE INTO inboxes (user, seen)
         SELECT m.user, coalesce(min(e.place) - 1, ?1)
         FROM conversation_members m LEFT JOIN chat_events e ON e.conversation = m.conversation
            AND NOT EXISTS (SELECT 1 FROM unfinished_copy_seen s WHERE s.user = m.user AND s.message = e.message)
         GROUP BY m.user",
        [newest_of(store, CHAT_EVENTS)?.cast_signed()],
    )?;
    Ok(())
}
