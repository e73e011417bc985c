//! What the tests stand on: servers (in this process or as a child), people, and clients of each
//! protocol. A wait has one deadline, [`PATIENCE`]; nothing here sleeps for luck.

pub mod app;
pub mod barrier;
pub mod browser;
pub mod child;
pub mod cluster;
pub mod crowd;
pub mod dice;
pub mod engines;
pub mod fault_proxy;
pub mod game;
pub mod ground;
pub mod live;
pub mod person;
pub mod raw;
pub mod rest;
pub mod room;
pub mod stream;
pub mod talk;

use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::time::Duration;

/// How long a condition may take to hold before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Says that a test cannot run here, and why; where CI is set that is a failure.
pub fn skip(test: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{test} cannot run: {why}");
    // Not by a macro, whose words are kept from who runs the tests.
    writeln!(std::io::stderr(), "skipped: {test} ({why})").expect("somebody reads it");
    // Who runs them all counts these.
    if let Some(list) = std::env::var_os("ROOST_TEST_SKIPPED") {
        let mut list = File::options().append(true).create(true).open(list).expect("the list of the skipped");
        list.write_all(format!("{test} ({why})\n").as_bytes()).expect("the list takes a line");
    }
}

/// Waits for what must happen; says what did not.
pub async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, happens).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen in {PATIENCE:?}: {what}"),
    }
}

/// Asks again and again until there is an answer.
pub async fn until<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    until_some(ask).await.unwrap_or_else(|| panic!("did not happen in {PATIENCE:?}: {what}"))
}

/// The same, where the caller says what did not happen.
pub async fn until_some<T>(ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, again(ask)).await.ok()
}

/// The same, for so long.
pub async fn until_some_within<T>(patience: Duration, ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    tokio::time::timeout(patience, again(ask)).await.ok()
}

async fn again<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
