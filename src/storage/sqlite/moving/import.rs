//! Moving in: a portion's rows and how far the copy is are one write.

use super::super::Store;
use super::super::statement::{Statements, place};
use super::{chat, note, room, unfinished};
use crate::model::timestamp::Timestamp;
use crate::storage::moving::{
    Import, Kind, MovedAuthor, MovedFollow, MovedLetter, MovedPost, MovedUser, Numbering, Progress, Record,
    SeesFrom, WaitingEvent,
};
use crate::storage::{Pending, StorageError, TIMELINE_AGE};
use rusqlite::{Connection, params};

impl Import for Store {
    fn unfinished(&self) -> Pending<Option<Progress>> {
        self.read(unfinished)
    }

    fn is_empty(&self) -> Pending<bool> {
        self.read(|store| {
            let found = store.first(
                "SELECT EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM logins)
                    OR EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM dead_letters)",
                [],
                |row| row.get::<_, bool>(0),
            )?;
            Ok(found == Some(false))
        })
    }

    fn note(&self, progress: Progress) -> Pending<()> {
        self.write(move |write| note(write.connection, &progress))
    }

    fn take(&self, records: Vec<Record>, _: Numbering, progress: Progress) -> Pending<Progress> {
        self.write(move |write| {
            for record in &records {
                keep(write.connection, record)?;
            }
            note(write.connection, &progress)?;
            Ok(progress.clone())
        })
    }

    fn settle(&self, _: Option<String>) -> Pending<Option<String>> {
        self.write(|write| settle(write.connection).map(|()| None))
    }

    fn finish(&self) -> Pending<()> {
        self.write(|write| {
            let ended = "DROP TABLE IF EXISTS unfinished_copy; DROP TABLE IF EXISTS unfinished_copy_seen";
            Ok(write.connection.execute_batch(ended)?)
        })
    }

    fn keeps(&self, kind: Kind) -> bool {
        !matches!(kind, Kind::Inboxes | Kind::InboxEvents)
    }
}

fn keep(store: &Connection, record: &Record) -> Result<(), StorageError> {
    match record {
        Record::User(user) => keep_user(store, user)?,
        Record::Outsider(outsider) => {
            store.change(
                "INSERT OR IGNORE INTO outside_users (issuer, subject, user)
                 SELECT ?1, ?2, key FROM users WHERE id = ?3",
                params![outsider.issuer, outsider.subject, outsider.user.0.as_bytes()],
            )?;
        }
        Record::Login(login) => {
            let times = (login.created_at.millis(), login.expires_at.millis());
            store.change(
                "INSERT OR IGNORE INTO logins (id, user, created_at, expires_at)
                 SELECT ?1, key, ?3, ?4 FROM users WHERE id = ?2",
                params![login.id.0.as_bytes(), login.user.0.as_bytes(), times.0, times.1],
            )?;
        }
        Record::Ended(login) => super::super::logins::revoke(store, login.id, login.expires_at)?,
        Record::Token(token) => {
            store.change(
                "INSERT OR IGNORE INTO refresh_tokens (hash, login, expires_at, spent) VALUES (?1, ?2, ?3, ?4)",
                params![token.hash, token.login.0.as_bytes(), token.expires_at.millis(), token.is_spent],
            )?;
        }
        Record::Key(key) => {
            store.change(
                "INSERT OR IGNORE INTO idempotency_keys (user, key, body, post, content, created_at)
                 SELECT key, ?2, ?3, ?4, ?5, ?6 FROM users WHERE id = ?1",
                params![
                    key.user.0.as_bytes(),
                    key.key,
                    key.body,
                    key.post.0.as_bytes(),
                    key.content,
                    key.created_at.millis()
                ],
            )?;
        }
        Record::Post(post) => keep_post(store, post)?,
        Record::Like(like) => {
            store.change(
                "INSERT OR IGNORE INTO likes (post, user, id, created_at)
                 SELECT p.seq, u.key, ?3, ?4 FROM posts p, users u WHERE p.id = ?1 AND u.id = ?2",
                params![
                    like.post.0.as_bytes(),
                    like.user.0.as_bytes(),
                    like.id.0.as_bytes(),
                    like.created_at.millis()
                ],
            )?;
        }
        Record::Follow(follow) => keep_follow(store, follow)?,
        Record::Conversation(conversation) => chat::keep_conversation(store, conversation)?,
        Record::Member(member) => chat::keep_member(store, member)?,
        Record::Message(message) => chat::keep_message(store, message)?,
        Record::ChatKey(key) => chat::keep_key(store, key)?,
        Record::Inbox(inbox) => chat::keep_inbox(store, inbox)?,
        Record::InboxEvent(event) => chat::keep_inbox_event(store, event)?,
        Record::Room(moved) => room::keep_room(store, moved)?,
        Record::Effect(moved) => room::keep_effect(store, moved)?,
        Record::Presses(moved) => room::keep_presses(store, moved)?,
        Record::Author(author) => keep_author(store, author)?,
        Record::Event(event) => keep_event(store, event)?,
        Record::Letter(letter) => keep_letter(store, letter)?,
    }
    Ok(())
}

fn keep_user(store: &Connection, user: &MovedUser) -> Result<(), StorageError> {
    store.change(
        "INSERT OR IGNORE INTO users
            (id, email, email_key, username, username_key, password_hash, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            user.id.0.as_bytes(),
            user.email,
            user.email.as_ref().map(|email| email.to_lowercase()),
            user.username,
            user.username.to_ascii_lowercase(),
            user.password_hash,
            user.created_at.millis(),
            user.updated_at.map(Timestamp::millis),
        ],
    )?;
    Ok(())
}

fn keep_post(store: &Connection, post: &MovedPost) -> Result<(), StorageError> {
    let (number, author) = (place(post.number), post.author.0.as_bytes());
    store.change(
        "INSERT OR IGNORE INTO posts (seq, id, author, content, created_at)
         SELECT ?1, ?2, key, ?4, ?5 FROM users WHERE id = ?3",
        params![number, post.id.0.as_bytes(), author, post.content, post.created_at.millis()],
    )?;
    // Older ones would be swept: no timeline has them, and no cursor is so old.
    if post.created_at > Timestamp::now().before(TIMELINE_AGE) {
        store.change(
            "INSERT OR IGNORE INTO entries (seq, author, at) SELECT ?1, key, ?3 FROM users WHERE id = ?2",
            params![number, author, post.created_at.millis()],
        )?;
    }
    Ok(())
}

fn keep_follow(store: &Connection, follow: &MovedFollow) -> Result<(), StorageError> {
    let sees_from = match follow.sees_from {
        SeesFrom::All => Some(0),
        SeesFrom::Number(number) => Some(place(number)),
        SeesFrom::Post(post) => {
            store.first("SELECT seq FROM posts WHERE id = ?1", [post.0.as_bytes()], |row| row.get(0))?
        }
        SeesFrom::New => store.first("SELECT coalesce(max(seq), 0) + 1 FROM posts", [], |row| row.get(0))?,
    };
    let sees_from: i64 = sees_from.unwrap_or(0);
    // Behind no cursor of this store lies anything that was moved: `since` tells nothing but that.
    store.change(
        "INSERT OR IGNORE INTO following (follower, followee, id, created_at, since, sees_from, place)
         SELECT r.key, e.key, ?3, ?4, ?5, ?6, ?7 FROM users r, users e WHERE r.id = ?1 AND e.id = ?2",
        params![
            follow.follower.0.as_bytes(),
            follow.followee.0.as_bytes(),
            follow.id.0.as_bytes(),
            follow.created_at.millis(),
            (sees_from - 1).max(0),
            sees_from,
            i64::try_from(follow.place).unwrap_or(i64::MAX),
        ],
    )?;
    Ok(())
}

fn keep_author(store: &Connection, author: &MovedAuthor) -> Result<(), StorageError> {
    store.change(
        "UPDATE users SET newest_post_id = ?2 WHERE id = ?1",
        params![author.id.0.as_bytes(), author.newest.map(|post| post.0.into_bytes())],
    )?;
    Ok(())
}

fn keep_event(store: &Connection, event: &WaitingEvent) -> Result<(), StorageError> {
    store.change(
        "INSERT OR IGNORE INTO events (id, event, attempts, made_at, due_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            i64::try_from(event.number).unwrap_or(i64::MAX),
            event.event,
            event.attempts,
            event.made_at.millis(),
            event.due_at.millis()
        ],
    )?;
    Ok(())
}

fn keep_letter(store: &Connection, letter: &MovedLetter) -> Result<(), StorageError> {
    store.change(
        "INSERT OR IGNORE INTO dead_letters (id, event, error, attempts, buried_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            i64::try_from(letter.number).unwrap_or(i64::MAX),
            letter.event,
            letter.error,
            letter.attempts,
            letter.buried_at.millis()
        ],
    )?;
    Ok(())
}

/// Counts what is there; and what comes next counts on behind it.
fn settle(store: &Connection) -> Result<(), StorageError> {
    store.change("UPDATE posts SET likes = (SELECT count(*) FROM likes WHERE likes.post = posts.seq)", [])?;
    store.change(
        "UPDATE users SET
            posts = (SELECT count(*) FROM posts WHERE author = users.key AND deleted_at IS NULL),
            newest_seq = (SELECT max(seq) FROM posts WHERE author = users.key AND deleted_at IS NULL),
            followers = (SELECT count(*) FROM following WHERE followee = users.key),
            following = (SELECT count(*) FROM following WHERE follower = users.key)",
        [],
    )?;
    store.change(
        "UPDATE meta SET value = (SELECT coalesce(max(place), 0) FROM following) WHERE name = 'follow_place'",
        [],
    )?;
    chat::settle(store)?;
    store.change("DELETE FROM sqlite_sequence WHERE name = 'entries'", [])?;
    store.change(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'entries', coalesce(max(seq), 0) FROM posts",
        [],
    )?;
    Ok(())
}
