//! `/users/{id}/follow`, `/followers`, `/following`, `/posts/{id}/likes`: who reads and likes whom.

use super::Edge;
use super::path::Id;
use super::problem::{Document, Problem};
use super::query::ListQuery;
use crate::model::id::{FollowId, LikeId, PostId, UserId};
use crate::model::timestamp::Timestamp;
use crate::model::user::{Caller, Named};
use crate::service::Listing;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// That one user follows another.
#[derive(Serialize, ToSchema)]
#[schema(as = Follow, example = json!({"id": "019b8a7e-7c02-7000-8000-000000000002", "follower_id": "019b8a7e-7c00-7000-8000-00000000000b", "followee_id": "019b8a7e-7c00-7000-8000-00000000000a", "created_at": "2026-01-03T00:00:00.123Z"}))]
pub(super) struct FollowShown {
    #[schema(value_type = Uuid)]
    id: FollowId,
    /// Who reads.
    #[schema(value_type = Uuid)]
    follower_id: UserId,
    /// Who is read.
    #[schema(value_type = Uuid)]
    followee_id: UserId,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// That a user likes a post.
#[derive(Serialize, ToSchema)]
#[schema(as = Like, example = json!({"id": "019b8a7e-7c03-7000-8000-000000000003", "user_id": "019b8a7e-7c00-7000-8000-00000000000a", "post_id": "019b8a7e-7c01-7000-8000-000000000001", "created_at": "2026-01-03T00:00:00.123Z"}))]
pub(super) struct LikeShown {
    #[schema(value_type = Uuid)]
    id: LikeId,
    #[schema(value_type = Uuid)]
    user_id: UserId,
    #[schema(value_type = Uuid)]
    post_id: PostId,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A page of users.
#[derive(Serialize, ToSchema)]
#[schema(as = UserPage, example = json!({"users": [{"id": "019b8a7e-7c00-7000-8000-00000000000a", "username": "ada"}], "total": 1, "next_cursor": null}))]
pub(super) struct UsersShown {
    /// Newest follow first.
    users: Vec<NamedShown>,
    /// How many there are in all.
    total: u64,
    /// Where the list goes on; null at its end.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// A user by id and name.
#[derive(Serialize, ToSchema)]
#[schema(as = NamedUser)]
pub(super) struct NamedShown {
    #[schema(value_type = Uuid)]
    id: UserId,
    /// The name now.
    username: String,
}

/// Follow a user.
///
/// Its newest 20 posts join the caller's timeline, and what it posts from now on.
#[utoipa::path(post, path = "/users/{id}/follow", tag = "social", operation_id = "follow",
    params(("id" = Uuid, Path, description = "Whom to follow")),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 201, description = "The follow", body = FollowShown),
        (status = 400, description = "It is oneself, one follows too many already, or the id is no UUID", body = Document),
        (status = 404, description = "There is no such user", body = Document),
        (status = 409, description = "The user is followed already", body = Document),
    ))]
pub(super) async fn follow(
    State(edge): State<Edge>,
    caller: Caller,
    Id(user): Id<UserId>,
) -> Result<(StatusCode, Json<FollowShown>), Problem> {
    let follow = edge.services.follows.follow(&caller, user).await?;
    let shown = FollowShown {
        id: follow.id,
        follower_id: follow.follower,
        followee_id: follow.followee,
        created_at: follow.created_at,
    };
    Ok((StatusCode::CREATED, Json(shown)))
}

/// Follow a user no longer.
///
/// Its posts leave the caller's timeline.
#[utoipa::path(delete, path = "/users/{id}/follow", tag = "social", operation_id = "unfollow",
    params(("id" = Uuid, Path, description = "Whom to follow no longer")),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 204, description = "It is followed no longer"),
        (status = 400, description = "The id is no UUID", body = Document),
        (status = 404, description = "It was not followed", body = Document),
    ))]
pub(super) async fn unfollow(
    State(edge): State<Edge>,
    caller: Caller,
    Id(user): Id<UserId>,
) -> Result<StatusCode, Problem> {
    edge.services.follows.unfollow(&caller, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read who follows a user.
#[utoipa::path(get, path = "/users/{id}/followers", tag = "social", operation_id = "readFollowers",
    params(
        ("id" = Uuid, Path, description = "Who is followed"),
        ("limit" = Option<u32>, Query, description = "At most so many, 20 if not given", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "A page, newest follow first", body = UsersShown),
        (status = 400, description = "The id or a parameter breaks its rule", body = Document),
        (status = 404, description = "There is no such user", body = Document),
    ))]
pub(super) async fn followers(
    State(edge): State<Edge>,
    caller: Caller,
    Id(user): Id<UserId>,
    ListQuery(page): ListQuery,
) -> Result<Json<UsersShown>, Problem> {
    Ok(Json(edge.services.follows.followers(&caller, user, page).await?.into()))
}

/// Read whom a user follows.
#[utoipa::path(get, path = "/users/{id}/following", tag = "social", operation_id = "readFollowing",
    params(
        ("id" = Uuid, Path, description = "Who follows"),
        ("limit" = Option<u32>, Query, description = "At most so many, 20 if not given", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "A page, newest follow first", body = UsersShown),
        (status = 400, description = "The id or a parameter breaks its rule", body = Document),
        (status = 404, description = "There is no such user", body = Document),
    ))]
pub(super) async fn following(
    State(edge): State<Edge>,
    caller: Caller,
    Id(user): Id<UserId>,
    ListQuery(page): ListQuery,
) -> Result<Json<UsersShown>, Problem> {
    Ok(Json(edge.services.follows.following(&caller, user, page).await?.into()))
}

/// Like a post.
#[utoipa::path(post, path = "/posts/{id}/likes", tag = "social", operation_id = "like",
    params(("id" = Uuid, Path, description = "The post")),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 201, description = "The like", body = LikeShown),
        (status = 400, description = "The id is no UUID", body = Document),
        (status = 404, description = "There is no such post", body = Document),
        (status = 409, description = "The post is liked already", body = Document),
    ))]
pub(super) async fn like(
    State(edge): State<Edge>,
    caller: Caller,
    Id(post): Id<PostId>,
) -> Result<(StatusCode, Json<LikeShown>), Problem> {
    let like = edge.services.likes.like(&caller, post).await?;
    let shown =
        LikeShown { id: like.id, user_id: like.user, post_id: like.post, created_at: like.created_at };
    Ok((StatusCode::CREATED, Json(shown)))
}

/// Like a post no longer.
#[utoipa::path(delete, path = "/posts/{id}/likes", tag = "social", operation_id = "unlike",
    params(("id" = Uuid, Path, description = "The post")),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 204, description = "It is liked no longer"),
        (status = 400, description = "The id is no UUID", body = Document),
        (status = 404, description = "There is no such post, or it was not liked", body = Document),
    ))]
pub(super) async fn unlike(
    State(edge): State<Edge>,
    caller: Caller,
    Id(post): Id<PostId>,
) -> Result<StatusCode, Problem> {
    edge.services.likes.unlike(&caller, post).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<Listing<Named>> for UsersShown {
    fn from(listing: Listing<Named>) -> Self {
        let users = listing.items.into_iter().map(|Named { id, username }| NamedShown { id, username });
        Self {
            users: users.collect(),
            total: listing.total,
            next_cursor: listing.next.map(|cursor| cursor.to_string()),
        }
    }
}
