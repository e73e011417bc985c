//! Moving in: each record becomes the rows that the store itself would have made of it.
//!
//! Posts that were counted get stamps that keep their order and tell their time as nearly as that allows; none
//! is later than the beginning of the copy, so that whatever is posted afterwards is newer.

use super::{MOVED_AT, Mover, Parts};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use crate::storage::moving::{
    Import, Kind, Liked, MovedAuthor, MovedFollow, MovedKey, MovedLetter, MovedPost, MovedToken, MovedUser,
    Numbering, Progress, Record, SeesFrom, WaitingEvent,
};
use crate::storage::scylla::backfill::Sight;
use crate::storage::scylla::cql::statements;
use crate::storage::scylla::jobs::Queue;
use crate::storage::scylla::stamp::{self, column, from_column};
use crate::storage::scylla::{followers, likes, logins};
use crate::storage::{KEY_AGE, Pending, StorageError, TIMELINE_AGE};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use uuid::Uuid;

/// Records that are written at once.
const AT_ONCE: usize = 64;
/// What stands for the token that followed a spent one, where that is not known: nobody's.
const SOME_TOKEN: [u8; 32] = [0; 32];
/// A thousandth of a millisecond.
const MICROS: u64 = 1_000;

statements! {
    /// What only moving in writes.
    Statements {
        user: Write, "INSERT INTO users (id, email, username, password_hash, created_at, updated_at, version) VALUES (?, ?, ?, ?, ?, ?, 1) USING TIMESTAMP ?";
        email: Write, "INSERT INTO users_by_email (email, user, state, claimed_at, version) VALUES (?, ?, 1, ?, 1) USING TIMESTAMP ?";
        username: Write, "INSERT INTO users_by_username (username, user, state, claimed_at, version) VALUES (?, ?, 1, ?, 1) USING TIMESTAMP ?";
        outsider: Write, "INSERT INTO outside_users (issuer, subject, user, version) VALUES (?, ?, ?, 1) USING TIMESTAMP ?";
        spent: Write, "UPDATE refresh_tokens USING TIMESTAMP ? AND TTL ? SET spent_for = ? WHERE hash = ?";
        like: Write, "INSERT INTO likes (post, shard, user, state, version, id, created_at) VALUES (?, ?, ?, 1, 1, ?, ?) USING TIMESTAMP ?";
        following: Write, "INSERT INTO following (follower, followee, state, version, id, created_at, since, sees_from, place, shard) VALUES (?, ?, 1, 1, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
        enlist: Write, "INSERT INTO following_by_place (follower, place, followee) VALUES (?, ?, ?) USING TIMESTAMP ?";
        follower: Write, "INSERT INTO followers (followee, shard, follower, state, version, place) VALUES (?, ?, ?, 1, 1, ?) USING TIMESTAMP ?";
        number: Read, "SELECT seq FROM posts WHERE id = ?";
        days: Read, "SELECT day FROM days_by_author WHERE author = ?";
        posts: Read, "SELECT count(*), max(seq) FROM posts_by_author WHERE author = ? AND day = ?";
        author: Write, "INSERT INTO authors (id, version, newest, newest_seq, posts, recent) VALUES (?, 1, ?, ?, ?, ?) USING TIMESTAMP ?";
        event: Write, "INSERT INTO events (shard, minute, id, event, attempts, due_at) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
        letter_day: Write, "INSERT INTO dead_letter_days (topic, day) VALUES ('events', ?)";
        letter: Write, "INSERT INTO dead_letters (topic, day, id, event, error, attempts, buried_at) VALUES ('events', ?, ?, ?, ?, ?, ?)";
        any_user: Read, "SELECT id FROM users LIMIT 1";
        any_login: Read, "SELECT id FROM logins LIMIT 1";
        any_event: Read, "SELECT id FROM events LIMIT 1";
        any_letter: Read, "SELECT id FROM dead_letters LIMIT 1";
    }
}

impl Import for Mover {
    fn unfinished(&self) -> Pending<Option<Progress>> {
        let parts = self.0.clone();
        Box::pin(async move { parts.unfinished().await })
    }

    fn is_empty(&self) -> Pending<bool> {
        let parts = self.0.clone();
        Box::pin(async move { parts.is_empty().await })
    }

    fn note(&self, progress: Progress) -> Pending<()> {
        let parts = self.0.clone();
        Box::pin(async move { parts.note(&progress).await })
    }

    fn take(&self, records: Vec<Record>, from: Numbering, progress: Progress) -> Pending<Progress> {
        let parts = self.0.clone();
        Box::pin(async move { parts.take(records, from, progress).await })
    }

    fn settle(&self, after: Option<String>) -> Pending<Option<String>> {
        let parts = self.0.clone();
        Box::pin(async move { parts.settle(after.as_deref()).await })
    }

    fn finish(&self) -> Pending<()> {
        let parts = self.0.clone();
        Box::pin(async move { parts.finish().await })
    }

    fn keeps(&self, _: Kind) -> bool {
        true
    }
}

impl Progress {
    /// The number that a record gets, if it gets one; the same again where the copy is gone on with from here.
    fn number(&mut self, record: &Record, from: Numbering) -> Seq {
        let begun_at = self.begun_at.unsigned_abs() * MICROS;
        let (wanted, shard) = match record {
            Record::Post(post) if from == Numbering::Stamped => {
                self.last = self.last.max(stamp::micros(post.number));
                return post.number;
            }
            Record::Post(post) => {
                let made_at = u64::try_from(post.created_at.millis()).unwrap_or(0) * MICROS;
                (made_at.min(begun_at), stamp::shard_of(post.author))
            }
            // Not before: whoever looked for events here has passed the minutes before. They go round the shards:
            // all of them may fall into one minute.
            Record::Event(_) | Record::Letter(_) => (begun_at, (self.last & 0xff) as u8),
            _ => return Seq(0),
        };
        self.last = wanted.max(self.last + 1);
        Seq((self.last << 8) | u64::from(shard))
    }

    /// A number behind all that were given.
    const fn behind_all(&self) -> Seq {
        Seq((self.last + 1) << 8)
    }
}

impl Parts {
    async fn is_empty(&self) -> Result<bool, StorageError> {
        let (cql, rows) = (&self.inner().cql, &self.rows);
        let (user, login, event, letter) = tokio::try_join!(
            cql.first::<(Uuid,)>(&rows.any_user, ()),
            cql.first::<(Uuid,)>(&rows.any_login, ()),
            cql.first::<(i64,)>(&rows.any_event, ()),
            cql.first::<(i64,)>(&rows.any_letter, ()),
        )?;
        Ok(user.is_none() && login.is_none() && event.is_none() && letter.is_none())
    }

    async fn take(
        &self,
        records: Vec<Record>,
        from: Numbering,
        mut progress: Progress,
    ) -> Result<Progress, StorageError> {
        let mut numbered = Vec::with_capacity(records.len());
        for record in records {
            let seq = progress.number(&record, from);
            numbered.push((seq, record));
        }
        let behind_all = progress.behind_all();
        let kept = numbered.into_iter().map(|(seq, record)| self.keep(seq, record, behind_all));
        iter(kept).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        self.note(&progress).await?;
        Ok(progress)
    }

    async fn keep(&self, seq: Seq, record: Record, behind_all: Seq) -> Result<(), StorageError> {
        let (inner, rows) = (self.inner(), &self.rows);
        match record {
            Record::User(user) => self.keep_user(&user).await,
            Record::Outsider(outsider) => {
                let values = (outsider.issuer, outsider.subject, outsider.user.0, MOVED_AT);
                inner.cql.write(&rows.outsider, values).await
            }
            Record::Login(login) => {
                let expires_at = login.expires_at.millis();
                let (written_at, kept) =
                    (expires_at.saturating_mul(1_000), logins::seconds_left(login.expires_at));
                let created_at = login.created_at.millis();
                let values = (login.id.0, login.user.0, created_at, expires_at, written_at, kept);
                inner.cql.write(&inner.logins.keep_login, values).await
            }
            Record::Ended(login) => inner.revoke_login(login.id, login.expires_at).await,
            Record::Token(token) => self.keep_token(&token).await,
            Record::Key(key) => self.keep_key(&key).await,
            Record::Post(post) => self.keep_post(seq, &post).await,
            Record::Like(like) => self.keep_like(&like).await,
            Record::Follow(follow) => self.keep_follow(&follow, behind_all).await,
            Record::Conversation(conversation) => self.keep_conversation(&conversation).await,
            Record::Member(member) => self.keep_member(&member).await,
            Record::Message(message) => self.keep_message(message).await,
            Record::ChatKey(key) => self.keep_chat_key(&key).await,
            Record::Inbox(inbox) => self.keep_inbox(&inbox).await,
            Record::InboxEvent(event) => self.keep_inbox_event(&event).await,
            Record::Room(room) => self.keep_room(&room).await,
            Record::Effect(effect) => self.keep_effect(&effect).await,
            Record::Presses(presses) => self.keep_presses(&presses).await,
            Record::Author(author) => self.keep_author(&author).await,
            Record::Event(event) => self.keep_event(seq, &event).await,
            Record::Letter(letter) => self.keep_letter(seq, &letter).await,
        }
    }

    async fn keep_user(&self, user: &MovedUser) -> Result<(), StorageError> {
        let (cql, rows) = (&self.inner().cql, &self.rows);
        let (id, created_at) = (user.id.0, user.created_at.millis());
        let email = async {
            let Some(email) = &user.email else { return Ok(()) };
            cql.write(&rows.email, (email.to_lowercase(), id, created_at, MOVED_AT)).await
        };
        let updated_at = user.updated_at.map(Timestamp::millis);
        let row = (id, &user.email, &user.username, &user.password_hash, created_at, updated_at, MOVED_AT);
        let name = (user.username.to_ascii_lowercase(), id, created_at, MOVED_AT);
        tokio::try_join!(cql.write(&rows.user, row), email, cql.write(&rows.username, name))?;
        Ok(())
    }

    async fn keep_token(&self, token: &MovedToken) -> Result<(), StorageError> {
        let inner = self.inner();
        let (hash, kept) = (&token.hash[..], logins::seconds_left(token.expires_at));
        let row = (hash, token.login.0, token.user.0, token.expires_at.millis(), kept);
        inner.cql.write(&inner.logins.keep_token, row).await?;
        if token.is_spent {
            let values = (MOVED_AT, kept, &SOME_TOKEN[..], hash);
            inner.cql.write(&self.rows.spent, values).await?;
        }
        Ok(())
    }

    async fn keep_key(&self, key: &MovedKey) -> Result<(), StorageError> {
        let left = key.created_at.after(KEY_AGE).millis() - Timestamp::now().millis();
        let Some(left) = i32::try_from(left / 1_000).ok().filter(|left| *left > 0) else { return Ok(()) };
        let created_at = key.created_at.millis();
        let row = (key.user.0, &key.key, &key.body[..], key.post.0, &key.content, created_at, left);
        let inner = self.inner();
        inner.cql.write(&inner.entries.key, row).await
    }

    async fn keep_post(&self, seq: Seq, post: &MovedPost) -> Result<(), StorageError> {
        let inner = self.inner();
        let (day, at, created_at) = (stamp::day(seq), stamp::written_at(seq), post.created_at.millis());
        let row = (post.id.0, post.author.0, &post.content, created_at, column(seq), at);
        let of_author = (post.author.0, day, column(seq), post.id.0, created_at, at);
        tokio::try_join!(
            inner.cql.write(&inner.entries.day, (post.author.0, day)),
            inner.cql.write(&inner.entries.post, row),
            inner.cql.write(&inner.entries.of_author, of_author),
        )?;
        Ok(())
    }

    async fn keep_like(&self, like: &Liked) -> Result<(), StorageError> {
        let (id, created_at) = (like.id.0, like.created_at.millis());
        let row = (like.post.0, likes::shard_of(like.user), like.user.0, id, created_at, MOVED_AT);
        self.inner().cql.write(&self.rows.like, row).await
    }

    async fn keep_follow(&self, follow: &MovedFollow, behind_all: Seq) -> Result<(), StorageError> {
        let (inner, rows) = (self.inner(), &self.rows);
        let sees_from = match follow.sees_from {
            SeesFrom::All => 0,
            SeesFrom::Number(number) => column(number),
            SeesFrom::New => column(behind_all),
            SeesFrom::Post(post) => {
                let found: Option<(Option<i64>,)> = inner.cql.first(&rows.number, (post.0,)).await?;
                found.and_then(|(seq,)| seq).unwrap_or(0)
            }
        };
        // Behind no cursor of this store lies anything that was moved: `since` tells nothing but that.
        let since = (sees_from - 1).max(0);
        let (follower, followee, place) = (follow.follower, follow.followee, place(follow.place));
        let shard = followers::even_shard(follow.crowd, follower);
        let (id, created_at) = (follow.id.0, follow.created_at.millis());
        let row = (follower.0, followee.0, id, created_at, since, sees_from, place, shard, MOVED_AT);
        tokio::try_join!(
            inner.cql.write(&rows.following, row),
            inner.cql.write(&rows.enlist, (follower.0, place, followee.0, MOVED_AT)),
            inner.cql.write(&rows.follower, (followee.0, shard, follower.0, place, MOVED_AT)),
            inner.enlist_follower((followee, shard), follower, place, MOVED_AT),
        )?;
        if follow.crowd > inner.wide_author_followers {
            return Ok(());
        }
        inner
            .backfill_posts(
                follower,
                followee,
                Sight { since, from: sees_from, begun: place, is_again: false },
            )
            .await
    }

    /// The row that orders an author's entries, from the posts that are there.
    async fn keep_author(&self, author: &MovedAuthor) -> Result<(), StorageError> {
        let (inner, rows) = (self.inner(), &self.rows);
        let (posts, newest_seq) = self.posts_of(author.id).await?;
        if author.newest.is_none() && posts == 0 {
            return Ok(());
        }
        let newest = author.newest.map(|post| post.0);
        let recent: Vec<i64> = newest_seq.into_iter().collect();
        let row = (author.id.0, newest, newest_seq, posts, recent, MOVED_AT);
        inner.cql.write(&rows.author, row).await?;
        match newest_seq {
            Some(seq) if author.followers > inner.wide_author_followers => {
                let ttl = i32::try_from(TIMELINE_AGE.as_secs()).unwrap_or(i32::MAX);
                inner.mark_wide(author.id, from_column(seq), ttl).await
            }
            _ => Ok(()),
        }
    }

    /// How many posts an author has here, and the newest one's stamp.
    async fn posts_of(&self, author: UserId) -> Result<(i64, Option<i64>), StorageError> {
        let (cql, rows) = (&self.inner().cql, &self.rows);
        let days: Vec<(i32,)> = cql.rows(&rows.days, (author.0,)).await?;
        let counted: Vec<Option<(i64, Option<i64>)>> = iter(days)
            .map(|(day,)| cql.first(&rows.posts, (author.0, day)))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let posts = counted.iter().flatten().map(|(posts, _)| posts).sum();
        Ok((posts, counted.into_iter().flatten().filter_map(|(_, newest)| newest).max()))
    }

    async fn keep_event(&self, seq: Seq, event: &WaitingEvent) -> Result<(), StorageError> {
        let inner = self.inner();
        inner.mark_minute(Queue::Events, seq).await?;
        let (shard, minute, at) = (stamp::shard(seq), stamp::minute(seq), stamp::written_at(seq));
        let (attempts, due_at) = (i32::try_from(event.attempts).unwrap_or(i32::MAX), event.due_at.millis());
        let row = (shard, minute, column(seq), &event.event, attempts, due_at, at);
        inner.cql.write(&self.rows.event, row).await
    }

    async fn keep_letter(&self, seq: Seq, letter: &MovedLetter) -> Result<(), StorageError> {
        let (cql, rows) = (&self.inner().cql, &self.rows);
        let day = stamp::day(seq);
        cql.write(&rows.letter_day, (day,)).await?;
        let attempts = i32::try_from(letter.attempts).unwrap_or(i32::MAX);
        let buried_at = letter.buried_at.millis();
        let row = (day, column(seq), &letter.event, &letter.error, attempts, buried_at);
        cql.write(&rows.letter, row).await
    }
}

fn place(place: u64) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}
