//! The data folder: who uses it (one process, by a lock that the system drops when the process ends,
//! however it ends) and where in it what is. What is in the files is not known here.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// A data folder that this process has locked.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    // Both are held, not read: the lock ends with the one, short socket addresses with the other.
    _lock: File,
    folder: File,
}

/// Why a data folder cannot be used; each is one line.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error("data folder {}: another roost{} uses it", path.display(), pid.map_or_else(String::new, |pid| format!(" (pid {pid})")))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process, if it has said who it is.
        pid: Option<u32>,
    },
    /// It cannot be made.
    #[error("data folder {}: cannot be made ({error})", path.display())]
    NotMade {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Nothing can be written into it.
    #[error("data folder {}: cannot be written ({error})", path.display())]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is none, and the one who asks wants no new one.
    #[error("data folder {}: there is none", .0.display())]
    Missing(PathBuf),
}

/// The longest path that fits into a socket's address on every Unix.
const LONGEST_ADDRESS: usize = 100;

impl DataDir {
    /// Makes the folder where it is missing, for its owner alone, and takes its lock.
    ///
    /// # Errors
    /// It is in use, or cannot be made or written.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| DataDirError::NotMade { path: path.to_owned(), error })?;
        Self::lock(path)
    }

    /// Takes the lock of a folder that is there: for commands that work on what a server left.
    ///
    /// # Errors
    /// It is in use, is missing, or cannot be written.
    pub fn open_existing(path: &Path) -> Result<Self, DataDirError> {
        if path.is_dir() { Self::lock(path) } else { Err(DataDirError::Missing(path.to_owned())) }
    }

    fn lock(path: &Path) -> Result<Self, DataDirError> {
        let not_writable = |error| DataDirError::NotWritable { path: path.to_owned(), error };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("roost.lock"))
            .map_err(not_writable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(DataDirError::InUse { path: path.to_owned(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(not_writable(error)),
        }
        // Only now: a file that another has locked says who the other is.
        let named = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        // Who it is, is said for people's sake; a full disk must not keep a server from starting.
        drop(named);
        let folder = File::open(path).map_err(not_writable)?;
        Ok(Self { path: path.to_owned(), _lock: lock, folder })
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> PathBuf {
        self.path.join("roost.db")
    }

    /// What tells this folder from every other, made at its first use.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn id(&self) -> Result<Uuid, DataDirError> {
        let file = self.path.join("node-id");
        if let Ok(text) = std::fs::read_to_string(&file)
            && let Ok(id) = text.trim().parse()
        {
            return Ok(id);
        }
        let id = Uuid::new_v4();
        let not_writable = |error| DataDirError::NotWritable { path: self.path.clone(), error };
        std::fs::write(&file, format!("{id}\n")).map_err(not_writable)?;
        Ok(id)
    }

    /// The key that signs tokens where no other is set.
    #[must_use]
    pub fn signing_key(&self) -> PathBuf {
        self.path.join("signing-key.pem")
    }

    /// The socket by which operators' commands reach the server.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// A path to `name` in this folder that fits into a socket's address, however long the folder's own.
    #[must_use]
    pub fn socket_address(&self, name: &str) -> PathBuf {
        address(&self.path, &self.folder, name)
    }
}

/// The socket of whoever runs on the folder at `path`, and what must be kept while it is connected to.
///
/// # Errors
/// The folder cannot be opened.
pub fn socket_of(path: &Path) -> io::Result<(PathBuf, File)> {
    let folder = File::open(path)?;
    Ok((address(path, &folder, SOCKET), folder))
}

const SOCKET: &str = "roost.sock";

/// By way of the open folder where the path itself is too long (`sockaddr_un` holds 108 bytes).
fn address(path: &Path, folder: &File, name: &str) -> PathBuf {
    let plain = path.join(name);
    if plain.as_os_str().len() <= LONGEST_ADDRESS {
        return plain;
    }
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name)
}

#[cfg(test)]
mod tests {
    use super::{DataDir, DataDirError, socket_of};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn is_made_for_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(&root.path().join("deep/data")).unwrap();
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(data.path()), 0o700);
        assert_eq!(mode(&data.path().join("roost.lock")), 0o600);
    }

    #[test]
    fn a_second_one_is_told_who_has_it_until_the_first_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let first = DataDir::open(root.path()).unwrap();
        let line = DataDir::open(root.path()).unwrap_err().to_string();
        let (path, pid) = (root.path().display(), std::process::id());
        assert_eq!(line, format!("data folder {path}: another roost (pid {pid}) uses it"));
        drop(first);
        DataDir::open(root.path()).unwrap();
    }

    #[test]
    fn what_cannot_be_made_or_written_is_told_in_a_line() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = DataDir::open(&file.join("data")).unwrap_err();
        assert!(
            matches!(error, DataDirError::NotMade { .. }) && !error.to_string().contains('\n'),
            "{error}"
        );
        let error = DataDir::open_existing(&root.path().join("none")).unwrap_err();
        assert!(matches!(error, DataDirError::Missing(_)), "{error}");
        assert!(!root.path().join("none").exists());
        // /proc refuses new files to everybody, root too.
        let error = DataDir::open("/proc".as_ref()).unwrap_err();
        assert!(matches!(error, DataDirError::NotWritable { .. }), "{error}");
    }

    #[test]
    fn a_socket_can_be_reached_however_long_the_path() {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(&root.path().join("long/".repeat(60))).unwrap();
        let _listener = UnixListener::bind(data.socket_address("roost.sock")).unwrap();
        let (address, _folder) = socket_of(data.path()).unwrap();
        UnixStream::connect(address).unwrap();
    }
}
