//! Which entries are on their way from their commit to the sockets, and hence up to where everything
//! was sent: the low-water mark that cursors carry.
//!
//! An entry is entered by the store's writer before its commit shows it, so that no mark can pass an
//! entry that somebody might already read; it leaves when every local follower's outbox has it. Posts
//! of many authors overtake each other in between: the mark is the smallest of those that move, less one.
//!
//! Where the store writes timelines ([`crate::storage::FanOut`]), an entry that has arrived may not be in
//! all of them yet: it is *unspread* until it is. A session that begins meanwhile asks for those too.

use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::storage::EntryObserver;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// After which an entry that no relay has is brought again, and at most after which.
const PATIENCE: Duration = Duration::from_millis(700);
const MOST_PATIENCE: Duration = Duration::from_secs(30);

/// The entries on their way, and what follows from them.
///
/// Its mutex is a std one: nothing awaits under it, and each hold is a few map operations.
#[derive(Default)]
pub struct Watermark {
    state: Mutex<State>,
    /// Whether entries are to be fanned out into timelines.
    spreads: bool,
    /// Something is to be fanned out.
    spread: Notify,
}

#[derive(Default)]
struct State {
    moving: BTreeMap<Seq, Moving>,
    /// The greatest number that was ever entered.
    head: Seq,
    /// Those that arrived and are in every timeline, and whose jobs are not marked done yet.
    arrived: Vec<Seq>,
    /// Those that are not in every timeline yet, with their authors.
    unspread: BTreeMap<Seq, UserId>,
    /// Of those, the ones that nobody fans out yet.
    to_spread: VecDeque<Seq>,
}

struct Moving {
    author: UserId,
    since: Instant,
    /// When it is to be brought again, and how long to wait after that.
    again_at: Instant,
    patience: Duration,
    /// It waits for its relay, or was taken by it.
    queued: bool,
    /// Its relay has taken it.
    carried: bool,
    /// Its 201 or 204 may be on its way to the client.
    answered: bool,
    /// How many still hold it: the relay, and each follow under way that may have to show it.
    holds: u32,
}

/// Where a connection without a cursor begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Everything up to here has arrived.
    pub mark: Seq,
    /// The newest entry that was on its way.
    pub head: Seq,
    /// Those up to `head` that nobody had been told of: they are new to whoever comes now.
    pub unanswered: Vec<Seq>,
    /// Those up to `head` that may still come by, and are old.
    pub old: Vec<Seq>,
}

impl Start {
    /// Whether an entry counts as made after the connection came.
    #[must_use]
    pub fn is_new(&self, seq: Seq) -> bool {
        seq > self.head || self.unanswered.contains(&seq)
    }
}

impl Watermark {
    /// A watermark of entries that are to be fanned out, too, before they are done.
    #[must_use]
    pub fn spreading() -> Self {
        Self { spreads: true, ..Self::default() }
    }

    /// A watermark of a store whose newest entry is `head`, nothing being on its way.
    pub fn reset(&self, head: Seq) {
        *self.lock() = State { head, ..State::default() };
    }

    /// What moves now was left by a former run: nobody else brings it, so it is brought again at once.
    pub fn recover(&self) {
        let now = Instant::now();
        self.lock().moving.values_mut().for_each(|moving| moving.again_at = now);
    }

    /// Up to where everything has arrived.
    pub fn mark(&self) -> Seq {
        self.lock().mark_without(None)
    }

    /// The mark once `seq`, too, has arrived: what the frame of `seq` itself may promise.
    pub fn mark_after(&self, seq: Seq) -> Seq {
        self.lock().mark_without(Some(seq))
    }

    /// Where a connection that comes now, without a cursor, begins.
    pub fn start(&self) -> Start {
        let state = self.lock();
        let mut start = Start { mark: state.mark_without(None), head: state.head, ..Start::default() };
        for (seq, moving) in &state.moving {
            let seqs = if moving.answered { &mut start.old } else { &mut start.unanswered };
            seqs.push(*seq);
        }
        start
    }

    /// The change behind `seq` is being answered: who connects from now on came after it.
    pub fn answered(&self, seq: Seq) {
        if let Some(moving) = self.lock().moving.get_mut(&seq) {
            moving.answered = true;
        }
    }

    /// An entry is to wait for its relay: answers whether it should, for it moves and does not wait yet.
    pub fn queue(&self, seq: Seq) -> bool {
        let mut state = self.lock();
        let waits = state.moving.get_mut(&seq).filter(|moving| !moving.queued);
        waits.map(|moving| moving.queued = true).is_some()
    }

    /// A relay takes an entry: answers since when it is on its way, and `None` where it need not be
    /// carried, for it has arrived or was brought twice.
    pub fn carry(&self, seq: Seq) -> Option<Instant> {
        let mut state = self.lock();
        let moving = state.moving.get_mut(&seq).filter(|moving| !moving.carried)?;
        moving.carried = true;
        Some(moving.since)
    }

    /// A relay ended: whatever has not arrived is to be brought again, and nothing of the old one holds it.
    pub fn drop_carried(&self) {
        for moving in self.lock().moving.values_mut() {
            moving.queued = false;
            moving.carried = false;
            moving.holds = 1;
        }
    }

    /// One more holds the entry back.
    pub fn hold(&self, seq: Seq) {
        if let Some(moving) = self.lock().moving.get_mut(&seq) {
            moving.holds += 1;
        }
    }

    /// An author's entry was found to be gone: its deletion tells of it.
    pub fn forget(&self, seq: Seq, author: UserId) {
        let is_its_own = self.lock().moving.get(&seq).is_some_and(|moving| moving.author == author);
        if is_its_own {
            self.release(seq);
        }
    }

    /// One who held the entry has passed it on; with the last, it has arrived.
    pub fn release(&self, seq: Seq) {
        let mut state = self.lock();
        if let Some(moving) = state.moving.get_mut(&seq) {
            moving.holds -= 1;
            if moving.holds == 0 {
                state.moving.remove(&seq);
                if !state.unspread.contains_key(&seq) {
                    state.arrived.push(seq);
                }
            }
        }
    }

    /// An entry is durable: it may be fanned out, whether or not it has arrived.
    pub fn to_spread(&self, seq: Seq, author: UserId) {
        if !self.spreads {
            return;
        }
        let mut state = self.lock();
        // One that does not move has arrived, or was withdrawn.
        if state.moving.contains_key(&seq) && state.unspread.insert(seq, author).is_none() {
            state.to_spread.push_back(seq);
            drop(state);
            self.spread.notify_one();
        }
    }

    /// Waits for an entry to be fanned out, the oldest first.
    pub async fn next_to_spread(&self) -> Seq {
        loop {
            let spread = self.spread.notified();
            let next = {
                let mut state = self.lock();
                let next = state.to_spread.pop_front();
                if next.is_some() && !state.to_spread.is_empty() {
                    self.spread.notify_one();
                }
                next
            };
            match next {
                Some(seq) => return seq,
                None => spread.await,
            }
        }
    }

    /// An entry is in every timeline.
    pub fn spread(&self, seq: Seq) {
        let mut state = self.lock();
        if state.unspread.remove(&seq).is_some() && !state.moving.contains_key(&seq) {
            state.arrived.push(seq);
        }
    }

    /// Of these authors' entries behind the place that goes with each, those that may be missing in timelines.
    #[must_use]
    pub fn unspread_of(&self, authors: &[(UserId, Seq)]) -> Vec<Seq> {
        let state = self.lock();
        if state.unspread.is_empty() {
            return Vec::new();
        }
        let since: HashMap<UserId, Seq> = authors.iter().copied().collect();
        let is_read = |seq: &Seq, author: &UserId| since.get(author).is_some_and(|since| seq > since);
        state.unspread.iter().filter(|(seq, author)| is_read(seq, author)).map(|(seq, _)| *seq).collect()
    }

    /// How many entries are not in every timeline.
    #[must_use]
    pub fn unspread(&self) -> usize {
        self.lock().unspread.len()
    }

    /// An author's entries that no relay was handed, in order.
    pub fn moving_of(&self, author: UserId) -> Vec<Seq> {
        let state = self.lock();
        let of_author = |moving: &Moving| moving.author == author && !moving.queued;
        state.moving.iter().filter(|(_, moving)| of_author(moving)).map(|(seq, _)| *seq).collect()
    }

    /// Authors with an entry that no relay was handed and that is to be brought again: 0.7 s after it set out,
    /// then after twice as long each time, 30 s at most.
    pub fn stalled(&self) -> Vec<UserId> {
        let now = Instant::now();
        let mut state = self.lock();
        let mut authors = Vec::new();
        for moving in state.moving.values_mut().filter(|moving| !moving.queued && moving.again_at <= now) {
            moving.patience = (moving.patience * 2).min(MOST_PATIENCE);
            moving.again_at = now + moving.patience;
            authors.push(moving.author);
        }
        authors.sort_unstable();
        authors.dedup();
        authors
    }

    /// Takes those that have arrived since the last call, to mark their jobs done.
    pub fn take_arrived(&self) -> Vec<Seq> {
        std::mem::take(&mut self.lock().arrived)
    }

    /// Gives back what [`Self::take_arrived`] took and could not be marked done.
    pub fn put_back_arrived(&self, seqs: Vec<Seq>) {
        self.lock().arrived.extend(seqs);
    }

    /// How many are on their way, and how long the oldest of them has been.
    pub fn depth(&self) -> (usize, Duration) {
        let state = self.lock();
        let oldest = state.moving.values().next().map_or(Duration::ZERO, |moving| moving.since.elapsed());
        (state.moving.len(), oldest)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn mark_without(&self, seq: Option<Seq>) -> Seq {
        let smallest = self.moving.keys().find(|moving| Some(**moving) != seq);
        smallest.map_or(self.head, |smallest| Seq(smallest.0 - 1))
    }
}

impl EntryObserver for Watermark {
    fn entering(&self, seq: Seq, author: UserId) {
        let mut state = self.lock();
        state.head = state.head.max(seq);
        let now = Instant::now();
        let moving = Moving {
            author,
            since: now,
            again_at: now + PATIENCE,
            patience: PATIENCE,
            queued: false,
            carried: false,
            answered: false,
            holds: 1,
        };
        state.moving.insert(seq, moving);
    }

    fn withdrawn(&self, seq: Seq) {
        let mut state = self.lock();
        state.moving.remove(&seq);
        if state.head == seq {
            state.head = Seq(seq.0 - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Watermark;
    use crate::model::cursor::Seq;
    use crate::model::id::UserId;
    use crate::storage::EntryObserver;
    use futures_util::FutureExt;

    fn moving(seqs: &[u64]) -> Watermark {
        let watermark = Watermark::default();
        for seq in seqs {
            watermark.entering(Seq(*seq), UserId::make());
        }
        watermark
    }

    #[test]
    fn the_mark_stays_below_the_oldest_that_moves() {
        let watermark = moving(&[1, 2, 3]);
        assert_eq!(watermark.mark(), Seq(0));
        watermark.release(Seq(2));
        assert_eq!(watermark.mark(), Seq(0));
        watermark.release(Seq(1));
        assert_eq!(watermark.mark(), Seq(2));
        watermark.release(Seq(3));
        assert_eq!(watermark.mark(), Seq(3));
    }

    #[test]
    fn a_frame_promises_its_own_entry_only_if_all_before_it_arrived() {
        let watermark = moving(&[1, 2]);
        assert_eq!(watermark.mark_after(Seq(2)), Seq(0));
        assert_eq!(watermark.mark_after(Seq(1)), Seq(1));
        watermark.release(Seq(1));
        assert_eq!(watermark.mark_after(Seq(2)), Seq(2));
    }

    #[test]
    fn an_entry_that_a_follow_holds_has_not_arrived() {
        let watermark = moving(&[1]);
        watermark.hold(Seq(1));
        watermark.release(Seq(1));
        assert_eq!(watermark.mark(), Seq(0));
        assert!(watermark.take_arrived().is_empty());
        watermark.release(Seq(1));
        assert_eq!(watermark.take_arrived(), [Seq(1)]);
    }

    #[test]
    fn an_entry_is_carried_once_unless_its_relay_ends() {
        let watermark = moving(&[1]);
        assert!(watermark.carry(Seq(1)).is_some());
        watermark.hold(Seq(1));
        watermark.release(Seq(1));
        assert!(watermark.carry(Seq(1)).is_none(), "a follow holds it, it was carried");
        watermark.drop_carried();
        assert!(watermark.carry(Seq(1)).is_some());
        watermark.release(Seq(1));
        assert_eq!(watermark.mark(), Seq(1));
        assert!(watermark.carry(Seq(1)).is_none(), "it has arrived");
    }

    #[test]
    fn what_was_answered_before_a_connection_came_is_not_new_to_it() {
        let watermark = moving(&[1, 2, 3]);
        watermark.answered(Seq(2));
        let start = watermark.start();
        assert_eq!((start.mark, start.head), (Seq(0), Seq(3)));
        assert_eq!(
            (start.unanswered.as_slice(), start.old.as_slice()),
            (&[Seq(1), Seq(3)][..], &[Seq(2)][..])
        );
        assert_eq!([1, 2, 3, 4].map(|seq| start.is_new(Seq(seq))), [true, false, true, true]);
    }

    #[test]
    fn a_failed_commit_leaves_no_trace() {
        let watermark = moving(&[1, 2, 3]);
        watermark.withdrawn(Seq(3));
        watermark.withdrawn(Seq(2));
        watermark.release(Seq(1));
        assert_eq!(watermark.mark(), Seq(1));
    }

    #[tokio::test]
    async fn an_entry_is_done_when_it_has_arrived_and_is_in_every_timeline() {
        let watermark = Watermark::spreading();
        let (anna, ben) = (UserId::make(), UserId::make());
        for (seq, author) in [(1, anna), (2, anna), (3, ben), (4, ben)] {
            watermark.entering(Seq(seq), author);
        }
        watermark.withdrawn(Seq(4));
        // Told twice it is fanned out once; what was withdrawn is not.
        for (seq, author) in [(1, anna), (2, anna), (2, anna), (3, ben), (4, ben)] {
            watermark.to_spread(Seq(seq), author);
        }
        assert_eq!(watermark.unspread(), 3);
        for seq in [1, 2, 3] {
            assert_eq!(watermark.next_to_spread().await, Seq(seq));
        }
        assert!(watermark.next_to_spread().now_or_never().is_none());

        // Whichever comes last: arriving, or being in every timeline.
        watermark.release(Seq(1));
        assert!(watermark.take_arrived().is_empty());
        watermark.spread(Seq(1));
        assert_eq!(watermark.take_arrived(), [Seq(1)]);
        watermark.spread(Seq(2));
        assert!(watermark.take_arrived().is_empty());
        watermark.release(Seq(2));
        assert_eq!(watermark.take_arrived(), [Seq(2)]);
        // What has arrived is not fanned out again, and is marked done once.
        watermark.to_spread(Seq(2), anna);
        watermark.spread(Seq(2));
        assert!(watermark.take_arrived().is_empty());
        assert_eq!(watermark.unspread(), 1);
    }

    #[test]
    fn a_session_asks_for_what_may_be_missing_in_its_timeline() {
        let watermark = Watermark::spreading();
        let (anna, ben, carla) = (UserId::make(), UserId::make(), UserId::make());
        for (seq, author) in [(1, anna), (2, ben), (3, anna), (4, carla), (5, ben)] {
            watermark.entering(Seq(seq), author);
            watermark.to_spread(Seq(seq), author);
        }
        // Arrived or not, they may be missing until they are in every timeline.
        watermark.release(Seq(3));
        let followed = [(anna, Seq(1)), (ben, Seq(0))];
        assert_eq!(watermark.unspread_of(&followed), [Seq(2), Seq(3), Seq(5)]);
        watermark.spread(Seq(2));
        assert_eq!(watermark.unspread_of(&followed), [Seq(3), Seq(5)]);
        assert!(watermark.unspread_of(&[(UserId::make(), Seq(0))]).is_empty());
    }

    #[test]
    fn where_timelines_are_read_nothing_is_fanned_out() {
        let watermark = moving(&[1]);
        watermark.to_spread(Seq(1), UserId::make());
        assert_eq!(watermark.unspread(), 0);
        watermark.release(Seq(1));
        assert_eq!(watermark.take_arrived(), [Seq(1)]);
    }
}
