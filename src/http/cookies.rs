//! The cookie `roost_session`: stands for a login where a page cannot keep a token.
//!
//! Owns its attributes: not readable by scripts, not sent along by other sites' forms, only under TLS
//! where there is TLS, as long as the refresh token lives.

use super::Settings;
use crate::model::secret::Secret;
use crate::model::timestamp::Timestamp;
use axum::http::HeaderMap;
use axum::http::header::{COOKIE, HeaderValue};
use std::time::Duration;

/// Its name.
pub const NAME: &str = "roost_session";

/// The session's token in a request, if it carries one.
#[must_use]
pub fn session(headers: &HeaderMap) -> Option<Secret> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, value)| name.trim() == NAME && !value.trim().is_empty())
        .map(|(_, value)| Secret::new(value.trim()))
}

/// The `Set-Cookie` that begins or prolongs a session.
#[must_use]
pub fn begin(settings: &Settings, token: &Secret, expires_at: Timestamp) -> Option<HeaderValue> {
    let left = expires_at.millis().saturating_sub(Timestamp::now().millis()).max(0);
    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
    // Rounded, so that a token of 30 days is not said to live a second less.
    let seconds = (left + Duration::from_millis(500)).as_secs();
    let mut value = HeaderValue::from_str(&line(settings, token.expose(), seconds)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The `Set-Cookie` that ends a session.
#[must_use]
pub fn end(settings: &Settings) -> Option<HeaderValue> {
    HeaderValue::from_str(&line(settings, "", 0)).ok()
}

fn line(settings: &Settings, value: &str, max_age: u64) -> String {
    let public = settings.public_url.as_deref().unwrap_or_default();
    let secure = if settings.tls || public.starts_with("https://") { "; Secure" } else { "" };
    format!("{NAME}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}")
}

#[cfg(test)]
mod tests {
    use super::{begin, end, session};
    use crate::http::Settings;
    use crate::model::secret::Secret;
    use crate::model::timestamp::Timestamp;
    use axum::http::{HeaderMap, HeaderValue};
    use std::time::Duration;

    #[test]
    fn is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert!(session(&headers).is_none());
        headers.append("cookie", HeaderValue::from_static("a=b; xroost_session=no; roost_session=; c"));
        assert!(session(&headers).is_none());
        headers.append("cookie", HeaderValue::from_static("theme=dark;roost_session=t.o=k "));
        assert_eq!(session(&headers).unwrap().expose(), "t.o=k");
    }

    #[test]
    fn lives_as_long_as_the_refresh_token_and_is_secure_under_tls() {
        let month = Duration::from_secs(30 * 24 * 3600);
        let token = Secret::new("abc");
        let plain = begin(&Settings::default(), &token, Timestamp::now().after(month)).unwrap();
        assert_eq!(plain, "roost_session=abc; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax");
        let tls = Settings { tls: true, ..Settings::default() };
        assert_eq!(end(&tls).unwrap(), "roost_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure");
        let proxied = Settings { public_url: Some("https://roost.example".into()), ..Settings::default() };
        assert!(end(&proxied).unwrap().to_str().unwrap().ends_with("; Secure"));
    }
}
