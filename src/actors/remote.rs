//! Another node, as an operator's program asks it over its cluster port: what is asked and answered are bytes of
//! whoever answers operators. Not an actor; no node is needed here.

use crate::model::secret::Secret;
use roost_cluster::link::{Operator, Tls};
use std::time::Duration;

/// How long an answer may take: that of a node which asks others itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node elsewhere.
pub struct Remote(Operator);

/// What it takes to be let in.
pub struct Credentials {
    /// What the cluster is called.
    pub cluster: String,
    /// What all its nodes know.
    pub secret: Secret,
    /// Mutual TLS, where its nodes have it.
    pub tls: Option<TlsFiles>,
}

/// In PEM.
pub struct TlsFiles {
    /// What is shown.
    pub certificates: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
    /// Who signs all nodes' certificates.
    pub authority: Vec<u8>,
    /// The name that those carry.
    pub name: String,
}

/// Why there is no answer, in a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(String);

impl Remote {
    /// The node whose cluster port is at `address`.
    ///
    /// # Errors
    /// Where the files of TLS are none.
    pub fn new(address: &str, credentials: Credentials) -> Result<Self, Unanswered> {
        let tls = credentials.tls.map(|TlsFiles { certificates, key, authority, name }| {
            Tls::from_pem(&certificates, &key, &authority, &name)
        });
        Ok(Self(Operator {
            address: address.to_owned(),
            cluster: credentials.cluster,
            secret: roost_cluster::Secret::new(credentials.secret.expose().as_bytes()),
            tls: tls.transpose().map_err(|error| Unanswered(error.to_string()))?,
        }))
    }

    /// Asks it.
    ///
    /// # Errors
    /// Where it does not answer, or one of the two refuses the other.
    pub async fn ask(&self, question: &[u8]) -> Result<Vec<u8>, Unanswered> {
        let answer = self.0.ask(question, PATIENCE).await;
        let why = |error| Unanswered(format!("no node answers at {}: {error}", self.0.address));
        answer.map(Into::into).map_err(why)
    }
}
