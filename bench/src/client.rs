//! REST calls over one kept-alive HTTP/1.1 connection each.
//!
//! A `Caller` is one client with one request under way at a time. It connects anew when the
//! connection was closed; it sends nothing twice by itself, since a post sent twice would be counted twice.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::{Error, Result};

/// Longer than the longest answer that the contract allows (10 s).
const PATIENCE: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The JSON of an answer with this status; any other is an error that names the call.
    pub fn json<T: DeserializeOwned>(&self, status: u16, call: &str) -> Result<T> {
        if self.status != status {
            return Err(Error::Answer {
                call: call.to_owned(),
                status: self.status,
                body: start_of(&self.body),
            });
        }
        serde_json::from_slice(&self.body).map_err(|error| Error::Call {
            call: call.to_owned(),
            reason: format!("{error} in {}", start_of(&self.body)),
        })
    }
}

/// A client with one connection.
#[derive(Debug)]
pub struct Caller {
    server: SocketAddr,
    host: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Caller {
    /// A client that connects at its first call.
    pub fn new(server: SocketAddr) -> Self {
        Self { server, host: server.to_string(), sender: None }
    }

    /// Calls and reads the whole answer, whatever its status.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<String>,
    ) -> Result<Answer> {
        self.call_once(method, path, token, body, None).await
    }

    /// Likewise, under an idempotency key: what was not answered may be sent again.
    pub async fn call_once(
        &mut self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<String>,
        key: Option<&str>,
    ) -> Result<Answer> {
        let answer = timeout(PATIENCE, self.exchange(&method, path, token, body, key)).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(reason)) => {
                self.sender = None;
                Err(call_error(&method, path, reason))
            }
            Err(_) => {
                self.sender = None;
                Err(call_error(&method, path, format!("no answer within {PATIENCE:?}")))
            }
        }
    }

    /// Calls and reads the JSON of an answer with this status; any other is an error.
    pub async fn expect<T: DeserializeOwned>(
        &mut self,
        status: u16,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<String>,
    ) -> Result<T> {
        let call = format!("{method} {path}");
        self.call(method, path, token, body).await?.json(status, &call)
    }

    async fn exchange(
        &mut self,
        method: &Method,
        path: &str,
        token: Option<&str>,
        body: Option<String>,
        key: Option<&str>,
    ) -> std::result::Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.host);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| error.to_string())?;
        let sender = self.connected().await?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Answer { status, body })
    }

    async fn connected(&mut self) -> std::result::Result<&mut SendRequest<Full<Bytes>>, String> {
        let alive = match self.sender.as_mut() {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !alive {
            let stream = TcpStream::connect(self.server).await.map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            let (sender, connection) =
                handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
            // Its errors come to the sender as well.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().ok_or_else(|| "not connected".to_owned())
    }
}

/// The start of a body, for a message.
pub fn start_of(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned()
}

fn call_error(method: &Method, path: &str, reason: String) -> Error {
    Error::Call { call: format!("{method} {path}"), reason }
}
