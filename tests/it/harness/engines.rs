//! The engines that tests use: Redis and CQL servers that the environment names, for what needs one, and
//! servers of a test's own, for what empties, stops or breaks one.
//!
//! Where there is none the test says so by name and ends, or fails where `CI` is set: each way in here
//! answers `None` then.

pub mod cql_cluster;
pub mod guarded_cql;
pub mod redis_server;

use super::skip;
use std::net::{Ipv4Addr, TcpListener};
use std::panic::Location;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// The shared Redis, such as `redis://127.0.0.1:6379`. Others use it too: a test keeps to keys of its own.
#[track_caller]
pub fn redis_url() -> Option<String> {
    named("TEST_REDIS_URL", "Redis")
}

/// The shared CQL servers, as `host:port`. Others use them too: a test keeps to a keyspace of its own.
#[track_caller]
pub fn cql_nodes() -> Option<Vec<String>> {
    let nodes = named("TEST_SCYLLA_NODES", "a CQL server")?;
    Some(nodes.split(',').map(|node| node.trim().to_owned()).collect())
}

#[track_caller]
fn named(variable: &str, engine: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        skip(&this_test(), &format!("needs {engine}: {variable}"));
    }
    value
}

/// The test that calls: its thread has its name, but for one that runs alone.
#[track_caller]
pub(super) fn this_test() -> String {
    let thread = std::thread::current();
    match thread.name() {
        Some(name) if name.contains("::") => name.to_owned(),
        _ => Location::caller().to_string(),
    }
}

/// A port that stays whoever's takes it, while nobody listens there too. It is below those that the system
/// gives to outgoing connections, one of which would else sooner or later connect to itself.
pub fn lasting_port(on: &[Ipv4Addr]) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 10_000;
    // Another process of tests begins elsewhere, and the next one well apart.
    let start = process::id().wrapping_mul(997) % u32::from(COUNT);
    let start = u16::try_from(start).expect("less than the count");
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        if on.iter().all(|address| TcpListener::bind((*address, port)).is_ok()) {
            return port;
        }
    }
    panic!("no port is free");
}
