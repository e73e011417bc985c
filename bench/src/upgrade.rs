//! The way in: a TCP connection from a chosen source address and, for a WebSocket, the upgrade
//! (RFC 6455, section 4.1), for a chat stream the request, by hand, so that the plain stream stays ours to read.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::client::start_of;
use crate::error::{Error, Result, io_error};

const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_HEAD: usize = 16 * 1024;

/// The example of RFC 6455, section 1.3: a nonce that need not be secret, and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a listener connects to.
#[derive(Debug)]
pub enum Door {
    /// A server that sends frames at once, without any upgrade.
    Bare,
    /// `GET /ws` with this access token.
    WebSocket {
        /// The token.
        token: String,
    },
    /// `GET /ws/rooms/{room}` with this access token.
    Host {
        /// The token.
        token: String,
        /// The room's id.
        room: String,
    },
    /// `GET /api/chat/stream` with this access token.
    Stream {
        /// The token.
        token: String,
    },
}

/// Connects and upgrades. Gives the stream and what was read behind the upgrade's answer.
pub async fn enter(
    server: SocketAddr,
    source: Ipv4Addr,
    door: &Door,
    cursor: Option<&str>,
) -> Result<(TcpStream, Vec<u8>)> {
    let entering = async {
        let mut stream = connect(server, source).await.map_err(io_error("connecting a listener"))?;
        let rest = match door {
            Door::Bare => Vec::new(),
            Door::WebSocket { token } => upgrade(&mut stream, server, "/ws", token, cursor).await?,
            Door::Host { token, room } => {
                upgrade(&mut stream, server, &format!("/ws/rooms/{room}"), token, None).await?
            }
            Door::Stream { token } => open_stream(&mut stream, server, token).await?.1,
        };
        Ok((stream, rest))
    };
    timeout(PATIENCE, entering).await.map_err(|_| Error::Waited(format!("an upgrade, {PATIENCE:?}")))?
}

/// The head of a chat stream's answer.
pub async fn stream_head(server: SocketAddr, token: &str) -> Result<String> {
    let opening = async {
        let mut stream = connect(server, Ipv4Addr::LOCALHOST).await.map_err(io_error("connecting"))?;
        open_stream(&mut stream, server, token).await
    };
    let opened = timeout(PATIENCE, opening).await;
    let (head, _) = opened.map_err(|_| Error::Waited(format!("a stream, {PATIENCE:?}")))??;
    Ok(head)
}

async fn connect(server: SocketAddr, source: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn upgrade(
    stream: &mut TcpStream,
    server: SocketAddr,
    path: &str,
    token: &str,
    cursor: Option<&str>,
) -> Result<Vec<u8>> {
    let call = format!("GET {path}");
    let query = cursor.map_or_else(String::new, |cursor| format!("?cursor={}", escape(cursor)));
    let request = format!(
        "{call}{query} HTTP/1.1\r\nHost: {server}\r\nAuthorization: Bearer {token}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    let (head, rest) = ask(stream, &call, &request).await?;
    if status_of(&head) != Some(101) || !head.contains(ACCEPT) {
        return Err(refused(&call, &head, &rest));
    }
    Ok(rest)
}

async fn open_stream(stream: &mut TcpStream, server: SocketAddr, token: &str) -> Result<(String, Vec<u8>)> {
    let call = "GET /api/chat/stream";
    let request = format!(
        "{call} HTTP/1.1\r\nHost: {server}\r\nAuthorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n"
    );
    let (head, rest) = ask(stream, call, &request).await?;
    if status_of(&head) != Some(200) || !head.contains("connection: close") {
        return Err(refused(call, &head, &rest));
    }
    Ok((head, rest))
}

/// Sends a request without body and reads its answer's head; gives what was read behind that too.
async fn ask(stream: &mut TcpStream, call: &str, request: &str) -> Result<(String, Vec<u8>)> {
    stream.write_all(request.as_bytes()).await.map_err(io_error(call))?;
    let mut answer = Vec::with_capacity(1024);
    loop {
        if let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            let rest = answer.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&answer).into_owned(), rest));
        }
        let read = stream.read_buf(&mut answer).await.map_err(io_error(call))?;
        if read == 0 || answer.len() > LONGEST_HEAD {
            return Err(refused(call, "", &answer));
        }
    }
}

fn status_of(head: &str) -> Option<u16> {
    head.split(' ').nth(1).and_then(|status| status.parse().ok())
}

fn refused(call: &str, head: &str, rest: &[u8]) -> Error {
    let body = format!("{head}{}", start_of(rest));
    Error::Answer {
        call: call.to_owned(),
        status: status_of(head).unwrap_or(0),
        body: start_of(body.as_bytes()),
    }
}

/// Percent-encoding for a query's value (RFC 3986, section 2.3).
pub fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _written = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn a_cursor_of_any_alphabet_fits_a_query() {
        assert_eq!(escape("aZ09-._~"), "aZ09-._~");
        assert_eq!(escape("a+b/c="), "a%2Bb%2Fc%3D");
    }
}
