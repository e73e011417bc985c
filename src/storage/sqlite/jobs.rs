//! What remains to be done: deliveries, by the number of their entry; events; and the events that were
//! given up. A job is made in the write of its change (see `writer`) and goes when it is done.

use super::Store;
use super::statement::{Statements, count, place, rows, seq, time, time_or_none, user_id};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::{Backlog, DeadLetter, Entry, EventJob, Jobs, Listed, Page, Pending, StorageError};
use rusqlite::{Connection, Row, params};
use std::future::ready;

impl Jobs for Store {
    fn take_over(&self, _: Vec<Shard>) -> Pending<Vec<(Seq, UserId)>> {
        self.read(|store| {
            store.all(
                "SELECT d.seq, u.id FROM deliveries d JOIN users u ON u.key = d.author ORDER BY d.seq",
                [],
                |row| Ok((seq(row, 0)?, user_id(row, 1)?)),
            )
        })
    }

    fn let_go(&self, _: Vec<Shard>) -> Pending<()> {
        Box::pin(ready(Ok(())))
    }

    fn told_since(&self, _: Vec<Shard>, _: Seq) -> Pending<Vec<Entry>> {
        Box::pin(ready(Err(StorageError::Refused("this store has one home".to_owned()))))
    }

    fn tend(&self) -> Pending<Vec<(Seq, UserId)>> {
        // What is begun here is one write.
        Box::pin(ready(Ok(Vec::new())))
    }

    fn delivered(&self, seqs: Vec<Seq>) -> Pending<()> {
        self.write(move |write| {
            for seq in &seqs {
                write.connection.change("DELETE FROM deliveries WHERE seq = ?1", [place(*seq)])?;
            }
            Ok(())
        })
    }

    fn due_events(&self, now: Timestamp, limit: usize) -> Pending<Vec<EventJob>> {
        self.read(move |store| {
            // By id, not by an index on due_at: what is put off is only what is being tried.
            store.all(
                "SELECT id, event, attempts FROM events WHERE due_at <= ?1 ORDER BY id LIMIT ?2",
                [now.millis(), rows(limit)],
                |row| Ok(EventJob { id: count(row, 0)?, event: row.get(1)?, attempts: row.get(2)? }),
            )
        })
    }

    fn sent(&self, ids: Vec<u64>) -> Pending<()> {
        self.write(move |write| {
            for id in &ids {
                write.connection.change("DELETE FROM events WHERE id = ?1", [number(*id)])?;
            }
            Ok(())
        })
    }

    fn postpone(&self, id: u64, due_at: Timestamp) -> Pending<()> {
        self.write(move |write| {
            write.connection.change(
                "UPDATE events SET attempts = attempts + 1, due_at = ?2 WHERE id = ?1",
                [number(id), due_at.millis()],
            )?;
            Ok(())
        })
    }

    fn bury(&self, id: u64, error: String, now: Timestamp) -> Pending<()> {
        self.write(move |write| {
            // The try that gives it up counts too.
            write.connection.change(
                "INSERT INTO dead_letters (event, error, attempts, buried_at)
                 SELECT event, ?2, attempts + 1, ?3 FROM events WHERE id = ?1",
                params![number(id), error, now.millis()],
            )?;
            write.connection.change("DELETE FROM events WHERE id = ?1", [number(id)])?;
            Ok(())
        })
    }

    fn backlog(&self) -> Pending<Backlog> {
        self.read(backlog)
    }

    fn dead_letters(&self, page: Page) -> Pending<Listed<DeadLetter>> {
        self.read(move |store| {
            let total = store.first("SELECT count(*) FROM dead_letters", [], |row| count(row, 0))?;
            let items = store.all(
                "SELECT id, event, error, attempts, buried_at FROM dead_letters WHERE id > ?1 ORDER BY id LIMIT ?2",
                [number(page.before.unwrap_or(0)), rows(page.limit)],
                |row| Ok((count(row, 0)?, letter(row)?)),
            )?;
            Ok(Listed { items, total: total.unwrap_or(0) })
        })
    }

    fn dead_letter(&self, id: u64) -> Pending<Option<DeadLetter>> {
        self.read(move |store| {
            store.first(
                "SELECT id, event, error, attempts, buried_at FROM dead_letters WHERE id = ?1",
                [number(id)],
                letter,
            )
        })
    }

    fn redrive(&self, id: u64, now: Timestamp) -> Pending<bool> {
        self.write(move |write| {
            let made = write.connection.change(
                "INSERT INTO events (event, made_at, due_at) SELECT event, ?2, ?2 FROM dead_letters WHERE id = ?1",
                [number(id), now.millis()],
            )?;
            write.connection.change("DELETE FROM dead_letters WHERE id = ?1", [number(id)])?;
            Ok(made == 1)
        })
    }

    fn drop_letter(&self, id: u64) -> Pending<bool> {
        self.write(move |write| {
            let gone = write.connection.change("DELETE FROM dead_letters WHERE id = ?1", [number(id)])?;
            Ok(gone == 1)
        })
    }
}

/// A job's number as SQLite counts; one beyond it is nobody's.
fn number(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

fn letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        id: count(row, 0)?,
        event: row.get(1)?,
        error: row.get(2)?,
        attempts: row.get(3)?,
        buried_at: time(row, 4)?,
    })
}

fn backlog(store: &Connection) -> Result<Backlog, StorageError> {
    // Jobs are numbered as they are made: the lowest number is the oldest.
    let found = store.first(
        "SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM events),
            (SELECT count(*) FROM dead_letters),
            (SELECT made_at FROM deliveries ORDER BY seq LIMIT 1),
            (SELECT made_at FROM events ORDER BY id LIMIT 1)",
        [],
        |row| {
            let oldest = [time_or_none(row, 3)?, time_or_none(row, 4)?];
            Ok(Backlog {
                deliveries: count(row, 0)?,
                events: count(row, 1)?,
                dead_letters: count(row, 2)?,
                oldest: oldest.into_iter().flatten().min(),
            })
        },
    )?;
    Ok(found.unwrap_or_default())
}
