//! `/health/live`, `/health/ready`, `/health`, `/metrics`: how the node is, for those who run it. They
//! need no token, take no limit and are answered by every role.

use super::Edge;
use super::problem::{Code, Document, Problem};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};

/// The text format of Prometheus.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Who knows how the node is. Answers at once, from what is known: a probe waits for nothing.
pub trait HealthSource: Send + Sync {
    /// Whether the node should be sent requests.
    ///
    /// # Errors
    /// Why not, in words for an operator: it is draining, its storage does not answer.
    fn ready(&self) -> Result<(), &'static str>;

    /// `{status, dependencies, actors, node, version, role}`.
    fn report(&self) -> Value;
}

/// The metrics alone, for an address of their own.
pub fn metrics_router(metrics: PrometheusHandle) -> Router {
    Router::new().route("/metrics", get(move || async move { render(&metrics) }))
}

/// Whether the process answers at all.
#[utoipa::path(get, path = "/health/live", tag = "operation", operation_id = "live",
    responses((status = 200, description = "It does", body = Object, example = json!({"status": "ok"}))))]
pub(super) async fn live() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Whether the node should be sent requests.
#[utoipa::path(get, path = "/health/ready", tag = "operation", operation_id = "ready",
    responses(
        (status = 200, description = "It should", body = Object, example = json!({"status": "ready"})),
        (status = 503, description = "It is draining, or its storage does not answer", body = Document),
    ))]
pub(super) async fn ready(State(edge): State<Edge>) -> Result<Json<Value>, Problem> {
    match edge.health.ready() {
        Ok(()) => Ok(Json(json!({"status": "ready"}))),
        Err(why) => Err(Problem::new(Code::NotReady).because(why)),
    }
}

/// The state of the node and of each dependency.
///
/// Always 200: `status` tells how it is; `/health/ready` tells it by status code.
#[utoipa::path(get, path = "/health", tag = "operation", operation_id = "health",
    responses((status = 200, description = "How it is: `ok`, `degraded` or `unavailable`", body = Object, example = json!({
        "status": "ok",
        "dependencies": {
            "store": {"state": "ok", "circuit": "closed", "read_circuit": "closed"},
            "redis": {"state": "ok", "circuit": "closed"},
        },
        "actors": {"node": 1, "session": 12, "author": 3, "relay": 4, "courier": 1},
        "node": "roost", "version": "0.1.0", "role": "all",
    }))))]
pub(super) async fn health(State(edge): State<Edge>) -> Json<Value> {
    Json(edge.health.report())
}

/// The metrics, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operation", operation_id = "metrics",
    responses(
        (status = 200, description = "The metrics", body = String, content_type = "text/plain; version=0.0.4"),
        (status = 404, description = "They are served on an address of their own", body = Document),
    ))]
pub(super) async fn metrics(State(edge): State<Edge>) -> Result<Response, Problem> {
    if !edge.settings.metrics_here {
        let detail = "The metrics are served on an address of their own";
        return Err(Problem::new(Code::NotFound).because(detail));
    }
    Ok(render(&edge.metrics))
}

fn render(metrics: &PrometheusHandle) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], metrics.render()).into_response()
}
