//! Timelines: what was fanned out to a reader, its own posts, and those of the wide authors it follows, merged.
//!
//! It owns `home_timeline`, which others write (`fan_out`, `backfill`) and this reads. A row there is only a
//! candidate: it is shown if its author is followed now, it is not older than the follow sees, and it is not
//! deleted. A page takes two rounds: the rows of all sources, then what has become of them (of the authors'
//! own lists: whom one follows, then the rows); more only where too few were left. An author's own list has its
//! deletions in it. What was read of the posts is noted for whoever shows the page (`readers`).

use super::cql::statements;
use super::sources::Followed;
use super::stamp::{column, from_column};
use super::wide::Freshness;
use super::window::{Ask, Source, Window};
use super::{Inner, Store};
use crate::model::cursor::{Cursor, Seq, StoreName};
use crate::model::id::{PostId, UserId};
use crate::model::post::PostView;
use crate::storage::{Missed, Pending, Place, StorageError, TIMELINE_ENTRIES, TimelineFrom, Timelines};
use futures_util::future::try_join_all;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

/// Rows asked for beyond those that are wanted: so many may be gone without another round.
const SPARE: usize = 4;
/// Wide authors that are read at once.
const AT_ONCE: usize = 64;
/// The posts of a list of so many are read whole.
const PAGE_POSTS: usize = 128;
statements! {
    /// What timelines are read by.
    Statements {
        home: Read, "SELECT seq, post, author, created_at FROM home_timeline WHERE reader = ? AND day IN ? AND seq < ? ORDER BY seq DESC PER PARTITION LIMIT ? LIMIT ?";
        of_author: Read, "SELECT seq, post, created_at, deleted_at FROM posts_by_author WHERE author = ? AND day IN ? AND seq < ? ORDER BY seq DESC PER PARTITION LIMIT ? LIMIT ?";
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
        let store = self.clone();
        Box::pin(async move {
            // Who posts comes before who comes back: a node's death brings all of its clients at once.
            let turn = store.0.resumes.acquire().await;
            let missed = store.read(move |inner| async move { inner.since(user, cursor).await }).await;
            drop(turn);
            missed
        })
    }

    fn store_name(&self) -> StoreName {
        self.0.name
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
        let first_day = self.readers.first_day(user, want, before, &window);
        let before = before.unwrap_or(Seq(u64::MAX)).min(Seq(i64::MAX.unsigned_abs()));

        let mut home = Source::new(None, before);
        let mut own = Source::new(Some((user, Seq(0))), before);
        let wide = async {
            let wide = self.followed_wide(user, Freshness::Lately).await?;
            let seen = wide.iter().map(|(author, followed)| (*author, followed.sees_from)).collect();
            self.readers.note_wide(user, seen);
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
            self.readers.note_reach(user, want, found.get(want - 1));
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
        let statements = &self.reading;
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
        if posts.len() > PAGE_POSTS {
            return self.deleted(posts).await;
        }
        let asked_at = Instant::now();
        let living = self.living_rows(posts).await?;
        let deleted = posts.iter().filter(|post| !living.contains_key(post)).copied().collect();
        self.readers.note_posts(reader, asked_at, living);
        Ok(deleted)
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
    use super::{Source, merged};
    use crate::model::cursor::Seq;
    use crate::model::id::{PostId, UserId};
    use crate::storage::Place;

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
    }
}
