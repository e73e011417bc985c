//! `/timeline`: what the caller reads.

use super::Edge;
use super::posts::ViewShown;
use super::problem::{Document, Problem};
use super::query::TimelineQuery;
use crate::model::timestamp::Timestamp;
use crate::model::user::Caller;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// A page of a timeline.
#[derive(Serialize, ToSchema)]
#[schema(as = TimelinePage, example = json!({"posts": [{"id": "019b8a7e-7c01-7000-8000-000000000001", "user_id": "019b8a7e-7c00-7000-8000-00000000000a", "content": "Hello, world", "likes_count": 0, "created_at": "2026-01-03T00:00:00.123Z", "author": {"id": "019b8a7e-7c00-7000-8000-00000000000a", "username": "ada"}, "is_liked": false}], "total": 1, "limit": 20, "next_cursor": null}))]
pub(super) struct TimelineShown<'a> {
    /// Newest first.
    posts: Vec<ViewShown<'a>>,
    /// How many entries it has, 800 at most.
    #[schema(maximum = 800)]
    total: u64,
    /// How many were asked for.
    limit: usize,
    /// Where it goes on; null at its end.
    #[schema(required)]
    next_cursor: Option<String>,
    /// When the page was read, if it comes from the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    cached_at: Option<Timestamp>,
}

/// Read one's timeline.
///
/// The newest 800 posts of the last 30 days by oneself and those whom one follows, newest first. Walking
/// with cursors while posts come and go shows every entry that was there throughout exactly once; with
/// offsets it may not.
#[utoipa::path(get, path = "/timeline", tag = "timeline", operation_id = "readTimeline",
    params(
        ("limit" = Option<u32>, Query, description = "At most so many, 20 if not given", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
        ("offset" = Option<u32>, Query, description = "Leaves out the newest so many; not together with `cursor`", minimum = 0),
    ),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "A page", body = TimelineShown),
        (status = 400, description = "A parameter breaks its rule", body = Document),
    ))]
pub(super) async fn read(
    State(edge): State<Edge>,
    caller: Caller,
    TimelineQuery(wanted): TimelineQuery,
) -> Result<Response, Problem> {
    let page = edge.services.timeline.page(&caller, wanted).await?;
    let shown = TimelineShown {
        posts: ViewShown::all(&page.posts),
        total: page.total,
        limit: wanted.limit,
        next_cursor: page.next.map(|cursor| cursor.to_string()),
        cached_at: page.cached_at,
    };
    Ok(Json(shown).into_response())
}
