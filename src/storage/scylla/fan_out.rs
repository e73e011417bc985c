//! Fanning out: an entry's row in the timeline of everybody who follows its author, unless those are too many.
//!
//! It writes `home_timeline` and `home_deletions`, and `jobs.progress`: behind which follower of a shard an
//! interrupted fan-out goes on. Followers are read a slice at a time, and a slice's rows are written together, so a
//! fan-out takes the same memory for ten followers and ten thousand. Who follows later need not be reached: a
//! follow brings the newest posts itself. Rows are written again with the same words and times.

use super::cql::statements;
use super::jobs::Job;
use super::stamp::{self, column};
use super::{Inner, Store};
use crate::model::cursor::Seq;
use crate::model::id::{PostId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::{FanOut, Pending, StorageError, TIMELINE_AGE};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Followers that are read, and done before progress is noted.
const SLICE: usize = 2_000;
/// Rows that one fan-out writes at once.
const AT_ONCE: usize = 128;

statements! {
    /// What a fan-out sends.
    Statements {
        job: Read, "SELECT body, done, progress FROM jobs WHERE shard = ? AND minute = ? AND seq = ?";
        progress: Write, "UPDATE jobs SET progress = ? WHERE shard = ? AND minute = ? AND seq = ?";
        slice: Read, "SELECT place, follower FROM followers_by_place WHERE followee = ? AND shard = ? AND place < ? LIMIT ?";
        post: Write, "INSERT INTO home_timeline (reader, day, seq, post, author, created_at) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?";
        deletion: Write, "INSERT INTO home_deletions (reader, day, seq, post, post_seq, author, deleted_at) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?";
    }
}

/// What is brought into timelines.
struct Line {
    seq: Seq,
    author: UserId,
    post: PostId,
    what: What,
    /// For how many seconds it is kept.
    ttl: i32,
}

enum What {
    Posted { created_at: i64 },
    Deleted { post_seq: i64, deleted_at: i64 },
}

/// For each shard of followers the place of the last one that was reached; they are reached newest first.
type Progress = BTreeMap<i32, i64>;

/// A follower's place in its shard, and who it is.
type Follower = (i64, Uuid);

impl FanOut for Store {
    fn fan_out(&self, seq: Seq) -> Pending<()> {
        self.change(move |inner| inner.fan_out(seq))
    }
}

impl Inner {
    async fn fan_out(self: Arc<Self>, seq: Seq) -> Result<(), StorageError> {
        let at = (stamp::shard(seq), stamp::minute(seq), column(seq));
        type Columns = (Option<String>, Option<bool>, Option<String>);
        let job: Option<Columns> = self.cql.first(&self.fan_outs.job, at).await?;
        let Some((Some(body), None | Some(false), progress)) = job else { return Ok(()) };
        let Some(line) = Line::of(seq, Job::from_text(&body)?, Timestamp::now()) else { return Ok(()) };
        let shards = self.follower_shards(line.author).await?;
        let followers: i64 = shards.values().sum();
        if u64::try_from(followers).unwrap_or(0) > self.wide_author_followers {
            return self.mark_wide(line.author, seq, line.ttl).await;
        }
        let mut progress = progress.map(|text| parse(&text)).transpose()?.unwrap_or_default();
        for shard in shards.into_keys() {
            self.fan_out_shard(&line, shard, &mut progress).await?;
        }
        Ok(())
    }

    async fn fan_out_shard(
        &self,
        line: &Line,
        shard: i32,
        progress: &mut Progress,
    ) -> Result<(), StorageError> {
        let before = progress.get(&shard).copied().unwrap_or(i64::MAX);
        let mut slice = self.slice(line.author, shard, before).await?;
        while let Some((last, _)) = slice.last().copied() {
            let is_last = slice.len() < SLICE;
            let next =
                async { if is_last { Ok(Vec::new()) } else { self.slice(line.author, shard, last).await } };
            let ((), next) = tokio::try_join!(self.reach(line, slice), next)?;
            progress.insert(shard, last);
            if !is_last {
                self.note_progress(line.seq, progress).await?;
            }
            slice = next;
        }
        Ok(())
    }

    async fn slice(&self, author: UserId, shard: i32, before: i64) -> Result<Vec<Follower>, StorageError> {
        let limit = i32::try_from(SLICE).unwrap_or(i32::MAX);
        self.cql.rows(&self.fan_outs.slice, (author.0, shard, before, limit)).await
    }

    async fn reach(&self, line: &Line, slice: Vec<Follower>) -> Result<(), StorageError> {
        let writes = iter(slice).map(|(_, follower)| self.reach_one(line, follower));
        writes.buffer_unordered(AT_ONCE).try_for_each(|()| std::future::ready(Ok(()))).await
    }

    async fn reach_one(&self, line: &Line, reader: Uuid) -> Result<(), StorageError> {
        let Line { seq, author, post, what, ttl } = line;
        let (day, number, at) = (stamp::day(*seq), column(*seq), stamp::written_at(*seq));
        let Self { cql, fan_outs: statements, .. } = self;
        match what {
            What::Posted { created_at } => {
                let values = (reader, day, number, post.0, author.0, created_at, at, ttl);
                cql.write(&statements.post, values).await
            }
            What::Deleted { post_seq, deleted_at } => {
                let values = (reader, day, number, post.0, post_seq, author.0, deleted_at, at, ttl);
                cql.write(&statements.deletion, values).await
            }
        }
    }

    async fn note_progress(&self, seq: Seq, progress: &Progress) -> Result<(), StorageError> {
        let text =
            serde_json::to_string(progress).map_err(|error| StorageError::Refused(error.to_string()))?;
        let values = (text, stamp::shard(seq), stamp::minute(seq), column(seq));
        self.cql.write(&self.fan_outs.progress, values).await
    }
}

impl Line {
    /// What a job brings; none where it brings nothing, or nothing that is not too old by now.
    fn of(seq: Seq, job: Job, now: Timestamp) -> Option<Self> {
        let (author, post, what, made_at) = match job {
            Job::Post { id, author, created_at, .. } => (author, id, What::Posted { created_at }, created_at),
            Job::Delete { post, post_seq, author, deleted_at, .. } => {
                (author, post, What::Deleted { post_seq, deleted_at }, deleted_at)
            }
            _ => return None,
        };
        let left = Timestamp::from_millis(made_at).after(TIMELINE_AGE).millis() - now.millis();
        let ttl = i32::try_from(left.div_euclid(1_000)).ok().filter(|seconds| *seconds > 0)?;
        Some(Self { seq, author, post, what, ttl })
    }
}

fn parse(text: &str) -> Result<Progress, StorageError> {
    serde_json::from_str(text)
        .map_err(|error| StorageError::Refused(format!("a job's progress is none: {error}")))
}
