//! Operators' requests as bytes, for a way that carries no HTTP: the cluster port, where whoever proves that he knows
//! the cluster's secret may ask.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tower::ServiceExt;

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub path: String,
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    /// Its status.
    pub status: u16,
    /// Its body: JSON, or nothing.
    pub body: String,
}

/// Has a router answer a question.
pub async fn answer(router: Router, question: &[u8]) -> Bytes {
    let told = match asked(question) {
        None => refused(StatusCode::BAD_REQUEST, "that is no question"),
        Some(request) => match router.oneshot(request).await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                match answer.into_body().collect().await.map(|body| body.to_bytes()) {
                    Ok(body) => Told { status, body: String::from_utf8_lossy(&body).into_owned() },
                    Err(_) => refused(StatusCode::INTERNAL_SERVER_ERROR, "the answer broke off"),
                }
            }
            Err(never) => match never {},
        },
    };
    // Numbers and texts always have a JSON form.
    serde_json::to_vec(&told).unwrap_or_default().into()
}

fn asked(question: &[u8]) -> Option<Request<Body>> {
    let Question { method, path } = serde_json::from_slice(question).ok()?;
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    Request::builder().method(method).uri(path).body(Body::empty()).ok()
}

fn refused(status: StatusCode, why: &str) -> Told {
    let refusal = super::Refusal { error: why.to_owned() };
    Told { status: status.as_u16(), body: serde_json::to_string(&refusal).unwrap_or_default() }
}
