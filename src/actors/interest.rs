//! Which nodes are interested in which authors: the table of a home.
//!
//! It outlives `Author` actors. A node that has not said all that it is interested in of a shard counts as interested
//! in everybody there, so that nothing is missed while homes move. Bounded by what nodes say: 16 bytes and a node for
//! each author that somebody follows there.

use crate::model::id::UserId;
use crate::model::shard::Shard;
use roost_cluster::Node;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The table. Its mutex is a std one: nothing awaits under it.
#[derive(Default)]
pub struct Interests(Mutex<State>);

#[derive(Default)]
struct State {
    authors: HashMap<UserId, Vec<Node>>,
    /// Who has said all that it is interested in of a shard.
    complete: HashMap<Shard, Vec<Node>>,
}

impl Interests {
    /// A node is interested in these authors, and with those before they are all of these shards.
    pub fn add(&self, node: &Node, authors: impl Iterator<Item = UserId>, complete: &[Shard]) {
        let mut state = self.lock();
        for author in authors {
            add(state.authors.entry(author).or_default(), node);
        }
        for shard in complete {
            add(state.complete.entry(*shard).or_default(), node);
        }
    }

    /// A node is interested in these authors no longer.
    pub fn forget(&self, node: &Node, authors: impl Iterator<Item = UserId>) {
        let mut state = self.lock();
        for author in authors {
            let Some(nodes) = state.authors.get_mut(&author) else { continue };
            nodes.retain(|known| known != node);
            if nodes.is_empty() {
                state.authors.remove(&author);
            }
        }
    }

    /// Those of `nodes` that are to be sent what this author does.
    #[must_use]
    pub fn among<'a>(&self, nodes: &'a [Node], author: UserId) -> Vec<&'a Node> {
        let state = self.lock();
        let interested = state.authors.get(&author);
        let complete = state.complete.get(&Shard::of(author));
        let has = |list: Option<&Vec<Node>>, node| list.is_some_and(|nodes| nodes.contains(node));
        nodes.iter().filter(|node| has(interested, node) || !has(complete, node)).collect()
    }

    /// Those of `shards` of which a node has not said all.
    #[must_use]
    pub fn missing(&self, node: &Node, shards: impl Iterator<Item = Shard>) -> Vec<Shard> {
        let state = self.lock();
        shards.filter(|shard| !state.complete.get(shard).is_some_and(|nodes| nodes.contains(node))).collect()
    }

    /// Forgets all but those nodes and shards.
    pub fn keep(&self, is_member: impl Fn(&Node) -> bool, is_ours: impl Fn(Shard) -> bool) {
        let mut state = self.lock();
        state.complete.retain(|shard, _| is_ours(*shard));
        state.authors.retain(|author, _| is_ours(Shard::of(*author)));
        for nodes in state.complete.values_mut() {
            nodes.retain(&is_member);
        }
        state.authors.retain(|_, nodes| {
            nodes.retain(&is_member);
            !nodes.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(nodes: &mut Vec<Node>, node: &Node) {
    if !nodes.contains(node) {
        nodes.push(node.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::Interests;
    use crate::model::id::UserId;
    use crate::model::shard::Shard;
    use roost_cluster::{Boot, Node, NodeName};

    fn node(name: &str) -> Node {
        Node { name: NodeName::parse(name).unwrap(), boot: Boot::new(1) }
    }

    #[test]
    fn an_entry_goes_to_who_is_interested_and_to_who_has_not_said() {
        let (anna, nodes) = (UserId::make(), [node("a"), node("b"), node("c")]);
        let interests = Interests::default();
        let [a, b, _] = &nodes;
        let shard = [Shard::of(anna)];
        interests.add(a, [anna].into_iter(), &shard);
        interests.add(b, [].into_iter(), &shard);
        let names = |nodes: Vec<&Node>| nodes.iter().map(|node| node.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(interests.among(&nodes, anna)), ["a", "c"]);
        assert_eq!(interests.missing(&nodes[2], shard.into_iter()), shard);
        interests.forget(a, [anna].into_iter());
        assert_eq!(names(interests.among(&nodes, anna)), ["c"]);
    }

    #[test]
    fn a_shard_that_moves_away_and_back_is_asked_for_anew() {
        let (anna, a) = (UserId::make(), node("a"));
        let (interests, shard) = (Interests::default(), Shard::of(anna));
        interests.add(&a, [].into_iter(), &[shard]);
        assert!(interests.among(std::slice::from_ref(&a), anna).is_empty());
        interests.keep(|_| true, |ours| ours != shard);
        assert_eq!(interests.among(std::slice::from_ref(&a), anna), [&a]);
        interests.add(&a, [].into_iter(), &[shard]);
        // Another start of it.
        interests.keep(|node| *node != a, |_| true);
        assert_eq!(interests.among(std::slice::from_ref(&a), anna), [&a]);
    }
}
