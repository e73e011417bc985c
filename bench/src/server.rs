//! The Roost under test: the real binary on a data folder of its own, all limits off.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper::Method;
use tempfile::TempDir;

use crate::client::Caller;
use crate::engines::Engines;
use crate::error::{Error, Result, io_error};
use crate::process::{Process, Usage};

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(90);

/// The limits that would measure themselves; 0 is none.
pub const LIMITS: [&str; 8] = [
    "ROOST_LIMIT_REQUESTS_PER_SECOND",
    "ROOST_LIMIT_REQUEST_BURST",
    "ROOST_LIMIT_POSTS_PER_MINUTE",
    "ROOST_LIMIT_ADDRESS_REQUESTS_PER_SECOND",
    "ROOST_LIMIT_LOGINS_PER_MINUTE",
    "ROOST_LIMIT_REGISTRATIONS_PER_HOUR",
    "ROOST_LIMIT_FRAMES_PER_SECOND",
    "ROOST_LIMIT_PRESSES_PER_SECOND",
];

/// A running server and its data; the data folder goes away with it, the engines are emptied at its [`Server::end`].
#[derive(Debug)]
pub struct Server {
    process: Process,
    program: PathBuf,
    address: SocketAddr,
    data: TempDir,
    engines: Engines,
}

impl Server {
    /// Starts the program on fresh data, in a folder under `folder` and in emptied engines, and waits until it is ready.
    pub async fn start(program: &Path, folder: &Path, engines: &Engines) -> Result<Self> {
        let program =
            program.canonicalize().map_err(io_error(format!("the server {}", program.display())))?;
        let data = tempfile::Builder::new()
            .prefix("data-")
            .tempdir_in(folder)
            .map_err(io_error("making a data folder"))?;
        engines.clear().await?;
        let address = free_address()?;
        let process = spawn(&program, address, data.path(), engines)?;
        let mut server = Self { process, program, address, data, engines: engines.clone() };
        server.ready().await?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        data_folder(self.data.path())
    }

    /// What it has used since it was started last.
    pub fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }

    /// The time of the thread that writes its SQLite store, since it was started last.
    pub fn writer_cpu(&self) -> Result<Duration> {
        self.process.cpu_of_threads("roost-writer")
    }

    /// Its anonymous resident memory in bytes now.
    pub fn anonymous(&self) -> Result<u64> {
        self.process.anonymous()
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// SIGTERM, and waits for its orderly end.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop(STOP_WITHIN).await
    }

    /// Stops it, and empties its engines.
    pub async fn end(mut self) -> Result<()> {
        self.stop().await?;
        self.engines.clear().await
    }

    /// Starts it again on the same data and address; the former process must have ended.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.program, self.address, self.data.path(), &self.engines)?;
        self.ready().await
    }

    async fn ready(&mut self) -> Result<()> {
        let began = Instant::now();
        let mut caller = Caller::new(self.address);
        loop {
            let answer = caller.call(Method::GET, "/health/ready", None, None).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.process.ended() {
                return Err(self.process.failed(format!("ended ({status})")));
            }
            if began.elapsed() > READY_WITHIN {
                return Err(self.process.failed(format!("was not ready in {READY_WITHIN:?}")));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn spawn(program: &Path, address: SocketAddr, folder: &Path, engines: &Engines) -> Result<Process> {
    let data = data_folder(folder).display().to_string();
    let mut environment = vec![("ROOST_LISTEN", address.to_string()), ("ROOST_DATA_DIR", data)];
    environment.extend(engines.environment());
    environment.extend(LIMITS.map(|limit| (limit, "0".to_owned())));
    let log = folder.join("server.log");
    let process = Process::start(program, ["serve"], &environment, &log, false)?;
    // For whoever wants to look at it with a profiler.
    eprintln!("the server is process {}", process.id());
    Ok(process)
}

fn data_folder(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// A port that was free a moment ago: the server must come back on the one it had.
pub fn free_address() -> Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|source| Error::Io { what: "finding a free port".to_owned(), source })
}
