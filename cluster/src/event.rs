//! What whoever uses the cluster hears, in order: changes of the view, of links, of whether this node may act, and the
//! frames and calls of other nodes.
//!
//! The queue is bounded by the windows of the links: a peer may send no more than its window ahead of what was taken
//! here. A batch of frames counts as taken, and is acknowledged, when what follows its last frame is asked for.

use crate::link::wire::{CALL_HEADER, Frames, Kind};
use crate::link::{MAX_FRAME, Sequel};
use crate::node::Node;
use crate::view::View;
use bytes::{Buf, Bytes};
use futures_util::Stream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::{mpsc, oneshot};

/// Something that whoever uses the cluster has to know.
#[derive(Debug)]
pub enum Event {
    /// There is a new view: end what this node loses by it, then confirm it.
    View(View),
    /// Every node of the view of this number has confirmed it: what this node gains by it may begin.
    AllConfirmed(u64),
    /// A link to this node is there (again). Unless a gap follows, it goes on where it stopped.
    Up(Node),
    /// There is no link to this node, or it does not answer.
    Down(Node),
    /// Frames of this node are missing here: it is a new start of it, was away from the view, or had no room for them.
    Gap(Node),
    /// A frame.
    Frame(Frame),
    /// A call.
    Call(Call),
    /// An operator asks this node something.
    Operator(OperatorCall),
    /// This node may not act as home any more: end all that it is home to.
    Fenced,
    /// It may again, as soon as it has confirmed the view once more.
    Unfenced,
    /// The cluster ends for this node, for good.
    Ended(Ended),
}

/// Why a cluster ended for a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Another start took this node's name, after its lease had run out.
    #[error("the name {} belongs to another start of it now, {}", .0.name, .0.boot)]
    NameLost(Node),
}

/// A frame of another node.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Who sent it.
    pub from: Node,
    /// The number of the view by which it was sent.
    pub view: u64,
    /// What was sent.
    pub bytes: Bytes,
}

/// A call of another node. Dropped without an answer, it ends there by its deadline.
#[derive(Debug)]
pub struct Call {
    /// Who calls.
    pub from: Node,
    /// The number of the view by which it was sent.
    pub view: u64,
    /// What is asked.
    pub bytes: Bytes,
    number: u64,
    sequel: Sequel,
}

impl Call {
    /// Answers it; whether the answer could be sent. It is not, where the caller started anew or has no room.
    pub fn answer(self, bytes: &[u8]) -> bool {
        self.sequel.reply(self.number, bytes)
    }
}

/// What an operator asks. Dropped without an answer, it is told that there is none.
#[derive(Debug)]
pub struct OperatorCall {
    /// What is asked.
    pub bytes: Bytes,
    answer: oneshot::Sender<Bytes>,
}

impl OperatorCall {
    pub(crate) fn new(bytes: Bytes) -> (Self, oneshot::Receiver<Bytes>) {
        let (answer, answered) = oneshot::channel();
        (Self { bytes, answer }, answered)
    }

    /// Answers it with at most `MAX_FRAME` bytes; whether the answer could be sent.
    pub fn answer(self, bytes: Bytes) -> bool {
        bytes.len() <= MAX_FRAME && self.answer.send(bytes).is_ok()
    }
}

/// What is in the queue of events.
#[derive(Debug)]
pub(crate) enum Item {
    Event(Event),
    Batch(Sequel, u64, Frames),
}

/// The events, in order.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::UnboundedReceiver<Item>,
    open: Option<(Sequel, u64, Frames)>,
}

impl Events {
    pub(crate) const fn new(queue: mpsc::UnboundedReceiver<Item>) -> Self {
        Self { queue, open: None }
    }

    /// The next event; `None` when the cluster has stopped.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// The next frame of the batch that is open.
    fn of_batch(&mut self) -> Option<Event> {
        let (sequel, view, frames) = self.open.as_mut()?;
        let (from, view) = (sequel.from(), *view);
        for (kind, mut bytes) in frames {
            match kind {
                Kind::Plain => return Some(Event::Frame(Frame { from: from.clone(), view, bytes })),
                Kind::Gap => return Some(Event::Gap(from.clone())),
                // Whoever called has had it.
                Kind::Reply => {}
                Kind::Call if bytes.len() < CALL_HEADER => {}
                Kind::Call => {
                    let number = bytes.get_u64();
                    let sequel = sequel.for_reply();
                    return Some(Event::Call(Call { from: from.clone(), view, bytes, number, sequel }));
                }
            }
        }
        // Its drop acknowledges it.
        self.open = None;
        None
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.of_batch() {
                return Poll::Ready(Some(event));
            }
            match ready!(self.queue.poll_recv(context)) {
                Some(Item::Event(event)) => return Poll::Ready(Some(event)),
                Some(Item::Batch(sequel, view, frames)) => self.open = Some((sequel, view, frames)),
                None => return Poll::Ready(None),
            }
        }
    }
}
