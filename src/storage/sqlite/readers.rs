//! Reading: a few connections that cannot write, each used by one call at a time off the async
//! threads. Each call sees one moment of the store. What comes while 1,024 calls wait is refused.

use super::file;
use super::statement::Statements;
use crate::storage::circuit::Circuit;
use crate::storage::{Pending, StorageError};
use crate::telemetry::metric;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Calls that may wait for a connection.
const WAITING: usize = 1024;

/// The connections and who waits for them.
pub(super) struct Readers {
    file: PathBuf,
    // A std mutex: a connection is taken or put back under it, nothing else.
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    circuit: Circuit,
}

impl Readers {
    /// At most `count` connections to `file`, opened when they are first needed.
    pub(super) fn new(file: PathBuf, count: usize) -> Self {
        Self {
            file,
            idle: Mutex::new(Vec::new()),
            permits: Arc::new(Semaphore::new(count.max(1))),
            waiting: AtomicUsize::new(0),
            circuit: Circuit::default(),
        }
    }

    /// Runs `work` on a connection of its own, inside one read transaction.
    pub(super) fn call<T, W>(self: &Arc<Self>, work: W) -> Pending<T>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, StorageError> + Send + 'static,
    {
        let made_at = Instant::now();
        if !self.circuit.admits(made_at) {
            let why = "reads failed; it is left alone for a while".to_owned();
            return Box::pin(std::future::ready(Err(StorageError::Unavailable(why))));
        }
        let readers = Arc::clone(self);
        Box::pin(async move {
            let permit = {
                let _waits = Waits::join(&readers.waiting)?;
                Arc::clone(&readers.permits).acquire_owned().await
            };
            let read = tokio::task::spawn_blocking(move || {
                // Held until the connection is back.
                let _permit = permit;
                let found = readers.run(work);
                metrics::histogram!(metric::STORE_SECONDS, "operation" => "read").record(made_at.elapsed());
                found
            });
            read.await.unwrap_or_else(|_| Err(StorageError::Refused("a read panicked".to_owned())))
        })
    }

    /// Their circuit.
    pub(super) fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    fn run<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let found = self.read(work);
        match &found {
            Err(StorageError::Unavailable(_)) => self.circuit.failed(Instant::now()),
            Ok(_) | Err(StorageError::Refused(_)) => self.circuit.succeeded(),
        }
        found
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let kept = self.idle().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => file::open_reader(&self.file)?,
        };
        // One moment of the store for the whole call. By prepared statements: parsed anew, they cost as much
        // as a small read.
        connection.change("BEGIN", [])?;
        let found = work(&connection);
        connection.change("COMMIT", [])?;
        self.idle().push(connection);
        found
    }

    /// Closes the connections that nobody reads by.
    pub(super) fn close(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call's place among those that wait, given up when dropped.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn join(waiting: &'a AtomicUsize) -> Result<Self, StorageError> {
        let place = Self(waiting);
        match waiting.fetch_add(1, Ordering::Relaxed) {
            before if before < WAITING => Ok(place),
            _ => Err(StorageError::Unavailable("busy".to_owned())),
        }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
