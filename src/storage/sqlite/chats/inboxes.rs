//! Inboxes: read, not written. One is the events of its user's conversations, merged by their places in the store's own order,
//! and holds [`INBOX_AGE`].

use super::{conversation_id, message_id};
use crate::model::chat::MessageEvent;
use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use crate::storage::chats::{INBOX_AGE, InboxPage, InboxReach};
use crate::storage::sqlite::statement::{Statements, before, count, key_of, newest_of, number_of};
use crate::storage::sqlite::writer::Write;
use rusqlite::{Connection, params};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The table of events, whose numbers are places.
pub(in crate::storage::sqlite) const CHAT_EVENTS: &str = "chat_events";

/// How far all inboxes reach, and what a user has seen of its own.
pub(super) fn reach(store: &Connection, user: UserId) -> Result<InboxReach, StorageError> {
    let seen = store.first(
        "SELECT seen FROM inboxes WHERE user = (SELECT key FROM users WHERE id = ?1)",
        [user.0.as_bytes()],
        |row| count(row, 0),
    )?;
    Ok(InboxReach {
        newest: newest_of(store, CHAT_EVENTS)?,
        gone: number_of(store, "chat_swept")?.cast_unsigned(),
        seen: seen.unwrap_or_default(),
    })
}

/// The events behind a place. It costs a seek for each conversation of the user, and one for each event.
pub(super) fn page(
    store: &Connection,
    user: UserId,
    after: u64,
    limit: usize,
) -> Result<InboxPage, StorageError> {
    let newest = newest_of(store, CHAT_EVENTS)?;
    let mut page = InboxPage { events: Vec::new(), through: after.max(newest) };
    let Some(user) = key_of(store, user)? else {
        return Ok(page);
    };
    let first_places = store.all(
        "SELECT (SELECT e.place FROM chat_events e
                 WHERE e.conversation = m.conversation AND e.place > ?2 ORDER BY e.place LIMIT 1)
         FROM conversation_members m WHERE m.user = ?1",
        [user, before(Some(after))],
        |row| row.get::<_, Option<i64>>(0),
    )?;
    // The next one of each conversation.
    let mut next: BinaryHeap<_> = first_places.into_iter().flatten().map(Reverse).collect();
    while page.events.len() < limit {
        let Some(Reverse(place)) = next.pop() else {
            return Ok(page);
        };
        let (event, behind) = event(store, place)?;
        page.events.push((place.cast_unsigned(), event));
        next.extend(behind.map(Reverse));
    }
    page.through = page.events.last().map_or(after, |(place, _)| *place);
    Ok(page)
}

/// The event of a place, and the place of its conversation's next one.
fn event(store: &Connection, place: i64) -> Result<(MessageEvent, Option<i64>), StorageError> {
    let found = store.first(
        "SELECT e.message, c.id, (SELECT n.place FROM chat_events n
             WHERE n.conversation = e.conversation AND n.place > e.place ORDER BY n.place LIMIT 1)
         FROM chat_events e JOIN conversations c ON c.key = e.conversation WHERE e.place = ?1",
        [place],
        |row| {
            let event = MessageEvent { message: message_id(row, 0)?, conversation: conversation_id(row, 1)? };
            Ok((event, row.get(2)?))
        },
    )?;
    found.ok_or_else(|| StorageError::Refused("a place without its event".to_owned()))
}

pub(super) fn seen(write: &Write<'_>, marks: &[(UserId, u64)]) -> Result<(), StorageError> {
    for (user, place) in marks {
        write.connection.change(
            "INSERT INTO inboxes (user, seen) SELECT key, ?2 FROM users WHERE id = ?1
             ON CONFLICT (user) DO UPDATE SET seen = max(seen, excluded.seen)",
            params![user.0.as_bytes(), before(Some(*place))],
        )?;
    }
    Ok(())
}

/// Removes the oldest events, `slice` at most, as far as they are too old without a gap, so that one number tells which are
/// gone.
pub(in crate::storage::sqlite) fn sweep_events(
    store: &Connection,
    now: Timestamp,
    slice: i64,
) -> Result<usize, StorageError> {
    let kept_from = now.before(INBOX_AGE).millis();
    let oldest = store.all("SELECT place, at FROM chat_events ORDER BY place LIMIT ?1", [slice], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    })?;
    let Some((last, _)) = oldest.into_iter().take_while(|(_, at)| *at < kept_from).last() else {
        return Ok(0);
    };
    store.change("UPDATE meta SET value = ?1 WHERE name = 'chat_swept'", [last])?;
    store.change("DELETE FROM chat_events WHERE place <= ?1", [last])
}
