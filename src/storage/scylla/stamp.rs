//! Stamps: the numbers of entries and jobs, which tell their day, their minute and their shard.
//!
//! A stamp is microseconds since 1970, shifted left by eight, and the shard of whose it is. Of each [`STEP`]
//! microseconds a process gives one, once: that of its own number among the nodes (`numbers`). So stamps are
//! unique, whichever nodes give them, and those of a process grow; what hears of entries hears of them in that
//! order. A clock that steps back is waited out by counting on.

use crate::model::cursor::{Seq, StoreName};
use crate::model::id::{EventId, UserId};
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nodes that may give stamps at a time, the lone node's number 0 being one: each gives 15,625 a second, and beyond
/// that counts ahead of its clock.
pub(super) const STEP: u64 = 64;
const MICROS_A_MINUTE: u64 = 60_000_000;
const MINUTES_A_DAY: u64 = 24 * 60;
const MILLIS_A_DAY: i64 = 24 * 3_600_000;

/// The shard that a user's posts, follows and jobs belong to.
pub(super) fn shard_of(user: UserId) -> u8 {
    Shard::of(user).0
}

/// A number of a user, not negative, that others have little in common with; finer than its shard.
pub(super) fn spread(user: UserId) -> i32 {
    (user.mixed() >> 33) as i32
}

/// Gives stamps.
#[derive(Default)]
pub(super) struct Clock {
    // A std mutex: it is held for a few instructions and what hears of an entry, never across an await.
    last: Mutex<u64>,
    /// Which of each `STEP` microseconds are its own.
    number: AtomicU64,
}

impl Clock {
    /// That of the node of this number.
    pub(super) fn of(number: u64) -> Self {
        Self { last: Mutex::default(), number: AtomicU64::new(number % STEP) }
    }

    /// It has another number from now on.
    pub(super) fn renumber(&self, number: u64) {
        self.number.store(number % STEP, Ordering::Relaxed);
    }

    /// The next stamp of a shard, greater than `after`; `hear` is told before anybody gets a later one.
    pub(super) fn stamp(&self, shard: u8, after: Option<Seq>, hear: impl FnOnce(Seq)) -> Seq {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let floor = after.map_or(0, |after| micros(after) + 1);
        *last = own(now().max(*last + 1).max(floor), self.number.load(Ordering::Relaxed));
        let seq = Seq((*last << 8) | u64::from(shard));
        hear(seq);
        seq
    }

    /// A number that no stamp given so far exceeds, and that all to be given do.
    pub(super) fn head(&self) -> Seq {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = now().max(*last);
        Seq((*last << 8) | (Shard::COUNT as u64 - 1))
    }

    /// No stamp is given that is not greater than this one.
    pub(super) fn advance(&self, past: Seq) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (*last).max(micros(past));
    }
}

/// The first microsecond from there on that is a number's own.
const fn own(from: u64, number: u64) -> u64 {
    from + (number + STEP - from % STEP) % STEP
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX >> 9)
}

/// Microseconds since 1970.
pub(super) const fn micros(seq: Seq) -> u64 {
    seq.0 >> 8
}

/// The same, as rows are written with it.
pub(super) const fn written_at(seq: Seq) -> i64 {
    micros(seq) as i64
}

/// The shard that it is of.
pub(super) const fn shard(seq: Seq) -> i32 {
    (seq.0 & 0xff) as i32
}

/// Minutes since 1970.
pub(super) const fn minute(seq: Seq) -> i32 {
    (micros(seq) / MICROS_A_MINUTE) as i32
}

/// Days since 1970.
pub(super) const fn day(seq: Seq) -> i32 {
    (micros(seq) / MICROS_A_MINUTE / MINUTES_A_DAY) as i32
}

/// When it was given.
pub(super) const fn time(seq: Seq) -> Timestamp {
    Timestamp::from_millis((micros(seq) / 1_000) as i64)
}

/// The least of so long before.
pub(super) const fn earlier(seq: Seq, by: Duration) -> Seq {
    Seq(micros(seq).saturating_sub(by.as_micros() as u64) << 8)
}

/// As long after.
pub(super) const fn later(seq: Seq, by: Duration) -> Seq {
    Seq(seq.0.saturating_add((by.as_micros() as u64) << 8))
}

/// The least of a time.
pub(super) const fn at(time: Timestamp) -> Seq {
    Seq((time.millis().unsigned_abs() * 1_000) << 8)
}

/// From one to a later one.
pub(super) const fn between(earlier: Seq, later: Seq) -> Duration {
    Duration::from_micros(micros(later).saturating_sub(micros(earlier)))
}

/// The least stamp of a day.
pub(super) const fn first_of_day(day: i32) -> Seq {
    let micros = day.unsigned_abs() as u64 * MINUTES_A_DAY * MICROS_A_MINUTE;
    Seq(micros << 8)
}

/// Days since 1970 of a time.
pub(super) fn day_of(time: Timestamp) -> i32 {
    i32::try_from(time.millis().div_euclid(MILLIS_A_DAY)).unwrap_or(0)
}

/// The id of the event of a store's change: version 7 of its stamp, and as unique as the stamp and the store's name.
pub(super) fn event_id(seq: Seq, store: StoreName) -> EventId {
    let (millis, micros) = (micros(seq) / 1_000, (micros(seq) % 1_000) as u16);
    let mut tail = [0; 10];
    // Of the first and the third byte the upper bits are the version's and the variant's.
    tail[..2].copy_from_slice(&micros.to_be_bytes());
    tail[2..].copy_from_slice(&store.0.to_be_bytes());
    tail[3] = seq.0 as u8;
    EventId(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
}

/// As it stands in a row.
pub(super) const fn column(seq: Seq) -> i64 {
    seq.0 as i64
}

/// As it is read from a row.
pub(super) const fn from_column(column: i64) -> Seq {
    Seq(column.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::{Clock, day, day_of, event_id, micros, minute, shard};
    use crate::model::cursor::{Seq, StoreName};
    use crate::model::timestamp::Timestamp;
    use std::collections::HashSet;

    #[test]
    fn stamps_grow_and_tell_what_they_are_of() {
        let clock = Clock::default();
        let first = clock.stamp(7, None, |_| {});
        let second = clock.stamp(3, None, |_| {});
        assert!(second > first && micros(second) > micros(first));
        assert_eq!((shard(first), shard(second)), (7, 3));
        assert_eq!(day(first), day_of(Timestamp::now()));
        assert_eq!(minute(first) / (24 * 60), day(first));
    }

    #[test]
    fn a_stamp_follows_the_one_it_is_asked_to_follow() {
        let clock = Clock::default();
        let ahead = Seq(clock.head().0 + (60_000_000 << 8));
        let next = clock.stamp(0, Some(ahead), |_| {});
        assert!(next > ahead);
        assert!(clock.stamp(0, None, |_| {}) > next, "the clock counts on");
    }

    #[test]
    fn two_numbers_never_give_the_same_microsecond() {
        let (one, other) = (Clock::of(1), Clock::of(63));
        let given = |clock: &Clock| -> HashSet<u64> {
            (0..2_000).map(|_| micros(clock.stamp(5, None, |_| {}))).collect()
        };
        let (ones, others) = (given(&one), given(&other));
        assert!(ones.is_disjoint(&others));
        assert_eq!((ones.len(), others.len()), (2_000, 2_000));
        one.renumber(63);
        let next = one.stamp(5, None, |_| {});
        assert_eq!(micros(next) % super::STEP, 63);
        assert!(ones.iter().all(|former| micros(next) > *former));
    }

    #[test]
    fn the_head_lies_between_what_was_given_and_what_will_be() {
        let clock = Clock::default();
        let before = clock.stamp(255, None, |_| {});
        let head = clock.head();
        assert!(before <= head && clock.stamp(0, None, |_| {}) > head);
    }

    #[test]
    fn each_stamp_has_one_event_id() {
        let clock = Clock::default();
        let seqs: Vec<Seq> =
            (0..2_000).map(|number| clock.stamp((number % 256) as u8, None, |_| {})).collect();
        let ids: HashSet<_> = seqs.iter().map(|seq| event_id(*seq, StoreName(7))).collect();
        assert_eq!(ids.len(), seqs.len());
        let first = event_id(seqs[0], StoreName(7));
        assert_eq!((first, first.0.get_version_num()), (event_id(seqs[0], StoreName(7)), 7));
        assert_ne!(first, event_id(seqs[0], StoreName(8)));
        let other_shard = Seq(seqs[0].0 ^ 1);
        assert_ne!(first, event_id(other_shard, StoreName(7)));
    }
}
