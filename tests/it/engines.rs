//! What the tests of the engines stand on: servers that can be broken, and the proxy that breaks the way to
//! them. Were these not as they say, a test on them would pass for nothing.

mod cql;
mod proxy;
mod redis;

use crate::harness::soon;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// A client of Redis that says and hears lines.
struct Lines(BufStream<TcpStream>);

impl Lines {
    async fn to(address: &str) -> io::Result<Self> {
        Ok(Self(BufStream::new(soon("a connection", TcpStream::connect(address)).await?)))
    }

    async fn say(&mut self, command: &str) -> io::Result<()> {
        self.0.write_all(format!("{command}\r\n").as_bytes()).await?;
        self.0.flush().await
    }

    /// The next line; an error where the connection ended or was reset.
    async fn hear(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match soon("a line or the end", self.0.read_line(&mut line)).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    async fn ask(&mut self, command: &str) -> io::Result<String> {
        self.say(command).await?;
        self.hear().await
    }

    /// Whether nothing is heard for a while.
    async fn hears_nothing(&mut self) -> bool {
        let mut line = String::new();
        tokio::time::timeout(A_WHILE, self.0.read_line(&mut line)).await.is_err()
    }
}

/// Long enough for an answer on loopback to arrive, if it were to.
const A_WHILE: Duration = Duration::from_millis(300);
