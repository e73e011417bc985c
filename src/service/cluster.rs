//! What an operator can do with the cluster: look at its nodes, drain one and take it back, ask where something is.

pub use crate::actors::remote::{Credentials, Remote, TlsFiles, Unanswered};

use crate::actors::membership::{Membership, Unreached};
use crate::model::operation::{NodeList, NodeReport, Place, Subject};
use std::sync::Arc;

/// All of it.
#[derive(Clone)]
pub struct Operations {
    membership: Arc<Membership>,
}

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// No such node is known.
    #[error("there is no node {0:?}")]
    NoSuchNode(String),
    /// Nobody would be home to anything.
    #[error("{0} is the only node that is up: nobody would take its homes (--force drains it all the same)")]
    OnlyHome(String),
    /// It may have been done or not.
    #[error("{0}")]
    Unreached(String),
}

impl From<Unreached> for OperationError {
    fn from(error: Unreached) -> Self {
        match error {
            Unreached::NoSuchNode(name) => Self::NoSuchNode(name),
            Unreached::Silent { .. } => Self::Unreached(error.to_string()),
        }
    }
}

impl Operations {
    /// With the cluster of this node.
    #[must_use]
    pub const fn new(membership: Arc<Membership>) -> Self {
        Self { membership }
    }

    /// All nodes.
    pub async fn nodes(&self) -> NodeList {
        self.membership.nodes().await
    }

    /// One of them.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn node(&self, name: &str) -> Result<NodeReport, OperationError> {
        let none = || OperationError::NoSuchNode(name.to_owned());
        self.membership.node(name).await.ok_or_else(none)
    }

    /// Has a node give up its homes and send its clients away; answers when it has begun. The last that is up only
    /// where that is `forced`.
    ///
    /// # Errors
    /// Where it did not hear of it, or nobody would be left.
    pub async fn drain(&self, name: &str, forced: bool) -> Result<(), OperationError> {
        self.node(name).await?;
        if !forced && self.membership.homes_beside(name) == 0 {
            return Err(OperationError::OnlyHome(name.to_owned()));
        }
        Ok(self.membership.drain(name).await?)
    }

    /// Has it take homes and clients again.
    ///
    /// # Errors
    /// Where it did not hear of it.
    pub async fn undrain(&self, name: &str) -> Result<(), OperationError> {
        Ok(self.membership.undrain(name).await?)
    }

    /// Where something is.
    pub async fn place(&self, subject: Subject) -> Place {
        self.membership.place(subject).await
    }
}
