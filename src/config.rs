//! Every setting of the server: its name, its default and its meaning, in the one table below.
//!
//! A setting comes from its flag (`--data-dir`), else its variable (`ROOST_DATA_DIR`), else the file of
//! `--config` or `ROOST_CONFIG` (`data_dir`), else its default. No file is read that was not named. A
//! setting that cannot be understood stops the start with one line that names it; nothing is guessed.

mod redis_url;
mod setting;
mod source;
mod value;

pub use redis_url::RedisUrl;
pub use setting::{Setting, example};
pub use source::{ConfigError, Loaded, Sources};
pub use value::{
    HostPort, HttpUrl, KeyspaceName, Limit, LogFilter, NodeName, Origin, OutsideIssuer, Role, Route,
};

use crate::model::room::rules::{MAX_THRESHOLD, Step};
use crate::model::room::{EventType, EventTypes, Rules};
use crate::model::secret::Secret;
use crate::model::user::Username;
use crate::storage::scylla::{Access, Replication};
use ipnet::IpNet;
use setting::settings;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

settings! {
    /// Address and port that it serves on; port 0 takes a free one.
    listen: SocketAddr = (Ipv4Addr::LOCALHOST, 8080).into();
    /// Address and port for /metrics alone, which is then not served on the main one.
    metrics_listen: Option<SocketAddr> = None, such as "\"127.0.0.1:9090\"";
    /// Folder of the database and the signing key; made where it is missing.
    data_dir: PathBuf = PathBuf::from("./data");
    /// What it serves: "api" is REST only, "realtime" sockets and streams only, "all" is both.
    role: Role = Role::All;
    /// Name of this node in logs, metrics and answers; without it, the host's name.
    node_name: NodeName = NodeName::of_host(), such as "\"roost-1\"";

    /// Nodes of a ScyllaDB or Apache Cassandra cluster, as host:port, that keeps everything; without them, the
    /// database in the data folder does.
    scylla_nodes: Vec<HostPort> = Vec::new(), such as "[\"10.0.0.1:9042\", \"10.0.0.2:9042\"]";
    /// Keyspace there; made, with its tables, where there is none.
    scylla_keyspace: KeyspaceName = KeyspaceName::default();
    /// Copies that the keyspace is made with: a number for every datacenter, or one for each, such as
    /// "dc1=3,dc2=2". It is not changed afterwards.
    scylla_replication: Replication = Replication::default();
    /// User there.
    scylla_user: Option<String> = None, such as "\"roost\"";
    /// The user's password.
    scylla_password: Option<Secret> = None, such as "\"a password\"";
    /// Certificates (PEM) that sign those of the nodes; with them, connections are encrypted.
    scylla_ca: Option<PathBuf> = None, such as "\"/etc/roost/scylla-ca.pem\"";
    /// Followers beyond which, there, an author's posts are read by each reader instead of being written into
    /// every timeline; 0 for never.
    wide_author_followers: Limit = Limit::of(10_000);

    /// Key that signs tokens by HS256, of 32 bytes at least, for nodes that share it. Without it they are
    /// signed by Ed25519.
    jwt_secret: Option<Secret> = None, such as "\"at least thirty-two bytes of random text\"";
    /// Ed25519 key (PKCS #8, PEM) that signs tokens; without it, the one in the data folder, made at first
    /// start.
    jwt_key_file: Option<PathBuf> = None, such as "\"/etc/roost/signing-key.pem\"";
    /// Outside issuers whose tokens are taken: a list of {issuer, audience, jwks}, where jwks is a file or
    /// a URL. As a variable or flag it is a JSON list.
    jwt_issuers: Vec<OutsideIssuer> = Vec::new(),
        such as "[{ issuer = \"https://id.example.com\", audience = \"roost\", jwks = \"https://id.example.com/jwks.json\" }]";

    /// Certificate chain (PEM); with it and its key, everything is served over TLS. Read anew on SIGHUP.
    tls_cert: Option<PathBuf> = None, such as "\"/etc/roost/cert.pem\"";
    /// Private key of the certificate (PEM).
    tls_key: Option<PathBuf> = None, such as "\"/etc/roost/key.pem\"";
    /// Origins of pages that may call it from a browser (CORS); none but its own without it.
    allowed_origins: Vec<Origin> = Vec::new(), such as "[\"https://app.example.com\"]";
    /// Networks or addresses of proxies whose Forwarded or X-Forwarded-For is believed.
    trusted_proxies: Vec<IpNet> = Vec::new(), such as "[\"10.0.0.0/8\", \"192.0.2.7\"]";
    /// Address by which clients reach it, where that is not the one it listens on (behind a proxy).
    public_url: Option<HttpUrl> = None, such as "\"https://roost.example.com\"";

    /// Time between the pings on a WebSocket; two unanswered end it.
    heartbeat as "heartbeat_seconds": Duration = Duration::from_secs(30);
    /// Time without a text frame or ping from the client after which a WebSocket is closed.
    idle_timeout as "idle_timeout_seconds": Duration = Duration::from_secs(600);
    /// Time for which an access token is good.
    access_token as "access_token_seconds": Duration = Duration::from_secs(3600);
    /// Time over which clients are sent away when it stops.
    drain as "drain_seconds": Duration = Duration::from_secs(30);

    /// Names of the users who answer in everybody's support conversation (support-demo).
    support_users: Vec<Username> = Vec::new(), such as "[\"help\", \"ben\"]";

    /// What can be pressed in a room whose maker does not say, and how many presses make an effect where few are there.
    room_event_types: Vec<EventType> = Rules::default().event_types.all().to_vec();
    /// From how many active viewers on that is multiplied by what; rounded up.
    room_steps: Vec<Step> = Rules::default().steps;
    /// No effect of a room takes fewer presses.
    room_min_presses: usize = Rules::default().min as usize;
    /// No effect of a room takes more.
    room_max_presses: usize = Rules::default().max as usize;
    /// Time for which a press makes its viewer active.
    room_active_window as "room_active_window_seconds": Duration = Rules::default().active_window;

    /// Redis, where limits, presence, pages of timelines and news are shared: redis://, redis-cluster:// or
    /// redis-sentinel://, with rediss… over TLS. Without it they are this node's own.
    redis_url: Option<RedisUrl> = None, such as "\"redis://roost:password@127.0.0.1:6379\"";
    /// Certificates (PEM) of who vouches for Redis over TLS; without it, those that the system trusts.
    redis_ca: Option<PathBuf> = None, such as "\"/etc/roost/redis-ca.pem\"";

    /// Address and port where the other nodes of a cluster connect; with it, this node is one of several, which share
    /// Redis and the CQL cluster.
    cluster_listen: Option<SocketAddr> = None, such as "\"0.0.0.0:7400\"";
    /// Where the others reach that, as host:port; without it, the address itself.
    cluster_advertise: Option<HostPort> = None, such as "\"10.0.0.1:7400\"";
    /// What all nodes of the cluster know and nobody else, of 32 bytes at least.
    cluster_secret: Option<Secret> = None, such as "\"at least thirty-two bytes of random text\"";
    /// Name of the cluster; nodes of another are refused.
    cluster_name: NodeName = NodeName::roost();
    /// Where other nodes are reached from here, as name=host:port, in place of what they advertise.
    cluster_routes: Vec<Route> = Vec::new(), such as "[\"roost-2=192.0.2.2:7400\"]";
    /// Certificate chain (PEM) that this node shows to the others; with it, links are encrypted (mutual TLS).
    cluster_tls_cert: Option<PathBuf> = None, such as "\"/etc/roost/node.pem\"";
    /// Its private key (PEM).
    cluster_tls_key: Option<PathBuf> = None, such as "\"/etc/roost/node-key.pem\"";
    /// Certificates (PEM) that sign those of all nodes.
    cluster_tls_ca: Option<PathBuf> = None, such as "\"/etc/roost/nodes-ca.pem\"";
    /// The name that the certificates of all nodes carry.
    cluster_tls_name: NodeName = NodeName::roost();
    /// Time after which a node that is not heard of any more may be replaced. All times of the cluster are in
    /// proportion to it; it is the same on all nodes.
    cluster_lease as "cluster_lease_seconds": Duration = Duration::from_secs(6);

    /// Where every change is sent as a CloudEvent by HTTP POST.
    events_url: Option<HttpUrl> = None, such as "\"http://127.0.0.1:9000/events\"";
    /// Key that signs what is sent there (HMAC-SHA256).
    events_secret: Option<Secret> = None, such as "\"a shared secret\"";
    /// Key of a stream in Redis to which every change is added as a CloudEvent.
    events_stream: Option<String> = None, such as "\"roost:events\"";
    /// About how many events that stream keeps; the oldest go.
    events_stream_length: usize = 100_000;

    /// What is logged: error, warn, info, debug or trace, or a filter such as "info,roost=debug".
    log: LogFilter = LogFilter::default();

    /// Requests a second that a user may make; 0 for no limit, as in all limits.
    limit_requests_per_second: Limit = Limit::of(100);
    /// Requests that a user may make at once, before that limit holds; with 0, a second's.
    limit_request_burst: Limit = Limit::of(200);
    /// Posts a minute that a user may make.
    limit_posts_per_minute: Limit = Limit::of(10);
    /// Requests without a token a second that an address may make.
    limit_address_requests_per_second: Limit = Limit::of(100);
    /// Logins and refreshes a minute that an address may try.
    limit_logins_per_minute: Limit = Limit::of(20);
    /// Registrations an hour that an address may try.
    limit_registrations_per_hour: Limit = Limit::of(100);
    /// Messages a second that a client may send over one WebSocket.
    limit_frames_per_second: Limit = Limit::of(100);
    /// Users whom one user may follow.
    limit_followees: Limit = Limit::of(10_000);
    /// WebSockets that one user may hold; one more closes the oldest.
    limit_connections: Limit = Limit::of(100);
    /// Chat streams that one user may hold; one more ends the oldest.
    limit_streams: Limit = Limit::of(100);
    /// Presses a second that a viewer of a room may make.
    limit_presses_per_second: Limit = Limit::of(10);
    /// Streams of how a room stands that one node has open of it.
    limit_room_streams: Limit = Limit::of(10_000);
    /// Such streams that one node has open for one address.
    limit_address_streams: Limit = Limit::of(100);
    /// Bytes that may wait for one slow reader before its WebSocket is closed.
    outbox_bytes: usize = 262_144;
}

impl Config {
    /// The CQL cluster that the settings name, if they name one.
    #[must_use]
    pub fn scylla(&self) -> Option<Access> {
        let nodes: Vec<_> = self.scylla_nodes.iter().map(|node| node.as_str().to_owned()).collect();
        (!nodes.is_empty()).then(|| Access {
            nodes,
            keyspace: self.scylla_keyspace.as_str().to_owned(),
            replication: self.scylla_replication.clone(),
            user: self.scylla_user.clone().zip(self.scylla_password.clone()),
            ca: self.scylla_ca.clone(),
            translate: HashMap::new(),
        })
    }

    /// By which rooms count, where that makes sense.
    fn room_rules(&self) -> Result<Rules, Wrong> {
        let event_types = EventTypes::parse(self.room_event_types.clone());
        let event_types =
            event_types.map_err(|error| ("room_event_types", format!("cannot be used: {error}")))?;
        let (steps, most) = (self.room_steps.clone(), MAX_THRESHOLD as usize);
        if !steps.is_sorted_by(|one, next| one.viewers < next.viewers) {
            return Err(("room_steps", "must be in the order of viewers, none twice".to_owned()));
        }
        at_least("room_min_presses", self.room_min_presses >= 1, "1")?;
        at_least("room_max_presses", self.room_max_presses >= self.room_min_presses, "room_min_presses")?;
        let (min, max) = (self.room_min_presses, self.room_max_presses);
        let bounds = u32::try_from(min).ok().zip(u32::try_from(max).ok()).filter(|_| max <= most);
        let (min, max) = bounds.ok_or_else(|| ("room_max_presses", format!("must be at most {most}")))?;
        let active_window = self.room_active_window;
        let is_sane = (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&active_window);
        at_least("room_active_window_seconds", is_sane, "1, and at most 86400")?;
        Ok(Rules { event_types, steps, min, max, active_window })
    }

    /// By which rooms count.
    #[must_use]
    pub fn rules(&self) -> Rules {
        // Settings that make no sense were refused when they were read.
        self.room_rules().unwrap_or_default()
    }

    /// What no setting can tell alone: pairs, and values too small to work.
    fn check(&self) -> Result<(), Wrong> {
        let second = Duration::from_secs(1);
        at_least("heartbeat_seconds", self.heartbeat >= second, "1")?;
        at_least("idle_timeout_seconds", self.idle_timeout >= second, "1")?;
        at_least("access_token_seconds", self.access_token >= second, "1")?;
        // The longest frame (a post of 280 characters, all of them escaped) must fit several times.
        at_least("outbox_bytes", self.outbox_bytes >= 16_384, "16384")?;
        let strong = self.jwt_secret.as_ref().is_none_or(|secret| secret.expose().len() >= 32);
        at_least("jwt_secret", strong, "32 bytes long")?;
        needs("tls_cert", self.tls_cert.is_some(), "tls_key", self.tls_key.is_some())?;
        needs("tls_key", self.tls_key.is_some(), "tls_cert", self.tls_cert.is_some())?;
        needs("events_secret", self.events_secret.is_some(), "events_url", self.events_url.is_some())?;
        needs("redis_ca", self.redis_ca.is_some(), "redis_url", self.redis_url.is_some())?;
        needs("events_stream", self.events_stream.is_some(), "redis_url", self.redis_url.is_some())?;
        at_least("events_stream_length", self.events_stream_length >= 1, "1")?;
        needs("scylla_user", self.scylla_user.is_some(), "scylla_password", self.scylla_password.is_some())?;
        needs("scylla_password", self.scylla_password.is_some(), "scylla_user", self.scylla_user.is_some())?;
        self.check_cluster()?;
        self.room_rules()?;
        if self.jwt_secret.is_some() && self.jwt_key_file.is_some() {
            return Err(("jwt_secret", "cannot be set together with jwt_key_file".to_owned()));
        }
        Ok(())
    }

    fn check_cluster(&self) -> Result<(), Wrong> {
        let secret = self.cluster_secret.as_ref();
        at_least("cluster_secret", secret.is_none_or(|secret| secret.expose().len() >= 32), "32 bytes long")?;
        let lease = self.cluster_lease;
        at_least("cluster_lease_seconds", lease >= Duration::from_secs(2), "2")?;
        let given = self.cluster_listen.is_some();
        needs("cluster_listen", given, "cluster_secret", secret.is_some())?;
        needs("cluster_listen", given, "redis_url", self.redis_url.is_some())?;
        needs("cluster_listen", given, "scylla_nodes", !self.scylla_nodes.is_empty())?;
        let shares_key = self.jwt_secret.is_some() || self.jwt_key_file.is_some();
        needs("cluster_listen", given, "jwt_secret or jwt_key_file, the same on all nodes,", shares_key)?;
        let is_reachable = self.cluster_listen.is_none_or(|address| !address.ip().is_unspecified());
        let advertises = self.cluster_advertise.is_some();
        needs("cluster_listen", given && !is_reachable, "cluster_advertise", advertises)?;
        needs("cluster_advertise", advertises, "cluster_listen", given)?;
        let tls = [&self.cluster_tls_cert, &self.cluster_tls_key, &self.cluster_tls_ca];
        let some = tls.iter().any(|file| file.is_some());
        needs("cluster_tls_cert", some, "cluster_tls_key", self.cluster_tls_key.is_some())?;
        needs("cluster_tls_key", some, "cluster_tls_cert", self.cluster_tls_cert.is_some())?;
        needs("cluster_tls_cert", some, "cluster_tls_ca", self.cluster_tls_ca.is_some())
    }
}

/// A setting, and what is wrong with it.
type Wrong = (&'static str, String);

fn at_least(name: &'static str, enough: bool, least: &str) -> Result<(), Wrong> {
    if enough { Ok(()) } else { Err((name, format!("must be at least {least}"))) }
}

fn needs(name: &'static str, given: bool, other: &str, there: bool) -> Result<(), Wrong> {
    if given && !there { Err((name, format!("needs {other} as well"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
