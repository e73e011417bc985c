//! The API on one page: every path, its handlers, and the layers that each request goes through.

use super::{
    Edge, Settings, accounts, chat, headers, health, leftover, limits, live, openapi, posts, room_page,
    rooms, social, timeline,
};
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The whole API, ready to be served.
pub fn router(edge: Edge) -> Router {
    let (routes, _) = documented().split_for_parts();
    let routes = routes
        .route("/openapi.json", get(openapi::serve))
        // Its description is in `openapi`: an upgrade is more than a handler can be annotated with.
        .route("/ws", get(live::upgrade))
        .route("/ws/rooms", get(live::host::make))
        .route("/ws/rooms/{room_id}", get(live::host::take_up))
        // So is that of a stream: an answer without an end.
        .route("/api/chat/stream", get(live::stream::open))
        .route("/api/rooms/{room_id}/stream", get(live::room_stream::open))
        // For people, so it is not described.
        .route("/rooms/{room_id}", get(room_page::open))
        .fallback(headers::no_such_path)
        .method_not_allowed_fallback(headers::no_such_method)
        // The innermost comes first, the outermost last.
        .layer(from_fn_with_state(edge.clone(), limits::admit))
        .layer(from_fn_with_state(edge.clone(), headers::check_role));
    dressed(routes, &edge.settings).with_state(edge)
}

/// The layers that need nothing but settings: whatever goes wrong within, they make an answer of it.
fn dressed<S: Clone + Send + Sync + 'static>(routes: Router<S>, settings: &Settings) -> Router<S> {
    let mut routes = routes.layer(CatchPanicLayer::custom(headers::panicked));
    if let Some(cors) = headers::cors(settings) {
        routes = routes.layer(cors);
    }
    routes.layer(from_fn(leftover::forget)).layer(from_fn(headers::dress))
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
        .routes(routes!(chat::open, chat::list))
        .routes(routes!(chat::mark_read))
        .routes(routes!(chat::send))
        .routes(routes!(chat::history))
        .routes(routes!(rooms::make, rooms::list))
        .routes(routes!(rooms::read, rooms::end))
        .routes(routes!(rooms::press))
        .routes(routes!(rooms::stats))
        .routes(routes!(rooms::reset))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::health))
        .routes(routes!(health::metrics))
}

#[cfg(test)]
mod tests {
    use super::dressed;
    use crate::http::{Settings, headers};
    use axum::Router;
    use axum::body::Body;
    use axum::http::{HeaderMap, Request, StatusCode};
    use axum::routing::{get, post};
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    async fn panics() -> StatusCode {
        panic!("the password is hunter2")
    }

    async fn ask(
        settings: &Settings,
        request: &str,
        with: &[(&str, &str)],
    ) -> (StatusCode, HeaderMap, String) {
        let routes = Router::new()
            .route("/things", get(|| async { "here" }).post(|| async { StatusCode::CREATED }))
            .route("/panics", post(panics))
            .fallback(headers::no_such_path)
            .method_not_allowed_fallback(headers::no_such_method);
        let (method, path) = request.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in with {
            request = request.header(*name, *value);
        }
        let answer = dressed(routes, settings).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn problem(request: &str, status: u16, code: &str) -> HeaderMap {
        let with = [
            ("x-request-id", "mine"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ];
        let (found, headers, body) = ask(&Settings::default(), request, &with).await;
        let shown: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((found.as_u16(), shown["code"].as_str().unwrap()), (status, code), "{request}: {body}");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["x-request-id"], "mine");
        assert_eq!(shown["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        let path = request.split([' ', '?']).nth(1).unwrap();
        assert_eq!(shown["instance"], path);
        assert!(!body.contains("hunter2"), "{body}");
        headers
    }

    #[tokio::test]
    async fn what_is_not_there_or_goes_wrong_is_a_problem() {
        problem("GET /nothing?token=hunter2", 404, "not_found").await;
        problem("POST /panics", 500, "internal").await;
        let headers = problem("DELETE /things", 405, "method_not_allowed").await;
        let mut allowed: Vec<&str> = headers["allow"].to_str().unwrap().split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    }

    #[tokio::test]
    async fn head_and_options_are_answered_for_every_path() {
        let settings = Settings::default();
        let (status, headers, body) = ask(&settings, "HEAD /things", &[]).await;
        assert_eq!((status, headers["content-length"].to_str().unwrap(), &*body), (StatusCode::OK, "4", ""));
        let (status, headers, body) = ask(&settings, "OPTIONS /things", &[]).await;
        assert_eq!((status, &*body), (StatusCode::NO_CONTENT, ""));
        assert!(headers["allow"].to_str().unwrap().contains("POST"));
        let (status, ..) = ask(&settings, "HEAD /nothing", &[]).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn other_origins_may_call_only_where_they_are_named() {
        let preflight = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
        let (_, headers, _) = ask(&Settings::default(), "OPTIONS /things", &preflight).await;
        assert!(!headers.contains_key("access-control-allow-origin"));

        let settings =
            Settings { allowed_origins: vec!["https://app.example".into()], ..Settings::default() };
        let (_, headers, _) = ask(&settings, "OPTIONS /things", &preflight).await;
        assert_eq!(headers["access-control-allow-origin"], "https://app.example");
        assert_eq!(headers["access-control-allow-credentials"], "true");
        let (_, headers, _) = ask(&settings, "GET /nothing", &[("origin", "https://app.example")]).await;
        assert_eq!(headers["access-control-allow-origin"], "https://app.example", "errors can be read, too");
        let (_, headers, _) = ask(&settings, "GET /things", &[("origin", "https://evil.example")]).await;
        assert!(!headers.contains_key("access-control-allow-origin"));
    }
}
