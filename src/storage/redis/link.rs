//! The one way to Redis: commands with a bound in time, a circuit, and the word about how it is.
//!
//! Only the keeper's probe, once a second, finds out whether an opened circuit may close: no request is ever
//! slowed to try. The probe *writes*, so that a Redis that is a replica, or full, counts as one that is away.

use super::OpenError;
use super::connection::{COMMAND, Settings, stay_connected};
use crate::storage::circuit::{Circuit, CircuitState};
use crate::telemetry::metric;
use fred::clients::{Client, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, EventInterface, KeysInterface};
use fred::types::Expiration;
use fred::types::config::{Options as CommandOptions, Server};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two probes.
const BEAT: Duration = Duration::from_secs(1);
/// How long a start waits for the first connection.
const FIRST: Duration = Duration::from_secs(1);
/// What a probe writes.
const PROBE: &str = "roost:probe";

/// How Redis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Its circuit.
    pub circuit: CircuitState,
    /// Whether its last probe was answered.
    pub answers: bool,
}

impl LinkState {
    /// Whether what is shared is shared now.
    #[must_use]
    pub fn is_well(self) -> bool {
        self.answers && self.circuit == CircuitState::Closed
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("Redis does not answer: {0}")]
pub struct Away(pub String);

/// What a command does, as far as its success tells something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// A replica, or a full Redis, would answer all the same.
    Read,
    /// Its success says that all is well.
    Write,
}

/// A client whose commands end soon, and the circuit that they share.
pub struct Link {
    client: WithOptions<Client>,
    circuit: Circuit,
    answers: AtomicBool,
    place: String,
    /// What the connection's own trouble was last: a command only knows that there is no connection.
    trouble: Arc<Mutex<String>>,
}

impl Link {
    /// Begins to connect; waits a little until that is done or has failed.
    pub async fn new(
        settings: &Settings,
        open_for: Duration,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, OpenError> {
        let client = settings.client()?;
        let mut troubles = client.error_rx();
        let first_trouble = client.error_rx();
        let trouble = Arc::new(Mutex::new(String::new()));
        let last = trouble.clone();
        tasks.spawn(async move {
            loop {
                match troubles.recv().await {
                    Ok((error, _)) => {
                        *last.lock().unwrap_or_else(PoisonError::into_inner) = told(&error);
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        tasks.spawn(stay_connected(client.clone()));
        if let Ok(Some(error)) = timeout(FIRST, connected_or_not(&client, first_trouble)).await {
            *trouble.lock().unwrap_or_else(PoisonError::into_inner) = told(&error);
        }
        let options = CommandOptions {
            max_attempts: Some(1),
            timeout: Some(COMMAND),
            // While there is no connection nothing waits for one.
            fail_fast: true,
            ..CommandOptions::default()
        };
        let link = Self {
            client: client.with_options(&options),
            circuit: Circuit::new(open_for),
            answers: AtomicBool::new(true),
            place: settings.place(),
            trouble,
        };
        link.probe().await;
        Ok(link)
    }

    /// Its client, for the making of commands.
    pub const fn client(&self) -> &WithOptions<Client> {
        &self.client
    }

    /// How Redis is.
    pub fn state(&self) -> LinkState {
        let circuit = self.circuit.state(Instant::now());
        LinkState { circuit, answers: self.answers.load(Ordering::Relaxed) }
    }

    /// Gives a command, unless the circuit is open.
    pub async fn ask<T>(
        &self,
        does: Does,
        command: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Away> {
        if self.circuit.state(Instant::now()) != CircuitState::Closed {
            return Err(Away(self.reason(None)));
        }
        match command.await {
            Ok(answer) => {
                // One that began before the circuit opened does not close it.
                if does == Does::Write && self.circuit.state(Instant::now()) == CircuitState::Closed {
                    self.circuit.succeeded();
                }
                Ok(answer)
            }
            Err(error) => {
                if !is_about_the_key(&error) {
                    self.circuit.failed(Instant::now());
                }
                Err(Away(self.reason(Some(&error))))
            }
        }
    }

    async fn probe(&self) {
        if !self.circuit.admits(Instant::now()) {
            return;
        }
        let lifetime = Some(Expiration::PX(i64::try_from((BEAT * 10).as_millis()).unwrap_or(i64::MAX)));
        let written: Result<(), Error> = self.client.set(PROBE, "", lifetime, None, false).await;
        match written {
            Ok(()) => {
                self.circuit.succeeded();
                if !self.answers.swap(true, Ordering::Relaxed) {
                    tracing::info!("Redis ({}) answers again: what is shared is shared again", self.place);
                }
            }
            Err(error) => {
                self.circuit.failed(Instant::now());
                if self.answers.swap(false, Ordering::Relaxed) {
                    let reason = self.reason(Some(&error));
                    tracing::warn!(
                        reason,
                        "Redis ({}) cannot be used: {reason}; limits are this node's own and presence is not \
                         kept until it can",
                        self.place
                    );
                }
            }
        }
    }

    /// What a person should be told.
    fn reason(&self, error: Option<&Error>) -> String {
        let no_connection = error.is_none_or(|error| matches!(error.kind(), ErrorKind::Canceled));
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match error {
            _ if no_connection && !trouble.is_empty() => trouble,
            Some(error) => told(error),
            None => "its circuit is open".to_owned(),
        }
    }
}

/// Waits for the first connection, or answers why there is none.
async fn connected_or_not(
    client: &Client,
    mut troubles: broadcast::Receiver<(Error, Option<Server>)>,
) -> Option<Error> {
    tokio::select! {
        connected = client.wait_for_connect() => connected.err(),
        trouble = troubles.recv() => trouble.ok().map(|(error, _)| error),
    }
}

/// An error as a person would tell it.
fn told(error: &Error) -> String {
    let details = error.details().trim_end_matches('.');
    // The library shows an error of the system with all its fields.
    let message = details.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"'));
    message.map_or(details, |(message, _)| message).to_owned()
}

/// Whether an error says something of one key, and nothing of Redis.
fn is_about_the_key(error: &Error) -> bool {
    error.details().contains("WRONGTYPE")
}

/// Probes for ever, and shows the circuit.
pub async fn keep(link: Arc<Link>) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, and its probe was made by the start.
    beats.tick().await;
    loop {
        let open = f64::from(u8::from(link.state().circuit != CircuitState::Closed));
        metrics::gauge!(metric::CIRCUIT_OPEN, "dependency" => "redis").set(open);
        beats.tick().await;
        link.probe().await;
    }
}
