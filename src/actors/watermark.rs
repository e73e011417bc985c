//! Which entries are on their way from their commit to the sockets, and hence up to where everything
//! was sent: the low-water mark that cursors carry.
//!
//! An entry is entered by the store's writer before its commit shows it, so that no mark can pass an
//! entry that somebody might already read; it leaves when every local follower's outbox has it. Posts
//! of many authors overtake each other in between: the mark is the smallest of those that move, less one.
//!
//! Where the store writes timelines ([`crate::storage::FanOut`]), an entry that has arrived may not be in
//! all of them yet: it is *unspread* until it is. A session that begins meanwhile asks for those too.
//!
//! In a cluster, entries of authors whose home is elsewhere come by as well. Then a *ceiling* says up to where all
//! homes have told theirs (see [`super::horizon`]): the mark never passes it. An entry of this home is done only
//! when the nodes that are interested have heard it, too; and what was passed on here once is not passed on again,
//! whichever home brings it.

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
/// Entries that are known to have been passed on: beyond that, one that is brought again is shown again.
const PASSED: usize = 1 << 20;

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
    /// Up to where all homes have told their entries.
    ceiling: Option<Ceiling>,
    /// Entries of this home that other nodes were sent and have not taken yet, with how many those are.
    unheard: BTreeMap<Seq, usize>,
    /// Entries of other homes that may be missing in timelines, with their authors.
    elsewhere: BTreeMap<Seq, UserId>,
    /// Those that were passed on here, above the ceiling's floor, each with how many were before it.
    passed: BTreeMap<Seq, u64>,
    /// How many were passed on.
    passes: u64,
}

/// How far all homes have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// Everything up to here was told.
    pub told: Seq,
    /// Nothing up to here will come by any more, however far apart the clocks of homes are.
    pub settled: Seq,
    /// What is not newer than this was passed on long ago.
    pub floor: Seq,
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
    /// Another node is its home.
    is_elsewheres: bool,
    /// The nodes that are interested were sent it.
    sent: bool,
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

    /// The same where other nodes are homes, too: it stands still until they have been heard of.
    #[must_use]
    pub fn shared() -> Self {
        let state = State { ceiling: Some(Ceiling::default()), ..State::default() };
        Self { state: Mutex::new(state), spreads: true, spread: Notify::new() }
    }

    /// A watermark of a store whose newest entry is `head`, nothing being on its way.
    pub fn reset(&self, head: Seq) {
        let mut state = self.lock();
        let ceiling = state.ceiling;
        *state = State { head, ceiling, ..State::default() };
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

    /// Up to where nothing comes by any more.
    pub fn settled(&self) -> Seq {
        let state = self.lock();
        let mark = state.mark_without(None);
        state.ceiling.map_or(mark, |ceiling| ceiling.settled.min(mark))
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
        let was_passed = state.was_passed(seq);
        let moving = state.moving.get_mut(&seq).filter(|moving| !moving.carried)?;
        moving.carried = true;
        let since = moving.since;
        if was_passed {
            state.release(seq);
            return None;
        }
        Some(since)
    }

    /// A relay ended: whatever has not arrived is to be brought again, and nothing of the old one holds it.
    pub fn drop_carried(&self) {
        let mut state = self.lock();
        // Nobody brings these again: who is closed with the relay reads them from the store.
        state.moving.retain(|_, moving| !(moving.is_elsewheres && moving.carried));
        for moving in state.moving.values_mut().filter(|moving| !moving.is_elsewheres) {
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
        let mut state = self.lock();
        if let Some(moving) = state.moving.get_mut(&seq).filter(|moving| moving.author == author) {
            // Nobody is sent it.
            moving.sent = true;
            state.release(seq);
        }
    }

    /// One who held the entry has passed it on; with the last, it has arrived.
    pub fn release(&self, seq: Seq) {
        self.lock().release(seq);
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
        if state.unspread.remove(&seq).is_some() {
            state.finish(seq);
        }
    }

    /// Of these authors' entries behind the place that goes with each, those that may be missing in timelines.
    #[must_use]
    pub fn unspread_of(&self, authors: &[(UserId, Seq)]) -> Vec<Seq> {
        let state = self.lock();
        if state.unspread.is_empty() && state.elsewhere.is_empty() {
            return Vec::new();
        }
        let since: HashMap<UserId, Seq> = authors.iter().copied().collect();
        let is_read = |seq: &Seq, author: &UserId| since.get(author).is_some_and(|since| seq > since);
        let all = state.unspread.iter().chain(&state.elsewhere);
        let mut seqs: Vec<Seq> =
            all.filter(|(seq, author)| is_read(seq, author)).map(|(seq, _)| *seq).collect();
        seqs.sort_unstable();
        seqs.dedup();
        seqs
    }

    /// How many entries are not in every timeline.
    #[must_use]
    pub fn unspread(&self) -> usize {
        self.lock().unspread.len()
    }

    /// An author's entries that no relay was handed, in order.
    pub fn moving_of(&self, author: UserId) -> Vec<Seq> {
        let state = self.lock();
        let of_author = |moving: &Moving| moving.author == author && !moving.queued && !moving.is_elsewheres;
        state.moving.iter().filter(|(_, moving)| of_author(moving)).map(|(seq, _)| *seq).collect()
    }

    /// Authors with an entry that no relay was handed and that is to be brought again: 0.7 s after it set out,
    /// then after twice as long each time, 30 s at most.
    pub fn stalled(&self) -> Vec<UserId> {
        let now = Instant::now();
        let mut state = self.lock();
        let mut authors = Vec::new();
        let is_due = |moving: &&mut Moving| !moving.queued && !moving.is_elsewheres && moving.again_at <= now;
        for moving in state.moving.values_mut().filter(is_due) {
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
        let below = smallest.map(|smallest| Seq(smallest.0 - 1));
        match self.ceiling {
            Some(ceiling) => below.map_or(ceiling.told, |below| below.min(ceiling.told)),
            None => below.unwrap_or(self.head),
        }
    }

    fn was_passed(&self, seq: Seq) -> bool {
        self.passed.contains_key(&seq) || self.ceiling.is_some_and(|ceiling| seq <= ceiling.floor)
    }

    fn enter(&mut self, seq: Seq, author: UserId, is_elsewheres: bool) {
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
            is_elsewheres,
            sent: false,
        };
        self.moving.insert(seq, moving);
    }

    fn release(&mut self, seq: Seq) {
        let Some(moving) = self.moving.get_mut(&seq) else { return };
        moving.holds -= 1;
        if moving.holds > 0 {
            return;
        }
        let (is_elsewheres, sent) = (moving.is_elsewheres, moving.sent);
        if self.ceiling.is_some() {
            self.passed.entry(seq).or_insert(self.passes);
            self.passes += 1;
            if self.passed.len() > PASSED {
                self.passed.pop_first();
            }
            if !is_elsewheres && !sent {
                // It came here by its former home, just before this node became its home: its author has not brought
                // it into timelines and to other nodes yet.
                moving.holds = 1;
                moving.carried = false;
                return;
            }
        }
        self.moving.remove(&seq);
        if !is_elsewheres {
            self.finish(seq);
        }
    }

    /// One of the things that an entry of this home waits for is done: with the last, its job is.
    fn finish(&mut self, seq: Seq) {
        let waits = self.unspread.contains_key(&seq) || self.unheard.contains_key(&seq);
        if !waits && !self.moving.contains_key(&seq) {
            self.elsewhere.remove(&seq);
            self.arrived.push(seq);
        }
    }
}

impl EntryObserver for Watermark {
    fn entering(&self, seq: Seq, author: UserId) {
        let mut state = self.lock();
        state.head = state.head.max(seq);
        if let Some(moving) = state.moving.get_mut(&seq).filter(|moving| moving.is_elsewheres) {
            // It came by its former home, and somebody here still holds it: whoever was shown it is not shown it again.
            moving.is_elsewheres = false;
            (moving.queued, moving.sent) = (false, false);
            return;
        }
        state.enter(seq, author, false);
    }

    fn withdrawn(&self, seq: Seq) {
        let mut state = self.lock();
        state.moving.remove(&seq);
        if state.head == seq {
            state.head = Seq(seq.0 - 1);
        }
    }
}

mod shared;
#[cfg(test)]
mod tests;
