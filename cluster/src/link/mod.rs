//! Links: one connection between every two nodes, frames in order on it, each once; calls with answers.
//!
//! The node of the lesser name dials; the other does too where that has not come about for a while. Where both did,
//! the lesser's stays. A connection that breaks is made again, with jitter, and goes on behind the last frame that was
//! received: a break loses nothing. Frames are lost, and a `Gap` says so, only where a node starts anew, was away from
//! the view, or had more to send than its window.
//!
//! | module | what |
//! |---|---|
//! | `peer` | the state of one peer |
//! | `outgoing`, `incoming` | the two sequences of frames |
//! | `wire`, `handshake`, `codec` | what is written |
//! | `dial`, `accept` | how connections are made and taken |
//! | `converse` | what is done on one |
//! | `operator` | how somebody who is no node asks one |
//!
//! Bounds: the window in bytes each way and peer; connections that have proved nothing (64, for the time of a
//! handshake); messages (1 MiB).

mod accept;
mod codec;
mod converse;
mod dial;
pub(crate) mod handshake;
mod hub;
mod incoming;
mod operator;
mod outgoing;
mod peer;
mod tls;
pub(crate) mod wire;

pub use codec::MAX_FRAME;
pub(crate) use hub::Hub;
pub use operator::{AskError, Operator};
pub(crate) use peer::{Peer, Sequel};
pub use tls::{Tls, TlsError};

use crate::event::{Event, Events};
use crate::node::{Node, NodeName};
use crate::secret::{NoRandom, Secret};
use crate::timing::Timing;
use crate::view::{View, ViewId, ViewRecord};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use wire::Kind;

/// How long the end of a node waits until its peers have heard of it.
const FAREWELL: Duration = Duration::from_millis(500);

/// What links are made by.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// Which node this is, and which start of it.
    pub me: Node,
    /// The cluster's name: nodes of another are refused.
    pub cluster: String,
    /// What all nodes of the cluster know.
    pub secret: Secret,
    /// Mutual TLS, beside the secret.
    pub tls: Option<Tls>,
    /// The bytes that may be on their way to one peer and not acknowledged (8 MiB).
    pub window: usize,
    /// Where nodes are reached from here, in place of what they say of themselves.
    pub routes: BTreeMap<NodeName, String>,
    /// The times.
    pub timing: Timing,
}

/// The default of `LinkOptions::window`.
pub const WINDOW: usize = 8 << 20;

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no such node in the view.
    #[error("no such node is in the view")]
    NotInView,
    /// Its window is full; it will hear of a gap.
    #[error("the node is too far behind")]
    Full,
    /// It is longer than `MAX_FRAME`.
    #[error("a frame is {MAX_FRAME} bytes at most")]
    TooLong,
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was not sent.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// The node left the view or started anew: the call may have been done or not.
    #[error("the node left the view, or started anew")]
    Gone,
    /// There was no answer in time: the call may have been done or not.
    #[error("there was no answer in time")]
    Late,
}

/// How the link to a node is.
#[derive(Clone, Debug)]
pub struct LinkState {
    /// Which start of it.
    pub node: Node,
    /// Where it is reached.
    pub address: String,
    /// Whether there is a connection, and since when there is or is none.
    pub is_up: bool,
    /// See `is_up`.
    pub since: Instant,
    /// When it was last heard; else when it was first heard of.
    pub heard: Instant,
    /// Whether it has said that it ends.
    pub left: bool,
    /// The view that it goes by.
    pub view: Option<ViewId>,
    /// The number of the view that it has confirmed, 0 for none.
    pub confirmed: u64,
    /// The view that was shared with it when it last answered a heartbeat, and when that was sent.
    pub answered: Option<(ViewId, Instant)>,
    /// The bytes that wait for it, or for its acknowledgement.
    pub held: usize,
}

/// The links of one node. Dropped, they end as if the process had been killed.
#[derive(Debug)]
pub struct Links {
    hub: Arc<Hub>,
    address: SocketAddr,
    tasks: Mutex<JoinSet<()>>,
}

impl Links {
    /// Begins to listen.
    pub fn start(options: LinkOptions, listener: TcpListener) -> io::Result<(Self, Events)> {
        let address = listener.local_addr()?;
        let (queue, queued) = mpsc::unbounded_channel();
        let hub = Arc::new(Hub::new(options, queue));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept::accept(Arc::clone(&hub), listener));
        Ok((Self { hub, address, tasks: Mutex::new(tasks) }, Events::new(queued)))
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) const fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Takes up who there is, with their addresses: links are made to these, others end.
    pub fn know(&self, nodes: &[(Node, String)]) -> Result<(), NoRandom> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended.
        while tasks.try_join_next().is_some() {}
        for peer in self.hub.know(nodes)? {
            tasks.spawn(dial::keep(Arc::clone(&self.hub), peer));
        }
        Ok(())
    }

    /// Takes up a view if it is newer than the one there is; whether it was.
    pub fn adopt(&self, record: ViewRecord) -> bool {
        self.hub.adopt(record)
    }

    /// The view that is gone by.
    #[must_use]
    pub fn view(&self) -> Option<View> {
        self.hub.view()
    }

    /// Tells all that this node has confirmed the view of this number.
    pub fn confirm(&self, number: u64) {
        self.hub.confirm(number);
    }

    /// Sends a frame: `Ok` says that it is on its way, and will arrive unless one of the two nodes ends or leaves the
    /// view. Never waits.
    pub fn send(&self, to: &NodeName, bytes: &[u8]) -> Result<(), SendError> {
        if bytes.len() > MAX_FRAME {
            return Err(SendError::TooLong);
        }
        self.hub.push(to, bytes)
    }

    /// Waits until a frame of this length would be taken; an error says that it never will.
    pub async fn room(&self, to: &NodeName, length: usize) -> Result<(), SendError> {
        if length > MAX_FRAME {
            return Err(SendError::TooLong);
        }
        loop {
            let peer = self.hub.peer(to).ok_or(SendError::NotInView)?;
            let mut room = std::pin::pin!(peer.room.notified());
            // From here on it hears of room, which may come before it asks.
            room.as_mut().enable();
            if peer.has_room(length)? {
                // Whoever sends without end must let the connection's task have its turn.
                tokio::task::consume_budget().await;
                return Ok(());
            }
            room.await;
        }
    }

    /// Asks a node something and waits for its answer, so long at most.
    pub async fn call(&self, to: &NodeName, bytes: &[u8], deadline: Duration) -> Result<Bytes, CallError> {
        if bytes.len() + wire::CALL_HEADER > MAX_FRAME {
            return Err(SendError::TooLong.into());
        }
        let peer = self.hub.peer(to).ok_or(SendError::NotInView)?;
        let (number, answered) = peer.begin_call();
        let call = Calling { peer: &peer, number };
        peer.push(Kind::Call, &number.to_be_bytes(), bytes)?;
        let answer = timeout(deadline, answered).await;
        drop(call);
        answer.map_or(Err(CallError::Late), |answer| answer.unwrap_or(Err(CallError::Gone)))
    }

    /// How the links to all nodes that are known are.
    #[must_use]
    pub fn states(&self) -> Vec<LinkState> {
        self.hub.states()
    }

    /// Waits until something changed that decisions may depend on: a link, where a node stands, or that one was turned
    /// away that is not known. For one waiter.
    pub async fn changed(&self) {
        self.hub.changed.notified().await;
    }

    /// Ends, and tells the others so.
    pub async fn stop(&self) {
        self.hub.say_bye();
        let gone = async {
            while self.hub.states().iter().any(|state| state.is_up) {
                self.hub.changed.notified().await;
            }
        };
        // Who has not heard of it by then will hear nothing more.
        let _ = timeout(FAREWELL, gone).await;
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        self.hub.stop();
    }
}

/// A call that waits; given up, it is forgotten.
struct Calling<'a> {
    peer: &'a Peer,
    number: u64,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.peer.end_call(self.number);
    }
}

impl Hub {
    /// Puts an event into the queue.
    pub(crate) fn tell(&self, event: Event) {
        // Nobody listens any more: then nobody misses it.
        let _ = self.queue(crate::event::Item::Event(event));
    }
}
