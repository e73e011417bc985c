//! A CQL server of a test's own that lets in only who has its password.

use super::cql_cluster::{START, answers, fetch, script};
use super::{lasting_port, this_test};
use crate::harness::skip;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Its one user.
pub const USER: &str = "cassandra";
/// The user's password.
pub const PASSWORD: &str = "cassandra";

/// One that answers. Dropped, it is killed.
pub struct GuardedCql {
    port: u16,
    child: Child,
    _folder: TempDir,
}

impl GuardedCql {
    /// A new one; none where it cannot be started.
    #[track_caller]
    pub fn start() -> impl Future<Output = Option<Self>> {
        let test = this_test();
        async move {
            if let Err(why) = fetch() {
                skip(&test, &format!("needs a CQL server: {why}"));
                return None;
            }
            let folder = tempfile::tempdir().expect("a folder");
            let port = lasting_port(&[Ipv4Addr::LOCALHOST]);
            let log = folder.path().join("log");
            let child = Command::new(script())
                .arg(folder.path().join("data"))
                .args(["--port", &port.to_string()])
                .args(["--storage-port", &lasting_port(&[Ipv4Addr::LOCALHOST]).to_string()])
                .args(["--heap", "512", "--passwords"])
                .env_remove("JAVA_TOOL_OPTIONS")
                .stdin(Stdio::null())
                .stdout(File::create(&log).expect("a log"))
                .stderr(Stdio::inherit())
                .spawn()
                .expect("it starts");
            let mut server = Self { port, child, _folder: folder };
            let deadline = Instant::now() + START;
            // It listens a moment before it has made its user.
            while !(answers((Ipv4Addr::LOCALHOST, port)).await && said(&log).contains("Startup complete")) {
                let ended = server.child.try_wait().expect("its status");
                assert!(ended.is_none() && Instant::now() < deadline, "{}", said(&log));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Some(server)
        }
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }
}

impl Drop for GuardedCql {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(log: &std::path::Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}
