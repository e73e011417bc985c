//! Ids in paths. Owns how they are refused: a text that is no UUID is a 400 that names `id`, for a path
//! with such a text in it is not one that could be there later. A room has no other name than its id, which people pass on: what is
//! none names no room (404).

use super::problem::{Code, Problem};
use crate::model::id::RoomId;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use std::str::FromStr;

/// The `{id}` of a path.
#[derive(Clone, Copy, Debug)]
pub struct Id<T>(pub T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let id = text.ok().and_then(|Path(text)| text.parse().ok());
        id.map(Self).ok_or_else(|| Problem::field("id", "must be a UUID"))
    }
}

/// The room that a path names: what is no room's id names none.
#[derive(Clone, Copy, Debug)]
pub struct RoomPath(pub RoomId);

impl<S: Send + Sync> FromRequestParts<S> for RoomPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let id = text.ok().and_then(|Path(text)| text.parse().ok());
        id.map(Self).ok_or_else(|| Problem::new(Code::NotFound).because("there is no such room"))
    }
}
