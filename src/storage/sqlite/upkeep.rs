//! Keeping the store: whether it works, what is swept, and its end. Copies: see `backup`.

use super::statement::{Statements, head, number_of};
use super::{Store, backup, chats, rooms};
use crate::model::cursor::Seq;
use crate::model::timestamp::Timestamp;
use crate::storage::{Backup, KEY_AGE, Pending, StorageError, TIMELINE_AGE, Upkeep};
use rusqlite::{Connection, params};
use std::path::PathBuf;
use std::sync::Arc;

/// Rows of each table that one sweep removes at most: what holds up other writes stays short.
const SLICE: i64 = 1000;
/// Pages that one sweep gives back to the file system at most.
const PAGES: i64 = 500;
/// Free pages that are kept for new rows: giving back what is soon wanted again is work for nothing.
const FREE_PAGES: i64 = 1000;

impl Upkeep for Store {
    fn check(&self) -> Pending<()> {
        let read = self.read(|store| number_of(store, "checked").map(|_| ()));
        let written = self.write(|write| {
            write
                .connection
                .change("UPDATE meta SET value = value + 1 WHERE name = 'checked'", [])
                .map(|_| ())
        });
        Box::pin(async move {
            read.await?;
            written.await
        })
    }

    fn head(&self) -> Pending<Seq> {
        self.read(head)
    }

    fn sweep(&self, now: Timestamp) -> Pending<u64> {
        self.write(move |write| {
            let rows = sweep(write.connection, now)?;
            give_back(write.connection)?;
            Ok(rows)
        })
    }

    fn close(&self) -> Pending<()> {
        // The last connection to close moves the log into the file.
        self.readers.close();
        self.writer.close()
    }
}

impl Backup for Store {
    fn backup(&self, file: PathBuf, progress: Box<dyn Fn(u64, u64) + Send>) -> Pending<()> {
        backup::start(Arc::clone(&self.file), file, progress)
    }
}

fn sweep(store: &Connection, now: Timestamp) -> Result<u64, StorageError> {
    let mut rows = 0;
    rows += store.change(
        "DELETE FROM idempotency_keys WHERE (user, key) IN
         (SELECT user, key FROM idempotency_keys WHERE created_at < ?1 LIMIT ?2)",
        [now.before(KEY_AGE).millis(), SLICE],
    )?;
    rows += store.change(
        "DELETE FROM refresh_tokens WHERE hash IN (SELECT hash FROM refresh_tokens WHERE expires_at <= ?1 LIMIT ?2)",
        [now.millis(), SLICE],
    )?;
    rows += store.change(
        "DELETE FROM logins WHERE id IN (SELECT id FROM logins WHERE expires_at <= ?1 LIMIT ?2)",
        [now.millis(), SLICE],
    )?;
    rows += chats::sweep_keys(store, now, SLICE)?;
    rows += chats::sweep_events(store, now, SLICE)?;
    rows += rooms::sweep(store, now, SLICE)?;
    rows += sweep_likes(store)?;
    rows += sweep_entries(store, now)?;
    Ok(rows as u64)
}

/// The likes of one deleted post.
fn sweep_likes(store: &Connection) -> Result<usize, StorageError> {
    let post = store.first(
        "SELECT seq FROM posts WHERE deleted_at IS NOT NULL AND likes > 0 ORDER BY seq LIMIT 1",
        [],
        |row| row.get::<_, i64>(0),
    )?;
    let Some(post) = post else { return Ok(0) };
    let gone = store.change(
        "DELETE FROM likes WHERE post = ?1 AND user IN (SELECT user FROM likes WHERE post = ?1 LIMIT ?2)",
        [post, SLICE],
    )?;
    store.change("UPDATE posts SET likes = likes - ?2 WHERE seq = ?1", params![post, gone as i64])?;
    Ok(gone)
}

/// The oldest entries, as far as they are too old without a gap, so that one number tells which are
/// gone. With a deletion goes the row of the post that it deleted.
fn sweep_entries(store: &Connection, now: Timestamp) -> Result<usize, StorageError> {
    let oldest = store.all("SELECT seq, deletes, at FROM entries ORDER BY seq LIMIT ?1", [SLICE], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, i64>(2)?))
    })?;
    let kept_from = now.before(TIMELINE_AGE).millis();
    let old: Vec<_> = oldest.into_iter().take_while(|(_, _, at)| *at < kept_from).collect();
    let Some((last, ..)) = old.last() else {
        return Ok(0);
    };
    store.change("UPDATE meta SET value = ?1 WHERE name = 'swept'", [last])?;
    let mut rows = store.change("DELETE FROM entries WHERE seq <= ?1", [last])?;
    for post in old.iter().filter_map(|(_, deletes, _)| *deletes) {
        rows += store.change("DELETE FROM posts WHERE seq = ?1", [post])?;
    }
    Ok(rows)
}

/// Gives free pages back, a few at a time, where more are free than are likely to be used again.
fn give_back(store: &Connection) -> Result<(), StorageError> {
    let number = |pragma: &str| store.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let spare = number("freelist_count")? - FREE_PAGES.max(number("page_count")? / 10);
    if spare > 0 {
        // Each row that it answers is a page: it stops where it is no longer asked.
        store.all(&format!("PRAGMA incremental_vacuum({})", spare.min(PAGES)), [], |_| Ok(()))?;
    }
    Ok(())
}
