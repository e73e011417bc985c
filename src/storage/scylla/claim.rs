//! Which node keeps a store: one at a time, as long as it renews its claim.
//!
//! A node that finds another's claim looks at it for [`LAPSE`]: one that was renewed meanwhile is alive, and this
//! node does not start. Nobody's clock is compared with another's. A node takes its own claim over at once: its data
//! folder's lock says that the process before it is gone. A node that lost its claim (it was cut off for
//! longer) closes its store: what it had under way is decided by the authors' rows.

use super::cql::{Cql, Decision, Use};
use super::{Inner, Store};
use crate::storage::{StorageError, Upkeep};
use scylla::statement::prepared::PreparedStatement;
use std::time::Duration;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Between two renewals.
const RENEW: Duration = Duration::from_secs(2);
/// A claim that is not renewed for so long is nobody's.
const LAPSE: Duration = Duration::from_secs(6);

/// Why a node may not have a store.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another one has it.
    #[error("the store belongs to node {0}, which is running: give each node a store of its own")]
    Taken(String),
    /// The cluster did not say.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// As whom a store is kept.
#[derive(Clone, Debug)]
pub enum Claimant {
    /// One node alone, called so.
    Node(String),
    /// All nodes of a cluster together.
    Cluster {
        /// What it is called.
        name: String,
        /// What tells it from every other.
        id: Uuid,
    },
}

/// A store that is this node's; given back by [`Claim::release`], or lapses when its process ends.
pub struct Claim {
    renewing: JoinHandle<()>,
    holder: Holder,
}

#[derive(Clone)]
struct Holder {
    store: Store,
    node: String,
    boot: Uuid,
    read: PreparedStatement,
    write: PreparedStatement,
}

/// What the row says: who, which start of it, and how often it was written.
type Row = (Option<String>, Option<Uuid>, Option<i64>);

impl Store {
    /// Claims the store for a node; `node` tells it from every other and is the same after a restart.
    ///
    /// # Errors
    /// Where another node has it, or the cluster does not answer.
    pub async fn claim(&self, claimant: Claimant) -> Result<Claim, ClaimError> {
        let node = match claimant {
            Claimant::Node(node) => node,
            Claimant::Cluster { name, id } => format!("cluster {name} ({id})"),
        };
        let cql = &self.0.cql;
        let holder = Holder {
            store: self.clone(),
            node,
            boot: Uuid::new_v4(),
            read: prepare_read(cql).await?,
            write: prepare_write(cql).await?,
        };
        holder.take().await?;
        let renewing = tokio::spawn(holder.clone().renew());
        Ok(Claim { renewing, holder })
    }
}

impl Claim {
    /// Gives the store back: the next node need not wait.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub async fn release(&self) -> Result<(), StorageError> {
        self.renewing.abort();
        let (_, boot, version) = self.holder.row().await?;
        if boot == Some(self.holder.boot) {
            self.holder.write(None, version).await?;
        }
        Ok(())
    }
}

impl Holder {
    async fn take(&self) -> Result<(), ClaimError> {
        loop {
            let (node, boot, version) = self.row().await?;
            match node {
                // An answer may have been lost: it is taken.
                _ if boot == Some(self.boot) => return Ok(()),
                Some(node) if node != self.node => {
                    tracing::info!(
                        node,
                        "the store was node {node}'s: looking whether that is still running"
                    );
                    tokio::time::sleep(LAPSE).await;
                    if self.row().await?.2 != version {
                        return Err(ClaimError::Taken(node));
                    }
                }
                _ => {}
            }
            if self.write(Some(&self.node), version).await? == Decision::Applied {
                return Ok(());
            }
        }
    }

    async fn renew(self) {
        loop {
            tokio::time::sleep(RENEW).await;
            let renewed = async {
                let (node, boot, version) = self.row().await?;
                if boot != Some(self.boot) {
                    return Err(ClaimError::Taken(node.unwrap_or_default()));
                }
                // One that was not applied is tried again in a moment.
                self.write(Some(&self.node), version).await?;
                Ok(())
            };
            match renewed.await {
                Ok(()) => {}
                Err(ClaimError::Taken(node)) => {
                    tracing::error!(
                        node,
                        "node {node} has taken the store over: this one writes nothing any more"
                    );
                    let _ = self.store.close().await;
                    return;
                }
                // Nobody else can take it either.
                Err(ClaimError::Storage(error)) => {
                    tracing::debug!(%error, "the claim was not renewed: {error}")
                }
            }
        }
    }

    async fn row(&self) -> Result<Row, StorageError> {
        Ok(self.inner().cql.first::<Row>(&self.read, ()).await?.unwrap_or_default())
    }

    async fn write(&self, node: Option<&str>, version: Option<i64>) -> Result<Decision, StorageError> {
        let next = version.unwrap_or(0) + 1;
        let boot = node.map(|_| self.boot);
        self.inner().cql.decide(&self.write, (node, boot, next, version)).await
    }

    fn inner(&self) -> &Inner {
        &self.store.0
    }
}

async fn prepare_read(cql: &Cql) -> Result<PreparedStatement, StorageError> {
    cql.prepare(Use::Decide, "SELECT node, boot, version FROM node_claims WHERE name = 'store'").await
}

async fn prepare_write(cql: &Cql) -> Result<PreparedStatement, StorageError> {
    let text = "UPDATE node_claims SET node = ?, boot = ?, version = ? WHERE name = 'store' IF version = ?";
    cql.prepare(Use::Claim, text).await
}
