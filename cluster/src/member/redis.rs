//! Leases and the view in Redis, each change one script: what is compared and what is written are one step. Scripts
//! name keys that are not declared (the leases), so this is for one Redis, not for a Redis Cluster.

use super::decide::Seen;
use super::lease::{Lease, LeaseRecord};
use crate::node::{Node, NodeName};
use crate::timing::Timing;
use crate::view::ViewRecord;
use fred::clients::{Client, WithOptions};
use fred::interfaces::{ClientLike, LuaInterface};
use fred::types::Value;
use fred::types::config::{
    Config, ConnectionConfig, Options, PerformanceConfig, ReconnectPolicy, TcpConfig, TlsConfig,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// What `node:{name}` begins with.
const LEASE: &str = "node:";
/// The names that had leases.
const NAMES: &str = "cluster:nodes";
/// The view.
const VIEW: &str = "cluster:view";

/// Writes our lease, unless another start has it: then answers that.
const RENEW: &str = "
local now = redis.call('GET', KEYS[1])
if now then
  local read, lease = pcall(cjson.decode, now)
  if read and lease.boot ~= ARGV[1] then return now end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('SADD', KEYS[2], ARGV[4])
return ''";

/// Ends our lease.
const RELEASE: &str = "
local now = redis.call('GET', KEYS[1])
if now then
  local read, lease = pcall(cjson.decode, now)
  if read and lease.boot == ARGV[1] then
    redis.call('DEL', KEYS[1])
    redis.call('SREM', KEYS[2], ARGV[2])
  end
end
return ''";

/// Everything, at one moment. Who has no lease any more is left out from then on; a renewal brings it back.
const LOOK: &str = "
local time = redis.call('TIME')
local seen = {time[1], time[2], redis.call('GET', KEYS[1]) or ''}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local lease = redis.call('GET', ARGV[1] .. name)
  if lease then
    seen[#seen + 1] = name
    seen[#seen + 1] = lease
  else
    redis.call('SREM', KEYS[2], name)
  end
end
return seen";

/// Writes a view in the place of the one that was read, if the leases of those who go are still gone.
const WRITE: &str = "
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
for i = 4, #ARGV, 2 do
  local lease = redis.call('GET', ARGV[3] .. ARGV[i])
  if lease then
    local read, record = pcall(cjson.decode, lease)
    if read and record.boot == ARGV[i + 1] then return 0 end
  end
end
redis.call('SET', KEYS[1], ARGV[2])
return 1";

/// Which Redis.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://user:password@host:port/db` or `rediss://…`; never printed.
    pub url: String,
    /// For TLS: the only authorities that are trusted, in PEM; none: those of the system.
    pub authority: Option<Vec<u8>>,
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions").finish_non_exhaustive()
    }
}

/// Why Redis gave no answer that can be gone by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// What was said of it makes no sense.
    #[error("the address of Redis cannot be used: {0}")]
    Address(String),
    /// It does not answer.
    #[error("Redis does not answer: {0}")]
    Away(String),
    /// It is another cluster's.
    #[error("this Redis is of the cluster {0:?}, not of this one")]
    OtherCluster(String),
    /// What is there is none of ours.
    #[error("what is in Redis under {0} cannot be read: {1}")]
    Unreadable(String, String),
}

/// A view under the name of its cluster.
#[derive(Serialize, Deserialize)]
struct StoredView {
    cluster: String,
    #[serde(flatten)]
    record: ViewRecord,
}

/// What was read, when, and the view word for word.
pub struct Look {
    /// What was read.
    pub seen: Seen,
    /// Redis' own time, since 1970.
    pub time: Duration,
    /// The view as it is there, for who wants to write another in its place.
    pub view_text: String,
}

/// Redis, for one node.
pub struct Store {
    client: WithOptions<Client>,
    cluster: String,
    me: Node,
    lease: Duration,
    connection: JoinHandle<()>,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Store {
    /// Begins to connect, and keeps the connection.
    pub fn new(
        options: &RedisOptions,
        cluster: &str,
        me: &Node,
        timing: &Timing,
    ) -> Result<Self, StoreError> {
        let mut config = Config::from_url(&options.url)
            .map_err(|error| StoreError::Address(error.details().to_owned()))?;
        if let Some(authority) = &options.authority {
            config.tls = Some(trusting(authority)?);
        }
        let performance =
            PerformanceConfig { default_command_timeout: timing.command, ..PerformanceConfig::default() };
        let connection = ConnectionConfig {
            connection_timeout: timing.command * 2,
            internal_command_timeout: timing.command * 2,
            // A renewal that comes late is worse than none: whoever asked asks again.
            max_command_attempts: 1,
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            reconnect_on_auth_error: true,
            ..ConnectionConfig::default()
        };
        let most = u32::try_from(timing.renew.as_millis()).unwrap_or(u32::MAX).max(100);
        let policy = ReconnectPolicy::new_exponential(0, 50, most, 2);
        let client = Client::new(config, Some(performance), Some(connection), Some(policy));
        let connection = tokio::spawn(stay_connected(client.clone(), timing.renew));
        let options = Options {
            max_attempts: Some(1),
            timeout: Some(timing.command),
            // While there is no connection nothing waits for one.
            fail_fast: true,
            ..Options::default()
        };
        Ok(Self {
            client: client.with_options(&options),
            cluster: cluster.to_owned(),
            me: me.clone(),
            lease: timing.lease,
            connection,
        })
    }

    /// Waits for the first connection, so long at most; whether there is one.
    pub async fn connected(&self, most: Duration) -> bool {
        matches!(tokio::time::timeout(most, self.client.wait_for_connect()).await, Ok(Ok(())))
    }

    async fn run<R: fred::types::FromValue>(
        &self,
        script: &str,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<R, StoreError> {
        let away = |error: fred::error::Error| StoreError::Away(error.details().to_owned());
        self.client.eval(script, keys, arguments).await.map_err(away)
    }

    fn own_keys(&self) -> Vec<String> {
        vec![format!("{LEASE}{}", self.me.name), NAMES.to_owned()]
    }

    /// Takes or renews our lease; answers who else has it, if somebody has.
    pub async fn renew(&self, record: &LeaseRecord) -> Result<Option<Lease>, StoreError> {
        let text = serde_json::to_string(record).unwrap_or_default();
        let lifetime = i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX);
        let name = self.me.name.to_string();
        let arguments = vec![record.boot.to_string().into(), text.into(), lifetime.into(), name.into()];
        let held: String = self.run(RENEW, self.own_keys(), arguments).await?;
        if held.is_empty() {
            return Ok(None);
        }
        let record: LeaseRecord = read(&format!("{LEASE}{}", self.me.name), &held)?;
        self.check_cluster(&record.cluster)?;
        Ok(Some(Lease { name: self.me.name.clone(), record }))
    }

    /// Ends our lease.
    pub async fn release(&self) -> Result<(), StoreError> {
        let arguments = vec![self.me.boot.to_string().into(), self.me.name.to_string().into()];
        self.run::<String>(RELEASE, self.own_keys(), arguments).await.map(|_| ())
    }

    /// Reads everything.
    pub async fn look(&self) -> Result<Look, StoreError> {
        let keys = vec![VIEW.to_owned(), NAMES.to_owned()];
        let read_all: Vec<String> = self.run(LOOK, keys, vec![LEASE.into()]).await?;
        let [seconds, micros, view_text, leases @ ..] = &read_all[..] else {
            return Err(StoreError::Unreadable(VIEW.to_owned(), "there is too little".to_owned()));
        };
        let time = Duration::from_secs(seconds.parse().unwrap_or(0))
            + Duration::from_micros(micros.parse().unwrap_or(0));
        let view = if view_text.is_empty() {
            None
        } else {
            let stored: StoredView = read(VIEW, view_text)?;
            self.check_cluster(&stored.cluster)?;
            Some(stored.record)
        };
        let mut seen = Seen { view, leases: Vec::new() };
        for pair in leases.chunks_exact(2) {
            let key = format!("{LEASE}{}", pair[0]);
            let name =
                NodeName::parse(&pair[0]).map_err(|e| StoreError::Unreadable(key.clone(), e.to_string()))?;
            let record: LeaseRecord = read(&key, &pair[1])?;
            self.check_cluster(&record.cluster)?;
            seen.leases.push(Lease { name, record });
        }
        Ok(Look { seen, time, view_text: view_text.clone() })
    }

    /// Writes a view in the place of the one that was read; whether nobody was faster.
    pub async fn write(
        &self,
        record: &ViewRecord,
        gone: &[Node],
        in_place_of: &str,
    ) -> Result<bool, StoreError> {
        let stored = StoredView { cluster: self.cluster.clone(), record: record.clone() };
        let text = serde_json::to_string(&stored).unwrap_or_default();
        let mut arguments: Vec<Value> = vec![in_place_of.into(), text.into(), LEASE.into()];
        for node in gone {
            arguments.extend([node.name.to_string().into(), node.boot.to_string().into()]);
        }
        let written: i64 = self.run(WRITE, vec![VIEW.to_owned()], arguments).await?;
        Ok(written == 1)
    }

    fn check_cluster(&self, cluster: &str) -> Result<(), StoreError> {
        if cluster == self.cluster { Ok(()) } else { Err(StoreError::OtherCluster(cluster.to_owned())) }
    }
}

fn read<T: for<'a> Deserialize<'a>>(key: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Unreadable(key.to_owned(), error.to_string()))
}

/// Keeps a client connected for good: begins again where the client itself would give up.
async fn stay_connected(client: Client, pause: Duration) {
    loop {
        let mut driving = Driving(client.connect());
        // Ends by an error after which the client tries no more.
        let _ = (&mut driving.0).await;
        tokio::time::sleep(pause / 4).await;
    }
}

/// The task of a connection; ends with whoever drives it.
struct Driving<T>(JoinHandle<T>);

impl<T> Drop for Driving<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// TLS that trusts these certificates and no others.
fn trusting(authority: &[u8]) -> Result<TlsConfig, StoreError> {
    let refused = |error: &dyn fmt::Display| StoreError::Address(format!("its certificates: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority) {
        let certificate = certificate.map_err(|error| refused(&error))?;
        roots.add(certificate).map_err(|error| refused(&error))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConfig::from(config))
}
