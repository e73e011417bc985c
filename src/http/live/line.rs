//! One WebSocket, whoever is behind it: its frames, its way out, how many frames it takes, and how it ends.

use super::socket::Bounds;
use super::wire::{Reading, Upgrade, Writing};
use crate::actors::outbox::Outbox;
use crate::model::close::Close;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The largest message a client may send.
const MESSAGE_BYTES: usize = 16 * 1024;
/// What is read at once; every idle connection has a buffer of this size.
const READ_BYTES: usize = 512;
/// How long a closing connection may take to read what it was sent.
pub const CLOSING: Duration = Duration::from_secs(5);
/// How long it may take to answer the close frame.
const LINGERING: Duration = Duration::from_secs(2);

/// One WebSocket.
pub struct Line {
    /// What its client says.
    pub frames: WebSocketStream<Reading>,
    /// What a push could not write goes this way.
    pub writing: Writing,
    /// What it is still to be sent.
    pub outbox: Arc<Outbox>,
    limiter: Option<Box<DefaultDirectRateLimiter>>,
}

impl Line {
    /// Begins a connection.
    pub async fn open(upgrade: Upgrade, bounds: Bounds) -> Self {
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
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        let frames = WebSocketStream::from_partially_read(reading, rest, Role::Server, Some(config)).await;
        let limiter =
            bounds.frames_per_second.map(|most| Box::new(RateLimiter::direct(Quota::per_second(most))));
        Self { frames, writing, outbox, limiter }
    }

    /// Whether one more message is one too many.
    #[must_use]
    pub fn is_too_fast(&self) -> bool {
        self.limiter.as_ref().is_some_and(|limiter| limiter.check().is_err())
    }

    /// Ends the way out; under TLS that waits for a peer that does not read, so it is bounded.
    pub async fn end(&mut self) {
        let _ = timeout(LINGERING, Box::pin(self.writing.end())).await;
    }

    /// The close frame is written: waits for the peer's end, forgetting what it still says; to drop the
    /// socket with something unread would take the close frame from it.
    pub async fn linger(&mut self) {
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

/// Why a connection closes whose frame cannot be read; none where nobody is there to be told.
#[must_use]
pub const fn reason_of(error: &Error) -> Option<Close> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(Close::TooLarge),
        Error::Utf8(_) => Some(Close::NotUtf8),
        Error::Protocol(_) => Some(Close::Protocol),
        _ => None,
    }
}
