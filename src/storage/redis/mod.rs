//! What is shared but need not survive, on Redis: for several nodes, and for who looks at it there.
//!
//! Every command is bounded in time and goes through one link (`link.rs`), whose circuit opens after five failures
//! in a row. Where Redis does not answer, limits are this node's own, caches miss, presence freezes, news
//! wait; nothing waits for it, nothing is queued for it without bound, and no request fails for it. It is
//! found again by itself.
//!
//! Keys: `ws:connection:{connection}`, `timeline:{user}`, `roost:limit:{what}:{whose}`, `roost:probe`, the
//! operator's key of the stream of events, and the channels `roost:revoked` and `game_events`.

mod connection;
mod game_events;
mod limits;
mod link;
mod presence;
mod revocations;
mod script;
mod stream;
mod subscription;
mod timeline_cache;

pub use game_events::GameEventChannel;
pub use limits::SharedBuckets;
pub use link::LinkState;
pub use presence::SharedPresence;
pub use revocations::{News, SharedRevocations};
pub use stream::{EventStream, StreamError};
pub use timeline_cache::SharedPages;

use super::memory::{Buckets, Rates};
use crate::model::secret::Secret;
use link::Link;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How Redis is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// `redis://`, `redis-cluster://` or `redis-sentinel://`, with `rediss` over TLS.
    pub url: Secret,
    /// Who vouches for its certificate (PEM), where that is not somebody whom the system trusts.
    pub ca: Option<PathBuf>,
    /// How long its circuit stays open: [`super::circuit::OPEN_FOR`].
    pub open_for: Duration,
}

/// Why Redis cannot even be tried: a setting is wrong.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address.
    #[error("redis_url: cannot be used ({0})")]
    Url(String),
    /// The file of certificates.
    #[error("redis_ca: {}: {reason}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A Redis, there or not. Dropped, it is left.
pub struct Redis {
    link: Arc<Link>,
    settings: connection::Settings,
    tasks: JoinSet<()>,
}

impl Redis {
    /// Begins to reach it, and waits for a second at most until that is done: one that is not there is told
    /// in the log, and found later.
    ///
    /// # Errors
    /// Where a setting makes no sense; never for what Redis does.
    pub async fn open(options: &Options) -> Result<Self, OpenError> {
        let settings = connection::Settings::of(options)?;
        let mut tasks = JoinSet::new();
        let link = Arc::new(Link::new(&settings, options.open_for, &mut tasks).await?);
        tasks.spawn(link::keep(link.clone()));
        Ok(Self { link, settings, tasks })
    }

    /// Limits that all nodes share; this node's own where Redis does not answer.
    #[must_use]
    pub fn limits(&self, rates: Rates) -> SharedBuckets {
        SharedBuckets::new(self.link.clone(), rates, Buckets::new(rates))
    }

    /// Pages of timelines that all nodes share.
    #[must_use]
    pub fn timeline_cache(&self) -> SharedPages {
        SharedPages::new(self.link.clone())
    }

    /// Who is connected to the node of this name.
    pub fn presence(&mut self, node: &str) -> SharedPresence {
        SharedPresence::start(self.link.clone(), node, &mut self.tasks)
    }

    /// Ended logins that all nodes tell each other.
    #[must_use]
    pub fn revocations(&self) -> SharedRevocations {
        SharedRevocations::new(self.link.clone())
    }

    /// Hears what other nodes tell of ended logins from now on.
    ///
    /// # Errors
    /// Where a setting makes no sense.
    pub fn listen(&mut self, revocations: Arc<SharedRevocations>, news: News) -> Result<(), OpenError> {
        revocations::listen(&self.settings, revocations, news, &mut self.tasks)
    }

    /// The channel of rooms' effects.
    pub fn game_events(&mut self) -> GameEventChannel {
        GameEventChannel::start(self.link.clone(), &mut self.tasks)
    }

    /// Hears from now on what is told there, by whichever node.
    ///
    /// # Errors
    /// Where a setting makes no sense.
    pub fn hear_game_events(&mut self, heard: Box<dyn Fn(&str) + Send + Sync>) -> Result<(), OpenError> {
        game_events::listen(&self.settings, heard, &mut self.tasks)
    }

    /// The stream at `key`, which keeps about `length` events.
    #[must_use]
    pub fn event_stream(&self, key: &str, length: usize) -> EventStream {
        EventStream::new(self.link.clone(), key, length)
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> LinkState {
        self.link.state()
    }

    /// Who can tell how it is.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(self.link.clone())
    }
}

/// Tells how Redis is.
#[derive(Clone)]
pub struct Watch(Arc<Link>);

impl Watch {
    /// How it is.
    #[must_use]
    pub fn state(&self) -> LinkState {
        self.0.state()
    }
}
