//! Who follows whom. Both counts change in the write of the row; lists go by the follow's place, a
//! number that grows with every follow.

use super::Store;
use super::statement::{Statements, before, count, head, key_of, place, rows, seq, time, user_id, uuid};
use super::writer::Write;
use crate::model::cursor::Seq;
use crate::model::event::Change;
use crate::model::id::{FollowId, UserId};
use crate::model::social::Follow;
use crate::model::timestamp::Timestamp;
use crate::model::user::Named;
use crate::storage::{BACKFILL_POSTS, Followed, Graph, Listed, Page, Pending, StorageError};
use rusqlite::{Connection, params};
use std::future::ready;

impl Graph for Store {
    fn follow(&self, follow: Follow, max: u64) -> Pending<Followed> {
        self.write(move |write| self::follow(write, &follow, max))
    }

    fn follow_told(&self, _: FollowId) -> Pending<()> {
        // Of a node alone: every follow is told before it is answered.
        Box::pin(ready(Ok(())))
    }

    fn unfollow(&self, follower: UserId, followee: UserId, now: Timestamp) -> Pending<Option<Follow>> {
        self.write(move |write| unfollow(write, follower, followee, now))
    }

    fn followers(&self, user: UserId, page: Page) -> Pending<Option<Listed<Named>>> {
        self.read(move |store| {
            listed(
                store,
                user,
                page,
                "SELECT key, followers FROM users WHERE id = ?1",
                "SELECT f.place, u.id, u.username FROM following f JOIN users u ON u.key = f.follower
                 WHERE f.followee = ?1 AND f.place < ?2 ORDER BY f.place DESC LIMIT ?3",
            )
        })
    }

    fn following(&self, user: UserId, page: Page) -> Pending<Option<Listed<Named>>> {
        self.read(move |store| {
            listed(
                store,
                user,
                page,
                "SELECT key, following FROM users WHERE id = ?1",
                "SELECT f.place, u.id, u.username FROM following f JOIN users u ON u.key = f.followee
                 WHERE f.follower = ?1 AND f.place < ?2 ORDER BY f.place DESC LIMIT ?3",
            )
        })
    }

    fn followees(&self, user: UserId) -> Pending<Vec<(UserId, Seq)>> {
        self.read(move |store| match key_of(store, user)? {
            Some(key) => store.all(
                "SELECT u.id, f.since FROM following f JOIN users u ON u.key = f.followee WHERE f.follower = ?1",
                [key],
                |row| Ok((user_id(row, 0)?, seq(row, 1)?)),
            ),
            None => Ok(Vec::new()),
        })
    }
}

fn listed(
    store: &Connection,
    user: UserId,
    page: Page,
    counted: &str,
    list: &str,
) -> Result<Option<Listed<Named>>, StorageError> {
    let user =
        store.first(counted, [user.0.as_bytes()], |row| Ok((row.get::<_, i64>(0)?, count(row, 1)?)))?;
    let Some((user, total)) = user else {
        return Ok(None);
    };
    let items = store.all(list, params![user, before(page.before), rows(page.limit)], |row| {
        Ok((count(row, 0)?, Named { id: user_id(row, 1)?, username: row.get(2)? }))
    })?;
    Ok(Some(Listed { items, total }))
}

fn follow(write: &Write<'_>, follow: &Follow, max: u64) -> Result<Followed, StorageError> {
    let store = write.connection;
    let Some(followee) = key_of(store, follow.followee)? else {
        return Ok(Followed::Missing);
    };
    let follower = store.first(
        "SELECT key, following FROM users WHERE id = ?1",
        [follow.follower.0.as_bytes()],
        |row| Ok((row.get::<_, i64>(0)?, count(row, 1)?)),
    )?;
    let Some((follower, following)) = follower else {
        return Err(StorageError::Refused("a follow by nobody".to_owned()));
    };
    let already = store.first(
        "SELECT created_at FROM following WHERE follower = ?1 AND followee = ?2",
        [follower, followee],
        |row| row.get(0),
    )?;
    if let Some(since) = already {
        return Ok(Followed::Already { since: Timestamp::from_millis(since) });
    }
    if following >= max {
        return Ok(Followed::TooMany);
    }
    let since = head(store)?;
    // With fewer posts than that the follow sees all of them.
    let sees_from = store.first(
        "SELECT seq FROM posts WHERE author = ?1 AND deleted_at IS NULL ORDER BY seq DESC LIMIT 1 OFFSET ?2",
        [followee, rows(BACKFILL_POSTS - 1)],
        |row| row.get::<_, i64>(0),
    )?;
    let stands_at: Option<i64> = store.first(
        "UPDATE meta SET value = value + 1 WHERE name = 'follow_place' RETURNING value",
        [],
        |row| row.get(0),
    )?;
    store.change(
        "INSERT INTO following (follower, followee, id, created_at, since, sees_from, place)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            follower,
            followee,
            follow.id.0.as_bytes(),
            follow.created_at.millis(),
            place(since),
            sees_from.unwrap_or(0),
            stands_at,
        ],
    )?;
    store.change("UPDATE users SET following = following + 1 WHERE key = ?1", [follower])?;
    store.change("UPDATE users SET followers = followers + 1 WHERE key = ?1", [followee])?;
    write.publish(&Change::FollowCreated(follow), follow.created_at)?;
    Ok(Followed::Done { since })
}

fn unfollow(
    write: &Write<'_>,
    follower: UserId,
    followee: UserId,
    now: Timestamp,
) -> Result<Option<Follow>, StorageError> {
    let store = write.connection;
    let (Some(from), Some(to)) = (key_of(store, follower)?, key_of(store, followee)?) else {
        return Ok(None);
    };
    let gone = store.first(
        "DELETE FROM following WHERE follower = ?1 AND followee = ?2 RETURNING id, created_at",
        [from, to],
        |row| Ok(Follow { id: FollowId(uuid(row, 0)?), follower, followee, created_at: time(row, 1)? }),
    )?;
    let Some(follow) = gone else { return Ok(None) };
    store.change("UPDATE users SET following = following - 1 WHERE key = ?1", [from])?;
    store.change("UPDATE users SET followers = followers - 1 WHERE key = ?1", [to])?;
    write.publish(&Change::FollowDeleted(&follow), now)?;
    Ok(Some(follow))
}
