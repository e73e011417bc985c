//! All that is known of one other node's link: both sequences of frames, the connection that there is, what waits to be
//! said on it, when something was last heard. One lock, never held across an await. What is said on a connection is
//! `writing`'s, what follows from frames that came `sequel`'s.

mod sequel;
mod writing;

pub use sequel::Sequel;
pub use writing::{Line, Writing};

use super::Hub;
use super::handshake::{Identity, Place, Refusal};
use super::incoming::{Fate, Incoming, OutOfTurn};
use super::outgoing::Outgoing;
use super::wire::{Batch, Kind, Message, Standing};
use super::{CallError, SendError};
use crate::event::{Event, Item};
use crate::node::{Boot, Node, NodeName};
use crate::secret::random;
use crate::view::{View, ViewId};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Another node, whichever of its starts.
pub struct Peer {
    /// What it is called.
    pub name: NodeName,
    /// The connection's task is to acknowledge soon.
    pub acknowledge: Notify,
    /// It is to be dialled, at once.
    pub dial: Notify,
    /// There may be room for frames.
    pub room: Notify,
    state: Mutex<PeerState>,
}

/// What changes of it.
pub struct PeerState {
    /// Which start of it, where it is: as far as the members tell.
    pub boot: Boot,
    /// Where it is dialled.
    pub address: String,
    /// The number of the view, while that has both it and us: what frames are sent by.
    pub shares: Option<u64>,
    /// The connection, if there is one.
    pub line: Option<Line>,
    /// Since when there is a connection or is none.
    pub since: Instant,
    /// When it was last heard, or else first heard of.
    pub heard: Instant,
    /// Whether it said that it ends.
    pub left: bool,
    /// Where it said that it stands.
    pub standing: Standing,
    /// The view it shared with us when it last answered, and when what it answered was sent.
    pub answered: Option<(ViewId, Instant)>,
    outgoing: Outgoing,
    incoming: Option<Incoming>,
    calls: HashMap<u64, oneshot::Sender<Result<Bytes, CallError>>>,
    last_call: u64,
    untold: usize,
}

impl Peer {
    /// A node that was just heard of.
    pub fn new(name: NodeName, boot: Boot, address: String, incarnation: u64, window: usize) -> Self {
        let now = Instant::now();
        let state = PeerState {
            boot,
            address,
            shares: None,
            line: None,
            since: now,
            heard: now,
            left: false,
            standing: Standing::default(),
            answered: None,
            outgoing: Outgoing::new(incarnation, window),
            incoming: None,
            calls: HashMap::new(),
            last_call: 0,
            untold: 0,
        };
        Self {
            name,
            acknowledge: Notify::new(),
            dial: Notify::new(),
            room: Notify::new(),
            state: Mutex::new(state),
        }
    }

    /// Its state; nothing that holds it panics half-way through a change.
    pub fn state(&self) -> MutexGuard<'_, PeerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which start of it is known.
    pub fn node(&self) -> Node {
        Node { name: self.name.clone(), boot: self.state().boot }
    }

    /// Takes up what the members tell: which start it is, and where.
    pub fn know(&self, hub: &Hub, boot: Boot, address: &str) {
        let mut state = self.state();
        if state.boot != boot {
            // What ends is the old one's.
            self.forget(&mut state, hub);
            state.boot = boot;
            state.shares = None;
            (state.heard, state.left) = (Instant::now(), false);
            if let Some(view) = hub.view() {
                self.share(&mut state, hub, &view);
            }
        }
        if state.address != address {
            address.clone_into(&mut state.address);
            self.dial.notify_one();
        }
    }

    /// Ends everything between this node and that: it has left the view, or starts anew.
    pub fn forget(&self, state: &mut PeerState, hub: &Hub) {
        // Where no number can be drawn, the next in turn is as good.
        let incarnation = random().unwrap_or_else(|_| state.outgoing.incarnation().wrapping_add(1));
        state.outgoing = Outgoing::new(incarnation, hub.window);
        state.incoming = None;
        state.standing = Standing::default();
        state.answered = None;
        for (_, call) in state.calls.drain() {
            // Whoever called may have given up.
            let _ = call.send(Err(CallError::Gone));
        }
        self.hang_up(state, hub);
        self.room.notify_waiters();
    }

    /// Ends the connection, if there is one.
    pub fn hang_up(&self, state: &mut PeerState, hub: &Hub) {
        if let Some(mut line) = state.line.take() {
            line.wake();
            line.end.notify_one();
            state.since = Instant::now();
            hub.tell(Event::Down(Node { name: self.name.clone(), boot: state.boot }));
            hub.changed.notify_one();
            self.dial.notify_one();
        }
    }

    /// Who we are to this peer, for a handshake.
    pub fn identity(&self, hub: &Hub) -> Identity {
        let state = self.state();
        Identity {
            cluster: hub.cluster.clone(),
            node: hub.me.clone(),
            sends: Place { incarnation: state.outgoing.incarnation(), number: state.outgoing.first() },
            receives: state
                .incoming
                .as_ref()
                .map(|incoming| Place { incarnation: incoming.incarnation(), number: incoming.received() }),
        }
    }

    /// Makes a connection that proved itself the one that is used; `ours` is what we said of ourselves on it.
    pub fn connect(
        self: &Arc<Self>,
        hub: &Arc<Hub>,
        dialled: bool,
        ours: &Identity,
        theirs: &Identity,
    ) -> Result<Writing, Refusal> {
        let mut state = self.state();
        if theirs.node.boot != state.boot {
            return Err(Refusal::Unknown(theirs.node.clone()));
        }
        let by_lesser = dialled == (hub.me.name < self.name);
        if state.line.as_ref().is_some_and(|line| line.by_lesser && !by_lesser) {
            return Err(Refusal::Connected);
        }
        if ours.sends.incarnation != state.outgoing.incarnation() {
            return Err(Refusal::Broken("the view changed meanwhile".to_owned()));
        }
        let replaced = state.line.take();
        if let Some(mut line) = replaced {
            line.wake();
            line.end.notify_one();
        }
        let received = theirs.receives.filter(|place| place.incarnation == ours.sends.incarnation);
        state.outgoing.resume(received.map_or(0, |place| place.number));
        let goes_on = state.incoming.as_ref().is_some_and(|i| i.incarnation() == theirs.sends.incarnation);
        match &mut state.incoming {
            Some(incoming) if goes_on => incoming.resume(),
            _ => {
                let first = theirs.sends.number;
                state.incoming =
                    Some(Incoming::new(theirs.sends.incarnation, first, hub.window.saturating_mul(2)));
            }
        }
        let id = hub.next_line();
        state.line = Some(Line {
            id,
            by_lesser,
            end: Arc::new(Notify::new()),
            waker: None,
            view_told: None,
            acknowledge: true,
            pulse: true,
            answer: None,
            bye: false,
            is_refused: false,
        });
        let now = Instant::now();
        (state.since, state.heard, state.left) = (now, now, false);
        hub.tell(Event::Up(theirs.node.clone()));
        if !goes_on {
            hub.tell(Event::Gap(theirs.node.clone()));
        }
        hub.changed.notify_one();
        Ok(Writing { hub: Arc::clone(hub), peer: Arc::clone(self), line: id })
    }

    /// Takes up a view: frames are sent by it while it has both ends. A link to whom it has no more begins anew; who
    /// only asks to come in has nothing to be forgotten, and needs its link.
    pub fn share(&self, state: &mut PeerState, hub: &Hub, view: &View) {
        let node = Node { name: self.name.clone(), boot: state.boot };
        let shares = (view.has(&node) && view.has(&hub.me)).then(|| view.number());
        if state.shares.is_some() && shares.is_none() {
            self.forget(state, hub);
        }
        state.shares = shares;
    }

    /// Takes a frame to be sent.
    pub fn push(&self, kind: Kind, head: &[u8], body: &[u8]) -> Result<(), SendError> {
        let mut state = self.state();
        let view = state.shares.ok_or(SendError::NotInView)?;
        let taken = state.outgoing.push(view, kind, head, body);
        if let Some(line) = &mut state.line {
            line.wake();
        }
        taken.map_err(|_| SendError::Full)
    }

    /// Whether a frame of this length would be taken now.
    pub fn has_room(&self, length: usize) -> Result<bool, SendError> {
        let state = self.state();
        state.shares.ok_or(SendError::NotInView)?;
        Ok(state.outgoing.has_room(length))
    }

    /// Begins a call: its number, and where its answer comes.
    pub fn begin_call(&self) -> (u64, oneshot::Receiver<Result<Bytes, CallError>>) {
        let (answer, answered) = oneshot::channel();
        let mut state = self.state();
        state.last_call += 1;
        let number = state.last_call;
        state.calls.insert(number, answer);
        (number, answered)
    }

    /// Nobody waits for this call any more.
    pub fn end_call(&self, number: u64) {
        self.state().calls.remove(&number);
    }

    /// Takes what came on a connection.
    pub fn hear(self: &Arc<Self>, hub: &Arc<Hub>, id: u64, message: Message) -> Result<(), OutOfTurn> {
        let mut state = self.state();
        if state.line.as_ref().is_none_or(|line| line.id != id) {
            return Ok(());
        }
        state.heard = Instant::now();
        match message {
            Message::Batch(batch) => return self.hear_batch(hub, &mut state, &batch),
            Message::Ack(number) => {
                state.outgoing.acknowledge(number);
                self.room.notify_waiters();
            }
            Message::Pulse(pulse) => {
                let is_news = state.standing != pulse.standing;
                state.standing = pulse.standing;
                if let Some(line) = &mut state.line {
                    line.answer = Some(pulse.sent);
                    line.wake();
                }
                if is_news {
                    hub.changed.notify_one();
                }
            }
            Message::Answer(pulse) => {
                state.standing = pulse.standing;
                // What was sent later than now was not sent by us.
                let sent = (hub.origin + Duration::from_nanos(pulse.sent)).min(state.heard);
                if let Some(view) = pulse.standing.view.filter(|view| hub.view_id() == Some(*view)) {
                    state.answered = Some((view, sent));
                }
                hub.changed.notify_one();
            }
            Message::View(record) => {
                drop(state);
                hub.adopt(record);
            }
            Message::Bye => {
                state.left = true;
                self.hang_up(&mut state, hub);
            }
            Message::Unknown => {}
        }
        Ok(())
    }

    fn hear_batch(
        self: &Arc<Self>,
        hub: &Arc<Hub>,
        state: &mut PeerState,
        batch: &Batch,
    ) -> Result<(), OutOfTurn> {
        let from = Node { name: self.name.clone(), boot: state.boot };
        // Not received: should it come into the view, it sends them again.
        if !hub.has(&from) {
            if let Some(line) = state.line.as_mut().filter(|line| !line.is_refused) {
                line.is_refused = true;
                tracing::warn!(peer = %from, "frames of {from} are refused: it is not in the view");
            }
            return Ok(());
        }
        let Some(incoming) = &mut state.incoming else { return Ok(()) };
        let incarnation = incoming.incarnation();
        if incoming.receive(batch)? == Fate::Repeat {
            return Ok(());
        }
        if batch.has_replies {
            for (_, bytes) in batch.frames().filter(|(kind, _)| *kind == Kind::Reply) {
                let Some((number, _)) = bytes.split_first_chunk() else { continue };
                if let Some(call) = state.calls.remove(&u64::from_be_bytes(*number)) {
                    // Whoever called may have given up.
                    let _ = call.send(Ok(bytes.slice(number.len()..)));
                }
            }
        }
        let taken = Some((batch.last(), batch.size()));
        let sequel = Sequel { peer: Arc::clone(self), hub: Arc::clone(hub), from, incarnation, taken };
        if let Some(Item::Batch(mut sequel, ..)) = hub.queue(Item::Batch(sequel, batch.view, batch.frames()))
        {
            // Nobody listens any more. It must not acknowledge, and the lock is held.
            sequel.taken = None;
        }
        Ok(())
    }

    fn take(&self, hub: &Hub, incarnation: u64, number: u64, bytes: usize) {
        let mut state = self.state();
        let Some(incoming) = state.incoming.as_mut().filter(|incoming| incoming.incarnation() == incarnation)
        else {
            return;
        };
        incoming.take(number, bytes);
        state.untold += bytes;
        if state.untold >= hub.window / 4 {
            self.tell_taken(&mut state);
        } else {
            self.acknowledge.notify_one();
        }
    }

    /// Has it told what was taken.
    pub fn tell_taken(&self, state: &mut PeerState) {
        state.untold = 0;
        if let Some(line) = &mut state.line {
            line.acknowledge = true;
            line.wake();
        }
    }

    /// Has it told where we stand, and asks whether it is there.
    pub fn pulse(&self) {
        if let Some(line) = &mut self.state().line {
            line.pulse = true;
            line.wake();
        }
    }

    /// Has it told that we end.
    pub fn say_bye(&self) {
        if let Some(line) = &mut self.state().line {
            line.bye = true;
            line.wake();
        }
    }
}

impl PeerState {
    /// The bytes that wait for it.
    pub const fn held(&self) -> usize {
        self.outgoing.held()
    }
}

#[cfg(test)]
mod tests;
