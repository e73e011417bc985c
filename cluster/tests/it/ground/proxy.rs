//! A TCP proxy that fails as a network does. It knows no protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What it does, to connections that are open too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Pass,
    /// Nothing passes, either way.
    Stall,
    /// Nothing passes to whoever dialled.
    StallAnswers,
    /// Everything comes so much later, each way.
    Delay(Duration),
    /// Every connection is reset, new ones at once.
    Cut,
}

/// A proxy to one address; dropped, it ends.
pub struct Proxy {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub async fn to(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let mode = watch::Sender::new(Mode::Pass);
        let mut tasks = JoinSet::new();
        let modes = mode.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let upstream = Arc::new(upstream);
            loop {
                let (client, _) = listener.accept().await.expect("it listens");
                connections.spawn(connection(client, Arc::clone(&upstream), modes.subscribe()));
            }
        });
        Self { address, mode, _tasks: tasks }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn connection(client: TcpStream, upstream: Arc<String>, mut mode: watch::Receiver<Mode>) {
    // Dropped before all was read, or by this, it is reset.
    let _ = client.set_zero_linger();
    if *mode.borrow() == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(upstream.as_str()).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true), server.set_zero_linger());
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let there = pass(from_client, to_server, mode.clone(), |mode| mode == Mode::Stall);
    let back =
        pass(from_server, to_client, mode.clone(), |mode| matches!(mode, Mode::Stall | Mode::StallAnswers));
    tokio::select! {
        () = there => {}
        () = back => {}
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    stalls: impl Fn(Mode) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(read) = from.read(&mut buffer).await else { return };
        if read == 0 || mode.wait_for(|mode| !stalls(*mode)).await.is_err() {
            return;
        }
        let now = *mode.borrow();
        if let Mode::Delay(delay) = now {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
