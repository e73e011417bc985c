//! `/auth/*`, `/users`, `/users/{id}`, the JWKS: who people are. The rules are `service::account`'s; here
//! is what they look like on the wire.

use super::address::Address;
use super::body::{Fields, FromFields, Payload};
use super::path::Id;
use super::problem::{Document, Problem};
use super::query::NameQuery;
use super::{Edge, Settings, cookies, limits};
use crate::model::id::UserId;
use crate::model::secret::Secret;
use crate::model::timestamp::Timestamp;
use crate::model::user::{Caller, Profile, User};
use crate::service::account::Tokens;
use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

/// What is needed to register.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Registration, example = json!({"email": "ada@example.com", "username": "ada", "password": "correct-horse-1"}))]
pub(super) struct RegisterBody {
    /// Unique regardless of case.
    #[schema(format = Email, max_length = 254)]
    email: String,
    /// Unique regardless of case.
    #[schema(pattern = "^[a-zA-Z0-9_-]{3,50}$")]
    username: String,
    /// 8 to 128 characters with a letter, a digit and a symbol.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    password: Secret,
}

/// What is needed to log in.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Login, example = json!({"email": "ada@example.com", "password": "correct-horse-1"}))]
pub(super) struct LoginBody {
    /// The address that was registered.
    #[schema(format = Email)]
    email: String,
    /// Its password.
    #[schema(value_type = String, format = Password)]
    password: Secret,
}

/// What is needed to go on.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RefreshRequest, example = json!({"refresh_token": "q3Jx0Z0eXl5d0Zk1v8o5tS0m1c8oWw2l7mXr9a4b6cE"}))]
pub(super) struct RefreshBody {
    /// The newest refresh token; it can be used once.
    #[schema(value_type = String)]
    refresh_token: Secret,
}

/// A new name.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Rename, example = json!({"username": "ada-lovelace"}))]
pub(super) struct RenameBody {
    /// Unique regardless of case; the old one is free at once.
    #[schema(pattern = "^[a-zA-Z0-9_-]{3,50}$")]
    username: String,
}

/// A user and its first tokens.
#[derive(Serialize, ToSchema)]
#[schema(as = Session, example = json!({"user": {"id": "019b8a7e-7c00-7000-8000-00000000000a", "email": "ada@example.com", "username": "ada", "created_at": "2026-01-03T00:00:00.123Z"}, "token": "eyJhbGciOiJFZERTQSJ9.e30.c2ln", "refresh_token": "q3Jx0Z0eXl5d0Zk1v8o5tS0m1c8oWw2l7mXr9a4b6cE"}))]
pub(super) struct SessionShown {
    user: UserShown,
    /// The access token, a JWT of one hour.
    token: String,
    /// The refresh token, of 30 days, to be used once.
    refresh_token: String,
}

/// The next tokens.
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens, example = json!({"token": "eyJhbGciOiJFZERTQSJ9.e30.c2ln", "refresh_token": "Zb1m8Q0aVdX9hT2c6yJk4sLr7wE3uNf5pGi0oKtMxYA"}))]
pub(super) struct TokensShown {
    /// The access token, a JWT of one hour.
    token: String,
    /// The refresh token that takes the place of the one that was sent.
    refresh_token: String,
}

/// A user, as shown to itself.
#[derive(Serialize, ToSchema)]
#[schema(as = User, example = json!({"id": "019b8a7e-7c00-7000-8000-00000000000a", "email": "ada@example.com", "username": "ada", "created_at": "2026-01-03T00:00:00.123Z"}))]
pub(super) struct UserShown {
    #[schema(value_type = Uuid)]
    id: UserId,
    /// None for users of an outside issuer.
    email: Option<String>,
    username: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the name was last changed, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
}

/// A user as the caller sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Profile, example = json!({"id": "019b8a7e-7c00-7000-8000-00000000000a", "username": "ada", "created_at": "2026-01-03T00:00:00.123Z", "posts_count": 3, "followers_count": 2, "following_count": 1, "is_following": true}))]
pub(super) struct ProfileShown {
    #[schema(value_type = Uuid)]
    id: UserId,
    username: String,
    /// Shown to oneself alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the name was last changed, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
    posts_count: u64,
    followers_count: u64,
    following_count: u64,
    /// Whether the caller follows it.
    is_following: bool,
}

/// Register.
///
/// Makes a user and logs it in. The session's cookie `roost_session` is set too.
#[utoipa::path(post, path = "/auth/register", tag = "accounts", operation_id = "register",
    request_body = RegisterBody,
    responses(
        (status = 201, description = "The user and its tokens", body = SessionShown),
        (status = 400, description = "A field breaks its rule", body = Document),
        (status = 409, description = "The e-mail address or the name is taken", body = Document),
    ))]
pub(super) async fn register(
    State(edge): State<Edge>,
    address: Address,
    Payload { value: body, .. }: Payload<RegisterBody>,
) -> Result<(StatusCode, HeaderMap, Json<SessionShown>), Problem> {
    limits::charge_registration(&edge, address).await?;
    let (user, tokens) = edge.services.account.register(&body.email, &body.username, &body.password).await?;
    Ok((StatusCode::CREATED, begin(&edge.settings, &tokens), Json(SessionShown::of(user, &tokens))))
}

/// Log in.
///
/// An unknown address and a wrong password are told in the same words. Sets the cookie `roost_session`.
#[utoipa::path(post, path = "/auth/login", tag = "accounts", operation_id = "login",
    request_body = LoginBody,
    responses(
        (status = 200, description = "The user and its tokens", body = SessionShown),
        (status = 401, description = "The e-mail address or the password is wrong", body = Document),
    ))]
pub(super) async fn login(
    State(edge): State<Edge>,
    address: Address,
    Payload { value: body, .. }: Payload<LoginBody>,
) -> Result<(HeaderMap, Json<SessionShown>), Problem> {
    limits::charge_login(&edge, address).await?;
    let (user, tokens) = edge.services.account.login(&body.email, &body.password).await?;
    Ok((begin(&edge.settings, &tokens), Json(SessionShown::of(user, &tokens))))
}

/// Get the next tokens.
///
/// A refresh token can be used once; a spent one used again ends the whole session, its access tokens and
/// its sockets. Sets the cookie `roost_session` anew.
#[utoipa::path(post, path = "/auth/refresh", tag = "accounts", operation_id = "refresh",
    request_body = RefreshBody,
    responses(
        (status = 200, description = "The next tokens", body = TokensShown),
        (status = 401, description = "The refresh token is unknown, expired, revoked or spent", body = Document),
    ))]
pub(super) async fn refresh(
    State(edge): State<Edge>,
    address: Address,
    Payload { value: body, .. }: Payload<RefreshBody>,
) -> Result<(HeaderMap, Json<TokensShown>), Problem> {
    limits::charge_login(&edge, address).await?;
    let tokens = edge.services.account.refresh(&body.refresh_token).await?;
    let shown = TokensShown {
        token: tokens.access.expose().to_owned(),
        refresh_token: tokens.refresh.expose().to_owned(),
    };
    Ok((begin(&edge.settings, &tokens), Json(shown)))
}

/// Log out.
///
/// The session's tokens stop working at once, its sockets close with 4401, its cookie is cleared.
#[utoipa::path(post, path = "/auth/logout", tag = "accounts", operation_id = "logout",
    security(("bearer" = []), ("cookie" = [])),
    responses((status = 204, description = "The session has ended")))]
pub(super) async fn logout(
    State(edge): State<Edge>,
    caller: Caller,
) -> Result<(StatusCode, HeaderMap), Problem> {
    edge.services.account.logout(&caller).await?;
    let headers = cookies::end(&edge.settings).map(|cookie| (SET_COOKIE, cookie));
    Ok((StatusCode::NO_CONTENT, headers.into_iter().collect()))
}

/// Read a user.
#[utoipa::path(get, path = "/users/{id}", tag = "accounts", operation_id = "readUser",
    params(("id" = Uuid, Path, description = "The user")),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "The user; its e-mail address to itself alone", body = ProfileShown),
        (status = 400, description = "The id is no UUID", body = Document),
        (status = 404, description = "There is no such user", body = Document),
    ))]
pub(super) async fn profile(
    State(edge): State<Edge>,
    caller: Caller,
    Id(user): Id<UserId>,
) -> Result<Json<ProfileShown>, Problem> {
    let profile = edge.services.account.profile(&caller, user).await?;
    Ok(Json(ProfileShown::of(profile, &caller)))
}

/// Find a user by name.
#[utoipa::path(get, path = "/users", tag = "accounts", operation_id = "findUser",
    params(("username" = String, Query, description = "The whole name, regardless of case", example = "ada")),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "The user; its e-mail address to itself alone", body = ProfileShown),
        (status = 400, description = "The parameter is missing, repeated or not the only one", body = Document),
        (status = 404, description = "There is no such user", body = Document),
    ))]
pub(super) async fn profile_by_name(
    State(edge): State<Edge>,
    caller: Caller,
    NameQuery(name): NameQuery,
) -> Result<Json<ProfileShown>, Problem> {
    let profile = edge.services.account.profile_by_name(&caller, &name).await?;
    Ok(Json(ProfileShown::of(profile, &caller)))
}

/// Change one's name.
#[utoipa::path(put, path = "/users/{id}", tag = "accounts", operation_id = "renameUser",
    params(("id" = Uuid, Path, description = "Oneself")),
    request_body = RenameBody,
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "The user with its new name", body = UserShown),
        (status = 400, description = "The name breaks its rule, or the id is no UUID", body = Document),
        (status = 403, description = "The user is somebody else", body = Document),
        (status = 409, description = "The name is taken", body = Document),
    ))]
pub(super) async fn rename(
    State(edge): State<Edge>,
    caller: Caller,
    Id(user): Id<UserId>,
    Payload { value: body, .. }: Payload<RenameBody>,
) -> Result<Json<UserShown>, Problem> {
    let user = edge.services.account.rename(&caller, user, &body.username).await?;
    Ok(Json(user.into()))
}

/// The public keys of the access tokens.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "accounts", operation_id = "jwks",
    responses((status = 200, description = "A JSON Web Key Set (RFC 7517); without keys where tokens are signed with a shared secret",
        body = Object, content_type = "application/json",
        example = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "…", "x": "…"}]}))))]
pub(super) async fn jwks(
    State(edge): State<Edge>,
) -> ([(axum::http::HeaderName, HeaderValue); 1], Json<serde_json::Value>) {
    let keys = edge.services.account.jwks();
    ([(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"))], Json(keys))
}

/// The headers of an answer with tokens.
fn begin(settings: &Settings, tokens: &Tokens) -> HeaderMap {
    let cookie = cookies::begin(settings, &tokens.cookie, tokens.refresh_expires_at);
    let no_store = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
    cookie.map(|cookie| (SET_COOKIE, cookie)).into_iter().chain([no_store]).collect()
}

impl FromFields for RegisterBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let email = fields.text("email");
        let username = fields.text("username");
        let password = fields.secret("password");
        Some(Self { email: email?, username: username?, password: password? })
    }
}

impl FromFields for LoginBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let email = fields.text("email");
        let password = fields.secret("password");
        Some(Self { email: email?, password: password? })
    }
}

impl FromFields for RefreshBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self { refresh_token: fields.secret("refresh_token")? })
    }
}

impl FromFields for RenameBody {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Some(Self { username: fields.text("username")? })
    }
}

impl SessionShown {
    fn of(user: User, tokens: &Tokens) -> Self {
        Self {
            user: user.into(),
            token: tokens.access.expose().to_owned(),
            refresh_token: tokens.refresh.expose().to_owned(),
        }
    }
}

impl From<User> for UserShown {
    fn from(user: User) -> Self {
        let User { id, username, email, created_at, updated_at } = user;
        Self { id, email, username, created_at, updated_at }
    }
}

impl ProfileShown {
    fn of(profile: Profile, caller: &Caller) -> Self {
        let Profile { user, posts, followers, following, is_following } = profile;
        Self {
            email: user.email.filter(|_| user.id == caller.user),
            id: user.id,
            username: user.username,
            created_at: user.created_at,
            updated_at: user.updated_at,
            posts_count: posts,
            followers_count: followers,
            following_count: following,
            is_following,
        }
    }
}
