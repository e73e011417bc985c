//! What is known of one inbox that somebody listens to: how far it reaches, and a short tail of its events.

use super::lock;
use crate::model::chat::MessageEvent;
use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Events that are kept of an inbox.
const TAIL: usize = 64;
/// Events that a feed gives, or reads, at once.
pub(super) const PAGE: usize = 64;

/// An inbox that somebody listens to.
pub(super) struct Inbox {
    /// How many listen; changed under the table's lock.
    pub(super) listeners: AtomicUsize,
    known: Mutex<Known>,
    pub(super) bell: Notify,
}

#[derive(Default)]
struct Known {
    /// The newest place that was told of; 0 before the first.
    newest: u64,
    /// All events behind `tail_after` up to there.
    tail: VecDeque<Delivery>,
    tail_after: u64,
    /// How often it was said that the store may know more.
    doubts: u64,
}

/// Where a feed finds what comes next.
pub(super) enum Next {
    Here(Vec<Delivery>),
    InStore { newest: u64, doubts: u64 },
    Nowhere,
}

/// An event on its way to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What.
    pub event: MessageEvent,
    /// Where it stands in the inbox.
    pub place: u64,
    /// When this node was told, where it was told and did not read it.
    pub told_at: Option<Instant>,
}

impl Inbox {
    /// One that nobody listens to yet, and of which nothing is known.
    pub(super) fn quiet() -> Arc<Self> {
        Arc::new(Self { listeners: AtomicUsize::new(0), known: Mutex::default(), bell: Notify::new() })
    }

    /// The next event, unless it was told before; `is_next` says whether nothing stands between it and the newest.
    pub(super) fn push(&self, delivery: Delivery, is_next: impl FnOnce(u64) -> bool) {
        let mut known = self.known();
        if delivery.place <= known.newest {
            // Told before, or read by a feed; or overtaken by a later place, when feeds read the store.
            return;
        }
        if !is_next(known.newest) {
            known.tail.clear();
            known.tail_after = delivery.place - 1;
        }
        known.newest = delivery.place;
        known.tail.push_back(delivery);
        if known.tail.len() > TAIL
            && let Some(oldest) = known.tail.pop_front()
        {
            known.tail_after = oldest.place;
        }
        drop(known);
        self.bell.notify_waiters();
    }

    /// The store has events up to that place; answers the newest that is known.
    pub(super) fn learn(&self, newest: u64) -> u64 {
        let mut known = self.known();
        if newest <= known.newest {
            return known.newest;
        }
        known.newest = newest;
        known.tail.clear();
        known.tail_after = newest;
        drop(known);
        self.bell.notify_waiters();
        newest
    }

    /// The store may know more.
    pub(super) fn doubt(&self) {
        self.known().doubts += 1;
        self.bell.notify_waiters();
    }

    /// How often that was said.
    pub(super) fn doubts(&self) -> u64 {
        self.known().doubts
    }

    /// What comes behind a place, for one that knows of so many doubts.
    pub(super) fn after(&self, place: u64, doubts: u64) -> Next {
        let known = self.known();
        if known.doubts != doubts {
            return Next::InStore { newest: known.newest, doubts: known.doubts };
        }
        if known.newest <= place {
            return Next::Nowhere;
        }
        if place < known.tail_after {
            return Next::InStore { newest: known.newest, doubts };
        }
        // From its end: most listeners have all but the newest.
        let left = known.tail.iter().rev().take_while(|delivery| delivery.place > place).count();
        Next::Here(known.tail.range(known.tail.len() - left..).take(PAGE).copied().collect())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

#[cfg(test)]
mod tests {
    use super::{Delivery, Inbox, Next, TAIL};
    use crate::model::chat::MessageEvent;
    use crate::model::id::{ConversationId, MessageId};

    fn delivery(place: u64) -> Delivery {
        let event = MessageEvent { message: MessageId::make(), conversation: ConversationId::make() };
        Delivery { event, place, told_at: None }
    }

    fn push(inbox: &Inbox, place: u64) {
        inbox.push(delivery(place), |newest| place == newest + 1);
    }

    /// The places that one who stands there is given, or `None` where it is sent to the store.
    fn after(inbox: &Inbox, place: u64) -> Option<Vec<u64>> {
        match inbox.after(place, 0) {
            Next::Here(events) => Some(events.iter().map(|delivery| delivery.place).collect()),
            Next::Nowhere => Some(Vec::new()),
            Next::InStore { .. } => None,
        }
    }

    #[test]
    fn what_comes_in_its_turn_is_given_from_here() {
        let inbox = Inbox::quiet();
        inbox.learn(10);
        push(&inbox, 11);
        push(&inbox, 12);
        assert_eq!(after(&inbox, 10), Some(vec![11, 12]));
        assert_eq!(after(&inbox, 12), Some(vec![]));
        assert_eq!(after(&inbox, 9), None, "what came before is in the store");
    }

    #[test]
    fn behind_a_gap_listeners_read_the_store_and_late_or_repeated_events_change_nothing() {
        let inbox = Inbox::quiet();
        inbox.learn(10);
        push(&inbox, 11);
        push(&inbox, 13);
        assert_eq!(after(&inbox, 11), None);
        assert_eq!(after(&inbox, 12), Some(vec![13]));
        push(&inbox, 12);
        push(&inbox, 13);
        assert_eq!(after(&inbox, 11), None);
        assert_eq!(after(&inbox, 12), Some(vec![13]));
        push(&inbox, 14);
        assert_eq!(after(&inbox, 12), Some(vec![13, 14]));
    }

    #[test]
    fn places_of_the_store_s_order_may_leave_some_out_once_an_inbox_is_known() {
        let tell = |inbox: &Inbox, place| inbox.push(delivery(place), |newest| newest > 0);
        let inbox = Inbox::quiet();
        tell(&inbox, 7);
        assert_eq!(after(&inbox, 3), None, "what came before it may be in the store");
        assert_eq!(after(&inbox, 6), Some(vec![7]));
        tell(&inbox, 20);
        tell(&inbox, 25);
        assert_eq!(after(&inbox, 6), Some(vec![7, 20, 25]));
        assert_eq!(after(&inbox, 22), Some(vec![25]));
        inbox.learn(30);
        tell(&inbox, 29);
        tell(&inbox, 44);
        assert_eq!(after(&inbox, 25), None);
        assert_eq!(after(&inbox, 30), Some(vec![44]));
        assert_eq!(after(&inbox, 41), Some(vec![44]));
    }

    #[test]
    fn the_tail_is_short_and_what_another_read_is_known() {
        let inbox = Inbox::quiet();
        let last = 2 * TAIL as u64;
        (1..=last).for_each(|place| push(&inbox, place));
        assert_eq!(after(&inbox, last - TAIL as u64 - 1), None);
        assert_eq!(after(&inbox, last - TAIL as u64).map(|places| places.len()), Some(TAIL));
        inbox.learn(last + 5);
        assert_eq!(after(&inbox, last), None);
        assert_eq!(after(&inbox, last + 5), Some(vec![]));
    }

    #[test]
    fn a_doubt_sends_everybody_to_the_store_once() {
        let inbox = Inbox::quiet();
        inbox.learn(10);
        inbox.doubt();
        let Next::InStore { newest, doubts } = inbox.after(10, 0) else { panic!("it does not doubt") };
        assert_eq!(newest, 10);
        assert!(matches!(inbox.after(10, doubts), Next::Nowhere));
    }
}
