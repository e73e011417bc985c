//! Whether this node may act as home: asked for every post, so without a lock of its own.
//!
//! It is latched: once the time has run out the node is fenced, until it has renewed or been answered *and* has
//! confirmed the view anew, whatever comes in between.

use crate::link::Hub;
use crate::node::Node;
use crate::view::State;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use tokio::time::Instant;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// It may act when it has confirmed a view in which it is up.
    Waiting = 0,
    /// It may act while the time has not run out.
    Acting = 1,
    /// The time ran out; nobody was told yet.
    RanOut = 2,
    /// It is fenced, and that was told.
    Fenced = 3,
    /// It ended.
    Ended = 4,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Waiting, Self::Acting, Self::RanOut, Self::Fenced, Self::Ended];
}

/// Whether this node may act.
pub struct Permit {
    me: Node,
    hub: Arc<Hub>,
    origin: Instant,
    /// In ns after the origin.
    until: AtomicU64,
    phase: AtomicU8,
}

impl Permit {
    pub fn new(me: Node, hub: Arc<Hub>) -> Self {
        Self {
            me,
            hub,
            origin: Instant::now(),
            until: AtomicU64::new(0),
            phase: AtomicU8::new(Phase::Waiting as u8),
        }
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        let phase = usize::from(self.phase.load(Ordering::SeqCst));
        Phase::ALL.get(phase).copied().unwrap_or(Phase::Ended)
    }

    /// From one phase to the next; whether it was in that one.
    pub fn pass(&self, from: Phase, to: Phase) -> bool {
        self.phase.compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// It ended, for good.
    pub fn end(&self) {
        self.phase.store(Phase::Ended as u8, Ordering::SeqCst);
    }

    /// Sets until when it may act.
    pub fn set_until(&self, until: Option<Instant>) {
        let until = until.map_or(0, |until| until.saturating_duration_since(self.origin).as_nanos());
        self.until.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Whether the time has not run out.
    pub fn is_in_time(&self) -> bool {
        let now = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        now < self.until.load(Ordering::SeqCst)
    }

    /// Whether it is in the view, and not joining any more.
    fn has_place(&self) -> bool {
        let view = self.hub.view();
        let member = view.as_ref().and_then(|view| view.member_of(&self.me));
        member.is_some_and(|member| member.state != State::Joining)
    }

    /// Whether it may act now.
    pub fn may_act(&self) -> bool {
        if self.phase() != Phase::Acting {
            return false;
        }
        if !self.is_in_time() {
            if self.pass(Phase::Acting, Phase::RanOut) {
                self.hub.changed.notify_one();
            }
            return false;
        }
        self.has_place()
    }

    /// The view of this number was confirmed here; whether that is the newest.
    pub fn confirm(&self, number: u64) -> bool {
        if self.hub.view().is_none_or(|view| view.number() != number) {
            return false;
        }
        self.hub.confirm(number);
        self.begin();
        self.hub.changed.notify_one();
        true
    }

    /// Begins to act, if nothing is in its way any more.
    pub fn begin(&self) {
        let newest = self.hub.view().map(|view| view.number());
        if newest == Some(self.hub.confirmed()) && self.has_place() && self.is_in_time() {
            self.pass(Phase::Waiting, Phase::Acting);
        }
    }
}
