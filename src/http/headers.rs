//! What every request gets on its way in and every answer on its way out.
//!
//! Owns the request's id, its span and its metrics; turns problems and panics into documents; says
//! `nosniff`, and `no-store` where a handler said nothing of caching; lets named origins call (CORS) and
//! no others; sends calls of another role away.

use super::problem::{Code, Problem};
use super::{Edge, Settings};
use crate::config::Role;
use crate::telemetry::{metric, request_span, trace_id_of};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument;

/// Carries the request's id, both ways.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a browser may keep what it was told about an origin.
const CORS_AGE: Duration = Duration::from_secs(3600);

/// The id of a request: the client's own if it sent a sane one, else made here.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// The outermost layer: everything within runs in the request's span.
pub async fn dress(mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let traceparent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let trace_id = trace_id_of(traceparent);
    let method = known_method(request.method());
    let path = request.uri().path().to_owned();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str).to_owned();
    // The path alone: a query may hold a token.
    let span = request_span(&id, trace_id, method, &route);
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));

    let mut answer = next.run(request).instrument(span.clone()).await;
    if let Some(problem) = answer.extensions_mut().remove::<Problem>() {
        span.in_scope(|| log_fault(&problem));
        answer = problem.finish(answer, &path, &trace_id.to_string());
    }
    put_headers(answer.headers_mut(), &id);

    let status = answer.status().as_u16();
    let took = began.elapsed();
    span.in_scope(|| tracing::debug!(status, took_ms = took.as_secs_f64() * 1e3, "answered"));
    metrics::counter!(
        metric::HTTP_REQUESTS,
        "route" => route.clone(), "method" => method, "status" => status.to_string()
    )
    .increment(1);
    metrics::histogram!(metric::HTTP_REQUEST_SECONDS, "route" => route).record(took);
    answer
}

/// A fault is logged here, once, with what the answer does not tell; that something is not to be had now
/// is no fault of this request's.
fn log_fault(problem: &Problem) {
    let (code, cause) = (problem.code().name(), problem.cause().unwrap_or_default());
    match problem.code().status() {
        StatusCode::SERVICE_UNAVAILABLE => tracing::warn!(code, "request not served"),
        status if status.is_server_error() => tracing::error!(code, cause, "request failed"),
        _ => {}
    }
}

/// Sends calls away that nodes of another role take.
pub async fn check_role(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    if is_taken_by(edge.settings.serves, request.uri().path()) {
        next.run(request).await
    } else {
        Problem::new(Code::WrongRole).into_response()
    }
}

/// Whether nodes of a role take calls of a path; how a node is, its keys, its description and the page of a room all tell.
fn is_taken_by(role: Role, path: &str) -> bool {
    match path {
        "/metrics" | "/health" | "/openapi.json" | "/.well-known/jwks.json" => true,
        path if path.starts_with("/health/") || path.starts_with("/rooms/") => true,
        "/ws" | "/ws/rooms" | "/api/chat/stream" => role != Role::Api,
        path if path.starts_with("/ws/rooms/") => role != Role::Api,
        path if path.starts_with("/api/rooms/") && path.ends_with("/stream") => role != Role::Api,
        _ => role != Role::Realtime,
    }
}

/// Lets pages of the named origins call; none where none are named.
#[must_use]
pub fn cors(settings: &Settings) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = settings
        .allowed_origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin.trim_end_matches('/')).ok())
        .collect();
    if origins.is_empty() {
        return None;
    }
    let idempotency_key = HeaderName::from_static("idempotency-key");
    let traceparent = HeaderName::from_static("traceparent");
    // What an EventSource made of fetch sends when it comes back.
    let last_event_id = HeaderName::from_static("last-event-id");
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, idempotency_key, traceparent, last_event_id, REQUEST_ID])
        .expose_headers([LOCATION, RETRY_AFTER, REQUEST_ID])
        .allow_credentials(true)
        .max_age(CORS_AGE);
    Some(layer)
}

/// A handler that panicked is a 500 like any other.
#[must_use]
pub fn panicked(payload: Box<dyn Any + Send>) -> Response {
    let said = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let said = said.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
    Problem::internal(format!("panic: {said}")).into_response()
}

/// A path that is not there.
pub async fn no_such_path() -> Problem {
    Problem::new(Code::NotFound).because("There is no such path")
}

/// A method that a path does not take. `Allow` is put in by the router, which knows those that it does;
/// `OPTIONS` asks for just that.
pub async fn no_such_method(method: Method) -> Response {
    match method {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => Problem::new(Code::MethodNotAllowed).into_response(),
    }
}

fn put_headers(headers: &mut HeaderMap, id: &str) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
}

/// An id is taken over if it cannot harm a log: up to 64 of `[A-Za-z0-9._-]`.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let is_sane = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(is_sane);
    given.map_or_else(|| uuid::Uuid::now_v7().to_string().into(), Into::into)
}

/// A method as a label: those that anybody may invent are one.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::{is_taken_by, request_id};
    use crate::config::Role;
    use axum::http::{HeaderMap, HeaderValue};

    #[test]
    fn a_sane_request_id_is_taken_over_and_no_other() {
        let check = |id: &str, taken: bool| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_str(id).unwrap());
            assert_eq!(&*request_id(&headers) == id, taken, "{id}");
        };
        check("a-B_3.x", true);
        check(&"x".repeat(64), true);
        check(&"x".repeat(65), false);
        check("", false);
        check("a b", false);
        check("a\"b", false);
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[test]
    fn a_node_takes_the_calls_of_its_role_and_what_all_take() {
        for path in
            ["/health", "/health/ready", "/metrics", "/openapi.json", "/.well-known/jwks.json", "/rooms/1"]
        {
            for role in [Role::All, Role::Api, Role::Realtime] {
                assert!(is_taken_by(role, path), "{path}");
            }
        }
        for (path, api, realtime) in [
            ("/ws", false, true),
            ("/api/chat/stream", false, true),
            ("/ws/rooms", false, true),
            ("/ws/rooms/01ARZ3NDEKTSV4RRFFQ69G5FAV", false, true),
            ("/api/rooms/01ARZ3NDEKTSV4RRFFQ69G5FAV/stream", false, true),
            ("/api/rooms/01ARZ3NDEKTSV4RRFFQ69G5FAV/events", true, false),
            ("/api/rooms", true, false),
            ("/api/chat/send", true, false),
            ("/timeline", true, false),
            ("/posts/1", true, false),
        ] {
            assert!(is_taken_by(Role::All, path));
            assert_eq!(
                (is_taken_by(Role::Api, path), is_taken_by(Role::Realtime, path)),
                (api, realtime),
                "{path}"
            );
        }
    }
}
