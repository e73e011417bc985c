//! `GET /rooms/{room_id}`: what `web_url` opens, the page on which a room's viewers press.
//!
//! Owns the document and what browsers may do with it. It is one for all rooms, with its style and its script inside: no part of
//! it can come from a node of another version. Of the room it says whether there is one; how that stands, the page asks the
//! API by itself. Every role serves it, so that whichever node made a `web_url` can open it.

use super::path::RoomPath;
use super::problem::Problem;
use super::{Edge, Settings};
use crate::service::ServiceError;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, RETRY_AFTER,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const DOCUMENT: &str = include_str!("room_page/page.html");
const STYLE: &str = include_str!("room_page/page.css");
const SCRIPT: &str = include_str!("room_page/page.js");

static PAGE: LazyLock<Page> = LazyLock::new(Page::whole);

/// The document, for a room that is there and for one that is not.
struct Page {
    here: Bytes,
    unknown: Bytes,
    /// Names what is `here`.
    tag: String,
    /// All of the policy but who may frame it.
    policy: String,
}

/// Answers with the page; 404 where there is no such room.
pub(super) async fn open(
    State(edge): State<Edge>,
    room: Result<RoomPath, Problem>,
    headers: HeaderMap,
) -> Response {
    let found = match room {
        Ok(RoomPath(id)) => edge.services.rooms.stats(id).await.map(|_| ()),
        Err(_) => Err(ServiceError::NotFound("there is no such room")),
    };
    let mut answer = match found {
        Ok(()) => PAGE.here(&headers),
        Err(ServiceError::NotFound(_)) => (StatusCode::NOT_FOUND, PAGE.unknown.clone()).into_response(),
        // What does not answer now may soon: the page is whole without it and goes on asking.
        Err(ServiceError::Unavailable { retry_after }) => {
            let seconds = retry_after.as_millis().div_ceil(1_000).max(1).to_string();
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, seconds)], PAGE.here.clone()).into_response()
        }
        Err(error) => return Problem::from(error).into_response(),
    };
    dress(&mut answer, &edge.settings);
    answer
}

fn dress(answer: &mut Response, settings: &Settings) {
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    // Whoever has a room's id may press there: it is not told to others.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(policy) = HeaderValue::from_str(&PAGE.policy(settings)) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
}

impl Page {
    fn whole() -> Self {
        let of = |room: &str| {
            let document = DOCUMENT.replace("{{room}}", room);
            Bytes::from(document.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT))
        };
        let here = of("here");
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            source(SCRIPT),
            source(STYLE)
        );
        let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(&here)[..12]));
        Self { unknown: of("unknown"), here, tag, policy }
    }

    /// The page of a room that is there; nothing more than that to a browser that has it.
    fn here(&self, headers: &HeaderMap) -> Response {
        let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
        let mut known = known.flat_map(|tags| tags.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
        let mut answer = match known.any(|tag| tag == self.tag) {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => Body::from(self.here.clone()).into_response(),
        };
        let headers = answer.headers_mut();
        // The room may end: a browser keeps the page, and asks each time.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            headers.insert(ETAG, tag);
        }
        answer
    }

    /// Pages that may call may show it in a frame, too. An overlay opens it as a page of its own, which needs no leave.
    fn policy(&self, settings: &Settings) -> String {
        let framing = settings.allowed_origins.join(" ");
        format!("{}; frame-ancestors 'self' {framing}", self.policy).trim_end().to_owned()
    }
}

/// How a policy names what stands in the document.
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::{DOCUMENT, PAGE, SCRIPT, STYLE};
    use crate::http::Settings;

    #[test]
    fn the_document_is_whole_and_nothing_in_it_comes_from_elsewhere() {
        let here = std::str::from_utf8(&PAGE.here).unwrap();
        assert!(!here.contains("{{") && here.contains(SCRIPT) && here.contains(STYLE));
        assert!(here.contains("data-room=\"here\""), "it says that there is a room");
        for text in [DOCUMENT, SCRIPT, STYLE] {
            let elsewhere =
                ["http:", "https:", "url(", "@import", "src=", "innerHTML", " style=", " onclick="];
            for part in elsewhere {
                // The name of SVG's vocabulary is not a place.
                assert!(!text.replace("http://www.w3.org/2000/svg", "").contains(part), "{part}");
            }
        }
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"), "neither ends before its end");
    }

    #[test]
    fn only_own_pages_and_allowed_ones_may_frame_it() {
        let mut settings = Settings::default();
        assert!(PAGE.policy(&settings).ends_with("; frame-ancestors 'self'"));
        settings.allowed_origins = vec!["https://a.example".into(), "https://b.example:8443".into()];
        let policy = PAGE.policy(&settings);
        assert!(policy.ends_with("; frame-ancestors 'self' https://a.example https://b.example:8443"));
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    }
}
