//! What operators' commands ask of the cluster through one of its nodes: `/nodes`, `/where`. Only a server that runs
//! answers these; a store that nobody serves has no nodes.

use super::Refusal;
use crate::model::operation::{NodeList, NodeReport, Place, Subject};
use crate::service::cluster::{OperationError, Operations};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;

/// The requests that are answered.
pub fn router(operations: Operations) -> Router {
    Router::new()
        .route("/nodes", get(nodes))
        .route("/nodes/{name}", get(node))
        .route("/nodes/{name}/drain", put(drain).delete(undrain))
        .route("/where/{kind}/{id}", get(place))
        .with_state(operations)
}

struct Failure(StatusCode, String);

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        let status = match error {
            OperationError::NoSuchNode(_) => StatusCode::NOT_FOUND,
            OperationError::OnlyHome(_) => StatusCode::CONFLICT,
            OperationError::Unreached(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(Refusal { error: self.1 })).into_response()
    }
}

async fn nodes(State(operations): State<Operations>) -> Json<NodeList> {
    Json(operations.nodes().await)
}

async fn node(
    State(operations): State<Operations>,
    Path(name): Path<String>,
) -> Result<Json<NodeReport>, Failure> {
    Ok(Json(operations.node(&name).await?))
}

#[derive(Deserialize)]
struct DrainQuery {
    #[serde(default)]
    force: bool,
}

async fn drain(
    State(operations): State<Operations>,
    Path(name): Path<String>,
    Query(DrainQuery { force }): Query<DrainQuery>,
) -> Result<StatusCode, Failure> {
    operations.drain(&name, force).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn undrain(
    State(operations): State<Operations>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    operations.undrain(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn place(
    State(operations): State<Operations>,
    Path((kind, id)): Path<(String, String)>,
) -> Result<Json<Place>, Failure> {
    let subject = Subject::parse(&kind, &id).map_err(|why| Failure(StatusCode::BAD_REQUEST, why))?;
    Ok(Json(operations.place(subject).await))
}
