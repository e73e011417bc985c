//! How an operator's program asks a node something over the cluster port: it proves that it knows the secret, as a node
//! does, and asks one thing. It joins nothing, and no node hears of it but the one that is asked.

use super::Tls;
use super::codec::MAX_FRAME;
use super::dial::{gone, next, reach};
use super::handshake::Refusal;
use crate::secret::Secret;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::timeout;

/// Somebody who knows the cluster's secret and wants to ask one of its nodes.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Where the node's cluster port is, `host:port`.
    pub address: String,
    /// What the cluster is called.
    pub cluster: String,
    /// What all its nodes know.
    pub secret: Secret,
    /// Mutual TLS, where its nodes have it.
    pub tls: Option<Tls>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It was not asked: it is not there, or one of the two refuses the other.
    #[error("{0}")]
    Refused(String),
    /// It was asked and did not answer: it may have done it or not.
    #[error("it gave no answer")]
    Unanswered,
    /// There was no answer in time: it may have done it or not.
    #[error("there was no answer in time")]
    Late,
    /// The question is longer than `MAX_FRAME`.
    #[error("a question is {MAX_FRAME} bytes at most")]
    TooLong,
}

impl Operator {
    /// Asks, and waits so long at most for the answer.
    ///
    /// # Errors
    /// Where there is none, in one line.
    pub async fn ask(&self, request: &[u8], deadline: Duration) -> Result<Bytes, AskError> {
        if request.len() > MAX_FRAME {
            return Err(AskError::TooLong);
        }
        timeout(deadline, self.ask_once(request)).await.unwrap_or(Err(AskError::Late))
    }

    async fn ask_once(&self, request: &[u8]) -> Result<Bytes, AskError> {
        let refused = |why: Refusal| AskError::Refused(why.to_string());
        let mut reached = reach(&self.address, self.tls.as_ref()).await.map_err(refused)?;
        let proof = reached.dialer.prove_operator(&reached.challenge, &self.secret, &self.cluster);
        reached.say.send(proof.map_err(refused)?).await.map_err(gone).map_err(refused)?;
        let proof = next(&mut reached.inward).await.map_err(refused)?;
        // Nothing is asked of somebody who is no node of the cluster.
        reached.dialer.check_for_operator(&proof, &self.secret, &self.cluster).map_err(refused)?;
        reached.say.send(Bytes::copy_from_slice(request)).await.map_err(gone).map_err(refused)?;
        match reached.inward.message().await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) | Err(_) => Err(AskError::Unanswered),
        }
    }
}
