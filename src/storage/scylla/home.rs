//! `Home`: the shards that this node is home of, and what follows from becoming and ceasing to be it.
//!
//! It owns no table. Who is home of which shard is decided elsewhere: this is told. Of a shard that comes, what
//! former homes left is read and decided before anything is answered (`recovery`); of a shard that goes, all that
//! was remembered is forgotten. While it is here, what *any* node began in it and left for a minute is finished
//! here ([`Inner::tend`]): a node that dies leaves jobs in shards of homes that live.

use super::cql::{Cql, statements};
use super::events::Waiting;
use super::jobs::{Job, Queue};
use super::stamp::{self, from_column};
use super::told::AT_ONCE;
use super::{Inner, Nodes};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is older and not done was left by whoever began it.
pub(super) const LEFT_AFTER: Duration = Duration::from_secs(60);
/// A minute's rows have come by then, counted from its end: [`LEFT_AFTER`], a write's deadline (5 s) and the
/// difference of two clocks (6 s).
const SETTLED_AFTER: Duration = Duration::from_secs(71);
/// Where nothing was found to be finished, the next look is so long after.
const LOOK_EVERY: Duration = Duration::from_secs(10);

statements! {
    /// What becoming a home, and tending, reads.
    Statements {
        cursors: Read, "SELECT shard, minute FROM job_cursors WHERE kind = ? AND shard IN ?";
        marks: Read, "SELECT seq, done FROM jobs WHERE shard = ? AND minute = ?";
        bodies: Read, "SELECT seq, body FROM jobs WHERE shard = ? AND minute = ? AND seq IN ?";
        events: Read, "SELECT id, attempts, due_at FROM events WHERE shard = ? AND minute = ?";
    }
}

/// The shards of this home.
pub(super) struct Home {
    statements: Statements,
    /// Held while shards come or go: one after the other.
    moving: tokio::sync::Mutex<()>,
    tending: tokio::sync::Mutex<Looked>,
    // A std mutex: it is held for a few instructions, never across an await.
    shards: Mutex<Shards>,
}

#[derive(Default)]
struct Shards {
    held: BTreeSet<Shard>,
    /// Those that went and did not come back.
    gone: BTreeSet<Shard>,
    /// Up to which minute all that was begun is done, or known here.
    settled: HashMap<(Queue, Shard), i32>,
}

/// When a look found nothing.
type Looked = Option<Instant>;

/// Partitions of one shard, by minute.
type Minutes = HashMap<Shard, Vec<i32>>;

impl Home {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self, StorageError> {
        Ok(Self {
            statements: Statements::prepare(cql).await?,
            moving: tokio::sync::Mutex::default(),
            tending: tokio::sync::Mutex::default(),
            shards: Mutex::default(),
        })
    }

    /// Whether this node is home of a shard.
    pub(super) fn has(&self, shard: Shard) -> bool {
        self.shards().held.contains(&shard)
    }

    /// Whether it was, and is not now.
    pub(super) fn is_gone(&self, shard: Shard) -> bool {
        self.shards().gone.contains(&shard)
    }

    /// All shards that it is home of.
    pub(super) fn held(&self) -> Vec<Shard> {
        self.shards().held.iter().copied().collect()
    }

    /// Something was found in that minute that is not done: it is to be looked at again.
    pub(super) fn unsettle(&self, queue: Queue, shard: Shard, minute: i32) {
        if let Some(settled) = self.shards().settled.get_mut(&(queue, shard)) {
            *settled = (*settled).min(minute - 1);
        }
    }

    fn hold(&self, left: Vec<Left>) {
        let newest = settled_minute() - 1;
        let mut shards = self.shards();
        for Left { shard, jobs } in left {
            let others = jobs.iter().filter(|(_, job)| !job.is_entry());
            let oldest = others.map(|(seq, _)| stamp::minute(*seq)).min();
            let settled = oldest.map_or(newest, |oldest| newest.min(oldest - 1));
            shards.settled.insert((Queue::Jobs, shard), settled);
            shards.settled.insert((Queue::Events, shard), newest);
            shards.held.insert(shard);
        }
    }

    /// All up to `newest` is settled, but where something is not finished.
    fn settle(&self, queue: Queue, shards: &[Shard], newest: i32, unfinished: &HashMap<Shard, i32>) {
        let mut known = self.shards();
        for shard in shards {
            let reached = unfinished.get(shard).map_or(newest, |minute| newest.min(minute - 1));
            // A shard that went meanwhile is not known any more.
            if let Some(settled) = known.settled.get_mut(&(queue, *shard)) {
                *settled = (*settled).max(reached);
            }
        }
    }

    fn shards(&self) -> MutexGuard<'_, Shards> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was found of a shard when it came.
pub(super) struct Left {
    shard: Shard,
    pub(super) jobs: Vec<(Seq, Job)>,
}

impl Inner {
    /// This node is home of these shards; answers what is on its way there.
    pub(super) async fn take_over(
        self: &Arc<Self>,
        shards: &[Shard],
    ) -> Result<Vec<(Seq, UserId)>, StorageError> {
        {
            let _one = self.home.moving.lock().await;
            let new: Vec<Shard> = {
                let mut known = self.home.shards();
                let new: Vec<Shard> =
                    shards.iter().filter(|shard| !known.held.contains(shard)).copied().collect();
                new.iter().for_each(|shard| _ = known.gone.remove(shard));
                new
            };
            if !new.is_empty() {
                let left = self.left_in(&new).await?;
                self.recover(&left).await?;
                // Authors may have been passed over, and others may have ordered their entries meanwhile.
                self.lanes.reread(|author| new.contains(&Shard::of(author)));
                self.chats.talks.forget(|shard| new.contains(&shard));
                self.home.hold(left);
            }
        }
        let shards: HashSet<Shard> = shards.iter().copied().collect();
        let open = self.jobs.open();
        let ours = open.iter().filter(|(_, author)| shards.contains(&Shard::of(**author)));
        Ok(ours.map(|(seq, author)| (*seq, *author)).collect())
    }

    /// This node is no longer home of these shards; answers when what it was writing there is written, or has had
    /// the time of a write.
    pub(super) async fn let_go(&self, shards: &[Shard]) {
        let gone: HashSet<Shard> = shards.iter().copied().collect();
        let is_gone = |seq: Seq| gone.contains(&Shard(stamp::shard(seq) as u8));
        {
            let _one = self.home.moving.lock().await;
            let mut known = self.home.shards();
            known.held.retain(|shard| !gone.contains(shard));
            known.gone.extend(shards.iter().copied());
            known.settled.retain(|(_, shard), _| !gone.contains(shard));
        }
        self.lanes.empty(|author| gone.contains(&Shard::of(author)));
        self.in_flight.wait_until_none(is_gone).await;
        self.chats.talks.wait_until_none(|shard| gone.contains(&shard)).await;
        self.chats.talks.forget(|shard| gone.contains(&shard));
        self.lanes.reread(|author| gone.contains(&Shard::of(author)));
        self.jobs.open().retain(|seq, _| !is_gone(*seq));
        self.events.waiting().retain(|seq, _| !is_gone(*seq));
    }

    /// What is not done in these shards; their events are known from now on, and no stamp is given behind what is there.
    async fn left_in(&self, shards: &[Shard]) -> Result<Vec<Left>, StorageError> {
        let (jobs, events) =
            tokio::try_join!(self.minutes_of(Queue::Jobs, shards), self.minutes_of(Queue::Events, shards))?;
        let (jobs, events) = (&jobs, &events);
        iter(shards.iter().copied())
            .map(|shard| async move {
                for minute in events.get(&shard).into_iter().flatten() {
                    self.adopt_events(shard, *minute, Timestamp::from_millis(i64::MAX)).await?;
                }
                let mut left = Vec::new();
                for minute in jobs.get(&shard).into_iter().flatten() {
                    let (newest, undone) = self.undone(shard, *minute).await?;
                    self.clock.advance(newest);
                    left.extend(self.bodies(shard, *minute, &undone).await?);
                }
                Ok(Left { shard, jobs: left })
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// The minutes of these shards that may have rows, behind where each is known to be done.
    pub(super) async fn minutes_of(&self, queue: Queue, shards: &[Shard]) -> Result<Minutes, StorageError> {
        let numbers: Vec<i32> = shards.iter().map(|shard| i32::from(shard.0)).collect();
        let cursors: Vec<(i32, i32)> =
            self.cql.rows(&self.home.statements.cursors, (queue.name(), numbers)).await?;
        let passed: HashMap<i32, i32> = cursors.into_iter().collect();
        let passed_of = |shard: i32| passed.get(&shard).copied().unwrap_or(i32::MIN);
        let oldest = shards.iter().map(|shard| passed_of(i32::from(shard.0))).min().unwrap_or(i32::MIN);
        let mut minutes = Minutes::new();
        for (shard, minute) in self.minutes_from(queue, shards, oldest.saturating_add(1)).await? {
            if minute > passed_of(shard) {
                minutes.entry(Shard(shard as u8)).or_default().push(minute);
            }
        }
        Ok(minutes)
    }

    /// A partition's newest job, and those that are not done.
    async fn undone(&self, shard: Shard, minute: i32) -> Result<(Seq, Vec<i64>), StorageError> {
        let at = (i32::from(shard.0), minute);
        let marks: Vec<(i64, Option<bool>)> = self.cql.rows(&self.home.statements.marks, at).await?;
        let newest = marks.iter().map(|(seq, _)| from_column(*seq)).max().unwrap_or(Seq(0));
        let undone = marks.into_iter().filter(|(_, done)| *done != Some(true));
        Ok((newest, undone.map(|(seq, _)| seq).collect()))
    }

    /// Jobs of a partition; one whose body is gone is none.
    async fn bodies(&self, shard: Shard, minute: i32, seqs: &[i64]) -> Result<Vec<(Seq, Job)>, StorageError> {
        let mut jobs = Vec::with_capacity(seqs.len());
        for seqs in seqs.chunks(super::entries::KEYS_AT_ONCE) {
            let values = (i32::from(shard.0), minute, seqs);
            let rows: Vec<(i64, Option<String>)> =
                self.cql.rows(&self.home.statements.bodies, values).await?;
            for (seq, body) in rows {
                if let Some(body) = body {
                    jobs.push((from_column(seq), Job::from_text(&body)?));
                }
            }
        }
        Ok(jobs)
    }

    /// Knows the events of a partition from now on that were queued before a time; answers how many that were new.
    async fn adopt_events(&self, shard: Shard, minute: i32, before: Timestamp) -> Result<u64, StorageError> {
        let at = (i32::from(shard.0), minute);
        let events: Vec<(i64, Option<i32>, Option<i64>)> =
            self.cql.rows(&self.home.statements.events, at).await?;
        let mut waiting = self.events.waiting();
        let mut adopted = 0;
        for (id, attempts, due_at) in events {
            // What is left of a row that is not there.
            let (Some(attempts), Some(due_at)) = (attempts, due_at) else { continue };
            let seq = from_column(id);
            if stamp::time(seq) < before && !waiting.contains_key(&seq) {
                waiting.insert(seq, Waiting::new(attempts, Timestamp::from_millis(due_at)));
                adopted += 1;
            }
        }
        Ok(adopted)
    }

    /// Finishes what was begun in the shards of this home more than [`LEFT_AFTER`] ago, is not done and is not under way
    /// here, and knows the events of then; answers the entries that are on their way by that.
    pub(super) async fn tend(self: &Arc<Self>) -> Result<Vec<(Seq, UserId)>, StorageError> {
        let Ok(mut looked) = self.home.tending.try_lock() else { return Ok(Vec::new()) };
        let shards = self.home.held();
        if shards.is_empty() || looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(Vec::new());
        }
        self.jobs.forget_stuck();
        let before = Timestamp::now().before(LEFT_AFTER);
        let adopted = self.tend_events(&shards, before).await?;
        let (found, opened) = self.tend_jobs(&shards, before).await?;
        if adopted + found > 0 {
            tracing::info!(jobs = found, events = adopted, "finished what others had left");
        }
        *looked = (adopted + found == 0).then(Instant::now);
        Ok(opened.into_iter().filter(|(seq, _)| self.home.has(Shard(stamp::shard(*seq) as u8))).collect())
    }

    async fn tend_events(&self, shards: &[Shard], before: Timestamp) -> Result<u64, StorageError> {
        let newest = settled_minute();
        let partitions = self.unsettled(Queue::Events, shards, before).await?;
        let adopted: Vec<u64> = iter(partitions)
            .map(|(shard, minute)| self.adopt_events(shard, minute, before))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        // Whatever is left there is known here.
        self.home.settle(Queue::Events, shards, newest, &HashMap::new());
        Ok(adopted.into_iter().sum())
    }

    async fn tend_jobs(
        self: &Arc<Self>,
        shards: &[Shard],
        before: Timestamp,
    ) -> Result<(u64, Vec<(Seq, UserId)>), StorageError> {
        let newest = settled_minute();
        let partitions = self.unsettled(Queue::Jobs, shards, before).await?;
        let found: Vec<(Shard, i32, Vec<i64>)> = iter(partitions)
            .map(|(shard, minute)| async move {
                let (_, mut undone) = self.undone(shard, minute).await?;
                undone.retain(|seq| !self.is_on_its_way(from_column(*seq)));
                Ok::<_, StorageError>((shard, minute, undone))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut unfinished: HashMap<Shard, i32> = HashMap::new();
        let mut left = Vec::new();
        for (shard, minute, undone) in found.into_iter().filter(|(.., undone)| !undone.is_empty()) {
            let oldest = unfinished.entry(shard).or_insert(minute);
            *oldest = minute.min(*oldest);
            let due: Vec<i64> = undone
                .into_iter()
                .filter(|seq| stamp::time(from_column(*seq)) < before && !self.jobs.is_own(from_column(*seq)))
                .collect();
            left.extend(self.bodies(shard, minute, &due).await?);
        }
        let finished = left.len() as u64;
        let opened = self.finish_left(left).await;
        // What was finished is marked so in a moment, and seen to be at the next look.
        self.home.settle(Queue::Jobs, shards, newest, &unfinished);
        Ok((finished, opened))
    }

    /// Partitions of these shards that may hold something of before then and are not known to be settled.
    async fn unsettled(
        &self,
        queue: Queue,
        shards: &[Shard],
        before: Timestamp,
    ) -> Result<Vec<(Shard, i32)>, StorageError> {
        let newest = stamp::minute(stamp::at(before));
        let settled: HashMap<Shard, i32> = {
            let known = self.home.shards();
            let of = |shard: &Shard| known.settled.get(&(queue, *shard)).copied().unwrap_or(newest);
            shards.iter().map(|shard| (*shard, of(shard))).collect()
        };
        let oldest = settled.values().min().copied().unwrap_or(newest);
        let found = self.minutes_from(queue, shards, oldest + 1).await?;
        let partitions = found.into_iter().map(|(shard, minute)| (Shard(shard as u8), minute));
        let is_due = |(shard, minute): &(Shard, i32)| {
            *minute <= newest && settled.get(shard).is_some_and(|settled| minute > settled)
        };
        Ok(partitions.filter(is_due).collect())
    }

    /// Whether an entry is being written here, or is open here.
    pub(super) fn is_on_its_way(&self, seq: Seq) -> bool {
        self.in_flight.has(seq) || self.jobs.open().contains_key(&seq)
    }

    /// Whether what is not done in a shard may be under way on another node.
    pub(super) fn has_others(&self) -> bool {
        self.nodes == Nodes::Many
    }
}

/// The newest minute of which nothing is still to come.
fn settled_minute() -> i32 {
    stamp::minute(stamp::at(Timestamp::now().before(SETTLED_AFTER))) - 1
}
