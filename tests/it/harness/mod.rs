//! What the tests stand on: servers (in this process or as a child), people, and clients of each
//! protocol. A wait has one deadline, [`PATIENCE`]; nothing here sleeps for luck.

pub mod app;
pub mod barrier;
pub mod chance;
pub mod child;
pub mod live;
pub mod person;
pub mod raw;
pub mod rest;

use std::future::Future;
use std::time::Duration;

/// How long a condition may take to hold before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must happen; says what did not.
pub async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, happens).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen in {PATIENCE:?}: {what}"),
    }
}

/// Asks again and again until there is an answer.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(what, asking).await
}
