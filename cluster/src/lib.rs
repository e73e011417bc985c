//! Many processes as one cluster: who is in it, which of them is home to what, and links between every two.

mod event;
pub mod link;
mod node;
mod ring;
mod secret;
mod timing;
mod view;

pub use event::{Call, Ended, Event, Events, Frame};
pub use node::{BadName, Boot, Node, NodeName};
pub use ring::{Ring, SHARDS, Shard};
pub use secret::{NoRandom, Secret};
pub use timing::Timing;
pub use view::{Member, State, View, ViewId, ViewRecord};
