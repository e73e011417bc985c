//! The task of one connection: reads the client's frames and drains what a push could not write.
//!
//! It owns the connection's [`Session`]. It reads the next frame only when the session has answered the
//! one before, so nothing piles up; a peer that does not read its close frame is dropped after 5 s.

use super::pulse::{Due, Pulse};
use super::wire::{Reading, Upgrade, Writing, Wrote};
use crate::actors::outbox::Outbox;
use crate::actors::session::{Session, SessionArguments, SessionMsg};
use crate::model::close::Close;
use crate::model::frame::{self, ClientFrame, FrameError};
use crate::model::timestamp::Timestamp;
use crate::telemetry::metric;
use futures_util::StreamExt;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use ractor::{Actor, ActorRef, RpcReplyPort};
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The largest message a client may send.
const MESSAGE_BYTES: usize = 16 * 1024;
/// What is read at once; every idle connection has a buffer of this size.
const READ_BYTES: usize = 512;
/// How long a closing connection may take to read what it was sent.
const CLOSING: Duration = Duration::from_secs(5);
/// How long it may take to answer the close frame.
const LINGERING: Duration = Duration::from_secs(2);

/// One connection.
pub struct Socket {
    frames: WebSocketStream<Reading>,
    writing: Writing,
    outbox: Arc<Outbox>,
    session: ActorRef<SessionMsg>,
    pulse: Pulse,
    limiter: Option<Box<DefaultDirectRateLimiter>>,
    /// The session's answer to the frame that was read last.
    answer: Option<Answer>,
    /// When a closing connection is dropped.
    dropped_at: Option<Instant>,
}

type Answer = Pin<Box<dyn Future<Output = Option<Timestamp>> + Send>>;

/// The bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Messages a second, if bounded.
    pub frames_per_second: Option<NonZeroU32>,
    /// Bytes that may wait for a slow reader.
    pub outbox_bytes: usize,
}

impl Socket {
    /// Begins a connection, with its session; `session` makes the session's arguments for an outbox.
    /// `None` where no session can be begun.
    pub async fn open(
        upgrade: Upgrade,
        bounds: Bounds,
        session: impl FnOnce(Arc<Outbox>) -> SessionArguments,
    ) -> Option<Self> {
        let (outbox, reading, writing, rest) = match upgrade {
            Upgrade::Plain(wire, rest) => {
                let outbox = Arc::new(Outbox::new(Some(wire.clone()), bounds.outbox_bytes));
                let reading = Reading::plain(wire.clone(), outbox.clone());
                (outbox, reading, Writing::Plain(wire, false), rest)
            }
            Upgrade::Tls(stream, rest) => {
                let outbox = Arc::new(Outbox::new(None, bounds.outbox_bytes));
                let (read, write) = tokio::io::split(stream);
                let reading = Reading::tls(read, outbox.clone());
                (outbox, reading, Writing::Tls(write, bytes::BytesMut::new()), rest)
            }
        };
        let arguments = session(outbox.clone());
        let world = arguments.world.clone();
        let pulse = Pulse::new(world.heartbeat, world.idle_timeout, arguments.caller.expires_at);
        let (session, _) = Actor::spawn(None, Session, arguments).await.ok()?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        let frames = WebSocketStream::from_partially_read(reading, rest, Role::Server, Some(config)).await;
        let limiter =
            bounds.frames_per_second.map(|most| Box::new(RateLimiter::direct(Quota::per_second(most))));
        Some(Self { frames, writing, outbox, session, pulse, limiter, answer: None, dropped_at: None })
    }

    /// Serves the connection until its end.
    pub async fn run(&mut self) {
        let reason = self.serve().await;
        metrics::counter!(metric::CLOSES, "reason" => reason.reason()).increment(1);
        // Whatever the outbox is told from now on goes nowhere.
        self.outbox.close(reason);
        self.end().await;
    }

    /// Ends the way out; under TLS that waits for a peer that does not read, so it is bounded.
    async fn end(&mut self) {
        let _ = timeout(LINGERING, Box::pin(self.writing.end())).await;
    }

    async fn serve(&mut self) -> Close {
        loop {
            let closing = self.outbox.closing().is_some();
            if closing && self.dropped_at.is_none() {
                self.dropped_at = Some(Instant::now() + CLOSING);
            }
            let due = self.dropped_at.unwrap_or_else(|| self.pulse.next());
            tokio::select! {
                message = self.frames.next(), if self.answer.is_none() && !closing => {
                    if let Some(gone) = self.read(message) {
                        return self.outbox.closing().unwrap_or(gone);
                    }
                }
                expires_at = answered(&mut self.answer) => {
                    self.answer = None;
                    match expires_at {
                        Some(moment) => self.pulse.expire_at(moment),
                        // The session ended; if nobody said why, that is our fault.
                        None => self.outbox.close(Close::Internal),
                    }
                }
                wrote = self.writing.step(&self.outbox) => match wrote {
                    Wrote::Some => {}
                    Wrote::Closed(reason) => {
                        self.linger().await;
                        return reason;
                    }
                    Wrote::Broken => return self.outbox.closing().unwrap_or(Close::Normal),
                },
                () = sleep_until(due) => match self.outbox.closing() {
                    Some(reason) if self.dropped_at.is_some_and(|at| at <= Instant::now()) => return reason,
                    Some(_) => {}
                    None => match self.pulse.due() {
                        Due::Ping => self.outbox.say(frame::ping()),
                        Due::Close(reason) => self.outbox.close(reason),
                        Due::Nothing => {}
                    }
                }
            }
        }
    }

    /// Takes what was read; answers with a reason where the connection is over.
    fn read(&mut self, message: Option<Result<Message, Error>>) -> Option<Close> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return self.broken(&error),
            None => return Some(Close::Normal),
        };
        if matches!(message, Message::Text(_) | Message::Ping(_)) {
            self.pulse.heard();
        }
        let counts = !matches!(message, Message::Pong(_) | Message::Close(_));
        if counts && self.limiter.as_ref().is_some_and(|limiter| limiter.check().is_err()) {
            self.outbox.close(Close::TooFast);
            return None;
        }
        match message {
            Message::Text(text) => self.hear(|reply| SessionMsg::Heard(ClientFrame::parse(&text), reply)),
            Message::Binary(_) => self.hear(|reply| SessionMsg::Heard(Err(FrameError::Binary), reply)),
            Message::Pong(_) => self.pulse.answered(),
            Message::Close(_) => self.outbox.close(Close::Normal),
            // Answered by the library; what it means is the session's.
            Message::Ping(_) => self.hear(SessionMsg::Pinged),
            Message::Frame(_) => {}
        }
        None
    }

    fn hear(&mut self, said: impl FnOnce(RpcReplyPort<Timestamp>) -> SessionMsg) {
        let (reply, answer) = ractor::concurrency::oneshot();
        let sent = self.session.send_message(said(reply.into()));
        self.answer = Some(Box::pin(async move {
            sent.ok()?;
            answer.await.ok()
        }));
    }

    /// A frame that cannot be read ends the connection; answers at once where nobody is there to be told.
    fn broken(&self, error: &Error) -> Option<Close> {
        let reason = match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => Close::TooLarge,
            Error::Utf8(_) => Close::NotUtf8,
            Error::Protocol(_) => Close::Protocol,
            _ => return Some(Close::Normal),
        };
        self.outbox.close(reason);
        None
    }

    /// The close frame is written: waits for the peer's end, forgetting what it still says; to drop the
    /// socket with something unread would take the close frame from it.
    async fn linger(&mut self) {
        self.end().await;
        let reading = self.frames.get_mut();
        let rest = async {
            let mut forgotten = [0; 4096];
            while reading.read(&mut forgotten).await.is_ok_and(|read| read > 0) {}
        };
        // A peer that does not end is dropped.
        let _ = timeout(LINGERING, Box::pin(rest)).await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Also where its task panics: the session must not stay behind.
        self.session.stop(None);
        self.outbox.close(Close::Internal);
    }
}

async fn answered(answer: &mut Option<Answer>) -> Option<Timestamp> {
    match answer {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}
