//! The embedded store: the suite, what a file may be found to be, and what its commits are worth.

use super::fixture::{Ground, Open, Opened, TestStore, a_key, a_like};
use super::{contract, model, step};
use proptest::test_runner::{Config, TestRunner};
use roost::model::shard::Shard;
use roost::model::timestamp::Timestamp;
use roost::storage::circuit::CircuitState;
use roost::storage::sqlite::{Durability, OpenError, Options, Store, Unobserved};
use roost::storage::{Accounts, Backup, Deletion, Jobs, KEY_AGE, NewPost, TIMELINE_AGE};
use rusqlite::Connection;
use std::future::ready;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

mod copies;
mod sweeping;
mod telling;
mod walks;
mod writer;

contract!(super::run, super::run);

/// Runs a test in a store of its own.
fn run<F: Future<Output = ()>>(test: impl FnOnce(TestStore) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { test(open().await).await });
}

pub(super) async fn open() -> TestStore {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let file = folder.path().join("roost.db");
    let open: Open = Box::new(move |observer| {
        let store = Store::open(Options { observer, ..options(&file) }).unwrap();
        let backup: Option<Arc<dyn Backup>> = Some(Arc::new(store.clone()));
        Box::pin(ready(Opened { engine: Arc::new(store), backup, fan_out: None }))
    });
    TestStore::on(Ground { open, tag: String::new(), is_ordered: true }, folder).await
}

/// A store of that file, where nobody listens.
fn open_file(file: &Path) -> Store {
    Store::open(options(file)).unwrap()
}

pub(super) fn options(file: &Path) -> Options {
    Options { file: file.to_owned(), events: true, observer: Arc::new(Unobserved), readers: 2 }
}

/// SQLite finds nothing wrong with the file.
fn assert_sound(file: &Path) {
    let connection = Connection::open(file).unwrap();
    let told: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(told, "ok");
    let mut foreign_keys = connection.prepare("PRAGMA foreign_key_check").unwrap();
    assert!(!foreign_keys.exists([]).unwrap());
}

#[test]
fn a_store_does_what_a_plain_model_does() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let store = runtime.block_on(open());
    let mut runner = TestRunner::new(Config {
        cases: 256,
        failure_persistence: None,
        max_shrink_iters: 500,
        ..Config::default()
    });
    let case = std::cell::Cell::new(0);
    runner
        .run(&step::steps(80), |steps| {
            case.set(case.get() + 1);
            runtime.block_on(model::check(&store, &format!("case{}", case.get()), &steps));
            Ok(())
        })
        .unwrap();
    runtime.block_on(store.engine.close()).unwrap();
    assert_sound(&store.folder.path().join("roost.db"));
}

#[tokio::test]
async fn a_commit_is_on_the_disk_before_it_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(options(&folder.path().join("roost.db"))).unwrap();
    let expected = Durability { journal_mode: "wal".to_owned(), synchronous: 2 };
    assert_eq!(store.durability().await.unwrap(), expected);
    assert_eq!(store.circuits(), (CircuitState::Closed, CircuitState::Closed));
}

#[tokio::test]
async fn its_files_are_for_its_owner_alone() {
    let store = open().await;
    store.user("anna").await;
    store.copy(store.folder.path().join("copy"), Box::new(|_, _| {})).await.unwrap();
    for file in std::fs::read_dir(store.folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}

#[tokio::test]
async fn without_a_sink_no_event_is_queued() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roost.db");
    let store = Store::open(Options { events: false, ..options(&file) }).unwrap();
    store.register(open().await.new_user("anna")).await.unwrap();
    assert_eq!(store.due_events(Timestamp::now(), 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_deleted_posts_text_is_gone_from_its_row() {
    let store = open().await;
    let anna = store.user("anna").await;
    let post = store.post(anna, "regretted").await;
    store.delete(anna, post.id).await;
    let connection = Connection::open(store.folder.path().join("roost.db")).unwrap();
    let text: String = connection.query_row("SELECT content FROM posts", [], |row| row.get(0)).unwrap();
    assert_eq!(text, "");
}

#[tokio::test]
async fn a_write_waits_for_an_operator_who_holds_the_lock() {
    let store = open().await;
    let anna = store.user("anna").await;
    let connection = Connection::open(store.folder.path().join("roost.db")).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let posting = store.posting(anna, "waits");
    assert_eq!(store.engine.head().await.unwrap().0, 0);
    connection.execute_batch("COMMIT").unwrap();
    posting.await.unwrap();
    assert_eq!(store.engine.head().await.unwrap().0, 1);
}

/// Opening is refused, in one line with those words, and leaves every byte of the folder as it was.
fn assert_refused(file: &Path, words: &str) -> OpenError {
    let all = || {
        let folder = file.parent().unwrap();
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .map(|files| files.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect())
            .unwrap_or_default();
        files.sort();
        files.into_iter().map(|file| (std::fs::read(&file).unwrap(), file)).collect::<Vec<_>>()
    };
    let before = all();
    let Err(error) = Store::open(options(file)) else { panic!("{words}: it was opened") };
    let line = error.to_string();
    assert!(line.contains(words) && !line.contains('\n'), "{line}");
    assert!(line.contains(&file.display().to_string()), "{line}");
    assert!(before == all(), "{words}: something was changed");
    error
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let store = open().await;
    store.user("anna").await;
    store.engine.close().await.unwrap();
    let file = store.folder.path().join("roost.db");
    let connection = Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    connection.close().unwrap();
    let error = assert_refused(&file, "made by a newer version of roost (schema 99, this one knows 4)");
    assert!(matches!(error, OpenError::Newer { found: 99, known: 4, .. }));
}

#[test]
fn a_file_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("letter.txt");
    std::fs::write(&text, "Dear Anna, ".repeat(1000)).unwrap();
    assert_refused(&text, "is not a database of roost");
    let other = folder.path().join("birds.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE birds (name TEXT)").unwrap();
    assert_refused(&other, "is not a database of roost");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let store = open().await;
    let anna = store.user("anna").await;
    store.post_many(anna, 500).await;
    store.engine.close().await.unwrap();
    let file = store.folder.path().join("roost.db");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let error = Store::open(options(&file)).err().unwrap();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    let mut scribbled = whole;
    scribbled[100..4096].fill(0xA5);
    std::fs::write(&file, &scribbled).unwrap();
    let error = assert_refused(&file, "the database is damaged");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[test]
fn a_folder_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error =
        assert_refused(&folder.path().join("nowhere").join("roost.db"), "cannot be opened for writing");
    assert!(matches!(error, OpenError::Unwritable { .. }));
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert_refused(&folder.path().join("file").join("roost.db"), "cannot be opened for writing");
}

#[tokio::test]
async fn what_is_written_and_goes_again_does_not_make_the_file_grow() {
    let store = open().await;
    let users = store.users(20).await;
    let file = store.folder.path().join("roost.db");
    let pages = || -> i64 {
        Connection::open(&file).unwrap().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap()
    };
    let start = Timestamp::now();
    // Longer than a key is kept; what is kept for thirty days is kept for fifteen rounds.
    let step = KEY_AGE * 2;
    let mut sizes = Vec::new();
    for round in 0..50 {
        let now = start.after(step * round);
        let mut deleting = Vec::new();
        for user in &users {
            let draft = store.draft(*user, &"text ".repeat(50), now);
            drop(store.engine.append(NewPost { key: a_key("key", 1), ..draft.clone() }));
            for other in &users {
                drop(store.engine.like(a_like(*other, draft.id)));
            }
            deleting.push(store.engine.delete(*user, draft.id, now));
        }
        for deletion in deleting {
            assert!(matches!(deletion.await.unwrap(), Deletion::Done(_)));
        }
        let events = store.engine.due_events(now, 100_000).await.unwrap();
        store.engine.sent(events.iter().map(|event| event.id).collect()).await.unwrap();
        let delivered = store
            .engine
            .take_over(Shard::all().collect())
            .await
            .unwrap()
            .into_iter()
            .map(|(seq, _)| seq)
            .collect();
        store.engine.delivered(delivered).await.unwrap();
        while store.engine.sweep(now).await.unwrap() > 0 {}
        sizes.push(pages());
    }
    assert!(step * 20 > TIMELINE_AGE, "what is kept is still growing");
    assert!(sizes[49] <= sizes[20] + 8, "{sizes:?}");
    store.engine.close().await.unwrap();
    assert_sound(&file);
}
