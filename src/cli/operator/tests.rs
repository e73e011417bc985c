//! Each command by both roads: through a server's socket, and on the store itself.

use super::{Operator, open};
use crate::cli::dead_letters::DeadLetters;
use crate::cli::{Command, Line, backup};
use crate::data_dir::DataDir;
use crate::http::admin;
use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use crate::model::user::Username;
use crate::storage::sqlite::{Options, Store};
use crate::storage::{Accounts, Jobs, NewUser, Upkeep};
use clap::Parser;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A data folder with `letters` dead letters in it.
async fn folder(letters: usize) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let data = DataDir::open(root.path()).unwrap();
    let options = Options { file: data.db(), events: true, observer: Arc::new(super::Unheard), readers: 1 };
    let store = Store::open(options).unwrap();
    let now = Timestamp::now();
    for number in 0..letters {
        let username = Username::parse(&format!("user{number}")).unwrap();
        let id = UserId::make();
        store
            .register(NewUser { id, email: None, username, password_hash: None, created_at: now })
            .await
            .unwrap();
    }
    for job in store.due_events(now.after(std::time::Duration::from_secs(1)), letters + 1).await.unwrap() {
        store.bury(job.id, "the sink said:\n500".to_owned(), now).await.unwrap();
    }
    assert_eq!(store.backlog().await.unwrap().dead_letters, letters as u64);
    store.close().await.unwrap();
    root
}

/// A server's side of the socket, on a folder.
struct Server {
    store: Store,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Server {
    async fn on(path: &Path) -> Self {
        let data = DataDir::open(path).unwrap();
        let store = open(&data).await.unwrap();
        let router = admin::router(Arc::new(store.clone()), Some(Arc::new(store.clone())));
        let listener = admin::bind(&data).unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            admin::serve(listener, router, async move { drop(stopped.await) }).await.unwrap();
            drop(data);
        });
        Self { store, stop, serving }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
        self.store.close().await.unwrap();
    }
}

fn command(arguments: &[&str]) -> DeadLetters {
    let line = Line::try_parse_from(["roost", "dead-letters"].iter().chain(arguments)).unwrap();
    match line.command {
        Some(Command::DeadLetters(command)) => command,
        _ => panic!("not dead-letters"),
    }
}

/// What a command prints, or how it fails.
async fn said(path: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut out = Vec::new();
    let done = match Operator::reach(path).await {
        Ok(operator) => command(arguments).act(operator, &mut out).await,
        Err(error) => Err(error),
    };
    let out = String::from_utf8(out).unwrap();
    done.map(|()| out).map_err(|error| error.to_string())
}

fn ids(lines: &str) -> Vec<u64> {
    lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_u64().unwrap())
        .collect()
}

async fn dead_letters_are_looked_after(path: &Path) {
    let lines = said(path, &["list", "--json"]).await.unwrap();
    let all = ids(&lines);
    assert_eq!(all.len(), 250, "three pages, none twice");
    assert!(all.is_sorted_by(|one, next| one < next));

    let table = said(path, &["list"]).await.unwrap();
    assert_eq!(table.lines().count(), 251);
    assert!(table.lines().nth(1).unwrap().contains("user.registered"), "{table}");
    assert!(table.contains("the sink said: 500"));

    let whole = said(path, &["show", &all[0].to_string()]).await.unwrap();
    let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole["event"]["data"]["username"], "user0");

    let [first, second] = [all[0].to_string(), all[1].to_string()];
    assert_eq!(said(path, &["drop", &first]).await.unwrap(), "dropped: 1\n");
    assert_eq!(said(path, &["drop", &first]).await.unwrap_err(), format!("there is no dead letter {first}"));
    assert_eq!(said(path, &["show", &first]).await.unwrap_err(), format!("there is no dead letter {first}"));
    assert_eq!(said(path, &["redrive", &second]).await.unwrap(), "to be sent again: 1\n");
    assert_eq!(said(path, &["redrive", "--all"]).await.unwrap(), "to be sent again: 248\n");
    assert_eq!(said(path, &["list"]).await.unwrap(), "There are no dead letters.\n");
}

#[tokio::test]
async fn dead_letters_are_looked_after_while_a_server_runs() {
    let root = folder(250).await;
    let server = Server::on(root.path()).await;
    dead_letters_are_looked_after(root.path()).await;
    assert_eq!(server.store.backlog().await.unwrap().events, 249, "the redriven are jobs again");
    server.stop().await;
}

#[tokio::test]
async fn dead_letters_are_looked_after_while_none_runs() {
    let root = folder(250).await;
    dead_letters_are_looked_after(root.path()).await;
    let server = Server::on(root.path()).await;
    assert_eq!(server.store.backlog().await.unwrap().events, 249, "the redriven are jobs again");
    server.stop().await;
}

#[tokio::test]
async fn a_backup_is_a_whole_store_and_is_never_written_over() {
    let root = folder(3).await;
    let copies = tempfile::tempdir().unwrap();
    let (live, still) = (copies.path().join("live.db"), copies.path().join("still.db"));
    let server = Server::on(root.path()).await;
    backup::copy(root.path(), &live).await.unwrap();
    server.stop().await;
    backup::copy(root.path(), &still).await.unwrap();

    let error = backup::copy(root.path(), &live).await.unwrap_err().to_string();
    assert!(error.contains("live.db") && !error.contains('\n'), "{error}");
    for copy in [live, still] {
        let restored = tempfile::tempdir().unwrap();
        std::fs::copy(copy, restored.path().join("roost.db")).unwrap();
        assert_eq!(ids(&said(restored.path(), &["list", "--json"]).await.unwrap()).len(), 3);
    }
}

#[tokio::test]
async fn a_folder_without_data_or_without_an_answer_is_told_in_a_line() {
    let root = tempfile::tempdir().unwrap();
    let line = said(root.path(), &["list"]).await.unwrap_err();
    assert_eq!(line, format!("data folder {}: there is no database in it", root.path().display()));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "and nothing is made there");

    let root = folder(0).await;
    let _locked = DataDir::open(root.path()).unwrap();
    let line = said(root.path(), &["list"]).await.unwrap_err();
    assert!(line.contains("no server answers at") && line.contains("roost.sock"), "{line}");
    assert!(matches!(Operator::reach(root.path()).await, Ok(Operator::Server(_))));
}
