//! What operators' commands ask of a running server, by a Unix socket in its data folder and never by
//! the public listener. Who may open the socket (mode 0600, its owner) may do all of it.

pub mod nodes;
pub mod tunnel;

use crate::data_dir::DataDir;
use crate::storage::{Backup, DeadLetter, Jobs, Page, StorageError};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fs::{DirBuilder, Permissions};
use std::future::{Future, ready};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// A page of dead letters, oldest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct LetterList {
    /// The letters.
    pub dead_letters: Vec<DeadLetter>,
    /// How many there are in all.
    pub total: u64,
    /// What `after` the next page is asked with, if there may be one.
    pub next: Option<u64>,
}

/// Why something was not done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// In one line.
    pub error: String,
}

#[derive(Clone)]
struct Operators {
    jobs: Arc<dyn Jobs>,
    backup: Option<Arc<dyn Backup>>,
}

/// Letters on a page.
const PAGE: usize = 100;

/// The requests that are answered.
pub fn router(jobs: Arc<dyn Jobs>, backup: Option<Arc<dyn Backup>>) -> Router {
    let backups = Router::new().route("/backup", post(back_up));
    letters().merge(backups).with_state(Operators { jobs, backup })
}

/// Those that touch no file of the server's machine: for operators who may be on another one.
pub fn remote_router(jobs: Arc<dyn Jobs>) -> Router {
    letters().with_state(Operators { jobs, backup: None })
}

fn letters() -> Router<Operators> {
    Router::new()
        .route("/dead-letters", get(list))
        .route("/dead-letters/{id}", get(show).delete(forget))
        .route("/dead-letters/{id}/redrive", post(redrive))
}

/// Takes the socket of a data folder. One that is there was left by a process that is gone: only the
/// holder of the folder's lock comes here.
///
/// # Errors
/// The folder cannot be written.
pub fn bind(data: &DataDir) -> io::Result<UnixListener> {
    // A socket has the mode that the umask leaves it until it is changed, and accepts from its birth. So
    // it is born in a folder that nobody else can enter, and moves out when its mode is right.
    let nursery = data.path().join(".sock");
    let _ = std::fs::remove_dir_all(&nursery);
    DirBuilder::new().mode(0o700).create(&nursery)?;
    let born = data.socket_address(".sock/s");
    let listener = UnixListener::bind(&born)?;
    std::fs::set_permissions(&born, Permissions::from_mode(0o600))?;
    std::fs::rename(&born, data.socket())?;
    std::fs::remove_dir(&nursery)?;
    Ok(listener)
}

/// Answers until `stopped`, then what was begun.
///
/// # Errors
/// The socket failed.
pub async fn serve(
    listener: UnixListener,
    router: Router,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stopped).await
}

/// An error of the store, told to its operator as it is.
struct Failure(StorageError);

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0 {
            StorageError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            StorageError::Refused(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(Refusal { error: self.0.to_string() })).into_response()
    }
}

#[derive(Deserialize)]
struct ListQuery {
    after: Option<u64>,
}

async fn list(
    State(to): State<Operators>,
    Query(ListQuery { after }): Query<ListQuery>,
) -> Result<Json<LetterList>, Failure> {
    let listed = to.jobs.dead_letters(Page { before: after, limit: PAGE }).await?;
    let next = listed.items.last().map(|(place, _)| *place).filter(|_| listed.items.len() == PAGE);
    let dead_letters = listed.items.into_iter().map(|(_, letter)| letter).collect();
    Ok(Json(LetterList { dead_letters, total: listed.total, next }))
}

async fn show(State(to): State<Operators>, Path(id): Path<u64>) -> Result<Response, Failure> {
    Ok(match to.jobs.dead_letter(id).await? {
        Some(letter) => Json(letter).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

async fn redrive(State(to): State<Operators>, Path(id): Path<u64>) -> Result<StatusCode, Failure> {
    Ok(found(to.jobs.redrive(id, crate::model::timestamp::Timestamp::now()).await?))
}

async fn forget(State(to): State<Operators>, Path(id): Path<u64>) -> Result<StatusCode, Failure> {
    Ok(found(to.jobs.drop_letter(id).await?))
}

const fn found(there: bool) -> StatusCode {
    if there { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

#[derive(Deserialize)]
struct BackupRequest {
    file: PathBuf,
}

/// Lines of JSON while it goes on: `{"left", "total"}` in pages, at last `{"done": true}` or `{"error"}`.
/// A backup goes on though nobody listens any more.
async fn back_up(State(to): State<Operators>, Json(BackupRequest { file }): Json<BackupRequest>) -> Response {
    let (lines, heard) = mpsc::channel::<Value>(16);
    let told = lines.clone();
    // A line that finds no room is left out: the next one says more.
    let progress = move |left: u64, total: u64| drop(told.try_send(json!({"left": left, "total": total})));
    let copying = match &to.backup {
        Some(store) => store.backup(file, Box::new(progress)),
        None => Box::pin(ready(Err(StorageError::Refused(
            "the data is in a CQL cluster: copy it by its own snapshots, or by `roost copy`".to_owned(),
        )))),
    };
    tokio::spawn(async move {
        let last = match copying.await {
            Ok(()) => json!({"done": true}),
            Err(error) => json!({"error": error.to_string()}),
        };
        let _ = lines.send(last).await;
    });
    let body = futures_util::stream::unfold(heard, |mut heard| async {
        let line = heard.recv().await?;
        Some((Ok::<_, Infallible>(format!("{line}\n")), heard))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::bind;
    use crate::data_dir::DataDir;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_takes_the_place_of_one_left_behind() {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(root.path()).unwrap();
        drop(bind(&data).unwrap());
        assert!(data.socket().exists(), "a socket's file outlives its listener");
        assert!(UnixStream::connect(data.socket()).is_err());
        let _listener = bind(&data).unwrap();
        UnixStream::connect(data.socket()).unwrap();
        let mode = std::fs::metadata(data.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let left: Vec<_> =
            std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
