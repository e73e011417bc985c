//! What is shared by nodes and need not survive: the contract that holds in memory and on Redis, what only
//! Redis does, and a server whose Redis fails.

mod contract;
mod failing;
mod game_events;
mod nodes;
mod starting;
mod stored;

use crate::harness::app::TestApp;
use crate::harness::rest::Rest;
use crate::harness::until;
use roost::config::Config;
use roost::model::secret::Secret;
use roost::storage::redis::{Options, Redis};
use serde_json::Value;
use std::time::Duration;

/// A circuit that tries again soon, so that tests wait less.
const SOON: Duration = Duration::from_millis(500);

/// What a node has of this Redis.
async fn open(url: &str) -> Redis {
    let options = Options { url: Secret::new(url), ca: None, open_for: SOON };
    Redis::open(&options).await.expect("the address is one")
}

/// A server on this Redis.
async fn app_on(url: &str, change: impl FnOnce(&mut Config)) -> TestApp {
    TestApp::with(|config| {
        config.redis_url = Some(url.parse().expect("an address of Redis"));
        change(config);
    })
    .await
}

/// What `/health` says of Redis: its state, its circuit, and how the node is.
async fn health(app: &Rest) -> (String, String, String) {
    let health = app.get("/health").await.expect(200);
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    let redis = &health["dependencies"]["redis"];
    (word(&redis["state"]), word(&redis["circuit"]), word(&health["status"]))
}

async fn is_degraded(app: &Rest) {
    until("the node is degraded", async || {
        let (redis, _, node) = health(app).await;
        (redis == "degraded" && node == "degraded").then_some(())
    })
    .await;
    // It serves on all the same.
    app.get("/health/ready").await.expect(200);
}

/// As long as a circuit stays open, and a little more for the probe.
async fn mends(app: &Rest) {
    let mending = async {
        while health(app).await != ("ok".to_owned(), "closed".to_owned(), "ok".to_owned()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let most = roost::storage::circuit::OPEN_FOR + Duration::from_secs(20);
    tokio::time::timeout(most, mending).await.expect("it mends");
}
