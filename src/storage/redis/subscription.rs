//! A subscription to one channel, taken up again by itself whenever Redis was gone.

use super::OpenError;
use super::connection::{COMMAND, Settings, stay_connected};
use fred::clients::SubscriberClient;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::Message;
use fred::types::config::Server;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two questions whether the connection that listens lives.
const BEAT: Duration = Duration::from_secs(1);

/// What whoever listens is told.
pub(super) enum News<'a> {
    /// Somebody said this.
    Said(&'a str),
    /// Something may have been missed: the subscription has just begun (again), or what was said came too fast.
    MayHaveMissed,
}

/// Listens to a channel from a task of its own; `tell` is called with each news, in order.
pub(super) fn listen(
    settings: &Settings,
    channel: &'static str,
    tell: impl Fn(News<'_>) + Send + Sync + 'static,
    tasks: &mut JoinSet<()>,
) -> Result<(), OpenError> {
    let subscriber = settings.subscriber()?;
    let listener = Listener {
        channel,
        tell,
        messages: subscriber.message_rx(),
        connections: subscriber.reconnect_rx(),
        subscriber: subscriber.clone(),
    };
    tasks.spawn(listener.run());
    tasks.spawn(stay_connected(subscriber));
    Ok(())
}

struct Listener<T> {
    subscriber: SubscriberClient,
    channel: &'static str,
    tell: T,
    messages: broadcast::Receiver<Message>,
    connections: broadcast::Receiver<Server>,
}

impl<T: Fn(News<'_>)> Listener<T> {
    async fn run(mut self) {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_subscribed = false;
        loop {
            tokio::select! {
                message = self.messages.recv() => match message {
                    Ok(message) => {
                        let said = message.value.as_str();
                        (self.tell)(News::Said(said.as_deref().unwrap_or_default()));
                    }
                    Err(RecvError::Lagged(_)) => (self.tell)(News::MayHaveMissed),
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
        let subscribing = timeout(COMMAND * 4, self.subscriber.subscribe(self.channel));
        let is_subscribed = matches!(subscribing.await, Ok(Ok(())));
        if is_subscribed {
            // From here on nothing is missed; before, anything may have been.
            (self.tell)(News::MayHaveMissed);
        }
        is_subscribed
    }
}
