//! Moving out of a keyspace, and into one.
//!
//! Moving out reads each table around the ring: by the token of its partitions, which is where the next portion goes
//! on. Moving in writes claims as if transactions had made them, with a time that is older than that of any
//! transaction to come; so it may write them again, and nobody else may use the store meanwhile. The row in
//! `unfinished_copies` keeps servers out until all is there.

mod chat;
mod export;
mod import;
mod ring;
mod room;
mod settle;

use super::cql::statements;
use super::stamp;
use super::{Inner, OpenError, Options, Store};
use crate::model::shard::Shard;
use crate::storage::StorageError;
use crate::storage::moving::Progress;
use std::sync::Arc;

/// When claims were written that were moved here: before everything.
const MOVED_AT: i64 = 1;

statements! {
    /// What keeps servers out.
    Marks {
        read: Read, "SELECT progress FROM unfinished_copies WHERE name = 'copy'";
        note: Write, "INSERT INTO unfinished_copies (name, progress) VALUES ('copy', ?) USING TIMESTAMP ?";
        remove: Write, "DELETE FROM unfinished_copies USING TIMESTAMP ? WHERE name = 'copy'";
    }
}

/// A store that is moved out of or into.
pub struct Mover(Arc<Parts>);

struct Parts {
    store: Store,
    marks: Marks,
    chat: chat::Statements,
    room: room::Statements,
    scans: export::Statements,
    rows: import::Statements,
    counts: settle::Statements,
}

impl Store {
    /// Opens a store to move into it: one that holds an unfinished copy too.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_target(options: Options) -> Result<Self, OpenError> {
        Self::open_any(options).await
    }

    /// Whether it holds a copy that is not whole.
    pub(super) async fn is_unfinished(&self) -> Result<bool, StorageError> {
        let cql = &self.0.cql;
        let read = cql.prepare(super::cql::Use::Read, "SELECT progress FROM unfinished_copies").await?;
        Ok(cql.first::<(Option<String>,)>(&read, ()).await?.is_some())
    }
}

impl Mover {
    /// A store to move out of; what a former run left is finished first.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub async fn source(store: Store) -> Result<Self, StorageError> {
        store.0.take_over(&Shard::all().collect::<Vec<_>>()).await?;
        let source = Self::target(store).await?;
        source.0.place_all().await?;
        Ok(source)
    }

    /// A store to move into.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub async fn target(store: Store) -> Result<Self, StorageError> {
        let cql = &store.0.cql;
        let (marks, chat, room, scans, rows, counts) = tokio::try_join!(
            Marks::prepare(cql),
            chat::Statements::prepare(cql),
            room::Statements::prepare(cql),
            export::Statements::prepare(cql),
            import::Statements::prepare(cql),
            settle::Statements::prepare(cql),
        )?;
        Ok(Self(Arc::new(Parts { store, marks, chat, room, scans, rows, counts })))
    }
}

impl Parts {
    fn inner(&self) -> &Arc<Inner> {
        &self.store.0
    }

    async fn unfinished(&self) -> Result<Option<Progress>, StorageError> {
        let row: Option<(Option<String>,)> = self.inner().cql.first(&self.marks.read, ()).await?;
        let progress = row.and_then(|(text,)| text).map(|text| serde_json::from_str(&text)).transpose();
        progress.map_err(|error| StorageError::Refused(format!("an unfinished copy cannot be read: {error}")))
    }

    async fn note(&self, progress: &Progress) -> Result<(), StorageError> {
        let text =
            serde_json::to_string(progress).map_err(|error| StorageError::Refused(error.to_string()))?;
        self.inner().cql.write(&self.marks.note, (text, self.now())).await
    }

    async fn finish(&self) -> Result<(), StorageError> {
        self.inner().cql.write(&self.marks.remove, (self.now(),)).await
    }

    /// A time of writing that is later than the one before.
    fn now(&self) -> i64 {
        stamp::written_at(self.inner().clock.stamp(0, None, |_| {}))
    }
}
