//! Entries as rows: what shows a post or a deletion once it has its place, and entries read back from their jobs.

use super::Inner;
use super::cql::statements;
use super::jobs::Job;
use super::stamp::{self, column, from_column};
use crate::model::cursor::Seq;
use crate::model::event::Change;
use crate::model::id::PostId;
use crate::model::post::{Content, Post};
use crate::model::timestamp::Timestamp;
use crate::storage::{Entry, EntryChange, KEY_AGE, NewPost, StorageError};
use futures_util::future::try_join_all;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::HashSet;
use uuid::Uuid;

/// Reads that are under way at once.
const AT_ONCE: usize = 32;
/// Keys of one `IN`.
pub(super) const KEYS_AT_ONCE: usize = 100;

statements! {
    /// What shows an entry.
    Statements {
        post: Write, "INSERT INTO posts (id, author, content, created_at, seq) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";
        of_author: Write, "INSERT INTO posts_by_author (author, day, seq, post, created_at) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";
        day: Write, "INSERT INTO days_by_author (author, day) VALUES (?, ?)";
        key: Write, "INSERT INTO idempotency (user, key, body, post, content, created_at) VALUES (?, ?, ?, ?, ?, ?) USING TTL ?";
        unpost: Write, "UPDATE posts USING TIMESTAMP ? SET content = '', deleted_at = ? WHERE id = ?";
        unlist: Write, "UPDATE posts_by_author USING TIMESTAMP ? SET deleted_at = ? WHERE author = ? AND day = ? AND seq = ?";
        deletion: Write, "INSERT INTO deletions_by_author (author, day, seq, post, post_seq, deleted_at) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
        job: Read, "SELECT body FROM jobs WHERE shard = ? AND minute = ? AND seq = ?";
        marks: Read, "SELECT id, deleted_at FROM posts WHERE id IN ?";
    }
}

impl Inner {
    /// Writes what shows these entries; each may be written again.
    pub(super) async fn show_entries(&self, jobs: &[(Seq, Job)]) -> Result<(), StorageError> {
        // A group is small: all of it at once.
        let shown = try_join_all(jobs.iter().map(|(seq, job)| self.show_entry(*seq, job)));
        shown.await.map(drop)
    }

    async fn show_entry(&self, seq: Seq, job: &Job) -> Result<(), StorageError> {
        let (day, at) = (stamp::day(seq), stamp::written_at(seq));
        let Self { cql, entries: statements, .. } = self;
        match job {
            Job::Post { id, author, content, created_at, key, .. } => {
                let post = (id.0, author.0, content, created_at, column(seq), at);
                let of_author = (author.0, day, column(seq), id.0, created_at, at);
                let kept = async {
                    let Some((key, body)) = key else { return Ok(()) };
                    let age = Timestamp::now().millis() - created_at;
                    let left = i64::try_from(KEY_AGE.as_secs()).unwrap_or(i64::MAX) - age.max(0) / 1000;
                    let Ok(left @ 1..) = i32::try_from(left) else { return Ok(()) };
                    let row = (author.0, key, body.as_slice(), id.0, content, created_at, left);
                    cql.write(&statements.key, row).await
                };
                let told = Post {
                    id: *id,
                    author: *author,
                    content: Content::stored(content.clone()),
                    likes: 0,
                    created_at: Timestamp::from_millis(*created_at),
                };
                let change = Change::PostCreated(&told);
                // The index first: a row of a day that nobody looks at is not shown.
                cql.write(&statements.day, (author.0, day)).await?;
                tokio::try_join!(
                    cql.write(&statements.post, post),
                    cql.write(&statements.of_author, of_author),
                    kept,
                    self.publish(seq, &change, told.created_at),
                )?;
            }
            Job::Delete { post, post_seq, author, deleted_at, .. } => {
                let post_day = stamp::day(from_column(*post_seq));
                let change = Change::PostDeleted { id: *post, author: *author };
                let deletion = (author.0, day, column(seq), post.0, post_seq, deleted_at, at);
                tokio::try_join!(
                    cql.write(&statements.unpost, (at, deleted_at, post.0)),
                    cql.write(&statements.unlist, (at, deleted_at, author.0, post_day, post_seq)),
                    cql.write(&statements.deletion, deletion),
                    self.publish(seq, &change, Timestamp::from_millis(*deleted_at)),
                )?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Entries by number, from their jobs, without posts that are deleted now.
    pub(super) async fn entries(&self, seqs: Vec<Seq>) -> Result<Vec<Entry>, StorageError> {
        self.in_flight.wait_for(&seqs).await?;
        let found: Vec<Option<Entry>> =
            iter(seqs)
                .map(|seq| async move {
                    Ok::<_, StorageError>(self.job(seq).await?.and_then(|job| job.entry(seq)))
                })
                .buffer_unordered(AT_ONCE)
                .try_collect()
                .await?;
        let mut entries: Vec<Entry> = found.into_iter().flatten().collect();
        let posts = entries.iter().filter_map(|entry| match &entry.change {
            EntryChange::Posted { post, .. } => Some(post.id),
            EntryChange::Deleted { .. } => None,
        });
        let gone = self.deleted(&posts.collect::<Vec<_>>()).await?;
        entries.retain(|entry| match &entry.change {
            EntryChange::Posted { post, .. } => !gone.contains(&post.id),
            EntryChange::Deleted { .. } => true,
        });
        entries.sort_unstable_by_key(|entry| entry.seq);
        Ok(entries)
    }

    /// A job by its stamp.
    pub(super) async fn job(&self, seq: Seq) -> Result<Option<Job>, StorageError> {
        let place = (stamp::shard(seq), stamp::minute(seq), column(seq));
        let row: Option<(Option<String>,)> = self.cql.first(&self.entries.job, place).await?;
        row.and_then(|(body,)| body).map(|body| Job::from_text(&body)).transpose()
    }

    /// Those of `posts` that are deleted.
    pub(super) async fn deleted(&self, posts: &[PostId]) -> Result<HashSet<PostId>, StorageError> {
        let ids = |posts: &[PostId]| posts.iter().map(|post| post.0).collect();
        let chunks: Vec<Vec<Uuid>> = posts.chunks(KEYS_AT_ONCE).map(ids).collect();
        let marks: Vec<Vec<(Uuid, Option<i64>)>> = iter(chunks)
            .map(|ids| async move { self.cql.rows_at_once(&self.entries.marks, (ids,)).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let gone = marks.into_iter().flatten().filter(|(_, deleted_at)| deleted_at.is_some());
        Ok(gone.map(|(id, _)| PostId(id)).collect())
    }
}

impl Job {
    /// The job of a post that is the author's entry number `version`.
    pub(super) fn post(post: &NewPost, author_name: &str, version: i64) -> Self {
        Self::Post {
            id: post.id,
            author: post.author,
            author_name: author_name.to_owned(),
            content: post.content.as_str().to_owned(),
            created_at: post.created_at.millis(),
            version,
            key: post.key.as_ref().map(|key| (key.key.clone(), key.body)),
            request: post.attempt.map(|attempt| attempt.request),
        }
    }

    /// The entry that it is about, if it is about one.
    pub(super) fn entry(self, seq: Seq) -> Option<Entry> {
        let change = match self {
            Self::Post { id, author, author_name, content, created_at, .. } => EntryChange::Posted {
                post: Post {
                    id,
                    author,
                    content: Content::stored(content),
                    likes: 0,
                    created_at: Timestamp::from_millis(created_at),
                },
                author_name,
            },
            Self::Delete { post, author, deleted_at, .. } => {
                EntryChange::Deleted { id: post, author, deleted_at: Timestamp::from_millis(deleted_at) }
            }
            _ => return None,
        };
        Some(Entry { seq, change })
    }
}
