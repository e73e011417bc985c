//! The embedded store: SQLite in one file, one writing thread that commits in groups, a pool of readers.
//!
//! A write that is answered is on the disk (WAL, `synchronous=FULL`). [`schema.sql`](../schema.sql) is
//! the whole schema. Everything that SQLite does is done off the async threads. One process opens a
//! store at a time; who holds the data folder's lock sees to that.

mod accounts;
mod backup;
mod chats;
mod entries;
mod file;
mod graph;
mod jobs;
mod logins;
mod migrations;
mod missed;
mod moving;
mod posts;
mod readers;
mod rooms;
mod statement;
mod timelines;
mod upkeep;
mod writer;

pub use file::OpenError;

use super::chats::Placement;
use super::circuit::CircuitState;
use super::{EntryObserver, Pending, StorageError};
use crate::model::cursor::Seq;
use crate::model::cursor::StoreName;
use crate::model::id::UserId;
use chats::Participants;
use readers::Readers;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::broadcast;
use writer::{Write, Writer};

/// Placements that wait for whoever listens to them; of more it learns that it missed some.
const PLACEMENTS: usize = 4096;

/// What a store is opened with.
pub struct Options {
    /// The file; made where there is none, its folder must be there.
    pub file: PathBuf,
    /// Whether every change is queued as an event.
    pub events: bool,
    /// Who hears of entries before they can be read.
    pub observer: Arc<dyn EntryObserver>,
    /// How many calls may read at once.
    pub readers: usize,
}

/// An open store. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    file: Arc<PathBuf>,
    name: StoreName,
    writer: Arc<Writer>,
    readers: Arc<Readers>,
    participants: Participants,
    placements: broadcast::Sender<Placement>,
}

/// An observer for whoever has nobody to deliver to.
pub struct Unobserved;

impl EntryObserver for Unobserved {
    fn entering(&self, _: Seq, _: UserId) {}
    fn withdrawn(&self, _: Seq) {}
}

/// How safe a commit is, as the writing connection itself says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durability {
    /// `PRAGMA journal_mode`.
    pub journal_mode: String,
    /// `PRAGMA synchronous`: 2 is FULL.
    pub synchronous: i64,
}

impl Store {
    /// Opens a store, made or brought up to this version's schema where it must be.
    ///
    /// # Errors
    /// Why not, in one line; the file is as it was.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        Self::open_if(options, moving::check_whole)
    }

    /// Opens a store that passes a check.
    fn open_if(
        options: Options,
        check: impl FnOnce(&Connection, &Path) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        let Options { file, events, observer, readers } = options;
        let (connection, name) = file::open_writer(&file)?;
        check(&connection, &file)?;
        let (placements, _) = broadcast::channel(PLACEMENTS);
        let writer = Writer::start(connection, events, observer, placements.clone())
            .map_err(|error| OpenError::Unwritable { file: file.clone(), why: error.to_string() })?;
        Ok(Self {
            name,
            writer: Arc::new(writer),
            readers: Arc::new(Readers::new(file.clone(), readers)),
            file: Arc::new(file),
            participants: Participants::default(),
            placements,
        })
    }

    /// What the circuits of writing and of reading do, in that order.
    #[must_use]
    pub fn circuits(&self) -> (CircuitState, CircuitState) {
        let now = Instant::now();
        (self.writer.circuit().state(now), self.readers.circuit().state(now))
    }

    /// How safe a commit is.
    pub fn durability(&self) -> Pending<Durability> {
        self.write(|write| {
            Ok(Durability {
                journal_mode: write.connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?,
                synchronous: write.connection.pragma_query_value(None, "synchronous", |row| row.get(0))?,
            })
        })
    }

    fn write<T, W>(&self, work: W) -> Pending<T>
    where
        T: Send + 'static,
        W: FnMut(&mut Write<'_>) -> Result<T, StorageError> + Send + 'static,
    {
        self.writer.call(work)
    }

    fn read<T, W>(&self, work: W) -> Pending<T>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, StorageError> + Send + 'static,
    {
        self.readers.call(work)
    }
}
