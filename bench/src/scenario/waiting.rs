//! Connections that wait: a server's memory and processor time without them and with them.

use std::time::Duration;

use crate::audience::Audience;
use crate::error::Result;
use crate::process::Usage;
use crate::progress::Progress;
use crate::server::Server;
use crate::stats::{mebibytes, micros_each};
use crate::tally::Tally;

/// Memory is read each time that so many more are connected.
const STEP: usize = 1_000;

/// What was read.
#[derive(Debug)]
pub struct Waiting {
    /// With nobody connected.
    pub empty: Usage,
    /// With all of them.
    pub full: Usage,
    /// Anonymous memory in MiB, by how many were connected.
    pub curve: Vec<(f64, f64)>,
    empty_cpu: Duration,
    full_cpu: Duration,
    window: Duration,
    connections: f64,
}

impl Waiting {
    /// Connects the whole audience, and reads the processor time of a window before and of one after.
    pub async fn measure(
        server: &Server,
        audience: &Audience,
        window: Duration,
        progress: &Progress,
    ) -> Result<Self> {
        let connections = audience.len();
        let empty_cpu = {
            let _stage = progress.spinner("the empty server");
            let before = server.usage()?.cpu;
            tokio::time::sleep(window).await;
            server.usage()?.cpu.saturating_sub(before)
        };
        let empty = server.usage()?;
        let mut curve = vec![(0.0, mebibytes(empty.anonymous))];
        for first in (0..connections).step_by(STEP) {
            let last = (first + STEP).min(connections);
            audience.connect_range(first..last, server.address(), progress).await?;
            let connected = |tally: &Tally| tally.connected == last as u64;
            audience.wait_for("every connection's greeting", Duration::from_secs(60), connected).await?;
            curve.push((last as f64, mebibytes(server.usage()?.anonymous)));
        }
        let full_cpu = {
            let _stage = progress.spinner("the full server");
            // What connecting left to do ends first.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let before = server.usage()?.cpu;
            tokio::time::sleep(window).await;
            server.usage()?.cpu.saturating_sub(before)
        };
        let full = server.usage()?;
        Ok(Self { empty, full, curve, empty_cpu, full_cpu, window, connections: connections as f64 })
    }

    /// KiB of anonymous memory a connection.
    pub fn anonymous_each(&self) -> f64 {
        self.kibibytes_each(self.full.anonymous, self.empty.anonymous)
    }

    /// KiB of proportional memory a connection.
    pub fn proportional_each(&self) -> f64 {
        self.kibibytes_each(self.full.proportional, self.empty.proportional)
    }

    /// Microseconds of the whole server for each connection and second.
    pub fn cpu_each(&self) -> f64 {
        micros_each(self.full_cpu, self.connections * self.window.as_secs_f64())
    }

    /// Microseconds of the empty server a second.
    pub fn empty_cpu(&self) -> f64 {
        micros_each(self.empty_cpu, self.window.as_secs_f64())
    }

    fn kibibytes_each(&self, full: u64, empty: u64) -> f64 {
        (full as f64 - empty as f64) / self.connections / 1024.0
    }
}
