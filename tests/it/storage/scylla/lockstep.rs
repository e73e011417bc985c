//! A proxy to a CQL node that has requests and answers go in lockstep, and counts the rounds: it holds each answer
//! until every request has its own and the client sends no more.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

/// A client that sends nothing for so long waits for answers.
const QUIET: Duration = Duration::from_millis(40);
/// A frame's head (CQL 4): version, flags, stream (2), kind, length (4).
const HEAD: usize = 9;

/// The proxy; dropped, it ends.
pub struct Lockstep {
    address: SocketAddr,
    steps: Arc<Steps>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Steps {
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Default)]
struct State {
    asked: usize,
    held: Vec<(mpsc::UnboundedSender<Vec<u8>>, Vec<u8>)>,
    rounds: usize,
    /// Counts frames, either way.
    moves: usize,
}

impl Lockstep {
    /// A proxy to `host:port`.
    pub async fn to(upstream: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (steps, upstream) = (Arc::new(Steps::default()), upstream.to_owned());
        let serving = tokio::spawn(serve(listener, upstream, Arc::clone(&steps)));
        Self { address, steps, serving }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many rounds there were.
    pub fn rounds(&self) -> usize {
        self.steps.lock().rounds
    }
}

impl Drop for Lockstep {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Steps {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn on_move(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.moves += 1;
        self.moved.notify_one();
    }

    /// Lets the answers of a round go once it has all of them.
    async fn keep_step(&self) {
        loop {
            self.moved.notified().await;
            loop {
                let before = self.lock().moves;
                tokio::time::sleep(QUIET).await;
                let mut state = self.lock();
                if state.moves == before {
                    if state.asked > 0 && state.held.len() == state.asked {
                        state.rounds += 1;
                        state.asked = 0;
                        for (client, answer) in state.held.drain(..) {
                            let _ = client.send(answer);
                        }
                    }
                    break;
                }
            }
        }
    }
}

async fn serve(listener: TcpListener, upstream: String, steps: Arc<Steps>) {
    let mut connections = tokio::task::JoinSet::new();
    let stepping = Arc::clone(&steps);
    connections.spawn(async move {
        stepping.keep_step().await;
        Ok(())
    });
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(connection(client, upstream.clone(), Arc::clone(&steps)));
    }
}

async fn connection(client: TcpStream, upstream: String, steps: Arc<Steps>) -> Result<()> {
    let server = TcpStream::connect(upstream).await?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (put, mut released) = mpsc::unbounded_channel::<Vec<u8>>();
    let requests = async {
        loop {
            let request = frame(&mut from_client).await?;
            steps.on_move(|state| state.asked += 1);
            to_server.write_all(&request).await?;
        }
    };
    let answers = async {
        loop {
            let answer = frame(&mut from_server).await?;
            // A negative stream: news that nobody asked for.
            if answer[2] & 0x80 != 0 {
                let _ = put.send(answer);
            } else {
                steps.on_move(|state| state.held.push((put.clone(), answer)));
            }
        }
    };
    let told = async {
        while let Some(answer) = released.recv().await {
            to_client.write_all(&answer).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = requests => ended,
        ended = answers => ended,
        ended = told => ended,
    }
}

async fn frame(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let mut frame = vec![0; HEAD];
    from.read_exact(&mut frame).await?;
    let length = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]) as usize;
    frame.resize(HEAD + length, 0);
    from.read_exact(&mut frame[HEAD..]).await?;
    Ok(frame)
}
