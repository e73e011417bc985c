//! What of the entries that a session read it does not show itself: what reaches it by another way, in its turn. What is
//! left out counts as not told.

use super::wanted::Arrivals;
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::storage::{Entry, Missed};
use std::collections::{HashMap, HashSet};

/// Leaves out what comes live, in its turn; but nothing that an author did before something that does not.
pub(super) fn leave_to_come(missed: &mut Missed, arrivals: &Arrivals) {
    let Missed::Entries { entries, told } = missed else { return };
    let comes: HashSet<Seq> =
        entries.iter().filter(|entry| arrivals.will_bring(entry)).map(|entry| entry.seq).collect();
    let mut newest_shown: HashMap<UserId, Seq> = HashMap::new();
    for entry in entries.iter().filter(|entry| !comes.contains(&entry.seq)) {
        newest_shown.insert(entry.author(), entry.seq);
    }
    let is_left = |entry: &mut Entry| {
        comes.contains(&entry.seq) && newest_shown.get(&entry.author()).is_none_or(|shown| entry.seq > *shown)
    };
    let left: HashSet<Seq> = entries.extract_if(.., is_left).map(|entry| entry.seq).collect();
    told.also.retain(|seq| !left.contains(seq));
}

/// Leaves out what is by others than those with whom a session entered: they are followed since, and what they do comes
/// with that follow, in order. What was read as one moment of the store has it whole.
pub(super) fn leave_out_new(missed: &mut Missed, followees: &[(UserId, Seq)]) {
    let Missed::Entries { entries, told } = missed else { return };
    let followed: HashSet<UserId> = followees.iter().map(|(author, _)| *author).collect();
    let through = told.through;
    let is_new = |entry: &mut Entry| entry.seq > through && !followed.contains(&entry.author());
    let new: HashSet<Seq> = entries.extract_if(.., is_new).map(|entry| entry.seq).collect();
    told.also.retain(|seq| !new.contains(seq));
}
