//! Many processes as one cluster: who is in it, which of them is home to what, and links between every two.
//!
//! It knows the names of nodes, and bytes; what those mean is the business of whoever uses it.
//!
//! ```text
//!   Cluster ── keeper ── decide, fence     who is in, who may act: pure
//!      │          └───── redis             leases and the view
//!      │
//!      ├───── link ───── peer, outgoing, incoming, wire, handshake
//!      │
//!      └───── view ───── ring              which node is home to which of 256 shards
//! ```
//!
//! Whoever uses it reads [`Events`] and does three things: on [`Event::View`] it ends what this node loses and then
//! [confirms](Cluster::confirm) the view; on [`Event::AllConfirmed`] it begins what this node gains; and before it acts
//! as home, and again before it answers, it asks [`Cluster::may_act`].

// The README's example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod cluster;
mod event;
pub mod link;
mod member;
mod node;
mod ring;
mod secret;
mod timing;
mod view;

pub use cluster::{Cluster, NodeState, Options, StartError};
pub use event::{Call, Ended, Event, Events, Frame, OperatorCall};
pub use member::keeper::RedisState;
pub use member::redis::{RedisOptions, StoreError};
pub use node::{BadName, Boot, Node, NodeName};
pub use ring::{Ring, SHARDS, Shard};
pub use secret::{NoRandom, Secret};
pub use timing::Timing;
pub use view::{Member, State, View, ViewId, ViewRecord};
