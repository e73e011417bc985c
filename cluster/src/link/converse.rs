//! What is done on a connection that proved itself: it is read, a heartbeat is sent now and then, and it ends when the
//! peer is silent. What is written is taken from the peer's state by the connection itself (`peer::Writing`).

use super::Hub;
use super::codec::{end_well, prefixed};
use super::peer::{Peer, Writing};
use super::wire::Message;
use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tonic::{Status, Streaming};

/// How long an acknowledgement may wait for others to join it.
const GATHER: Duration = Duration::from_millis(50);

/// What is written on a connection: first the handshake's messages, then the link's.
pub struct Outward {
    opening: mpsc::Receiver<Bytes>,
    rest: Rest,
    writing: Option<Writing>,
    is_ended: bool,
}

/// Where the handshake leaves what follows it.
pub type Rest = Arc<Mutex<Option<Writing>>>;

/// The two ends of what is written.
pub fn outward() -> (mpsc::Sender<Bytes>, Rest, Outward) {
    let (say, opening) = mpsc::channel(2);
    let rest = Rest::default();
    (say, Arc::clone(&rest), Outward { opening, rest, writing: None, is_ended: false })
}

impl Outward {
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(writing) = &mut self.writing {
                return Pin::new(writing).poll_next(context);
            }
            if let Some(said) = ready!(self.opening.poll_recv(context)) {
                return Poll::Ready(Some(prefixed(&said)));
            }
            let writing = self.rest.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(writing) = writing else { return Poll::Ready(None) };
            self.writing = Some(writing);
        }
    }
}

impl Body for Outward {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(ready!(self.poll_message(context)).map_or_else(
            || {
                self.is_ended = true;
                Frame::trailers(end_well())
            },
            Frame::data,
        ))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended
    }
}

/// Reads a connection to its end; says why it ended.
pub async fn converse(hub: &Arc<Hub>, peer: &Arc<Peer>, line: u64, mut inward: Streaming<Bytes>) -> String {
    let ended = read(hub, peer, line, &mut inward).await;
    let mut state = peer.state();
    if state.line.as_ref().is_some_and(|current| current.id == line) {
        peer.hang_up(&mut state, hub);
    }
    ended
}

async fn read(hub: &Arc<Hub>, peer: &Arc<Peer>, line: u64, inward: &mut Streaming<Bytes>) -> String {
    let end = match &peer.state().line {
        Some(current) if current.id == line => Arc::clone(&current.end),
        _ => return "another took its place".to_owned(),
    };
    let mut beats = interval(hub.timing.heartbeat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut acknowledge_at: Option<Instant> = None;
    loop {
        tokio::select! {
            said = inward.message() => match said {
                Ok(Some(bytes)) => {
                    let heard = Message::parse(bytes).map_err(|wrong| wrong.to_string()).and_then(|message| {
                        peer.hear(hub, line, message).map_err(|wrong| wrong.to_string())
                    });
                    if let Err(wrong) = heard {
                        return wrong;
                    }
                }
                Ok(None) => return "the other end closed it".to_owned(),
                Err(status) => return told(&status),
            },
            _ = beats.tick() => {
                let silent = peer.state().heard.elapsed();
                if silent >= hub.timing.silence {
                    return format!("nothing was heard for {} ms", silent.as_millis());
                }
                peer.pulse();
            }
            () = peer.acknowledge.notified(), if acknowledge_at.is_none() => {
                acknowledge_at = Some(Instant::now() + GATHER);
            }
            () = sleep_until(acknowledge_at.unwrap_or_else(Instant::now)), if acknowledge_at.is_some() => {
                acknowledge_at = None;
                peer.tell_taken(&mut peer.state());
            }
            () = end.notified() => return "this end closed it".to_owned(),
        }
    }
}

/// A status as a person would tell it.
pub fn told(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut innermost = None;
    while let Some(error) = cause {
        innermost = Some(error.to_string());
        cause = error.source();
    }
    innermost.unwrap_or_else(|| status.message().to_owned())
}
