//! What a new follow brings: the newest posts of the followed, and what it deleted meanwhile, read from it and
//! written to the follower's timeline.
//!
//! It owns no table. Entries are written as a fan-out writes them, so that both may write the same one.

use super::Inner;
use super::cql::statements;
use super::stamp::{self, column, from_column};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use crate::storage::{BACKFILL_POSTS, StorageError, TIMELINE_AGE};
use futures_util::future::try_join_all;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use uuid::Uuid;

/// Days whose posts are read at once.
const DAYS_AT_ONCE: usize = 8;
/// Posts that are read at first; four times as many, where most of those are deleted.
const POSTS_AT_FIRST: i32 = 40;
/// Posts that are read at once at most.
const POSTS_AT_MOST: i32 = 2_560;
/// Days whose deletions are read at most: those of a timeline.
const DELETION_DAYS: usize = 31;
/// Entries that are written at once.
const ROWS_AT_ONCE: usize = 100;
/// A stamp and a time of a post are that far apart at most.
const SLACK: Duration = Duration::from_secs(24 * 3600);

statements! {
    /// What a backfill sends.
    Statements {
        days: Read, "SELECT day FROM days_by_author WHERE author = ? AND day >= ?";
        posts: Read, "SELECT seq, post, created_at, deleted_at FROM posts_by_author WHERE author = ? AND day IN ? AND seq < ? ORDER BY seq DESC LIMIT ?";
        deletions: Read, "SELECT seq, post, post_seq, deleted_at FROM deletions_by_author WHERE author = ? AND day IN ? AND seq > ?";
        gone: Write, "INSERT INTO home_deletions (reader, day, seq, post, post_seq, author, deleted_at) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?";
        left: Read, "SELECT seq, author FROM home_timeline WHERE reader = ? AND day IN ? AND seq >= ? AND seq <= ?";
        remove: Write, "DELETE FROM home_timeline USING TIMESTAMP ? WHERE reader = ? AND day = ? AND seq = ?";
        enter: Write, "INSERT INTO home_timeline (reader, day, seq, post, author, created_at) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?";
    }
}

/// A post as its author's list has it: stamp, id, time, and when it was deleted.
type Row = (i64, Uuid, i64, Option<i64>);

/// A deletion as its author's list has it: stamp, post, the post's stamp, and when.
type Gone = (i64, Uuid, i64, i64);

/// What a follow sees, by stamps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    /// The author's newest entry when the follow began.
    pub(super) since: i64,
    /// Posts that are older stay hidden.
    pub(super) from: i64,
    /// When the follow was made.
    pub(super) begun: i64,
    /// Whether there was one before it, that may have left entries of posts that are gone.
    pub(super) is_again: bool,
}

impl Inner {
    /// From where a follow that begins now sees: the stamp of the 20th newest post, 0 where there are fewer.
    pub(super) async fn sees_from(&self, author: UserId) -> Result<i64, StorageError> {
        let newest = self.newest_living(author, i64::MAX, 0).await?;
        Ok(newest.get(BACKFILL_POSTS - 1).map_or(0, |(seq, ..)| *seq))
    }

    /// Writes to the reader's timeline what a follow sees: the newest 20 posts, and posts and deletions that are newer
    /// than its beginning.
    pub(super) async fn backfill(
        &self,
        reader: UserId,
        author: UserId,
        sight: Sight,
    ) -> Result<(), StorageError> {
        tokio::try_join!(
            self.backfill_posts(reader, author, sight),
            self.backfill_deletions(reader, author, sight)
        )?;
        Ok(())
    }

    /// The posts alone; of what an earlier follow left there remains what the author still has.
    pub(super) async fn backfill_posts(
        &self,
        reader: UserId,
        author: UserId,
        sight: Sight,
    ) -> Result<(), StorageError> {
        let now = Timestamp::now();
        let posts = self.newest_living(author, sight.since, sight.from).await?;
        if sight.is_again {
            self.remove_gone(reader, author, sight, posts.iter().map(|(seq, ..)| *seq).collect()).await?;
        }
        let mut days: BTreeMap<i32, Vec<_>> = BTreeMap::new();
        for (seq, post, created_at, _) in posts {
            let stamped = from_column(seq);
            let Some(left) = seconds_left(Timestamp::from_millis(created_at), now) else { continue };
            let (day, written_at) = (stamp::day(stamped), stamp::written_at(stamped));
            let row = (reader.0, day, seq, post, author.0, created_at, written_at, left);
            days.entry(day).or_default().push(row);
        }
        let batches = days.values().flat_map(|rows| rows.chunks(ROWS_AT_ONCE));
        let written = batches.map(|rows| self.cql.write_batch(&self.backfills.enter, rows));
        try_join_all(written).await.map(drop)
    }

    /// Removes what an earlier follow left of posts that were deleted since: their deletions did not reach the reader.
    async fn remove_gone(
        &self,
        reader: UserId,
        author: UserId,
        Sight { since, from, .. }: Sight,
        living: HashSet<i64>,
    ) -> Result<(), StorageError> {
        let oldest = stamp::day_of(Timestamp::now().before(TIMELINE_AGE));
        let days: Vec<i32> =
            (stamp::day(from_column(from)).max(oldest)..=stamp::day(from_column(since))).collect();
        let rows: Vec<(i64, Uuid)> =
            self.cql.rows(&self.backfills.left, (reader.0, days, from, since)).await?;
        let gone = rows.into_iter().filter(|(seq, of)| *of == author.0 && !living.contains(seq));
        let removed = gone.map(|(seq, _)| {
            let stamped = from_column(seq);
            // Newer than the entry, whoever writes that again.
            let values = (stamp::written_at(stamped) + 1, reader.0, stamp::day(stamped), seq);
            self.cql.write(&self.backfills.remove, values)
        });
        try_join_all(removed).await.map(drop)
    }

    /// What was deleted while the follow was under way: its fan-out may not have seen the follower.
    async fn backfill_deletions(
        &self,
        reader: UserId,
        author: UserId,
        Sight { since, begun, .. }: Sight,
    ) -> Result<(), StorageError> {
        let now = Timestamp::now();
        // The beginning was read a moment before the follow got its stamp.
        let days: Vec<i32> = (stamp::day(from_column(begun)) - 1..=stamp::day(self.clock.head())).collect();
        let values = (author.0, &days[days.len().saturating_sub(DELETION_DAYS)..], since);
        let deletions: Vec<Gone> = self.cql.rows(&self.backfills.deletions, values).await?;
        let mut days: BTreeMap<i32, Vec<_>> = BTreeMap::new();
        for (seq, post, post_seq, deleted_at) in deletions {
            let stamped = from_column(seq);
            let Some(left) = seconds_left(Timestamp::from_millis(deleted_at), now) else { continue };
            let (day, written_at) = (stamp::day(stamped), stamp::written_at(stamped));
            let row = (reader.0, day, seq, post, post_seq, author.0, deleted_at, written_at, left);
            days.entry(day).or_default().push(row);
        }
        let batches = days.values().flat_map(|rows| rows.chunks(ROWS_AT_ONCE));
        let written = batches.map(|rows| self.cql.write_batch(&self.backfills.gone, rows));
        try_join_all(written).await.map(drop)
    }

    /// An author's posts that are not deleted, newest first, not older than `from`: the newest 20 and all that are
    /// newer than `since`.
    async fn newest_living(&self, author: UserId, since: i64, from: i64) -> Result<Vec<Row>, StorageError> {
        let oldest = stamp::day_of(Timestamp::now().before(TIMELINE_AGE + SLACK));
        let oldest = oldest.max(stamp::day(from_column(from)));
        let days: Vec<(i32,)> = self.cql.rows(&self.backfills.days, (author.0, oldest)).await?;
        let days: Vec<i32> = days.into_iter().map(|(day,)| day).collect();
        let mut posts: Vec<Row> = Vec::new();
        for days in days.chunks(DAYS_AT_ONCE) {
            let (mut before, mut limit) = (i64::MAX, POSTS_AT_FIRST);
            loop {
                let values = (author.0, days, before, limit);
                let rows: Vec<Row> = self.cql.rows_at_once(&self.backfills.posts, values).await?;
                let is_last = rows.len() < usize::try_from(limit).unwrap_or(usize::MAX);
                for row in rows {
                    let (seq, .., deleted_at) = row;
                    before = seq;
                    if seq < from || (posts.len() >= BACKFILL_POSTS && seq <= since) {
                        return Ok(posts);
                    }
                    if deleted_at.is_none() {
                        posts.push(row);
                    }
                }
                if is_last {
                    break;
                }
                limit = (limit * 4).min(POSTS_AT_MOST);
            }
        }
        Ok(posts)
    }

    /// The number of an author's newest entry, 0 where there is none.
    pub(super) async fn newest_entry(&self, author: UserId) -> Result<Seq, StorageError> {
        let author = self.author(author).await?;
        // Deletions are entries too: a follow sees none of before.
        Ok(author.recent.first().copied().or(author.newest_seq).map_or(Seq(0), from_column))
    }
}

/// How long an entry of a post of that time is kept; none where it is too old for any timeline.
fn seconds_left(created_at: Timestamp, now: Timestamp) -> Option<i32> {
    let left = created_at.after(TIMELINE_AGE).millis() - now.millis();
    // A clock that is ahead makes no entry that outlives its thirty days by more than it is ahead.
    i32::try_from(left.div_euclid(1_000)).ok().filter(|seconds| *seconds > 0)
}

/// Where a follow sees from, which sees all that is newer than `since` whatever was posted meanwhile.
pub(super) fn not_behind(sees_from: i64, since: Seq) -> i64 {
    sees_from.min(column(since) + 1)
}

#[cfg(test)]
mod tests {
    use super::{not_behind, seconds_left};
    use crate::model::cursor::Seq;
    use crate::model::timestamp::Timestamp;
    use crate::storage::TIMELINE_AGE;
    use std::time::Duration;

    #[test]
    fn an_entry_is_kept_for_what_is_left_of_its_thirty_days() {
        let now = Timestamp::now();
        assert_eq!(seconds_left(now, now), i32::try_from(TIMELINE_AGE.as_secs()).ok());
        let old = now.before(TIMELINE_AGE - Duration::from_secs(5));
        assert_eq!(seconds_left(old, now), Some(5));
        assert_eq!(seconds_left(now.before(TIMELINE_AGE), now), None);
        assert_eq!(seconds_left(now.before(TIMELINE_AGE * 2), now), None);
    }

    #[test]
    fn a_follow_sees_all_that_is_newer_than_its_beginning() {
        assert_eq!(not_behind(100, Seq(500)), 100);
        assert_eq!(not_behind(900, Seq(500)), 501);
    }
}
