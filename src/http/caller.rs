//! Who asks: from `Authorization: Bearer`, else from the cookie `roost_session`.
//!
//! Owns the rule that a write by cookie must come from a page of ours, for a browser adds the cookie to
//! what any page asks of us. Refuses `?token=`: that is for upgrades alone, since queries end up in logs.

use super::cookies;
use super::listener::Peer;
use super::problem::{Code, Problem};
use super::{Edge, Settings};
use crate::model::secret::Secret;
use crate::model::user::Caller;
use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};

/// What the credentials of a request came to; found once, by [`super::limits::admit`].
#[derive(Clone, Debug)]
pub enum Identity {
    /// There were none.
    Nobody,
    /// They are good.
    Known {
        /// Whose they are.
        caller: Caller,
        /// Whether it was the cookie that said so.
        by_cookie: bool,
    },
    /// They are not, or could not be checked.
    Refused(Problem),
}

/// Looks at the credentials of a request; a bearer token goes before a cookie.
pub async fn identify(edge: &Edge, headers: &HeaderMap) -> Identity {
    let account = &edge.services.account;
    let (found, by_cookie) = if headers.contains_key(AUTHORIZATION) {
        let Some(token) = bearer(headers) else {
            let detail = "Authorization must be of the form: Bearer <token>";
            return Identity::Refused(Problem::new(Code::Unauthorized).because(detail));
        };
        (account.authenticate(&token).await, false)
    } else if let Some(token) = cookies::session(headers) {
        (account.authenticate_cookie(&token).await, true)
    } else {
        return Identity::Nobody;
    };
    match found {
        Ok(caller) => Identity::Known { caller, by_cookie },
        Err(error) => Identity::Refused(error.into()),
    }
}

impl FromRequestParts<Edge> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let known = parts.extensions.get::<Identity>().cloned();
        let identity = match known {
            Some(identity) => identity,
            None => identify(edge, &parts.headers).await,
        };
        match identity {
            Identity::Nobody => Err(Problem::new(Code::Unauthorized)
                .because("This call needs a token: Authorization: Bearer <token>")),
            Identity::Refused(problem) => Err(problem),
            Identity::Known { by_cookie: true, .. }
                if is_write(&parts.method) && !is_from_our_page(parts, edge) =>
            {
                Err(Problem::new(Code::ForeignOrigin))
            }
            Identity::Known { caller, .. } => Ok(caller),
        }
    }
}

/// Whoever asks for what needs no token: whoever comes with a good one is known by it, whoever comes with a cookie that is over, or
/// by a page of somebody else, is nobody.
#[derive(Clone, Debug)]
pub struct Visitor(pub Option<Caller>);

impl FromRequestParts<Edge> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        match parts.extensions.get::<Identity>() {
            // Whoever shows a token wants to be known by it.
            Some(Identity::Refused(problem)) if parts.headers.contains_key(AUTHORIZATION) => {
                Err(problem.clone())
            }
            Some(Identity::Known { caller, by_cookie }) if !by_cookie || is_from_our_page(parts, edge) => {
                Ok(Self(Some(*caller)))
            }
            _ => Ok(Self(None)),
        }
    }
}

/// The token of `Authorization: Bearer`.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| Secret::new(token))
}

/// Whether a request that a browser made came from a page of ours or of an allowed origin.
#[must_use]
pub fn is_from_our_page(parts: &Parts, edge: &Edge) -> bool {
    let tls = parts.extensions.get::<Peer>().is_some_and(|peer| peer.tls);
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(|authority| authority.as_str()));
    is_our_origin(&parts.headers, host, tls, &edge.settings)
}

fn is_write(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// `Sec-Fetch-Site` is the browser's own word and goes first; `Origin` decides where an allowed one is
/// named, and for browsers that say no more.
fn is_our_origin(headers: &HeaderMap, host: Option<&str>, tls: bool, settings: &Settings) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text("sec-fetch-site");
    if site == Some("same-origin") {
        return true;
    }
    let Some(origin) = text(ORIGIN.as_str()) else { return false };
    let is = |other: &str| origin.eq_ignore_ascii_case(other.trim_end_matches('/'));
    let scheme = if tls { "https" } else { "http" };
    let is_own = host.is_some_and(|host| is(&format!("{scheme}://{host}")));
    settings.allowed_origins.iter().any(|allowed| is(allowed))
        || settings.public_url.as_deref().is_some_and(is)
        || (is_own && site.is_none())
}

#[cfg(test)]
mod tests {
    use super::{bearer, is_our_origin};
    use crate::http::Settings;
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn check(pairs: &[(&'static str, &'static str)], expect: bool) {
        let settings = Settings {
            allowed_origins: vec!["https://app.example".into()],
            public_url: Some("https://roost.example/".into()),
            ..Settings::default()
        };
        let found = is_our_origin(&headers(pairs), Some("127.0.0.1:8080"), false, &settings);
        assert_eq!(found, expect, "{pairs:?}");
    }

    #[test]
    fn a_write_by_cookie_comes_from_our_page_or_an_allowed_one() {
        check(&[("origin", "http://127.0.0.1:8080")], true);
        check(&[("origin", "https://app.example")], true);
        check(&[("origin", "https://roost.example")], true);
        check(&[("sec-fetch-site", "same-origin")], true);
        check(&[("sec-fetch-site", "cross-site"), ("origin", "https://app.example")], true);
    }

    #[test]
    fn a_write_by_cookie_from_elsewhere_or_nowhere_is_none() {
        check(&[], false);
        check(&[("origin", "null")], false);
        check(&[("origin", "https://evil.example")], false);
        check(&[("origin", "https://app.example.evil.example")], false);
        check(&[("origin", "https://127.0.0.1:8080")], false);
        check(&[("sec-fetch-site", "cross-site")], false);
        check(&[("sec-fetch-site", "same-site")], false);
        check(&[("sec-fetch-site", "none")], false);
        check(&[("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:8080")], false);
    }

    #[test]
    fn a_bearer_token_is_named_so() {
        assert_eq!(bearer(&headers(&[("authorization", "Bearer abc")])).unwrap().expose(), "abc");
        assert_eq!(bearer(&headers(&[("authorization", "bearer  abc ")])).unwrap().expose(), "abc");
        for other in ["Basic abc", "Bearer", "Bearer ", "abc"] {
            assert!(bearer(&headers(&[("authorization", other)])).is_none(), "{other}");
        }
    }
}
