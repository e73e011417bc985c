//! What can go wrong in a run. Every variant ends the run: a benchmark that goes on after an error
//! would report figures of something else.

use std::io;
use std::path::PathBuf;

/// The one error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, socket or pipe of ours.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The transport below a REST call.
    #[error("{call}: {reason}")]
    Call {
        /// Method and path.
        call: String,
        /// What the transport said.
        reason: String,
    },
    /// A call was answered, but not as the scenario needs.
    #[error("{call} answered {status}: {body}")]
    Answer {
        /// Method and path.
        call: String,
        /// The HTTP status.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// The process under test ended or did not become ready.
    #[error("{program} {reason}; the end of its log:\n{log}")]
    Process {
        /// The program's path.
        program: PathBuf,
        /// What it did.
        reason: String,
        /// The last lines it wrote.
        log: String,
    },
    /// The store's file, filled past the API.
    #[error("filling the store: {0}")]
    Store(#[from] rusqlite::Error),
    /// A condition that the scenario waits for did not come.
    #[error("waited in vain for {0}")]
    Waited(String),
    /// Anything that cannot be measured as asked.
    #[error("{0}")]
    Refused(String),
}

/// What every fallible function here answers.
pub type Result<T> = std::result::Result<T, Error>;

/// Names what was being done when the system refused.
pub fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}
