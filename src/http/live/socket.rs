//! The task of one connection: reads the client's frames and drains what a push could not write.
//!
//! It owns the connection's [`Session`], and its [`Inbox`], whose events it puts into the outbox itself. It reads the next frame
//! only when the session has answered the one before, so nothing piles up; a peer that does not read its close frame is dropped
//! after 5 s.

use super::inbox::Inbox;
use super::line::{CLOSING, Line, reason_of};
use super::pulse::Pulse;
use super::wire::{Upgrade, Wrote};
use crate::actors::outbox::Outbox;
use crate::actors::session::{Session, SessionArguments, SessionMsg};
use crate::model::close::Close;
use crate::model::frame::{ClientFrame, FrameError};
use crate::model::timestamp::Timestamp;
use crate::telemetry::metric;
use futures_util::StreamExt;
use ractor::{Actor, ActorRef, RpcReplyPort};
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error;

/// One connection.
pub struct Socket {
    line: Line,
    session: ActorRef<SessionMsg>,
    inbox: Inbox,
    pulse: Pulse,
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
    /// Begins a connection, with its session, which opens `inbox`; `session` makes the session's arguments for an outbox.
    /// `None` where no session can be begun.
    pub async fn open(
        upgrade: Upgrade,
        bounds: Bounds,
        inbox: Inbox,
        session: impl FnOnce(Arc<Outbox>) -> SessionArguments,
    ) -> Option<Self> {
        let line = Line::open(upgrade, bounds).await;
        let arguments = session(line.outbox.clone());
        let world = arguments.world.clone();
        let pulse = Pulse::new(world.heartbeat, world.idle_timeout, arguments.caller.expires_at);
        let (session, _) = Actor::spawn(None, Session, arguments).await.ok()?;
        Some(Self { line, session, inbox, pulse, answer: None, dropped_at: None })
    }

    /// Serves the connection until its end.
    pub async fn run(&mut self) {
        let reason = self.serve().await;
        metrics::counter!(metric::CLOSES, "reason" => reason.reason()).increment(1);
        // Whatever the outbox is told from now on goes nowhere.
        self.line.outbox.close(reason);
        self.line.end().await;
    }

    async fn serve(&mut self) -> Close {
        loop {
            let closing = self.line.outbox.closing().is_some();
            if closing && self.dropped_at.is_none() {
                self.dropped_at = Some(Instant::now() + CLOSING);
            }
            let due = self.dropped_at.unwrap_or_else(|| self.pulse.next());
            self.inbox.note_written(&self.line.outbox);
            let has_room = !closing && self.line.outbox.has_room();
            tokio::select! {
                message = self.line.frames.next(), if self.answer.is_none() && !closing => {
                    if let Some(gone) = self.read(message) {
                        return self.line.outbox.closing().unwrap_or(gone);
                    }
                }
                expires_at = answered(&mut self.answer) => {
                    self.answer = None;
                    match expires_at {
                        Some(moment) => self.pulse.expire_at(moment),
                        // The session ended; if nobody said why, that is our fault.
                        None => self.line.outbox.close(Close::Internal),
                    }
                }
                deliveries = self.inbox.next(), if has_room => self.inbox.tell(&deliveries, &self.line.outbox),
                wrote = self.line.writing.step(&self.line.outbox) => match wrote {
                    Wrote::Some => {}
                    Wrote::Closed(reason) => {
                        self.line.linger().await;
                        return reason;
                    }
                    Wrote::Broken => return self.line.outbox.closing().unwrap_or(Close::Normal),
                },
                () = sleep_until(due) => match self.line.outbox.closing() {
                    Some(reason) if self.dropped_at.is_some_and(|at| at <= Instant::now()) => return reason,
                    Some(_) => {}
                    None => self.pulse.beat(&self.line.outbox),
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
        if counts && self.line.is_too_fast() {
            self.line.outbox.close(Close::TooFast);
            return None;
        }
        match message {
            Message::Text(text) => self.hear(|reply| SessionMsg::Heard(ClientFrame::parse(&text), reply)),
            Message::Binary(_) => self.hear(|reply| SessionMsg::Heard(Err(FrameError::Binary), reply)),
            Message::Pong(_) => self.pulse.answered(),
            Message::Close(_) => self.line.outbox.close(Close::Normal),
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
        let Some(reason) = reason_of(error) else { return Some(Close::Normal) };
        self.line.outbox.close(reason);
        None
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Also where its task panics: the session must not stay behind.
        self.session.stop(None);
        self.line.outbox.close(Close::Internal);
    }
}

async fn answered(answer: &mut Option<Answer>) -> Option<Timestamp> {
    match answer {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}
