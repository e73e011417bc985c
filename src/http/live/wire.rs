//! The byte streams below a WebSocket: what is read comes from the socket, what is written goes through
//! the connection's [`Outbox`], so that pushes, pongs and close frames have one order.

use crate::actors::outbox::{Drained, Outbox};
use crate::http::listener::Tcp;
use crate::model::close::Close;
use bytes::{Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Bytes that are handed to TLS at once.
const TLS_CHUNK: usize = 16 * 1024;

/// What an upgraded connection is made of, with the bytes that were read behind the request. They are
/// copied: even empty, they would keep alive the 16 KiB that the request was read into.
pub enum Upgrade {
    /// Bare TCP: relays write to it themselves.
    Plain(Arc<TcpStream>, Vec<u8>),
    /// TLS: only the connection's task writes to it.
    Tls(Box<TlsStream<Tcp>>, Vec<u8>),
}

impl Upgrade {
    /// Takes an upgraded connection apart; `None` where it is of a kind that the listener does not make.
    #[must_use]
    pub fn of(upgraded: Upgraded) -> Option<Self> {
        let upgraded = match downcast::<TokioIo<Tcp>>(upgraded) {
            Ok(parts) => return Some(Self::Plain(parts.io.into_inner().0, parts.read_buf.to_vec())),
            Err(upgraded) => upgraded,
        };
        let parts = downcast::<TokioIo<TlsStream<Tcp>>>(upgraded).ok()?;
        Some(Self::Tls(Box::new(parts.io.into_inner()), parts.read_buf.to_vec()))
    }
}

/// What a WebSocket reads from and answers into.
pub struct Reading {
    source: Source,
    outbox: Arc<Outbox>,
    /// Its answers, while they wait.
    held: Option<Vec<Bytes>>,
}

enum Source {
    Plain(Arc<TcpStream>),
    Tls(ReadHalf<Box<TlsStream<Tcp>>>),
}

/// The way out of an outbox that a push did not empty.
pub enum Writing {
    /// Bare TCP, and whether it was full the last time.
    Plain(Arc<TcpStream>, bool),
    /// TLS, and what it has been handed.
    Tls(WriteHalf<Box<TlsStream<Tcp>>>, BytesMut),
}

/// How far writing got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// Something; there may be more.
    Some,
    /// Everything, and the last was a close frame.
    Closed(Close),
    /// The socket is broken.
    Broken,
}

impl Reading {
    /// Of a bare socket.
    #[must_use]
    pub fn plain(wire: Arc<TcpStream>, outbox: Arc<Outbox>) -> Self {
        Self { source: Source::Plain(wire), outbox, held: None }
    }

    /// Of the reading half of a TLS stream.
    #[must_use]
    pub fn tls(half: ReadHalf<Box<TlsStream<Tcp>>>, outbox: Arc<Outbox>) -> Self {
        Self { source: Source::Tls(half), outbox, held: None }
    }

    /// Answers wait from now on; whoever reads meanwhile bounds how many there are.
    pub fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// They wait no more.
    pub fn release(&mut self) {
        self.held.take().into_iter().flatten().for_each(|answer| self.outbox.say(answer));
    }
}

impl AsyncRead for Reading {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = match &mut self.source {
            Source::Tls(half) => return Pin::new(half).poll_read(context, into),
            Source::Plain(wire) => wire,
        };
        loop {
            std::task::ready!(wire.poll_read_ready(context))?;
            match wire.try_read(into.initialize_unfilled()) {
                Ok(read) => {
                    into.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Reading {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // tungstenite hands over whole frames: pongs, and its answer to a close frame.
        let answer = Bytes::copy_from_slice(bytes);
        match &mut self.held {
            Some(held) => held.push(answer),
            None => self.outbox.say(answer),
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Writing {
    /// Waits until something can be written, and writes it. May be dropped at any await and called anew.
    pub async fn step(&mut self, outbox: &Outbox) -> Wrote {
        match self {
            Self::Plain(wire, full) => {
                if *full {
                    tokio::select! {
                        writable = wire.writable() => if writable.is_err() {
                            return Wrote::Broken;
                        },
                        // Its task then counts the time that it still has.
                        () = outbox.begins_to_close() => {}
                    }
                } else {
                    outbox.waiting().await;
                }
                let drained = outbox.drain();
                *full = drained == Drained::Full;
                match drained {
                    Drained::Closed(reason) => Wrote::Closed(reason),
                    Drained::Broken => Wrote::Broken,
                    Drained::Empty | Drained::Full => Wrote::Some,
                }
            }
            Self::Tls(half, chunk) => {
                let mut closed = None;
                if chunk.is_empty() {
                    outbox.waiting().await;
                    closed = outbox.take_pending(TLS_CHUNK, chunk);
                }
                while !chunk.is_empty() {
                    if half.write_buf(chunk).await.is_err() {
                        return Wrote::Broken;
                    }
                }
                if half.flush().await.is_err() {
                    return Wrote::Broken;
                }
                closed.map_or(Wrote::Some, Wrote::Closed)
            }
        }
    }

    /// Ends the way out, as far as that can be said.
    pub async fn end(&mut self) {
        match self {
            // The peer learns of the end when the last owner drops the socket, or by this.
            Self::Plain(wire, _) => {
                let _ = socket2::SockRef::from(&**wire).shutdown(std::net::Shutdown::Write);
            }
            Self::Tls(half, _) => {
                let _ = half.shutdown().await;
            }
        }
    }
}
