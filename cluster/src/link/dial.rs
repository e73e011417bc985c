//! Keeps a connection to one peer: dials it where the other does not, again with jitter when that fails or it breaks.
//! A task a peer; ends when the peer is none any more.

use super::Hub;
use super::Tls;
use super::codec::{CONTENT_TYPE, MAX_MESSAGE, Plain, TRAILERS};
use super::converse::{Outward, Rest, converse, outward, told};
use super::handshake::{Dialer, Refusal};
use super::peer::Peer;
use crate::secret::random;
use bytes::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Code, Status, Streaming};

/// Where links are found on a connection.
pub const PATH: &str = "/roost.cluster.v1.Link/Open";
/// What may be on its way without the reader's leave, a stream and a connection.
pub const FLOW: u32 = 4 << 20;
/// The longest frame of HTTP/2.
pub const HTTP_FRAME: u32 = 256 * 1024;
/// What HTTP/2 itself keeps of what is to be written.
pub const HTTP_BUFFER: usize = 512 * 1024;

/// Either kind of connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Keeps the connection for as long as the peer is one.
pub async fn keep(hub: Arc<Hub>, peer: Arc<Peer>) {
    let dials_first = hub.me.name < peer.name;
    let (least, most) = hub.timing.reconnect;
    let mut pause = least;
    let mut last_told = String::new();
    while hub.keeps(&peer) {
        let (is_up, since) = {
            let state = peer.state();
            (state.line.is_some(), state.since)
        };
        // The other is given a while to dial.
        let patience = if dials_first { Duration::ZERO } else { hub.timing.silence / 4 };
        if is_up {
            peer.dial.notified().await;
            continue;
        }
        if let Some(rest) =
            (since + patience).checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())
        {
            // Woken or not: it looks again.
            let _ = timeout(rest, peer.dial.notified()).await;
            continue;
        }
        match dial(&hub, &peer).await {
            Ok(ended) => {
                tracing::info!(peer = %peer.name, why = ended, "the link to {} ended: {ended}", peer.name);
                (pause, last_told) = (least, String::new());
            }
            Err(why) => {
                let why_told = why.to_string();
                if !why.is_passing() && why_told != last_told {
                    let (name, address) = (&peer.name, peer.state().address.clone());
                    tracing::warn!(
                        peer = %name,
                        why = why_told,
                        "there is no link to {name} at {address}: {why_told}"
                    );
                    last_told = why_told;
                }
                if let Refusal::Stranger(node) = &why
                    && *node == peer.node()
                {
                    peer.state().heard = Instant::now();
                }
            }
        }
        // Between half of it and all of it.
        let jitter = random().unwrap_or(0) % 512;
        sleep(pause / 2 + pause / 1024 * u32::try_from(jitter).unwrap_or(0)).await;
        pause = (pause * 2).min(most);
    }
}

/// The task of a connection; ends with whoever made it, with all that it holds.
pub struct Driven(pub JoinHandle<()>);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One connection, to its end; says why it ended, or why it did not come about.
async fn dial(hub: &Arc<Hub>, peer: &Arc<Peer>) -> Result<String, Refusal> {
    let by = Instant::now() + hub.timing.handshake;
    let late = |_| Refusal::Broken("it does not answer".to_owned());
    let (_driven, line, inward) = timeout_at(by, open(hub, peer)).await.map_err(late)??;
    tracing::info!(peer = %peer.name, "there is a link to {}", peer.name);
    Ok(converse(hub, peer, line, inward).await)
}

async fn open(hub: &Arc<Hub>, peer: &Arc<Peer>) -> Result<(Driven, u64, Streaming<Bytes>), Refusal> {
    let address = peer.state().address.clone();
    let mut reached = reach(&address, hub.tls.as_ref()).await?;
    let ours = peer.identity(hub);
    let proof = reached.dialer.prove(&reached.challenge, &hub.secret, &ours)?;
    reached.say.send(proof).await.map_err(gone)?;
    let answer = next(&mut reached.inward).await?;
    let theirs = reached.dialer.check(&answer, &hub.secret, &hub.cluster)?;
    if theirs.node.name != peer.name {
        return Err(Refusal::Unknown(theirs.node));
    }
    let writing = peer.connect(hub, true, &ours, &theirs)?;
    let line = writing.line();
    *reached.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(writing);
    // What follows is the link's.
    drop(reached.say);
    Ok((reached.driven, line, reached.inward))
}

/// Somebody who was dialled and has drawn a challenge; nobody has proved anything yet.
pub struct Reached {
    pub driven: Driven,
    pub dialer: Dialer,
    pub challenge: Bytes,
    pub say: mpsc::Sender<Bytes>,
    pub rest: Rest,
    pub inward: Streaming<Bytes>,
}

/// Dials, and says hello.
pub async fn reach(address: &str, tls: Option<&Tls>) -> Result<Reached, Refusal> {
    let broken = |error: &dyn std::fmt::Display| Refusal::Broken(error.to_string());
    let stream = TcpStream::connect(address).await.map_err(|error| broken(&error))?;
    stream.set_nodelay(true).map_err(|error| broken(&error))?;
    let stream: Box<dyn Io> = match tls {
        None => Box::new(stream),
        Some(tls) => {
            let secured = tls.connector.connect(tls.name.clone(), stream).await;
            Box::new(secured.map_err(|error| broken(&format!("TLS fails: {error}")))?)
        }
    };
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_stream_window_size(FLOW)
        .initial_connection_window_size(FLOW)
        .max_frame_size(HTTP_FRAME)
        .max_send_buf_size(HTTP_BUFFER);
    let (mut requests, connection) =
        http.handshake::<_, Outward>(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let driven = Driven(tokio::spawn(async move {
        // Who reads from it hears of its end, too.
        let _ = connection.await;
    }));
    let (dialer, hello) = Dialer::hello()?;
    let (say, rest, outward) = outward();
    say.send(hello).await.map_err(gone)?;
    let request = http::Request::post(format!("http://{address}{PATH}"))
        .header(CONTENT_TYPE.0, CONTENT_TYPE.1)
        .header(TRAILERS.0, TRAILERS.1)
        .body(outward)
        .map_err(|error| broken(&format!("{address}: {error}")))?;
    let answer = requests.send_request(request).await.map_err(|error| broken(&error))?;
    if let Some(status) = Status::from_header_map(answer.headers()).filter(|status| status.code() != Code::Ok)
    {
        return Err(refused(&status));
    }
    let status = answer.status();
    let mut inward = Streaming::new_response(Plain, answer.into_body(), status, None, Some(MAX_MESSAGE));
    let challenge = next(&mut inward).await?;
    Ok(Reached { driven, dialer, challenge, say, rest, inward })
}

/// The other end is not there any more.
pub fn gone<T>(_: mpsc::error::SendError<T>) -> Refusal {
    Refusal::Broken("it closed the connection".to_owned())
}

/// The next message of a handshake.
pub async fn next(inward: &mut Streaming<Bytes>) -> Result<Bytes, Refusal> {
    match inward.message().await {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(Refusal::Broken("it closed the connection".to_owned())),
        Err(status) => Err(refused(&status)),
    }
}

fn refused(status: &Status) -> Refusal {
    match status.code() {
        // Another service than ours: it speaks HTTP/2, but has no such path.
        Code::Unimplemented | Code::OutOfRange => Refusal::Garbage,
        _ => Refusal::Broken(told(status)),
    }
}
