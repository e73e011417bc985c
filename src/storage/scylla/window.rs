//! How far the rows of a timeline's sources are read: which days there are, what is asked next, what was had.
//!
//! It owns no table, and reads nothing.

use super::stamp;
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use crate::storage::{Place, TIMELINE_AGE};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What a timeline may hold at all.
pub(super) struct Window {
    pub(super) oldest: i32,
    pub(super) newest: i32,
    /// What was made before is too old.
    pub(super) made_from: i64,
}

impl Window {
    pub(super) fn now() -> Self {
        let now = Timestamp::now();
        let made_from = now.before(TIMELINE_AGE);
        // Clocks of nodes differ: a stamp may be of tomorrow.
        let newest = stamp::day_of(now.after(Duration::from_secs(60)));
        Self { oldest: stamp::day_of(made_from), newest, made_from: made_from.millis() }
    }

    /// The days from one on.
    pub(super) fn days_from(&self, from: i32) -> RangeInclusive<i32> {
        from.max(self.oldest)..=self.newest
    }
}

/// Rows that a timeline is made of, and how far they were read.
pub(super) struct Source {
    /// Whose posts, seen from where; none: what was fanned out to the reader.
    pub(super) author: Option<(UserId, Seq)>,
    /// All rows from here on were read.
    pub(super) read_to: Seq,
    /// Those of them that are shown, newest first.
    pub(super) shown: Vec<Place>,
}

/// Which rows of a source.
pub(super) struct Ask {
    pub(super) days: Vec<i32>,
    pub(super) before: Seq,
    pub(super) rows: i32,
}

impl Source {
    pub(super) const fn new(author: Option<(UserId, Seq)>, before: Seq) -> Self {
        Self { author, read_to: before, shown: Vec::new() }
    }

    /// The next rows, on no day before `from`; none where the timeline ends.
    pub(super) fn ask(&mut self, window: &Window, from: i32, rows: usize) -> Option<Ask> {
        let newest = stamp::day(Seq(self.read_to.0.saturating_sub(1))).min(window.newest);
        if newest < window.oldest {
            self.read_to = Seq(0);
            return None;
        }
        let days = (from.clamp(window.oldest, newest)..=newest).collect();
        Some(Ask { days, before: self.read_to, rows: i32::try_from(rows).unwrap_or(i32::MAX) })
    }

    /// Rows were read, the last of them being `last`.
    pub(super) fn took(&mut self, ask: &Ask, count: usize, last: Option<Seq>, window: &Window) {
        let oldest = ask.days.first().copied().unwrap_or(window.oldest);
        self.read_to = match last {
            Some(last) if i32::try_from(count) == Ok(ask.rows) => last,
            _ if oldest <= window.oldest => Seq(0),
            _ => stamp::first_of_day(oldest),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{Ask, Source, Window};
    use crate::model::cursor::Seq;
    use crate::storage::scylla::stamp::first_of_day;

    const WINDOW: Window = Window { oldest: 100, newest: 130, made_from: 0 };

    fn days(ask: Option<Ask>) -> Option<(i32, i32)> {
        ask.map(|ask| (ask.days[0], ask.days[ask.days.len() - 1]))
    }

    #[test]
    fn a_source_is_read_from_its_newest_day_to_the_windows_oldest() {
        let mut source = Source::new(None, Seq(i64::MAX as u64));
        let ask = source.ask(&WINDOW, 129, 3).unwrap();
        assert_eq!((ask.days.as_slice(), ask.rows), (&[129, 130][..], 3));
        // As many rows as were asked for: there may be more behind the last.
        let last = Seq(first_of_day(129).0 + 77);
        source.took(&ask, 3, Some(last), &WINDOW);
        assert_eq!(source.read_to, last);
        // Fewer: those days are read.
        let ask = source.ask(&WINDOW, 129, 3).unwrap();
        source.took(&ask, 2, Some(Seq(first_of_day(129).0 + 5)), &WINDOW);
        assert_eq!(source.read_to, first_of_day(129));
        let ask = source.ask(&WINDOW, WINDOW.oldest, 3);
        assert_eq!(days(ask), Some((100, 128)));
        let ask = source.ask(&WINDOW, WINDOW.oldest, 3).unwrap();
        source.took(&ask, 0, None, &WINDOW);
        assert_eq!(source.read_to, Seq(0), "all is read");
        let mut old = Source::new(None, first_of_day(100));
        assert_eq!(days(old.ask(&WINDOW, 90, 3)), None);
        assert_eq!(old.read_to, Seq(0));
    }
}
