//! The writer where the disk refuses: a file that may not grow stands for a disk that is full.

use super::{Write, Writer};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use crate::storage::circuit::{CircuitState, FAILURES_TO_OPEN};
use crate::storage::sqlite::file;
use crate::storage::sqlite::statement::Statements;
use crate::storage::{EntryObserver, Pending, StorageError};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;
use tokio::sync::broadcast;

/// `(entry, whether it came or went)`, in order.
#[derive(Default)]
struct Heard(Mutex<Vec<(u64, bool)>>);

impl Heard {
    fn all(&self) -> Vec<(u64, bool)> {
        self.0.lock().unwrap().clone()
    }
}

impl EntryObserver for Heard {
    fn entering(&self, seq: Seq, _: UserId) {
        self.0.lock().unwrap().push((seq.0, true));
    }

    fn withdrawn(&self, seq: Seq) {
        self.0.lock().unwrap().push((seq.0, false));
    }
}

/// A writer of a file that may grow by 20 pages.
struct Cramped {
    writer: Writer,
    heard: Arc<Heard>,
    author: (i64, UserId),
    _folder: tempfile::TempDir,
}

impl Cramped {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (connection, _) = file::open_writer(&folder.path().join("roost.db")).unwrap();
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        connection.pragma_update_and_check(None, "max_page_count", pages + 20, |_| Ok(())).unwrap();
        let heard = Arc::new(Heard::default());
        let observer = Arc::clone(&heard) as Arc<dyn EntryObserver>;
        let writer = Writer::start(connection, false, observer, broadcast::Sender::new(1)).unwrap();
        let id = UserId::make();
        let author = writer.call(move |write| {
            write.connection.change(
                "INSERT INTO users (id, username, username_key, created_at) VALUES (?1, 'anna', 'anna', 0)",
                [id.0.as_bytes()],
            )?;
            Ok((write.connection.last_insert_rowid(), id))
        });
        let author = author.await.unwrap();
        Self { writer, heard, author, _folder: folder }
    }

    /// Lets the file grow as it likes.
    async fn make_room(&self) {
        let grown = self.writer.call(|write| {
            Ok(write.connection.pragma_update_and_check(None, "max_page_count", 1_000_000, |_| Ok(()))?)
        });
        grown.await.unwrap();
    }

    fn enter(&self) -> Pending<Seq> {
        let author = self.author;
        self.writer.call(move |write| write.enter(author, None, Timestamp::now()))
    }

    fn write_much(&self) -> Pending<()> {
        self.writer.call(|write| write_text(write, 200_000))
    }

    /// Holds the writer up until something is sent, so that what is called meanwhile is one group.
    fn hold(&self) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel();
        let (hold, holds) = mpsc::channel();
        let released = Mutex::new(released);
        drop(self.writer.call(move |_| {
            hold.send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
            Ok(())
        }));
        // Only when it is a group of its own is what comes next another.
        holds.recv().unwrap();
        release
    }
}

fn write_text(write: &Write<'_>, length: usize) -> Result<(), StorageError> {
    write.connection.change(
        "INSERT INTO dead_letters (event, error, attempts, buried_at) VALUES (?1, '', 0, 0)",
        ["x".repeat(length)],
    )?;
    Ok(())
}

fn assert_unavailable<T>(answer: Result<T, StorageError>) {
    assert!(matches!(answer.err(), Some(StorageError::Unavailable(_))));
}

#[tokio::test]
async fn a_group_that_the_disk_refuses_is_withdrawn_and_given_up_after_three_tries() {
    let store = Cramped::start().await;
    let release = store.hold();
    let (entered, much) = (store.enter(), store.write_much());
    release.send(()).unwrap();
    assert_unavailable(entered.await);
    assert_unavailable(much.await);
    assert_eq!(store.heard.all(), [(1, true), (1, false)].repeat(3));
    // With room again everything goes on, and the number that nobody saw is given again.
    store.make_room().await;
    store.write_much().await.unwrap();
    assert_eq!(store.enter().await.unwrap(), Seq(1));
    assert_eq!(store.heard.all().last(), Some(&(1, true)));
}

#[tokio::test]
async fn a_group_is_done_again_whole_once_the_disk_can() {
    let store = Cramped::start().await;
    let release = store.hold();
    let entered = store.enter();
    let mut tries = 0;
    let fits_at_last = store.writer.call(move |write| {
        tries += 1;
        write_text(write, if tries < 3 { 200_000 } else { 10 }).map(|()| tries)
    });
    release.send(()).unwrap();
    assert_eq!((entered.await.unwrap(), fits_at_last.await.unwrap()), (Seq(1), 3));
    assert_eq!(store.heard.all(), [(1, true), (1, false), (1, true), (1, false), (1, true)]);
    let count = store
        .writer
        .call(|write| write.connection.first("SELECT count(*) FROM entries", [], |row| row.get::<_, i64>(0)));
    assert_eq!(count.await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_disk_that_goes_on_refusing_is_left_alone() {
    let store = Cramped::start().await;
    for _ in 0..FAILURES_TO_OPEN {
        assert_eq!(store.writer.circuit().state(Instant::now()), CircuitState::Closed);
        assert_unavailable(store.write_much().await);
    }
    assert_eq!(store.writer.circuit().state(Instant::now()), CircuitState::Open);
    // Though this one would fit.
    assert_unavailable(store.enter().await);
    assert_eq!(store.heard.all(), []);
}

#[tokio::test]
async fn a_call_that_is_refused_or_panics_takes_nothing_else_of_its_group_with_it() {
    let store = Cramped::start().await;
    let release = store.hold();
    let author = store.author;
    let before = store.enter();
    let refused = store.writer.call(move |write| {
        write.enter(author, None, Timestamp::now())?;
        Err::<(), _>(StorageError::Refused("of no use".to_owned()))
    });
    let panicked = store.writer.call(move |write| -> Result<(), StorageError> {
        write.enter(author, None, Timestamp::now())?;
        panic!("on purpose");
    });
    let after = store.enter();
    release.send(()).unwrap();
    assert_eq!(before.await.unwrap(), Seq(1));
    assert!(matches!(refused.await, Err(StorageError::Refused(_))));
    assert!(matches!(panicked.await, Err(StorageError::Refused(_))));
    assert_eq!(after.await.unwrap(), Seq(2));
    assert_eq!(store.heard.all(), [(1, true), (2, true)]);
}
