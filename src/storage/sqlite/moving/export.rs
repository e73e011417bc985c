//! Moving out: each kind read in the order of a key of its table, which is where the next portion goes on.

use super::super::Store;
use super::super::statement::{Statements, count, place, post_id, seq, time, time_or_none, user_id, uuid};
use super::{chat, room};
use crate::model::cursor::{Seq, StoreName};
use crate::model::id::{FollowId, LikeId, LoginId, PostId};
use crate::model::timestamp::Timestamp;
use crate::storage::moving::{
    EndedLogin, Export, Kind, Liked, MovedAuthor, MovedFollow, MovedKey, MovedLetter, MovedLogin,
    MovedOutsider, MovedPost, MovedToken, MovedUser, Numbering, Portion, Record, SeesFrom, WaitingEvent,
};
use crate::storage::{KEY_AGE, Pending, StorageError};
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Rows read at a time.
pub(super) const PORTION: usize = 1_000;

impl Export for Store {
    fn name(&self) -> StoreName {
        self.name
    }

    fn numbering(&self) -> Numbering {
        Numbering::Counted
    }

    fn count(&self, kind: Kind) -> Pending<Option<u64>> {
        self.read(move |store| {
            let sql = match kind {
                Kind::Users | Kind::Authors => "SELECT count(*) FROM users",
                Kind::Outsiders => "SELECT count(*) FROM outside_users",
                Kind::Logins => "SELECT count(*) FROM logins WHERE revoked = 0",
                Kind::Ended => "SELECT count(*) FROM logins WHERE revoked = 1",
                Kind::Tokens => "SELECT count(*) FROM refresh_tokens",
                Kind::Keys => "SELECT count(*) FROM idempotency_keys",
                Kind::Posts => "SELECT count(*) FROM posts WHERE deleted_at IS NULL",
                Kind::Likes => "SELECT count(*) FROM likes",
                Kind::Follows => "SELECT count(*) FROM following",
                Kind::Conversations => "SELECT count(*) FROM conversations",
                Kind::Members => "SELECT count(*) FROM conversation_members",
                Kind::Messages => "SELECT count(*) FROM messages",
                Kind::ChatKeys => "SELECT count(*) FROM chat_keys",
                // They are read, not rows.
                Kind::Inboxes | Kind::InboxEvents => return Ok(None),
                Kind::Rooms => "SELECT count(*) FROM rooms WHERE ended_at IS NULL",
                Kind::Effects => "SELECT count(*) FROM room_effects",
                Kind::Presses => "SELECT count(*) FROM room_presses",
                Kind::Events => "SELECT count(*) FROM events",
                Kind::Letters => "SELECT count(*) FROM dead_letters",
            };
            store.first(sql, [], |row| count(row, 0))
        })
    }

    fn portion(&self, kind: Kind, after: Option<String>, alive_at: Timestamp) -> Pending<Portion> {
        self.read(move |store| {
            let after = after.as_deref();
            match kind {
                Kind::Users => users(store, after),
                Kind::Outsiders => outsiders(store, after),
                Kind::Logins => logins(store, after, alive_at),
                Kind::Ended => ended(store, after, alive_at),
                Kind::Tokens => tokens(store, after, alive_at),
                Kind::Keys => keys(store, after, alive_at),
                Kind::Posts => posts(store, after),
                Kind::Likes => likes(store, after),
                Kind::Follows => follows(store, after),
                Kind::Conversations => chat::conversations(store, after),
                Kind::Members => chat::members(store, after),
                Kind::Messages => chat::messages(store, after),
                Kind::ChatKeys => chat::keys(store, after, alive_at),
                Kind::Inboxes => chat::inboxes(store, after),
                Kind::InboxEvents => chat::inbox_events(store, after, alive_at),
                Kind::Rooms => room::rooms(store, after),
                Kind::Effects => room::effects(store, after),
                Kind::Presses => room::presses(store, after, alive_at),
                Kind::Authors => authors(store, after),
                Kind::Events => events(store, after),
                Kind::Letters => letters(store, after),
            }
        })
    }
}

/// Rows, each with its place, as a portion; fewer than were asked for are the last.
pub(super) fn portion_of<K: Serialize>(
    mut rows: Vec<(K, Option<Record>)>,
    most: usize,
) -> Result<Portion, StorageError> {
    let is_last = rows.len() < most;
    let last = rows.last().filter(|_| !is_last).map(|(key, _)| serde_json::to_string(key)).transpose();
    let next = last.map_err(|error| StorageError::Refused(error.to_string()))?;
    let records = rows.drain(..).filter_map(|(_, record)| record).collect();
    Ok(Portion { records, next, share: None })
}

/// The same of [`PORTION`] rows.
pub(super) fn portion<K: Serialize>(rows: Vec<(K, Option<Record>)>) -> Result<Portion, StorageError> {
    portion_of(rows, PORTION)
}

/// A place, or the one before all.
pub(super) fn key<K: DeserializeOwned>(after: Option<&str>, first: K) -> Result<K, StorageError> {
    let Some(text) = after else { return Ok(first) };
    serde_json::from_str(text)
        .map_err(|error| StorageError::Refused(format!("a place of a copy is none: {error}")))
}

pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<i64> {
    row.get(column)
}

fn users(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    portion(store.all(
        "SELECT key, id, email, username, password_hash, created_at, updated_at FROM users
         WHERE key > ?1 ORDER BY key LIMIT ?2",
        [key(after, 0)?, PORTION as i64],
        |row| {
            let user = MovedUser {
                id: user_id(row, 1)?,
                email: row.get(2)?,
                username: row.get(3)?,
                password_hash: row.get(4)?,
                created_at: time(row, 5)?,
                updated_at: time_or_none(row, 6)?,
            };
            Ok((number(row, 0)?, Some(Record::User(user))))
        },
    )?)
}

fn authors(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    portion(store.all(
        "SELECT key, id, newest_post_id, posts, followers, following FROM users
         WHERE key > ?1 ORDER BY key LIMIT ?2",
        [key(after, 0)?, PORTION as i64],
        |row| {
            let newest: Option<[u8; 16]> = row.get(2)?;
            let author = MovedAuthor {
                id: user_id(row, 1)?,
                newest: newest.map(|id| PostId(uuid::Uuid::from_bytes(id))),
                posts: count(row, 3)?,
                followers: count(row, 4)?,
                following: count(row, 5)?,
            };
            Ok((number(row, 0)?, Some(Record::Author(author))))
        },
    )?)
}

fn outsiders(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    let (issuer, subject): (String, String) = key(after, Default::default())?;
    portion(store.all(
        "SELECT o.issuer, o.subject, u.id FROM outside_users o JOIN users u ON u.key = o.user
         WHERE (o.issuer, o.subject) > (?1, ?2) ORDER BY o.issuer, o.subject LIMIT ?3",
        params![issuer, subject, PORTION as i64],
        |row| {
            let (issuer, subject): (String, String) = (row.get(0)?, row.get(1)?);
            let outsider =
                MovedOutsider { issuer: issuer.clone(), subject: subject.clone(), user: user_id(row, 2)? };
            Ok(((issuer, subject), Some(Record::Outsider(outsider))))
        },
    )?)
}

fn logins(store: &Connection, after: Option<&str>, alive_at: Timestamp) -> Result<Portion, StorageError> {
    let after: Vec<u8> = key(after, Vec::new())?;
    portion(store.all(
        "SELECT l.id, u.id, l.created_at, l.expires_at, l.revoked FROM logins l
         LEFT JOIN users u ON u.key = l.user WHERE l.id > ?1 ORDER BY l.id LIMIT ?2",
        params![after, PORTION as i64],
        |row| {
            let (id, expires_at): (Vec<u8>, _) = (row.get(0)?, time(row, 3)?);
            let goes_on = !row.get::<_, bool>(4)? && expires_at > alive_at;
            let user: Option<[u8; 16]> = row.get(1)?;
            let login = match user.filter(|_| goes_on) {
                Some(_) => Some(Record::Login(MovedLogin {
                    id: LoginId(uuid(row, 0)?),
                    user: user_id(row, 1)?,
                    created_at: time_or_none(row, 2)?.unwrap_or(Timestamp::from_millis(0)),
                    expires_at,
                })),
                None => None,
            };
            Ok((id, login))
        },
    )?)
}

fn ended(store: &Connection, after: Option<&str>, alive_at: Timestamp) -> Result<Portion, StorageError> {
    let after: Vec<u8> = key(after, Vec::new())?;
    portion(store.all(
        "SELECT id, expires_at FROM logins WHERE revoked = 1 AND id > ?1 ORDER BY id LIMIT ?2",
        params![after, PORTION as i64],
        |row| {
            let login = EndedLogin { id: LoginId(uuid(row, 0)?), expires_at: time(row, 1)? };
            Ok((row.get::<_, Vec<u8>>(0)?, (login.expires_at > alive_at).then_some(Record::Ended(login))))
        },
    )?)
}

fn tokens(store: &Connection, after: Option<&str>, alive_at: Timestamp) -> Result<Portion, StorageError> {
    let after: Vec<u8> = key(after, Vec::new())?;
    portion(store.all(
        "SELECT t.hash, t.login, u.id, t.expires_at, t.spent FROM refresh_tokens t
         LEFT JOIN logins l ON l.id = t.login AND l.revoked = 0 LEFT JOIN users u ON u.key = l.user
         WHERE t.hash > ?1 ORDER BY t.hash LIMIT ?2",
        params![after, PORTION as i64],
        |row| {
            let expires_at = time(row, 3)?;
            let user: Option<[u8; 16]> = row.get(2)?;
            let token = match user.filter(|_| expires_at > alive_at) {
                Some(_) => Some(Record::Token(MovedToken {
                    hash: row.get(0)?,
                    login: LoginId(uuid(row, 1)?),
                    user: user_id(row, 2)?,
                    expires_at,
                    is_spent: row.get(4)?,
                })),
                None => None,
            };
            Ok((row.get::<_, Vec<u8>>(0)?, token))
        },
    )?)
}

fn keys(store: &Connection, after: Option<&str>, alive_at: Timestamp) -> Result<Portion, StorageError> {
    let (user, text): (i64, String) = key(after, Default::default())?;
    portion(store.all(
        "SELECT k.user, k.key, u.id, k.body, k.post, k.content, k.created_at
         FROM idempotency_keys k JOIN users u ON u.key = k.user
         WHERE (k.user, k.key) > (?1, ?2) ORDER BY k.user, k.key LIMIT ?3",
        params![user, text, PORTION as i64],
        |row| {
            let key = MovedKey {
                user: user_id(row, 2)?,
                key: row.get(1)?,
                body: row.get(3)?,
                post: post_id(row, 4)?,
                content: row.get(5)?,
                created_at: time(row, 6)?,
            };
            let place = (number(row, 0)?, key.key.clone());
            let is_kept = key.created_at.after(KEY_AGE) > alive_at;
            Ok((place, is_kept.then_some(Record::Key(key))))
        },
    )?)
}

fn posts(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    portion(store.all(
        "SELECT p.seq, p.id, u.id, p.content, p.created_at, p.likes FROM posts p JOIN users u ON u.key = p.author
         WHERE p.deleted_at IS NULL AND p.seq > ?1 ORDER BY p.seq LIMIT ?2",
        [key(after, 0)?, PORTION as i64],
        |row| {
            let post = MovedPost {
                id: post_id(row, 1)?,
                author: user_id(row, 2)?,
                content: row.get(3)?,
                created_at: time(row, 4)?,
                number: seq(row, 0)?,
                likes: count(row, 5)?,
            };
            Ok((number(row, 0)?, Some(Record::Post(post))))
        },
    )?)
}

fn likes(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    let (post, user): (i64, i64) = key(after, (0, 0))?;
    portion(store.all(
        "SELECT l.post, l.user, l.id, u.id, p.id, l.created_at, p.deleted_at IS NULL
         FROM likes l JOIN posts p ON p.seq = l.post JOIN users u ON u.key = l.user
         WHERE (l.post, l.user) > (?1, ?2) ORDER BY l.post, l.user LIMIT ?3",
        [post, user, PORTION as i64],
        |row| {
            let like = Liked {
                id: LikeId(uuid(row, 2)?),
                user: user_id(row, 3)?,
                post: post_id(row, 4)?,
                created_at: time(row, 5)?,
            };
            let is_there: bool = row.get(6)?;
            Ok(((number(row, 0)?, number(row, 1)?), is_there.then_some(Record::Like(like))))
        },
    )?)
}

fn follows(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    let (follower, followee): (i64, i64) = key(after, (0, 0))?;
    let rows = store.all(
        "SELECT f.follower, f.followee, f.id, r.id, e.id, f.created_at, f.place, f.sees_from, e.followers
         FROM following f JOIN users r ON r.key = f.follower JOIN users e ON e.key = f.followee
         WHERE (f.follower, f.followee) > (?1, ?2) ORDER BY f.follower, f.followee LIMIT ?3",
        [follower, followee, PORTION as i64],
        |row| {
            let follow = MovedFollow {
                id: FollowId(uuid(row, 2)?),
                follower: user_id(row, 3)?,
                followee: user_id(row, 4)?,
                created_at: time(row, 5)?,
                place: count(row, 6)?,
                sees_from: SeesFrom::Number(seq(row, 7)?),
                crowd: count(row, 8)?,
            };
            Ok(((number(row, 0)?, number(row, 1)?), follow))
        },
    )?;
    let mut found = Vec::with_capacity(rows.len());
    for (key, mut follow) in rows {
        if let SeesFrom::Number(from) = follow.sees_from {
            follow.sees_from = first_seen(store, key.1, from)?;
        }
        found.push((key, Some(Record::Follow(follow))));
    }
    portion(found)
}

/// The first post of an author that is seen from that number on.
fn first_seen(store: &Connection, author: i64, from: Seq) -> Result<SeesFrom, StorageError> {
    if from == Seq(0) {
        return Ok(SeesFrom::All);
    }
    let first = store.first(
        "SELECT id FROM posts WHERE author = ?1 AND deleted_at IS NULL AND seq >= ?2 ORDER BY seq LIMIT 1",
        [author, place(from)],
        |row| post_id(row, 0),
    )?;
    Ok(first.map_or(SeesFrom::New, SeesFrom::Post))
}

fn events(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    portion(store.all(
        "SELECT id, event, attempts, made_at, due_at FROM events WHERE id > ?1 ORDER BY id LIMIT ?2",
        [key(after, 0)?, PORTION as i64],
        |row| {
            let event = WaitingEvent {
                number: count(row, 0)?,
                event: row.get(1)?,
                attempts: row.get(2)?,
                made_at: time(row, 3)?,
                due_at: time(row, 4)?,
            };
            Ok((number(row, 0)?, Some(Record::Event(event))))
        },
    )?)
}

fn letters(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    portion(store.all(
        "SELECT id, event, error, attempts, buried_at FROM dead_letters WHERE id > ?1 ORDER BY id LIMIT ?2",
        [key(after, 0)?, PORTION as i64],
        |row| {
            let letter = MovedLetter {
                number: count(row, 0)?,
                event: row.get(1)?,
                error: row.get(2)?,
                attempts: row.get(3)?,
                buried_at: time(row, 4)?,
            };
            Ok((number(row, 0)?, Some(Record::Letter(letter))))
        },
    )?)
}
