//! What is placed in inboxes by other homes, and may not be told here: listeners read the store instead.
//!
//! An inbox's home tells the nodes where somebody listens ([`super::chat_homes`]). What a home that died had placed and not
//! told is found when its next home has begun; what a home that cannot be heard places is looked for once a second; after
//! a gap in a node's frames everybody looks. Not an actor: a counter, and at most one task for a view.

use super::horizon::Horizon;
use super::inboxes::Inboxes;
use super::wanted::Wanted;
use crate::model::shard::Shard;
use roost_cluster::Cluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// Between two readings of inboxes whose homes cannot be heard.
const ROUND: Duration = Duration::from_secs(1);
/// How long homes may take to begin before listeners read without them.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who has listeners read.
pub struct InboxWatch {
    cluster: Arc<Cluster>,
    horizon: Arc<Horizon>,
    wanted: Arc<Wanted>,
    inboxes: Arc<Inboxes>,
    /// How often homes have moved.
    moves: AtomicU64,
}

impl InboxWatch {
    /// Of a node of a cluster.
    #[must_use]
    pub fn new(
        cluster: Arc<Cluster>,
        horizon: Arc<Horizon>,
        wanted: Arc<Wanted>,
        inboxes: Arc<Inboxes>,
    ) -> Self {
        Self { cluster, horizon, wanted, inboxes, moves: AtomicU64::new(0) }
    }

    /// By a new view homes have moved: as soon as all of them tell this node, listeners read what the former ones left.
    pub(super) fn homes_moved(self: &Arc<Self>) {
        let now = self.moves.fetch_add(1, Ordering::Relaxed) + 1;
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                let is_covered = this.wanted.cover(&this.inboxes.users(), PATIENCE).await;
                // Of several moves the last one's reading is enough.
                if this.moves.load(Ordering::Relaxed) != now {
                    return;
                }
                this.inboxes.reread_all();
                if is_covered {
                    return;
                }
                tracing::warn!("homes have not begun yet: who listens to an inbox there reads it");
            }
        });
    }

    /// Frames of a node are missing.
    pub(super) fn missed(&self) {
        self.inboxes.reread_all();
    }

    /// Has those read whose inboxes are at homes that cannot be heard, for ever.
    pub(super) async fn keep_rereading(self: Arc<Self>) {
        loop {
            sleep(ROUND).await;
            if !self.horizon.hears_all() {
                let is_unheard = |user: &_| {
                    let home = self.cluster.home(Shard::of(*user).into());
                    home.is_none_or(|home| self.horizon.is_unlinked(&home))
                };
                let unheard = self.inboxes.users().into_iter().filter(is_unheard);
                unheard.for_each(|user| self.inboxes.reread(user));
            }
        }
    }
}
