//! The removal of what is done: partitions of jobs and events, an hour after their minute.
//!
//! Only a shard's home removes there, and it goes by what the rows say: others write there too. `job_cursors` tells
//! up to which minute nothing is left, so that nobody meets the tombstones of what was removed.

use super::Inner;
use super::cql::statements;
use super::jobs::Queue;
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use std::collections::BTreeSet;

/// Done jobs stay readable for so long.
pub(super) const KEPT_MINUTES: i32 = 61;

statements! {
    /// What removal sends.
    Statements {
        unfinished: Read, "SELECT done FROM jobs WHERE shard = ? AND minute = ?";
        unsent: Read, "SELECT WRITETIME(event) FROM events WHERE shard = ? AND minute = ?";
        clear: Write, "DELETE FROM jobs WHERE shard = ? AND minute = ?";
        clear_events: Write, "DELETE FROM events WHERE shard = ? AND minute = ?";
        unmark: Write, "DELETE FROM minutes WHERE kind = ? AND shard = ? AND minute = ?";
        pass: Write, "INSERT INTO job_cursors (kind, shard, minute) VALUES (?, ?, ?)";
    }
}

impl Inner {
    /// Removes jobs that have been done for an hour, and remembers up to which minute nothing is left.
    pub(super) async fn clear_done(&self, now: Timestamp) -> Result<u64, StorageError> {
        let shards = self.home.held();
        if shards.is_empty() {
            return Ok(0);
        }
        let before = i32::try_from(now.millis() / 60_000).unwrap_or(0) - KEPT_MINUTES;
        let (mut jobs, mut events) =
            tokio::try_join!(self.minutes_of(Queue::Jobs, &shards), self.minutes_of(Queue::Events, &shards))?;
        let mut cleared = 0;
        for shard in shards {
            let mut minutes = |queue| {
                let all = if queue == Queue::Jobs { &mut jobs } else { &mut events };
                all.remove(&shard).unwrap_or_default().into_iter().collect::<BTreeSet<i32>>()
            };
            let (mut of_jobs, mut of_events) = (minutes(Queue::Jobs), minutes(Queue::Events));
            let removed = self.clear(Queue::Jobs, shard, &mut of_jobs, before).await?;
            if removed > 0 {
                self.pass(Queue::Jobs, shard, before, of_jobs.first()).await?;
            }
            let sent = self.clear(Queue::Events, shard, &mut of_events, before).await?;
            if sent > 0 {
                // Events follow their jobs: one that is done again queues its event again.
                let kept = of_jobs.first().into_iter().chain(of_events.first()).min();
                self.pass(Queue::Events, shard, before, kept).await?;
            }
            cleared += removed + sent;
        }
        Ok(cleared)
    }

    /// Removes partitions of which nothing is left to be done; those that are kept stay in `minutes`.
    async fn clear(
        &self,
        queue: Queue,
        shard: Shard,
        minutes: &mut BTreeSet<i32>,
        before: i32,
    ) -> Result<u64, StorageError> {
        let statements = &self.sweeping;
        let clear = match queue {
            Queue::Jobs => &statements.clear,
            Queue::Events => &statements.clear_events,
        };
        let old: Vec<i32> = minutes.range(..before).copied().collect();
        let mut cleared = 0;
        for minute in old {
            if !self.is_over(queue, shard, minute).await? {
                self.home.unsettle(queue, shard, minute);
                continue;
            }
            self.cql.write(clear, (i32::from(shard.0), minute)).await?;
            self.cql.write(&statements.unmark, (queue.name(), i32::from(shard.0), minute)).await?;
            minutes.remove(&minute);
            cleared += 1;
        }
        Ok(cleared)
    }

    /// Nothing is left before what is kept.
    async fn pass(
        &self,
        queue: Queue,
        shard: Shard,
        before: i32,
        kept: Option<&i32>,
    ) -> Result<(), StorageError> {
        let passed = kept.map_or(before, |kept| before.min(*kept)) - 1;
        self.cql.write(&self.sweeping.pass, (queue.name(), i32::from(shard.0), passed)).await
    }

    /// Whether nothing of a partition is left to be done.
    async fn is_over(&self, queue: Queue, shard: Shard, minute: i32) -> Result<bool, StorageError> {
        let at = (i32::from(shard.0), minute);
        match queue {
            Queue::Jobs => {
                let jobs: Vec<(Option<bool>,)> = self.cql.rows(&self.sweeping.unfinished, at).await?;
                Ok(jobs.iter().all(|(done,)| *done == Some(true)))
            }
            // What is left of a row that is not there has no text.
            Queue::Events => {
                let events: Vec<(Option<i64>,)> = self.cql.rows(&self.sweeping.unsent, at).await?;
                Ok(events.iter().all(|(written_at,)| written_at.is_none()))
            }
        }
    }
}
