//! `/posts`, `/posts/{id}`, `/posts/batch`, `/users/{id}/posts`: what people say. A post is checked in
//! `model::post` and made by its author's actor; here is what it looks like on the wire.

use super::Edge;
use super::body::{Fields, FromFields, Payload};
use super::path::Id;
use super::problem::{Document, Problem};
use super::query::ListQuery;
use crate::model::id::{PostId, UserId};
use crate::model::post::{Post, PostView};
use crate::model::timestamp::Timestamp;
use crate::model::user::Caller;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::collections::HashSet;
use utoipa::ToSchema;

/// A batch asks for at most so many posts.
const MAX_BATCH: usize = 100;
/// An idempotency key has at most so many characters.
const MAX_KEY: usize = 128;

/// A post to be made.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPost, example = json!({"content": "Hello, world"}))]
pub(super) struct PostBody {
    /// 1 to 280 characters as stored: CR LF becomes LF, the ends are trimmed, NFC is applied. Control
    /// characters other than line feed, and those that turn the direction of text, are refused.
    content: String,
}

/// Posts to be read.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Batch, example = json!({"post_ids": ["019b8a7e-7c00-7000-8000-000000000001"]}))]
pub(super) struct BatchBody {
    /// 1 to 100 ids; one that is there twice counts once.
    #[schema(min_items = 1, max_items = 100, value_type = Vec<Uuid>)]
    post_ids: Vec<PostId>,
}

/// A post.
#[derive(Serialize, ToSchema)]
#[schema(as = Post, example = json!({"id": "019b8a7e-7c01-7000-8000-000000000001", "user_id": "019b8a7e-7c00-7000-8000-00000000000a", "content": "Hello, world", "likes_count": 0, "created_at": "2026-01-03T00:00:00.123Z"}))]
pub(super) struct PostShown<'a> {
    #[schema(value_type = Uuid)]
    id: PostId,
    #[schema(value_type = Uuid)]
    user_id: UserId,
    content: &'a str,
    likes_count: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A post as the caller sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = PostView, example = json!({"id": "019b8a7e-7c01-7000-8000-000000000001", "user_id": "019b8a7e-7c00-7000-8000-00000000000a", "content": "Hello, world", "likes_count": 0, "created_at": "2026-01-03T00:00:00.123Z", "author": {"id": "019b8a7e-7c00-7000-8000-00000000000a", "username": "ada"}, "is_liked": false}))]
pub(super) struct ViewShown<'a> {
    #[serde(flatten)]
    post: PostShown<'a>,
    author: AuthorShown<'a>,
    /// Whether the caller likes it.
    is_liked: bool,
}

/// Who wrote a post.
#[derive(Serialize, ToSchema)]
#[schema(as = Author)]
pub(super) struct AuthorShown<'a> {
    #[schema(value_type = Uuid)]
    id: UserId,
    /// The name now.
    username: &'a str,
}

/// Some posts.
#[derive(Serialize, ToSchema)]
#[schema(as = Posts, example = json!({"posts": [{"id": "019b8a7e-7c01-7000-8000-000000000001", "user_id": "019b8a7e-7c00-7000-8000-00000000000a", "content": "Hello, world", "likes_count": 0, "created_at": "2026-01-03T00:00:00.123Z", "author": {"id": "019b8a7e-7c00-7000-8000-00000000000a", "username": "ada"}, "is_liked": false}], "not_found": []}))]
pub(super) struct BatchShown<'a> {
    /// Those that are there, in the order they were asked for.
    posts: Vec<ViewShown<'a>>,
    /// Those that are not.
    #[schema(value_type = Vec<Uuid>)]
    not_found: &'a [PostId],
}

/// A page of an author's posts.
#[derive(Serialize, ToSchema)]
#[schema(as = PostPage, example = json!({"posts": [{"id": "019b8a7e-7c01-7000-8000-000000000001", "user_id": "019b8a7e-7c00-7000-8000-00000000000a", "content": "Hello, world", "likes_count": 0, "created_at": "2026-01-03T00:00:00.123Z", "author": {"id": "019b8a7e-7c00-7000-8000-00000000000a", "username": "ada"}, "is_liked": false}], "total": 1, "next_cursor": null}))]
pub(super) struct PageShown<'a> {
    /// Newest first.
    posts: Vec<ViewShown<'a>>,
    /// How many there are in all.
    total: u64,
    /// Where the list goes on; null at its end.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Post.
///
/// Answered when it is durable; it reaches every connected follower within 3 s. With an `Idempotency-Key`,
/// kept 24 hours, it is safe to send again: the same key and body get the same answer.
#[utoipa::path(post, path = "/posts", tag = "posts", operation_id = "publish",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 128 visible ASCII characters", example = "0b9d6f3e")),
    request_body = PostBody,
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 201, description = "The post", body = PostShown,
            headers(("Location" = String, description = "The path of the post"))),
        (status = 400, description = "The content or the key breaks its rule", body = Document),
        (status = 422, description = "The key was used with another body", body = Document),
        (status = 429, description = "More than 10 posts a minute", body = Document),
    ))]
pub(super) async fn publish(
    State(edge): State<Edge>,
    caller: Caller,
    Key(key): Key,
    Payload { value: body, digest }: Payload<PostBody>,
) -> Result<Response, Problem> {
    let post = edge.services.publish.publish(&caller, &body.content, key, digest).await?;
    let location = format!("/posts/{}", post.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(PostShown::of(&post))).into_response())
}

/// Read a post.
#[utoipa::path(get, path = "/posts/{id}", tag = "posts", operation_id = "readPost",
    params(("id" = Uuid, Path, description = "The post")),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "The post", body = ViewShown),
        (status = 400, description = "The id is no UUID", body = Document),
        (status = 404, description = "There is no such post, or no longer", body = Document),
    ))]
pub(super) async fn post(
    State(edge): State<Edge>,
    caller: Caller,
    Id(post): Id<PostId>,
) -> Result<Response, Problem> {
    let view = edge.services.publish.post(&caller, post).await?;
    Ok(Json(ViewShown::of(&view)).into_response())
}

/// Delete one's post.
///
/// It disappears from every timeline; connected followers hear of it.
#[utoipa::path(delete, path = "/posts/{id}", tag = "posts", operation_id = "deletePost",
    params(("id" = Uuid, Path, description = "The post")),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 400, description = "The id is no UUID", body = Document),
        (status = 403, description = "The post is somebody else's", body = Document),
        (status = 404, description = "There is no such post, or no longer", body = Document),
    ))]
pub(super) async fn delete(
    State(edge): State<Edge>,
    caller: Caller,
    Id(post): Id<PostId>,
) -> Result<StatusCode, Problem> {
    edge.services.publish.delete(&caller, post).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read several posts.
#[utoipa::path(post, path = "/posts/batch", tag = "posts", operation_id = "readPosts",
    request_body = BatchBody,
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "Those that are there, and the ids of those that are not", body = BatchShown),
        (status = 400, description = "No ids, more than 100, or one that is no UUID", body = Document),
    ))]
pub(super) async fn batch(
    State(edge): State<Edge>,
    caller: Caller,
    Payload { value: body, .. }: Payload<BatchBody>,
) -> Result<Response, Problem> {
    let (posts, not_found) = edge.services.publish.posts(&caller, body.post_ids).await?;
    Ok(Json(BatchShown { posts: ViewShown::all(&posts), not_found: &not_found }).into_response())
}

/// Read a user's posts.
#[utoipa::path(get, path = "/users/{id}/posts", tag = "posts", operation_id = "readUserPosts",
    params(
        ("id" = Uuid, Path, description = "The author"),
        ("limit" = Option<u32>, Query, description = "At most so many, 20 if not given", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "A page, newest first", body = PageShown),
        (status = 400, description = "The id or a parameter breaks its rule", body = Document),
        (status = 404, description = "There is no such user", body = Document),
    ))]
pub(super) async fn by_author(
    State(edge): State<Edge>,
    caller: Caller,
    Id(author): Id<UserId>,
    ListQuery(page): ListQuery,
) -> Result<Response, Problem> {
    let page = edge.services.publish.by_author(&caller, author, page).await?;
    let shown = PageShown {
        posts: ViewShown::all(&page.items),
        total: page.total,
        next_cursor: page.next.map(|cursor| cursor.to_string()),
    };
    Ok(Json(shown).into_response())
}

/// The header `Idempotency-Key`, if it was sent.
pub(super) struct Key(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut given = parts.headers.get_all("idempotency-key").iter();
        let Some(key) = given.next() else { return Ok(Self(None)) };
        let fits = (1..=MAX_KEY).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic);
        match key.to_str() {
            Ok(key) if fits && given.next().is_none() => Ok(Self(Some(key.to_owned()))),
            _ => Err(Problem::field(
                "Idempotency-Key",
                "must be one value of 1 to 128 visible ASCII characters",
            )),
        }
    }
}

impl FromFields for PostBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self { content: fields.text("content")? })
    }
}

impl FromFields for BatchBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let mut post_ids: Vec<PostId> =
            fields.list("post_ids", "must be a UUID", |text| text.parse().ok())?;
        if !(1..=MAX_BATCH).contains(&post_ids.len()) {
            return fields.refuse("post_ids", "must hold 1 to 100 ids");
        }
        let mut seen = HashSet::new();
        post_ids.retain(|id| seen.insert(*id));
        Some(Self { post_ids })
    }
}

impl<'a> PostShown<'a> {
    fn of(post: &'a Post) -> Self {
        Self {
            id: post.id,
            user_id: post.author,
            content: post.content.as_str(),
            likes_count: post.likes,
            created_at: post.created_at,
        }
    }
}

impl<'a> ViewShown<'a> {
    /// What is shown of a post to the one it was read for.
    pub(super) fn of(view: &'a PostView) -> Self {
        Self {
            post: PostShown::of(&view.post),
            author: AuthorShown { id: view.post.author, username: &view.author_name },
            is_liked: view.is_liked,
        }
    }

    /// The same of several.
    pub(super) fn all(views: &'a [PostView]) -> Vec<Self> {
        views.iter().map(Self::of).collect()
    }
}
