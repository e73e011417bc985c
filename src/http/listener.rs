//! Accepting: from a bound port to requests in the router.
//!
//! Owns what a connection may cost: a handshake and a first request are due within 10 s, headers within
//! 10 s each time, and a connection on which nothing was asked for two minutes ends, so that a peer that
//! neither speaks nor reads holds nothing for long; a stream keeps it as long as its client takes what it is sent. There are at most as many connections as the limit of
//! open files bears; one more is closed at once. An `accept` that fails for want of files backs off instead
//! of spinning. Stopping takes no more connections and lets the requests under way end, within a bound.
//!
//! Refuses to know what a request says. A connection that was upgraded is no longer here: its new owner
//! holds its [`Slot`].

mod activity;
mod handover;
mod tcp;

pub use activity::{Held, Lifeline};
pub use handover::{Handover, Raw};
pub use tcp::Tcp;

use super::tls::Certificates;
use activity::Activity;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use handover::{Handed, Handing};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::SockRef;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// A TLS handshake, a request's headers and a connection's first request are each due within so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection ends when nothing was asked on it for so long; no answer takes longer, but for streams.
const IDLE: Duration = Duration::from_secs(120);
/// Connections that may wait to be accepted; the system has a bound of its own, too.
const BACKLOG: i32 = 4096;
/// The first and the longest pause after an `accept` that failed.
const BACKOFF: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
/// The whole of a request's headers has at most so many bytes.
const HEADER_BYTES: usize = 32 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 128;

/// The other end of a connection; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub addr: SocketAddr,
    /// Whether it came under TLS.
    pub tls: bool,
}

/// A connection's place among those that are allowed; an extension of every request. Who upgrades a
/// connection holds it for as long as the connection lives.
#[derive(Clone, Debug)]
pub struct Slot(
    #[expect(dead_code, reason = "held, never read: dropping it frees the place")] Arc<OwnedSemaphorePermit>,
);

/// A port that requests come in on.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<Certificates>>,
    router: Router,
    slots: Arc<Semaphore>,
}

impl Listener {
    /// Takes over a bound listener; `connections` at once, sockets included.
    ///
    /// # Errors
    /// The listener cannot be used by the runtime.
    pub fn new(
        tcp: std::net::TcpListener,
        tls: Option<Arc<Certificates>>,
        router: Router,
        connections: usize,
    ) -> io::Result<Self> {
        tcp.set_nonblocking(true)?;
        // Thousands come back at once when a node was restarted; the default queue holds 128 of them.
        SockRef::from(&tcp).listen(BACKLOG)?;
        let slots = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Ok(Self { tcp: TcpListener::from_std(tcp)?, tls, router, slots })
    }

    /// Accepts until `stop`, then lets what is under way end, `grace` long at most.
    pub async fn serve(self, stop: impl Future<Output = ()>, grace: Duration) {
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        let mut accepting = Accepting::default();
        loop {
            tokio::select! {
                () = &mut stop => break,
                // Reaped as they end, so that the set does not grow.
                Some(_) = connections.join_next() => {}
                accepted = accepting.next(&self.tcp) => {
                    let (tcp, addr) = accepted;
                    let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() else {
                        accepting.note_full();
                        continue;
                    };
                    let connection = Connection {
                        peer: Peer { addr, tls: self.tls.is_some() },
                        slot: Slot(Arc::new(permit)),
                        router: self.router.clone(),
                        activity: Arc::new(Activity::begin()),
                        stopped: stopped.clone(),
                    };
                    connections.spawn(connection.run(tcp, self.tls.as_ref().map(|tls| tls.current())));
                }
            }
        }
        drop(self.tcp);
        stopping.send_replace(true);
        let ended = timeout(grace, async { while connections.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!(connections = connections.len(), "requests did not end in time and were cut off");
            connections.shutdown().await;
        }
    }
}

/// The loop's memory between two connections.
#[derive(Default)]
struct Accepting {
    pause: Option<Duration>,
    told_full: Option<Instant>,
}

impl Accepting {
    /// The next connection. Cancelling loses none: a pause that was begun is begun anew.
    async fn next(&mut self, tcp: &TcpListener) -> (TcpStream, SocketAddr) {
        loop {
            if let Some(pause) = self.pause {
                sleep(pause).await;
            }
            match tcp.accept().await {
                Ok(accepted) => {
                    self.pause = None;
                    return accepted;
                }
                // It went away before it was taken: nothing is wrong here.
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    let pause = self.pause.map_or(BACKOFF[0], |pause| (pause * 2).min(BACKOFF[1]));
                    tracing::error!(%error, ?pause, "cannot accept connections");
                    self.pause = Some(pause);
                }
            }
        }
    }

    /// Says that connections are turned away, once a while.
    fn note_full(&mut self) {
        if self.told_full.is_none_or(|told| told.elapsed() > PATIENCE) {
            self.told_full = Some(Instant::now());
            tracing::warn!("as many connections as the limit of open files bears; more are closed at once");
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | TimedOut)
}

/// One connection, until it ends or is upgraded, or an answer without an end has it to itself.
struct Connection {
    peer: Peer,
    slot: Slot,
    router: Router,
    activity: Arc<Activity>,
    stopped: watch::Receiver<bool>,
}

impl Connection {
    async fn run(mut self, tcp: TcpStream, tls: Option<Arc<rustls::ServerConfig>>) {
        // A small frame must not wait for the acknowledgement of the one before.
        if tcp.set_nodelay(true).is_err() {
            return;
        }
        let tcp = Arc::new(tcp);
        let left = tcp::left(tcp.clone(), self.activity.clone());
        let Some(config) = tls else {
            let (_slot, stopped) = (self.slot.clone(), self.stopped.clone());
            // Boxed: what hyper holds is given back when an answer leaves it.
            if let Some(handed) = Box::pin(self.serve(TokioIo::new(Tcp(tcp.clone())), left)).await {
                handed.run(tcp, stopped).await;
            }
            return;
        };
        let handshake = timeout(PATIENCE, TlsAcceptor::from(config).accept(Tcp(tcp)));
        let secured = tokio::select! {
            secured = handshake => secured,
            _ = self.stopped.wait_for(|stopped| *stopped) => return,
        };
        match secured {
            Ok(Ok(stream)) => {
                // Nothing leaves it here.
                let _ = Box::pin(self.serve(TokioIo::new(stream), left)).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, peer = %self.peer.addr, "handshake failed"),
            Err(_) => tracing::debug!(peer = %self.peer.addr, "handshake took too long"),
        }
    }

    /// Answers requests, until the connection ends, or is upgraded, or an answer leaves it.
    async fn serve<I: Read + Write + Unpin + Send + 'static>(
        self,
        io: I,
        left: impl Future<Output = ()>,
    ) -> Option<Handed> {
        let Self { peer, slot, router, activity, mut stopped } = self;
        let asked = Lifeline(Arc::clone(&activity));
        let (handing, mut handed) = oneshot::channel();
        let handing: Handing = Arc::new(Mutex::new(Some(handing)));
        let service = service_fn(move |mut request: Request<Incoming>| {
            asked.0.note_request();
            request.extensions_mut().insert(asked.clone());
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(slot.clone());
            let (handing, answer) = (handing.clone(), router.clone().oneshot(request.map(Body::new)));
            async move { Ok::<_, Infallible>(handover::hand(&handing, answer.await?).await) }
        });
        let builder = builder();
        let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
        let (mut left, mut stopping_at) = (pin!(left), None);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(error, peer = %peer.addr, "connection failed");
                    }
                    return None;
                }
                Ok(handed) = &mut handed => return Some(handed),
                _ = stopped.wait_for(|stopped| *stopped), if stopping_at.is_none() => {
                    stopping_at = Some(Instant::now());
                    connection.as_mut().graceful_shutdown();
                }
                () = left.as_mut() => return None,
                () = sleep_until(activity.deadline(stopping_at)) => {
                    if activity.deadline(stopping_at) <= Instant::now() {
                        return None;
                    }
                }
            }
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEADER_BYTES)
        // A client that has sent all it will may still read its answer.
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES as u32)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(PATIENCE);
    builder
}

#[cfg(test)]
mod tests;
