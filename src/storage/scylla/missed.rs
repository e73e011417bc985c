//! What a reader missed behind a cursor: entries that were fanned out to it, its own, and those of the wide authors
//! it follows.
//!
//! It owns `home_deletions` for reading. Entries come into timelines in any order and after their numbers, so
//! nothing is covered up to a place: what is told, or was found deleted, is named.
//!
//! Where several nodes give numbers, an entry may get a smaller one than what a connection was sent before, and a
//! follow may be known to another node later than here. So more is read than lies behind the cursor: an overlap of
//! all, and of those who were followed lately all since the follow; from those themselves, for what was posted while the
//! follow was stored may be on the reader's timeline later than what was posted after it. Who had it already drops it.

use super::cql::{WRITE_DEADLINE, statements};
use super::entries::KEYS_AT_ONCE;
use super::sources::Followed;
use super::stamp::{self, column, from_column};
use super::wide::Freshness;
use super::{Inner, Nodes};
use crate::model::cursor::{Cursor, Seq};
use crate::model::id::{PostId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::{Entry, EntryChange, Loss, Missed, StorageError, TIMELINE_AGE, TIMELINE_ENTRIES, Told};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use scylla::response::PagingState;
use scylla::statement::prepared::PreparedStatement;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Deletions that a replay holds at most: like posts over their bound, more are read from the timeline.
const DELETIONS: usize = 10_000;
/// Posts that may lie behind a cursor: each that is not told is told by a deletion.
const POSTS: usize = TIMELINE_ENTRIES + DELETIONS;
/// How far the clock of a node may be from that of the cluster's reference.
const SKEW: Duration = Duration::from_secs(3);
/// An entry's number is given before it is written (within the deadline of a write), by a clock that differs from that
/// of whoever gave the cursor by twice the skew; a second for the rest.
const OVERLAP: Duration = Duration::from_secs(WRITE_DEADLINE.as_secs() + 2 * SKEW.as_secs() + 1);
/// A follow that began so long before the cursor was given is known to every node by then.
const NEW_FOLLOW: Duration = Duration::from_secs(600);
/// What a follow sees began at most so long before the follow got its place: a few requests, by another's clock.
const FOLLOWING: Duration = Duration::from_secs(30);
/// Authors that are read at once, and groups of keys.
const AT_ONCE: usize = 64;

statements! {
    /// What is read behind a cursor.
    Statements {
        home: Read, "SELECT author, seq, post FROM home_timeline WHERE reader = ? AND day IN ? AND seq > ?";
        home_deletions: Read, "SELECT author, seq, post, deleted_at FROM home_deletions WHERE reader = ? AND day IN ? AND seq > ?";
        of_author: Read, "SELECT author, seq, post FROM posts_by_author WHERE author = ? AND day IN ? AND seq > ?";
        deletions: Read, "SELECT author, seq, post, deleted_at FROM deletions_by_author WHERE author = ? AND day IN ? AND seq > ?";
        follows: Read, "SELECT followee, state, place, id FROM following WHERE follower = ?";
        told: Read, "SELECT follow FROM told_follows WHERE follow IN ?";
    }
}

/// Behind which place, and on which days that is.
#[derive(Clone)]
struct Behind {
    reader: UserId,
    /// The cursor's place: what lies behind it is counted.
    cursor: Seq,
    /// What lies behind this is told.
    after: Seq,
    /// Who was followed lately, and from where on whatever follows that is told.
    new: HashMap<UserId, Seq>,
    /// From where on rows are read.
    from: Seq,
    days: Vec<i32>,
}

impl Behind {
    /// From where on an author's entries are told, if they are newer than the follow.
    fn after(&self, author: UserId) -> Seq {
        self.new.get(&author).map_or(self.after, |begun| self.after.min(*begun))
    }

    /// How many places lie behind the cursor.
    fn count<T>(&self, places: &BTreeMap<Seq, T>) -> usize {
        places.range((Bound::Excluded(self.cursor), Bound::Unbounded)).count()
    }
}

/// What was found: posts by place, and deletions. None: more than may be told.
type Posts = Option<BTreeMap<Seq, PostId>>;
type Deletions = Option<BTreeMap<Seq, EntryChange>>;

/// A followee, whether it is followed, since which place and by which follow.
type ClaimRow = (Uuid, Option<i8>, Option<i64>, Option<Uuid>);
type PostRow = (Uuid, i64, Uuid);
type DeletionRow = (Uuid, i64, Uuid, i64);

impl Inner {
    pub(super) async fn since(
        self: &Arc<Self>,
        reader: UserId,
        cursor: Cursor,
    ) -> Result<Missed, StorageError> {
        let (skew, overlap) = match self.nodes {
            Nodes::One => (Duration::ZERO, Duration::ZERO),
            Nodes::Many => (2 * SKEW, OVERLAP),
        };
        let head = self.clock.head();
        if cursor.store != self.name || cursor.seq > stamp::later(head, skew) {
            return Ok(Missed::Lost(Loss::Foreign));
        }
        let now = Timestamp::now();
        if stamp::time(cursor.seq) < now.before(TIMELINE_AGE) {
            return Ok(Missed::Lost(Loss::Expired));
        }
        let after = if overlap.is_zero() { cursor.seq } else { stamp::earlier(cursor.seq, overlap) };
        let new = match self.nodes {
            // All of a follow was told to its reader's connections before it was answered.
            Nodes::One => HashMap::new(),
            Nodes::Many => self.new_follows(reader, cursor.seq).await?,
        };
        let from = new.values().copied().min().map_or(after, |begun| after.min(begun));
        let newest = stamp::day(stamp::later(head, skew)).max(stamp::day_of(now));
        let days = (stamp::day(from)..=newest).collect();
        let behind = Behind { reader, cursor: cursor.seq, after, new, from, days };

        let all = tokio::try_join!(
            self.home_posts(&behind),
            self.home_deletions(&behind),
            self.posts_behind(reader, after, &behind),
            self.deletions_behind(reader, after, &behind),
            self.beside_home(&behind),
        )?;
        let (home, home_deletions, own, own_deletions, wide) = all;
        let (Some(mut posts), Some(mut deletions), Some(own), Some(own_deletions), Some((more, gone))) =
            (home, home_deletions, own, own_deletions, wide)
        else {
            return Ok(Missed::Lost(Loss::TooMany));
        };
        posts.extend(own.into_iter().chain(more));
        deletions.extend(own_deletions.into_iter().chain(gone));
        if behind.count(&posts) > POSTS || behind.count(&deletions) > DELETIONS {
            return Ok(Missed::Lost(Loss::TooMany));
        }
        self.told(&behind, posts, deletions).await
    }

    /// Whom a reader follows since shortly before the cursor, or later, where a connection may not have known of it, and
    /// from where on that is to be told.
    async fn new_follows(&self, reader: UserId, cursor: Seq) -> Result<HashMap<UserId, Seq>, StorageError> {
        let lately = stamp::earlier(cursor, NEW_FOLLOW);
        // From the claims: a node may have died before it made the list from them.
        let rows: Vec<ClaimRow> = self.cql.rows(&self.missed.follows, (reader.0,)).await?;
        let claims = rows.into_iter().filter(|(_, state, ..)| *state == Some(1));
        let begun =
            claims.filter_map(|(followee, _, place, id)| Some((UserId(followee), from_column(place?), id?)));
        let new: Vec<(UserId, Seq, Uuid)> = begun.filter(|(_, place, _)| *place > lately).collect();
        let told = self.told_follows(new.iter().map(|(_, _, id)| *id).collect()).await?;
        let untold = new.into_iter().filter(|(_, _, id)| !told.contains(id));
        Ok(untold.map(|(followee, place, _)| (followee, stamp::earlier(place, FOLLOWING))).collect())
    }

    /// Those of these follows that every connection knew of.
    async fn told_follows(&self, follows: Vec<Uuid>) -> Result<HashSet<Uuid>, StorageError> {
        let chunks: Vec<Vec<Uuid>> = follows.chunks(KEYS_AT_ONCE).map(<[Uuid]>::to_vec).collect();
        let told: Vec<Vec<(Uuid,)>> = iter(chunks)
            .map(|follows| async move { self.cql.rows_at_once(&self.missed.told, (follows,)).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(told.into_iter().flatten().map(|(follow,)| follow).collect())
    }

    /// The entries of those places, as they are now.
    async fn told(
        &self,
        behind: &Behind,
        posts: BTreeMap<Seq, PostId>,
        deletions: BTreeMap<Seq, EntryChange>,
    ) -> Result<Missed, StorageError> {
        // Most posts of many that are too many are living: the marks alone tell, at a fraction of the cost.
        let counted = posts.range((Bound::Excluded(behind.cursor), Bound::Unbounded));
        let counted: Vec<PostId> = counted.map(|(_, id)| *id).collect();
        if counted.len() > TIMELINE_ENTRIES
            && counted.len() - self.deleted(&counted).await?.len() > TIMELINE_ENTRIES
        {
            return Ok(Missed::Lost(Loss::TooMany));
        }
        let ids: Vec<PostId> = posts.values().copied().collect();
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
            let values = (behind.reader.0, &behind.days, column(behind.from));
            let (rows, next) = self.cql.page::<PostRow>(&self.missed.home, &values, at).await?;
            self.learn(behind.reader, &mut known, rows.iter().map(|row| UserId(row.0))).await?;
            posts.extend(rows.into_iter().filter_map(|(author, seq, post)| {
                let seq = from_column(seq);
                is_new(seq, UserId(author), behind, &known).then_some((seq, PostId(post)))
            }));
            if behind.count(&posts) > POSTS {
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
            let values = (behind.reader.0, &behind.days, column(behind.from));
            let (rows, next) = self.cql.page::<DeletionRow>(&self.missed.home_deletions, &values, at).await?;
            self.learn(behind.reader, &mut known, rows.iter().map(|row| UserId(row.0))).await?;
            deletions.extend(
                rows.into_iter()
                    .filter(|row| is_new(from_column(row.1), UserId(row.0), behind, &known))
                    .map(deletion),
            );
            if behind.count(&deletions) > DELETIONS {
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

    /// Entries of the wide authors that the reader follows, and of those whom it follows since lately.
    async fn beside_home(
        self: &Arc<Self>,
        behind: &Behind,
    ) -> Result<Option<(BTreeMap<Seq, PostId>, BTreeMap<Seq, EntryChange>)>, StorageError> {
        // What was fanned out before this is in what is read beside it; what is marked wide later is told live.
        let (wide, new) = tokio::try_join!(
            self.followed_wide(behind.reader, Freshness::Now),
            self.followed(behind.reader, behind.new.keys().copied()),
        )?;
        let authors: HashMap<UserId, Followed> = wide.into_iter().chain(new).collect();
        let found: Vec<(Posts, Deletions)> = iter(authors)
            .map(|(author, Followed { since, .. })| async move {
                let after = since.max(behind.after(author));
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
        let rows: Option<Vec<PostRow>> = self
            .behind(&self.missed.of_author, (author, after), behind, |row: &PostRow| row.1, POSTS)
            .await?;
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
        let rows: Option<Vec<DeletionRow>> = self
            .behind(&self.missed.deletions, (author, after), behind, |row: &DeletionRow| row.1, DELETIONS)
            .await?;
        Ok(rows.map(|rows| rows.into_iter().map(deletion).collect()))
    }

    /// An author's rows behind a place; none where there are more than `most`.
    async fn behind<R>(
        &self,
        statement: &PreparedStatement,
        (author, after): (UserId, Seq),
        behind: &Behind,
        seq: impl Fn(&R) -> i64,
        most: usize,
    ) -> Result<Option<Vec<R>>, StorageError>
    where
        R: for<'frame, 'metadata> scylla::deserialize::row::DeserializeRow<'frame, 'metadata>,
    {
        let values = (author.0, &behind.days, column(after));
        let (mut rows, mut counted) = (Vec::new(), 0);
        let mut place = Some(PagingState::start());
        while let Some(at) = place {
            let (page, next) = self.cql.page::<R>(statement, &values, at).await?;
            counted += page.iter().filter(|row| seq(row) > column(behind.cursor)).count();
            rows.extend(page);
            if counted > most {
                return Ok(None);
            }
            place = next;
        }
        Ok(Some(rows))
    }
}

/// Whether an author is followed now, and was when the entry was made, and that is to be told.
fn is_new(seq: Seq, author: UserId, behind: &Behind, known: &HashMap<UserId, Option<Followed>>) -> bool {
    let is_told = seq > behind.after(author);
    is_told
        && known.get(&author).is_some_and(|followed| followed.is_some_and(|followed| seq > followed.since))
}

fn deletion((author, seq, post, deleted_at): DeletionRow) -> (Seq, EntryChange) {
    let deleted_at = Timestamp::from_millis(deleted_at);
    (from_column(seq), EntryChange::Deleted { id: PostId(post), author: UserId(author), deleted_at })
}
