//! What a former run left: read at the start, finished or void before anything new begins; and the removal of
//! what is done.
//!
//! An entry whose place was given is shown, and is on its way again. One whose place was not given never gets it:
//! its author's version is passed over by a lightweight transaction, so that one still under way cannot.

use super::Inner;
use super::cql::{Cql, Decision, statements};
use super::jobs::{Job, Queue};
use super::lane::{Author, RECENT};
use super::stamp::{self, column, from_column};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use crate::storage::scylla::events::Waiting;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Shards, or jobs, that are looked at at once.
const AT_ONCE: usize = 32;
/// Done jobs stay readable for so long.
const KEPT_MINUTES: i32 = 61;

statements! {
    /// What recovery and removal send.
    Statements {
        cursor: Read, "SELECT minute FROM job_cursors WHERE kind = ? AND shard = ?";
        minutes: Read, "SELECT minute FROM minutes WHERE kind = ? AND shard = ? AND minute > ?";
        jobs: Read, "SELECT seq, body, done FROM jobs WHERE shard = ? AND minute = ?";
        unfinished: Read, "SELECT seq, done FROM jobs WHERE shard = ? AND minute = ?";
        events: Read, "SELECT id, attempts, due_at FROM events WHERE shard = ? AND minute = ?";
        shown: Read, "SELECT id FROM posts WHERE id = ?";
        deletion: Read, "SELECT seq FROM deletions_by_author WHERE author = ? AND day = ? AND seq = ?";
        clear: Write, "DELETE FROM jobs WHERE shard = ? AND minute = ?";
        clear_events: Write, "DELETE FROM events WHERE shard = ? AND minute = ?";
        unmark: Write, "DELETE FROM minutes WHERE kind = ? AND shard = ? AND minute = ?";
        pass: Write, "INSERT INTO job_cursors (kind, shard, minute) VALUES (?, ?, ?)";
    }
}

/// What is left to be recovered.
pub(super) struct Recovery {
    statements: Statements,
    is_done: tokio::sync::Mutex<bool>,
}

impl Recovery {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self, StorageError> {
        Ok(Self { statements: Statements::prepare(cql).await?, is_done: tokio::sync::Mutex::default() })
    }
}

impl Inner {
    /// Finishes what a former run left, once.
    pub(super) async fn recover(self: &Arc<Self>) -> Result<(), StorageError> {
        let mut is_done = self.recovery.is_done.lock().await;
        if *is_done {
            return Ok(());
        }
        let left: Vec<Vec<(Seq, Job)>> = iter(0..Shard::COUNT as i32)
            .map(|shard| {
                let inner = self.clone();
                async move { inner.left_of(shard).await }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let (mut authors, mut others) = (BTreeMap::<UserId, Vec<(Seq, Job)>>::new(), Vec::new());
        for (seq, job) in left.into_iter().flatten() {
            self.clock.advance(seq);
            match &job {
                Job::Post { author, .. } | Job::Delete { author, .. } => {
                    authors.entry(*author).or_default().push((seq, job));
                }
                _ => others.push((seq, job)),
            }
        }
        if !authors.is_empty() || !others.is_empty() {
            tracing::info!(
                authors = authors.len(),
                others = others.len(),
                "finishing what a former run left"
            );
        }
        let entries = iter(authors).map(|(author, jobs)| {
            let inner = self.clone();
            async move { inner.redo_entries(author, jobs).await }
        });
        entries.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        let others = iter(others).map(|(seq, job)| {
            let inner = self.clone();
            async move { inner.redo(seq, job).await }
        });
        others.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        *is_done = true;
        Ok(())
    }

    /// A shard's jobs that are not done; its events are known from now on.
    async fn left_of(&self, shard: i32) -> Result<Vec<(Seq, Job)>, StorageError> {
        let statements = &self.recovery.statements;
        for minute in self.minutes_of(Queue::Events, shard).await? {
            let events: Vec<(i64, Option<i32>, Option<i64>)> =
                self.cql.rows(&statements.events, (shard, minute)).await?;
            for (id, attempts, due_at) in events {
                // What is left of a row that is not there.
                let (Some(attempts), Some(due_at)) = (attempts, due_at) else { continue };
                let due_at = Timestamp::from_millis(due_at);
                self.events.waiting().insert(from_column(id), Waiting::new(attempts, due_at));
            }
        }
        let mut left = Vec::new();
        for minute in self.minutes_of(Queue::Jobs, shard).await? {
            let jobs: Vec<(i64, Option<String>, Option<bool>)> =
                self.cql.rows(&statements.jobs, (shard, minute)).await?;
            for (seq, body, done) in jobs {
                if let (Some(body), None | Some(false)) = (body, done) {
                    left.push((from_column(seq), Job::from_text(&body)?));
                }
            }
        }
        Ok(left)
    }

    /// The minutes of a shard that may have rows.
    async fn minutes_of(&self, queue: Queue, shard: i32) -> Result<Vec<i32>, StorageError> {
        let statements = &self.recovery.statements;
        let passed: Option<(i32,)> = self.cql.first(&statements.cursor, (queue.name(), shard)).await?;
        let passed = passed.map_or(i32::MIN, |(minute,)| minute);
        let minutes: Vec<(i32,)> = self.cql.rows(&statements.minutes, (queue.name(), shard, passed)).await?;
        let minutes: Vec<i32> = minutes.into_iter().map(|(minute,)| minute).collect();
        self.jobs.live().extend(minutes.iter().map(|minute| (queue, shard, *minute)));
        Ok(minutes)
    }

    /// An author's entries, in their order: shown and on their way, or void.
    async fn redo_entries(
        self: &Arc<Self>,
        author: UserId,
        mut jobs: Vec<(Seq, Job)>,
    ) -> Result<(), StorageError> {
        jobs.sort_unstable_by_key(|(seq, _)| *seq);
        for (seq, job) in jobs {
            if self.has_place(author, seq, &job).await? {
                self.show_entries(&[(seq, job)]).await?;
                self.jobs.opened([(seq, author)]);
            } else {
                self.end_job(seq);
            }
        }
        Ok(())
    }

    /// Whether an entry was given its place; if not, it never will be.
    async fn has_place(&self, id: UserId, seq: Seq, job: &Job) -> Result<bool, StorageError> {
        let (Job::Post { version, .. } | Job::Delete { version, .. }) = job else { return Ok(false) };
        loop {
            let author = self.author(id).await?;
            let reached = author.version.unwrap_or(0);
            if author.recent.contains(&column(seq)) {
                return Ok(true);
            }
            if reached >= version + RECENT as i64 {
                return self.is_shown(seq, job).await;
            }
            if reached >= *version {
                return Ok(false);
            }
            let passed = Author { version: Some(*version), ..author.clone() };
            if self.set_author(id, &author, &passed).await? == Decision::Applied {
                return Ok(false);
            }
        }
    }

    /// An entry so old that its author's row no longer remembers it: it was shown before the next took its place.
    async fn is_shown(&self, seq: Seq, job: &Job) -> Result<bool, StorageError> {
        let statements = &self.recovery.statements;
        match job {
            Job::Post { id, .. } => {
                let row: Option<(Uuid,)> = self.cql.first(&statements.shown, (id.0,)).await?;
                Ok(row.is_some())
            }
            Job::Delete { author, .. } => {
                let values = (author.0, stamp::day(seq), column(seq));
                let row: Option<(i64,)> = self.cql.first(&statements.deletion, values).await?;
                Ok(row.is_some())
            }
            _ => Ok(false),
        }
    }

    /// Finishes what was not an entry; each kind's own file says how.
    pub(super) async fn redo(self: &Arc<Self>, seq: Seq, job: Job) -> Result<(), StorageError> {
        match &job {
            Job::Follow { .. } => self.redo_follow(seq, &job).await?,
            Job::Like { .. } => self.redo_like(seq, &job).await?,
            Job::Register { .. } => self.redo_register(seq, &job).await?,
            Job::Rename { .. } => self.redo_rename(seq, &job).await?,
            Job::Post { .. } | Job::Delete { .. } => {}
        }
        self.end_job(seq);
        Ok(())
    }

    /// Removes jobs that have been done for an hour, and remembers up to which minute nothing is left.
    pub(super) async fn clear_done(&self, now: Timestamp) -> Result<u64, StorageError> {
        let minute_now = i32::try_from(now.millis() / 60_000).unwrap_or(0);
        let old: Vec<(Queue, i32, i32)> = {
            let live = self.jobs.live();
            live.iter().filter(|(_, _, minute)| *minute < minute_now - KEPT_MINUTES).copied().collect()
        };
        let mut cleared = 0;
        for (queue, shard, minute) in old {
            if self.is_over(queue, shard, minute).await? {
                let statements = &self.recovery.statements;
                let clear = match queue {
                    Queue::Jobs => &statements.clear,
                    Queue::Events => &statements.clear_events,
                };
                self.cql.write(clear, (shard, minute)).await?;
                self.cql.write(&statements.unmark, (queue.name(), shard, minute)).await?;
                self.jobs.live().remove(&(queue, shard, minute));
                // What is older in this shard keeps the cursor back; events follow their jobs.
                let oldest = |queue| {
                    let live = self.jobs.live();
                    live.range((queue, shard, i32::MIN)..)
                        .next()
                        .filter(|at| (at.0, at.1) == (queue, shard))
                        .copied()
                };
                let kept = [Queue::Jobs, queue].into_iter().filter_map(oldest).map(|(_, _, minute)| minute);
                let passed = kept.min().unwrap_or(minute_now - KEPT_MINUTES) - 1;
                self.cql
                    .write(&statements.pass, (queue.name(), shard, passed.min(minute_now - KEPT_MINUTES)))
                    .await?;
                cleared += 1;
            }
        }
        Ok(cleared)
    }

    /// Whether nothing of a partition is left to be done.
    async fn is_over(&self, queue: Queue, shard: i32, minute: i32) -> Result<bool, StorageError> {
        let statements = &self.recovery.statements;
        match queue {
            Queue::Jobs => {
                let jobs: Vec<(i64, Option<bool>)> =
                    self.cql.rows(&statements.unfinished, (shard, minute)).await?;
                Ok(jobs.iter().all(|(_, done)| *done == Some(true)))
            }
            Queue::Events => {
                let waiting = self.events.waiting();
                Ok(!waiting.keys().any(|seq| (stamp::shard(*seq), stamp::minute(*seq)) == (shard, minute)))
            }
        }
    }
}
