//! A Redis server of a test's own, which can be stopped, started again (empty) and flushed.

use roost_cluster::RedisOptions;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server; dropped, it is killed.
pub struct Redis {
    port: u16,
    child: Option<Child>,
}

impl Redis {
    pub async fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let mut redis = Self { port, child: None };
        redis.start_again().await;
        redis
    }

    /// Starts it on its port, with nothing in it.
    pub async fn start_again(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]).stdout(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server is installed"));
        super::within("a server", async {
            while self.ask("PING").await.is_none_or(|answer| answer != "+PONG") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ended");
        }
    }

    pub async fn flush(&self) {
        assert_eq!(self.ask("FLUSHALL").await.as_deref(), Some("+OK"));
    }

    /// The answer's first line to a command.
    pub async fn ask(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address()).await.ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await.ok()?;
        let text = String::from_utf8_lossy(&answer[..read]).into_owned();
        text.lines().next().map(str::to_owned)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn options(&self) -> RedisOptions {
        at(&self.address())
    }
}

/// The Redis at this address.
pub fn at(address: &str) -> RedisOptions {
    RedisOptions { url: format!("redis://{address}"), authority: None }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
