//! Users: made, found, renamed. Names and addresses are unique by their lower-case keys, held by the
//! schema and looked up first so that a taken one is an answer and no fault. Logins: see `logins`.

use super::statement::{Statements, count, key_of, time, time_or_none, user_id, viewer_key};
use super::writer::Write;
use super::{Store, logins};
use crate::model::event::Change;
use crate::model::id::{LoginId, UserId};
use crate::model::timestamp::Timestamp;
use crate::model::user::{Email, Profile, User, Username};
use crate::storage::{
    Accounts, NewRefresh, NewUser, Pending, Refresh, Registration, Renaming, StorageError, TokenHash,
};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

/// A name's greatest length, as [`Username::parse`] has it.
const NAME_LENGTH: usize = 50;

impl Accounts for Store {
    fn register(&self, new: NewUser) -> Pending<Registration> {
        self.write(move |write| {
            let email = new.email.as_ref().map(Email::key);
            if exists(write.connection, "SELECT key FROM users WHERE email_key = ?1", email.as_deref())? {
                return Ok(Registration::EmailTaken);
            }
            if name_is_taken(write.connection, &new.username)? {
                return Ok(Registration::UsernameTaken);
            }
            make(write, &new).map(|(_, user)| Registration::Made(user))
        })
    }

    fn credentials(&self, email: Email) -> Pending<Option<(User, Option<String>)>> {
        self.read(move |store| {
            store.first(
                "SELECT id, username, email, created_at, updated_at, password_hash FROM users WHERE email_key = ?1",
                [email.key()],
                |row| Ok((user(row)?, row.get(5)?)),
            )
        })
    }

    fn user(&self, id: UserId) -> Pending<Option<User>> {
        self.read(move |store| {
            store.first(
                "SELECT id, username, email, created_at, updated_at FROM users WHERE id = ?1",
                [id.0.as_bytes()],
                user,
            )
        })
    }

    fn profile(&self, id: UserId, viewer: UserId) -> Pending<Option<Profile>> {
        self.read(move |store| {
            let viewer = viewer_key(store, viewer)?;
            store.first(concat!(profile_sql!(), "id = ?2"), params![viewer, id.0.as_bytes()], profile)
        })
    }

    fn profile_by_name(&self, name: String, viewer: UserId) -> Pending<Option<Profile>> {
        self.read(move |store| {
            let viewer = viewer_key(store, viewer)?;
            let key = name.to_ascii_lowercase();
            store.first(concat!(profile_sql!(), "username_key = ?2"), params![viewer, key], profile)
        })
    }

    fn rename(&self, id: UserId, name: Username, now: Timestamp) -> Pending<Renaming> {
        self.write(move |write| rename(write, id, &name, now))
    }

    fn outside_user(&self, issuer: String, subject: String, new: NewUser) -> Pending<User> {
        self.write(move |write| outside_user(write, &issuer, &subject, &new))
    }

    fn open_login(&self, login: LoginId, user: UserId, first: NewRefresh, now: Timestamp) -> Pending<()> {
        self.write(move |write| logins::open(write.connection, login, user, first, now))
    }

    fn refresh(&self, spend: TokenHash, next: NewRefresh, now: Timestamp) -> Pending<Refresh> {
        self.write(move |write| logins::refresh(write.connection, spend, next, now))
    }

    fn revoke_login(&self, login: LoginId, expires_at: Timestamp) -> Pending<()> {
        self.write(move |write| logins::revoke(write.connection, login, expires_at))
    }

    fn login_alive(&self, login: LoginId, now: Timestamp) -> Pending<bool> {
        self.read(move |store| logins::is_alive(store, login, now))
    }

    fn revoked_logins(&self, now: Timestamp) -> Pending<Vec<LoginId>> {
        self.read(move |store| logins::revoked(store, now))
    }
}

/// A profile as the viewer ?1 sees it.
macro_rules! profile_sql {
    () => {
        "SELECT id, username, email, created_at, updated_at, posts, followers, following,
            EXISTS (SELECT 1 FROM following f WHERE f.follower = ?1 AND f.followee = users.key)
         FROM users WHERE "
    };
}
use profile_sql;

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: user_id(row, 0)?,
        username: row.get(1)?,
        email: row.get(2)?,
        created_at: time(row, 3)?,
        updated_at: time_or_none(row, 4)?,
    })
}

fn profile(row: &Row<'_>) -> rusqlite::Result<Profile> {
    Ok(Profile {
        user: user(row)?,
        posts: count(row, 5)?,
        followers: count(row, 6)?,
        following: count(row, 7)?,
        is_following: row.get(8)?,
    })
}

fn exists(store: &Connection, sql: &str, key: Option<&str>) -> Result<bool, StorageError> {
    match key {
        Some(key) => Ok(store.first(sql, [key], |_| Ok(()))?.is_some()),
        None => Ok(false),
    }
}

fn name_is_taken(store: &Connection, name: &Username) -> Result<bool, StorageError> {
    exists(store, "SELECT key FROM users WHERE username_key = ?1", Some(&name.key()))
}

/// Makes a user whose name and address are known to be free.
fn make(write: &Write<'_>, new: &NewUser) -> Result<(i64, User), StorageError> {
    write.connection.change(
        "INSERT INTO users (id, email, email_key, username, username_key, password_hash, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            new.id.0.as_bytes(),
            new.email.as_ref().map(Email::as_str),
            new.email.as_ref().map(Email::key),
            new.username.as_str(),
            new.username.key(),
            new.password_hash,
            new.created_at.millis(),
        ],
    )?;
    let key = write.connection.last_insert_rowid();
    let user = User {
        id: new.id,
        username: new.username.as_str().to_owned(),
        email: new.email.as_ref().map(|email| email.as_str().to_owned()),
        created_at: new.created_at,
        updated_at: None,
    };
    write.publish(&Change::UserRegistered(&user), new.created_at)?;
    Ok((key, user))
}

fn rename(write: &Write<'_>, id: UserId, name: &Username, now: Timestamp) -> Result<Renaming, StorageError> {
    let Some(key) = key_of(write.connection, id)? else {
        return Ok(Renaming::Missing);
    };
    let owner =
        write.connection.first("SELECT key FROM users WHERE username_key = ?1", [name.key()], |row| {
            row.get::<_, i64>(0)
        })?;
    if owner.is_some_and(|owner| owner != key) {
        return Ok(Renaming::Taken);
    }
    let renamed = write.connection.first(
        "UPDATE users SET username = ?2, username_key = ?3, updated_at = ?4 WHERE key = ?1
         RETURNING id, username, email, created_at, updated_at",
        params![key, name.as_str(), name.key(), now.millis()],
        user,
    )?;
    let Some(renamed) = renamed else {
        return Ok(Renaming::Missing);
    };
    write.publish(&Change::ProfileUpdated(&renamed), now)?;
    Ok(Renaming::Done(renamed))
}

fn outside_user(write: &Write<'_>, issuer: &str, subject: &str, new: &NewUser) -> Result<User, StorageError> {
    let known = write.connection.first(
        "SELECT u.id, u.username, u.email, u.created_at, u.updated_at
         FROM outside_users o JOIN users u ON u.key = o.user WHERE o.issuer = ?1 AND o.subject = ?2",
        [issuer, subject],
        user,
    )?;
    if let Some(known) = known {
        return Ok(known);
    }
    let mut new = new.clone();
    new.username = free_name(write.connection, &new.username)?;
    let (key, user) = make(write, &new)?;
    write.connection.change(
        "INSERT INTO outside_users (issuer, subject, user) VALUES (?1, ?2, ?3)",
        params![issuer, subject, key],
    )?;
    Ok(user)
}

/// The name, or the name with a hyphen and a number that is free: of the first few one after the
/// other, then by chance among more and more, so that the thousandth `anna` costs no more than the tenth.
fn free_name(store: &Connection, wanted: &Username) -> Result<Username, StorageError> {
    let mut candidate = wanted.clone();
    let mut tried: u32 = 1;
    while name_is_taken(store, &candidate)? {
        tried += 1;
        let number = match tried {
            ..10 => u64::from(tried),
            // Ten times as many numbers after every second failure.
            _ => Uuid::new_v4().as_u64_pair().0 % 10_u64.pow((2 + (tried - 10) / 2).min(18)),
        };
        let suffix = format!("-{number}");
        let mut name = wanted.as_str().to_owned();
        name.truncate(NAME_LENGTH - suffix.len());
        candidate = Username::parse(&(name + &suffix))
            .map_err(|error| StorageError::Refused(format!("a name made of another: {error}")))?;
    }
    Ok(candidate)
}
