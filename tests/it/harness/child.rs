//! The real program as a child process, as an operator starts it.

use super::ground::Ground;
use super::rest::Rest;
use super::{PATIENCE, until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use tempfile::TempDir;

/// Limits that a test which is not about them does without.
const LIMITS: [&str; 7] = [
    "ROOST_LIMIT_REQUESTS_PER_SECOND",
    "ROOST_LIMIT_POSTS_PER_MINUTE",
    "ROOST_LIMIT_ADDRESS_REQUESTS_PER_SECOND",
    "ROOST_LIMIT_LOGINS_PER_MINUTE",
    "ROOST_LIMIT_REGISTRATIONS_PER_HOUR",
    "ROOST_LIMIT_FRAMES_PER_SECOND",
    "ROOST_LIMIT_PRESSES_PER_SECOND",
];

/// Lines of a server's log that are shown where a test fails.
const LAST_WORDS: usize = 30;

/// The program: the one that the environment names (a release build), else this build's.
pub fn program() -> PathBuf {
    std::env::var_os("ROOST_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_roost").into(), PathBuf::from)
}

/// Settings and a data folder, and the process while it runs. Dropped, the process is killed.
pub struct RealServer {
    rest: Rest,
    folder: TempDir,
    ground: Option<Ground>,
    settings: Vec<(String, String)>,
    arguments: Vec<String>,
    /// What starts the program, where it is not started plainly.
    within: Vec<String>,
    child: Option<Child>,
    /// The lines of its standard output.
    lines: Option<Receiver<String>>,
    /// What its first line said.
    pub greeting: String,
}

impl Deref for RealServer {
    type Target = Rest;

    fn deref(&self) -> &Rest {
        &self.rest
    }
}

impl RealServer {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(settings: &[(&str, &str)]) -> Self {
        let mut server = Self::prepare(settings);
        server.spawn();
        server
    }

    /// Everything but the process.
    pub fn prepare(settings: &[(&str, &str)]) -> Self {
        let mut server = Self::bare(&[]);
        LIMITS.iter().for_each(|name| server.set(name, "0"));
        server.set("ROOST_LISTEN", "127.0.0.1:0");
        server.set("ROOST_DATA_DIR", &server.data_dir().display().to_string());
        server.ground = Ground::here();
        for (name, value) in server.ground.iter().flat_map(Ground::variables).collect::<Vec<_>>() {
            server.set(name, &value);
        }
        settings.iter().for_each(|(name, value)| server.set(name, value));
        server
    }

    /// The program with these arguments and no settings.
    pub fn bare(arguments: &[&str]) -> Self {
        Self {
            rest: Rest::to("http://nowhere"),
            folder: tempfile::tempdir().expect("a folder"),
            ground: None,
            settings: Vec::new(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            within: Vec::new(),
            child: None,
            lines: None,
            greeting: String::new(),
        }
    }

    /// Changes a setting for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// What a setting is for the next start.
    pub fn setting(&self, name: &str) -> String {
        let found = self.settings.iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("{name} is not set")).1.clone()
    }

    /// It is started by this command, to which the program is appended.
    pub fn set_within(&mut self, command: &[&str]) {
        self.within = command.iter().map(|&word| word.to_owned()).collect();
    }

    /// Calls go through another client (one that trusts a certificate of its own).
    pub fn reached_by(&mut self, client: reqwest::Client) {
        self.rest = Rest::by(client, &self.rest.url(""));
    }

    /// Starts it and waits until it says where it listens.
    pub fn spawn(&mut self) {
        let log = File::options().append(true).create(true).open(self.log_file()).expect("a log");
        let mut child = self
            .command(&self.arguments.iter().map(String::as_str).collect::<Vec<_>>())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (said, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        self.child = Some(child);
        let greeting = match lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("it did not say where it listens: {}", self.log()),
            Err(RecvTimeoutError::Disconnected) => panic!("it ended at once: {}", self.log()),
        };
        let address = greeting.split_whitespace().find(|word| word.starts_with("http"));
        let address = address.unwrap_or_else(|| panic!("no address in {greeting:?}"));
        self.rest.moved_to(address.trim_end_matches(['/', ',', '.', ';', ':']));
        self.greeting = greeting;
        self.lines = Some(lines);
    }

    /// The program with this server's settings and no others.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.within.split_first() {
            Some((first, more)) => {
                let mut command = Command::new(first);
                command.args(more).arg(program());
                command
            }
            None => Command::new(program()),
        };
        let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROOST_"));
        for (name, _) in ours {
            command.env_remove(name);
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value))).args(arguments);
        command.current_dir(self.folder.path());
        command
    }

    /// Runs a command to its end.
    pub fn runs(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("the program starts")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether everything is in its data folder.
    pub fn stands_alone(&self) -> bool {
        self.ground.is_none()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The data folder as the running process sees it, though it be a mount of its own.
    pub fn data_dir_inside(&self) -> PathBuf {
        let data_dir = self.data_dir();
        let from_root = data_dir.strip_prefix("/").expect("a whole path");
        Path::new("/proc").join(self.pid().to_string()).join("root").join(from_root)
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("stderr")
    }

    /// What all its runs wrote to standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The last lines of that.
    pub fn last_words(&self) -> Vec<String> {
        let log = self.log();
        let from = log.lines().count().saturating_sub(LAST_WORDS);
        log.lines().skip(from).map(str::to_owned).collect()
    }

    /// Whether the process is gone, by itself or never started.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().expect("its status").is_some())
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().expect("it runs"));
        kill_process(pid, signal).expect("it is there");
    }

    /// As by kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            child.wait().expect("it ends");
        }
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = until("the process ends", async || child.try_wait().expect("its status")).await;
        self.child = None;
        status
    }

    /// Lines on standard output since the first.
    pub fn more_lines(&self) -> Vec<String> {
        self.lines.iter().flat_map(|lines| lines.try_iter()).collect()
    }

    /// Memory that it holds (resident), in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the server's last words:");
            self.last_words().iter().for_each(|line| eprintln!("  {line}"));
        }
    }
}
