//! An answer without an end that goes on without hyper: its head is written here, the rest by whoever made it, on the
//! socket itself.
//!
//! What hyper holds for a connection (buffers of 8 KiB for reading and for writing, the state of its dispatcher) is for
//! requests that follow each other; a stream's connection has no more of them. The answer says `Connection: close` and ends
//! where its connection does (RFC 9112, section 6.3). Over plain HTTP/1.1 alone: under TLS, and on HTTP/2, where a connection
//! is not one answer's, it stays a body. What a client sends meanwhile is read and dropped.

use super::activity::{FAREWELL, STALL};
use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use axum::http::{Method, Response, Version, request};
use std::future::pending;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

/// A client may send so much on a connection that reads nothing any more.
const UNREAD: usize = 64 * 1024;

/// Writes what follows an answer's head, until it ends or the socket does.
type Writer = Box<dyn FnOnce(Raw) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What goes on with the socket: an extension of the answer whose head is written before.
#[derive(Clone)]
pub struct Handover(Arc<Mutex<Option<Writer>>>);

/// A socket that nobody else writes on.
#[derive(Debug)]
pub struct Raw(Arc<TcpStream>);

/// An answer that left hyper: its head, and what goes on.
pub(super) struct Handed {
    head: Vec<u8>,
    writer: Writer,
}

/// Where a connection's answer is put that leaves it.
pub(super) type Handing = Arc<Mutex<Option<oneshot::Sender<Handed>>>>;

impl Handover {
    /// Whether the answer to this request may leave hyper.
    #[must_use]
    pub fn may_follow(request: &request::Parts, tls: bool) -> bool {
        !tls && request.version == Version::HTTP_11 && request.method == Method::GET
    }

    /// With that, once the head is written.
    #[must_use]
    pub fn to<F>(writer: impl FnOnce(Raw) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let writer: Writer = Box::new(|raw| Box::pin(writer(raw)));
        Self(Arc::new(Mutex::new(Some(writer))))
    }
}

impl Raw {
    /// Writes all of it; answers whether that was done. One that takes nothing for 30 s is given up.
    pub async fn write(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match self.0.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Boxed: most writes need no wait.
                    if !Box::pin(timeout(STALL, self.0.writable())).await.is_ok_and(|ready| ready.is_ok()) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }
}

impl Handed {
    /// Writes the answer, until it ends, the client leaves, or the server has stopped for [`FAREWELL`].
    pub(super) async fn run(self, tcp: Arc<TcpStream>, mut stopped: watch::Receiver<bool>) {
        let raw = Raw(tcp.clone());
        if !raw.write(&self.head).await {
            return;
        }
        drop(self.head);
        tokio::select! {
            () = (self.writer)(raw) => {}
            () = left(&tcp) => {}
            // Streams are told before.
            () = async { let _ = stopped.wait_for(|stopped| *stopped).await; sleep(FAREWELL).await } => {}
        }
    }
}

/// Takes an answer that leaves out of hyper's hands; it is answered no more there.
pub(super) async fn hand(handing: &Handing, mut response: Response<Body>) -> Response<Body> {
    let lock = |handover: &Handover| handover.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(writer) = response.extensions_mut().remove::<Handover>().as_ref().and_then(lock) else {
        return response;
    };
    let handing = handing.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(handing) = handing {
        // Where the connection has ended, nobody takes it.
        let _ = handing.send(Handed { head: head(&response), writer });
    }
    pending().await
}

/// The head of an answer that ends with its connection.
fn head(response: &Response<Body>) -> Vec<u8> {
    let status = response.status();
    let mut head = format!(
        "HTTP/1.1 {} {}\r\n{DATE}: {}\r\n{CONNECTION}: close\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or_default(),
        httpdate::fmt_http_date(SystemTime::now()),
    )
    .into_bytes();
    let of_the_connection = [DATE, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];
    for (name, value) in response.headers().iter().filter(|(name, _)| !of_the_connection.contains(name)) {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Ends when the client has ended its side, or sends as if it were read.
async fn left(tcp: &TcpStream) {
    let mut read = 0;
    while read < UNREAD && tcp.readable().await.is_ok() {
        match tcp.try_read(&mut [0; 512]) {
            Ok(0) => return,
            Ok(some) => read += some,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::head;
    use axum::body::Body;
    use axum::http::Response;

    #[test]
    fn a_head_says_that_the_answer_ends_with_its_connection() {
        let response = Response::builder()
            .header("content-type", "text/event-stream")
            .header("content-length", "0")
            .header("x-content-type-options", "nosniff")
            .body(Body::empty())
            .unwrap();
        let head = String::from_utf8(head(&response)).unwrap();
        let mut lines = head.split("\r\n");
        assert_eq!(lines.next(), Some("HTTP/1.1 200 OK"));
        assert!(
            lines.next().is_some_and(|line| line.starts_with("date: ") && line.ends_with(" GMT")),
            "{head}"
        );
        let rest: Vec<&str> = lines.collect();
        let expected = [
            "connection: close",
            "content-type: text/event-stream",
            "x-content-type-options: nosniff",
            "",
            "",
        ];
        assert_eq!(rest, expected);
    }
}
