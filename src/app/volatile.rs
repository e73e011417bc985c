//! What is shared but need not survive: on Redis where one is set, else in this process.

use super::StartError;
use crate::actors::roster::Roster;
use crate::config::{Config, Role};
use crate::events::Outlet;
use crate::service::account::Account;
use crate::storage::circuit::OPEN_FOR;
use crate::storage::memory::{Buckets, KeptPages, Nobody, Rates, RevokedLogins};
use crate::storage::redis::{
    EventStream, News, Options, Redis, SharedPresence, SharedRevocations, Watch as RedisWatch,
};
use crate::storage::volatile::{GameEvents, Limits, Presence, Revocations, TimelineCache};
use crate::telemetry::metric;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What need not survive.
pub(super) struct Volatile {
    pub(super) limits: Arc<dyn Limits>,
    pub(super) revocations: Arc<dyn Revocations>,
    pub(super) cache: Arc<dyn TimelineCache>,
    pub(super) presence: Arc<dyn Presence>,
    pub(super) game_events: Option<Arc<dyn GameEvents>>,
    pub(super) redis: Option<Shared>,
}

/// What stands behind it on Redis.
pub(super) struct Shared {
    redis: Redis,
    presence: SharedPresence,
    revocations: Arc<SharedRevocations>,
}

impl Volatile {
    pub(super) async fn new(config: &Config) -> Result<Self, StartError> {
        let rates = rates(config);
        let Some(url) = &config.redis_url else {
            return Ok(Self {
                limits: Arc::new(Buckets::new(rates)),
                revocations: Arc::new(RevokedLogins::default()),
                cache: Arc::new(KeptPages::default()),
                presence: Arc::new(Nobody),
                game_events: None,
                redis: None,
            });
        };
        let options = Options { url: url.secret().clone(), ca: config.redis_ca.clone(), open_for: OPEN_FOR };
        let mut redis = Redis::open(&options).await?;
        let presence = redis.presence(config.node_name.as_str());
        let revocations = Arc::new(redis.revocations());
        let game_events = Arc::new(redis.game_events());
        if config.role != Role::Api {
            redis.hear_game_events(Box::new(|event| {
                metrics::counter!(metric::GAME_EVENTS, "outcome" => "heard").increment(1);
                tracing::trace!(event, "an effect was told on the channel");
            }))?;
        }
        Ok(Self {
            limits: Arc::new(redis.limits(rates)),
            revocations: revocations.clone(),
            cache: Arc::new(redis.timeline_cache()),
            presence: Arc::new(presence.clone()),
            game_events: Some(game_events),
            redis: Some(Shared { redis, presence, revocations }),
        })
    }

    /// The stream of events, where one is set.
    pub(super) fn outlet(&self, config: &Config) -> Option<Box<dyn Outlet>> {
        let (key, shared) = (config.events_stream.as_ref()?, self.redis.as_ref()?);
        Some(Box::new(StreamOutlet(shared.redis.event_stream(key, config.events_stream_length))))
    }
}

impl Shared {
    /// Hears from now on which logins other nodes end.
    pub(super) fn listen(&mut self, account: &Arc<Account>, roster: &Arc<Roster>) -> Result<(), StartError> {
        let (account, roster) = (account.clone(), roster.clone());
        let news = News {
            ended: Box::new(move |login| roster.end_login(login)),
            missed: Box::new(move || {
                let account = account.clone();
                Box::pin(async move { account.recall_ended_logins().await.is_ok() })
            }),
        };
        Ok(self.redis.listen(self.revocations.clone(), news)?)
    }

    pub(super) fn watch(&self) -> RedisWatch {
        self.redis.watch()
    }

    /// Tells what is still to be told: who has gone.
    pub(super) async fn close(self) {
        self.presence.flush().await;
    }
}

struct StreamOutlet(EventStream);

impl Outlet for StreamOutlet {
    fn send<'a>(&'a self, event: &'a str) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move { self.0.add(event).await.map_err(|error| error.to_string()) })
    }
}

fn rates(config: &Config) -> Rates {
    Rates {
        requests_per_second: config.limit_requests_per_second.get(),
        request_burst: config.limit_request_burst.get(),
        posts_per_minute: config.limit_posts_per_minute.get(),
        address_requests_per_second: config.limit_address_requests_per_second.get(),
        logins_per_minute: config.limit_logins_per_minute.get(),
        presses_per_second: config.limit_presses_per_second.get(),
        registrations_per_hour: config.limit_registrations_per_hour.get(),
    }
}
