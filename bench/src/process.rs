//! A process under test: started, measured from `/proc`, ended by its own id.
//!
//! What it writes goes to a log file beside its data; the end of that file is shown when it fails.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::error::{Error, Result, io_error};
use crate::processors;

/// What a process has used so far, as the kernel counts it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time, of ended threads too.
    pub cpu: Duration,
    /// Anonymous resident memory in bytes: the heap and the stacks.
    pub anonymous: u64,
    /// Proportional resident memory in bytes: with its share of mapped files.
    pub proportional: u64,
    /// The most that was ever resident, in bytes.
    pub peak: u64,
}

/// A child process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    program: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts the program with this environment on top of ours. With `piped`, its standard input and
    /// output are ours to use; else both streams of output go to the log.
    pub fn start<I, S>(
        program: &Path,
        arguments: I,
        environment: &[(&str, String)],
        log: &Path,
        piped: bool,
    ) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let opened = File::options().create(true).append(true).open(log);
        let errors = opened.map_err(io_error(format!("opening {}", log.display())))?;
        let (input, output) = if piped {
            (Stdio::piped(), Stdio::piped())
        } else {
            let copy = errors.try_clone().map_err(io_error("the log"))?;
            (Stdio::null(), Stdio::from(copy))
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(input)
            .stdout(output)
            .stderr(errors);
        let child =
            processors::spawn(&mut command).map_err(io_error(format!("starting {}", program.display())))?;
        Ok(Self { child, program: program.to_owned(), log: log.to_owned() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its pipes, once, if it was started with them.
    pub fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        self.child.stdin.take().zip(self.child.stdout.take())
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// An error that shows the end of its log.
    pub fn failed(&self, reason: impl Into<String>) -> Error {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        Error::Process {
            program: self.program.clone(),
            reason: reason.into(),
            log: lines[lines.len().saturating_sub(20)..].join("\n"),
        }
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage> {
        let id = self.child.id();
        let read = |file: &str| {
            let path = format!("/proc/{id}/{file}");
            fs::read_to_string(&path).map_err(io_error(path))
        };
        let status = read("status")?;
        Ok(Usage {
            cpu: cpu_time(&read("stat")?)
                .ok_or_else(|| Error::Refused("/proc/PID/stat cannot be read".to_owned()))?,
            anonymous: kibibytes(&status, "RssAnon:"),
            proportional: kibibytes(&read("smaps_rollup")?, "Pss:"),
            peak: kibibytes(&status, "VmHWM:"),
        })
    }

    /// User and system time of its threads of that name, those that have ended left out.
    pub fn cpu_of_threads(&self, name: &str) -> Result<Duration> {
        let path = format!("/proc/{}/task", self.child.id());
        let mut sum = Duration::ZERO;
        for thread in fs::read_dir(&path).map_err(io_error(&path))?.flatten() {
            // One that has just ended has no file any more.
            let Ok(stat) = fs::read_to_string(thread.path().join("stat")) else { continue };
            if stat.contains(&format!("({name})")) {
                sum += cpu_time(&stat).unwrap_or_default();
            }
        }
        Ok(sum)
    }

    /// Its anonymous resident memory in bytes now; cheap enough to be asked often.
    pub fn anonymous(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        Ok(kibibytes(&fs::read_to_string(&path).map_err(io_error(path))?, "RssAnon:"))
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().map_err(io_error("kill"))?;
        self.child.wait().map_err(io_error("wait"))?;
        Ok(())
    }

    /// SIGSTOP: from now on it does nothing, and does not know it.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP, "SIGSTOP")
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT, "SIGCONT")
    }

    fn signal(&self, signal: Signal, name: &str) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).map_err(io::Error::from).map_err(io_error(name))
    }

    /// SIGTERM, and waits until it has stopped in order; a process that does not is an error.
    pub async fn stop(&mut self, patience: Duration) -> Result<()> {
        self.signal(Signal::TERM, "SIGTERM")?;
        let deadline = tokio::time::Instant::now() + patience;
        while self.ended().is_none() {
            if tokio::time::Instant::now() > deadline {
                return Err(self.failed(format!("did not stop within {patience:?}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error here means that it has ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Raises the number of open files to what the system allows, for us and the processes we start.
pub fn raise_open_files() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised)
        .map_err(io::Error::from)
        .map_err(io_error("raising the limit of open files"))?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// User and system time in a line of `/proc/PID/stat` (proc(5): fields 14 and 15; the name in
/// parentheses may hold anything).
fn cpu_time(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let user: u64 = fields.get(11)?.parse().ok()?;
    let system: u64 = fields.get(12)?.parse().ok()?;
    let ticks = (user + system) as f64 / clock_ticks_per_second() as f64;
    Some(Duration::from_secs_f64(ticks))
}

/// A line such as `RssAnon:  1234 kB`, in bytes; 0 where the kernel has no such line.
fn kibibytes(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|value| value.split_whitespace().next())
        .and_then(|value| value.parse::<u64>().ok())
        .map_or(0, |kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{cpu_time, kibibytes};

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 3 0 99 1000 10";
        let ticks = 400.0 / rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_time(stat), Some(Duration::from_secs_f64(ticks)));
        assert_eq!(cpu_time("7 (a"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "VmHWM:\t    2048 kB\nRssAnon:\t      12 kB\n";
        assert_eq!(kibibytes(status, "RssAnon:"), 12 * 1024);
        assert_eq!(kibibytes(status, "VmHWM:"), 2048 * 1024);
        assert_eq!(kibibytes(status, "Pss:"), 0);
    }
}
