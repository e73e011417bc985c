//! Effects of rooms on the channel `game_events`, for other programs: told by whoever is home to the room, behind the store.
//!
//! Nothing depends on it. What waits to be told is bounded, and is dropped where Redis is away; whoever listens misses what was
//! told meanwhile, and is subscribed again by itself.

use super::OpenError;
use super::connection::Settings;
use super::link::{Does, Link};
use super::subscription::{self, News};
use crate::storage::volatile::GameEvents;
use crate::telemetry::metric;
use fred::interfaces::PubsubInterface;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The channel; its name is a part of the protocol.
const CHANNEL: &str = "game_events";
/// Effects that may wait to be told.
const WAITING: usize = 4_096;

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
    let tell = move |news: News<'_>| match news {
        News::Said(event) => heard(event),
        // What was told meanwhile is lost, as the channel's readers know.
        News::MayHaveMissed => {}
    };
    subscription::listen(settings, CHANNEL, tell, tasks)
}
