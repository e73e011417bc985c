//! What the server tells of itself: log lines on stderr, metrics for Prometheus, and the ids that bind
//! the lines of one request together.
//!
//! **Invariant:** no token, password, e-mail address or query string is ever a field here. Labels of
//! metrics come from our own lists (routes, reasons, kinds), never from a client.

mod json;
mod lines;
pub mod metric;
mod recorder;
mod trace;

pub use lines::DELIVERIES;
pub use recorder::Metrics;
pub use trace::{TraceId, request_span, trace_id_of};

use crate::config::LogFilter;
use json::JsonLines;
use lines::{Lines, LinesEnd};
use std::io::{self, IsTerminal, Stderr};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Libraries that what clients send goes through. What they say below `info` quotes it, tokens and all,
/// so that is not shown, unless one of their modules is asked for by name.
const CARRIERS: [&str; 9] = [
    "tungstenite",
    "tokio_tungstenite",
    "hyper",
    "hyper_util",
    "h2",
    "axum",
    "tower_http",
    "rustls",
    "reqwest",
];

/// Drivers of stores, and from what level on they are heard: below, they tell of each of their connections.
/// What troubles Redis is told by who uses it, once.
const DRIVERS: [(&str, &str); 2] = [("scylla", "warn"), ("fred", "off")];

/// Sends log lines to stderr: JSON, one object a line, unless a person is looking. What was installed
/// first stays; later calls change nothing (several servers may share a process in tests). What is answered is to be dropped
/// when nothing more is to be logged.
///
/// # Errors
/// Where the system has no thread for it.
pub fn install_logs(filter: &LogFilter) -> io::Result<LinesEnd<Stderr>> {
    // The filter was checked when it was read; what it cannot say here, it could not there.
    let filter = EnvFilter::try_new(filter.as_str()).unwrap_or_else(|_| EnvFilter::new("info"));
    let carriers = CARRIERS.iter().map(|name| format!("{name}=info"));
    let drivers = DRIVERS.iter().map(|(name, level)| format!("{name}={level}"));
    let quiet = carriers.chain(drivers).filter_map(|directive| directive.parse().ok());
    let filter = quiet.fold(filter, EnvFilter::add_directive);
    let registry = tracing_subscriber::registry().with(filter);
    let (lines, end) = Lines::to(io::stderr())?;
    let installed = if io::stderr().is_terminal() {
        registry.with(tracing_subscriber::fmt::layer().with_writer(lines)).try_init()
    } else {
        let layer = tracing_subscriber::fmt::layer().json().event_format(JsonLines::new());
        registry.with(layer.with_writer(lines)).try_init()
    };
    // It can only fail because there is one already.
    drop(installed);
    Ok(end)
}
