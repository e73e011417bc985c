//! The scenarios: each sets its scene through the public API, measures, and hands back a report.

pub mod celebrity;
pub mod chat;
pub mod failover;
pub mod fanout;
pub mod game;
mod ground;
pub mod history;
pub mod idle;
pub mod idle_streams;
pub mod nodes;
mod online;
pub mod pages;
pub mod publish;
pub mod reconnect;
pub mod rest;
pub mod rolling;
pub mod rooms;
pub mod saturate;
mod scene;
pub mod spread;
pub mod stalled;
pub mod timeline;
mod waiting;

use std::path::PathBuf;

use hdrhistogram::Histogram;

use crate::engines::Engines;
use crate::error::Result;
use crate::publisher::Published;
use crate::server::Server;
use crate::stats::Report;
use crate::tally::Tally;

/// What every scenario is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The binary under test.
    pub server: PathBuf,
    /// Where data folders, JSON and plots go.
    pub out: PathBuf,
    /// Threads that read the listeners' sockets.
    pub ears: usize,
    /// What servers stand on.
    pub engines: Engines,
}

impl Settings {
    /// Starts the server on fresh data.
    pub async fn start_server(&self) -> Result<Server> {
        Server::start(&self.server, &self.out, &self.engines).await
    }
}

/// Says in the report how long after their 201 posts arrived.
fn add_from_answer(report: &mut Report, name: &str, histogram: &Histogram<u64>, p99_at_most: Option<f64>) {
    report.latency(name, histogram, p99_at_most);
    report.note(format!("{name}: counted as 0 where the frame came before the 201"));
}

/// Says in the report what must not have happened.
fn add_faults(report: &mut Report, what: &str, tally: &Tally) {
    report.bar(format!("{what}, sent again to a live connection"), tally.repeated as f64, "frames", 0.0);
    report.bar(format!("{what}, connections ended"), tally.ended() as f64, "", 0.0);
    for (end, count) in &tally.ends {
        report.note(format!("{what}: {count} connections ended: {end}"));
    }
    if tally.malformed > 0 {
        report.note(format!("{what}: {} connections sent malformed frames", tally.malformed));
    }
}

/// Says in the report what the publisher met.
fn add_published(report: &mut Report, what: &str, published: &Published) {
    report.figure(format!("{what}, answered 201"), published.answered as f64, "posts");
    report.figure(format!("{what}, achieved"), published.rate(), "posts/s");
    let missing = published.unsent + published.refused;
    report.bar(format!("{what}, refused or not sent in time"), missing as f64, "posts", 0.0);
    if let Some(refusal) = &published.first_refusal {
        report.note(format!("{what}: the first refusal was {refusal}"));
    }
}
