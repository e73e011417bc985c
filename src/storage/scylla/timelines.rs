//! Timelines: what was fanned out to a reader, its own posts, and those of the wide authors it follows, merged.
//!
//! It owns `home_timeline`, which others write (`fan_out`, `backfill`) and this reads. A row there is only a
//! candidate: it is shown if its author is followed now, it is not older than the follow sees, and it is not
//! deleted. A page takes two rounds: the rows of all sources, then what has become of them (of the authors'
//! own lists: whom one follows, then the rows); more only where too few were left. An author's own list has its
//! deletions in it. What was read of the posts is noted for whoever shows the page. How many days a reader's page reached back is remembered, so that the next one need not
//! look at thirty.

use super::cql::{Cql, statements};
use super::shown::Living;
use super::sources::Followed;
use super::stamp::{self, column, from_column};
use super::totals::Full;
use super::wide::Freshness;
use super::{Inner, Store};
use crate::model::cursor::{Cursor, Seq, StoreName};
use crate::model::id::{PostId, UserId};
use crate::model::post::PostView;
use crate::model::timestamp::Timestamp;
use crate::storage::{
    Missed, Pending, Place, StorageError, TIMELINE_AGE, TIMELINE_ENTRIES, TimelineFrom, Timelines,
};
use futures_util::future::try_join_all;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use moka::sync::Cache;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Rows asked for beyond those that are wanted: so many may be gone without another round.
const SPARE: usize = 4;
/// Wide authors that are read at once.
const AT_ONCE: usize = 64;
/// Readers whose reach is remembered.
const REACHES: u64 = 20_000;
/// Pages whose posts are noted between their list and their showing, how many posts of each, and how long.
const NOTED: u64 = 512;
const NOTED_POSTS: usize = 128;
const NOTED_FOR: Duration = Duration::from_millis(500);
/// For so long whom one follows is known for a count, which may be older than that.
const KNOWN: Duration = Duration::from_secs(2);

statements! {
    /// What timelines are read by.
    Statements {
        home: Read, "SELECT seq, post, author, created_at FROM home_timeline WHERE reader = ? AND day IN ? AND seq < ? ORDER BY seq DESC PER PARTITION LIMIT ? LIMIT ?";
        of_author: Read, "SELECT seq, post, created_at, deleted_at FROM posts_by_author WHERE author = ? AND day IN ? AND seq < ? ORDER BY seq DESC PER PARTITION LIMIT ? LIMIT ?";
    }
}

/// What reading timelines needs.
pub(super) struct Reading {
    statements: Statements,
    /// By reader and about how many entries.
    reaches: Cache<(UserId, usize), Reach>,
    /// Which wide authors readers were found to follow a moment ago, and from where they see them.
    wide_of: Cache<UserId, Arc<[(UserId, Seq)]>>,
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

impl Reading {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self, StorageError> {
        let statements = Statements::prepare(cql).await?;
        let wide_of = Cache::builder().max_capacity(REACHES).time_to_live(KNOWN).build();
        let noted = Cache::builder().max_capacity(NOTED).time_to_live(NOTED_FOR).build();
        Ok(Self { statements, reaches: Cache::new(REACHES), wide_of, noted, full: Cache::new(REACHES) })
    }

    /// Notes what a page's list has read, for whoever shows the page; what was read later stays.
    fn note(&self, reader: UserId, asked_at: Instant, posts: HashMap<PostId, Living>) {
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

impl Timelines for Store {
    fn list(&self, user: UserId, from: TimelineFrom, limit: usize) -> Pending<Vec<Place>> {
        self.read(move |inner| async move { inner.list(user, from, limit).await })
    }

    fn total(&self, user: UserId) -> Pending<u64> {
        self.read(move |inner| async move { inner.total(user).await })
    }

    fn show(&self, user: UserId, places: Vec<Place>) -> Pending<Vec<PostView>> {
        self.read(move |inner| async move { inner.show(&places, user).await })
    }

    fn since(&self, user: UserId, cursor: Cursor) -> Pending<Missed> {
        self.read(move |inner| async move { inner.since(user, cursor).await })
    }

    fn store_name(&self) -> StoreName {
        self.0.name
    }
}

/// What a timeline may hold at all.
pub(super) struct Window {
    pub(super) oldest: i32,
    newest: i32,
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

    pub(super) fn days_from(&self, from: i32) -> RangeInclusive<i32> {
        from.max(self.oldest)..=self.newest
    }
}

/// Rows that a timeline is made of, and how far they were read.
pub(super) struct Source {
    /// Whose posts, seen from where; none: what was fanned out to the reader.
    author: Option<(UserId, Seq)>,
    /// All rows from here on were read.
    pub(super) read_to: Seq,
    /// Those of them that are shown, newest first.
    shown: Vec<Place>,
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

impl Inner {
    async fn list(
        self: &Arc<Self>,
        user: UserId,
        from: TimelineFrom,
        limit: usize,
    ) -> Result<Vec<Place>, StorageError> {
        let (skip, before) = match from {
            TimelineFrom::Offset(skip) => (skip, None),
            TimelineFrom::Before(seq) => (0, Some(seq)),
        };
        // Behind the last entry of a timeline is nothing, however much was posted.
        let limit = limit.min(TIMELINE_ENTRIES.saturating_sub(skip));
        if limit == 0 {
            return Ok(Vec::new());
        }
        let want = skip + limit;
        let window = Window::now();
        let reach =
            self.reading.reaches.get(&(user, want.next_power_of_two())).filter(|reach| want <= reach.entries);
        let first_day = first_day(reach, before, &window);
        let before = before.unwrap_or(Seq(u64::MAX)).min(Seq(i64::MAX.unsigned_abs()));

        let mut home = Source::new(None, before);
        let mut own = Source::new(Some((user, Seq(0))), before);
        let wide = async {
            let wide = self.followed_wide(user, Freshness::Lately).await?;
            let seen = wide.iter().map(|(author, followed)| (*author, followed.sees_from)).collect();
            self.reading.wide_of.insert(user, seen);
            let sources = wide.into_iter().map(|(author, Followed { sees_from, .. })| {
                let mut source = Source::new(Some((author, sees_from)), before);
                let window = &window;
                async move {
                    self.read_on(user, &mut source, window, first_day, want + SPARE).await?;
                    Ok(source)
                }
            });
            iter(sources).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await
        };
        let ((), (), mut sources) = tokio::try_join!(
            self.read_on(user, &mut home, &window, first_day, want + SPARE),
            self.read_on(user, &mut own, &window, first_day, want + SPARE),
            wide,
        )?;
        sources.extend([home, own]);

        let found = loop {
            let found = merged(&sources);
            let horizon = sources.iter().map(|source| source.read_to).max().unwrap_or(Seq(0));
            let sure = found.partition_point(|place| place.seq >= horizon);
            if sure >= want || horizon == Seq(0) {
                break found;
            }
            // Only who was not read so far back can have something to add.
            let needed = found.get(want - 1).map_or(Seq(0), |place| place.seq);
            let ask = want - sure + SPARE;
            let short = sources.iter_mut().filter(|source| source.read_to > needed);
            try_join_all(short.map(|source| self.read_on(user, source, &window, window.oldest, ask))).await?;
        };
        if matches!(from, TimelineFrom::Offset(_)) {
            self.remember_reach(user, want, found.get(want - 1));
        }
        Ok(found.into_iter().skip(skip).take(limit).collect())
    }

    /// Reads more of a source, and what has become of it.
    async fn read_on(
        &self,
        reader: UserId,
        source: &mut Source,
        window: &Window,
        from: i32,
        rows: usize,
    ) -> Result<(), StorageError> {
        let Some(ask) = source.ask(window, from, rows) else { return Ok(()) };
        let Ask { days, before, rows } = &ask;
        let statements = &self.reading.statements;
        if let Some((author, sees_from)) = source.author {
            let values = (author.0, days, column(*before), rows, rows);
            let found: Vec<(i64, Uuid, i64, Option<i64>)> =
                self.cql.rows_at_once(&statements.of_author, values).await?;
            source.took(&ask, found.len(), found.last().map(|row| from_column(row.0)), window);
            source.shown.extend(found.into_iter().filter_map(|(seq, post, created_at, deleted_at)| {
                let place = Place { seq: from_column(seq), post: PostId(post), author };
                let is_shown =
                    deleted_at.is_none() && created_at >= window.made_from && place.seq >= sees_from;
                is_shown.then_some(place)
            }));
            return Ok(());
        }
        let values = (reader.0, days, column(*before), rows, rows);
        let found: Vec<(i64, Uuid, Uuid, i64)> = self.cql.rows_at_once(&statements.home, values).await?;
        source.took(&ask, found.len(), found.last().map(|row| from_column(row.0)), window);
        let young = found.into_iter().filter(|(.., created_at)| *created_at >= window.made_from);
        let places: Vec<Place> = young
            .map(|(seq, post, author, _)| Place {
                seq: from_column(seq),
                post: PostId(post),
                author: UserId(author),
            })
            .collect();
        let posts: Vec<PostId> = places.iter().map(|place| place.post).collect();
        let authors = places.iter().map(|place| place.author);
        let (followed, deleted) =
            tokio::try_join!(self.followed(reader, authors), self.deleted_of(reader, &posts))?;
        source.shown.extend(places.into_iter().filter(|place| {
            let followed = followed.get(&place.author);
            followed.is_some_and(|followed| place.seq >= followed.sees_from) && !deleted.contains(&place.post)
        }));
        Ok(())
    }

    /// Those of a reader's candidates that are deleted. The posts of a page are read whole, and noted for whoever shows
    /// them.
    async fn deleted_of(&self, reader: UserId, posts: &[PostId]) -> Result<HashSet<PostId>, StorageError> {
        if posts.len() > NOTED_POSTS {
            return self.deleted(posts).await;
        }
        let asked_at = Instant::now();
        let living = self.living_rows(posts).await?;
        let deleted = posts.iter().filter(|post| !living.contains_key(post)).copied().collect();
        self.reading.note(reader, asked_at, living);
        Ok(deleted)
    }

    /// Remembers how far back the newest `entries` reach: to the last of them, or further than there are so many.
    fn remember_reach(&self, user: UserId, entries: usize, last: Option<&Place>) {
        let key = (user, entries.next_power_of_two());
        match last {
            Some(last) => self.reading.reaches.insert(key, Reach { day: stamp::day(last.seq), entries }),
            None => self.reading.reaches.invalidate(&key),
        }
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

/// Everything that is shown, newest first, each once.
fn merged(sources: &[Source]) -> Vec<Place> {
    let places = sources.iter().flat_map(|source| &source.shown);
    let by_seq: BTreeMap<Seq, Place> = places.map(|place| (place.seq, *place)).collect();
    by_seq.into_values().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::{Ask, Reach, Source, Window, first_day, merged};
    use crate::model::cursor::Seq;
    use crate::model::id::{PostId, UserId};
    use crate::storage::Place;
    use crate::storage::scylla::stamp::{self, first_of_day};

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

    #[test]
    fn a_page_looks_as_far_back_as_the_last_one_reached() {
        let reach = Some(Reach { day: 128, entries: 21 });
        assert_eq!(first_day(None, None, &WINDOW), 100);
        assert_eq!(first_day(reach, None, &WINDOW), 128);
        assert_eq!(first_day(reach, Some(Seq(first_of_day(120).0 + 1)), &WINDOW), 115);
    }

    #[test]
    fn what_is_in_two_sources_is_shown_once() {
        let id = UserId::make();
        let at = |seq: u64| Place { seq: Seq(seq), post: PostId(id.0), author: id };
        let source = |seqs: &[u64]| Source {
            shown: seqs.iter().map(|seq| at(*seq)).collect(),
            ..Source::new(None, Seq(0))
        };
        let found = merged(&[source(&[9, 7, 2]), source(&[8, 7]), source(&[])]);
        assert_eq!(found.iter().map(|place| place.seq.0).collect::<Vec<_>>(), [9, 8, 7, 2]);
        assert_eq!(stamp::day(first_of_day(20_000)), 20_000);
    }
}
