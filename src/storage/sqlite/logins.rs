//! Logins and their refresh tokens. A token is known by its SHA-256 alone. A login that the store never
//! began, an outside issuer's, has a row only once it is revoked.

use super::statement::{Statements, key_of, time, user_id, uuid};
use crate::model::id::{LoginId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::{NewRefresh, Refresh, StorageError, TokenHash};
use rusqlite::{Connection, params};

/// Begins a login with its first token.
pub(super) fn open(
    store: &Connection,
    login: LoginId,
    user: UserId,
    first: NewRefresh,
    now: Timestamp,
) -> Result<(), StorageError> {
    let Some(user) = key_of(store, user)? else {
        return Err(StorageError::Refused("a login of nobody".to_owned()));
    };
    store.change(
        "INSERT INTO logins (id, user, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)",
        params![login.0.as_bytes(), user, now.millis(), first.expires_at.millis()],
    )?;
    keep(store, login, first)
}

/// Spends a token for the next, or finds it used again.
pub(super) fn refresh(
    store: &Connection,
    spend: TokenHash,
    next: NewRefresh,
    now: Timestamp,
) -> Result<Refresh, StorageError> {
    let token = store.first(
        "SELECT t.login, u.id, t.spent, t.expires_at, l.revoked
         FROM refresh_tokens t JOIN logins l ON l.id = t.login JOIN users u ON u.key = l.user
         WHERE t.hash = ?1",
        [spend],
        |row| {
            Ok((
                LoginId(uuid(row, 0)?),
                user_id(row, 1)?,
                row.get::<_, bool>(2)?,
                time(row, 3)?,
                row.get::<_, bool>(4)?,
            ))
        },
    )?;
    match token {
        None | Some((.., true)) => Ok(Refresh::Refused),
        Some((_, _, _, expires_at, _)) if expires_at <= now => Ok(Refresh::Refused),
        Some((login, _, true, ..)) => {
            store.change("UPDATE logins SET revoked = 1 WHERE id = ?1", [login.0.as_bytes()])?;
            Ok(Refresh::Reused { login })
        }
        Some((login, user, ..)) => {
            store.change("UPDATE refresh_tokens SET spent = 1 WHERE hash = ?1", [spend])?;
            store.change(
                "UPDATE logins SET expires_at = max(expires_at, ?2) WHERE id = ?1",
                params![login.0.as_bytes(), next.expires_at.millis()],
            )?;
            keep(store, login, next)?;
            Ok(Refresh::Rotated { login, user })
        }
    }
}

/// Ends a login, also one that was never begun here.
pub(super) fn revoke(store: &Connection, login: LoginId, expires_at: Timestamp) -> Result<(), StorageError> {
    store.change(
        "INSERT INTO logins (id, expires_at, revoked) VALUES (?1, ?2, 1)
         ON CONFLICT (id) DO UPDATE SET revoked = 1, expires_at = max(expires_at, excluded.expires_at)",
        params![login.0.as_bytes(), expires_at.millis()],
    )?;
    Ok(())
}

/// Whether it was begun here and goes on.
pub(super) fn is_alive(store: &Connection, login: LoginId, now: Timestamp) -> Result<bool, StorageError> {
    let alive = store.first(
        "SELECT 1 FROM logins WHERE id = ?1 AND user IS NOT NULL AND revoked = 0 AND expires_at > ?2",
        params![login.0.as_bytes(), now.millis()],
        |_| Ok(()),
    )?;
    Ok(alive.is_some())
}

/// All that were revoked and would still go on.
pub(super) fn revoked(store: &Connection, now: Timestamp) -> Result<Vec<LoginId>, StorageError> {
    store.all("SELECT id FROM logins WHERE revoked = 1 AND expires_at > ?1", [now.millis()], |row| {
        uuid(row, 0).map(LoginId)
    })
}

fn keep(store: &Connection, login: LoginId, token: NewRefresh) -> Result<(), StorageError> {
    store.change(
        "INSERT INTO refresh_tokens (hash, login, expires_at) VALUES (?1, ?2, ?3)",
        params![token.hash, login.0.as_bytes(), token.expires_at.millis()],
    )?;
    Ok(())
}
