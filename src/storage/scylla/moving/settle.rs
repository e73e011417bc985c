//! Counts, made from what was moved: partition by partition of likes, of followees and of followers, around the ring.

use super::ring::{self, Arc as Part};
use super::{MOVED_AT, Parts};
use crate::storage::StorageError;
use crate::storage::scylla::cql::statements;
use crate::storage::scylla::followers::ANCHOR;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use scylla::statement::prepared::PreparedStatement;
use uuid::Uuid;

/// Partitions of a part.
const PARTITIONS: i32 = 200;
/// Partitions that are counted at once.
const AT_ONCE: usize = 32;

statements! {
    /// What is counted, and where.
    Statements {
        likes: Read, "SELECT DISTINCT token(post, shard), post, shard FROM likes WHERE token(post, shard) > ? LIMIT ?";
        likes_of: Read, "SELECT state FROM likes WHERE post = ? AND shard = ?";
        count_likes: Write, "UPDATE likes USING TIMESTAMP ? SET total = ?, changes = 1 WHERE post = ? AND shard = ?";
        anchor_likes: Write, "INSERT INTO likes (post, shard, user) VALUES (?, ?, ?) USING TIMESTAMP ?";
        show_likes: Write, "UPDATE posts USING TIMESTAMP ? SET likes[?] = ? WHERE id = ?";
        following: Read, "SELECT DISTINCT token(follower), follower FROM following WHERE token(follower) > ? LIMIT ?";
        following_of: Read, "SELECT state FROM following WHERE follower = ?";
        count_following: Write, "UPDATE following USING TIMESTAMP ? SET total = ?, changes = 1 WHERE follower = ?";
        anchor_following: Write, "INSERT INTO following (follower, followee) VALUES (?, ?) USING TIMESTAMP ?";
        followers: Read, "SELECT DISTINCT token(followee, shard), followee, shard FROM followers WHERE token(followee, shard) > ? LIMIT ?";
        followers_of: Read, "SELECT state FROM followers WHERE followee = ? AND shard = ?";
        count_followers: Write, "UPDATE followers USING TIMESTAMP ? SET total = ?, changes = 1, made = ? WHERE followee = ? AND shard = ?";
        anchor_followers: Write, "INSERT INTO followers (followee, shard, follower) VALUES (?, ?, ?) USING TIMESTAMP ?";
        show_followers: Write, "UPDATE follow_counts USING TIMESTAMP ? SET followers[?] = ?, made[?] = ? WHERE user = ?";
    }
}

/// The tables that count, one after the other.
const LIKES: &str = "likes";
const FOLLOWING: &str = "following";
const FOLLOWERS: &str = "followers";

impl Parts {
    /// Counts a part; answers where the next one begins.
    pub(super) async fn settle(&self, after: Option<&str>) -> Result<Option<String>, StorageError> {
        let (table, token) = match after.and_then(|after| after.split_once(' ')) {
            Some((table, token)) => (table, Some(token)),
            None => (after.unwrap_or(LIKES), None),
        };
        let (next, then) = match table {
            FOLLOWERS => (self.settle_followers(token).await?, None),
            FOLLOWING => (self.settle_following(token).await?, Some(FOLLOWERS)),
            _ => (self.settle_likes(token).await?, Some(FOLLOWING)),
        };
        Ok(next.map(|token| format!("{table} {token}")).or_else(|| then.map(str::to_owned)))
    }

    async fn settle_likes(&self, after: Option<&str>) -> Result<Option<String>, StorageError> {
        let (cql, statements) = (&self.inner().cql, &self.counts);
        let part: Part<(i64, Uuid, i32)> =
            ring::behind(cql, &statements.likes, after, PARTITIONS, |row: &(i64, Uuid, i32)| row.0).await?;
        let place = part.place();
        let counted = part.rows.into_iter().map(|(_, post, shard)| async move {
            let total = self.states(&statements.likes_of, (post, shard)).await?;
            let shown = (MOVED_AT, shard, total, post);
            tokio::try_join!(
                cql.write(&statements.count_likes, (MOVED_AT, total, post, shard)),
                cql.write(&statements.anchor_likes, (post, shard, ANCHOR, MOVED_AT)),
                cql.write(&statements.show_likes, shown),
            )?;
            Ok::<_, StorageError>(())
        });
        iter(counted).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok(place)
    }

    async fn settle_following(&self, after: Option<&str>) -> Result<Option<String>, StorageError> {
        let (cql, statements) = (&self.inner().cql, &self.counts);
        let part: Part<(i64, Uuid)> =
            ring::behind(cql, &statements.following, after, PARTITIONS, |row: &(i64, Uuid)| row.0).await?;
        let place = part.place();
        let counted = part.rows.into_iter().map(|(_, follower)| async move {
            let total = self.states(&statements.following_of, (follower,)).await?;
            tokio::try_join!(
                cql.write(&statements.count_following, (MOVED_AT, total, follower)),
                cql.write(&statements.anchor_following, (follower, ANCHOR, MOVED_AT)),
            )?;
            Ok::<_, StorageError>(())
        });
        iter(counted).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok(place)
    }

    async fn settle_followers(&self, after: Option<&str>) -> Result<Option<String>, StorageError> {
        let (cql, statements) = (&self.inner().cql, &self.counts);
        let part: Part<(i64, Uuid, i32)> =
            ring::behind(cql, &statements.followers, after, PARTITIONS, |row: &(i64, Uuid, i32)| row.0)
                .await?;
        let place = part.place();
        let counted = part.rows.into_iter().map(|(_, followee, shard)| async move {
            let total = self.states(&statements.followers_of, (followee, shard)).await?;
            tokio::try_join!(
                cql.write(&statements.count_followers, (MOVED_AT, total, total, followee, shard)),
                cql.write(&statements.anchor_followers, (followee, shard, ANCHOR, MOVED_AT)),
                cql.write(&statements.show_followers, (MOVED_AT, shard, total, shard, total, followee)),
            )?;
            Ok::<_, StorageError>(())
        });
        iter(counted).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok(place)
    }

    /// How many rows of a partition say that it is so.
    async fn states(
        &self,
        statement: &PreparedStatement,
        partition: impl scylla::serialize::row::SerializeRow,
    ) -> Result<i64, StorageError> {
        let states: Vec<(Option<i8>,)> = self.inner().cql.rows(statement, partition).await?;
        Ok(states.iter().filter(|(state,)| *state == Some(1)).count() as i64)
    }
}
