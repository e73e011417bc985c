//! The one thread that writes: it takes what waits, up to 512 calls, runs each in a savepoint of one
//! transaction, commits once and answers all.
//!
//! It owns the write connection and the order of writes, which is the order of the calls. It refuses
//! what comes while 4,096 calls wait, while its circuit is open, and after the end. Where a commit
//! fails because the disk cannot, the whole group is withdrawn and done again, twice, before it is
//! given up.

use super::statement::{Statements, place};
use crate::model::cursor::Seq;
use crate::model::event::Change;
use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use crate::storage::chats::Placement;
use crate::storage::circuit::Circuit;
use crate::storage::{EntryObserver, Pending, StorageError};
use crate::telemetry::metric;
use rusqlite::{Connection, params};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, oneshot, watch};

/// Calls that may wait.
const QUEUE: usize = 4096;
/// Calls that are committed together.
const GROUP: usize = 512;
/// How long it waits before it does a group again that the disk refused.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(80)];

/// The way to the writing thread.
pub(super) struct Writer {
    queue: RwLock<Option<SyncSender<Box<dyn Job>>>>,
    circuit: Arc<Circuit>,
    ended: watch::Receiver<bool>,
}

/// What a call sees of its transaction.
pub(super) struct Write<'a> {
    /// The connection, inside the call's savepoint.
    pub(super) connection: &'a Connection,
    events: bool,
    written: Written,
}

/// What others hear of that was written.
#[derive(Default)]
struct Written {
    /// Before it can be read.
    entered: Vec<(Seq, UserId)>,
    /// Once it is durable.
    placed: Vec<Placement>,
}

impl Writer {
    /// Starts the thread. Events are queued as jobs where `events` says so; what is placed in inboxes is told to
    /// `placements`, in its order.
    pub(super) fn start(
        connection: Connection,
        events: bool,
        observer: Arc<dyn EntryObserver>,
        placements: broadcast::Sender<Placement>,
    ) -> std::io::Result<Self> {
        let (queue, calls) = sync_channel(QUEUE);
        let (end, ended) = watch::channel(false);
        let circuit = Arc::new(Circuit::default());
        let thread = Thread { connection, events, observer, placements, circuit: Arc::clone(&circuit) };
        std::thread::Builder::new().name("roost-writer".to_owned()).spawn(move || {
            thread.run(&calls);
            end.send_replace(true);
        })?;
        Ok(Self { queue: RwLock::new(Some(queue)), circuit, ended })
    }

    /// Puts a call into the order of writes, now; `work` runs again where its group is done again.
    pub(super) fn call<T, W>(&self, work: W) -> Pending<T>
    where
        T: Send + 'static,
        W: FnMut(&mut Write<'_>) -> Result<T, StorageError> + Send + 'static,
    {
        let made_at = Instant::now();
        let (answer, answered) = oneshot::channel();
        let call = Call { work, found: None, answer, made_at };
        if let Err(error) = self.enqueue(Box::new(call), made_at) {
            return Box::pin(std::future::ready(Err(error)));
        }
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(closed())) })
    }

    /// Takes no more calls; done when all that were taken are answered and the file is closed.
    pub(super) fn close(&self) -> Pending<()> {
        self.queue.write().unwrap_or_else(PoisonError::into_inner).take();
        let mut ended = self.ended.clone();
        Box::pin(async move {
            // The sender goes with the thread: where it went without a word, it has ended all the same.
            let _ = ended.wait_for(|ended| *ended).await;
            Ok(())
        })
    }

    /// Its circuit.
    pub(super) fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    fn enqueue(&self, call: Box<dyn Job>, now: Instant) -> Result<(), StorageError> {
        if !self.circuit.admits(now) {
            return Err(StorageError::Unavailable("writes failed; it is left alone for a while".to_owned()));
        }
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let queue = queue.as_ref().ok_or_else(closed)?;
        queue.try_send(call).map_err(|error| match error {
            TrySendError::Full(_) => StorageError::Unavailable("busy".to_owned()),
            TrySendError::Disconnected(_) => closed(),
        })
    }
}

fn closed() -> StorageError {
    StorageError::Unavailable("closed".to_owned())
}

impl Write<'_> {
    /// Gives the next number to an author's post, or to the deletion of the post `deletes`, with the
    /// job of its delivery.
    pub(super) fn enter(
        &mut self,
        (key, author): (i64, UserId),
        deletes: Option<Seq>,
        at: Timestamp,
    ) -> Result<Seq, StorageError> {
        self.connection.change(
            "INSERT INTO entries (author, deletes, at) VALUES (?1, ?2, ?3)",
            params![key, deletes.map(place), at.millis()],
        )?;
        let number = self.connection.last_insert_rowid();
        self.connection.change(
            "INSERT INTO deliveries (seq, author, made_at) VALUES (?1, ?2, ?3)",
            params![number, key, at.millis()],
        )?;
        let seq =
            Seq(u64::try_from(number).map_err(|_| StorageError::Refused("an entry below 0".to_owned()))?);
        self.written.entered.push((seq, author));
        Ok(seq)
    }

    /// Says that an event stands in inboxes.
    pub(super) fn place(&mut self, placement: Placement) {
        self.written.placed.push(placement);
    }

    /// Queues a change as an event, where there is somebody to send it to.
    pub(super) fn publish(&self, change: &Change<'_>, at: Timestamp) -> Result<(), StorageError> {
        if !self.events {
            return Ok(());
        }
        self.connection.change(
            "INSERT INTO events (event, made_at, due_at) VALUES (?1, ?2, ?2)",
            params![change.event(at).to_string(), at.millis()],
        )?;
        Ok(())
    }
}

/// A call on its way, whatever it answers.
trait Job: Send {
    fn run(&mut self, write: &mut Write<'_>) -> Result<(), StorageError>;
    fn answer(self: Box<Self>, outcome: Result<(), StorageError>);
}

struct Call<T, W> {
    work: W,
    found: Option<T>,
    answer: oneshot::Sender<Result<T, StorageError>>,
    made_at: Instant,
}

impl<T, W> Job for Call<T, W>
where
    T: Send,
    W: FnMut(&mut Write<'_>) -> Result<T, StorageError> + Send,
{
    fn run(&mut self, write: &mut Write<'_>) -> Result<(), StorageError> {
        self.found = Some((self.work)(write)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StorageError>) {
        metrics::histogram!(metric::STORE_SECONDS, "operation" => "write").record(self.made_at.elapsed());
        let Self { found, answer, .. } = *self;
        // Whoever asked may have gone: what was written stays.
        let _ = answer.send(outcome.and_then(|()| found.ok_or_else(closed)));
    }
}

struct Thread {
    connection: Connection,
    events: bool,
    observer: Arc<dyn EntryObserver>,
    placements: broadcast::Sender<Placement>,
    circuit: Arc<Circuit>,
}

impl Thread {
    fn run(self, calls: &Receiver<Box<dyn Job>>) {
        while let Ok(first) = calls.recv() {
            let mut group = vec![first];
            group.extend(calls.try_iter().take(GROUP - 1));
            self.settle(group);
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "the store's file was not closed in order");
        }
    }

    /// Commits a group, again where the disk refused it, and answers.
    fn settle(&self, mut group: Vec<Box<dyn Job>>) {
        let mut pauses = PAUSES.iter();
        let settled = loop {
            match self.attempt(&mut group) {
                Err(StorageError::Unavailable(why)) => match pauses.next() {
                    Some(pause) => std::thread::sleep(*pause),
                    None => break Err(StorageError::Unavailable(why)),
                },
                settled => break settled,
            }
        };
        match settled {
            Ok(outcomes) => {
                self.circuit.succeeded();
                for (call, outcome) in group.into_iter().zip(outcomes) {
                    call.answer(outcome);
                }
            }
            Err(error) => {
                tracing::warn!(%error, calls = group.len(), "the store could not commit");
                if matches!(error, StorageError::Unavailable(_)) {
                    self.circuit.failed(Instant::now());
                }
                for call in group {
                    call.answer(Err(error.clone()));
                }
            }
        }
    }

    /// One transaction; where it fails, nothing of it is left and its entries are withdrawn.
    fn attempt(&self, group: &mut [Box<dyn Job>]) -> Result<Vec<Result<(), StorageError>>, StorageError> {
        let mut written = Written::default();
        let settled = self.transact(group, &mut written);
        if settled.is_err() {
            // SQLite may have rolled back by itself.
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                tracing::error!(%error, "the store could not roll back");
            }
            for (seq, _) in written.entered.into_iter().rev() {
                self.observer.withdrawn(seq);
            }
        } else {
            for placement in written.placed {
                // Where nobody listens there is nobody to tell.
                let _ = self.placements.send(placement);
            }
        }
        settled
    }

    fn transact(
        &self,
        group: &mut [Box<dyn Job>],
        written: &mut Written,
    ) -> Result<Vec<Result<(), StorageError>>, StorageError> {
        self.connection.change("BEGIN IMMEDIATE", [])?;
        let mut outcomes = Vec::with_capacity(group.len());
        for call in group {
            outcomes.push(self.one(call.as_mut(), written)?);
        }
        self.connection.change("COMMIT", [])?;
        Ok(outcomes)
    }

    /// One call in its savepoint: what it is refused is its own; that the disk cannot is everybody's.
    fn one(
        &self,
        call: &mut dyn Job,
        written: &mut Written,
    ) -> Result<Result<(), StorageError>, StorageError> {
        self.connection.change("SAVEPOINT call", [])?;
        let mut write =
            Write { connection: &self.connection, events: self.events, written: Written::default() };
        let outcome = catch_unwind(AssertUnwindSafe(|| call.run(&mut write)))
            .unwrap_or_else(|_| Err(StorageError::Refused("a write panicked".to_owned())));
        match outcome {
            Ok(()) => {
                let Written { entered, placed } = write.written;
                self.connection.change("RELEASE call", [])?;
                for (seq, author) in entered {
                    self.observer.entering(seq, author);
                    written.entered.push((seq, author));
                }
                written.placed.extend(placed);
                Ok(Ok(()))
            }
            Err(StorageError::Unavailable(why)) => Err(StorageError::Unavailable(why)),
            Err(refused) => {
                self.connection.change("ROLLBACK TO call", [])?;
                self.connection.change("RELEASE call", [])?;
                Ok(Err(refused))
            }
        }
    }
}

#[cfg(test)]
mod tests;
