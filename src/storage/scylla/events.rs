//! Events that are to be sent, and those that were given up; `impl Jobs`.
//!
//! Which events wait is known in this process: of the shards that it is home of all, read when a shard comes and
//! when another node has left some (`home`); of others those that it queued itself, for a minute. Their texts are
//! read when they are due.

use super::cql::{Cql, statements};
use super::home::LEFT_AFTER;
use super::jobs::Queue;
use super::stamp::{self, column, from_column};
use super::{Inner, Store};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::{Backlog, DeadLetter, Entry, EventJob, Jobs, Listed, Page, Pending, StorageError};
use futures_util::future::try_join_all;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The one kind of dead letters.
const TOPIC: &str = "events";
/// An event's removal is newer than it, and than whatever was said of it: no event is tried so often.
const SENT: i64 = 1_000_000;
/// A count of all letters, which takes their partitions whole, is good for so long.
const COUNTED_FOR: Duration = Duration::from_secs(60);

statements! {
    /// What events send.
    Statements {
        event: Write, "INSERT INTO events (shard, minute, id, event, attempts, due_at) VALUES (?, ?, ?, ?, 0, ?) USING TIMESTAMP ?";
        text: Read, "SELECT event FROM events WHERE shard = ? AND minute = ? AND id = ?";
        sent: Write, "DELETE FROM events USING TIMESTAMP ? WHERE shard = ? AND minute = ? AND id = ?";
        postpone: Write, "UPDATE events USING TIMESTAMP ? SET attempts = ?, due_at = ? WHERE shard = ? AND minute = ? AND id = ?";
        bury_day: Write, "INSERT INTO dead_letter_days (topic, day) VALUES (?, ?)";
        bury: Write, "INSERT INTO dead_letters (topic, day, id, event, error, attempts, buried_at) VALUES (?, ?, ?, ?, ?, ?, ?)";
        days: Read, "SELECT day FROM dead_letter_days WHERE topic = ?";
        letters: Read, "SELECT id, event, error, attempts, buried_at FROM dead_letters WHERE topic = ? AND day = ? AND id > ? LIMIT ?";
        letter: Read, "SELECT id, event, error, attempts, buried_at FROM dead_letters WHERE topic = ? AND day = ? AND id = ?";
        count: Read, "SELECT count(*) FROM dead_letters WHERE topic = ? AND day = ?";
        forget: Write, "DELETE FROM dead_letters WHERE topic = ? AND day = ? AND id = ?";
        forget_day: Write, "DELETE FROM dead_letter_days WHERE topic = ? AND day = ?";
    }
}

/// The events of this process.
pub(super) struct Events {
    statements: Statements,
    waiting: Mutex<BTreeMap<Seq, Waiting>>,
    counted: Mutex<Option<Counted>>,
}

/// An event that is not sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) attempts: i32,
    pub(super) due_at: Timestamp,
    /// What it is buried as, once that was begun.
    letter: Option<Seq>,
    known_at: Instant,
}

/// How many letters there were.
#[derive(Clone, Copy, Debug)]
struct Counted {
    letters: u64,
    at: Instant,
}

impl Events {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self, StorageError> {
        let statements = Statements::prepare(cql).await?;
        Ok(Self { statements, waiting: Mutex::default(), counted: Mutex::default() })
    }

    fn counted(&self) -> MutexGuard<'_, Option<Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits, by stamp.
    pub(super) fn waiting(&self) -> MutexGuard<'_, BTreeMap<Seq, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    pub(super) fn new(attempts: i32, due_at: Timestamp) -> Self {
        Self { attempts, due_at, letter: None, known_at: Instant::now() }
    }
}

type Letter = (i64, String, String, i32, i64);

impl Inner {
    /// Writes an event's row, and knows of it from now on; one that was written before is the same row.
    pub(super) async fn queue_event(
        &self,
        seq: Seq,
        event: String,
        at: Timestamp,
    ) -> Result<(), StorageError> {
        self.mark_minute(Queue::Events, seq).await?;
        let (shard, minute, id) = place(seq);
        let values = (shard, minute, id, event, at.millis(), stamp::written_at(seq));
        self.cql.write(&self.events.statements.event, values).await?;
        self.events.waiting().insert(seq, Waiting::new(0, at));
        Ok(())
    }

    /// Leaves to their homes what this process could not send for so long that those know it by now. An event that was
    /// queued late for its stamp a home may not look for any more: whoever queued it keeps it.
    fn leave_to_homes(&self) {
        let is_left = |seq: &Seq, event: &Waiting| {
            let age_then =
                stamp::between(*seq, stamp::at(Timestamp::now())).saturating_sub(event.known_at.elapsed());
            event.known_at.elapsed() > LEFT_AFTER
                && age_then < LEFT_AFTER / 2
                && !self.home.has(Shard(stamp::shard(*seq) as u8))
        };
        self.events.waiting().retain(|seq, event| !is_left(seq, event));
    }

    async fn due_events(&self, now: Timestamp, limit: usize) -> Result<Vec<EventJob>, StorageError> {
        if self.has_others() {
            self.leave_to_homes();
        }
        let due: Vec<(Seq, Waiting)> = {
            let waiting = self.events.waiting();
            let due = waiting.iter().filter(|(_, event)| event.due_at <= now);
            due.take(limit).map(|(seq, event)| (*seq, *event)).collect()
        };
        let texts = try_join_all(due.iter().map(|(seq, _)| async move { self.text(*seq).await }));
        let mut jobs = Vec::with_capacity(due.len());
        for ((seq, event), text) in due.iter().zip(texts.await?) {
            match text {
                Some(event_text) => jobs.push(EventJob {
                    id: seq.0,
                    event: event_text,
                    attempts: event.attempts.unsigned_abs(),
                }),
                // Sent by a former run, and queued again by its job, whose row is older than its removal.
                None => {
                    self.events.waiting().remove(seq);
                }
            }
        }
        Ok(jobs)
    }

    /// An event's text; none where it was sent.
    async fn text(&self, seq: Seq) -> Result<Option<String>, StorageError> {
        let row: Option<(Option<String>,)> = self.cql.first(&self.events.statements.text, place(seq)).await?;
        Ok(row.and_then(|(text,)| text))
    }

    async fn sent(&self, ids: Vec<u64>) -> Result<(), StorageError> {
        let sent = ids.iter().map(|id| {
            let seq = Seq(*id);
            let (shard, minute, id) = place(seq);
            let written_at = stamp::written_at(seq) + SENT;
            self.cql.write(&self.events.statements.sent, (written_at, shard, minute, id))
        });
        try_join_all(sent).await?;
        let mut waiting = self.events.waiting();
        for id in &ids {
            waiting.remove(&Seq(*id));
        }
        Ok(())
    }

    async fn postpone(&self, id: u64, due_at: Timestamp) -> Result<(), StorageError> {
        let seq = Seq(id);
        let Some(event) = self.events.waiting().get(&seq).copied() else { return Ok(()) };
        let attempts = event.attempts + 1;
        let (shard, minute, id) = place(seq);
        let written_at = stamp::written_at(seq) + i64::from(attempts);
        let values = (written_at, attempts, due_at.millis(), shard, minute, id);
        self.cql.write(&self.events.statements.postpone, values).await?;
        self.events.waiting().insert(seq, Waiting { attempts, due_at, ..event });
        Ok(())
    }

    async fn bury(&self, id: u64, error: String, now: Timestamp) -> Result<(), StorageError> {
        let Events { statements, .. } = &self.events;
        let seq = Seq(id);
        let Some(event) = self.events.waiting().get(&seq).copied() else { return Ok(()) };
        if let Some(text) = self.text(seq).await? {
            // Tried again it is the same letter.
            let letter = event.letter.unwrap_or_else(|| self.clock.stamp(0, None, |_| {}));
            self.events.waiting().insert(seq, Waiting { letter: Some(letter), ..event });
            let day = stamp::day(letter);
            self.cql.write(&statements.bury_day, (TOPIC, day)).await?;
            // The try that gives it up counts too.
            let values = (TOPIC, day, column(letter), text, error, event.attempts + 1, now.millis());
            self.cql.write(&statements.bury, values).await?;
            *self.events.counted() = None;
        }
        self.sent(vec![id]).await
    }

    async fn letter_days(&self) -> Result<Vec<i32>, StorageError> {
        let days: Vec<(i32,)> = self.cql.rows(&self.events.statements.days, (TOPIC,)).await?;
        Ok(days.into_iter().map(|(day,)| day).collect())
    }

    /// Counts all letters; a day that has none any more is forgotten.
    async fn count_letters(&self, days: &[i32]) -> Result<u64, StorageError> {
        let Events { statements, .. } = &self.events;
        let at = Instant::now();
        // Letters of yesterday may still be on their way.
        let settled = stamp::day(self.clock.head()) - 1;
        let counts = days.iter().map(|day| async move {
            let count = self.cql.first::<(i64,)>(&statements.count, (TOPIC, *day)).await?;
            let count = count.map_or(0, |(count,)| count.unsigned_abs());
            if count == 0 && *day < settled {
                self.cql.write(&statements.forget_day, (TOPIC, *day)).await?;
            }
            Ok::<_, StorageError>(count)
        });
        let letters = try_join_all(counts).await?.into_iter().sum();
        *self.events.counted() = Some(Counted { letters, at });
        Ok(letters)
    }

    async fn dead_letters(&self, page: Page) -> Result<Listed<DeadLetter>, StorageError> {
        let days = self.letter_days().await?;
        let total = self.count_letters(&days).await?;
        let found = self.letters_after(&days, Seq(page.before.unwrap_or(0)), page.limit).await?;
        Ok(Listed { items: found.into_iter().map(|letter| (letter.id, letter)).collect(), total })
    }

    /// The next letters behind one, oldest first.
    async fn letters_after(
        &self,
        days: &[i32],
        after: Seq,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StorageError> {
        let mut letters = Vec::new();
        for day in days.iter().filter(|day| **day >= stamp::day(after)) {
            let Ok(left @ 1..) = i32::try_from(limit - letters.len()) else { break };
            let values = (TOPIC, *day, column(after), left);
            let found: Vec<Letter> = self.cql.rows(&self.events.statements.letters, values).await?;
            letters.extend(found.into_iter().map(letter));
        }
        letters.truncate(limit);
        Ok(letters)
    }

    /// The next letters behind one, for a copy, which needs no count.
    pub(super) async fn letters_to_move(
        &self,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StorageError> {
        let days = self.letter_days().await?;
        self.letters_after(&days, after, limit).await
    }

    async fn dead_letter(&self, id: u64) -> Result<Option<DeadLetter>, StorageError> {
        let Ok(number) = i64::try_from(id) else { return Ok(None) };
        let values = (TOPIC, stamp::day(Seq(id)), number);
        Ok(self.cql.first::<Letter>(&self.events.statements.letter, values).await?.map(letter))
    }

    async fn redrive(&self, id: u64, now: Timestamp) -> Result<bool, StorageError> {
        let Some(letter) = self.dead_letter(id).await? else { return Ok(false) };
        let seq = self.clock.stamp(0, None, |_| {});
        self.queue_event(seq, letter.event, now).await?;
        self.drop_letter(id).await
    }

    async fn drop_letter(&self, id: u64) -> Result<bool, StorageError> {
        let was_there = self.dead_letter(id).await?.is_some();
        if was_there {
            let values = (TOPIC, stamp::day(Seq(id)), column(Seq(id)));
            self.cql.write(&self.events.statements.forget, values).await?;
            *self.events.counted() = None;
        }
        Ok(was_there)
    }

    async fn backlog(&self) -> Result<Backlog, StorageError> {
        let counted = *self.events.counted();
        let dead_letters = match counted {
            Some(Counted { letters, at }) if at.elapsed() < COUNTED_FOR => letters,
            _ => self.count_letters(&self.letter_days().await?).await?,
        };
        let (deliveries, oldest_delivery) = {
            let open = self.jobs.open();
            (open.len() as u64, open.keys().next().copied())
        };
        let (events, oldest_event) = {
            let waiting = self.events.waiting();
            (waiting.len() as u64, waiting.keys().next().copied())
        };
        let made_at = |seq: Seq| Timestamp::from_millis(stamp::written_at(seq) / 1000);
        let oldest = [oldest_delivery, oldest_event].into_iter().flatten().min().map(made_at);
        Ok(Backlog { deliveries, events, dead_letters, oldest })
    }
}

impl Jobs for Store {
    fn take_over(&self, shards: Vec<Shard>) -> Pending<Vec<(Seq, UserId)>> {
        self.change(move |inner| async move { inner.take_over(&shards).await })
    }

    fn let_go(&self, shards: Vec<Shard>) -> Pending<()> {
        self.change(move |inner| async move {
            inner.let_go(&shards).await;
            Ok(())
        })
    }

    fn told_since(&self, shards: Vec<Shard>, after: Seq) -> Pending<Vec<Entry>> {
        self.read(move |inner| async move { inner.told_since(&shards, after).await })
    }

    fn tend(&self) -> Pending<Vec<(Seq, UserId)>> {
        self.change(|inner| async move { inner.tend().await })
    }

    fn delivered(&self, seqs: Vec<Seq>) -> Pending<()> {
        self.change(|inner| async move {
            inner.mark_done(&seqs).await?;
            let mut open = inner.jobs.open();
            for seq in &seqs {
                open.remove(seq);
            }
            Ok(())
        })
    }

    fn due_events(&self, now: Timestamp, limit: usize) -> Pending<Vec<EventJob>> {
        self.read(move |inner| async move { inner.due_events(now, limit).await })
    }

    fn sent(&self, ids: Vec<u64>) -> Pending<()> {
        self.change(|inner| async move { inner.sent(ids).await })
    }

    fn postpone(&self, id: u64, due_at: Timestamp) -> Pending<()> {
        self.change(move |inner| async move { inner.postpone(id, due_at).await })
    }

    fn bury(&self, id: u64, error: String, now: Timestamp) -> Pending<()> {
        self.change(move |inner| async move { inner.bury(id, error, now).await })
    }

    fn backlog(&self) -> Pending<Backlog> {
        self.read(|inner| async move { inner.backlog().await })
    }

    fn dead_letters(&self, page: Page) -> Pending<Listed<DeadLetter>> {
        self.read(move |inner| async move { inner.dead_letters(page).await })
    }

    fn dead_letter(&self, id: u64) -> Pending<Option<DeadLetter>> {
        self.read(move |inner| async move { inner.dead_letter(id).await })
    }

    fn redrive(&self, id: u64, now: Timestamp) -> Pending<bool> {
        self.change(move |inner| async move { inner.redrive(id, now).await })
    }

    fn drop_letter(&self, id: u64) -> Pending<bool> {
        self.change(move |inner| async move { inner.drop_letter(id).await })
    }
}

fn place(seq: Seq) -> (i32, i32, i64) {
    (stamp::shard(seq), stamp::minute(seq), column(seq))
}

fn letter((id, event, error, attempts, buried_at): Letter) -> DeadLetter {
    DeadLetter {
        id: from_column(id).0,
        event,
        error,
        attempts: attempts.unsigned_abs(),
        buried_at: Timestamp::from_millis(buried_at),
    }
}
