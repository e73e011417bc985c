//! Who likes what, and how many like a post.
//!
//! It owns `likes`, whose rows are the claims that decide, and the column `posts.likes`. A post's likes are
//! spread over shards by user; changes of one shard take turns, those that wait go together: their jobs, then one
//! lightweight transaction, then the count, then their events. What was not answered is found out by the
//! job's stamp in the row; callers wait for that no longer than their patience lasts.

use super::Inner;
use super::cql::{Cql, Decision, statements};
use super::followers::ANCHOR;
use super::following::RECENT;
use super::jobs::Job;
use super::stamp::{self, column};
use super::turns::{Groups, PATIENCE, Pauses, late, until_done};
use crate::model::cursor::Seq;
use crate::model::event::Change;
use crate::model::id::{LikeId, PostId, UserId};
use crate::model::social::Like;
use crate::model::timestamp::Timestamp;
use crate::storage::{Liking, StorageError};
use futures_util::future::join_all;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use scylla::serialize::row::SerializeRow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::oneshot;
use uuid::Uuid;

/// A post's likes are spread over so many partitions.
const SHARDS: i32 = 64;
/// Changes of one shard that go together.
const GROUP: usize = 50;
/// Keys of one `IN`.
const KEYS_AT_ONCE: usize = 100;
/// Reads that are under way at once.
const AT_ONCE: usize = 8;

statements! {
    /// What likes send.
    Statements {
        shard: Decide, "SELECT user, total, changes, state, version, id, created_at, recent FROM likes WHERE post = ? AND shard = ? AND user IN ?";
        decide: Claim, "UPDATE likes SET total = ?, changes = ? WHERE post = ? AND shard = ? IF changes = ?";
        anchor: Claim, "INSERT INTO likes (post, shard, user) VALUES (?, ?, ?)";
        take: Claim, "UPDATE likes SET state = ?, version = ?, id = ?, created_at = ?, recent = ? WHERE post = ? AND shard = ? AND user = ?";
        count: Write, "UPDATE posts USING TIMESTAMP ? SET likes[?] = ? WHERE id = ?";
        post: Read, "SELECT seq, deleted_at FROM posts WHERE id = ?";
        liked: Read, "SELECT post, state FROM likes WHERE post IN ? AND shard = ? AND user = ?";
    }
}

/// All likes.
pub(super) struct Likes {
    statements: Statements,
    groups: Groups<(PostId, i32), Wish>,
}

/// A like, or the end of one, that waits for its turn.
struct Wish {
    user: UserId,
    /// The like to be made; none to end the one there is.
    like: Option<Like>,
    at: Timestamp,
    /// Hears whether anything was changed.
    answer: oneshot::Sender<Result<bool, StorageError>>,
    /// Its job, once there is one.
    job: Option<Noted>,
    /// Jobs that it had before, which took too long: one of them may have made it.
    former: Vec<Seq>,
    /// What became of it, and by which job.
    made: Option<Row>,
    made_by: Option<Seq>,
}

/// A job and its row.
struct Noted {
    seq: Seq,
    job: Job,
    /// How often it said something else.
    revision: i64,
    /// Whether the row says it.
    is_written: bool,
}

/// What one try came to.
enum Tried {
    /// Nothing of the group is left to be made: the shard's total and changes.
    Settled(i64, i64),
    /// Not done, or not known.
    Again,
}

/// A row of `likes`: what is so of one user's liking a post.
#[derive(Clone, Debug, Default)]
struct Row {
    likes: bool,
    version: i64,
    id: Uuid,
    created_at: i64,
    recent: Vec<i64>,
}

/// A shard's partition: what it counts, and some of its rows.
#[derive(Default)]
struct Shard {
    total: i64,
    changes: Option<i64>,
    rows: HashMap<Uuid, Row>,
}

impl Likes {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self, StorageError> {
        Ok(Self { statements: Statements::prepare(cql).await?, groups: Groups::default() })
    }
}

impl Inner {
    /// Likes a post, once.
    pub(super) async fn like(self: Arc<Self>, like: Like) -> Result<Liking, StorageError> {
        let (is_there, is_somebody) = tokio::try_join!(self.is_living(like.post), self.is_user(like.user))?;
        if !is_there {
            return Ok(Liking::Missing);
        }
        if !is_somebody {
            return Err(StorageError::Refused("a like of nobody".to_owned()));
        }
        let is_made = self.change_like((like.user, like.post), Some(like), like.created_at).await?;
        Ok(if is_made { Liking::Done } else { Liking::Already })
    }

    /// Takes a like back; answers whether there was one.
    pub(super) async fn unlike(
        self: Arc<Self>,
        user: UserId,
        post: PostId,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        if !self.is_living(post).await? {
            return Ok(false);
        }
        self.change_like((user, post), None, now).await
    }

    /// Those of the posts that a user likes.
    pub(super) async fn liked(
        &self,
        user: UserId,
        posts: &[PostId],
    ) -> Result<HashSet<PostId>, StorageError> {
        let ids = |posts: &[PostId]| posts.iter().map(|post| post.0).collect();
        let chunks: Vec<Vec<Uuid>> = posts.chunks(KEYS_AT_ONCE).map(ids).collect();
        let found: Vec<Vec<(Uuid, Option<i8>)>> = iter(chunks)
            .map(|ids| async move {
                let values = (ids, shard_of(user), user.0);
                self.cql.rows_at_once(&self.likes.statements.liked, values).await
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let liked = found.into_iter().flatten().filter(|(_, state)| *state == Some(1));
        Ok(liked.map(|(post, _)| PostId(post)).collect())
    }

    async fn is_living(&self, post: PostId) -> Result<bool, StorageError> {
        type Columns = (Option<i64>, Option<i64>);
        let row: Option<Columns> = self.cql.first(&self.likes.statements.post, (post.0,)).await?;
        Ok(matches!(row, Some((Some(_), None))))
    }

    /// Has a change wait for its turn; answers whether anything was changed.
    async fn change_like(
        self: &Arc<Self>,
        (user, post): (UserId, PostId),
        like: Option<Like>,
        at: Timestamp,
    ) -> Result<bool, StorageError> {
        let key = (post, shard_of(user));
        let (answer, answered) = oneshot::channel();
        if self.likes.groups.join(
            key,
            Wish { user, like, at, answer, job: None, former: Vec::new(), made: None, made_by: None },
        )? {
            let inner = self.clone();
            tokio::spawn(async move {
                let mut running = inner.likes.groups.run(key);
                loop {
                    let group = running
                        .next(GROUP, |group, next| group.iter().all(|wish: &Wish| wish.user != next.user));
                    if group.is_empty() {
                        return;
                    }
                    inner.settle_likes(key, group).await;
                }
            });
        }
        let answer = tokio::time::timeout(PATIENCE, answered).await.map_err(|_| late())?;
        answer.map_err(|_| StorageError::Unavailable("a like was left half-way".to_owned()))?
    }

    /// Does what a group wishes. Once a transaction was sent it is found out what became of it.
    async fn settle_likes(self: &Arc<Self>, key: (PostId, i32), mut group: Vec<Wish>) {
        // Whoever waited too long was told that it may not have been done.
        group.retain(|wish| !wish.answer.is_closed());
        let mut is_sent = false;
        let mut pauses = Pauses::default();
        let counts = loop {
            match self.try_likes(key, &mut group, &mut is_sent).await {
                Ok(Tried::Settled(total, changes)) => break (total, changes),
                Ok(Tried::Again) => {}
                Err(StorageError::Unavailable(_)) if is_sent => {}
                Err(error) => {
                    for Wish { answer, job, former, .. } in group {
                        if !is_sent {
                            self.end_jobs(job.map(|noted| noted.seq).into_iter().chain(former));
                        }
                        let _ = answer.send(Err(error.clone()));
                    }
                    return;
                }
            }
            pauses.next().await;
        };
        // The next group need not wait until this one's count is shown: the newer count stays.
        tokio::spawn(self.clone().finish_likes(key, counts, group));
    }

    /// One try; `is_sent` tells afterwards whether something may have been done.
    async fn try_likes(
        self: &Arc<Self>,
        key: (PostId, i32),
        group: &mut [Wish],
        is_sent: &mut bool,
    ) -> Result<Tried, StorageError> {
        let shard = self.likes_shard(key, group.iter().map(|wish| wish.user.0)).await?;
        let mut total = shard.total;
        let mut takes = Vec::new();
        for wish in group.iter_mut() {
            if let Some(worn) = wish.job.take_if(|noted| self.is_worn(noted.seq)) {
                wish.former.push(worn.seq);
            }
            let stamp = |user| self.clock.stamp(stamp::shard_of(user), None, |_| {});
            let Some((seq, next)) = wish.next(shard.rows.get(&wish.user.0), stamp) else { continue };
            total += if next.likes { 1 } else { -1 };
            wish.note(seq, next.job(wish.user, key.0, wish.at));
            takes.push((wish.user, next));
        }
        if takes.is_empty() {
            return Ok(Tried::Settled(shard.total, shard.changes.unwrap_or(0)));
        }
        let unwritten =
            group.iter_mut().filter_map(|wish| wish.job.as_mut()).filter(|noted| !noted.is_written);
        let written = unwritten.map(|noted| async {
            self.write_job(noted.seq, &noted.job, noted.revision).await?;
            noted.is_written = true;
            Ok(())
        });
        join_all(written).await.into_iter().collect::<Result<(), StorageError>>()?;
        let changes = shard.changes.unwrap_or(0) + 1;
        *is_sent = true;
        let decision = self.decide_likes(key, shard.changes, (total, changes), &takes).await?;
        if decision != Decision::Applied {
            return Ok(Tried::Again);
        }
        let mut made: HashMap<UserId, Row> = takes.into_iter().collect();
        for wish in group {
            if let Some(row) = made.remove(&wish.user) {
                wish.made = Some(row);
            }
        }
        Ok(Tried::Settled(total, changes))
    }

    async fn finish_likes(self: Arc<Self>, key: (PostId, i32), counts: (i64, i64), group: Vec<Wish>) {
        let counted = until_done("a count of likes", || self.show_likes(key, counts)).await;
        let finished = group.into_iter().map(|wish| {
            let (inner, counted) = (&self, counted.clone());
            async move {
                let Wish { user, at, answer, job, former, made, made_by, .. } = wish;
                let made_by = made_by.or(job.as_ref().map(|noted| noted.seq));
                let done = async {
                    counted?;
                    if let (Some(seq), Some(row)) = (made_by, &made) {
                        let like = row.like(user, key.0);
                        let change =
                            if row.likes { Change::LikeCreated(&like) } else { Change::LikeDeleted(&like) };
                        until_done("the event of a like", || inner.publish(seq, &change, at)).await?;
                    }
                    inner.end_jobs(job.map(|noted| noted.seq).into_iter().chain(former));
                    Ok(made.is_some())
                };
                // Whoever asked may have gone.
                let _ = answer.send(done.await);
            }
        });
        join_all(finished).await;
    }

    async fn show_likes(
        &self,
        (post, shard): (PostId, i32),
        (total, changes): (i64, i64),
    ) -> Result<(), StorageError> {
        self.cql.write(&self.likes.statements.count, (changes, shard, total, post.0)).await
    }

    /// Does what a like of a former run, or one that was taken back, has left to be done, from what the claim says
    /// now; leaves it undone where the claim was not changed, which it cannot be any more then.
    pub(super) async fn redo_like(self: &Arc<Self>, seq: Seq, job: &Job) -> Result<(), StorageError> {
        let Job::Like { id, user, post, created_at, ends, at, .. } = *job else {
            return Ok(());
        };
        let key = (post, shard_of(user));
        let mut pauses = Pauses::default();
        let shard = loop {
            let shard = self.likes_shard(key, [user.0]).await?;
            match shard.rows.get(&user.0) {
                Some(row) if row.is_of(seq) => break shard,
                _ => {}
            }
            // It was not done; so that it never will be, what was sent for it goes by other counts. Whoever is still
            // at it, on another node, finds that out and goes on under another job.
            let counts = (shard.total, shard.changes.unwrap_or(0) + 1);
            if self.decide_likes(key, shard.changes, counts, &[]).await? == Decision::Applied {
                return Ok(());
            }
            pauses.next().await;
        };
        self.show_likes(key, (shard.total, shard.changes.unwrap_or(0))).await?;
        let like = Like { id, user, post, created_at: Timestamp::from_millis(created_at) };
        let change = if ends { Change::LikeDeleted(&like) } else { Change::LikeCreated(&like) };
        self.publish(seq, &change, Timestamp::from_millis(at)).await
    }

    async fn likes_shard(
        &self,
        (post, shard): (PostId, i32),
        users: impl IntoIterator<Item = Uuid>,
    ) -> Result<Shard, StorageError> {
        type Columns = (
            Uuid,
            Option<i64>,
            Option<i64>,
            Option<i8>,
            Option<i64>,
            Option<Uuid>,
            Option<i64>,
            Option<Vec<i64>>,
        );
        let mut keys: Vec<Uuid> = users.into_iter().collect();
        keys.push(ANCHOR);
        let found: Vec<Columns> = self.cql.rows(&self.likes.statements.shard, (post.0, shard, keys)).await?;
        let mut read = Shard::default();
        for (user, total, changes, state, version, id, created_at, recent) in found {
            read.total = total.unwrap_or(0);
            read.changes = changes;
            if user != ANCHOR {
                let row = Row {
                    likes: state == Some(1),
                    version: version.unwrap_or(0),
                    id: id.unwrap_or_default(),
                    created_at: created_at.unwrap_or(0),
                    recent: recent.unwrap_or_default(),
                };
                read.rows.insert(user, row);
            }
        }
        Ok(read)
    }

    /// One lightweight transaction: the rows and the counts, where the shard's `changes` are what was read.
    async fn decide_likes(
        &self,
        (post, shard): (PostId, i32),
        was: Option<i64>,
        (total, changes): (i64, i64),
        rows: &[(UserId, Row)],
    ) -> Result<Decision, StorageError> {
        let Statements { decide, anchor, take, .. } = &self.likes.statements;
        let mut statements = vec![decide];
        let mut values: Vec<Box<dyn SerializeRow + Send + Sync>> =
            vec![Box::new((total, changes, post.0, shard, was))];
        if was.is_none() {
            statements.push(anchor);
            values.push(Box::new((post.0, shard, ANCHOR)));
        }
        for (user, row) in rows {
            statements.push(take);
            let Row { likes, version, id, created_at, recent } = row.clone();
            let row = (i8::from(likes), version, id, created_at, recent, post.0, shard, user.0);
            values.push(Box::new(row));
        }
        self.cql.decide_batch(&statements, values).await
    }
}

impl Wish {
    /// What its row is to be next, and the stamp of its job; none where there is nothing to be done (any more).
    fn next(&mut self, row: Option<&Row>, stamp: impl FnOnce(UserId) -> Seq) -> Option<(Seq, Row)> {
        let jobs = self.job.iter().map(|noted| noted.seq).chain(self.former.iter().copied());
        if let Some(row) = row
            && let Some(seq) = jobs.into_iter().find(|seq| row.is_of(*seq))
        {
            self.made = Some(row.clone());
            self.made_by = Some(seq);
        }
        let likes = row.is_some_and(|row| row.likes);
        if self.made.is_some() || likes == self.like.is_some() {
            return None;
        }
        let seq = self.job.as_ref().map_or_else(|| stamp(self.user), |noted| noted.seq);
        let mut next = row.cloned().unwrap_or_default();
        next.version += 1;
        next.likes = self.like.is_some();
        if let Some(like) = &self.like {
            (next.id, next.created_at) = (like.id.0, like.created_at.millis());
        }
        next.recent.insert(0, column(seq));
        next.recent.truncate(RECENT);
        Some((seq, next))
    }

    /// Its job is to say this.
    fn note(&mut self, seq: Seq, job: Job) {
        let revision = match &self.job {
            Some(noted) if noted.job == job => return,
            Some(noted) => noted.revision + 1,
            None => 0,
        };
        self.job = Some(Noted { seq, job, revision, is_written: false });
    }
}

impl Row {
    /// Whether the job of that stamp changed it.
    fn is_of(&self, seq: Seq) -> bool {
        self.recent.contains(&column(seq))
    }

    /// The job that makes this of the row.
    fn job(&self, user: UserId, post: PostId, at: Timestamp) -> Job {
        Job::Like {
            id: LikeId(self.id),
            user,
            post,
            created_at: self.created_at,
            version: self.version,
            ends: !self.likes,
            at: at.millis(),
        }
    }

    fn like(&self, user: UserId, post: PostId) -> Like {
        Like { id: LikeId(self.id), user, post, created_at: Timestamp::from_millis(self.created_at) }
    }
}

/// Which of a post's shards has a user's like: of every post the same one.
pub(super) fn shard_of(user: UserId) -> i32 {
    i32::from(stamp::shard_of(user)) % SHARDS
}
