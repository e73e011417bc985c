//! Which view follows from what was read, and from who is silent. Pure; every node that may make views comes to much
//! the same, and of two that write at once one is refused by Redis.

use super::lease::Lease;
use crate::node::Node;
use crate::view::{Member, State, ViewRecord};

/// What was read from Redis, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The view that is there.
    pub view: Option<ViewRecord>,
    /// The leases that are there.
    pub leases: Vec<Lease>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// The view that is there is newer: it is to be taken up.
    Adopt(ViewRecord),
    /// This view is to be written in the place of the one that was read, if the leases of those who go are still gone.
    Write(ViewRecord, Vec<Node>),
}

impl Seen {
    fn lease(&self, node: &Node) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.name == node.name && lease.record.boot == node.boot)
    }
}

fn member<'a>(view: &'a ViewRecord, node: &Node) -> Option<&'a Member> {
    view.members.iter().find(|member| member.node == *node)
}

/// Whether this node may make views: it is up, or draining where nobody is up.
fn makes_views(me: &Node, view: &ViewRecord) -> bool {
    match member(view, me).map(|member| member.state) {
        Some(State::Up) => true,
        Some(State::Draining) => view.members.iter().all(|member| member.state != State::Up),
        Some(State::Joining) | None => false,
    }
}

/// The next step of this node. `current` is the newest view that it has seen; `is_silent` says whether nothing was
/// heard of a node by link for long enough.
pub fn step(me: &Node, current: Option<&ViewRecord>, seen: &Seen, is_silent: &dyn Fn(&Node) -> bool) -> Step {
    if let Some(view) = &seen.view
        && current.is_none_or(|current| view.number > current.number)
    {
        return Step::Adopt(view.clone());
    }
    let Some(current) = current else { return Step::Keep };
    // Redis that has forgotten our own lease has forgotten others', too: it is believed when ours is there again.
    if seen.lease(me).is_none() || !makes_views(me, current) {
        return Step::Keep;
    }
    let (members, gone) = members(me, current, seen, is_silent);
    let is_there = seen.view.as_ref() == Some(current);
    if is_there && members == current.members {
        return Step::Keep;
    }
    Step::Write(ViewRecord { number: current.number + 1, maker: me.boot, members }, gone)
}

/// Who is to be in the next view, and who is not any more.
fn members(
    me: &Node,
    current: &ViewRecord,
    seen: &Seen,
    is_silent: &dyn Fn(&Node) -> bool,
) -> (Vec<Member>, Vec<Node>) {
    let (mut members, mut gone) = (Vec::new(), Vec::new());
    for member in &current.members {
        match seen.lease(&member.node) {
            Some(lease) => members.push(as_leased(lease)),
            // Its lease alone may be gone because Redis lost it.
            None if member.node == *me || !is_silent(&member.node) => members.push(member.clone()),
            None => gone.push(member.node.clone()),
        }
    }
    for lease in &seen.leases {
        // Who was in and is not has to ask anew; a name is in once.
        let asks = lease.record.state == State::Joining;
        if asks && members.iter().all(|member| member.node.name != lease.name) {
            members.push(as_leased(lease));
        }
    }
    members.sort_by(|a, b| a.node.cmp(&b.node));
    (members, gone)
}

fn as_leased(lease: &Lease) -> Member {
    Member { node: lease.node(), state: lease.record.state, address: lease.record.address.clone() }
}

/// Whether nobody is there who makes views, so that a joining node may begin (again): every node of the view has lost
/// its lease and is silent, and no other node has a lease but such as are joining, too. Of those the least begins.
pub fn is_alone(
    me: &Node,
    current: Option<&ViewRecord>,
    seen: &Seen,
    is_silent: &dyn Fn(&Node) -> bool,
) -> bool {
    let newest = [current, seen.view.as_ref()].into_iter().flatten().max_by_key(|view| view.number);
    let nobody_makes = newest.is_none_or(|view| {
        view.members.iter().all(|member| {
            member.node == *me
                || member.state == State::Joining
                || (seen.lease(&member.node).is_none() && is_silent(&member.node))
        })
    });
    nobody_makes
        && seen.lease(me).is_some_and(|lease| lease.record.state == State::Joining)
        && seen.leases.iter().all(|lease| {
            lease.node() == *me || (lease.record.state == State::Joining && me.name < lease.name)
        })
}

/// The view with which a node begins that is alone: itself up, whoever else joins joining.
pub fn beginning(me: &Node, current: Option<&ViewRecord>, seen: &Seen) -> Step {
    let newest = [current, seen.view.as_ref()].into_iter().flatten().max_by_key(|view| view.number);
    let number = newest.map_or(0, |view| view.number) + 1;
    let mut members: Vec<Member> = seen.leases.iter().map(as_leased).collect();
    for member in members.iter_mut().filter(|member| member.node == *me) {
        member.state = State::Up;
    }
    members.sort_by(|a, b| a.node.cmp(&b.node));
    let stays = |node: &Node| members.iter().any(|member| member.node == *node);
    let gone = newest.map_or(&[][..], |view| &view.members).iter().map(|member| member.node.clone());
    let gone = gone.filter(|node| !stays(node)).collect();
    Step::Write(ViewRecord { number, maker: me.boot, members }, gone)
}

#[cfg(test)]
mod tests;
