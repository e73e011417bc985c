//! What nobody read of a request's body.
//!
//! A refusal often comes before the body was read. To close the connection over unread bytes resets it,
//! and the client may lose the very answer; so a short rest is read and forgotten first, to a bound in
//! bytes and time. Who asked whether to send its body at all (`Expect`) has not sent it.

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// Bytes of a rest that are read.
const MAX_BYTES: usize = 1024 * 1024;
/// How long its client may take to send them.
const READ_TIME: Duration = Duration::from_secs(1);

/// The layer: answers once the rest of the body is read, or will not be.
pub async fn forget(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() || request.headers().contains_key(EXPECT) {
        return next.run(request).await;
    }
    let (back, mut returned) = oneshot::channel();
    let lend = |body| Body::new(Lent { body: Some(body), back: Some(back) });
    let answer = next.run(request.map(lend)).await;
    if let Ok(rest) = returned.try_recv() {
        // A client that takes longer may lose its answer.
        let _ = tokio::time::timeout(READ_TIME, read(rest)).await;
    }
    answer
}

async fn read(mut rest: Body) {
    let mut read = 0;
    while read < MAX_BYTES
        && let Some(Ok(frame)) = rest.frame().await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// A body that is given back when whoever reads it has had enough.
struct Lent {
    body: Option<Body>,
    back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.is_end_stream()
            && let (Some(body), Some(back)) = (self.body.take(), self.back.take())
        {
            // Nobody waits for it where the request itself was dropped.
            let _ = back.send(body);
        }
    }
}
