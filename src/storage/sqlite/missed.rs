//! What a user missed behind a cursor: the entries of its timeline, read at one moment of the store.
//!
//! Where few entries lie behind the cursor they are walked; else each author's own are sought.

use super::entries::entry;
use super::statement::{Statements, head, key_of, number_of, place, seq, time};
use crate::model::cursor::{Cursor, Seq, StoreName};
use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use crate::storage::{Entry, EntryChange, Loss, Missed, StorageError, TIMELINE_AGE, TIMELINE_ENTRIES, Told};
use rusqlite::Connection;

/// Deletions that a replay holds at most: like posts over their bound, more are read from the timeline.
const DELETIONS: usize = 10_000;
/// A seek costs about as much as walking over so many entries.
const SEEK: u64 = 8;

/// Everything behind `cursor`, or why it cannot be told.
pub(super) fn since(
    store: &Connection,
    name: StoreName,
    user: UserId,
    cursor: Cursor,
) -> Result<Missed, StorageError> {
    let through = head(store)?;
    if cursor.store != name || cursor.seq > through {
        return Ok(Missed::Lost(Loss::Foreign));
    }
    if is_expired(store, cursor.seq)? {
        return Ok(Missed::Lost(Loss::Expired));
    }
    let Some(user) = key_of(store, user)? else {
        return Ok(Missed::Entries { entries: Vec::new(), told: Told::up_to(through) });
    };
    let sources = sources(store, user)?;
    let behind = through.0 - cursor.seq.0;
    let mut replay = Replay { store, entries: Vec::new(), posts: 0 };
    let whole = if behind <= sources.len() as u64 * SEEK {
        replay.walk(&sources, cursor.seq)?
    } else {
        replay.seek(&sources, cursor.seq)?
    };
    if !whole {
        return Ok(Missed::Lost(Loss::TooMany));
    }
    let mut entries = replay.entries;
    entries.sort_unstable_by_key(|entry| entry.seq);
    Ok(Missed::Entries { entries, told: Told::up_to(through) })
}

/// Whether entries behind the place are swept, or old enough to be.
fn is_expired(store: &Connection, after: Seq) -> Result<bool, StorageError> {
    if place(after) < number_of(store, "swept")? {
        return Ok(true);
    }
    let next =
        store.first("SELECT at FROM entries WHERE seq > ?1 ORDER BY seq LIMIT 1", [place(after)], |row| {
            time(row, 0)
        })?;
    Ok(next.is_some_and(|made_at| made_at < Timestamp::now().before(TIMELINE_AGE)))
}

/// An author whose entries behind a place are the user's.
struct Source {
    author: i64,
    since: Seq,
}

/// All that the user reads, in order of author.
fn sources(store: &Connection, user: i64) -> Result<Vec<Source>, StorageError> {
    let mut sources = store.all(
        "SELECT followee, since FROM following WHERE follower = ?1 ORDER BY followee",
        [user],
        |row| Ok(Source { author: row.get(0)?, since: seq(row, 1)? }),
    )?;
    let own = sources.partition_point(|source| source.author < user);
    sources.insert(own, Source { author: user, since: Seq(0) });
    Ok(sources)
}

/// Entries as they are found. Each way answers whether all of them are within the bound.
struct Replay<'a> {
    store: &'a Connection,
    entries: Vec<Entry>,
    posts: usize,
}

impl Replay<'_> {
    fn walk(&mut self, sources: &[Source], after: Seq) -> Result<bool, StorageError> {
        let mut behind =
            self.store.prepare_cached("SELECT seq, author FROM entries WHERE seq > ?1 ORDER BY seq")?;
        let mut rows = behind.query([place(after)])?;
        while let Some(row) = rows.next()? {
            let (seq, author): (Seq, i64) = (seq(row, 0)?, row.get(1)?);
            let source = sources.binary_search_by_key(&author, |source| source.author);
            if source.is_ok_and(|at| seq > sources[at].since) && !self.take(seq)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn seek(&mut self, sources: &[Source], after: Seq) -> Result<bool, StorageError> {
        for source in sources {
            let behind = self.store.all(
                "SELECT seq FROM entries WHERE author = ?1 AND seq > ?2 ORDER BY seq",
                [source.author, place(source.since.max(after))],
                |row| seq(row, 0),
            )?;
            for seq in behind {
                if !self.take(seq)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Adds an entry, unless it is a post that is gone; answers whether there may be more.
    fn take(&mut self, seq: Seq) -> Result<bool, StorageError> {
        let Some(entry) = entry(self.store, seq)? else {
            return Ok(true);
        };
        if matches!(entry.change, EntryChange::Posted { .. }) {
            self.posts += 1;
        }
        self.entries.push(entry);
        Ok(self.posts <= TIMELINE_ENTRIES && self.entries.len() - self.posts <= DELETIONS)
    }
}
