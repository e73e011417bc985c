//! Effects of rooms on the channel `game_events`, for other programs: told by whoever is home to the room, behind the store.
//!
//! Nothing depends on it. What waits to be told is bounded, and is dropped where Redis is away; whoever listens misses what was
//! told meanwhile, and is subscribed again by itself.

use super::OpenError;
use super::connection::{COMMAND, Settings, stay_connected};
use super::link::{Does, Link};
use crate::storage::volatile::GameEvents;
use crate::telemetry::metric;
use fred::clients::SubscriberClient;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::Message;
use fred::types::config::Server;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The channel; its name is a part of the protocol.
const CHANNEL: &str = "game_events";
/// Effects that may wait to be told.
const WAITING: usize = 4_096;
/// Between two questions whether the connection that listens lives.
const BEAT: Duration = Duration::from_secs(1);

/// The way to the channel.
pub struct GameEventChannel {
    queue: mpsc::Sender<String>,
}

impl GameEventChannel {
    pub(super) fn start(link: Arc<Link>, tasks: &mut JoinSet<()>) -> Self {
        let (queue, mut waiting) = mpsc::channel::<String>(WAITING);
        tasks.spawn(async move {
            while let Some(event) = waiting.recv().await {
                let publishing = link.client().publish::<(), _, _>(CHANNEL, event);
                let outcome = match link.ask(Does::Read, publishing).await {
                    Ok(()) => "published",
                    Err(_) => "lost",
                };
                metrics::counter!(metric::GAME_EVENTS, "outcome" => outcome).increment(1);
            }
        });
        Self { queue }
    }
}

impl GameEvents for GameEventChannel {
    fn publish(&self, event: String) {
        if self.queue.try_send(event).is_err() {
            metrics::counter!(metric::GAME_EVENTS, "outcome" => "lost").increment(1);
        }
    }
}

/// Starts to listen; `heard` is told of each effect, whichever node told it.
pub(super) fn listen(
    settings: &Settings,
    heard: Box<dyn Fn(&str) + Send + Sync>,
    tasks: &mut JoinSet<()>,
) -> Result<(), OpenError> {
    let subscriber = settings.subscriber()?;
    let listener = Listener {
        heard,
        messages: subscriber.message_rx(),
        connections: subscriber.reconnect_rx(),
        subscriber: subscriber.clone(),
    };
    tasks.spawn(listener.run());
    tasks.spawn(stay_connected(subscriber));
    Ok(())
}

struct Listener {
    subscriber: SubscriberClient,
    heard: Box<dyn Fn(&str) + Send + Sync>,
    messages: broadcast::Receiver<Message>,
    connections: broadcast::Receiver<Server>,
}

impl Listener {
    async fn run(mut self) {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_subscribed = false;
        loop {
            tokio::select! {
                message = self.messages.recv() => match message {
                    Ok(message) => (self.heard)(message.value.as_str().as_deref().unwrap_or_default()),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                connection = self.connections.recv() => match connection {
                    // Every connection begins without subscriptions.
                    Ok(_) | Err(RecvError::Lagged(_)) => is_subscribed = self.subscribe().await,
                    Err(RecvError::Closed) => return,
                },
                _ = beats.tick() => {
                    if !is_subscribed && self.subscriber.is_connected() {
                        is_subscribed = self.subscribe().await;
                    }
                    // Not for its answer: what is not answered makes the client connect anew.
                    let _ = self.subscriber.ping::<()>(None).await;
                }
            }
        }
    }

    async fn subscribe(&self) -> bool {
        let subscribing = timeout(COMMAND * 4, self.subscriber.subscribe(CHANNEL));
        matches!(subscribing.await, Ok(Ok(())))
    }
}
