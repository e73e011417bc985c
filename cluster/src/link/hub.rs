//! What all links of a node share: who it is, the view it goes by, its peers, the queue of events.

use super::peer::Peer;
use super::wire::{Kind, Standing};
use super::{LinkOptions, LinkState, SendError, Tls};
use crate::event::{Event, Item};
use crate::node::{Node, NodeName};
use crate::secret::{NoRandom, Secret, random};
use crate::timing::Timing;
use crate::view::{View, ViewId, ViewRecord};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// Lines about refusals that are logged in so long a time; a stranger must not fill a disk.
const REFUSALS: (u32, Duration) = (20, Duration::from_secs(10));

/// Shared by all tasks of a node's links.
pub struct Hub {
    pub(super) me: Node,
    pub(super) cluster: String,
    pub(super) secret: Secret,
    pub(super) tls: Option<Tls>,
    pub(super) window: usize,
    pub(super) timing: Timing,
    /// What heartbeats count their times from.
    pub(super) origin: Instant,
    /// Something changed that decisions may depend on.
    pub(crate) changed: Notify,
    routes: BTreeMap<NodeName, String>,
    view: RwLock<Option<View>>,
    confirmed: AtomicU64,
    peers: RwLock<BTreeMap<NodeName, Arc<Peer>>>,
    queue: Mutex<Option<mpsc::UnboundedSender<Item>>>,
    lines: AtomicU64,
    refusals: Mutex<(Instant, u32)>,
}

impl Hub {
    pub(super) fn new(options: LinkOptions, queue: mpsc::UnboundedSender<Item>) -> Self {
        let now = Instant::now();
        Self {
            me: options.me,
            cluster: options.cluster,
            secret: options.secret,
            tls: options.tls,
            window: options.window,
            timing: options.timing,
            origin: now,
            changed: Notify::new(),
            routes: options.routes,
            view: RwLock::new(None),
            confirmed: AtomicU64::new(0),
            peers: RwLock::new(BTreeMap::new()),
            queue: Mutex::new(Some(queue)),
            lines: AtomicU64::new(0),
            refusals: Mutex::new((now, 0)),
        }
    }

    pub(super) fn next_line(&self) -> u64 {
        self.lines.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn since_origin(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Puts something into the queue, or gives it back where nobody listens.
    pub(super) fn queue(&self, item: Item) -> Option<Item> {
        match &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(queue) => queue.send(item).err().map(|refused| refused.0),
            None => Some(item),
        }
    }

    /// Ends the queue.
    pub(super) fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The view that is gone by.
    pub(crate) fn view(&self) -> Option<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn view_id(&self) -> Option<ViewId> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(View::id)
    }

    pub(super) fn view_number(&self) -> u64 {
        self.view_id().map_or(0, |id| id.number)
    }

    /// The view, if it is another than this.
    pub(super) fn view_since(&self, told: Option<ViewId>) -> Option<View> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.as_ref().filter(|view| Some(view.id()) != told).cloned()
    }

    /// Whether this start of this node is in the view.
    pub(super) fn has(&self, node: &Node) -> bool {
        self.view.read().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|view| view.has(node))
    }

    /// Takes up a view if it is newer; whether it was.
    pub(crate) fn adopt(&self, record: ViewRecord) -> bool {
        {
            let mut current = self.view.write().unwrap_or_else(PoisonError::into_inner);
            if current.as_ref().is_some_and(|current| current.number() >= record.number) {
                return false;
            }
            let view = View::from(record);
            *current = Some(view.clone());
            // Under the lock: whatever is taken by the new view comes behind it.
            self.tell(Event::View(view));
        }
        for peer in self.peers() {
            let mut state = peer.state();
            // The newest there is: of two that are taken up at once the later one may come first to here.
            if let Some(view) = self.view() {
                peer.share(&mut state, self, &view);
            }
            drop(state);
            peer.pulse();
        }
        self.changed.notify_one();
        true
    }

    /// Where this node stands.
    pub(super) fn standing(&self) -> Standing {
        Standing { view: self.view_id(), confirmed: self.confirmed.load(Ordering::Acquire) }
    }

    /// The number of the view that this node has confirmed.
    pub(crate) fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Acquire)
    }

    /// Says that this node has confirmed this view; 0 takes it back.
    pub(crate) fn confirm(&self, number: u64) {
        if self.confirmed.swap(number, Ordering::AcqRel) != number {
            self.peers().iter().for_each(|peer| peer.pulse());
            self.changed.notify_one();
        }
    }

    pub(super) fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Takes a frame for this node.
    pub(super) fn push(&self, to: &NodeName, body: &[u8]) -> Result<(), SendError> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(to).ok_or(SendError::NotInView)?.push(Kind::Plain, &[], body)
    }

    pub(super) fn peer(&self, name: &NodeName) -> Option<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Whether this is still one of its peers.
    pub(super) fn keeps(&self, peer: &Arc<Peer>) -> bool {
        self.peer(&peer.name).is_some_and(|kept| Arc::ptr_eq(&kept, peer))
    }

    /// Takes up who there is; answers who is to be dialled from now on.
    pub(super) fn know(&self, nodes: &[(Node, String)]) -> Result<Vec<Arc<Peer>>, NoRandom> {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = Vec::new();
        for (node, address) in nodes.iter().filter(|(node, _)| node.name != self.me.name) {
            let address = self.routes.get(&node.name).unwrap_or(address);
            if let Some(peer) = peers.get(&node.name) {
                peer.know(self, node.boot, address);
                continue;
            }
            let peer = Peer::new(node.name.clone(), node.boot, address.clone(), random()?, self.window);
            if let Some(view) = self.view() {
                peer.share(&mut peer.state(), self, &view);
            }
            let peer = Arc::new(peer);
            new.push(Arc::clone(&peer));
            peers.insert(node.name.clone(), peer);
        }
        peers.retain(|name, peer| {
            let stays = nodes.iter().any(|(node, _)| node.name == *name);
            if !stays {
                peer.forget(&mut peer.state(), self);
                peer.dial.notify_one();
            }
            stays
        });
        Ok(new)
    }

    /// How the links are.
    pub(crate) fn states(&self) -> Vec<LinkState> {
        let state = |peer: Arc<Peer>| {
            let state = peer.state();
            LinkState {
                node: Node { name: peer.name.clone(), boot: state.boot },
                address: state.address.clone(),
                is_up: state.line.is_some(),
                since: state.since,
                heard: state.heard,
                left: state.left,
                view: state.standing.view,
                confirmed: state.standing.confirmed,
                answered: state.answered,
                held: state.held(),
            }
        };
        self.peers().into_iter().map(state).collect()
    }

    pub(super) fn say_bye(&self) {
        self.peers().iter().for_each(|peer| peer.say_bye());
    }

    /// Logs that somebody was refused, unless that was said too often just now.
    pub(super) fn log_refusal(&self, who: &dyn std::fmt::Display, why: &dyn std::fmt::Display) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.0.elapsed() > REFUSALS.1 {
            *refusals = (Instant::now(), 0);
        }
        refusals.1 += 1;
        if refusals.1 <= REFUSALS.0 {
            tracing::warn!(who = %who, why = %why, "refused a connection from {who} to the cluster port: {why}");
        }
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("me", &self.me).finish_non_exhaustive()
    }
}
