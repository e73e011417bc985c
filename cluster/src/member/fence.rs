//! Until when this node may act as home. Pure.
//!
//! Others make a view without a node only when its lease is gone *and* they have heard nothing of it for `silence`. So
//! a node knows that it is in every view that there may be for so long after it renewed its lease, or after every
//! other node that makes views answered it by the same view; counted from when it sent what was answered, by its own
//! monotonic clock.

use crate::node::Node;
use crate::timing::Timing;
use crate::view::{State, View, ViewId};
use std::time::Duration;
use tokio::time::Instant;

/// What a node knows of its standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Renewals {
    /// When the renewal was sent that succeeded last.
    pub renewed: Option<Instant>,
    /// When the last one was sent, whatever became of it.
    pub tried: Option<Instant>,
}

/// By what a node may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// Until when.
    pub until: Instant,
    /// Whether it is others' answers that say so, which also say that the view is the newest.
    pub by_answers: bool,
}

/// Until when this node may act, by this view.
pub fn leave(
    timing: &Timing,
    me: &Node,
    view: &View,
    renewals: Renewals,
    answered: &dyn Fn(&Node) -> Option<(ViewId, Instant)>,
) -> Option<Leave> {
    let makers = || view.members().iter().filter(|m| m.node != *me && m.state != State::Joining);
    let answer = |member: &crate::view::Member| {
        answered(&member.node).filter(|(by, _)| *by == view.id()).map(|(_, sent)| sent)
    };
    let by_answers = if makers().next().is_none() {
        // Alone, it is its own witness, if it is awake: it has just tried.
        renewals.tried
    } else {
        makers().map(answer).collect::<Option<Vec<_>>>().and_then(|sent| sent.into_iter().min())
    };
    let leave = |sent: Instant, by_answers| Leave { until: sent + timing.fence, by_answers };
    let by_lease = renewals.renewed.map(|sent| leave(sent, false));
    let by_answers = by_answers.map(|sent| leave(sent, true));
    [by_lease, by_answers].into_iter().flatten().max_by_key(|leave| leave.until)
}

/// How far our clock is from Redis', at least: what the way there and back may have been taken off. Positive where
/// ours is ahead. All of them since the same moment, long ago.
pub fn skew(redis: Duration, sent: Duration, answered: Duration) -> Duration {
    // Redis read its clock somewhere between the two.
    if redis < sent { sent - redis } else { redis.saturating_sub(answered) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Boot, NodeName};
    use crate::view::{Member, ViewRecord};
    use std::collections::HashMap;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn node(name: &str) -> Node {
        Node { name: NodeName::parse(name).unwrap(), boot: Boot::new(1) }
    }

    fn view(number: u64, members: &[(&str, State)]) -> View {
        let member = |(name, state): &(&str, State)| Member {
            node: node(name),
            state: *state,
            address: String::new(),
        };
        View::from(ViewRecord { number, maker: Boot::new(1), members: members.iter().map(member).collect() })
    }

    /// Until how many seconds after the beginning `a` may act.
    fn until(view: &View, renewals: (Option<u64>, Option<u64>), answers: &[(&str, u64, u64)]) -> Option<u64> {
        let origin = Instant::now();
        let at = |seconds| origin + secs(seconds);
        let renewals = Renewals { renewed: renewals.0.map(at), tried: renewals.1.map(at) };
        let answer = |(name, number, sent): &(&str, u64, u64)| {
            (node(name), (ViewId { number: *number, maker: Boot::new(1) }, at(*sent)))
        };
        let answers: HashMap<Node, (ViewId, Instant)> = answers.iter().map(answer).collect();
        let answered = |node: &Node| answers.get(node).copied();
        let leave = leave(&Timing::default(), &node("a"), view, renewals, &answered)?;
        Some((leave.until - origin).as_secs())
    }

    #[test]
    fn a_renewal_holds_for_the_time_of_the_fence_from_when_it_was_sent() {
        let view = view(1, &[("a", State::Up), ("b", State::Up)]);
        assert_eq!(until(&view, (None, None), &[]), None);
        assert_eq!(until(&view, (Some(10), Some(15)), &[]), Some(14));
    }

    #[test]
    fn answers_hold_when_all_who_make_views_gave_one_by_the_same_view() {
        let view =
            view(5, &[("a", State::Up), ("b", State::Up), ("c", State::Draining), ("d", State::Joining)]);
        assert_eq!(until(&view, (None, None), &[("b", 5, 10)]), None);
        assert_eq!(until(&view, (None, None), &[("b", 5, 10), ("c", 4, 10)]), None);
        assert_eq!(until(&view, (None, None), &[("b", 5, 10), ("c", 5, 8)]), Some(12));
        // Whichever holds longer.
        assert_eq!(until(&view, (Some(9), None), &[("b", 5, 10), ("c", 5, 8)]), Some(13));
    }

    #[test]
    fn alone_it_acts_while_it_is_awake() {
        let alone = view(1, &[("a", State::Up), ("b", State::Joining)]);
        assert_eq!(until(&alone, (Some(2), Some(20)), &[]), Some(24));
        assert_eq!(until(&alone, (None, None), &[]), None);
    }

    #[test]
    fn skew_is_what_the_way_there_and_back_does_not_explain() {
        assert_eq!(skew(secs(10), secs(9), secs(11)), secs(0));
        assert_eq!(skew(secs(10), secs(15), secs(16)), secs(5));
        assert_eq!(skew(secs(20), secs(15), secs(16)), secs(4));
        assert_eq!(skew(secs(10), secs(12), secs(60)), secs(2));
    }
}
