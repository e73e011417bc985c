//! What a watermark knows where other nodes are homes, too.

use super::{Ceiling, State, Watermark};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Entries of other homes that may be missing in timelines and are known of: beyond that the oldest are taken to be there.
const MISSING: usize = 1 << 18;

/// How far this home has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Everything up to here was sent to the nodes that are interested.
    pub sent: Seq,
    /// Everything up to here is in every timeline.
    pub spread: Seq,
}

impl Watermark {
    /// An entry of another home has come; it is to be carried unless it was passed on here before, or is about to be.
    pub fn arrive(&self, seq: Seq, author: UserId) -> bool {
        let mut state = self.lock();
        if state.was_passed(seq) || state.moving.contains_key(&seq) {
            return false;
        }
        state.enter(seq, author, true);
        true
    }

    /// An entry of another home may be missing in timelines.
    pub fn may_be_missing(&self, seq: Seq, author: UserId) {
        let mut state = self.lock();
        state.elsewhere.insert(seq, author);
        if state.elsewhere.len() > MISSING {
            state.elsewhere.pop_first();
        }
    }

    /// Entries that relays here have not taken yet, and will show.
    #[must_use]
    pub fn to_be_shown(&self) -> HashSet<Seq> {
        let state = self.lock();
        let waiting = state.moving.iter().filter(|(seq, moving)| !moving.carried && !state.was_passed(**seq));
        waiting.map(|(seq, _)| *seq).collect()
    }

    /// How many entries have been passed on by now.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.lock().passes
    }

    /// Whether an entry was passed on when so many had been.
    #[must_use]
    pub fn had_passed(&self, seq: Seq, passes: u64) -> bool {
        self.lock().passed.get(&seq).is_some_and(|before| *before < passes)
    }

    /// A home has everything of those authors up to here in every timeline.
    pub fn spread_elsewhere(&self, through: Seq, is_of_home: impl Fn(UserId) -> bool) {
        let mut state = self.lock();
        let done: Vec<Seq> = state
            .elsewhere
            .range(..=through)
            .filter(|(_, author)| is_of_home(**author))
            .map(|(seq, _)| *seq)
            .collect();
        for seq in done {
            state.elsewhere.remove(&seq);
        }
    }

    /// This node is home of those authors now: of their entries only these are still on their way.
    pub fn begin_home(&self, undelivered: &[(Seq, UserId)], is_ours: impl Fn(UserId) -> bool) {
        let undelivered: BTreeSet<Seq> = undelivered.iter().map(|(seq, _)| *seq).collect();
        // One that was passed on here before may be missing in timelines until it has been fanned out.
        self.lock().elsewhere.retain(|seq, author| !is_ours(*author) || undelivered.contains(seq));
    }

    /// An entry of this home is about to be sent to so many nodes.
    pub fn to_be_heard(&self, seq: Seq, nodes: usize) {
        let mut state = self.lock();
        // One that is not this home's any more is its next home's to mark done.
        let is_ours = state.moving.get(&seq).is_some_and(|moving| !moving.is_elsewheres);
        if nodes > 0 && is_ours {
            *state.unheard.entry(seq).or_default() += nodes;
        }
    }

    /// It was sent to whoever is to have it.
    pub fn sent(&self, seq: Seq) {
        if let Some(moving) = self.lock().moving.get_mut(&seq) {
            moving.sent = true;
        }
    }

    /// A node has taken those entries, or needs them no longer.
    pub fn heard(&self, seqs: impl IntoIterator<Item = Seq>) {
        let mut state = self.lock();
        for seq in seqs {
            let Some(nodes) = state.unheard.get_mut(&seq) else { continue };
            *nodes -= 1;
            if *nodes == 0 {
                state.unheard.remove(&seq);
                state.finish(seq);
            }
        }
    }

    /// How far this home has come; `head` is its clock, read before this is asked.
    #[must_use]
    pub fn progress(&self, head: Seq) -> Progress {
        let state = self.lock();
        let mut unsent = state.moving.iter().filter(|(_, moving)| !moving.is_elsewheres && !moving.sent);
        let sent = unsent.next().map_or(head, |(seq, _)| Seq(seq.0 - 1).min(head));
        let unspread = state.unspread.keys().next().map_or(head, |seq| Seq(seq.0 - 1));
        Progress { sent, spread: unspread.min(sent) }
    }

    /// All homes have come so far; they never go back.
    pub fn raise(&self, ceiling: Ceiling) {
        let mut state = self.lock();
        let Some(known) = &mut state.ceiling else { return };
        *known = Ceiling {
            told: known.told.max(ceiling.told),
            settled: known.settled.max(ceiling.settled),
            floor: known.floor.max(ceiling.floor),
        };
        let floor = known.floor;
        state.passed = state.passed.split_off(&floor);
    }

    /// Homes move: the mark stays where it is until it is raised again.
    pub fn freeze(&self) {
        let mut state = self.lock();
        let mark = state.mark_without(None);
        if let Some(ceiling) = &mut state.ceiling {
            ceiling.told = mark;
        }
    }

    /// This node is no longer home of those authors: whoever is brings what they had on its way.
    pub fn let_go(&self, is_lost: impl Fn(UserId) -> bool) {
        let mut state = self.lock();
        let State { moving, unspread, unheard, to_spread, elsewhere, .. } = &mut *state;
        let lost: BTreeMap<Seq, UserId> = unspread.extract_if(.., |_, author| is_lost(*author)).collect();
        to_spread.retain(|seq| !lost.contains_key(seq));
        for seq in lost.keys() {
            unheard.remove(seq);
        }
        // Whoever comes here before their next home has fanned them out finds them in no timeline.
        elsewhere.extend(lost);
        // What waits for a relay still goes out here, and is then known to have been passed on; so does what another
        // home has sent, which comes only once.
        moving.retain(|_, moving| moving.is_elsewheres || moving.queued || !is_lost(moving.author));
        for (seq, moving) in moving.iter_mut().filter(|(_, moving)| is_lost(moving.author)) {
            unheard.remove(seq);
            moving.is_elsewheres = true;
            elsewhere.insert(*seq, moving.author);
        }
    }

    /// Of these authors' entries, those that may be missing in timelines, with their authors.
    #[must_use]
    pub fn unspread_by(&self, is_asked: impl Fn(UserId) -> bool) -> Vec<(Seq, UserId)> {
        let state = self.lock();
        let moving = state.moving.iter().filter(|(_, moving)| !moving.is_elsewheres);
        let moving = moving.map(|(seq, moving)| (*seq, moving.author));
        let unspread = state.unspread.iter().map(|(seq, author)| (*seq, *author));
        unspread.chain(moving).filter(|(_, author)| is_asked(*author)).collect()
    }
}

#[cfg(test)]
mod tests;
