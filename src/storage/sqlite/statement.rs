//! How statements are run: each is prepared once a connection and kept; a fault of SQLite becomes a
//! [`StorageError`] here and nowhere else. Also how columns become words of the model.

use crate::model::cursor::Seq;
use crate::model::id::{PostId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row};
use uuid::Uuid;

/// Statements by their text.
pub(super) trait Statements {
    /// Changes rows; answers how many.
    fn change(&self, sql: &str, params: impl Params) -> Result<usize, StorageError>;
    /// The first row.
    fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StorageError>;
    /// All rows.
    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StorageError>;
}

impl Statements for Connection {
    fn change(&self, sql: &str, params: impl Params) -> Result<usize, StorageError> {
        Ok(self.prepare_cached(sql)?.execute(params)?)
    }

    fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StorageError> {
        Ok(self.prepare_cached(sql)?.query_row(params, read).optional()?)
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StorageError> {
        let mut statement = self.prepare_cached(sql)?;
        let rows = statement.query_map(params, read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // What an operator can mend, or time: everything else is a fault of ours or of the file.
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory,
            ) => Self::Unavailable(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// A number of `meta`.
pub(super) fn number_of(connection: &Connection, name: &str) -> Result<i64, StorageError> {
    connection
        .first("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))?
        .ok_or_else(|| StorageError::Refused(format!("meta has no {name}")))
}

/// The newest entry that this connection sees.
pub(super) fn head(connection: &Connection) -> Result<Seq, StorageError> {
    newest_of(connection, "entries").map(Seq)
}

/// The newest number that a table with AUTOINCREMENT gave, as far as this connection sees; 0 before the first.
pub(super) fn newest_of(connection: &Connection, table: &str) -> Result<u64, StorageError> {
    let newest =
        connection.first("SELECT seq FROM sqlite_sequence WHERE name = ?1", [table], |row| count(row, 0))?;
    Ok(newest.unwrap_or_default())
}

/// The key of a user inside the store.
pub(super) fn key_of(connection: &Connection, id: UserId) -> Result<Option<i64>, StorageError> {
    connection.first("SELECT key FROM users WHERE id = ?1", [id.0.as_bytes()], |row| row.get(0))
}

/// The key of one who looks, who need not be a user here: nobody has the key 0.
pub(super) fn viewer_key(connection: &Connection, id: UserId) -> Result<i64, StorageError> {
    Ok(key_of(connection, id)?.unwrap_or(0))
}

/// A `LIMIT` or `OFFSET`.
pub(super) fn rows(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The place behind which a list goes on, newest first.
pub(super) fn before(place: Option<u64>) -> i64 {
    place.and_then(|place| i64::try_from(place).ok()).unwrap_or(i64::MAX)
}

/// A [`Seq`] as SQLite counts: it numbers by signed integers, upwards from 1.
pub(super) fn place(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

/// A column that is a UUID.
pub(super) fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get(column).map(Uuid::from_bytes)
}

/// A column that is a user's id.
pub(super) fn user_id(row: &Row<'_>, column: usize) -> rusqlite::Result<UserId> {
    uuid(row, column).map(UserId)
}

/// A column that is a post's id.
pub(super) fn post_id(row: &Row<'_>, column: usize) -> rusqlite::Result<PostId> {
    uuid(row, column).map(PostId)
}

/// A column that is a moment.
pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

/// A column that is a moment, or empty.
pub(super) fn time_or_none(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// A column that counts or numbers something, never below 0.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let count: i64 = row.get(column)?;
    u64::try_from(count).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, count))
}

/// A column that is the number of an entry.
pub(super) fn seq(row: &Row<'_>, column: usize) -> rusqlite::Result<Seq> {
    count(row, column).map(Seq)
}
