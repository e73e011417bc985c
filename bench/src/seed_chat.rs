//! Fills a conversation of a stopped server's store with more than its members could say in reasonable time.
//!
//! As [`crate::seed`] does for timelines: it writes what that many calls, and the sweep of what is over 30 days old, would
//! have left behind; all of it is read. The conversation and its two members were made through the API.

use std::path::Path;

use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use crate::board::{Mark, content, now};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::seed::{id, store_in};

const DAY_MILLISECONDS: u64 = 24 * 3_600 * 1_000;
/// Messages lie within so long, and end so long ago: before what inboxes keep.
const SPAN_MILLISECONDS: u64 = 365 * DAY_MILLISECONDS;
const END_MILLISECONDS: u64 = 31 * DAY_MILLISECONDS;

/// Fills conversations without messages in the store in this data folder, each with so many of its members in turn. The
/// server must be down.
pub fn fill(folder: &Path, conversations: &[(Uuid, u64)], progress: &Progress) -> Result<()> {
    let mut store = Connection::open(store_in(folder)?)?;
    // A crash here costs the run, not anybody's data.
    store.pragma_update(None, "synchronous", "OFF")?;
    let filling = store.transaction()?;
    for (conversation, messages) in conversations {
        fill_one(&filling, *conversation, *messages, progress)?;
    }
    filling.execute_batch("PRAGMA optimize")?;
    filling.commit()?;
    store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

fn fill_one(store: &Transaction<'_>, conversation: Uuid, messages: u64, progress: &Progress) -> Result<()> {
    let key: i64 =
        store.query_row("SELECT key FROM conversations WHERE id = ?1", [conversation.as_bytes()], |row| {
            row.get(0)
        })?;
    let mut members = store.prepare("SELECT user FROM conversation_members WHERE conversation = ?1")?;
    let members: Vec<i64> = members.query_map([key], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    if members.is_empty() || messages == 0 {
        return Err(Error::Refused(format!("nobody to say {messages} messages in {conversation}")));
    }
    let mut insert = store.prepare(
        "INSERT INTO messages (conversation, number, id, sender, sender_count, body, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let bar = progress.bar("messages straight into the store", messages / 1_000);
    let first_at = now() / 1_000_000 - END_MILLISECONDS - SPAN_MILLISECONDS;
    let (mut last_at, mut last_id) = (first_at, [0; 16]);
    for number in 1..=messages {
        last_at = first_at + SPAN_MILLISECONDS * number / messages;
        last_id = id(last_at, number);
        let turn = number - 1;
        let sender = members[turn as usize % members.len()];
        let sent = turn / members.len() as u64 + 1;
        let text = content(Mark { sent_at: last_at * 1_000_000, number: number as u32 });
        insert.execute(params![key, number as i64, last_id, sender, sent as i64, text, last_at as i64])?;
        if number % 1_000 == 0 {
            bar.inc(1);
        }
    }
    let (messages, last_at) = (messages as i64, last_at as i64);
    store.execute(
        "UPDATE conversations SET last_number = ?2, last_id = ?3, active_at = ?4 WHERE key = ?1",
        params![key, messages, last_id, last_at],
    )?;
    store.execute(
        "UPDATE conversation_members SET read_number = ?2,
             (sent, read_own) = (SELECT count(*), count(*) FROM messages m
                                 WHERE m.conversation = ?1 AND m.sender = conversation_members.user)
         WHERE conversation = ?1",
        params![key, messages],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use uuid::Uuid;

    use super::fill;
    use crate::progress::Progress;

    #[test]
    fn the_store_s_own_schema_takes_what_is_written_and_every_count_agrees() {
        let folder = tempfile::tempdir().unwrap();
        let store = Connection::open(folder.path().join("roost.db")).unwrap();
        store.execute_batch(include_str!("../../src/storage/sqlite/schema.sql")).unwrap();
        let (conversation, set) = (Uuid::from_u128(9), [1_u8; 32]);
        for key in 1..=2 {
            let name = format!("user-{key}");
            store
                .execute(
                    "INSERT INTO users (key, id, username, username_key, created_at) VALUES (?1, ?2, ?3, ?3, 0)",
                    rusqlite::params![key, Uuid::from_u128(key as u128).as_bytes(), name],
                )
                .unwrap();
        }
        store
            .execute(
                "INSERT INTO conversations (key, id, set_key, created_at) VALUES (3, ?1, ?2, 0)",
                rusqlite::params![conversation.as_bytes(), set],
            )
            .unwrap();
        for user in 1..=2 {
            store
                .execute("INSERT INTO conversation_members (user, conversation) VALUES (?1, 3)", [user])
                .unwrap();
        }
        fill(folder.path(), &[(conversation, 101)], &Progress::quiet()).unwrap();

        let count = |sql: &str| store.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM messages WHERE sender = 1"), 51);
        assert_eq!(count("SELECT max(sender_count) FROM messages WHERE sender = 2"), 50);
        assert_eq!(count("SELECT last_number FROM conversations"), 101);
        assert_eq!(count("SELECT sent FROM conversation_members WHERE user = 1"), 51);
        let unread = "SELECT sum((101 - read_number) - (sent - read_own)) FROM conversation_members";
        assert_eq!(count(unread), 0);
        let last: [u8; 16] =
            store.query_row("SELECT last_id FROM conversations", [], |row| row.get(0)).unwrap();
        assert_eq!(last[12..], 101_u32.to_be_bytes(), "an id ends in its message's number");
    }
}
