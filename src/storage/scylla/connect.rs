//! How the cluster is reached: addresses, user, TLS, keyspace; and why it cannot be.

use super::cql::Cql;
use super::replication::Replication;
use super::schema::{self, SchemaError, Status};
use crate::model::secret::Secret;
use rustls::pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use scylla::client::PoolSize;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, MetadataError,
    NewSessionError, TranslationError,
};
use scylla::policies::address_translator::{AddressTranslator, UntranslatedPeer};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a node may take to answer a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Each connection is asked so often whether somebody is there.
const ASKED_EVERY: Duration = Duration::from_secs(2);
/// A node that does not answer that for so long hangs: its connections are given up, and what waits on them is
/// asked of others. Together with the former it is within the write deadline.
const HANGS_AFTER: Duration = Duration::from_millis(2_500);
/// Connections a node (of ScyllaDB: a shard).
const CONNECTIONS: NonZeroUsize = NonZeroUsize::MIN;

/// A cluster and a keyspace of it.
#[derive(Clone)]
pub struct Access {
    /// Nodes to ask first, as `host:port`.
    pub nodes: Vec<String>,
    /// The keyspace: a lower-case letter, then up to 47 of those, digits and `_`.
    pub keyspace: String,
    /// Its copies, where it is made.
    pub replication: Replication,
    /// Name and password.
    pub user: Option<(String, Secret)>,
    /// A file of certificates (PEM) that sign the nodes' own: with it, connections are encrypted.
    pub ca: Option<PathBuf>,
    /// Where nodes are reached that name other addresses.
    pub translate: HashMap<SocketAddr, SocketAddr>,
}

/// Why a store cannot be opened: one line for its operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No node answers, or none lets us in.
    #[error("scylla_nodes: no CQL node answers at {nodes}: {why}")]
    Unreachable {
        /// Whom we asked.
        nodes: String,
        /// What the last one said.
        why: String,
    },
    /// The nodes are there, and do not let this user in.
    #[error("scylla_user: the CQL nodes do not let {user} in: {why}; check scylla_user and scylla_password")]
    Locked {
        /// As whom we came.
        user: String,
        /// What they said.
        why: String,
    },
    /// The certificates cannot be used.
    #[error("scylla_ca {}: {why}", .file.display())]
    Certificates {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// The keyspace cannot be used.
    #[error("{setting}: {0}", setting = .0.setting())]
    Schema(#[from] SchemaError),
    /// A copy of another store that was not finished.
    #[error(
        "scylla_keyspace: keyspace {keyspace} holds a copy that is not whole: run the same `roost copy` again, \
         or drop the keyspace"
    )]
    HalfCopied {
        /// Which.
        keyspace: String,
    },
    /// The keyspace was opened and does not work.
    #[error("scylla_keyspace: keyspace {keyspace} cannot be used: {why}")]
    Unusable {
        /// Which.
        keyspace: String,
        /// Why.
        why: String,
    },
}

impl Access {
    /// A session on a keyspace that has this version's schema afterwards.
    pub(super) async fn open(&self) -> Result<Session, OpenError> {
        let session = self.session().await?;
        schema::apply(&session, &self.keyspace, &self.replication).await?;
        Ok(session)
    }

    /// What the keyspace is found to be; nothing is changed.
    ///
    /// # Errors
    /// Where the cluster does not answer, or holds something else.
    pub async fn status(&self) -> Result<Status, OpenError> {
        Ok(schema::status(&self.session().await?, &self.keyspace).await?)
    }

    /// Makes the keyspace and its tables, or brings them to this version.
    ///
    /// # Errors
    /// Where the cluster does not answer, or holds something else or something newer.
    pub async fn apply(&self) -> Result<(), OpenError> {
        Ok(schema::apply(&self.session().await?, &self.keyspace, &self.replication).await?)
    }

    /// Something that failed once the cluster had answered.
    pub(super) fn unusable(&self, why: &dyn std::fmt::Display) -> OpenError {
        OpenError::Unusable { keyspace: self.keyspace.clone(), why: why.to_string() }
    }

    /// A session without a keyspace.
    pub(super) async fn session(&self) -> Result<Session, OpenError> {
        let mut builder = SessionBuilder::new()
            .known_nodes(&self.nodes)
            .connection_timeout(CONNECT)
            .keepalive_interval(ASKED_EVERY)
            .keepalive_timeout(HANGS_AFTER)
            .pool_size(PoolSize::PerShard(CONNECTIONS))
            .tcp_nodelay(true)
            // Where a partition is, the driver knows by the keyspace's replication; of tables it need know nothing.
            .keyspaces_to_fetch([&self.keyspace])
            .fetch_full_schema_metadata(false)
            .default_execution_profile_handle(Cql::profile().into_handle());
        if let Some((user, password)) = &self.user {
            builder = builder.user(user, password.expose());
        }
        if let Some(file) = &self.ca {
            builder = builder.tls_context(Some(encrypted(file)?));
        }
        if !self.translate.is_empty() {
            builder = builder.address_translator(Arc::new(Elsewhere(self.translate.clone())));
        }
        builder.build().await.map_err(|error| self.unopened(&error))
    }

    /// Why there is no session.
    fn unopened(&self, error: &NewSessionError) -> OpenError {
        if let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(pool)) = error
            && let ConnectionPoolError::Broken { last_connection_error } = pool
        {
            let ConnectionError::ConnectionSetupRequestError(setup) = last_connection_error else {
                return self.unreachable(last_connection_error);
            };
            let user = match &self.user {
                Some((user, _)) => format!("user {user}"),
                None => "a client without one".to_owned(),
            };
            return match &setup.error {
                ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, why) => {
                    OpenError::Locked { user, why: why.trim_end_matches('.').to_owned() }
                }
                ConnectionSetupRequestErrorKind::MissingAuthentication => {
                    OpenError::Locked { user, why: "they ask for a password".to_owned() }
                }
                _ => self.unreachable(setup),
            };
        }
        self.unreachable(error)
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> OpenError {
        // Its first line says it; what follows is the driver's own path to it.
        let why = why.to_string().lines().next().unwrap_or_default().to_owned();
        OpenError::Unreachable { nodes: self.nodes.join(", "), why }
    }
}

/// Some nodes are reached elsewhere than they say; the others where they say.
struct Elsewhere(HashMap<SocketAddr, SocketAddr>);

#[async_trait::async_trait]
impl AddressTranslator for Elsewhere {
    async fn translate_address(&self, node: &UntranslatedPeer) -> Result<SocketAddr, TranslationError> {
        let told = node.untranslated_address();
        Ok(self.0.get(&told).copied().unwrap_or(told))
    }
}

fn encrypted(file: &Path) -> Result<Arc<rustls::ClientConfig>, OpenError> {
    let wrong =
        |why: &dyn std::fmt::Display| OpenError::Certificates { file: file.to_owned(), why: why.to_string() };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"holds no certificate"));
    }
    Ok(Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}
