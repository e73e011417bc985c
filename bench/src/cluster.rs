//! Several nodes of Roost on the same engines, or one on them by itself: what they use is summed, and each can be
//! killed, paused, stopped in order and started again on its own address.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hyper::Method;
use serde::Deserialize;
use tempfile::TempDir;

use crate::client::Caller;
use crate::engines::Engines;
use crate::error::{Error, Result, io_error};
use crate::process::{Process, Usage};
use crate::server::{LIMITS, free_address};

const READY_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(90);
/// Where the counter of entries sent to other nodes is read.
const FRAMES: &str = "roost_link_frames_total";

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The binary.
    pub program: &'a Path,
    /// Where data folders are made.
    pub folder: &'a Path,
    /// Its engines; both kinds are needed.
    pub engines: Engines,
    /// How many nodes; one is not told of any cluster.
    pub nodes: usize,
    /// Further settings, the same on all.
    pub environment: Vec<(&'static str, String)>,
}

/// Running nodes and their data, which goes away with them.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    program: PathBuf,
    engines: Engines,
    data: TempDir,
}

#[derive(Debug)]
struct Node {
    process: Process,
    address: SocketAddr,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
}

impl Cluster {
    /// Starts them on emptied engines and waits until all are ready.
    pub async fn start(plan: Plan<'_>) -> Result<Self> {
        if plan.engines.scylla_nodes.is_empty() || plan.engines.redis.is_none() {
            return Err(Error::Refused("nodes of a cluster need --scylla-nodes and --redis".to_owned()));
        }
        let program = plan.program.canonicalize();
        let program = program.map_err(io_error(format!("the server {}", plan.program.display())))?;
        let data = tempfile::Builder::new().prefix("nodes-").tempdir_in(plan.folder);
        let data = data.map_err(io_error("making data folders"))?;
        plan.engines.clear().await?;
        let mut cluster = Self { nodes: Vec::new(), program, engines: plan.engines.clone(), data };
        for index in 0..plan.nodes {
            let node = cluster.add(index, &plan)?;
            cluster.nodes.push(node);
            // The first makes the tables.
            if index == 0 {
                cluster.ready(0).await?;
            }
        }
        for index in 1..plan.nodes {
            cluster.ready(index).await?;
        }
        Ok(cluster)
    }

    fn add(&self, index: usize, plan: &Plan<'_>) -> Result<Node> {
        let address = free_address()?;
        let folder = self.data.path();
        let mut environment = vec![
            ("ROOST_LISTEN", address.to_string()),
            ("ROOST_DATA_DIR", folder.join(format!("node-{index}")).display().to_string()),
            ("ROOST_JWT_SECRET", "all nodes of the bench sign with this".to_owned()),
        ];
        if plan.nodes > 1 {
            environment.push(("ROOST_NODE_NAME", format!("node-{index}")));
            environment.push(("ROOST_CLUSTER_LISTEN", free_address()?.to_string()));
            environment.push(("ROOST_CLUSTER_SECRET", "the nodes of the bench know this one".to_owned()));
        }
        environment.extend(plan.engines.environment());
        environment.extend(LIMITS.map(|limit| (limit, "0".to_owned())));
        environment.extend(plan.environment.iter().cloned());
        let log = folder.join(format!("node-{index}.log"));
        let process = Process::start(&self.program, ["serve"], &environment, &log, false)?;
        eprintln!("node {index} is process {}", process.id());
        Ok(Node { process, address, environment, log })
    }

    /// Where they listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    /// A node's data folder, where its operator finds it.
    fn data(&self, index: usize) -> PathBuf {
        self.data.path().join(format!("node-{index}"))
    }

    /// What is called the home of an author, a user or a room, as the program says.
    pub fn home_of(&self, program: &Path, kind: &str, id: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Where {
            home: Option<String>,
        }

        let mut command = Command::new(program);
        command.args(["where", kind, id, "--json"]).env("ROOST_DATA_DIR", self.data(0));
        let said = command.output().map_err(io_error("roost where"))?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let place: Where = serde_json::from_slice(&said.stdout)
            .map_err(|error| Error::Refused(format!("roost where: {error}: {text}")))?;
        Ok(place.home.unwrap_or_default())
    }

    /// What all have used together since each was started last.
    pub fn usage(&self) -> Result<Usage> {
        self.nodes.iter().try_fold(Usage::default(), |sum, node| {
            let one = node.process.usage()?;
            Ok(Usage {
                cpu: sum.cpu + one.cpu,
                anonymous: sum.anonymous + one.anonymous,
                proportional: sum.proportional + one.proportional,
                peak: sum.peak + one.peak,
            })
        })
    }

    /// A node's anonymous resident memory in bytes now.
    pub fn anonymous(&self, index: usize) -> Result<u64> {
        self.nodes[index].process.anonymous()
    }

    /// Entries that they have sent to each other, all together, since each was started last.
    pub async fn frames(&self) -> Result<u64> {
        let counts = try_join_all(self.nodes.iter().map(|node| async {
            let answer = Caller::new(node.address).call(Method::GET, "/metrics", None, None).await?;
            Ok::<_, Error>(counter(&String::from_utf8_lossy(&answer.body), FRAMES))
        }));
        Ok(counts.await?.into_iter().sum())
    }

    /// `kill -9`.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        self.nodes[index].process.kill()
    }

    /// SIGSTOP.
    pub fn pause(&self, index: usize) -> Result<()> {
        self.nodes[index].process.pause()
    }

    /// SIGCONT.
    pub fn resume(&self, index: usize) -> Result<()> {
        self.nodes[index].process.resume()
    }

    /// SIGTERM, and waits for its orderly end.
    pub async fn stop(&mut self, index: usize) -> Result<()> {
        self.nodes[index].process.stop(STOP_WITHIN).await
    }

    /// Starts a node that has ended again, on its data and addresses, and waits until it is ready.
    pub async fn start_again(&mut self, index: usize) -> Result<()> {
        let node = &mut self.nodes[index];
        node.process = Process::start(&self.program, ["serve"], &node.environment, &node.log, false)?;
        self.ready(index).await
    }

    /// Waits until a node takes sockets and posts.
    pub async fn ready(&mut self, index: usize) -> Result<()> {
        let began = Instant::now();
        let node = &mut self.nodes[index];
        let mut caller = Caller::new(node.address);
        loop {
            let answer = caller.call(Method::GET, "/health/ready", None, None).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = node.process.ended() {
                return Err(node.process.failed(format!("ended ({status})")));
            }
            if began.elapsed() > READY_WITHIN {
                return Err(node.process.failed(format!("was not ready in {READY_WITHIN:?}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends them all at once and empties their engines.
    pub async fn end(self) -> Result<()> {
        drop(self.nodes);
        self.engines.clear().await
    }
}

/// The sum of a counter's lines in the text format of Prometheus, whatever their labels.
fn counter(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with([' ', '{']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum::<f64>() as u64
}

#[cfg(test)]
mod tests {
    use super::counter;

    #[test]
    fn a_counter_is_summed_over_its_labels_and_told_from_longer_names() {
        let text = "# HELP a_total b\na_total 3\na_total{node=\"x y\"} 4\na_total_more 9\n";
        assert_eq!(counter(text, "a_total"), 7);
        assert_eq!(counter(text, "b_total"), 0);
    }
}
