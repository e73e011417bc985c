//! A TCP proxy that fails as a network does: it delays, stalls, cuts, and loses answers to requests that the
//! server took. It knows no protocol; one proxy is the way to one upstream address.

use super::engines::lasting_port;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Chunks on their way in one direction of a connection; then its sender has to wait.
const ON_THE_WAY: usize = 64;

/// What a proxy does to its connections, those that are open too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Pass,
    /// Requests go through, answers do not. A connection that has lost one loses all that follow, and is
    /// reset so long after the first.
    LoseAnswers { cut_after: Duration },
    /// The next answer, on whatever connection, is lost, and that connection reset; then it is `Pass`.
    LoseOneAnswer,
    /// Connections are taken, but nothing passes either way.
    Stall,
    /// What clients say does not arrive; answers do.
    StallRequests,
    /// What the server says does not arrive; requests do.
    StallAnswers,
    /// Everything comes so much later, each way.
    Delay(Duration),
    /// Every connection is reset, new ones are refused.
    Cut,
}

/// A proxy; dropped, it ends with all its connections.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: watch::Receiver<bool>,
    serving: JoinHandle<()>,
}

struct Shared {
    upstream: Mutex<String>,
    mode: watch::Sender<Mode>,
    answers_lost: AtomicU64,
}

impl FaultProxy {
    /// A proxy to `host:port` that lets everything pass, on a port of its own.
    pub async fn to(upstream: &str) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, lasting_port(&[Ipv4Addr::LOCALHOST])));
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream.to_owned()),
            mode: watch::Sender::new(Mode::Pass),
            answers_lost: AtomicU64::new(0),
        });
        let (listens, listening) = watch::channel(true);
        let serving = tokio::spawn(serve(listener, address, Arc::clone(&shared), listens));
        Self { address, shared, listening, serving }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does.
    pub fn mode(&self) -> Mode {
        *self.shared.mode.borrow()
    }

    /// From here on it does this: when `Cut` is answered all connections are reset, when another mode is, new
    /// ones are taken.
    pub async fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
        let mut listening = self.listening.clone();
        let in_force = listening.wait_for(|listening| *listening == (mode != Mode::Cut)).await;
        in_force.expect("the proxy runs");
    }

    /// New connections go to this `host:port` from here on; those that are open stay.
    pub fn leads_to(&self, upstream: &str) {
        *self.shared.upstream.lock().expect("the upstream") = upstream.to_owned();
    }

    /// Connections whose answers were lost.
    pub fn answers_lost(&self) -> u64 {
        self.shared.answers_lost.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    listens: watch::Sender<bool>,
) {
    let mut mode = shared.mode.subscribe();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let Some(open) = &listener else {
            // Each resets itself.
            while connections.join_next().await.is_some() {}
            listens.send_replace(false);
            mode.wait_for(|mode| *mode != Mode::Cut).await.expect("the sender is here too");
            listener = Some(TcpListener::bind(address).await.expect("the port is still free"));
            listens.send_replace(true);
            continue;
        };
        tokio::select! {
            biased;
            _ = mode.wait_for(|mode| *mode == Mode::Cut) => listener = None,
            accepted = open.accept() => {
                let (client, _) = accepted.expect("it listens");
                connections.spawn(connection(client, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One client's way there and back, to its end.
async fn connection(mut client: TcpStream, shared: Arc<Shared>) {
    let mut mode = shared.mode.subscribe();
    let upstream = shared.upstream.lock().expect("the upstream").clone();
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        return reset(&client);
    };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let both_ways = async {
        tokio::try_join!(requests(from_client, to_server, &shared), answers(from_server, to_client, &shared))
    };
    let ended = tokio::select! {
        ended = both_ways => ended,
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => Err(io::ErrorKind::ConnectionReset.into()),
    };
    if ended.is_err() {
        reset(&client);
        reset(&server);
    }
}

/// Has a connection end by a reset when it is dropped, whatever was on its way.
fn reset(stream: &TcpStream) {
    // It may be gone already.
    let _ = stream.set_zero_linger();
}

/// A chunk and when it may be written; none is at once.
type Chunk = (Option<Instant>, Vec<u8>);

async fn requests(from: ReadHalf<'_>, mut to: WriteHalf<'_>, shared: &Shared) -> io::Result<()> {
    let (put, mut way) = mpsc::channel(ON_THE_WAY);
    let write = async {
        while let Some(chunk) = next(&mut way, shared, Mode::StallRequests).await {
            to.write_all(&chunk).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read(from, put, shared), write).map(|_| ())
}

async fn answers(from: ReadHalf<'_>, mut to: WriteHalf<'_>, shared: &Shared) -> io::Result<()> {
    let (put, mut way) = mpsc::channel(ON_THE_WAY);
    let write = async {
        while let Some(chunk) = next(&mut way, shared, Mode::StallAnswers).await {
            if let Some(cut_after) = shared.loses_an_answer() {
                let swallow_the_rest = async { while way.recv().await.is_some() {} };
                // However it ends, there is nothing more to be said to this client.
                let _ = tokio::time::timeout(cut_after, swallow_the_rest).await;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            to.write_all(&chunk).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read(from, put, shared), write).map(|_| ())
}

async fn read(mut from: ReadHalf<'_>, put: mpsc::Sender<Chunk>, shared: &Shared) -> io::Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(16 * 1024);
        if from.read_buf(&mut chunk).await? == 0 {
            return Ok(());
        }
        let due = match *shared.mode.borrow() {
            Mode::Delay(by) => Some(Instant::now() + by),
            _ => None,
        };
        if put.send((due, chunk)).await.is_err() {
            return Ok(());
        }
    }
}

/// The next chunk, when it may be written; `stall` is what keeps back this direction alone.
async fn next(way: &mut mpsc::Receiver<Chunk>, shared: &Shared, stall: Mode) -> Option<Vec<u8>> {
    let (due, chunk) = way.recv().await?;
    if let Some(due) = due {
        sleep_until(due).await;
    }
    shared.mode.subscribe().wait_for(|mode| *mode != Mode::Stall && *mode != stall).await.ok()?;
    Some(chunk)
}

impl Shared {
    /// Whether this answer is lost, and for how long its connection stays.
    fn loses_an_answer(&self) -> Option<Duration> {
        let mut cut_after = None;
        self.mode.send_if_modified(|mode| {
            match *mode {
                Mode::LoseOneAnswer => {
                    cut_after = Some(Duration::ZERO);
                    *mode = Mode::Pass;
                    return true;
                }
                Mode::LoseAnswers { cut_after: after } => cut_after = Some(after),
                _ => {}
            }
            false
        });
        if cut_after.is_some() {
            self.answers_lost.fetch_add(1, Ordering::SeqCst);
        }
        cut_after
    }
}
