//! The composition root: the only file that names every concrete type.

mod cluster;
mod engine;
mod health;
mod operating;
mod volatile;

use crate::actors::instant::Instants;
use crate::actors::membership::Membership;
use crate::actors::node::{NodeArguments, NodeError, NodeHandle};
use crate::actors::room_watch::WatchBounds;
use crate::actors::roster::Roster;
use crate::actors::session::SessionWorld;
use crate::actors::watermark::Watermark;
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::events::Outlet;
use crate::events::outlets::Outlets;
use crate::events::sink::{Sink, SinkError};
use crate::http::health::metrics_router;
use crate::http::listener::Listener;
use crate::http::live::Live;
use crate::http::live::deliveries::Deliveries;
use crate::http::live::socket::Bounds;
use crate::http::tls::{Certificates, TlsError};
use crate::http::{Edge, EdgeState, Settings, admin, router};
use crate::identity::issuers::{IssuerConfig, Issuers};
use crate::identity::keys::SigningKey;
use crate::identity::passwords::Passwords;
use crate::identity::tokens::Mint;
use crate::identity::{Identity, IdentityError};
use crate::model::id::LoginId;
use crate::model::secret::Secret;
use crate::service::account::{Account, AccountParts, LiveLogins};
use crate::service::cluster::Operations;
use crate::service::converse::Converse;
use crate::service::follow::{self, Follows};
use crate::service::like::Likes;
use crate::service::publish::Publish;
use crate::service::timeline::Timeline;
use crate::service::{self, ServiceError, Services};
use crate::storage::circuit::CircuitState;
use crate::storage::redis::OpenError as RedisError;
use crate::storage::{scylla, sqlite};
use crate::telemetry::{Metrics, metric};
use engine::{Aggregates, Engine};
use health::Health;
use metrics_exporter_prometheus::PrometheusHandle;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use volatile::{Shared, Volatile};

/// Sessions that may read what they missed at once; well below what may wait for a reader.
const BEGINNINGS: usize = 64;
/// How long requests under way may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(10);
/// Files that the process itself needs: the store's, its logs', those of outgoing calls.
const OWN_FILES: usize = 512;
/// Between two looks at the metrics.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// Connections to the metrics' own address.
const SCRAPERS: usize = 64;

/// A server that is ready to serve.
pub struct App {
    node: Arc<NodeHandle>,
    membership: Arc<Membership>,
    engine: Engine,
    address: SocketAddr,
    scheme: &'static str,
    listener: Listener,
    metrics_listener: Option<Listener>,
    certificates: Option<Arc<Certificates>>,
    admin: UnixListener,
    metrics: PrometheusHandle,
    redis: Option<Shared>,
    drain: Duration,
    /// Its lock is held as long as the server runs.
    data_dir: DataDir,
}

/// Why a server does not start: one line for its operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] sqlite::OpenError),
    /// The CQL cluster cannot be used.
    #[error(transparent)]
    Scylla(#[from] scylla::OpenError),
    /// Another node has the store.
    #[error(transparent)]
    Claim(#[from] scylla::ClaimError),
    /// It cannot be a node of the cluster.
    #[error(transparent)]
    Cluster(#[from] roost_cluster::StartError),
    /// A setting of the cluster cannot be used.
    #[error("{0}")]
    ClusterSetup(String),
    /// A key or an issuer cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The sink of events cannot be used.
    #[error("events_url: {0}")]
    Sink(#[from] SinkError),
    /// Redis cannot even be tried.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The actors did not start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The database cannot be read.
    #[error("the database cannot be read: {0}")]
    Recall(ServiceError),
    /// An address cannot be listened on.
    #[error("cannot listen on {what}: {error}")]
    Listen {
        /// Which.
        what: String,
        /// Why.
        error: io::Error,
    },
}

impl App {
    /// Opens the data folder, starts the actors and takes over the listener.
    ///
    /// # Errors
    /// What is in the way, in one line.
    pub async fn start(
        config: Config,
        listener: TcpListener,
        instants: Instants,
    ) -> Result<Self, StartError> {
        // First, so that it sees what happens during the start.
        let metrics = Metrics::install();
        let data_dir = DataDir::open(&config.data_dir)?;
        let certificates = certificates(&config)?;
        let watermark = Arc::new(match (Engine::fans_out(&config), config.cluster_listen) {
            (_, Some(_)) => Watermark::shared(),
            (true, None) => Watermark::spreading(),
            (false, None) => Watermark::default(),
        });
        let engine = Engine::open(&config, &data_dir, watermark.clone()).await?;
        let store = engine.aggregates();
        let mut volatile = Volatile::new(&config).await?;
        let cluster = Box::pin(cluster::join(&config)).await?;
        let node = NodeHandle::start(
            NodeArguments {
                posts: store.clone(),
                jobs: store.clone(),
                timelines: store.clone(),
                chats: store.clone(),
                rooms: store.clone(),
                rules: config.rules(),
                game_events: volatile.game_events.clone(),
                upkeep: store.clone(),
                fan_out: engine.fan_out(),
                clock: engine.clock(),
                watermark,
                outlets: outlets(&config, &volatile)?.map(Arc::new),
                instants: instants.clone(),
            },
            cluster,
        )
        .await?;

        let account = Arc::new(Account::new(AccountParts {
            identity: identity(&config, &data_dir)?,
            store: store.clone(),
            revocations: volatile.revocations.clone(),
            timelines: volatile.cache.clone(),
            live: node.roster.clone(),
        }));
        account.recall_ended_logins().await.map_err(StartError::Recall)?;
        let mut redis = volatile.redis.take();
        if let Some(redis) = &mut redis {
            redis.listen(&account, &node.roster)?;
        }
        let world = Arc::new(SessionWorld {
            timelines: store.clone(),
            graph: store.clone(),
            posts: store.clone(),
            relays: node.relays.clone(),
            roster: node.roster.clone(),
            inboxes: node.inboxes.clone(),
            turns: node.turns.clone(),
            watermark: node.watermark.clone(),
            homes: node.homes.clone(),
            follows: node.follows.clone(),
            wanted: node.wanted(),
            presence: volatile.presence.clone(),
            revocations: volatile.revocations.clone(),
            authenticate: authenticate(account.clone()),
            heartbeat: config.heartbeat,
            idle_timeout: config.idle_timeout,
            connections: config.limit_connections.or_max() as usize,
            beginnings: Semaphore::new(BEGINNINGS),
            instants: instants.clone(),
        });
        let services = services(&config, &node, &store, volatile, account, instants);
        let edge = Edge::new(EdgeState {
            services,
            settings: settings(&config),
            health: Arc::new(Health {
                node: node.clone(),
                engine: engine.clone(),
                redis: redis.as_ref().map(Shared::watch),
                name: config.node_name.as_str().to_owned(),
                role: config.role,
            }),
            live: Live {
                node: node.clone(),
                world,
                bounds: Bounds {
                    frames_per_second: config.limit_frames_per_second.get(),
                    outbox_bytes: config.outbox_bytes,
                },
                streams: config.limit_streams.or_max() as usize,
                streamed: Arc::new(Deliveries::by("stream")),
                on_sockets: Arc::new(Deliveries::by("socket")),
            },
            metrics: metrics.clone(),
        });

        let listening = |what: &dyn std::fmt::Display| {
            let what = what.to_string();
            move |error| StartError::Listen { what, error }
        };
        let address = listener.local_addr().map_err(listening(&config.listen))?;
        let connections = most_connections();
        let listener = Listener::new(listener, certificates.clone(), router::router(edge), connections)
            .map_err(listening(&address))?;
        let metrics_listener = match config.metrics_listen {
            Some(address) => Some(
                TcpListener::bind(address)
                    .and_then(|tcp| Listener::new(tcp, None, metrics_router(metrics.clone()), SCRAPERS))
                    .map_err(listening(&address))?,
            ),
            None => None,
        };
        let membership = operating::membership(&config, &node)?;
        let admin = admin::bind(&data_dir).map_err(listening(&data_dir.socket().display()))?;
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let drain = config.drain;
        Ok(Self {
            node,
            membership,
            engine,
            address,
            scheme,
            listener,
            metrics_listener,
            certificates,
            admin,
            metrics,
            redis,
            drain,
            data_dir,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Its actors.
    #[must_use]
    pub fn node(&self) -> Arc<NodeHandle> {
        self.node.clone()
    }

    /// Serves until `shutdown`; then sends the clients away, lets requests end and closes the store.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) {
        let Self {
            node,
            membership,
            engine,
            listener,
            metrics_listener,
            certificates,
            admin,
            redis,
            drain,
            data_dir,
            ..
        } = self;
        let (stop, stopped) = watch::channel(false);
        let until_stopped = || {
            let mut stopped = stopped.clone();
            // The sender lives until all have been told.
            async move { drop(stopped.wait_for(|stopped| *stopped).await) }
        };
        let mut serving = JoinSet::new();
        serving.spawn(listener.serve(until_stopped(), GRACE));
        if let Some(listener) = metrics_listener {
            serving.spawn(listener.serve(until_stopped(), GRACE));
        }
        let (jobs, backup) = (engine.aggregates(), engine.backup());
        let operators = until_stopped();
        let drains = operating::follow_drains(node.clone(), membership.drains(), drain);
        let drains = tokio::spawn(drains);
        let nodes = admin::nodes::router(Operations::new(membership.clone()));
        let remote = admin::remote_router(jobs.clone()).merge(nodes.clone());
        let questions = tokio::spawn(operating::answer_questions(membership.questions(), remote));
        let commands = admin::router(jobs, backup).merge(nodes);
        serving.spawn(async move {
            if let Err(error) = admin::serve(admin, commands, operators).await {
                tracing::error!(%error, "operators' commands are no longer answered: {error}");
            }
        });
        let metrics = tokio::spawn(tend(self.metrics, engine.clone()));
        let hangups = certificates.map(|certificates| tokio::spawn(certificates.reload_on_hangup()));

        tokio::select! {
            () = shutdown => {}
            // Another start has its name: it may do nothing any more, and says so to its clients.
            () = left(&node) => {}
        }
        // What an operator wanted is no longer of interest, and must not take back what begins now.
        drains.abort();
        questions.abort();
        tracing::info!("stopping: sending {} clients away", node.roster.count());
        node.drain(drain).await;
        stop.send_replace(true);
        while serving.join_next().await.is_some() {}
        node.stop().await;
        if let Some(redis) = redis {
            redis.close().await;
        }
        if let Err(error) = engine.close().await {
            tracing::error!(%error, "the store did not close: {error}");
        }
        metrics.abort();
        if let Some(hangups) = hangups {
            hangups.abort();
        }
        // Nobody answers there any more; a socket that stays would be taken over by the next start.
        let _ = std::fs::remove_file(data_dir.socket());
        drop(data_dir);
        tracing::info!("stopped");
    }
}

/// Waits until this node's cluster has ended for it; for ever where there is none.
async fn left(node: &NodeHandle) {
    match node.clustered() {
        Some(clustered) => drop(clustered.ended().await),
        None => std::future::pending().await,
    }
}

/// Sums up what the metrics gathered, so that it does not grow where nobody reads them, and shows the
/// store's circuits.
async fn tend(metrics: PrometheusHandle, engine: Engine) {
    let store = engine.aggregates();
    loop {
        let (writes, reads) = engine.circuits();
        for (dependency, circuit) in [("store_writes", writes), ("store_reads", reads)] {
            let open = f64::from(u8::from(circuit != CircuitState::Closed));
            metrics::gauge!(metric::CIRCUIT_OPEN, "dependency" => dependency).set(open);
        }
        if (writes, reads) != (CircuitState::Closed, CircuitState::Closed) {
            // Where nobody else asks, nobody would find out that it mended; what it says shows in the circuit.
            let _ = store.check().await;
        }
        tokio::time::sleep(METRICS_UPKEEP).await;
        metrics.run_upkeep();
    }
}

fn services(
    config: &Config,
    node: &NodeHandle,
    store: &Arc<dyn Aggregates>,
    volatile: Volatile,
    account: Arc<Account>,
    instants: Instants,
) -> Services {
    let Volatile { limits, cache, .. } = volatile;
    Services {
        account,
        publish: Publish::new(store.clone(), node.homes.clone(), limits.clone(), cache.clone()),
        follows: Follows::new(follow::Parts {
            graph: store.clone(),
            news: node.follows.clone(),
            turns: node.turns.clone(),
            cache: cache.clone(),
            followees: u64::from(config.limit_followees.or_max()),
            instants,
        }),
        likes: Likes::new(store.clone(), cache.clone()),
        timeline: Timeline::new(store.clone(), cache),
        converse: Converse::new(
            store.clone(),
            store.clone(),
            node.conversations.clone(),
            config.support_users.clone(),
        ),
        rooms: service::room::Rooms::new(
            store.clone(),
            node.rooms.clone(),
            limits.clone(),
            config.rules(),
            WatchBounds {
                room: config.limit_room_streams.or_max() as usize,
                address: config.limit_address_streams.or_max() as usize,
            },
        ),
        limits,
    }
}

/// Where events are sent.
fn outlets(config: &Config, volatile: &Volatile) -> Result<Option<Outlets>, SinkError> {
    let mut outlets: Vec<Box<dyn Outlet>> = Vec::new();
    if let Some(url) = &config.events_url {
        outlets.push(Box::new(Sink::new(url.url().clone(), config.events_secret.clone())?));
    }
    outlets.extend(volatile.outlet(config));
    Ok(Outlets::new(outlets))
}

fn identity(config: &Config, data_dir: &DataDir) -> Result<Identity, IdentityError> {
    let key = match (&config.jwt_secret, &config.jwt_key_file) {
        (Some(secret), _) => SigningKey::from_secret(secret)?,
        (None, Some(file)) => SigningKey::open(file)?,
        (None, None) => SigningKey::open_or_make(&data_dir.signing_key())?,
    };
    let issuers = config.jwt_issuers.iter().map(|issuer| IssuerConfig {
        issuer: issuer.issuer.clone(),
        audience: issuer.audience.clone(),
        jwks: issuer.jwks.clone(),
    });
    Ok(Identity {
        passwords: Passwords::start()?,
        mint: Mint::new(key, config.access_token),
        issuers: Issuers::new(issuers.collect())?,
    })
}

fn certificates(config: &Config) -> Result<Option<Arc<Certificates>>, TlsError> {
    match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => Ok(Some(Arc::new(Certificates::load(certificate, key)?))),
        _ => Ok(None),
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        serves: config.role,
        public_url: config.public_url.as_ref().map(|url| url.url().to_string()),
        allowed_origins: config.allowed_origins.iter().map(|origin| origin.as_str().to_owned()).collect(),
        trusted_proxies: config.trusted_proxies.clone(),
        tls: config.tls_cert.is_some(),
        metrics_here: config.metrics_listen.is_none(),
    }
}

/// As many connections as the limit of open files bears, less what the process itself needs.
fn most_connections() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    files - (files / 10).min(OWN_FILES)
}

/// Lets a session check its client's newer token.
fn authenticate(account: Arc<Account>) -> Box<crate::actors::session::Authenticate> {
    Box::new(move |token: Secret| {
        let account = account.clone();
        Box::pin(async move {
            account.authenticate(&token).await.map_err(|error| match error {
                ServiceError::Unauthorized(detail) => detail,
                // What else went wrong is not the client's to know.
                _ => "the token cannot be checked now",
            })
        })
    })
}

impl LiveLogins for Roster {
    fn end_login(&self, login: LoginId) {
        Self::end_login(self, login);
    }
}
