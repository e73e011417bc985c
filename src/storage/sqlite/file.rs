//! The store's file: made, recognised, checked and opened. A file that is refused is left as it was.

use super::migrations;
use crate::model::cursor::StoreName;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `Rost`: tells our files from other SQLite databases.
const APPLICATION_ID: i64 = 0x526F_7374;
/// How every database of SQLite's begins.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// How long a connection waits for another process that holds a lock (an operator with a shell).
const BUSY: Duration = Duration::from_secs(2);
/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 128;
/// `PRAGMA synchronous`: a commit is on the disk before it is answered.
const SYNCHRONOUS_FULL: i64 = 2;

/// Why a store was not opened; each in one line.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or the file cannot be written.
    #[error("{file}: cannot be opened for writing: {why}")]
    Unwritable {
        /// The store's file.
        file: PathBuf,
        /// What the system says.
        why: String,
    },
    /// A newer version made it.
    #[error("{file}: made by a newer version of roost (schema {found}, this one knows {known})")]
    Newer {
        /// The store's file.
        file: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that this version knows.
        known: i64,
    },
    /// Something else than a store of ours.
    #[error("{file}: is not a database of roost")]
    NotOurs {
        /// The file.
        file: PathBuf,
    },
    /// A store that lacks something or contradicts itself.
    #[error("{file}: the database is damaged ({why}); restore a backup")]
    Damaged {
        /// The store's file.
        file: PathBuf,
        /// What was found.
        why: String,
    },
    /// A copy of another store that was not finished.
    #[error("{file}: holds a copy that is not whole: run the same `roost copy` again, or remove the file")]
    HalfCopied {
        /// The store's file.
        file: PathBuf,
    },
    /// An older schema that could not be brought up to this version's.
    #[error("{file}: schema {found} could not be brought up to {known}, nothing was changed: {why}")]
    Migration {
        /// The store's file.
        file: PathBuf,
        /// Its schema.
        found: i64,
        /// The schema of this version.
        known: i64,
        /// What failed.
        why: String,
    },
}

/// What a file was found to be.
enum Found {
    New,
    Ours { version: i64 },
}

/// Opens the file for its writer, made or brought up to date where it must be, and tells its name.
pub(super) fn open_writer(file: &Path) -> Result<(Connection, StoreName), OpenError> {
    let found = recognise(file)?;
    let told = |error: rusqlite::Error| told(file, &error);
    let connection = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(told)?;
    if matches!(found, Found::New) {
        // Before the first page is written: it cannot be changed after.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(told)?;
    }
    set_up_writer(&connection, file)?;
    match found {
        Found::New => create(&connection).map_err(told)?,
        Found::Ours { version } => {
            migrations::bring_up(&connection, file, version)?;
            check_length(&connection, file)?;
        }
    }
    // A folder that cannot be written shows here, not at the first post.
    connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK").map_err(told)?;
    let name = connection.query_row("SELECT value FROM meta WHERE name = 'store_name'", [], |row| row.get(0));
    let name: i64 = name.map_err(|error| match error {
        rusqlite::Error::QueryReturnedNoRows => {
            OpenError::Damaged { file: file.to_owned(), why: "it has no name".to_owned() }
        }
        error => told(error),
    })?;
    Ok((connection, StoreName(name.cast_unsigned())))
}

/// Opens the file for reading alone.
pub(super) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -4096)?;
    Ok(connection)
}

/// Sets a new name, as every new store and every copy gets.
pub(super) fn name_anew(connection: &Connection) -> rusqlite::Result<()> {
    let name = StoreName::make().0.cast_signed();
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('store_name', ?1)", [name])?;
    Ok(())
}

/// Looks at the file without changing it; where there is none, makes an empty one that only we may read.
fn recognise(file: &Path) -> Result<Found, OpenError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    match made {
        Ok(_) => return Ok(Found::New),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => {
            return Err(OpenError::Unwritable { file: file.to_owned(), why: error.to_string() });
        }
    }
    // SQLite takes a file that is shorter than any database for an empty one.
    match begins_like_a_database(file) {
        Ok(true) => {}
        Ok(false) => return Err(OpenError::NotOurs { file: file.to_owned() }),
        Err(error) => return Err(OpenError::Unwritable { file: file.to_owned(), why: error.to_string() }),
    }
    let told = |error: rusqlite::Error| told(file, &error);
    let connection = look_at(file).map_err(told)?;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(told);
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    match (application, version) {
        // Cut off while it was made: nothing is in it yet.
        (0, 0) if tables == 0 => Ok(Found::New),
        (APPLICATION_ID, found) if found > migrations::VERSION => {
            Err(OpenError::Newer { file: file.to_owned(), found, known: migrations::VERSION })
        }
        (APPLICATION_ID, version) if version > 0 => Ok(Found::Ours { version }),
        _ => Err(OpenError::NotOurs { file: file.to_owned() }),
    }
}

/// Whether it is empty, or begins as SQLite's files do.
fn begins_like_a_database(file: &Path) -> std::io::Result<bool> {
    let mut beginning = Vec::new();
    File::open(file)?.take(MAGIC.len() as u64).read_to_end(&mut beginning)?;
    Ok(beginning.is_empty() || beginning == MAGIC)
}

/// Opens the file for a look. To read one whose log is not there SQLite would make one, and leave it;
/// such a file is whole without, and said to be immutable for as long as the look takes.
fn look_at(file: &Path) -> rusqlite::Result<Connection> {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    let mode = OpenFlags::SQLITE_OPEN_READ_ONLY;
    match file.to_str() {
        Some(path) if !Path::new(&log).exists() => {
            let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
            connect(Path::new(&format!("file:{path}?immutable=1")), mode | OpenFlags::SQLITE_OPEN_URI)
        }
        _ => connect(file, mode),
    }
}

fn connect(file: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(file, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Otherwise a statement that might use a partial index is planned anew at each binding of its values.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // A mapped file would turn a disk's error into a signal that ends the process.
    connection.pragma_update(None, "mmap_size", 0)?;
    Ok(connection)
}

/// What makes a commit durable, read back: a build of SQLite may know better.
fn set_up_writer(connection: &Connection, file: &Path) -> Result<(), OpenError> {
    let set = || -> rusqlite::Result<(String, i64)> {
        let journal = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "cache_size", -16384)?;
        // Pages of the log after which it is copied into the file, and what is left of the log then.
        connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        let synchronous = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        Ok((journal, synchronous))
    };
    match set().map_err(|error| told(file, &error))? {
        (journal, SYNCHRONOUS_FULL) if journal == "wal" => Ok(()),
        (journal, synchronous) => Err(OpenError::Unwritable {
            file: file.to_owned(),
            why: format!("commits would not be durable there (journal {journal}, synchronous {synchronous})"),
        }),
    }
}

/// All in one transaction: a file is either empty or a whole store.
fn create(connection: &Connection) -> rusqlite::Result<()> {
    let making = connection.unchecked_transaction()?;
    making.execute_batch(migrations::SCHEMA)?;
    making.execute_batch(
        "INSERT INTO meta (name, value)
         VALUES ('swept', 0), ('chat_swept', 0), ('follow_place', 0), ('checked', 0)",
    )?;
    name_anew(&making)?;
    making.pragma_update(None, "application_id", APPLICATION_ID)?;
    making.pragma_update(None, "user_version", migrations::VERSION)?;
    making.commit()
}

/// A file that was cut short still opens; its missing pages would be found one by one.
fn check_length(connection: &Connection, file: &Path) -> Result<(), OpenError> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let whole = || -> rusqlite::Result<i64> {
        // What is still in the log alone goes into the file first.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(number("page_count")? * number("page_size")?)
    };
    let whole = whole().map_err(|error| told(file, &error))?;
    let length = std::fs::metadata(file)
        .map_err(|error| OpenError::Unwritable { file: file.to_owned(), why: error.to_string() })?
        .len();
    if i64::try_from(length).is_ok_and(|length| length < whole) {
        let why = format!("{length} bytes of {whole} are there");
        return Err(OpenError::Damaged { file: file.to_owned(), why });
    }
    Ok(())
}

/// A fault of SQLite while opening, in words for an operator.
pub(super) fn told(file: &Path, error: &rusqlite::Error) -> OpenError {
    let file = file.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotOurs { file },
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked,
        ) => OpenError::Unwritable { file, why: error.to_string() },
        _ => OpenError::Damaged { file, why: error.to_string() },
    }
}
