//! A Redis of a test's own: a process that can be killed, stopped, started again, emptied, made read-only.

use super::{lasting_port, this_test};
use crate::harness::{skip, until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A port and, while it runs, the process. Dropped, the process is killed.
pub struct RedisServer {
    port: u16,
    folder: TempDir,
    child: Option<Child>,
    is_paused: bool,
}

impl RedisServer {
    /// One that answers and holds nothing; none where the program is missing.
    #[track_caller]
    pub fn start() -> impl Future<Output = Option<Self>> {
        let test = this_test();
        async move {
            if Command::new("redis-server").arg("--version").output().is_err() {
                skip(&test, "needs the program redis-server");
                return None;
            }
            let port = lasting_port(&[Ipv4Addr::LOCALHOST]);
            let folder = tempfile::tempdir().expect("a folder");
            let mut server = Self { port, folder, child: None, is_paused: false };
            server.start_again().await;
            Some(server)
        }
    }

    /// Starts it after its end, on the same port; it holds nothing then.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log =
            File::options().append(true).create(true).open(self.folder.path().join("log")).expect("a log");
        let child = Command::new("redis-server")
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .arg("--dir")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("redis-server starts");
        self.child = Some(child);
        until("redis answers", async || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("its status"));
            assert!(ended.is_none(), "redis ended: {}", self.log());
            (self.run(&["ping"]).as_deref() == Some("PONG")).then_some(())
        })
        .await;
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `host:port`, for a proxy before it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// As by kill -9; connections are reset, new ones refused.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            child.wait().expect("it ends");
            self.is_paused = false;
        }
    }

    /// It hangs: connections stay and new ones are taken, but nothing is answered.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on after a pause.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether it runs and is not paused.
    pub const fn is_there(&self) -> bool {
        self.child.is_some() && !self.is_paused
    }

    /// Hangs, if it runs.
    pub fn hangs(&mut self) {
        if self.child.is_some() {
            self.pause();
            self.is_paused = true;
        }
    }

    /// Forgets everything, if it is there.
    pub fn forgets(&self) {
        if self.is_there() {
            self.flush();
        }
    }

    /// It runs and answers, whatever was done to it.
    pub async fn goes_on(&mut self) {
        if self.child.is_some() {
            self.resume();
            self.is_paused = false;
        } else {
            self.start_again().await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().expect("it runs"));
        kill_process(pid, signal).expect("it is there");
    }

    /// Forgets everything.
    pub fn flush(&self) {
        self.must(&["flushall"]);
    }

    /// Refuses every write with READONLY, as a replica does, and answers reads.
    pub fn refuse_writes(&self) {
        // Its primary is a port where nobody is, so that it keeps what it has.
        self.must(&["replicaof", "127.0.0.1", "1"]);
    }

    /// Takes writes again.
    pub fn take_writes(&self) {
        self.must(&["replicaof", "no", "one"]);
    }

    /// Refuses what would take more memory with OOM; with 0 there is no limit.
    pub fn limit_memory(&self, bytes: u64) {
        self.must(&["config", "set", "maxmemory", &bytes.to_string()]);
    }

    fn must(&self, command: &[&str]) {
        assert_eq!(self.says(command), "OK", "{command:?}");
    }

    /// What it answers to a command, as `redis-cli` prints it.
    pub fn says(&self, command: &[&str]) -> String {
        self.run(command).unwrap_or_else(|| panic!("{command:?} is answered: {}", self.log()))
    }

    fn run(&self, command: &[&str]) -> Option<String> {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(command).output();
        let output = output.expect("redis-cli starts");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
