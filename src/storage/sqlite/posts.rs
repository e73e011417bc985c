//! Posts, keys and likes. A post, its entry, its author's counts, the job of its delivery and its key
//! are one write; so is everything else that changes together.

use super::Store;
use super::entries::entry;
use super::statement::{
    Statements, before, count, key_of, place, post_id, rows, seq, time, user_id, uuid, viewer_key,
};
use super::writer::Write;
use crate::model::cursor::Seq;
use crate::model::event::Change;
use crate::model::id::{LikeId, PostId, UserId};
use crate::model::post::{Content, Post, PostView};
use crate::model::social::Like;
use crate::model::timestamp::Timestamp;
use crate::storage::{
    Appended, Deletion, Entry, EntryChange, KEY_AGE, KeyUse, Liking, Listed, NewPost, Page, Pending, Posts,
    StorageError,
};
use rusqlite::{Connection, Row, params};

impl Posts for Store {
    fn newest_id(&self, author: UserId) -> Pending<Option<PostId>> {
        self.write(move |write| {
            write.connection.first(
                "SELECT newest_post_id FROM users WHERE id = ?1 AND newest_post_id IS NOT NULL",
                [author.0.as_bytes()],
                |row| post_id(row, 0),
            )
        })
    }

    fn append(&self, post: NewPost) -> Pending<Appended> {
        self.write(move |write| append(write, &post))
    }

    fn keyed(&self, user: UserId, key: String, now: Timestamp) -> Pending<Option<KeyUse>> {
        self.read(move |store| match key_of(store, user)? {
            Some(owner) => key_use(store, (owner, user), &key, now),
            None => Ok(None),
        })
    }

    fn delete(&self, author: UserId, id: PostId, now: Timestamp) -> Pending<Deletion> {
        self.write(move |write| delete(write, author, id, now))
    }

    fn post(&self, id: PostId, viewer: UserId) -> Pending<Option<PostView>> {
        self.read(move |store| post_by_id(store, id, viewer_key(store, viewer)?))
    }

    fn posts(&self, ids: Vec<PostId>, viewer: UserId) -> Pending<Vec<PostView>> {
        self.read(move |store| {
            let viewer = viewer_key(store, viewer)?;
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                found.extend(post_by_id(store, id, viewer)?);
            }
            Ok(found)
        })
    }

    fn by_author(&self, author: UserId, viewer: UserId, page: Page) -> Pending<Option<Listed<PostView>>> {
        self.read(move |store| by_author(store, author, viewer, page))
    }

    fn like(&self, like: Like) -> Pending<Liking> {
        self.write(move |write| self::like(write, &like))
    }

    fn unlike(&self, user: UserId, post: PostId, now: Timestamp) -> Pending<bool> {
        self.write(move |write| unlike(write, user, post, now))
    }

    fn entries(&self, mut seqs: Vec<Seq>) -> Pending<Vec<Entry>> {
        seqs.sort_unstable();
        self.write(move |write| {
            let mut found = Vec::with_capacity(seqs.len());
            for seq in &seqs {
                found.extend(entry(write.connection, *seq)?);
            }
            Ok(found)
        })
    }
}

/// Living posts as the viewer ?1 sees them.
macro_rules! view_sql {
    () => {
        "SELECT p.seq, p.id, u.id, p.content, p.likes, p.created_at, u.username,
            EXISTS (SELECT 1 FROM likes l WHERE l.post = p.seq AND l.user = ?1)
         FROM posts p JOIN users u ON u.key = p.author WHERE p.deleted_at IS NULL AND "
    };
}

/// The living post at a place, as the viewer of that key sees it.
pub(super) fn post_at(store: &Connection, seq: Seq, viewer: i64) -> Result<Option<PostView>, StorageError> {
    store.first(concat!(view_sql!(), "p.seq = ?2"), params![viewer, place(seq)], view)
}

fn post_by_id(store: &Connection, id: PostId, viewer: i64) -> Result<Option<PostView>, StorageError> {
    store.first(concat!(view_sql!(), "p.id = ?2"), params![viewer, id.0.as_bytes()], view)
}

fn view(row: &Row<'_>) -> rusqlite::Result<PostView> {
    Ok(PostView {
        post: Post {
            id: post_id(row, 1)?,
            author: user_id(row, 2)?,
            content: Content::stored(row.get(3)?),
            likes: count(row, 4)?,
            created_at: time(row, 5)?,
        },
        author_name: row.get(6)?,
        is_liked: row.get(7)?,
    })
}

fn by_author(
    store: &Connection,
    author: UserId,
    viewer: UserId,
    page: Page,
) -> Result<Option<Listed<PostView>>, StorageError> {
    let viewer = viewer_key(store, viewer)?;
    let author = store.first("SELECT key, posts FROM users WHERE id = ?1", [author.0.as_bytes()], |row| {
        Ok((row.get::<_, i64>(0)?, count(row, 1)?))
    })?;
    let Some((author, total)) = author else {
        return Ok(None);
    };
    let items = store.all(
        concat!(view_sql!(), "p.author = ?2 AND p.seq < ?3 ORDER BY p.seq DESC LIMIT ?4"),
        params![viewer, author, before(page.before), rows(page.limit)],
        |row| Ok((count(row, 0)?, view(row)?)),
    )?;
    Ok(Some(Listed { items, total }))
}

fn append(write: &mut Write<'_>, new: &NewPost) -> Result<Appended, StorageError> {
    let author = write.connection.first(
        "SELECT key, username, newest_post_id FROM users WHERE id = ?1",
        [new.author.0.as_bytes()],
        |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, Option<[u8; 16]>>(2)?)),
    )?;
    let Some((author, author_name, newest)) = author else {
        return Ok(Appended::NoAuthor);
    };
    if let Some(key) = &new.key
        && let Some(used) = key_use(write.connection, (author, new.author), &key.key, new.created_at)?
    {
        return Ok(Appended::Repeated(used));
    }
    let id = new.id.0.as_bytes();
    if newest.is_some_and(|newest| newest >= *id) {
        return Err(StorageError::Refused(
            "the post's id is not greater than its author's newest".to_owned(),
        ));
    }
    let seq = write.enter((author, new.author), None, new.created_at)?;
    write.connection.change(
        "INSERT INTO posts (seq, id, author, content, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![place(seq), id, author, new.content.as_str(), new.created_at.millis()],
    )?;
    write.connection.change(
        "UPDATE users SET posts = posts + 1, newest_post_id = ?2, newest_seq = ?3 WHERE key = ?1",
        params![author, id, place(seq)],
    )?;
    if let Some(key) = &new.key {
        // A key that is older than it is kept, and not swept yet, is overwritten.
        write.connection.change(
            "INSERT OR REPLACE INTO idempotency_keys (user, key, body, post, content, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![author, key.key, key.body, id, new.content.as_str(), new.created_at.millis()],
        )?;
    }
    let post = Post {
        id: new.id,
        author: new.author,
        content: new.content.clone(),
        likes: 0,
        created_at: new.created_at,
    };
    write.publish(&Change::PostCreated(&post), new.created_at)?;
    Ok(Appended::Stored(Entry { seq, change: EntryChange::Posted { post, author_name } }))
}

/// What a user's key was used for within [`KEY_AGE`] before `now`.
fn key_use(
    store: &Connection,
    (owner, user): (i64, UserId),
    key: &str,
    now: Timestamp,
) -> Result<Option<KeyUse>, StorageError> {
    store.first(
        "SELECT body, post, content, created_at FROM idempotency_keys
         WHERE user = ?1 AND key = ?2 AND created_at >= ?3",
        params![owner, key, now.before(KEY_AGE).millis()],
        |row| {
            let post = Post {
                id: post_id(row, 1)?,
                author: user,
                content: Content::stored(row.get(2)?),
                likes: 0,
                created_at: time(row, 3)?,
            };
            Ok(KeyUse { body: row.get(0)?, post })
        },
    )
}

fn delete(
    write: &mut Write<'_>,
    author: UserId,
    id: PostId,
    now: Timestamp,
) -> Result<Deletion, StorageError> {
    let post = write.connection.first(
        "SELECT p.seq, p.author, u.id FROM posts p JOIN users u ON u.key = p.author
         WHERE p.id = ?1 AND p.deleted_at IS NULL",
        [id.0.as_bytes()],
        |row| Ok((seq(row, 0)?, row.get::<_, i64>(1)?, user_id(row, 2)?)),
    )?;
    let Some((post, key, owner)) = post else {
        return Ok(Deletion::Missing);
    };
    if owner != author {
        return Ok(Deletion::Forbidden);
    }
    let seq = write.enter((key, author), Some(post), now)?;
    write.connection.change(
        "UPDATE posts SET content = '', deleted_at = ?2 WHERE seq = ?1",
        params![place(post), now.millis()],
    )?;
    write.connection.change("UPDATE users SET posts = posts - 1 WHERE key = ?1", [key])?;
    write.publish(&Change::PostDeleted { id, author }, now)?;
    Ok(Deletion::Done(Entry { seq, change: EntryChange::Deleted { id, author, deleted_at: now } }))
}

/// The key of a living post.
fn living(store: &Connection, id: PostId) -> Result<Option<i64>, StorageError> {
    store.first("SELECT seq FROM posts WHERE id = ?1 AND deleted_at IS NULL", [id.0.as_bytes()], |row| {
        row.get(0)
    })
}

fn like(write: &Write<'_>, like: &Like) -> Result<Liking, StorageError> {
    let Some(post) = living(write.connection, like.post)? else {
        return Ok(Liking::Missing);
    };
    let Some(user) = key_of(write.connection, like.user)? else {
        return Err(StorageError::Refused("a like of nobody".to_owned()));
    };
    let made = write.connection.change(
        "INSERT INTO likes (post, user, id, created_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (post, user) DO NOTHING",
        params![post, user, like.id.0.as_bytes(), like.created_at.millis()],
    )?;
    if made == 0 {
        return Ok(Liking::Already);
    }
    write.connection.change("UPDATE posts SET likes = likes + 1 WHERE seq = ?1", [post])?;
    write.publish(&Change::LikeCreated(like), like.created_at)?;
    Ok(Liking::Done)
}

fn unlike(write: &Write<'_>, user: UserId, id: PostId, now: Timestamp) -> Result<bool, StorageError> {
    let (Some(post), Some(key)) = (living(write.connection, id)?, key_of(write.connection, user)?) else {
        return Ok(false);
    };
    let gone = write.connection.first(
        "DELETE FROM likes WHERE post = ?1 AND user = ?2 RETURNING id, created_at",
        params![post, key],
        |row| Ok(Like { id: LikeId(uuid(row, 0)?), user, post: id, created_at: time(row, 1)? }),
    )?;
    let Some(like) = gone else { return Ok(false) };
    write.connection.change("UPDATE posts SET likes = likes - 1 WHERE seq = ?1", [post])?;
    write.publish(&Change::LikeDeleted(&like), now)?;
    Ok(true)
}
