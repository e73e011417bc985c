//! Inboxes: each event gets its place in the write of its message, and is kept for [`INBOX_AGE`]. Of an inbox the oldest
//! events go first, and one number tells which are gone.

use super::{conversation_id, message_id};
use crate::model::chat::MessageEvent;
use crate::model::id::{MessageId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::chats::{INBOX_AGE, InboxPage, InboxReach};
use crate::storage::sqlite::statement::{Statements, before, count, rows, user_id};
use crate::storage::sqlite::writer::Write;
use crate::storage::{KEY_AGE, StorageError};
use rusqlite::{Connection, params};

/// What everybody who takes part hears of.
pub(super) struct Event {
    /// The conversation's key in the store.
    pub(super) conversation: i64,
    /// The message.
    pub(super) message: MessageId,
    /// When it was sent.
    pub(super) at: Timestamp,
}

/// Puts an event into the inbox of everybody who takes part; answers where it stands in each.
pub(super) fn place(store: &Connection, event: &Event) -> Result<Vec<(UserId, u64)>, StorageError> {
    store.change(
        "UPDATE inboxes SET newest = newest + 1, at = max(at, ?2)
         WHERE user IN (SELECT user FROM conversation_members WHERE conversation = ?1)",
        params![event.conversation, event.at.millis()],
    )?;
    store.change(
        "INSERT INTO inbox (user, place, conversation, message, at)
         SELECT i.user, i.newest, m.conversation, ?2, i.at
         FROM conversation_members m JOIN inboxes i ON i.user = m.user WHERE m.conversation = ?1",
        params![event.conversation, event.message.0.as_bytes()],
    )?;
    store.all(
        "SELECT u.id, i.newest FROM conversation_members m JOIN inboxes i ON i.user = m.user
         JOIN users u ON u.key = m.user WHERE m.conversation = ?1 ORDER BY u.id",
        [event.conversation],
        |row| Ok((user_id(row, 0)?, count(row, 1)?)),
    )
}

/// A user's key in the store and how far its inbox reaches; none for one who never took part in anything.
pub(super) fn reach(store: &Connection, user: UserId) -> Result<Option<(i64, InboxReach)>, StorageError> {
    store.first(
        "SELECT user, newest, gone, seen FROM inboxes WHERE user = (SELECT key FROM users WHERE id = ?1)",
        [user.0.as_bytes()],
        |row| {
            let reach = InboxReach { newest: count(row, 1)?, gone: count(row, 2)?, seen: count(row, 3)? };
            Ok((row.get(0)?, reach))
        },
    )
}

/// The events behind a place, or behind those that are gone.
pub(super) fn page(
    store: &Connection,
    user: UserId,
    after: u64,
    limit: usize,
) -> Result<InboxPage, StorageError> {
    let Some((key, reach)) = reach(store, user)? else {
        return Ok(InboxPage { after, events: Vec::new() });
    };
    let after = after.max(reach.gone);
    let found: Vec<(u64, MessageEvent)> = store.all(
        "SELECT i.message, c.id, i.place FROM inbox i JOIN conversations c ON c.key = i.conversation
         WHERE i.user = ?1 AND i.place > ?2 ORDER BY i.place LIMIT ?3",
        params![key, before(Some(after)), rows(limit)],
        |row| {
            let event = MessageEvent { message: message_id(row, 0)?, conversation: conversation_id(row, 1)? };
            Ok((count(row, 2)?, event))
        },
    )?;
    // More may have been removed since it was looked how far it reaches.
    let after = found.first().map_or(after, |(place, _)| place - 1);
    Ok(InboxPage { after, events: found.into_iter().map(|(_, event)| event).collect() })
}

pub(super) fn seen(write: &Write<'_>, marks: &[(UserId, u64)]) -> Result<(), StorageError> {
    for (user, place) in marks {
        write.connection.change(
            "UPDATE inboxes SET seen = ?2 WHERE user = (SELECT key FROM users WHERE id = ?1) AND seen < ?2",
            params![user.0.as_bytes(), before(Some(*place))],
        )?;
    }
    Ok(())
}

/// Removes the oldest events that are too old, `slice` at most. Of one inbox they stand in the index of ages as in the
/// inbox, so what goes of it is its beginning.
pub(in crate::storage::sqlite) fn sweep_inboxes(
    store: &Connection,
    now: Timestamp,
    slice: i64,
) -> Result<usize, StorageError> {
    let kept_from = now.before(INBOX_AGE).millis();
    store.change(
        "UPDATE inboxes SET gone = old.place FROM
         (SELECT user, max(place) AS place FROM
             (SELECT user, place FROM inbox WHERE at < ?1 ORDER BY at, user, place LIMIT ?2) GROUP BY user) old
         WHERE inboxes.user = old.user",
        [kept_from, slice],
    )?;
    store.change(
        "DELETE FROM inbox WHERE (user, place) IN
         (SELECT user, place FROM inbox WHERE at < ?1 ORDER BY at, user, place LIMIT ?2)",
        [kept_from, slice],
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
