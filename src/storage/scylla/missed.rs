//! What a reader missed behind a cursor: entries that were fanned out to it, its own, and those of the wide authors
//! it follows.
//!
//! It owns `home_deletions` for reading. Entries come into timelines in any order and after their numbers, so
//! nothing is covered up to a place: what is told, or was found deleted, is named.

use super::Inner;
use super::cql::statements;
use super::sources::Followed;
use super::stamp::{self, column, from_column};
use super::wide::Freshness;
use crate::model::cursor::{Cursor, Seq};
use crate::model::id::{PostId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::{Entry, EntryChange, Loss, Missed, StorageError, TIMELINE_AGE, TIMELINE_ENTRIES, Told};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use scylla::response::PagingState;
use scylla::statement::prepared::PreparedStatement;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// Deletions that a replay holds at most: like posts over their bound, more are read from the timeline.
const DELETIONS: usize = 10_000;
/// Posts that may lie behind a cursor: each that is not told is told by a deletion.
const POSTS: usize = TIMELINE_ENTRIES + DELETIONS;
/// Wide authors that are read at once.
const AT_ONCE: usize = 64;

statements! {
    /// What is read behind a cursor.
    Statements {
        home: Read, "SELECT author, seq, post FROM home_timeline WHERE reader = ? AND day IN ? AND seq > ?";
        home_deletions: Read, "SELECT author, seq, post, deleted_at FROM home_deletions WHERE reader = ? AND day IN ? AND seq > ?";
        of_author: Read, "SELECT author, seq, post FROM posts_by_author WHERE author = ? AND day IN ? AND seq > ?";
        deletions: Read, "SELECT author, seq, post, deleted_at FROM deletions_by_author WHERE author = ? AND day IN ? AND seq > ?";
    }
}

/// Behind which place, and on which days that is.
#[derive(Clone)]
struct Behind {
    reader: UserId,
    after: Seq,
    days: Vec<i32>,
}

/// What was found: posts by place, and deletions. None: more than may be told.
type Posts = Option<BTreeMap<Seq, PostId>>;
type Deletions = Option<BTreeMap<Seq, EntryChange>>;

type PostRow = (Uuid, i64, Uuid);
type DeletionRow = (Uuid, i64, Uuid, i64);

impl Inner {
    pub(super) async fn since(
        self: &Arc<Self>,
        reader: UserId,
        cursor: Cursor,
    ) -> Result<Missed, StorageError> {
        if cursor.store != self.name || cursor.seq > self.clock.head() {
            return Ok(Missed::Lost(Loss::Foreign));
        }
        let now = Timestamp::now();
        if stamp::time(cursor.seq) < now.before(TIMELINE_AGE) {
            return Ok(Missed::Lost(Loss::Expired));
        }
        let newest = stamp::day(self.clock.head()).max(stamp::day_of(now));
        let days = (stamp::day(cursor.seq)..=newest).collect();
        let behind = Behind { reader, after: cursor.seq, days };

        let all = tokio::try_join!(
            self.home_posts(&behind),
            self.home_deletions(&behind),
            self.posts_behind(reader, cursor.seq, &behind),
            self.deletions_behind(reader, cursor.seq, &behind),
            self.wide_behind(&behind),
        )?;
        let (home, home_deletions, own, own_deletions, wide) = all;
        let (Some(mut posts), Some(mut deletions), Some(own), Some(own_deletions), Some((more, gone))) =
            (home, home_deletions, own, own_deletions, wide)
        else {
            return Ok(Missed::Lost(Loss::TooMany));
        };
        posts.extend(own.into_iter().chain(more));
        deletions.extend(own_deletions.into_iter().chain(gone));
        if posts.len() > POSTS || deletions.len() > DELETIONS {
            return Ok(Missed::Lost(Loss::TooMany));
        }
        self.told(posts, deletions).await
    }

    /// The entries of those places, as they are now.
    async fn told(
        &self,
        posts: BTreeMap<Seq, PostId>,
        deletions: BTreeMap<Seq, EntryChange>,
    ) -> Result<Missed, StorageError> {
        // Most posts of many that are too many are living: the marks alone tell, at a fraction of the cost.
        let ids: Vec<PostId> = posts.values().copied().collect();
        if posts.len() > TIMELINE_ENTRIES && posts.len() - self.deleted(&ids).await?.len() > TIMELINE_ENTRIES
        {
            return Ok(Missed::Lost(Loss::TooMany));
        }
        let mut also: Vec<Seq> = posts.keys().chain(deletions.keys()).copied().collect();
        also.sort_unstable();
        let mut living = self.living(&ids).await?;
        let names = self.names(living.values().map(|post| post.author)).await?;
        let posted = posts.into_iter().filter_map(|(seq, id)| {
            let post = living.remove(&id)?;
            let author_name = names.get(&post.author)?.clone();
            Some(Entry { seq, change: EntryChange::Posted { post, author_name } })
        });
        let deleted = deletions.into_iter().map(|(seq, change)| Entry { seq, change });
        let mut entries: Vec<Entry> = posted.chain(deleted).collect();
        entries.sort_unstable_by_key(|entry| entry.seq);
        Ok(Missed::Entries { entries, told: Told { through: Seq(0), also } })
    }

    /// Posts that were fanned out to the reader.
    async fn home_posts(&self, behind: &Behind) -> Result<Posts, StorageError> {
        let mut posts = BTreeMap::new();
        let mut known = HashMap::new();
        let mut place = Some(PagingState::start());
        while let Some(at) = place {
            let values = (behind.reader.0, &behind.days, column(behind.after));
            let (rows, next) = self.cql.page::<PostRow>(&self.missed.home, &values, at).await?;
            self.learn(behind.reader, &mut known, rows.iter().map(|row| UserId(row.0))).await?;
            posts.extend(rows.into_iter().filter_map(|(author, seq, post)| {
                let seq = from_column(seq);
                is_new(seq, UserId(author), &known).then_some((seq, PostId(post)))
            }));
            if posts.len() > POSTS {
                return Ok(None);
            }
            place = next;
        }
        Ok(Some(posts))
    }

    /// Deletions that were fanned out to the reader.
    async fn home_deletions(&self, behind: &Behind) -> Result<Deletions, StorageError> {
        let mut deletions = BTreeMap::new();
        let mut known = HashMap::new();
        let mut place = Some(PagingState::start());
        while let Some(at) = place {
            let values = (behind.reader.0, &behind.days, column(behind.after));
            let (rows, next) = self.cql.page::<DeletionRow>(&self.missed.home_deletions, &values, at).await?;
            self.learn(behind.reader, &mut known, rows.iter().map(|row| UserId(row.0))).await?;
            deletions.extend(
                rows.into_iter()
                    .filter(|row| is_new(from_column(row.1), UserId(row.0), &known))
                    .map(deletion),
            );
            if deletions.len() > DELETIONS {
                return Ok(None);
            }
            place = next;
        }
        Ok(Some(deletions))
    }

    /// Finds out which of the authors are followed, of those that were not asked for before.
    async fn learn(
        &self,
        reader: UserId,
        known: &mut HashMap<UserId, Option<Followed>>,
        authors: impl Iterator<Item = UserId>,
    ) -> Result<(), StorageError> {
        let unknown: Vec<UserId> = authors.filter(|author| !known.contains_key(author)).collect();
        let followed = self.followed(reader, unknown.iter().copied()).await?;
        // An author of several entries stands there as often.
        known.extend(unknown.into_iter().map(|author| (author, followed.get(&author).copied())));
        Ok(())
    }

    /// Entries of the wide authors that the reader follows.
    async fn wide_behind(
        self: &Arc<Self>,
        behind: &Behind,
    ) -> Result<Option<(BTreeMap<Seq, PostId>, BTreeMap<Seq, EntryChange>)>, StorageError> {
        // What was fanned out before this is in what is read beside it; what is marked wide later is told live.
        let wide = self.followed_wide(behind.reader, Freshness::Now).await?;
        let found: Vec<(Posts, Deletions)> = iter(wide)
            .map(|(author, Followed { since, .. })| async move {
                let after = since.max(behind.after);
                tokio::try_join!(
                    self.posts_behind(author, after, behind),
                    self.deletions_behind(author, after, behind)
                )
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let (mut posts, mut deletions) = (BTreeMap::new(), BTreeMap::new());
        for found in found {
            let (Some(more), Some(gone)) = found else { return Ok(None) };
            posts.extend(more);
            deletions.extend(gone);
        }
        Ok(Some((posts, deletions)))
    }

    async fn posts_behind(&self, author: UserId, after: Seq, behind: &Behind) -> Result<Posts, StorageError> {
        let rows: Option<Vec<PostRow>> =
            self.behind(&self.missed.of_author, (author, after), behind, POSTS).await?;
        let posts = |rows: Vec<PostRow>| {
            rows.into_iter().map(|(_, seq, post)| (from_column(seq), PostId(post))).collect()
        };
        Ok(rows.map(posts))
    }

    async fn deletions_behind(
        &self,
        author: UserId,
        after: Seq,
        behind: &Behind,
    ) -> Result<Deletions, StorageError> {
        let rows: Option<Vec<DeletionRow>> =
            self.behind(&self.missed.deletions, (author, after), behind, DELETIONS).await?;
        Ok(rows.map(|rows| rows.into_iter().map(deletion).collect()))
    }

    /// An author's rows behind a place; none where there are more than `most`.
    async fn behind<R>(
        &self,
        statement: &PreparedStatement,
        (author, after): (UserId, Seq),
        behind: &Behind,
        most: usize,
    ) -> Result<Option<Vec<R>>, StorageError>
    where
        R: for<'frame, 'metadata> scylla::deserialize::row::DeserializeRow<'frame, 'metadata>,
    {
        let values = (author.0, &behind.days, column(after));
        let mut rows = Vec::new();
        let mut place = Some(PagingState::start());
        while let Some(at) = place {
            let (page, next) = self.cql.page::<R>(statement, &values, at).await?;
            rows.extend(page);
            if rows.len() > most {
                return Ok(None);
            }
            place = next;
        }
        Ok(Some(rows))
    }
}

/// Whether an author is followed now, and was when the entry was made.
fn is_new(seq: Seq, author: UserId, known: &HashMap<UserId, Option<Followed>>) -> bool {
    known.get(&author).is_some_and(|followed| followed.is_some_and(|followed| seq > followed.since))
}

fn deletion((author, seq, post, deleted_at): DeletionRow) -> (Seq, EntryChange) {
    let deleted_at = Timestamp::from_millis(deleted_at);
    (from_column(seq), EntryChange::Deleted { id: PostId(post), author: UserId(author), deleted_at })
}
