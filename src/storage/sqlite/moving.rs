//! Moving out of a database, and into one. Its numbers are kept as they come: those of a cluster's store are stamps,
//! greater than any that were counted, and what comes after them counts on.
//!
//! A database that is being moved into has the table `unfinished_copy`; as long as that is there no server opens it. Beside it
//! `unfinished_copy_seen` holds which events were written to live streams, of inboxes that numbered them otherwise.

mod chat;
mod export;
mod import;
mod room;

use super::Store;
use super::file::{self, OpenError};
use super::statement::Statements;
use crate::storage::StorageError;
use crate::storage::moving::Progress;
use rusqlite::Connection;

impl Store {
    /// Opens a store to move into it: one that holds an unfinished copy too.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_target(options: super::Options) -> Result<Self, OpenError> {
        Self::open_if(options, |_, _| Ok(()))
    }
}

/// Whether it holds a copy that is not whole.
pub(super) fn is_unfinished(store: &Connection) -> rusqlite::Result<bool> {
    store.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'unfinished_copy')",
        [],
        |row| row.get(0),
    )
}

fn unfinished(store: &Connection) -> Result<Option<Progress>, StorageError> {
    if !is_unfinished(store)? {
        return Ok(None);
    }
    let noted = store.first("SELECT progress FROM unfinished_copy", [], |row| row.get::<_, String>(0))?;
    let progress = noted.map(|text| serde_json::from_str(&text)).transpose();
    progress.map_err(|error| StorageError::Refused(format!("an unfinished copy cannot be read: {error}")))
}

fn note(store: &Connection, progress: &Progress) -> Result<(), StorageError> {
    let text = serde_json::to_string(progress).map_err(|error| StorageError::Refused(error.to_string()))?;
    store.execute_batch(
        "CREATE TABLE IF NOT EXISTS unfinished_copy (one INTEGER PRIMARY KEY CHECK (one = 1), progress TEXT NOT NULL) STRICT;
         CREATE TABLE IF NOT EXISTS unfinished_copy_seen
            (user INTEGER NOT NULL, message BLOB NOT NULL, PRIMARY KEY (user, message)) STRICT, WITHOUT ROWID",
    )?;
    store.change("INSERT OR REPLACE INTO unfinished_copy (one, progress) VALUES (1, ?1)", [text])?;
    Ok(())
}

/// A file to be opened by a server is whole.
pub(super) fn check_whole(store: &Connection, file: &std::path::Path) -> Result<(), OpenError> {
    match is_unfinished(store) {
        Ok(false) => Ok(()),
        Ok(true) => Err(OpenError::HalfCopied { file: file.to_owned() }),
        Err(error) => Err(file::told(file, &error)),
    }
}
