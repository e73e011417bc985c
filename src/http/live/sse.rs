//! How a stream of Server-Sent Events (WHATWG HTML, section 9.2) is answered: its head, and the way by which its blocks go.
//!
//! Pull-based: the next block is asked for when the one before was taken, so a client that reads slowly makes nothing pile up;
//! one that takes nothing at all is ended by the listener. Over plain HTTP/1.1 the stream writes on the socket itself, else it
//! is the answer's body.

use crate::http::listener::{Handover, Lifeline, Peer};
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::unfold;
use std::convert::Infallible;
use std::time::Duration;

/// Where nothing is sent for so long, a comment is, so that proxies do not take it for dead.
pub(super) const QUIET: Duration = Duration::from_secs(15);
/// What is sent then.
pub(super) const COMMENT: &[u8] = b": \n\n";
/// Not to be gathered by a proxy (nginx).
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What a stream shows.
pub(super) trait Blocks: Send + 'static {
    /// The next whole blocks; none at the end. Only called when those before have gone into the connection's buffer, or the
    /// system's.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// Answers a request with them.
pub(super) fn answer(request: &Parts, peer: Peer, lifeline: &Lifeline, mut blocks: impl Blocks) -> Response {
    let mut response = if Handover::may_follow(request, peer.tls) {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Handover::to(async move |socket| {
            while let Some(chunk) = blocks.next().await {
                if !socket.write(&chunk).await {
                    return;
                }
            }
        }));
        response
    } else {
        let body = unfold(Box::new((blocks, lifeline.hold())), async |mut state| {
            let (blocks, held) = &mut *state;
            held.taken();
            let chunk = blocks.next().await?;
            held.offer();
            Some((Ok::<_, Infallible>(chunk), state))
        });
        Response::new(Body::from_stream(body))
    };
    name(response.headers_mut());
    response
}

fn name(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
}
