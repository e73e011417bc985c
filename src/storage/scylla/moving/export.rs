//! Moving out: claims that are held and rows that are shown; what was taken back, deleted or has expired stays.

use super::ring::{self, Arc as Part};
use super::{Mover, Parts};
use crate::model::cursor::{Seq, StoreName};
use crate::model::id::{FollowId, LikeId, LoginId, PostId, UserId};
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::moving::{
    EndedLogin, Export, Kind, Liked, MovedAuthor, MovedFollow, MovedKey, MovedLetter, MovedLogin,
    MovedOutsider, MovedPost, MovedToken, MovedUser, Numbering, Portion, Record, SeesFrom, WaitingEvent,
};
use crate::storage::scylla::cql::statements;
use crate::storage::scylla::stamp::{self, column, from_column};
use crate::storage::{Accounts, DeadLetter, KEY_AGE, Pending, StorageError, Timelines};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// Rows of a portion.
const ROWS: i32 = 500;
/// Partitions of a portion, where a partition has many rows.
const PARTITIONS: i32 = 50;
/// Reads that are under way at once.
const AT_ONCE: usize = 32;
/// Keys of one `IN`.
const KEYS_AT_ONCE: usize = 100;

statements! {
    /// What is read around the ring.
    Statements {
        users: Read, "SELECT token(id), id, email, username, password_hash, created_at, updated_at FROM users WHERE token(id) > ? LIMIT ?";
        outsiders: Read, "SELECT token(issuer, subject), issuer, subject, user FROM outside_users WHERE token(issuer, subject) > ? LIMIT ?";
        logins: Read, "SELECT token(id), id, user, created_at, expires_at, revoked FROM logins WHERE token(id) > ? LIMIT ?";
        some_logins: Read, "SELECT id, user, revoked FROM logins WHERE id IN ?";
        ended: Read, "SELECT login, expires_at FROM revoked_logins";
        tokens: Read, "SELECT token(hash), hash, login, expires_at, spent_for FROM refresh_tokens WHERE token(hash) > ? LIMIT ?";
        keys: Read, "SELECT token(user, key), user, key, body, post, content, created_at FROM idempotency WHERE token(user, key) > ? LIMIT ?";
        posts: Read, "SELECT token(id), id, author, content, created_at, seq, deleted_at, likes FROM posts WHERE token(id) > ? LIMIT ?";
        likes: Read, "SELECT DISTINCT token(post, shard), post, shard FROM likes WHERE token(post, shard) > ? LIMIT ?";
        likes_of: Read, "SELECT post, user, state, id, created_at FROM likes WHERE post = ? AND shard = ?";
        following: Read, "SELECT DISTINCT token(follower), follower FROM following WHERE token(follower) > ? LIMIT ?";
        following_of: Read, "SELECT follower, followee, state, id, created_at, sees_from, place FROM following WHERE follower = ?";
        event: Read, "SELECT event FROM events WHERE shard = ? AND minute = ? AND id = ?";
    }
}

type UserRow = (i64, Uuid, Option<String>, Option<String>, Option<String>, Option<i64>, Option<i64>);
type LoginRow = (i64, Uuid, Option<Uuid>, Option<i64>, Option<i64>, Option<bool>);
/// A login, whose it is, and whether it was ended.
type SomeLogin = (Uuid, Option<Uuid>, Option<bool>);
type TokenRow = (i64, Vec<u8>, Option<Uuid>, Option<i64>, Option<Vec<u8>>);
type KeyRow = (i64, Uuid, String, Option<Vec<u8>>, Option<Uuid>, Option<String>, Option<i64>);
type PostRow = (
    i64,
    Uuid,
    Option<Uuid>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<HashMap<i32, i64>>,
);
type LikeRow = (Uuid, Uuid, Option<i8>, Option<Uuid>, Option<i64>);
type FollowRow = (Uuid, Uuid, Option<i8>, Option<Uuid>, Option<i64>, Option<i64>, Option<i64>);

impl Export for Mover {
    fn name(&self) -> StoreName {
        self.0.store.store_name()
    }

    fn numbering(&self) -> Numbering {
        Numbering::Stamped
    }

    fn count(&self, _: Kind) -> Pending<Option<u64>> {
        // To count a table is to read it.
        Box::pin(std::future::ready(Ok(None)))
    }

    fn portion(&self, kind: Kind, after: Option<String>, alive_at: Timestamp) -> Pending<Portion> {
        let parts = self.0.clone();
        Box::pin(async move {
            let after = after.as_deref();
            match kind {
                Kind::Users => parts.users(after).await,
                Kind::Outsiders => parts.outsiders(after).await,
                Kind::Logins => parts.logins(after, alive_at).await,
                Kind::Ended => parts.ended(alive_at).await,
                Kind::Tokens => parts.tokens(after, alive_at).await,
                Kind::Keys => parts.keys(after, alive_at).await,
                Kind::Posts => parts.posts(after).await,
                Kind::Likes => parts.likes(after).await,
                Kind::Follows => parts.follows(after).await,
                Kind::Conversations => parts.conversations(after).await,
                Kind::Members => parts.members(after).await,
                Kind::Messages => parts.messages(after).await,
                Kind::ChatKeys => parts.chat_keys(after, alive_at).await,
                Kind::Inboxes => parts.inboxes(after).await,
                Kind::InboxEvents => parts.inbox_events(after, alive_at).await,
                Kind::Rooms => parts.rooms(after).await,
                Kind::Effects => parts.effects(after).await,
                Kind::Presses => parts.presses(after, alive_at).await,
                Kind::Authors => parts.authors(after).await,
                Kind::Events => parts.events(after).await,
                Kind::Letters => parts.letters(after).await,
            }
        })
    }
}

/// Rows, and the records that were made of them.
fn portion<R>(part: &Part<R>, records: Vec<Record>) -> Portion {
    Portion { records, next: part.place(), share: part.share() }
}

fn time(millis: Option<i64>) -> Timestamp {
    Timestamp::from_millis(millis.unwrap_or(0))
}

fn hash(bytes: Vec<u8>) -> Result<[u8; 32], StorageError> {
    bytes.try_into().map_err(|_| StorageError::Refused("a hash that is none".to_owned()))
}

impl Parts {
    async fn users(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        let cql = &self.inner().cql;
        let mut part: Part<UserRow> =
            ring::behind(cql, &self.scans.users, after, ROWS, |row: &UserRow| row.0).await?;
        let rows = std::mem::take(&mut part.rows).into_iter();
        // A row without a name is nobody.
        let users = rows.filter_map(|(_, id, email, username, password_hash, created_at, updated_at)| {
            Some(Record::User(MovedUser {
                id: UserId(id),
                email,
                username: username?,
                password_hash,
                created_at: time(created_at),
                updated_at: updated_at.map(Timestamp::from_millis),
            }))
        });
        let users = users.collect();
        Ok(portion(&part, users))
    }

    async fn outsiders(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        type Row = (i64, String, String, Option<Uuid>);
        let inner = self.inner();
        let mut part: Part<Row> =
            ring::behind(&inner.cql, &self.scans.outsiders, after, ROWS, |row: &Row| row.0).await?;
        let rows = std::mem::take(&mut part.rows);
        // Of a claim whose user was never made nothing is moved.
        let there = inner.names(rows.iter().filter_map(|row| row.3).map(UserId)).await?;
        let outsiders = rows.into_iter().filter_map(|(_, issuer, subject, user)| {
            let user = UserId(user?);
            let outsider = MovedOutsider { issuer, subject, user };
            there.contains_key(&user).then_some(Record::Outsider(outsider))
        });
        let outsiders = outsiders.collect();
        Ok(portion(&part, outsiders))
    }

    async fn logins(&self, after: Option<&str>, alive_at: Timestamp) -> Result<Portion, StorageError> {
        let cql = &self.inner().cql;
        let mut part: Part<LoginRow> =
            ring::behind(cql, &self.scans.logins, after, ROWS, |row: &LoginRow| row.0).await?;
        let rows = std::mem::take(&mut part.rows).into_iter();
        let logins = rows.filter_map(|(_, id, user, created_at, expires_at, revoked)| {
            let login = MovedLogin {
                id: LoginId(id),
                user: UserId(user?),
                created_at: time(created_at),
                expires_at: time(expires_at),
            };
            (revoked != Some(true) && login.expires_at > alive_at).then_some(Record::Login(login))
        });
        let logins = logins.collect();
        Ok(portion(&part, logins))
    }

    /// All at once, as a server has them: each may stand in several partitions.
    async fn ended(&self, alive_at: Timestamp) -> Result<Portion, StorageError> {
        let rows: Vec<(Uuid, Option<i64>)> = self.inner().cql.rows(&self.scans.ended, ()).await?;
        let mut logins: BTreeMap<Uuid, Timestamp> = BTreeMap::new();
        for (login, expires_at) in rows {
            let known = logins.entry(login).or_insert(time(expires_at));
            *known = time(expires_at).max(*known);
        }
        let lasting = logins.into_iter().filter(|(_, expires_at)| *expires_at > alive_at);
        let ended = lasting.map(|(id, expires_at)| Record::Ended(EndedLogin { id: LoginId(id), expires_at }));
        Ok(Portion { records: ended.collect(), next: None, share: None })
    }

    async fn tokens(&self, after: Option<&str>, alive_at: Timestamp) -> Result<Portion, StorageError> {
        let cql = &self.inner().cql;
        let mut part: Part<TokenRow> =
            ring::behind(cql, &self.scans.tokens, after, ROWS, |row: &TokenRow| row.0).await?;
        let rows = std::mem::take(&mut part.rows);
        let logins: BTreeSet<Uuid> = rows.iter().filter_map(|row| row.2).collect();
        let logins: Vec<Uuid> = logins.into_iter().collect();
        let chunks: Vec<Vec<Uuid>> = logins.chunks(KEYS_AT_ONCE).map(<[Uuid]>::to_vec).collect();
        let found: Vec<Vec<SomeLogin>> = iter(chunks)
            .map(|ids| async move { cql.rows_at_once(&self.scans.some_logins, (ids,)).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let going_on = found.into_iter().flatten().filter(|(.., revoked)| *revoked != Some(true));
        let users: HashMap<Uuid, Uuid> =
            going_on.filter_map(|(login, user, _)| Some((login, user?))).collect();
        let mut tokens = Vec::with_capacity(rows.len());
        for (_, bytes, login, expires_at, spent_for) in rows {
            let Some((login, user)) = login.and_then(|login| Some((login, *users.get(&login)?))) else {
                continue;
            };
            let expires_at = time(expires_at);
            if expires_at > alive_at {
                tokens.push(Record::Token(MovedToken {
                    hash: hash(bytes)?,
                    login: LoginId(login),
                    user: UserId(user),
                    expires_at,
                    is_spent: spent_for.is_some(),
                }));
            }
        }
        Ok(portion(&part, tokens))
    }

    async fn keys(&self, after: Option<&str>, alive_at: Timestamp) -> Result<Portion, StorageError> {
        let cql = &self.inner().cql;
        let mut part: Part<KeyRow> =
            ring::behind(cql, &self.scans.keys, after, ROWS, |row: &KeyRow| row.0).await?;
        let mut keys = Vec::with_capacity(part.rows.len());
        for (_, user, key, body, post, content, created_at) in std::mem::take(&mut part.rows) {
            let (Some(body), Some(post), Some(content)) = (body, post, content) else { continue };
            let created_at = time(created_at);
            if created_at.after(KEY_AGE) > alive_at {
                let (user, body, post) = (UserId(user), hash(body)?, PostId(post));
                keys.push(Record::Key(MovedKey { user, key, body, post, content, created_at }));
            }
        }
        Ok(portion(&part, keys))
    }

    async fn posts(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        let cql = &self.inner().cql;
        let mut part: Part<PostRow> =
            ring::behind(cql, &self.scans.posts, after, ROWS, |row: &PostRow| row.0).await?;
        let rows = std::mem::take(&mut part.rows).into_iter();
        let posts = rows.filter_map(|(_, id, author, content, created_at, seq, deleted_at, likes)| {
            let likes: i64 = likes.into_iter().flatten().map(|(_, total)| total).sum();
            let post = MovedPost {
                id: PostId(id),
                author: UserId(author?),
                content: content?,
                created_at: time(created_at),
                number: from_column(seq?),
                likes: u64::try_from(likes).unwrap_or(0),
            };
            deleted_at.is_none().then_some(Record::Post(post))
        });
        let posts = posts.collect();
        Ok(portion(&part, posts))
    }

    async fn likes(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        type Row = (i64, Uuid, i32);
        let inner = self.inner();
        let mut part: Part<Row> =
            ring::behind(&inner.cql, &self.scans.likes, after, PARTITIONS, |row: &Row| row.0).await?;
        let rows: Vec<Vec<LikeRow>> = iter(std::mem::take(&mut part.rows))
            .map(|(_, post, shard)| inner.cql.rows(&self.scans.likes_of, (post, shard)))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let likes: Vec<Liked> = rows.into_iter().flatten().filter_map(like).collect();
        let posts: HashSet<PostId> = likes.iter().map(|like| like.post).collect();
        let gone = inner.deleted(&posts.into_iter().collect::<Vec<_>>()).await?;
        let living = likes.into_iter().filter(|like| !gone.contains(&like.post)).map(Record::Like);
        let living = living.collect();
        Ok(portion(&part, living))
    }

    async fn follows(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        type Row = (i64, Uuid);
        let inner = self.inner();
        let mut part: Part<Row> =
            ring::behind(&inner.cql, &self.scans.following, after, PARTITIONS, |row: &Row| row.0).await?;
        let rows: Vec<Vec<FollowRow>> = iter(std::mem::take(&mut part.rows))
            .map(|(_, follower)| inner.cql.rows(&self.scans.following_of, (follower,)))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut follows: Vec<MovedFollow> = rows.into_iter().flatten().filter_map(follow).collect();
        let followees: HashSet<UserId> = follows.iter().map(|follow| follow.followee).collect();
        let crowds: HashMap<UserId, u64> = iter(followees)
            .map(|followee| async move {
                let crowd: i64 = inner.follower_shards(followee).await?.values().sum();
                Ok::<_, StorageError>((followee, crowd.unsigned_abs()))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for follow in &mut follows {
            follow.crowd = crowds.get(&follow.followee).copied().unwrap_or(0);
        }
        let follows = follows.into_iter().map(Record::Follow).collect();
        Ok(portion(&part, follows))
    }

    async fn authors(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        let inner = self.inner();
        let mut part: Part<UserRow> =
            ring::behind(&inner.cql, &self.scans.users, after, ROWS, |row: &UserRow| row.0).await?;
        let users = std::mem::take(&mut part.rows).into_iter().filter(|row| row.3.is_some());
        let authors: Vec<Option<Record>> = iter(users)
            .map(|row| async move {
                let id = UserId(row.1);
                let (author, profile) = tokio::try_join!(inner.author(id), self.store.profile(id, id))?;
                Ok::<_, StorageError>(profile.map(|profile| {
                    Record::Author(MovedAuthor {
                        id,
                        newest: author.newest.map(PostId),
                        posts: profile.posts,
                        followers: profile.followers,
                        following: profile.following,
                    })
                }))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let authors = authors.into_iter().flatten().collect();
        Ok(portion(&part, authors))
    }

    async fn events(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        let inner = self.inner();
        // Which ones wait is known once what a former run left is.
        inner.take_over(&Shard::all().collect::<Vec<_>>()).await?;
        let after = place(after)?;
        let most = usize::try_from(ROWS).unwrap_or(usize::MAX);
        let waiting: Vec<_> = {
            let waiting = inner.events.waiting();
            waiting.range(Seq(after + 1)..).take(most).map(|(seq, event)| (*seq, *event)).collect()
        };
        let next = waiting.last().filter(|_| waiting.len() == most).map(|(seq, _)| seq.0.to_string());
        let events: Vec<Option<Record>> = iter(waiting)
            .map(|(seq, event)| async move {
                let at = (stamp::shard(seq), stamp::minute(seq), column(seq));
                let text: Option<(Option<String>,)> = inner.cql.first(&self.scans.event, at).await?;
                Ok::<_, StorageError>(text.and_then(|(text,)| text).map(|text| {
                    Record::Event(WaitingEvent {
                        number: seq.0,
                        event: text,
                        attempts: event.attempts.unsigned_abs(),
                        made_at: stamp::time(seq),
                        due_at: event.due_at,
                    })
                }))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(Portion { records: events.into_iter().flatten().collect(), next, share: None })
    }

    async fn letters(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        let limit = usize::try_from(ROWS).unwrap_or(usize::MAX);
        let found = self.inner().letters_to_move(Seq(place(after)?), limit).await?;
        let next = found.last().filter(|_| found.len() == limit).map(|letter| letter.id.to_string());
        let letters = found.into_iter().map(|letter| {
            let DeadLetter { id: number, event, error, attempts, buried_at } = letter;
            Record::Letter(MovedLetter { number, event, error, attempts, buried_at })
        });
        Ok(Portion { records: letters.collect(), next, share: None })
    }
}

fn place(after: Option<&str>) -> Result<u64, StorageError> {
    let Some(after) = after else { return Ok(0) };
    after.parse().map_err(|error| StorageError::Refused(format!("a place of a copy is none: {error}")))
}

fn like((post, user, state, id, created_at): LikeRow) -> Option<Liked> {
    let like = Liked {
        id: LikeId(id?),
        user: UserId(user),
        post: PostId(post),
        created_at: Timestamp::from_millis(created_at?),
    };
    (state == Some(1)).then_some(like)
}

fn follow((follower, followee, state, id, created_at, sees_from, place): FollowRow) -> Option<MovedFollow> {
    let sees_from = match sees_from.unwrap_or(0) {
        0 => SeesFrom::All,
        number => SeesFrom::Number(from_column(number)),
    };
    let follow = MovedFollow {
        id: FollowId(id?),
        follower: UserId(follower),
        followee: UserId(followee),
        created_at: Timestamp::from_millis(created_at?),
        place: place?.unsigned_abs(),
        sees_from,
        crowd: 0,
    };
    (state == Some(1)).then_some(follow)
}
