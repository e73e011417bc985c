//! Every refusal, in one table: its code, status, words, and whether trying again may help.
//!
//! Owns the shape of errors (RFC 9457, `application/problem+json`). Refuses to tell what is internal: a
//! cause (SQL, a host, a panic) goes to the log, once, and never into `detail`.

use crate::service::{FieldError, ServiceError};
use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;
use utoipa::ToSchema;

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $name:tt, $status:ident, $title:literal, $retryable:literal;)*) => {
        /// What went wrong, for programs: stable, one meaning each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
        #[schema(as = ProblemCode)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $name)] $code,)*
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// The code as it is written.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$code => $name),* }
            }

            /// The status that goes with it.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$code => StatusCode::$status),* }
            }

            /// What it means, for people; also the detail where none better is known.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$code => $title),* }
            }

            /// Whether the same request may do better later.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$code => $retryable),* }
            }
        }
    };
}

codes! {
    /// A field, parameter or header breaks its rule; `errors` says which.
    Invalid = "invalid", BAD_REQUEST, "The request breaks a rule", false;
    /// The body is not JSON.
    MalformedJson = "malformed_json", BAD_REQUEST, "The body is not JSON", false;
    /// No credentials, or none that are good.
    Unauthorized = "unauthorized", UNAUTHORIZED, "The credentials are missing or not valid", false;
    /// Known, but not allowed.
    Forbidden = "forbidden", FORBIDDEN, "This is not yours to do", false;
    /// A write by cookie that did not come from a page of ours.
    ForeignOrigin = "foreign_origin", FORBIDDEN, "A write by cookie must come from an allowed origin", false;
    /// There is no such thing, or no such path.
    NotFound = "not_found", NOT_FOUND, "There is no such thing", false;
    /// The path is there, the method is not; `Allow` says which are.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "This path does not take this method", false;
    /// The body took too long.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, "The body did not arrive in time", true;
    /// It is so already.
    Conflict = "conflict", CONFLICT, "It is so already", false;
    /// Somebody has that e-mail.
    EmailTaken = "email_taken", CONFLICT, "The e-mail address belongs to an account", false;
    /// Somebody has that name.
    UsernameTaken = "username_taken", CONFLICT, "The name belongs to somebody", false;
    /// Followed already.
    AlreadyFollowing = "already_following", CONFLICT, "The user is followed already", false;
    /// Liked already.
    AlreadyLiked = "already_liked", CONFLICT, "The post is liked already", false;
    /// The body is over its limit.
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, "The body is too large", false;
    /// The body is not declared to be JSON.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body must be application/json", false;
    /// The path belongs to nodes of another role.
    WrongRole = "wrong_role", MISDIRECTED_REQUEST, "Nodes of another role take this call", false;
    /// The key was used with another body.
    KeyReused = "key_reused", UNPROCESSABLE_ENTITY, "The idempotency key was used with another body", false;
    /// The path is a WebSocket's.
    UpgradeRequired = "upgrade_required", UPGRADE_REQUIRED, "This path takes WebSocket upgrades", false;
    /// Too much in too short a time; `Retry-After` says when.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Too many requests", true;
    /// A fault of the server.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something went wrong here", false;
    /// What is needed does not answer now.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "The server cannot do this now", true;
    /// The node is leaving or not ready.
    NotReady = "not_ready", SERVICE_UNAVAILABLE, "The node takes no requests now", true;
}

/// A refusal on its way out. It becomes an answer in [`crate::http::headers`], where the request's path
/// and trace are known.
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldProblem>,
    retry_after: Option<Duration>,
    cause: Option<String>,
}

/// What is wrong with one field, parameter or header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldProblem {
    /// Which.
    #[schema(example = "username")]
    pub field: String,
    /// What its rule is.
    #[schema(example = "is missing")]
    pub detail: String,
}

/// A refusal, as RFC 9457 has it.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document<'a> {
    /// A name for this kind of problem; the `code` in the form of a URI.
    #[schema(format = "uri")]
    r#type: String,
    /// The kind of problem, in words.
    title: &'a str,
    /// The status of the answer.
    status: u16,
    /// What went wrong this time, in words.
    detail: &'a str,
    /// The path that was asked.
    instance: &'a str,
    code: Code,
    /// Names the request in the server's logs.
    trace_id: &'a str,
    /// Whether the same request may do better later.
    retryable: bool,
    /// Which fields are wrong, where it is about fields.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false, value_type = Vec<FieldProblem>)]
    errors: &'a [FieldProblem],
}

impl Problem {
    /// The problem in its own words.
    #[must_use]
    pub const fn new(code: Code) -> Self {
        Self { code, detail: Cow::Borrowed(code.title()), errors: Vec::new(), retry_after: None, cause: None }
    }

    /// One field, parameter or header is wrong.
    #[must_use]
    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldProblem { field: field.into(), detail: detail.into() }])
    }

    /// Several are.
    #[must_use]
    pub fn fields(errors: Vec<FieldProblem>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{}: {}", only.field, only.detail),
            several => format!("{} fields are wrong", several.len()),
        };
        Self { errors, ..Self::new(Code::Invalid).because(detail) }
    }

    /// A fault of ours; `cause` is for the log alone.
    #[must_use]
    pub fn internal(cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..Self::new(Code::Internal) }
    }

    /// The same with better words.
    #[must_use]
    pub fn because(self, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// The same with the time after which to come back.
    #[must_use]
    pub const fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Which it is.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What caused it, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The document of this problem, for the request to `instance` in the trace `trace_id`.
    pub(super) fn document<'a>(&'a self, instance: &'a str, trace_id: &'a str) -> Document<'a> {
        Document {
            r#type: format!("urn:roost:problem:{}", self.code.name()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            instance,
            code: self.code,
            trace_id,
            retryable: self.code.retryable(),
            errors: &self.errors,
        }
    }

    /// Puts the document into the answer that [`IntoResponse`] began.
    pub(super) fn finish(&self, mut answer: Response, instance: &str, trace_id: &str) -> Response {
        let document = self.document(instance, trace_id);
        // Text and numbers alone: nothing in it can fail to serialise.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        *answer.body_mut() = Body::from(body);
        answer
    }

    /// Whole seconds, at least one; 429 and 503 always say some.
    fn retry_seconds(&self) -> Option<u64> {
        let always =
            matches!(self.code.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let wait = self.retry_after.or(always.then_some(Duration::from_secs(1)))?;
        Some(wait.as_millis().div_ceil(1_000).clamp(1, u128::from(u32::MAX)) as u64)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut answer = self.code.status().into_response();
        if let Some(seconds) = self.retry_seconds() {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.code == Code::UpgradeRequired {
            // RFC 9110, section 15.5.22: a 426 names the protocol.
            answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        answer.extensions_mut().insert(self);
        answer
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Invalid(fields) => Self::fields(fields.into_iter().map(Into::into).collect()),
            ServiceError::Unauthorized(detail) => Self::new(Code::Unauthorized).because(detail),
            ServiceError::Forbidden(detail) => Self::new(Code::Forbidden).because(detail),
            ServiceError::NotFound(detail) => Self::new(Code::NotFound).because(detail),
            ServiceError::Conflict { code, detail } => Self::new(conflict(code)).because(detail),
            ServiceError::KeyReused => Self::new(Code::KeyReused),
            ServiceError::Limited { retry_after, what } => Self::limited(what, retry_after),
            ServiceError::Unavailable { retry_after } => Self::new(Code::Unavailable).after(retry_after),
            ServiceError::Internal(cause) => Self::internal(cause),
        }
    }
}

impl Problem {
    /// Too many of `what`; come back after `wait`.
    #[must_use]
    pub fn limited(what: &str, wait: Duration) -> Self {
        Self::new(Code::RateLimited).because(format!("Too many {what}; try again later")).after(wait)
    }
}

impl From<FieldError> for FieldProblem {
    fn from(error: FieldError) -> Self {
        Self { field: error.field.to_owned(), detail: error.detail }
    }
}

/// The code of a conflict that a service names.
fn conflict(name: &str) -> Code {
    let known = Code::ALL.iter().find(|code| code.name() == name && code.status() == StatusCode::CONFLICT);
    known.copied().unwrap_or(Code::Conflict)
}

#[cfg(test)]
mod tests {
    use super::{Code, Problem};
    use crate::service::{FieldError, ServiceError};
    use axum::response::IntoResponse;
    use std::time::Duration;

    fn check(error: ServiceError, status: u16, code: &str, retry_after: Option<&str>) {
        let problem = Problem::from(error);
        let shown = serde_json::to_value(problem.document("/posts", "abc")).unwrap();
        assert_eq!(shown["status"], status, "{shown}");
        assert_eq!(shown["code"], code, "{shown}");
        assert_eq!(shown["instance"], "/posts");
        assert_eq!(shown["trace_id"], "abc");
        let answer = problem.into_response();
        assert_eq!(answer.status(), status);
        let header = answer.headers().get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(header, retry_after, "{shown}");
    }

    #[test]
    fn each_error_of_the_services_has_its_status_and_code() {
        let field = FieldError { field: "content", detail: "must not be empty".into() };
        check(ServiceError::Invalid(vec![field]), 400, "invalid", None);
        check(ServiceError::Unauthorized("no"), 401, "unauthorized", None);
        check(ServiceError::Forbidden("no"), 403, "forbidden", None);
        check(ServiceError::NotFound("no"), 404, "not_found", None);
        check(ServiceError::KeyReused, 422, "key_reused", None);
        check(ServiceError::Internal("SQL".into()), 500, "internal", None);
        for code in ["email_taken", "username_taken", "already_following", "already_liked", "conflict"] {
            check(ServiceError::Conflict { code, detail: "no" }, 409, code, None);
        }
    }

    #[test]
    fn retry_after_is_whole_seconds_and_never_none_where_it_is_due() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (5_999, "6")] {
            let retry_after = Duration::from_millis(millis);
            check(ServiceError::Limited { retry_after, what: "posts" }, 429, "rate_limited", Some(seconds));
            check(ServiceError::Unavailable { retry_after }, 503, "unavailable", Some(seconds));
        }
        let bare = Problem::new(Code::NotReady).into_response();
        assert_eq!(bare.headers()["retry-after"], "1");
    }

    #[test]
    fn a_cause_is_in_no_answer() {
        let problem = Problem::internal("SELECT secret FROM host");
        let shown = serde_json::to_string(&problem.document("/", "t")).unwrap();
        assert!(!shown.contains("SELECT"), "{shown}");
        assert_eq!(problem.cause(), Some("SELECT secret FROM host"));
    }

    #[test]
    fn names_are_those_that_are_written_and_unique() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
            assert_eq!(Code::ALL.iter().filter(|other| other.name() == code.name()).count(), 1);
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
    }

    #[test]
    fn a_401_says_how_to_authenticate() {
        let answer = Problem::new(Code::Unauthorized).into_response();
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    }

    #[test]
    fn a_validation_error_names_its_fields() {
        let fields = vec![
            FieldError { field: "email", detail: "must be an address".into() },
            FieldError { field: "username", detail: "is too short".into() },
        ];
        let problem = Problem::from(ServiceError::Invalid(fields));
        let shown = serde_json::to_value(problem.document("/", "t")).unwrap();
        assert_eq!(shown["errors"][1]["field"], "username");
        assert_eq!(shown["errors"][0]["detail"], "must be an address");
    }
}
