//! What is remembered of readers, in this process alone, so that their pages ask for less: how far back they reached,
//! which wide authors they follow, what the list of a page has read already, and whether a timeline was full.
//!
//! It owns no table. What it forgets is read again.

use super::shown::Living;
use super::stamp;
use super::totals::Full;
use super::window::Window;
use crate::model::cursor::Seq;
use crate::model::id::{PostId, UserId};
use crate::storage::Place;
use moka::sync::Cache;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Readers who are remembered.
const REACHES: u64 = 20_000;
/// Pages whose posts are noted between their list and their showing, and how long.
const NOTED: u64 = 512;
const NOTED_FOR: Duration = Duration::from_millis(500);
/// For so long whom one follows is known for a count, which may be older than that.
const KNOWN: Duration = Duration::from_secs(2);

/// What is remembered of readers.
pub(super) struct Readers {
    /// By reader and about how many entries.
    reaches: Cache<(UserId, usize), Reach>,
    /// Which wide authors readers were found to follow a moment ago, and from where they see them.
    wide_of: Cache<UserId, Arc<[(UserId, Seq)]>>,
    /// What lists have read of the posts of their pages.
    noted: Cache<UserId, Arc<Noted>>,
    /// Timelines that were found to be full.
    full: Cache<UserId, Arc<Full>>,
}

/// What the list of a page has read of the posts.
#[derive(Clone)]
struct Noted {
    asked_at: Instant,
    posts: HashMap<PostId, Living>,
}

/// How far back so many entries reached.
#[derive(Clone, Copy, Debug)]
struct Reach {
    day: i32,
    entries: usize,
}

impl Readers {
    pub(super) fn new() -> Self {
        Self {
            reaches: Cache::new(REACHES),
            wide_of: Cache::builder().max_capacity(REACHES).time_to_live(KNOWN).build(),
            noted: Cache::builder().max_capacity(NOTED).time_to_live(NOTED_FOR).build(),
            full: Cache::new(REACHES),
        }
    }

    /// The first day that is worth looking at for a reader's newest `want` entries, or as many behind a place.
    pub(super) fn first_day(&self, reader: UserId, want: usize, before: Option<Seq>, window: &Window) -> i32 {
        let reach = self.reaches.get(&(reader, want.next_power_of_two()));
        first_day(reach.filter(|reach| want <= reach.entries), before, window)
    }

    /// Notes how far back the newest `entries` reach: to the last of them, or further than there are so many.
    pub(super) fn note_reach(&self, reader: UserId, entries: usize, last: Option<&Place>) {
        let key = (reader, entries.next_power_of_two());
        match last {
            Some(last) => self.reaches.insert(key, Reach { day: stamp::day(last.seq), entries }),
            None => self.reaches.invalidate(&key),
        }
    }

    /// Notes which wide authors a reader follows, and from where it sees them.
    pub(super) fn note_wide(&self, reader: UserId, wide: Arc<[(UserId, Seq)]>) {
        self.wide_of.insert(reader, wide);
    }

    /// Notes what a page's list has read, for whoever shows the page; what was read later stays.
    pub(super) fn note_posts(&self, reader: UserId, asked_at: Instant, posts: HashMap<PostId, Living>) {
        if self.noted.get(&reader).is_none_or(|noted| noted.asked_at < asked_at) {
            self.noted.insert(reader, Arc::new(Noted { asked_at, posts }));
        }
    }

    /// What the list of a reader's page has read a moment ago.
    pub(super) fn take_noted(&self, reader: UserId) -> HashMap<PostId, Living> {
        let noted = self.noted.remove(&reader);
        noted.map(|noted| Arc::unwrap_or_clone(noted).posts).unwrap_or_default()
    }

    /// What is known of a reader's timeline that was full when it was counted last.
    pub(super) fn full(&self, reader: UserId) -> Option<Arc<Full>> {
        self.full.get(&reader)
    }

    /// Notes what is known of a timeline that is full, or that it is not.
    pub(super) fn note_full(&self, reader: UserId, full: Option<Full>) {
        match full {
            Some(full) => self.full.insert(reader, Arc::new(full)),
            None => self.full.invalidate(&reader),
        }
    }

    /// Which wide authors a reader was found to follow a moment ago.
    pub(super) fn known_wide(&self, reader: UserId) -> Option<Arc<[(UserId, Seq)]>> {
        self.wide_of.get(&reader)
    }
}

/// The first day that is worth looking at for a page.
fn first_day(reach: Option<Reach>, before: Option<Seq>, window: &Window) -> i32 {
    let Some(reach) = reach else { return window.oldest };
    match before {
        None => reach.day,
        // Further back it may have been quieter.
        Some(before) => stamp::day(before).min(window.newest) - 2 * (window.newest - reach.day) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::{Reach, first_day};
    use crate::model::cursor::Seq;
    use crate::storage::scylla::stamp::first_of_day;
    use crate::storage::scylla::window::Window;

    const WINDOW: Window = Window { oldest: 100, newest: 130, made_from: 0 };

    #[test]
    fn a_page_looks_as_far_back_as_the_last_one_reached() {
        let reach = Some(Reach { day: 128, entries: 21 });
        assert_eq!(first_day(None, None, &WINDOW), 100);
        assert_eq!(first_day(reach, None, &WINDOW), 128);
        assert_eq!(first_day(reach, Some(Seq(first_of_day(120).0 + 1)), &WINDOW), 115);
    }
}
