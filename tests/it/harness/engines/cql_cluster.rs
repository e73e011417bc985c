//! Three CQL nodes that tests may kill and stop. They take half a minute to start, so all tests of this
//! process share them, one test at a time; each gets them whole.

use super::{lasting_port, this_test};
use crate::harness::skip;
use rustix::process::{Pid, Signal, kill_process};
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::host_filter::AllowListHostFilter;
use scylla::statement::Consistency;
use scylla::statement::unprepared::Statement;
use std::error::Error;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

/// How long one node may take to start, on a machine that is busy with other tests.
pub(super) const START: Duration = Duration::from_secs(120);

/// So often may a node give up a start.
const ENDS: usize = 5;

/// Where the nodes listen; the first is the seed.
const ADDRESSES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(127, 0, 1, 1), Ipv4Addr::new(127, 0, 1, 2), Ipv4Addr::new(127, 0, 1, 3)];

static CLUSTER: Mutex<Option<CqlCluster>> = Mutex::const_new(None);

/// Three nodes of one data centre (`datacenter1`) that lose no answered write when killed.
pub struct CqlCluster {
    folder: TempDir,
    port: u16,
    storage_port: u16,
    nodes: [Option<Child>; 3],
}

impl CqlCluster {
    /// The cluster, all nodes up, for as long as it is held; none where it cannot be started. Keyspaces of
    /// earlier tests are still there: a test has one of its own.
    #[track_caller]
    pub fn borrow() -> impl Future<Output = Option<MappedMutexGuard<'static, Self>>> {
        let test = this_test();
        async move {
            let mut shared = CLUSTER.lock().await;
            if shared.is_none() {
                if let Err(why) = fetch() {
                    skip(&test, &format!("needs a CQL server: {why}"));
                    return None;
                }
                *shared = Some(Self {
                    folder: tempfile::tempdir().expect("a folder"),
                    port: lasting_port(&ADDRESSES),
                    storage_port: lasting_port(&ADDRESSES),
                    nodes: [None, None, None],
                });
            }
            let mut cluster = MutexGuard::map(shared, |shared| shared.as_mut().expect("it was made"));
            cluster.mend().await;
            Some(cluster)
        }
    }

    /// The nodes, as `host:port`.
    pub fn nodes(&self) -> Vec<String> {
        ADDRESSES.iter().map(|address| format!("{address}:{}", self.port)).collect()
    }

    /// Which of them answer.
    pub async fn answering(&self) -> [bool; 3] {
        let mut all = [false; 3];
        for (node, address) in all.iter_mut().zip(ADDRESSES) {
            *node = answers((address, self.port)).await;
        }
        all
    }

    /// A node ends as by kill -9.
    pub fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.nodes[node].take() {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            child.wait().expect("it ends");
        }
    }

    pub fn kill_all(&mut self) {
        (0..ADDRESSES.len()).for_each(|node| self.kill(node));
    }

    /// A node hangs: it is connected, but answers nothing.
    pub fn pause(&self, node: usize) {
        self.signal(node, Signal::STOP);
    }

    /// It goes on after a pause.
    pub fn resume(&self, node: usize) {
        self.signal(node, Signal::CONT);
    }

    fn signal(&self, node: usize, signal: Signal) {
        let pid = Pid::from_child(self.nodes[node].as_ref().expect("it runs"));
        kill_process(pid, signal).expect("it is there");
    }

    /// Has all nodes run, answer and know that the others are there, with what they had.
    pub async fn mend(&mut self) {
        for node in 0..ADDRESSES.len() {
            if self.nodes[node].is_some() {
                self.resume(node);
            }
        }
        for node in 0..ADDRESSES.len() {
            self.start(node).await;
        }
        // A node that was away is missed by the others for some seconds longer.
        let deadline = Instant::now() + START;
        for node in self.nodes() {
            while let Err(why) = sees_all(&node).await {
                assert!(Instant::now() < deadline, "{node} does not see the others: {why}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Starts a node, if it does not run, and waits until it answers.
    pub async fn start(&mut self, node: usize) {
        let folder = self.folder.path().join(node.to_string());
        let mut ends = 0;
        let deadline = Instant::now() + START;
        while !answers((ADDRESSES[node], self.port)).await {
            let ended = self.nodes[node].as_mut().map(|child| child.try_wait().expect("its status"));
            if !matches!(ended, Some(None)) {
                // One that joins gives up where it hears of no other for two seconds: too few on a busy machine.
                assert!(ends <= ENDS, "node {node}: {}", self.last_words(node));
                ends += 1;
                self.nodes[node] = Some(self.spawn(node, &folder));
            }
            assert!(Instant::now() < deadline, "node {node}: {}", self.last_words(node));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn spawn(&self, node: usize, folder: &Path) -> Child {
        let log = File::options().append(true).create(true).open(self.log(node)).expect("a log");
        let errors = log.try_clone().expect("a log");
        // The cluster outlives the tests that share it and is never dropped: it ends with this process.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(script())
            .arg(folder)
            .args(["--address", &ADDRESSES[node].to_string(), "--seed", &ADDRESSES[0].to_string()])
            .args(["--port", &self.port.to_string(), "--storage-port", &self.storage_port.to_string()])
            .args(["--heap", "512", "--synced"])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        spawn_for_good(command)
    }

    fn log(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("{node}.log"))
    }

    fn last_words(&self, node: usize) -> String {
        let log = fs::read_to_string(self.log(node)).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

pub(super) fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cql/start")
}

/// Has the jars there.
pub(super) fn fetch() -> Result<(), String> {
    let output = Command::new(script()).arg("--fetch").stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// Starts a child whose end comes with this process: the system ends it with the thread that started it,
/// and a test's own thread would be too short.
fn spawn_for_good(mut command: Command) -> Child {
    type Request = (Command, mpsc::Sender<Child>);
    static PARENT: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let parent = PARENT.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, reply) in requests {
                let _ = reply.send(command.spawn().expect("it starts"));
            }
        });
        sender
    });
    command.env_remove("JAVA_TOOL_OPTIONS");
    let (reply, child) = mpsc::channel();
    parent.send((command, reply)).expect("the thread is there");
    child.recv().expect("it starts")
}

/// Has this node read what all three have to answer.
async fn sees_all(node: &str) -> Result<(), Box<dyn Error>> {
    let only_this = AllowListHostFilter::new([node])?;
    let session = SessionBuilder::new().known_node(node).host_filter(Arc::new(only_this)).build().await?;
    for text in [
        "CREATE KEYSPACE IF NOT EXISTS whole WITH replication = \
         {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
        "CREATE TABLE IF NOT EXISTS whole.nothing (id int PRIMARY KEY)",
        "SELECT id FROM whole.nothing WHERE id = 0",
    ] {
        let mut statement = Statement::new(text);
        statement.set_consistency(Consistency::All);
        statement.set_request_timeout(Some(Duration::from_secs(10)));
        session.query_unpaged(statement, ()).await?;
    }
    Ok(())
}

/// Whether a node answers a request of the native protocol (`OPTIONS`, of version 4).
pub(super) async fn answers(node: (Ipv4Addr, u16)) -> bool {
    const OPTIONS: [u8; 9] = [4, 0, 0, 0, 5, 0, 0, 0, 0];
    let asking = async {
        let mut stream = TcpStream::connect(node).await.ok()?;
        stream.write_all(&OPTIONS).await.ok()?;
        stream.read_u8().await.ok()
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), asking).await, Ok(Some(_)))
}
