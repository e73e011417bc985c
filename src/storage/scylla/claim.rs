//! Who keeps a store: one node, or one cluster, at a time, as long as it renews its claim.
//!
//! Whoever finds another's claim looks at it for [`LAPSE`]: one that was renewed meanwhile is alive, and this
//! node does not start. Nobody's clock is compared with another's. A node takes its own claim over at once: its data
//! folder's lock says that the process before it is gone. The nodes of a cluster have one claim, known by the
//! cluster's id: each renews it where none of the others has since it looked last, and who leaves lets it be. A node
//! that lost its claim (it was cut off for longer) closes its store: what it had under way is decided by the
//! authors' rows.

use super::cql::{Cql, Decision, Use};
use super::{Inner, Store};
use crate::storage::{StorageError, Upkeep};
use scylla::statement::prepared::PreparedStatement;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Between two renewals.
const RENEW: Duration = Duration::from_secs(2);
/// A claim that is not renewed for so long is nobody's.
const LAPSE: Duration = Duration::from_secs(6);

/// What a cluster's name stands behind in the row.
const CLUSTER: &str = "cluster ";

/// Why a node may not have a store.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another one has it: a node, by its name, or `cluster` and its name.
    #[error("the store belongs to {}, which is running: give each node, or each cluster, a store of its own", shown(.0))]
    Taken(String),
    /// The cluster did not say.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Who keeps a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// One node alone; the name tells it from every other and is the same after a restart.
    Node(String),
    /// All nodes that give the same name and id.
    Cluster {
        /// What operators call it.
        name: String,
        /// The same for all of its nodes, and another's never.
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
    claimant: Claimant,
    /// The node's start, or the cluster's id.
    boot: Uuid,
    read: PreparedStatement,
    write: PreparedStatement,
    /// Held by whoever renews it or gives it back: one that was given back is not renewed behind that.
    turn: Arc<Mutex<()>>,
}

/// What the row says: who, which start of it, and how often it was written.
type Row = (Option<String>, Option<Uuid>, Option<i64>);

impl Store {
    /// Claims the store for a node, or with the other nodes of its cluster.
    ///
    /// # Errors
    /// Where somebody else has it, or the CQL cluster does not answer.
    pub async fn claim(&self, claimant: Claimant) -> Result<Claim, ClaimError> {
        let cql = &self.0.cql;
        let boot = match &claimant {
            Claimant::Node(_) => Uuid::new_v4(),
            Claimant::Cluster { id, .. } => *id,
        };
        let holder = Holder {
            store: self.clone(),
            claimant,
            boot,
            read: prepare_read(cql).await?,
            write: prepare_write(cql).await?,
            turn: Arc::default(),
        };
        holder.take().await?;
        let renewing = tokio::spawn(holder.clone().renew());
        Ok(Claim { renewing, holder })
    }
}

impl Claim {
    /// Gives the store back: the next node need not wait. A cluster's lapses once none of its nodes renews it.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub async fn release(&self) -> Result<(), StorageError> {
        let _turn = self.holder.turn.lock().await;
        self.renewing.abort();
        if matches!(self.holder.claimant, Claimant::Cluster { .. }) {
            return Ok(());
        }
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
            let (holder, boot, version) = self.row().await?;
            match holder {
                // An answer may have been lost, or another node of the cluster was here first: it is taken.
                _ if boot == Some(self.boot) => return Ok(()),
                Some(holder) if self.claimant != Claimant::Node(holder.clone()) => {
                    let holder_shown = shown(&holder);
                    tracing::info!(
                        holder,
                        "the store was {holder_shown}'s: looking whether that is still running"
                    );
                    tokio::time::sleep(LAPSE).await;
                    match self.row().await? {
                        (_, _, renewed) if renewed == version => {}
                        (Some(now), boot, _) if boot != Some(self.boot) => {
                            return Err(ClaimError::Taken(now));
                        }
                        // Given back meanwhile, or taken by another node of the cluster.
                        _ => continue,
                    }
                }
                _ => {}
            }
            if self.write(Some(&self.claimant.column()), version).await? == Decision::Applied {
                return Ok(());
            }
        }
    }

    async fn renew(self) {
        let mut seen = None;
        loop {
            tokio::time::sleep(RENEW).await;
            let _turn = self.turn.lock().await;
            let renewed = async {
                let (node, boot, version) = self.row().await?;
                if boot != Some(self.boot) {
                    return Err(ClaimError::Taken(node.unwrap_or_default()));
                }
                // Another node of the cluster has renewed it since this one looked.
                let is_others = matches!(self.claimant, Claimant::Cluster { .. }) && seen != version;
                seen = version;
                if !is_others {
                    // One that was not applied is tried again in a moment.
                    let renewed = self.write(Some(&self.claimant.column()), version).await?;
                    seen =
                        if renewed == Decision::Applied { version.map(|version| version + 1) } else { seen };
                }
                Ok(())
            };
            match renewed.await {
                Ok(()) => {}
                Err(ClaimError::Taken(node)) => {
                    let taker = shown(&node);
                    tracing::error!(
                        node,
                        "{taker} has taken the store over: this one writes nothing any more"
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

impl Claimant {
    /// As it stands in the row.
    fn column(&self) -> String {
        match self {
            Self::Node(node) => node.clone(),
            Self::Cluster { name, .. } => format!("{CLUSTER}{name}"),
        }
    }
}

/// Whoever a row names, in a sentence.
fn shown(holder: &str) -> String {
    if holder.starts_with(CLUSTER) { holder.to_owned() } else { format!("node {holder}") }
}

async fn prepare_read(cql: &Cql) -> Result<PreparedStatement, StorageError> {
    cql.prepare(Use::Decide, "SELECT node, boot, version FROM node_claims WHERE name = 'store'").await
}

async fn prepare_write(cql: &Cql) -> Result<PreparedStatement, StorageError> {
    let text = "UPDATE node_claims SET node = ?, boot = ?, version = ? WHERE name = 'store' IF version = ?";
    cql.prepare(Use::Claim, text).await
}
