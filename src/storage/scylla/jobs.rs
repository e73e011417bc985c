//! Jobs: what takes several writes, noted down before the first of them and done after the last.
//!
//! A job's row is in the partition of its shard and minute; `minutes` tells which of those there are. Its
//! stamp is given by the clock, so a job written again is the same row. Done jobs are marked in groups: one
//! that a crash leaves unmarked is done again, which changes nothing.

use super::Inner;
use super::cql::{Cql, statements};
use super::stamp::{self, column};
use crate::model::cursor::Seq;
use crate::model::event::Change;
use crate::model::id::{FollowId, LikeId, PostId, UserId};
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::{StorageError, TokenHash};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// What is to be done, as it stands in the row. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Job {
    /// A post: the author's entry number `version`.
    Post {
        id: PostId,
        author: UserId,
        author_name: String,
        content: String,
        created_at: i64,
        version: i64,
        key: Option<(String, TokenHash)>,
        /// By which of several tries of the same it was made, where there may be several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<Uuid>,
    },
    /// A deletion: the author's entry number `version`.
    Delete { post: PostId, post_seq: i64, author: UserId, deleted_at: i64, version: i64 },
    /// A follow, or (`ends`) an unfollow, that makes `version` of the claim in `following`. `place`: where the
    /// follow that ends stands in the lists.
    Follow {
        id: FollowId,
        follower: UserId,
        followee: UserId,
        created_at: i64,
        version: i64,
        ends: bool,
        at: i64,
        place: Option<i64>,
    },
    /// A like, or (`ends`) one that is taken back, that makes `version` of the claim in `likes`.
    Like { id: LikeId, user: UserId, post: PostId, created_at: i64, version: i64, ends: bool, at: i64 },
    /// A registration; e-mail and name in lower case.
    Register { user: UserId, email: Option<String>, username: String },
    /// A change of name; both in lower case.
    Rename { user: UserId, from: String, to: String },
}

statements! {
    /// What jobs send.
    Statements {
        write: Write, "INSERT INTO jobs (shard, minute, seq, body) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
        finish: Write, "UPDATE jobs SET done = true WHERE shard = ? AND minute = ? AND seq = ?";
        mark_minute: Write, "INSERT INTO minutes (kind, shard, minute) VALUES (?, ?, ?)";
    }
}

/// What has partitions of a shard and a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Queue {
    Jobs,
    Events,
}

impl Queue {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Events => "events",
        }
    }
}

/// A job's shard, minute and stamp.
type JobKey = (i32, i32, i64);
/// The same with its body and when it was written.
type JobRow = (i32, i32, i64, String, i64);

/// Done jobs gather so long before they are marked.
const GATHER: Duration = Duration::from_millis(250);
/// A pause after marking failed.
const PAUSE: Duration = Duration::from_secs(2);
/// Older jobs may be finished elsewhere soon: a minute, less the difference of two clocks, a transaction and a write.
const WORN: Duration = Duration::from_secs(40);
/// A job that takes this process longer hangs, or was left by a fault.
const STUCK: Duration = Duration::from_secs(600);
/// Jobs marked in one request.
const MARKED_AT_ONCE: usize = 100;

/// The jobs of this process.
pub(super) struct Jobs {
    pub(super) statements: Statements,
    /// The newest minute that `minutes` is known to have.
    marked: Mutex<HashMap<(Queue, i32), i32>>,
    finished: Mutex<Finished>,
    /// Entries whose delivery is not done.
    open: Mutex<BTreeMap<Seq, UserId>>,
    /// Jobs other than entries that this process is doing.
    own: Mutex<BTreeSet<Seq>>,
}

/// Jobs that are done and not marked so yet.
#[derive(Default)]
struct Finished {
    seqs: Vec<Seq>,
    is_marking: bool,
}

impl Jobs {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self, StorageError> {
        let statements = Statements::prepare(cql).await?;
        Ok(Self {
            statements,
            marked: Mutex::default(),
            finished: Mutex::default(),
            open: Mutex::default(),
            own: Mutex::default(),
        })
    }

    /// Entries whose delivery is not done, with their authors.
    pub(super) fn open(&self) -> MutexGuard<'_, BTreeMap<Seq, UserId>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process is at a job that is not an entry.
    pub(super) fn is_own(&self, seq: Seq) -> bool {
        self.own().contains(&seq)
    }

    /// What has been under way for so long is done by whoever finds it, too.
    pub(super) fn forget_stuck(&self) {
        let oldest = stamp::at(Timestamp::now().before(STUCK));
        let mut own = self.own();
        *own = own.split_off(&oldest);
    }

    fn disown(&self, seqs: &[Seq]) {
        let mut own = self.own();
        seqs.iter().for_each(|seq| _ = own.remove(seq));
    }

    fn own(&self) -> MutexGuard<'_, BTreeSet<Seq>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finished(&self) -> MutexGuard<'_, Finished> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Notes a job of `owner` down; answers its stamp. One that could not be noted down is void: nothing is begun
    /// for it, and should its row come late, it comes as done.
    pub(super) async fn begin_job(self: &Arc<Self>, owner: UserId, job: &Job) -> Result<Seq, StorageError> {
        let seq = self.clock.stamp(stamp::shard_of(owner), None, |_| {});
        match self.write_job(seq, job, 0).await {
            Ok(()) => Ok(seq),
            Err(error) => {
                self.end_job(seq);
                Err(error)
            }
        }
    }

    /// Writes a job's row; again with a greater `revision` where it must say something else.
    pub(super) async fn write_job(&self, seq: Seq, job: &Job, revision: i64) -> Result<(), StorageError> {
        self.jobs.own().insert(seq);
        // Before the row: a row in a minute that nobody looks at is lost.
        self.mark_minute(Queue::Jobs, seq).await?;
        let (shard, minute) = (stamp::shard(seq), stamp::minute(seq));
        let written_at = stamp::written_at(seq) + revision;
        let values = (shard, minute, column(seq), job.to_text()?, written_at);
        self.cql.write(&self.jobs.statements.write, values).await
    }

    /// Notes several jobs of one owner down, at once where they are of one minute.
    pub(super) async fn write_jobs(&self, jobs: &[(Seq, Job)]) -> Result<(), StorageError> {
        let mut minutes: BTreeMap<i32, Vec<JobRow>> = BTreeMap::new();
        for (seq, job) in jobs {
            self.mark_minute(Queue::Jobs, *seq).await?;
            let (shard, minute) = (stamp::shard(*seq), stamp::minute(*seq));
            let row = (shard, minute, column(*seq), job.to_text()?, stamp::written_at(*seq));
            minutes.entry(minute).or_default().push(row);
        }
        for rows in minutes.values() {
            self.cql.write_batch(&self.jobs.statements.write, rows).await?;
        }
        Ok(())
    }

    /// Sees to it that `minutes` has the stamp's minute.
    pub(super) async fn mark_minute(&self, queue: Queue, seq: Seq) -> Result<(), StorageError> {
        let (shard, minute) = (stamp::shard(seq), stamp::minute(seq));
        let marked = || self.jobs.marked.lock().unwrap_or_else(PoisonError::into_inner);
        if marked().get(&(queue, shard)) == Some(&minute) {
            return Ok(());
        }
        self.cql.write(&self.jobs.statements.mark_minute, (queue.name(), shard, minute)).await?;
        marked().insert((queue, shard), minute);
        Ok(())
    }

    /// Entries are on their way, as long as this node is the one to see to that.
    pub(super) fn open_entries(&self, entries: impl IntoIterator<Item = (Seq, UserId)>) {
        let ours = entries.into_iter().filter(|(_, author)| !self.home.is_gone(Shard::of(*author)));
        let ours: Vec<_> = ours.collect();
        self.jobs.open().extend(ours);
    }

    /// Whether a job has taken so long that a home may soon finish it, or has: whoever is still at it begins another.
    pub(super) fn is_worn(&self, seq: Seq) -> bool {
        self.has_others() && stamp::time(seq) < Timestamp::now().before(WORN)
    }

    /// A job is done: soon it is marked so.
    pub(super) fn end_job(self: &Arc<Self>, seq: Seq) {
        self.end_jobs([seq]);
    }

    /// Jobs are done: soon they are marked so.
    pub(super) fn end_jobs(self: &Arc<Self>, seqs: impl IntoIterator<Item = Seq>) {
        let mut finished = self.jobs.finished();
        finished.seqs.extend(seqs);
        if !finished.is_marking && !finished.seqs.is_empty() {
            finished.is_marking = true;
            tokio::spawn(self.clone().mark_finished());
        }
    }

    async fn mark_finished(self: Arc<Self>) {
        tokio::time::sleep(GATHER).await;
        loop {
            let seqs = {
                let mut finished = self.jobs.finished();
                finished.is_marking = !finished.seqs.is_empty();
                std::mem::take(&mut finished.seqs)
            };
            if seqs.is_empty() {
                return;
            }
            if let Err(error) = self.mark_done(&seqs).await {
                tracing::debug!(%error, jobs = seqs.len(), "done jobs could not be marked yet: {error}");
                self.jobs.finished().seqs.extend(seqs);
                tokio::time::sleep(PAUSE).await;
            } else {
                self.jobs.disown(&seqs);
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// Marks jobs done, partition by partition.
    pub(super) async fn mark_done(&self, seqs: &[Seq]) -> Result<(), StorageError> {
        let mut partitions: BTreeMap<(i32, i32), Vec<JobKey>> = BTreeMap::new();
        for seq in seqs {
            let place = (stamp::shard(*seq), stamp::minute(*seq));
            partitions.entry(place).or_default().push((place.0, place.1, column(*seq)));
        }
        for rows in partitions.values().flat_map(|rows| rows.chunks(MARKED_AT_ONCE)) {
            self.cql.write_batch(&self.jobs.statements.finish, rows).await?;
        }
        Ok(())
    }

    /// Queues an event, where events are sent; `seq` is the stamp of the job that it is of: one event a job.
    pub(super) async fn publish(
        &self,
        seq: Seq,
        change: &Change<'_>,
        at: Timestamp,
    ) -> Result<(), StorageError> {
        if !self.sends_events {
            return Ok(());
        }
        let mut event = change.event(at);
        // Of one job it is the same however often it is queued.
        event["id"] = stamp::event_id(seq, self.name).to_string().into();
        self.queue_event(seq, event.to_string(), at).await
    }
}

impl Job {
    /// Whether it is of a post or a deletion.
    pub(super) const fn is_entry(&self) -> bool {
        matches!(self, Self::Post { .. } | Self::Delete { .. })
    }

    fn to_text(&self) -> Result<String, StorageError> {
        serde_json::to_string(self).map_err(|error| StorageError::Refused(error.to_string()))
    }

    /// A job as it stands in its row.
    pub(super) fn from_text(text: &str) -> Result<Self, StorageError> {
        serde_json::from_str(text)
            .map_err(|error| StorageError::Refused(format!("a job is not one: {error}")))
    }
}
