//! The audience: many listeners read by few threads, as cheaply as a client can.
//!
//! Each thread (an `Ear`) runs its own single-threaded runtime and reads into one buffer; a socket
//! costs a task and a few words. The scenario's own thread only looks on: what publishes must not wait
//! for what reads.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::board::Board;
use crate::error::{Error, Result, io_error};
use crate::listener::{Ended, Heard, Hearing, Listener, Standing, lock};
use crate::progress::Progress;
use crate::receipts::Receipt;
use crate::tally::Tally;
use crate::upgrade::Door;

/// Upgrades under way at once when an audience is seated.
const CONNECTING: usize = 128;

/// All listeners of a scenario.
#[derive(Debug)]
pub struct Audience {
    ears: Vec<Ear>,
    listeners: Vec<Arc<Listener>>,
    board: Arc<Board>,
    deaf: Arc<AtomicBool>,
    keep_cursors: bool,
    ends: Option<UnboundedSender<Ended>>,
}

impl Audience {
    /// Nobody yet, heard by this many threads. Keeping cursors costs a search in each frame.
    pub fn new(threads: usize, board: Arc<Board>, keep_cursors: bool) -> Result<Self> {
        Ok(Self {
            ears: (0..threads.max(1)).map(|_| Ear::start()).collect::<Result<_>>()?,
            listeners: Vec::new(),
            board,
            deaf: Arc::new(AtomicBool::new(false)),
            keep_cursors,
            ends: None,
        })
    }

    /// Tells of every connection that ends, of the listeners added from now on.
    pub fn tell_ends(&mut self) -> UnboundedReceiver<Ended> {
        let (ends, told) = unbounded_channel();
        self.ends = Some(ends);
        told
    }

    /// Adds a listener that is not connected yet.
    pub fn add(&mut self, door: Door) {
        let index = self.listeners.len();
        let ear = &self.ears[index % self.ears.len()];
        let hearing = Hearing {
            heard: Arc::clone(&ear.heard),
            board: Arc::clone(&self.board),
            deaf: Arc::clone(&self.deaf),
            keep_cursors: self.keep_cursors,
            ends: self.ends.clone(),
        };
        self.listeners.push(Arc::new(Listener::new(index, door, hearing)));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Connects one listener, with the last cursor if it has one; it is read from then on.
    pub async fn connect(&self, index: usize, server: SocketAddr) -> Result<()> {
        let listener = Arc::clone(&self.listeners[index]);
        let ear = &self.ears[index % self.ears.len()];
        ear.runtime
            .spawn(listener.connect(server))
            .await
            .map_err(|error| Error::Refused(format!("a listener's task: {error}")))?
    }

    /// Connects the listeners in this range, many at once.
    pub async fn connect_range(
        &self,
        range: Range<usize>,
        server: SocketAddr,
        progress: &Progress,
    ) -> Result<()> {
        let bar = progress.bar("connecting", range.len() as u64);
        stream::iter(range)
            .map(|index| self.connect(index, server))
            .buffer_unordered(CONNECTING)
            .try_for_each(|()| {
                bar.inc(1);
                std::future::ready(Ok(()))
            })
            .await
    }

    /// What was heard, by all threads together.
    pub fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for ear in &self.ears {
            sum.add(&lock(&ear.heard).tally);
        }
        sum
    }

    /// Starts a new tally; who has which post is kept.
    pub fn forget(&self) {
        for ear in &self.ears {
            let mut heard = lock(&ear.heard);
            heard.tally = Tally::default();
            heard.receipts = Vec::new();
        }
    }

    /// The receipts of chat messages since the last [`Audience::forget`], or since they were taken last.
    pub fn take_receipts(&self) -> Vec<Receipt> {
        self.ears.iter().flat_map(|ear| std::mem::take(&mut lock(&ear.heard).receipts)).collect()
    }

    /// While deaf, all that arrives is thrown away unread, as if lost on its way.
    pub fn set_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::SeqCst);
    }

    /// From now on, each listener's [`Standing`] counts the posts of this range.
    pub fn watch(&self, numbers: Range<u32>) {
        for listener in &self.listeners {
            listener.watch(numbers.clone());
        }
    }

    /// Each listener's standing.
    pub fn standings(&self) -> Vec<Standing> {
        self.listeners.iter().map(|listener| listener.standing()).collect()
    }

    /// Waits until the tally says so; an error when `what` has not come by then.
    pub async fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        condition: impl Fn(&Tally) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !condition(&self.tally()) {
            if Instant::now() > deadline {
                return Err(Error::Waited(what.to_owned()));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Waits until so many were delivered, or until nothing more has come for this long.
    pub async fn settle(&self, delivered: u64, patience: Duration) {
        let mut last = (self.tally().delivered, Instant::now());
        while last.0 < delivered && last.1.elapsed() < patience {
            sleep(Duration::from_millis(5)).await;
            let so_far = self.tally().delivered;
            if so_far != last.0 {
                last = (so_far, Instant::now());
            }
        }
    }
}

/// A thread that reads sockets.
#[derive(Debug)]
struct Ear {
    runtime: Handle,
    heard: Arc<Mutex<Heard>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    fn start() -> Result<Self> {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(io_error("a listener's runtime"))?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("ear".to_owned())
            .spawn(move || {
                // Either end of the channel means the same: the audience is gone.
                let _ended = runtime.block_on(stopped);
            })
            .map_err(io_error("a listener's thread"))?;
        Ok(Self { runtime: handle, heard: Arc::default(), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A listener that panicked has said so on standard error.
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::Audience;
    use crate::board::{Board, Mark, content, now};
    use crate::frame::{pong, text};
    use crate::upgrade::Door;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn post(number: u32, cursor: &str) -> Vec<u8> {
        let content = content(Mark { sent_at: now(), number });
        text(
            format!(r#"{{"type":"newPost","data":{{"content":"{content}"}},"cursor":"{cursor}"}}"#)
                .as_bytes(),
        )
    }

    /// Answers an upgrade and gives what was asked for.
    async fn accept(listener: &TcpListener) -> (TcpStream, String) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        (stream, String::from_utf8(head).unwrap())
    }

    #[tokio::test]
    async fn posts_are_counted_once_a_listener_and_pings_are_answered() {
        let (listener, address) = listen().await;
        let board = Arc::new(Board::new(3));
        let mut audience = Audience::new(1, Arc::clone(&board), false).unwrap();
        audience.add(Door::Bare);
        audience.watch(0..3);
        audience.connect(0, address).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();

        board.answered(0, now());
        let mut bytes = Vec::new();
        for number in [0, 2, 1, 2] {
            bytes.extend(post(number, "c"));
        }
        bytes.extend([0x89, 2, b'h', b'i']);
        let (start, end) = bytes.split_at(400);
        server.write_all(start).await.unwrap();
        audience.wait_for("the first post", PATIENCE, |tally| tally.delivered == 1).await.unwrap();
        assert_eq!(audience.standings()[0].missing, 2);
        server.write_all(end).await.unwrap();
        let mut answer = [0; 8];
        server.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer.to_vec(), pong(b"hi"));
        server.write_all(&[0x88, 2, 0x0F, 0xA8]).await.unwrap();
        audience.wait_for("the end", PATIENCE, |tally| tally.ended() == 1).await.unwrap();

        let tally = audience.tally();
        assert_eq!((tally.delivered, tally.repeated, tally.disordered), (3, 1, 1));
        assert_eq!(tally.ends.get("close 4008"), Some(&1));
        assert_eq!(tally.from_send.len(), 3);
        assert!(audience.standings()[0].whole_at.is_some());
        assert_eq!(board.lost(0..3, 1), 0);
    }

    #[tokio::test]
    async fn a_listener_comes_back_with_the_last_cursor_that_it_heard() {
        let (listener, address) = listen().await;
        let mut audience = Audience::new(1, Arc::new(Board::new(2)), true).unwrap();
        audience.add(Door::WebSocket { token: "the-token".to_owned() });

        let (first, (mut server, asked)) = tokio::join!(audience.connect(0, address), accept(&listener));
        first.unwrap();
        assert!(asked.starts_with("GET /ws HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("Authorization: Bearer the-token\r\n"), "{asked}");
        server.write_all(&text(br#"{"type":"connected","data":{},"cursor":"a"}"#)).await.unwrap();
        server.write_all(&post(0, "b+/=")).await.unwrap();
        audience.wait_for("the post", PATIENCE, |tally| tally.delivered == 1).await.unwrap();
        assert_eq!(audience.tally().connected, 1);

        audience.set_deaf(true);
        server.write_all(&post(1, "unheard")).await.unwrap();
        drop(server);
        audience.wait_for("the end", PATIENCE, |tally| tally.ended() == 1).await.unwrap();
        assert_eq!(audience.tally().delivered, 1);
        audience.set_deaf(false);

        let (second, (_server, asked)) = tokio::join!(audience.connect(0, address), accept(&listener));
        second.unwrap();
        assert!(asked.starts_with("GET /ws?cursor=b%2B%2F%3D HTTP/1.1\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn a_refused_upgrade_is_an_error_that_shows_the_answer() {
        let (listener, address) = listen().await;
        let mut audience = Audience::new(1, Arc::new(Board::new(0)), false).unwrap();
        audience.add(Door::WebSocket { token: "spent".to_owned() });
        let refuse = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_u8().await.unwrap();
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\n\r\n{\"code\":\"x\"}").await.unwrap();
            stream
        };
        let (refused, _stream) = tokio::join!(audience.connect(0, address), refuse);
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("GET /ws answered 401"), "{message}");
    }
}
