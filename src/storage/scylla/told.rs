//! Entries told to who cannot hear their home: read from their jobs, with what says that they have their place.
//!
//! It owns no table. Which minutes of which shards have jobs is asked first, so that a reading of all shards costs
//! little more than what is there.

use super::Inner;
use super::cql::statements;
use super::entries::KEYS_AT_ONCE;
use super::jobs::{Job, Queue};
use super::stamp::{self, column, from_column};
use crate::model::cursor::Seq;
use crate::model::shard::Shard;
use crate::storage::{Entry, StorageError};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::HashMap;
use uuid::Uuid;

/// Partitions that are read at once.
pub(super) const AT_ONCE: usize = 32;
/// Shards whose minutes are asked for in one statement.
const SHARDS_AT_ONCE: usize = 64;

statements! {
    /// What is read of jobs of many shards.
    Statements {
        minutes: Read, "SELECT shard, minute FROM minutes WHERE kind = ? AND shard IN ? AND minute >= ?";
        jobs: Read, "SELECT seq, body FROM jobs WHERE shard = ? AND minute = ? AND seq > ?";
        posts: Read, "SELECT id, seq, deleted_at FROM posts WHERE id IN ?";
        deletion: Read, "SELECT seq FROM deletions_by_author WHERE author = ? AND day = ? AND seq = ?";
    }
}

/// A post, its number, and when it was deleted.
type Mark = (Uuid, Option<i64>, Option<i64>);

impl Inner {
    /// The entries of these shards behind a place, as they are now.
    pub(super) async fn told_since(&self, shards: &[Shard], after: Seq) -> Result<Vec<Entry>, StorageError> {
        let jobs = self.jobs_behind(shards, after).await?;
        let posts: Vec<Uuid> = jobs
            .iter()
            .filter_map(|(_, job)| match job {
                Job::Post { id, .. } => Some(id.0),
                _ => None,
            })
            .collect();
        let chunks: Vec<Vec<Uuid>> = posts.chunks(KEYS_AT_ONCE).map(<[Uuid]>::to_vec).collect();
        let rows: Vec<Vec<Mark>> = iter(chunks)
            .map(|ids| async move { self.cql.rows_at_once(&self.told.posts, (ids,)).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let living: HashMap<Uuid, i64> = rows
            .into_iter()
            .flatten()
            .filter_map(|(id, seq, deleted_at)| Some((id, seq.filter(|_| deleted_at.is_none())?)))
            .collect();
        let living = &living;
        let told: Vec<Option<Entry>> = iter(jobs)
            .map(|(seq, job)| async move {
                let is_told = match &job {
                    // The same id may have been tried in vain before, under another number.
                    Job::Post { id, .. } => living.get(&id.0) == Some(&column(seq)),
                    job => self.is_deletion_shown(seq, job).await?,
                };
                Ok::<_, StorageError>(job.entry(seq).filter(|_| is_told))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(told.into_iter().flatten().collect())
    }

    /// Whether a deletion is in its author's list.
    pub(super) async fn is_deletion_shown(&self, seq: Seq, job: &Job) -> Result<bool, StorageError> {
        let Job::Delete { author, .. } = job else { return Ok(false) };
        let values = (author.0, stamp::day(seq), column(seq));
        Ok(self.cql.first::<(i64,)>(&self.told.deletion, values).await?.is_some())
    }

    /// The jobs of entries of these shards behind a place, done or not, in their order.
    pub(super) async fn jobs_behind(
        &self,
        shards: &[Shard],
        after: Seq,
    ) -> Result<Vec<(Seq, Job)>, StorageError> {
        let partitions = self.minutes_from(Queue::Jobs, shards, stamp::minute(after)).await?;
        let rows: Vec<Vec<(i64, Option<String>)>> = iter(partitions)
            .map(|(shard, minute)| self.cql.rows(&self.told.jobs, (shard, minute, column(after))))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut jobs = Vec::new();
        for (seq, body) in rows.into_iter().flatten() {
            // What is left of a row that is not there has no body.
            let Some(body) = body else { continue };
            let job = Job::from_text(&body)?;
            if matches!(job, Job::Post { .. } | Job::Delete { .. }) {
                jobs.push((from_column(seq), job));
            }
        }
        jobs.sort_unstable_by_key(|(seq, _)| *seq);
        Ok(jobs)
    }

    /// The partitions of these shards, of no minute before `from`, that may have rows: shard and minute.
    pub(super) async fn minutes_from(
        &self,
        queue: Queue,
        shards: &[Shard],
        from: i32,
    ) -> Result<Vec<(i32, i32)>, StorageError> {
        let numbers: Vec<i32> = shards.iter().map(|shard| i32::from(shard.0)).collect();
        let chunks: Vec<Vec<i32>> = numbers.chunks(SHARDS_AT_ONCE).map(<[i32]>::to_vec).collect();
        let found: Vec<Vec<(i32, i32)>> = iter(chunks)
            .map(
                |shards| async move { self.cql.rows(&self.told.minutes, (queue.name(), shards, from)).await },
            )
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }
}
