//! The floor: the least that any server must do for the same deliveries.
//!
//! Bare tokio sockets with a task each, fed by one channel, in a process of its own: no HTTP, no
//! upgrade, no store, no actors. It writes exactly the bytes that Roost writes, WebSocket header
//! included; of chat streams the same answer's head, and the same blocks, to one conversation's sockets after the
//! other's. What Roost's CPU is divided by is this process's.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::board::{Mark, content, now, replace_mark};
use crate::error::{Error, Result, io_error};
use crate::events::replace_message;
use crate::frame;
use crate::process::{Process, Usage};

/// Frames that may wait for a socket; one that falls further behind loses, which the listeners see.
const BACKLOG: usize = 8_192;

/// The floor as the scenario holds it: a child process and its two pipes.
#[derive(Debug)]
pub struct Floor {
    process: Process,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Floor {
    /// Starts our own executable as the floor of sockets.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, &["floor-server".to_owned()])
    }

    /// Starts it as the floor of chat streams, which answers with this head; they are dealt to so many conversations.
    pub fn start_streams(folder: &Path, head: &str, conversations: usize) -> Result<Self> {
        let conversations = conversations.to_string();
        let arguments = ["floor-server", "--head", head, "--groups", &conversations];
        Self::start_with(folder, &arguments.map(str::to_owned))
    }

    fn start_with(folder: &Path, arguments: &[String]) -> Result<Self> {
        let program = std::env::current_exe().map_err(io_error("our own executable"))?;
        let log = folder.join("floor.log");
        let mut process = Process::start(&program, arguments, &[], &log, true)?;
        let Some((orders, answers)) = process.pipes() else {
            return Err(process.failed("has no pipes"));
        };
        let mut floor = Self {
            process,
            orders,
            answers: BufReader::new(answers),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        floor.address = floor.answer()?.parse().map_err(|_| floor.process.failed("named no address"))?;
        Ok(floor)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }

    /// Publishes to this many sockets, and returns when the last frame is on its way. This blocks the
    /// calling thread, on which nothing else runs meanwhile.
    pub fn publish(&mut self, order: &Order) -> Result<()> {
        let line = serde_json::to_string(order).unwrap_or_default();
        writeln!(self.orders, "{line}").map_err(io_error("ordering the floor"))?;
        match self.answer()?.as_str() {
            "published" => Ok(()),
            other => Err(self.process.failed(format!("answered {other:?}"))),
        }
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(io_error("hearing the floor"))?;
        Ok(line.trim_end().to_owned())
    }
}

/// What kind of floor it is.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The head with which it answers each request; without one there are no requests, and what it sends are frames.
    #[arg(long)]
    head: Option<String>,
    /// Groups to which sockets are dealt; a post goes to one of them, in turn.
    #[arg(long, default_value_t = 1)]
    groups: usize,
}

/// What the floor is to publish.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Order {
    /// Sockets to wait for before the first post.
    pub sockets: usize,
    /// Posts a second.
    pub rate: f64,
    /// How many posts.
    pub posts: u32,
    /// The first post's number.
    pub first: u32,
    /// A post's frame, of which only the mark is replaced; or an event's block, of which only the message is.
    pub text: String,
}

/// A frame of the contract's shape, for a floor that is run without Roost.
pub fn frame_by_contract() -> String {
    let content = content(Mark { sent_at: 0, number: 0 });
    format!(
        r#"{{"type":"newPost","data":{{"id":"019b8f0a-7c00-7000-8000-000000000001","user_id":"019b8f0a-7c00-7000-8000-000000000002","content":"{content}","author":{{"id":"019b8f0a-7c00-7000-8000-000000000002","username":"author-0"}},"likes_count":0,"created_at":"2026-01-03T00:00:00.123Z"}},"cursor":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}"#
    )
}

/// The process itself: prints its address, then obeys one order a line until its input ends.
pub async fn serve(arguments: &Arguments) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(io_error("listening"))?;
    println!("{}", listener.local_addr().map_err(io_error("listening"))?);
    let groups: Vec<_> = (0..arguments.groups.max(1)).map(|_| broadcast::channel(BACKLOG).0).collect();
    let (seated, mut seats) = watch::channel(0_usize);
    let head = arguments.head.clone().map(Bytes::from);
    tokio::spawn(accept(listener, groups.clone(), head, seated));
    let mut orders = read_orders();
    while let Some(order) = orders.recv().await {
        seats
            .wait_for(|seats| *seats >= order.sockets)
            .await
            .map_err(|_| Error::Refused("the floor stopped accepting".to_owned()))?;
        publish(&order, &groups, arguments.head.is_some()).await;
        println!("published");
    }
    Ok(())
}

async fn accept(
    listener: TcpListener,
    groups: Vec<broadcast::Sender<Bytes>>,
    head: Option<Bytes>,
    seated: watch::Sender<usize>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        if stream.set_nodelay(true).is_ok() {
            let group = &groups[*seated.borrow() % groups.len()];
            tokio::spawn(write(stream, head.clone(), group.subscribe()));
            seated.send_modify(|seats| *seats += 1);
        }
    }
}

async fn write(mut stream: TcpStream, head: Option<Bytes>, mut frames: broadcast::Receiver<Bytes>) {
    if let Some(head) = head
        && answer(&mut stream, &head).await.is_err()
    {
        return;
    }
    // Behind by more than the backlog, or gone: either way the listener hears nothing more from here,
    // and the scenario counts what is lost.
    while let Ok(frame) = frames.recv().await {
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Reads a request, whatever it asks for, and answers with the head.
async fn answer(stream: &mut TcpStream, head: &[u8]) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(1024);
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    stream.write_all(head).await
}

async fn publish(order: &Order, groups: &[broadcast::Sender<Bytes>], of_streams: bool) {
    let start = Instant::now();
    let mut text = order.text.clone().into_bytes();
    for (turn, group) in (0..order.posts).zip(groups.iter().cycle()) {
        sleep_until(start + Duration::from_secs_f64(f64::from(turn) / order.rate)).await;
        let number = order.first + turn;
        let bytes = if of_streams {
            replace_message(&mut text, Uuid::from_u128(number.into()));
            text.clone()
        } else {
            replace_mark(&mut text, Mark { sent_at: now(), number });
            frame::text(&text)
        };
        // Nobody subscribed is nobody connected.
        let _sent = group.send(Bytes::from(bytes));
    }
}

/// Orders come over standard input, which tokio reads with a thread anyway.
fn read_orders() -> mpsc::UnboundedReceiver<Order> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
            match serde_json::from_str(&line) {
                Ok(order) => {
                    if sender.send(order).is_err() {
                        return;
                    }
                }
                Err(error) => eprintln!("not an order: {error}"),
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::frame_by_contract;
    use crate::board::{Mark, find_mark};

    #[test]
    fn the_frame_is_json_and_carries_a_mark() {
        let text = frame_by_contract();
        let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(frame["type"], "newPost");
        assert_eq!(find_mark(text.as_bytes()), Some(Mark { sent_at: 0, number: 0 }));
    }
}
