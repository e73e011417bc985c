//! The API on one page: every path, its handlers, and the layers that each request goes through.

use super::{Edge, accounts, headers, health, limits, live, openapi, posts, social, timeline};
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The whole API, ready to be served.
pub fn router(edge: Edge) -> Router {
    let (routes, _) = documented().split_for_parts();
    let mut router = routes
        .route("/openapi.json", get(openapi::serve))
        // Its description is in `openapi`: an upgrade is more than a handler can be annotated with.
        .route("/ws", get(live::upgrade))
        .fallback(headers::no_such_path)
        .method_not_allowed_fallback(headers::no_such_method)
        // The innermost comes first, the outermost last.
        .layer(from_fn_with_state(edge.clone(), limits::admit))
        .layer(from_fn_with_state(edge.clone(), headers::check_role))
        .layer(CatchPanicLayer::custom(headers::panicked));
    if let Some(cors) = headers::cors(&edge.settings) {
        router = router.layer(cors);
    }
    router.layer(from_fn(headers::dress)).with_state(edge)
}

/// What is described by the annotations of its handlers.
pub(super) fn documented() -> OpenApiRouter<Edge> {
    OpenApiRouter::default()
        .routes(routes!(accounts::register))
        .routes(routes!(accounts::login))
        .routes(routes!(accounts::refresh))
        .routes(routes!(accounts::logout))
        .routes(routes!(accounts::jwks))
        .routes(routes!(accounts::profile_by_name))
        .routes(routes!(accounts::profile, accounts::rename))
        .routes(routes!(posts::publish))
        .routes(routes!(posts::batch))
        .routes(routes!(posts::post, posts::delete))
        .routes(routes!(posts::by_author))
        .routes(routes!(social::follow, social::unfollow))
        .routes(routes!(social::followers))
        .routes(routes!(social::following))
        .routes(routes!(social::like, social::unlike))
        .routes(routes!(timeline::read))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::health))
        .routes(routes!(health::metrics))
}
