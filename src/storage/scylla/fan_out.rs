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
use futures_util::stream::{StreamExt, TryStreamExt, iter, unfold};
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Followers that are read together; more than are written at once, so that progress is noted behind whole slices.
const SLICE: usize = 1_000;
/// Rows that one fan-out writes at once.
const AT_ONCE: usize = 128;

statements! {
    /// What a fan-out sends.
    Statements {
        job: Read, "SELECT body, done, progress FROM jobs WHERE shard = ? AND minute = ? AND seq = ?";
        progress: Write, "UPDATE jobs SET progress = ? WHERE shard = ? AND minute = ? AND seq = ?";
        slice: Read, "SELECT place, follower FROM followers_by_place WHERE followee = ? AND shard = ? AND place < ? LIMIT ?";
        post: WriteMany, "INSERT INTO home_timeline (reader, day, seq, post, author, created_at) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?";
        deletion: WriteMany, "INSERT INTO home_deletions (reader, day, seq, post, post_seq, author, deleted_at) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?";
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

/// What a fan-out does next.
enum Step {
    Reach(Uuid),
    Note(Progress),
}

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

    /// Reaches a shard's followers, so many at once, without a pause between two slices.
    async fn fan_out_shard(
        &self,
        line: &Line,
        shard: i32,
        progress: &mut Progress,
    ) -> Result<(), StorageError> {
        let before = progress.get(&shard).copied().unwrap_or(i64::MAX);
        let (read, slices) = mpsc::channel(1);
        let reading = self.read_slices((line.author, shard), before, read);
        let slices = unfold(slices, |mut slices| async { Some((slices.recv().await?, slices)) });
        // They are reached in order, but for those under way: behind a whole slice, all of the one before have been.
        let steps = slices.scan(None, |former, slice: Vec<Follower>| {
            let end = slice.last().map(|(last, _)| *last);
            let reached = std::mem::replace(former, end).filter(|_| slice.len() == SLICE);
            let note = reached.map(|place| {
                progress.insert(shard, place);
                Step::Note(progress.clone())
            });
            ready(Some(iter(slice.into_iter().map(|(_, follower)| Step::Reach(follower)).chain(note))))
        });
        let writing = steps.flatten().map(async |step| match step {
            Step::Reach(follower) => self.reach(line, follower).await,
            Step::Note(progress) => self.note_progress(line.seq, &progress).await,
        });
        let writing = writing.buffered(AT_ONCE).try_for_each(|()| ready(Ok(())));
        tokio::try_join!(reading, writing).map(drop)
    }

    /// Reads a shard's followers, the next slice while one is written.
    async fn read_slices(
        &self,
        (author, shard): (UserId, i32),
        mut before: i64,
        read: mpsc::Sender<Vec<Follower>>,
    ) -> Result<(), StorageError> {
        let limit = i32::try_from(SLICE).unwrap_or(i32::MAX);
        loop {
            let slice: Vec<Follower> =
                self.cql.rows(&self.fan_outs.slice, (author.0, shard, before, limit)).await?;
            let last = slice.last().filter(|_| slice.len() == SLICE).map(|(last, _)| *last);
            let is_taken = read.send(slice).await.is_ok();
            match last.filter(|_| is_taken) {
                Some(last) => before = last,
                None => return Ok(()),
            }
        }
    }

    async fn reach(&self, line: &Line, reader: Uuid) -> Result<(), StorageError> {
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
