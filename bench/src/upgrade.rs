//! The way in: a TCP connection from a chosen source address and, for a WebSocket, the upgrade
//! (RFC 6455, section 4.1) by hand, so that the plain stream stays ours to read.

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
            Door::WebSocket { token } => upgrade(&mut stream, server, token, cursor).await?,
        };
        Ok((stream, rest))
    };
    timeout(PATIENCE, entering).await.map_err(|_| Error::Waited(format!("an upgrade, {PATIENCE:?}")))?
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
    token: &str,
    cursor: Option<&str>,
) -> Result<Vec<u8>> {
    let query = cursor.map_or_else(String::new, |cursor| format!("?cursor={}", escape(cursor)));
    let request = format!(
        "GET /ws{query} HTTP/1.1\r\nHost: {server}\r\nAuthorization: Bearer {token}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(io_error("an upgrade"))?;
    let mut answer = Vec::with_capacity(1024);
    let head = loop {
        if let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            break end + 4;
        }
        let read = stream.read_buf(&mut answer).await.map_err(io_error("an upgrade"))?;
        if read == 0 || answer.len() > LONGEST_HEAD {
            return Err(refused(0, &answer));
        }
    };
    let text = String::from_utf8_lossy(&answer[..head]);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    if status != Some(101) || !text.contains(ACCEPT) {
        return Err(refused(status.unwrap_or(0), &answer));
    }
    Ok(answer.split_off(head))
}

fn refused(status: u16, answer: &[u8]) -> Error {
    Error::Answer { call: "GET /ws".to_owned(), status, body: start_of(answer) }
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
