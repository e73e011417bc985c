//! A copy of the whole store, made while everything goes on, by SQLite's own backup on a thread and
//! connections of its own. It is one moment of the store. It gets a name of its own, so that cursors
//! of the original are known for foreign. Until it is whole and on the disk it is called `FILE.partial`.

use super::file;
use crate::storage::{Pending, StorageError};
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Pages copied at a time, between two words of progress.
const STEP: i32 = 256;
/// How long it waits where somebody else holds a lock.
const WAIT: Duration = Duration::from_millis(20);

/// Begins a copy of `from` into `to`.
pub(super) fn start(from: Arc<PathBuf>, to: PathBuf, progress: Box<dyn Fn(u64, u64) + Send>) -> Pending<()> {
    let (answer, answered) = oneshot::channel();
    let thread = std::thread::Builder::new().name("roost-backup".to_owned()).spawn(move || {
        // Whoever asked may have gone: the copy is finished all the same.
        let _ = answer.send(copy(&from, &to, &progress));
    });
    if let Err(error) = thread {
        return Box::pin(std::future::ready(Err(StorageError::Unavailable(error.to_string()))));
    }
    Box::pin(async move {
        answered.await.unwrap_or_else(|_| Err(StorageError::Refused("a backup panicked".to_owned())))
    })
}

fn copy(from: &Path, to: &Path, progress: &dyn Fn(u64, u64)) -> Result<(), StorageError> {
    if to.exists() {
        return Err(refused(to, "exists already"));
    }
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    // What a copy left that was cut off is taken over; what one is writing now is locked.
    let held = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&partial)
        .map_err(|error| failed(&partial, &error))?;
    match held.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(refused(&partial, "is being written by another backup"));
        }
        Err(TryLockError::Error(error)) => return Err(failed(&partial, &error)),
    }
    let copied = fill(from, &partial, &held, progress)
        .and_then(|()| std::fs::rename(&partial, to).map_err(|error| failed(to, &error)))
        .and_then(|()| sync_folder(to));
    if copied.is_err() {
        // It may be gone already; what matters is why the copy failed.
        let _ = std::fs::remove_file(&partial);
    }
    copied
}

fn fill(from: &Path, to: &Path, held: &File, progress: &dyn Fn(u64, u64)) -> Result<(), StorageError> {
    held.set_len(0).map_err(|error| failed(to, &error))?;
    let source = file::open_reader(from)?;
    // Held to the end: the copy is of this moment, and no write makes it start over.
    let moment = source.unchecked_transaction()?;
    moment.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))?;
    let mut copy = Connection::open(to)?;
    // Nobody needs a half-made copy back: it is made safe as a whole, below.
    copy.pragma_update(None, "synchronous", "OFF")?;
    let steps = Backup::new(&source, &mut copy)?;
    loop {
        let step = steps.step(STEP)?;
        let so_far = steps.progress();
        progress(so_far.remaining.unsigned_abs().into(), so_far.pagecount.unsigned_abs().into());
        match step {
            StepResult::Done => break,
            StepResult::Busy | StepResult::Locked => std::thread::sleep(WAIT),
            _ => {}
        }
    }
    drop(steps);
    // One file that stands alone, without a log beside it.
    copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
    file::name_anew(&copy)?;
    copy.close().map_err(|(_, error)| error)?;
    held.sync_all().map_err(|error| failed(to, &error))
}

/// A rename is on the disk when its folder is.
fn sync_folder(file: &Path) -> Result<(), StorageError> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(folder, &error))
}

fn refused(file: &Path, why: &str) -> StorageError {
    StorageError::Refused(format!("{}: {why}", file.display()))
}

fn failed(file: &Path, error: &std::io::Error) -> StorageError {
    StorageError::Unavailable(format!("{}: {error}", file.display()))
}
