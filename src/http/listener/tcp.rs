//! A connection's socket, shared between who speaks on it and who watches whether its client is still there.

use super::activity::Activity;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// Between two looks at a client that has sent what nobody reads yet.
const LOOK: Duration = Duration::from_secs(1);

/// A socket that several own; one of them reads and writes.
#[derive(Debug)]
pub struct Tcp(pub Arc<TcpStream>);

impl AsyncRead for Tcp {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            // What a buffer has beyond what is read is not touched: zeroes would make its memory resident.
            match self.0.try_read_buf(into) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(context, |tcp| tcp.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |tcp| tcp.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write))
    }
}

impl Tcp {
    fn write(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

/// Ends when the client of a stream has ended its side. Whoever waits for an answer may do that and still read; who
/// listens to a stream is gone then, and what is written to it would be taken by nobody.
pub(super) async fn left(tcp: Arc<TcpStream>, activity: Arc<Activity>) {
    loop {
        activity.stream_begins().await;
        // Boxed: most connections have no streams.
        Box::pin(read_end(&tcp)).await;
        if activity.has_streams() {
            return;
        }
    }
}

async fn read_end(tcp: &TcpStream) {
    while tcp.peek(&mut [0]).await.is_ok_and(|bytes| bytes > 0) {
        // The end may stand behind bytes that nobody reads now.
        if tcp.ready(Interest::READABLE).await.is_ok_and(|ready| ready.is_read_closed()) {
            return;
        }
        sleep(LOOK).await;
    }
}
