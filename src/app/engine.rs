//! The store that the settings name: the database in the data folder, or a keyspace of a CQL cluster.

use super::StartError;
use super::cluster::claimant;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::storage::chats::Chats;
use crate::storage::circuit::CircuitState;
use crate::storage::rooms::Rooms;
use crate::storage::{
    Accounts, Backup, EntryClock, EntryObserver, FanOut, Graph, Jobs, Posts, StorageError, Timelines, Upkeep,
    scylla, sqlite,
};
use std::sync::Arc;

/// Calls that may read the database at once.
const READERS: usize = 4;

/// All that a store is.
pub(super) trait Aggregates:
    Accounts + Posts + Graph + Timelines + Chats + Rooms + Jobs + Upkeep
{
}
impl<S: Accounts + Posts + Graph + Timelines + Chats + Rooms + Jobs + Upkeep> Aggregates for S {}

/// An open store. Clones are the same store.
#[derive(Clone)]
pub(super) enum Engine {
    /// In the data folder.
    Sqlite(sqlite::Store),
    /// In a CQL cluster, claimed for this node.
    Scylla(scylla::Store, Arc<scylla::Claim>),
}

impl Engine {
    /// Opens it; who hears of its entries is told before anybody can read them.
    pub(super) async fn open(
        config: &Config,
        data_dir: &DataDir,
        observer: Arc<dyn EntryObserver>,
    ) -> Result<Self, StartError> {
        let events = config.events_url.is_some() || config.events_stream.is_some();
        let Some(access) = config.scylla() else {
            let options = sqlite::Options { file: data_dir.db(), events, observer, readers: READERS };
            return Ok(Self::Sqlite(sqlite::Store::open(options)?));
        };
        let wide_author_followers = match config.wide_author_followers.get() {
            Some(followers) => u64::from(followers.get()),
            None => u64::MAX,
        };
        let nodes = match config.cluster_listen {
            None => scylla::Nodes::One,
            Some(_) => scylla::Nodes::Many,
        };
        let options = scylla::Options { access, events, observer, wide_author_followers, nodes };
        // Boxed: what the driver holds while it connects would be a part of every future around this one.
        let store = Box::pin(scylla::Store::open(options)).await?;
        let node = format!("{} ({})", config.node_name.as_str(), data_dir.id()?);
        let claim = Box::pin(store.claim(claimant(config, node))).await?;
        Ok(Self::Scylla(store, Arc::new(claim)))
    }

    /// Whether the settings name one whose timelines are fanned out.
    pub(super) fn fans_out(config: &Config) -> bool {
        !config.scylla_nodes.is_empty()
    }

    /// Its aggregates.
    pub(super) fn aggregates(&self) -> Arc<dyn Aggregates> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Scylla(store, _) => Arc::new(store.clone()),
        }
    }

    /// How it fans out, if it does.
    pub(super) fn fan_out(&self) -> Option<Arc<dyn FanOut>> {
        match self {
            Self::Sqlite(_) => None,
            Self::Scylla(store, _) => Some(Arc::new(store.clone())),
        }
    }

    /// Its clock, where several nodes may number its entries.
    pub(super) fn clock(&self) -> Option<Arc<dyn EntryClock>> {
        match self {
            Self::Sqlite(_) => None,
            Self::Scylla(store, _) => Some(Arc::new(store.clone())),
        }
    }

    /// How it copies itself, if it does.
    pub(super) fn backup(&self) -> Option<Arc<dyn Backup>> {
        match self {
            Self::Sqlite(store) => Some(Arc::new(store.clone())),
            Self::Scylla(..) => None,
        }
    }

    /// What the circuits of writing and of reading do.
    pub(super) fn circuits(&self) -> (CircuitState, CircuitState) {
        match self {
            Self::Sqlite(store) => store.circuits(),
            Self::Scylla(store, _) => (store.circuit(), store.circuit()),
        }
    }

    /// Ends it: what was taken is done, what comes later is refused.
    pub(super) async fn close(&self) -> Result<(), StorageError> {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Scylla(store, claim) => {
                store.close().await?;
                Box::pin(claim.release()).await
            }
        }
    }
}
