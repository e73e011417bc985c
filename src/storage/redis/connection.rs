//! How a connection to Redis is made and made again: the address as fred understands it, the bounds, TLS.

use super::{OpenError, Options};
use fred::clients::{Client, SubscriberClient};
use fred::interfaces::ClientLike;
use fred::types::RespVersion;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, TcpConfig, TlsConfig, UnresponsiveConfig,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How long one command may take.
pub const COMMAND: Duration = Duration::from_millis(250);
/// How long a connection may take to be made, its login included.
const CONNECTING: Duration = Duration::from_secs(2);
/// A connection on which nothing was answered for so long is given up and made anew.
const SILENCE: Duration = Duration::from_secs(3);
/// Between two tries to connect: from, to, and how much chance is added; in milliseconds.
const BACKOFF: (u32, u32, u32) = (100, 5_000, 100);
/// Commands that may wait for the connection's task.
const QUEUE: usize = 8_192;
/// News that may wait for who listens; who is later reads the store again.
const NEWS: usize = 1_024;

/// What every connection is made by.
pub struct Settings {
    config: Config,
}

impl Settings {
    /// Reads the address, and the certificates.
    pub fn of(options: &Options) -> Result<Self, OpenError> {
        let refused = |error: fred::error::Error| OpenError::Url(error.details().to_owned());
        let mut config = Config::from_url(options.url.expose()).map_err(refused)?;
        if let Some(path) = &options.ca {
            config.tls = Some(trusting(path)?);
        }
        Ok(Self { config })
    }

    /// Where it leads, for the log: without user and password.
    pub fn place(&self) -> String {
        let hosts = self.config.server.hosts();
        hosts.iter().map(|server| format!("{}:{}", server.host, server.port)).collect::<Vec<_>>().join(", ")
    }

    /// A client of commands, not connected yet.
    pub fn client(&self) -> Result<Client, OpenError> {
        self.client_of(RespVersion::RESP2, Client::new)
    }

    /// A client that hears of channels. It speaks RESP3, where a connection that hears can also be asked
    /// whether it lives.
    pub fn subscriber(&self) -> Result<SubscriberClient, OpenError> {
        self.client_of(RespVersion::RESP3, SubscriberClient::new)
    }

    fn client_of<C>(
        &self,
        version: RespVersion,
        make: impl FnOnce(
            Config,
            Option<PerformanceConfig>,
            Option<ConnectionConfig>,
            Option<ReconnectPolicy>,
        ) -> C,
    ) -> Result<C, OpenError> {
        let performance = PerformanceConfig {
            default_command_timeout: COMMAND,
            broadcast_channel_capacity: NEWS,
            ..PerformanceConfig::default()
        };
        let connection = ConnectionConfig {
            connection_timeout: CONNECTING,
            internal_command_timeout: CONNECTING,
            // What was on its way when a connection broke may have been done: whoever asked decides.
            max_command_attempts: 1,
            max_command_buffer_len: QUEUE,
            unresponsive: UnresponsiveConfig { max_timeout: Some(SILENCE), interval: SILENCE / 3 },
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            reconnect_on_auth_error: true,
            ..ConnectionConfig::default()
        };
        // The first connection's error is to be seen; making it again is the business of `stay_connected`.
        let config = Config { version, fail_fast: true, ..self.config.clone() };
        Ok(make(config, Some(performance), Some(connection), Some(backoff())))
    }
}

fn backoff() -> ReconnectPolicy {
    let (from, to, chance) = BACKOFF;
    let mut policy = ReconnectPolicy::new_exponential(0, from, to, 2);
    policy.set_jitter(chance);
    policy
}

/// TLS that trusts these certificates and no others.
fn trusting(path: &Path) -> Result<TlsConfig, OpenError> {
    let failed = |reason: String| OpenError::Certificates { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| failed(format!("cannot be read ({error})")))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| failed(format!("is not PEM ({error})")))?;
        roots.add(certificate).map_err(|error| failed(format!("has no usable certificate ({error})")))?;
    }
    if roots.is_empty() {
        return Err(failed("has no certificate".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConfig::from(config))
}

/// Keeps a client connected for good: begins again where the client itself would give up.
pub async fn stay_connected<C: ClientLike>(client: C) {
    let mut policy = backoff();
    loop {
        let begun = tokio::time::Instant::now();
        // Ends where the first connection fails, or by an error after which the client tries no more.
        let _ = Driving(client.connect()).ended().await;
        if begun.elapsed() > CONNECTING * 2 {
            policy = backoff();
        }
        sleep(Duration::from_millis(policy.next_delay().unwrap_or(BACKOFF.1.into()))).await;
    }
}

/// The task of a connection; ends with whoever drives it.
struct Driving<T>(JoinHandle<T>);

impl<T> Driving<T> {
    async fn ended(mut self) -> Option<T> {
        (&mut self.0).await.ok()
    }
}

impl<T> Drop for Driving<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
