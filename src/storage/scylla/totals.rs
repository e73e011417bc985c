//! How many entries a timeline has: counted in one round, without asking for the posts.
//!
//! A page asks for the posts that it shows, so it knows which of them are deleted. A count would ask for eight
//! hundred. It goes by `home_deletions` instead, which a deletion's fan-out writes: it may be as old as that takes.
//! Of wide authors, whose deletions are not fanned out, it counts what their own lists have.

use super::cql::statements;
use super::sources::{Followed, followed};
use super::stamp::{column, from_column};
use super::wide::Freshness;
use super::window::{Source, Window};
use super::{Inner, stamp};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::storage::{StorageError, TIMELINE_ENTRIES};
use futures_util::future::try_join_all;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Rows that are read together: a timeline of which a few are gone.
const ROWS: usize = TIMELINE_ENTRIES + 32;

statements! {
    /// What a count sends.
    Statements {
        home: Read, "SELECT seq, author, created_at FROM home_timeline WHERE reader = ? AND day IN ? AND seq < ? ORDER BY seq DESC PER PARTITION LIMIT ? LIMIT ?";
        of_author: Read, "SELECT seq, created_at, deleted_at FROM posts_by_author WHERE author = ? AND day IN ? AND seq < ? ORDER BY seq DESC PER PARTITION LIMIT ? LIMIT ?";
        gone: Read, "SELECT post_seq FROM home_deletions WHERE reader = ? AND day IN ?";
        followees: Read, "SELECT followee, state, since, sees_from, changes FROM following WHERE follower = ?";
        changes: Read, "SELECT changes FROM following WHERE follower = ? LIMIT 1";
        gone_since: Read, "SELECT seq FROM home_deletions WHERE reader = ? AND day IN ? AND seq > ? LIMIT 1";
        own_gone_since: Read, "SELECT seq FROM deletions_by_author WHERE author = ? AND day IN ? AND seq > ? LIMIT 1";
    }
}

/// For how long a timeline that was full is believed to be, while nothing was taken from it.
const FULL_FOR: Duration = Duration::from_secs(600);
/// A deletion is fanned out within this.
const FAN_OUT: Duration = Duration::from_secs(300);

/// A timeline that was full when it was counted. It is so still where nothing has been deleted, followed or unfollowed
/// since, and nothing that was counted has grown too old.
pub(super) struct Full {
    counted_at: Instant,
    head: Seq,
    /// From which day on it was full.
    since: i32,
    /// When the oldest post that was counted was made.
    oldest: i64,
    /// How often the reader had followed and unfollowed.
    changes: Option<i64>,
    wide: Arc<HashSet<UserId>>,
}

/// Posts that were counted.
#[derive(Clone, Copy)]
struct Counted {
    posts: usize,
    /// When the oldest of them was made.
    oldest: i64,
}

impl Counted {
    const NONE: Self = Self { posts: 0, oldest: i64::MAX };

    fn one(&mut self, created_at: i64) {
        self.posts += 1;
        self.oldest = self.oldest.min(created_at);
    }

    fn and(self, other: Self) -> Self {
        Self { posts: self.posts + other.posts, oldest: self.oldest.min(other.oldest) }
    }
}

/// What was fanned out to a reader: stamp, author, time.
type HomeRow = (i64, Uuid, i64);

impl Inner {
    /// How many entries a reader's timeline has. One that was full lately is asked whether something was taken from it;
    /// if so it is looked at no further back than it was full, and further only if it is not full now.
    pub(super) async fn total(self: &Arc<Self>, reader: UserId) -> Result<u64, StorageError> {
        let window = Window::now();
        let full = self.readers.full(reader);
        if let Some(full) = &full
            && self.is_still(full, reader, &window).await?
        {
            return Ok(TIMELINE_ENTRIES as u64);
        }
        let since = full.map(|full| full.since).filter(|day| *day > window.oldest);
        let mut count = match since {
            Some(day) => self.count_from(reader, &window, day).await?,
            None => 0,
        };
        if count < TIMELINE_ENTRIES {
            count = self.count_from(reader, &window, window.oldest).await?;
        }
        Ok(count.min(TIMELINE_ENTRIES) as u64)
    }

    /// Whether nothing was taken from a timeline that was full.
    async fn is_still(
        self: &Arc<Self>,
        full: &Full,
        reader: UserId,
        window: &Window,
    ) -> Result<bool, StorageError> {
        if full.counted_at.elapsed() > FULL_FOR || full.oldest < window.made_from {
            return Ok(false);
        }
        let since = stamp::earlier(full.head, FAN_OUT);
        let days: Vec<i32> = window.days_from(stamp::day(since)).collect();
        let at = (reader.0, &days, column(since));
        let Statements { changes, gone_since, own_gone_since, .. } = &self.totals;
        let (changes, gone, own_gone, wide) = tokio::try_join!(
            self.cql.first::<(Option<i64>,)>(changes, (reader.0,)),
            self.cql.first::<(i64,)>(gone_since, at),
            self.cql.first::<(i64,)>(own_gone_since, at),
            self.wide_authors(Freshness::Lately),
        )?;
        let is_taken_from = gone.is_some() || own_gone.is_some();
        Ok(!is_taken_from && changes.and_then(|(changes,)| changes) == full.changes && wide == full.wide)
    }

    /// The same, of no day before `from`.
    async fn count_from(
        self: &Arc<Self>,
        reader: UserId,
        window: &Window,
        from: i32,
    ) -> Result<usize, StorageError> {
        let days: Vec<i32> = window.days_from(from).collect();
        let (counted_at, head) = (Instant::now(), self.clock.head());
        let mut home = Source::new(None, Seq(i64::MAX.unsigned_abs()));
        // Whom it was found to follow a moment ago, when its page was read.
        let known_wide = self.readers.known_wide(reader);
        let read_known = async {
            match &known_wide {
                Some(wide) => self.count_of(wide, window, from).await.map(Some),
                None => Ok(None),
            }
        };
        let (mut rows, gone, (followees, changes), wide, own, of_wide) = tokio::try_join!(
            self.home_rows(reader, &mut home, window, from),
            self.cql.rows::<(i64,)>(&self.totals.gone, (reader.0, &days)),
            self.all_followed(reader),
            self.wide_authors(Freshness::Lately),
            self.count_own((reader, Seq(0)), window, from),
            read_known,
        )?;
        let of_wide = match of_wide {
            Some(count) => count,
            None => {
                let followed = followees.iter().filter(|(author, _)| wide.contains(author));
                let wide: Vec<_> = followed.map(|(author, followed)| (*author, followed.sees_from)).collect();
                self.count_of(&wide, window, from).await?
            }
        };
        let gone: HashSet<i64> = gone.into_iter().map(|(post_seq,)| post_seq).collect();
        let is_shown = |(seq, author, created_at): &HomeRow| {
            let author = UserId(*author);
            let followed = followees.get(&author).filter(|_| !wide.contains(&author));
            let is_seen = followed.is_some_and(|followed| from_column(*seq) >= followed.sees_from);
            is_seen && *created_at >= window.made_from && !gone.contains(seq)
        };
        let mut count = own.and(of_wide);
        loop {
            for (seq, _, created_at) in rows.iter().filter(|row| is_shown(row)) {
                count.one(*created_at);
                if count.posts >= TIMELINE_ENTRIES {
                    let since = stamp::day(from_column(*seq)).max(from);
                    // Of wide authors nobody is told what they delete.
                    let follows_wide = followees.keys().any(|author| wide.contains(author));
                    let oldest = if follows_wide { i64::MIN } else { count.oldest };
                    let full = Full { counted_at, head, since, oldest, changes, wide };
                    self.readers.note_full(reader, Some(full));
                    return Ok(count.posts);
                }
            }
            if home.read_to <= stamp::first_of_day(from) {
                self.readers.note_full(reader, None);
                return Ok(count.posts);
            }
            rows = self.home_rows(reader, &mut home, window, from).await?;
        }
    }

    /// The next rows of what was fanned out to a reader.
    async fn home_rows(
        &self,
        reader: UserId,
        home: &mut Source,
        window: &Window,
        from: i32,
    ) -> Result<Vec<HomeRow>, StorageError> {
        let Some(ask) = home.ask(window, from, ROWS) else { return Ok(Vec::new()) };
        let values = (reader.0, &ask.days, column(ask.before), ask.rows, ask.rows);
        let rows: Vec<HomeRow> = self.cql.rows_at_once(&self.totals.home, values).await?;
        home.took(&ask, rows.len(), rows.last().map(|row| from_column(row.0)), window);
        Ok(rows)
    }

    /// How many posts of these authors are seen.
    async fn count_of(
        &self,
        authors: &[(UserId, Seq)],
        window: &Window,
        from: i32,
    ) -> Result<Counted, StorageError> {
        let counts = try_join_all(authors.iter().map(|author| self.count_own(*author, window, from)));
        Ok(counts.await?.into_iter().fold(Counted::NONE, Counted::and))
    }

    /// How many posts of an author are seen from a place on.
    async fn count_own(
        &self,
        (author, sees_from): (UserId, Seq),
        window: &Window,
        from: i32,
    ) -> Result<Counted, StorageError> {
        let mut source = Source::new(Some((author, sees_from)), Seq(i64::MAX.unsigned_abs()));
        let (mut count, from) = (Counted::NONE, from.max(stamp::day(sees_from)));
        while count.posts < TIMELINE_ENTRIES
            && let Some(ask) = source.ask(window, from, ROWS)
        {
            let values = (author.0, &ask.days, column(ask.before), ask.rows, ask.rows);
            let rows: Vec<(i64, i64, Option<i64>)> =
                self.cql.rows_at_once(&self.totals.of_author, values).await?;
            let is_seen = |(seq, created_at, deleted_at): &&(i64, i64, Option<i64>)| {
                deleted_at.is_none() && *created_at >= window.made_from && from_column(*seq) >= sees_from
            };
            rows.iter().filter(is_seen).for_each(|(_, created_at, _)| count.one(*created_at));
            let last = rows.last().map(|row| from_column(row.0));
            source.took(&ask, rows.len(), last, window);
            if source.read_to <= stamp::first_of_day(from) {
                break;
            }
        }
        Ok(count)
    }

    /// All whom a reader follows now, and how often it had followed and unfollowed then.
    async fn all_followed(
        &self,
        reader: UserId,
    ) -> Result<(HashMap<UserId, Followed>, Option<i64>), StorageError> {
        type Columns = (Option<Uuid>, Option<i8>, Option<i64>, Option<i64>, Option<i64>);
        let rows: Vec<Columns> = self.cql.rows(&self.totals.followees, (reader.0,)).await?;
        let changes = rows.first().and_then(|(.., changes)| *changes);
        let rows = rows.into_iter().map(|(followee, state, since, from, _)| (followee, state, since, from));
        Ok((rows.filter_map(followed).collect(), changes))
    }
}
