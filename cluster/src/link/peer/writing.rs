//! What is said on a connection: a view ahead of the frames that are sent by it, answers, pulses, acknowledgements, frames,
//! a farewell. Beside frames it is a handful of flags, the newest of each kind, so that it needs no bound.

use super::{Peer, PeerState};
use crate::link::Hub;
use crate::link::codec::prefixed;
use crate::link::incoming::Incoming;
use crate::link::wire::{Message, Pulse};
use crate::view::ViewId;
use bytes::Bytes;
use futures_util::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// A connection, and what is to be said on it.
pub struct Line {
    /// Which one.
    pub id: u64,
    /// Whether the node of the lesser name dialled it.
    pub by_lesser: bool,
    /// Ends its task.
    pub end: Arc<Notify>,
    pub(super) waker: Option<Waker>,
    pub(super) view_told: Option<ViewId>,
    pub(super) acknowledge: bool,
    pub(super) pulse: bool,
    pub(super) answer: Option<u64>,
    pub(super) bye: bool,
    /// Whether it was logged that its frames are refused.
    pub(super) is_refused: bool,
}

impl Line {
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl PeerState {
    fn say(&mut self, hub: &Hub, id: u64, context: &Context<'_>) -> Poll<Option<Bytes>> {
        let Some(line) = self.line.as_mut().filter(|line| line.id == id) else { return Poll::Ready(None) };
        // Ahead of the frames that were sent by it.
        if let Some(view) = hub.view_since(line.view_told) {
            line.view_told = Some(view.id());
            return Poll::Ready(Some(prefixed(&Message::View(view.record().clone()).to_bytes())));
        }
        if let Some(sent) = line.answer.take() {
            return Poll::Ready(Some(prefixed(
                &Message::Answer(Pulse { sent, standing: hub.standing() }).to_bytes(),
            )));
        }
        if std::mem::take(&mut line.pulse) {
            let pulse = Pulse { sent: hub.since_origin(), standing: hub.standing() };
            return Poll::Ready(Some(prefixed(&Message::Pulse(pulse).to_bytes())));
        }
        if std::mem::take(&mut line.acknowledge)
            && let Some(number) = self.incoming.as_mut().and_then(Incoming::acknowledge)
        {
            return Poll::Ready(Some(prefixed(&Message::Ack(number).to_bytes())));
        }
        if let Some(batch) = self.outgoing.give() {
            return Poll::Ready(Some(batch));
        }
        if std::mem::take(&mut line.bye) {
            return Poll::Ready(Some(prefixed(&Message::Bye.to_bytes())));
        }
        line.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// What is written on one connection, as fast as it is taken.
pub struct Writing {
    pub(super) hub: Arc<Hub>,
    pub(super) peer: Arc<Peer>,
    pub(super) line: u64,
}

impl Writing {
    /// Which connection it is.
    pub const fn line(&self) -> u64 {
        self.line
    }
}

impl Stream for Writing {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.peer.state().say(&self.hub, self.line, context)
    }
}
