//! Roost: an actor-based realtime server for social apps.
//!
//! # Codemap
//!
//! A post comes in through [`http`], is checked in [`model`], goes by [`service`] to its author's actor
//! in [`actors`], which has [`storage`] keep it and hands its frame to the relays, which push it into
//! every follower's outbox. ARCHITECTURE.md tells the same with its invariants.

pub mod actors;
pub mod app;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod events;
pub mod http;
pub mod identity;
pub mod model;
pub mod service;
pub mod storage;
pub mod telemetry;

use app::{App, StartError};
use config::Config;
use std::net::TcpListener;
use tokio::sync::watch;

/// Runs a server on `listener` until `stops` counts one; then it stops in an orderly way.
///
/// # Errors
/// What keeps it from starting, in one line.
pub async fn run(
    config: Config,
    listener: TcpListener,
    mut stops: watch::Receiver<u8>,
) -> Result<(), StartError> {
    let app = App::start(config, listener, actors::instant::Instants::default()).await?;
    println!("Roost listens on {0}. Try: curl {0}/health, or the tour in README.md", app.url());
    // A sender that is gone tells nobody to stop any more: then it stops too.
    app.serve(async move { drop(stops.wait_for(|count| *count > 0).await) }).await;
    Ok(())
}
