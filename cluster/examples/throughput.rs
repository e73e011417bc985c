//! How many frames a second go over a link between two processes, beside length-prefixed frames over a plain TCP
//! socket, in the same run; and by how much a sender grows whose peer stands still.
//!
//! ```sh
//! cargo run --release -p roost-cluster --example throughput            # both, and the ratio
//! cargo run --release -p roost-cluster --example throughput -- stopped 60   # a peer that is stopped for 60 s
//! ```

use bytes::{Buf, BytesMut};
use roost_cluster::link::{LinkOptions, Links, SendError, WINDOW};
use roost_cluster::{Boot, Event, Events, Member, Node, NodeName, Secret, State, Timing, ViewRecord};
use std::collections::BTreeMap;
use std::error::Error;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::Instant;

// Both ways by an allocator that keeps what it gave: glibc's gives 64 KiB back to the system and takes them again, which
// then is a third of the time of either process.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const FRAME: usize = 300;
const FRAMES: u64 = 10_000_000;
const ROUNDS: usize = 3;
/// What both sides of the plain socket write and read at once.
const BUFFER: usize = 64 * 1024;

// Two processes on two cores: a thread each, on either way.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["receive", "tcp"] => receive_tcp().await,
        ["receive", "link", sender] => receive_link(sender).await,
        ["link"] => {
            println!("link {:.2} M/s", send_link().await?);
            Ok(())
        }
        ["stopped", seconds] => stopped(Duration::from_secs(seconds.parse()?)).await,
        _ => compare().await,
    }
}

async fn compare() -> Outcome<()> {
    let mut best = (0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        let tcp = send_tcp().await?;
        let link = send_link().await?;
        println!("plain socket {tcp:.2} M/s, link {link:.2} M/s: {:.2}", link / tcp);
        best = (best.0.max(tcp), best.1.max(link));
    }
    println!("best: plain socket {:.2} M/s, link {:.2} M/s, ratio {:.2}", best.0, best.1, best.1 / best.0);
    Ok(())
}

/// This program again, as the receiver; it says where it listens.
async fn receiver(arguments: &[&str]) -> Outcome<(Child, BufReader<tokio::process::ChildStdout>, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("receive")
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut said = BufReader::new(child.stdout.take().ok_or("no output")?);
    let address = line(&mut said).await?;
    Ok((child, said, address))
}

async fn line(said: &mut BufReader<tokio::process::ChildStdout>) -> Outcome<String> {
    let mut line = String::new();
    said.read_line(&mut line).await?;
    Ok(line.trim().to_owned())
}

fn millions_a_second(seconds: f64) -> f64 {
    // Ten million is exact.
    FRAMES as f64 / seconds / 1e6
}

async fn send_tcp() -> Outcome<f64> {
    let (_child, mut said, address) = receiver(&["tcp"]).await?;
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let frame = [7; FRAME];
    let mut buffer = Vec::with_capacity(BUFFER);
    for _ in 0..FRAMES {
        if buffer.len() + 4 + FRAME > BUFFER {
            stream.write_all(&buffer).await?;
            buffer.clear();
        }
        buffer.extend_from_slice(&u32::try_from(FRAME)?.to_be_bytes());
        buffer.extend_from_slice(&frame);
    }
    stream.write_all(&buffer).await?;
    Ok(millions_a_second(line(&mut said).await?.parse()?))
}

async fn receive_tcp() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let (mut stream, _) = listener.accept().await?;
    let mut buffer = BytesMut::with_capacity(BUFFER);
    let (mut count, mut begun) = (0, Instant::now());
    while count < FRAMES {
        buffer.reserve(BUFFER);
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err("too few frames".into());
        }
        if count == 0 {
            begun = Instant::now();
        }
        while let Some(length) = buffer.first_chunk() {
            let length = usize::try_from(u32::from_be_bytes(*length))?;
            if buffer.len() < 4 + length {
                break;
            }
            buffer.advance(4);
            // As with a link: bytes that can be handed on.
            let frame = buffer.split_to(length).freeze();
            count += u64::from(frame.len() == FRAME);
        }
    }
    println!("{}", begun.elapsed().as_secs_f64());
    Ok(())
}

fn node(name: &str) -> Outcome<Node> {
    Ok(Node { name: NodeName::parse(name)?, boot: Boot::new(1) })
}

async fn links(name: &str) -> Outcome<(Links, Events)> {
    let options = LinkOptions {
        me: node(name)?,
        cluster: "throughput".to_owned(),
        secret: Secret::new(b"throughput"),
        tls: None,
        window: WINDOW,
        routes: BTreeMap::new(),
        timing: Timing::default(),
    };
    Ok(Links::start(options, TcpListener::bind("127.0.0.1:0").await?)?)
}

fn know(links: &Links, sender: &str, receiver: &str) -> Outcome<()> {
    let nodes = [(node("a")?, sender.to_owned()), (node("b")?, receiver.to_owned())];
    links.know(&nodes)?;
    let member = |(node, address)| Member { node, address, state: State::Up };
    links.adopt(ViewRecord { number: 1, maker: Boot::new(1), members: nodes.map(member).to_vec() });
    Ok(())
}

async fn send_link() -> Outcome<f64> {
    let (links, _events) = links("a").await?;
    let (_child, mut said, address) = receiver(&["link", &links.address().to_string()]).await?;
    know(&links, &links.address().to_string(), &address)?;
    let (to, frame) = (NodeName::parse("b")?, [7; FRAME]);
    let mut sent = 0;
    while sent < FRAMES {
        match links.send(&to, &frame) {
            Ok(()) => sent += 1,
            Err(SendError::Full) => return Err("it was to wait for room".into()),
            Err(error) => return Err(error.into()),
        }
        // A sender that may wait looks for room now and then, well within the window.
        if sent % 64 == 0 {
            links.room(&to, 64 * (FRAME + 64)).await?;
        }
    }
    Ok(millions_a_second(line(&mut said).await?.parse()?))
}

async fn receive_link(sender: &str) -> Outcome<()> {
    let (links, mut events) = links("b").await?;
    println!("{}", links.address());
    know(&links, sender, &links.address().to_string())?;
    let (mut count, mut begun) = (0, Instant::now());
    while count < FRAMES {
        if let Some(Event::Frame(frame)) = events.next().await {
            if count == 0 {
                begun = Instant::now();
            }
            count += u64::from(frame.bytes.len() == FRAME);
        }
    }
    println!("{}", begun.elapsed().as_secs_f64());
    Ok(())
}

/// The memory of this process, in KiB.
fn resident() -> Outcome<i64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

async fn signal(child: &Child, name: &str) -> Outcome<()> {
    let id = child.id().ok_or("it ended")?.to_string();
    Command::new("kill").args([name, &id]).status().await?;
    Ok(())
}

async fn stopped(long: Duration) -> Outcome<()> {
    let (links, _events) = links("a").await?;
    let (child, _said, address) = receiver(&["link", &links.address().to_string()]).await?;
    know(&links, &links.address().to_string(), &address)?;
    let (to, frame) = (NodeName::parse("b")?, [7; FRAME]);
    for _ in 0..FRAMES / 5 {
        links.room(&to, FRAME).await?;
        links.send(&to, &frame)?;
    }
    let before = resident()?;
    signal(&child, "-STOP").await?;
    let (begun, mut most, mut refused) = (Instant::now(), before, 0_u64);
    while begun.elapsed() < long {
        for _ in 0..1000 {
            refused += u64::from(links.send(&to, &frame).is_err());
        }
        most = most.max(resident()?);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    signal(&child, "-CONT").await?;
    println!("before {before} KiB, at most {most} KiB: {} KiB more; {refused} frames refused", most - before);
    Ok(())
}
