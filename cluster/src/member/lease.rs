//! A lease: what a node says of itself, for as long as it renews it.

use crate::node::{Boot, Node, NodeName};
use crate::view::State;
use serde::{Deserialize, Serialize};

/// What is under `node:{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Which start of the node has it.
    pub boot: Boot,
    /// Where its link is taken.
    pub address: String,
    /// What it is doing.
    pub state: State,
    /// The version of the protocol of its links.
    pub protocol: u32,
    /// The name of its cluster.
    pub cluster: String,
}

/// A lease with the name that it is under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose.
    pub name: NodeName,
    /// What it says.
    pub record: LeaseRecord,
}

impl Lease {
    /// Which start of which node has it.
    pub fn node(&self) -> Node {
        Node { name: self.name.clone(), boot: self.record.boot }
    }
}
