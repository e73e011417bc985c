//! The view: the numbered list of nodes that make up the cluster, and the homes that follow from it. It is a value;
//! who makes one is decided in `member`.

use crate::node::{Boot, Node, NodeName};
use crate::ring::{Ring, Shard};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is in the view, but has no homes until every other node has confirmed that.
    Joining,
    /// It has homes.
    Up,
    /// It is leaving: it has no homes any more.
    Draining,
}

/// A node of a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which start of which node.
    #[serde(flatten)]
    pub node: Node,
    /// What it is doing.
    pub state: State,
    /// Where its link is taken, `host:port`.
    pub address: String,
}

/// A view as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewRecord {
    /// Its number; a later view has a greater one.
    pub number: u64,
    /// Which node made it. Two views of one number can only be where a store was emptied in between; neither is
    /// believed for long, and by this they are told apart.
    pub maker: Boot,
    /// Its nodes, in order of their names.
    pub members: Vec<Member>,
}

/// What tells a view from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewId {
    /// Its number.
    pub number: u64,
    /// Its maker.
    pub maker: Boot,
}

/// A view with the homes that follow from it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    record: ViewRecord,
    ring: Ring,
}

impl From<ViewRecord> for View {
    fn from(record: ViewRecord) -> Self {
        let homes = record.members.iter().filter(|member| member.state == State::Up);
        let ring = Ring::new(homes.map(|member| member.node.name.clone()));
        Self(Arc::new(Inner { record, ring }))
    }
}

impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        self.0.record == other.0.record
    }
}

impl View {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.record.number
    }

    /// What tells it from every other.
    #[must_use]
    pub fn id(&self) -> ViewId {
        ViewId { number: self.0.record.number, maker: self.0.record.maker }
    }

    /// As it is written down.
    #[must_use]
    pub fn record(&self) -> &ViewRecord {
        &self.0.record
    }

    /// Its nodes, in order of their names.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.0.record.members
    }

    /// Its node of this name.
    #[must_use]
    pub fn member(&self, name: &NodeName) -> Option<&Member> {
        self.members().iter().find(|member| member.node.name == *name)
    }

    /// Its node of this name, if it is this start of it.
    #[must_use]
    pub fn member_of(&self, node: &Node) -> Option<&Member> {
        self.member(&node.name).filter(|member| member.node.boot == node.boot)
    }

    /// Whether it has this start of this node.
    #[must_use]
    pub fn has(&self, node: &Node) -> bool {
        self.member_of(node).is_some()
    }

    /// Where a shard is at home; `None` while no node of the view is up.
    #[must_use]
    pub fn home(&self, shard: Shard) -> Option<&Member> {
        self.0.ring.home(shard).and_then(|name| self.member(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nodes_that_are_up_are_homes() {
        let member = |name: &str, state| Member {
            node: Node { name: NodeName::parse(name).unwrap(), boot: Boot::new(1) },
            state,
            address: String::new(),
        };
        let view = |members| View::from(ViewRecord { number: 1, maker: Boot::new(1), members });
        let some =
            view(vec![member("a", State::Joining), member("b", State::Up), member("c", State::Draining)]);
        assert!(Shard::all().all(|shard| some.home(shard).unwrap().node.name.as_str() == "b"));
        assert_eq!(view(vec![member("a", State::Joining)]).home(Shard::new(0)), None);
    }
}
