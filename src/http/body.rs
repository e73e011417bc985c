//! Bodies: read to a bound in bytes and time, then taken apart field by field.
//!
//! Owns what a body may be: at most 64 KiB, complete within 30 s, declared as JSON, one object, each field
//! known, given once and of its type. All that is wrong with the fields is told at once. What a field may
//! *say* is the model's to judge.

use super::problem::{Code, FieldProblem, Problem};
use crate::model::secret::Secret;
use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;
use std::time::Duration;

/// A body has at most so many bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// A body is whole after so long, or refused.
const READ_TIME: Duration = Duration::from_secs(30);
/// Of what a client wrote, an answer repeats so many characters.
const ECHO_CHARS: usize = 64;
/// An answer names so many wrong fields; a body could hold thousands.
const MAX_ERRORS: usize = 20;

/// A body that was understood, and the SHA-256 of what was sent.
#[derive(Debug)]
pub struct Payload<T> {
    /// What it says.
    pub value: T,
    /// The SHA-256 of its bytes.
    pub digest: [u8; 32],
}

/// What can be made of a JSON object's fields.
pub trait FromFields: Sized {
    /// Takes its fields; none where one is missing or wrong, which `fields` has noted.
    fn from_fields(fields: &mut Fields) -> Option<Self>;
}

impl<T: FromFields, S: Send + Sync> FromRequest<S> for Payload<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_type(request.headers())?;
        let bytes = read(request).await?;
        let value = parse(&bytes)?;
        Ok(Self { value, digest: Sha256::digest(&bytes).into() })
    }
}

/// A body that may be missing.
#[derive(Debug)]
pub struct Optional<T>(pub T);

impl<T: FromFields + Default, S: Send + Sync> FromRequest<S> for Optional<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, state: &S) -> Result<Self, Problem> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        Payload::from_request(request, state).await.map(|payload| Self(payload.value))
    }
}

/// The fields of a body, each taken once; what is wrong with them is noted.
#[derive(Debug)]
pub struct Fields {
    left: Vec<(String, Value)>,
    taken: Vec<String>,
    wrong: Vec<FieldProblem>,
}

impl Fields {
    /// A field that is text.
    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            _ => self.refuse(name, "must be a string"),
        }
    }

    /// A field that is text and must not be shown.
    pub fn secret(&mut self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret::new)
    }

    /// A field that may be missing, or null.
    pub fn optional(&mut self, name: &str) -> Option<Value> {
        self.taken.push(name.to_owned());
        let place = self.left.iter().position(|(found, _)| found == name)?;
        Some(self.left.swap_remove(place).1).filter(|value| !value.is_null())
    }

    /// A field that is a list, each item made by `parse`; `rule` is what an item must be.
    pub fn list<T>(&mut self, name: &str, rule: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
        let Value::Array(items) = self.take(name)? else {
            return self.refuse(name, "must be a list");
        };
        let mut made = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            match item.as_str().and_then(&parse) {
                Some(item) => made.push(item),
                None => return self.refuse(&format!("{name}[{place}]"), rule),
            }
        }
        Some(made)
    }

    /// Notes that a field is wrong.
    pub fn refuse<T>(&mut self, name: &str, detail: &str) -> Option<T> {
        self.wrong.push(FieldProblem { field: name.to_owned(), detail: detail.to_owned() });
        None
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.taken.push(name.to_owned());
        match self.left.iter().position(|(found, _)| found == name) {
            Some(place) => Some(self.left.swap_remove(place).1),
            None => self.refuse(name, "is missing"),
        }
    }

    /// What is left was not asked for, or came twice.
    fn finish(mut self) -> Vec<FieldProblem> {
        for (name, _) in std::mem::take(&mut self.left).into_iter().take(MAX_ERRORS) {
            let twice = self.taken.contains(&name);
            let name: String = name.chars().take(ECHO_CHARS).collect();
            self.refuse::<()>(&name, if twice { "is given more than once" } else { "is not known" });
        }
        self.wrong
    }
}

/// `application/json`, or a JSON of another name (`+json`), in UTF-8.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = declared.split(';').map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next().unwrap_or_default();
    let is_json =
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    let is_utf8 = parts.all(|part| match part.split_once('=') {
        Some(("charset", charset)) => matches!(charset.trim_matches('"'), "utf-8" | "utf8"),
        _ => true,
    });
    if is_json && is_utf8 { Ok(()) } else { Err(Problem::new(Code::UnsupportedMediaType)) }
}

async fn read(request: Request<Body>) -> Result<Bytes, Problem> {
    let too_large =
        || Problem::new(Code::PayloadTooLarge).because(format!("The body has more than {MAX_BYTES} bytes"));
    let declared =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > MAX_BYTES as u64) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), MAX_BYTES);
    match tokio::time::timeout(READ_TIME, body.collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(Code::MalformedJson).because("The body ended before it was whole")),
        Err(_) => Err(Problem::new(Code::RequestTimeout)),
    }
}

fn parse<T: FromFields>(bytes: &[u8]) -> Result<T, Problem> {
    let Object(left) = serde_json::from_slice(bytes).map_err(|error| {
        // Reading stops at the first byte of what is no object; the rest may still be no JSON at all.
        if error.is_data() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
            Problem::new(Code::Invalid).because("The body must be a JSON object")
        } else {
            let detail = format!("The body is not JSON: line {}, column {}", error.line(), error.column());
            Problem::new(Code::MalformedJson).because(detail)
        }
    })?;
    let mut fields = Fields { left, taken: Vec::new(), wrong: Vec::new() };
    let made = T::from_fields(&mut fields);
    let wrong = fields.finish();
    made.filter(|_| wrong.is_empty()).ok_or_else(|| Problem::fields(wrong))
}

/// An object's fields as they came, repeated ones too.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, FromFields, MAX_BYTES, Payload};
    use axum::body::Body;
    use axum::extract::{FromRequest, Request};

    #[derive(Debug)]
    struct Pair {
        name: String,
        ids: Vec<u8>,
    }

    impl FromFields for Pair {
        fn from_fields(fields: &mut Fields) -> Option<Self> {
            let name = fields.text("name");
            let ids = fields.list("ids", "must be a small number", |text| text.parse().ok());
            Some(Self { name: name?, ids: ids? })
        }
    }

    async fn read(
        content_type: Option<&str>,
        body: impl Into<Body>,
    ) -> Result<Payload<Pair>, serde_json::Value> {
        let mut request = Request::builder();
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body(body.into()).unwrap();
        let read = Payload::<Pair>::from_request(request, &()).await;
        read.map_err(|problem| serde_json::to_value(problem.document("/", "t")).unwrap())
    }

    async fn check(body: &str, code: &str, errors: &[(&str, &str)]) {
        let shown = read(Some("application/json"), body.to_owned()).await.unwrap_err();
        assert_eq!(shown["code"], code, "{body}: {shown}");
        let found = shown["errors"].as_array().cloned().unwrap_or_default();
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|error| (error["field"].as_str().unwrap(), error["detail"].as_str().unwrap()))
            .collect();
        assert_eq!(found, errors, "{body}");
    }

    #[tokio::test]
    async fn a_whole_object_is_read_with_the_digest_of_its_bytes() {
        let payload =
            read(Some("application/json; charset=UTF-8"), r#"{"ids":["1"],"name":"x"}"#).await.unwrap();
        assert_eq!((payload.value.name.as_str(), payload.value.ids), ("x", vec![1]));
        let other = read(Some("application/vnd.x+json"), r#"{"ids":["1"],"name":"x" }"#).await.unwrap();
        assert_ne!(payload.digest, other.digest);
    }

    #[tokio::test]
    async fn all_that_is_wrong_with_the_fields_is_told_at_once() {
        check(r#"{}"#, "invalid", &[("name", "is missing"), ("ids", "is missing")]).await;
        check(
            r#"{"name":1,"ids":["1",2],"more":0}"#,
            "invalid",
            &[("name", "must be a string"), ("ids[1]", "must be a small number"), ("more", "is not known")],
        )
        .await;
        check(r#"{"name":"x","ids":{}}"#, "invalid", &[("ids", "must be a list")]).await;
        check(r#"{"name":"x","name":"y","ids":[]}"#, "invalid", &[("name", "is given more than once")]).await;
        check("[]", "invalid", &[]).await;
        check("\"text\"", "invalid", &[]).await;
    }

    #[tokio::test]
    async fn what_is_no_json_is_told_apart_from_what_is_wrong_json() {
        let deep = "{\"name\":".to_owned() + &"[".repeat(10_000);
        for body in ["", "{", "[", r#"{"name":}"#, r#"{"name":"\ud800"}"#, "{} {}", "nul", &deep] {
            check(body, "malformed_json", &[]).await;
        }
        let shown = read(Some("application/json"), b"{\"name\":\"\xff\"}".to_vec()).await.unwrap_err();
        assert_eq!(shown["code"], "malformed_json");
    }

    #[tokio::test]
    async fn a_body_that_is_not_declared_as_json_is_not_read() {
        for content_type in [None, Some("text/plain"), Some("application/json; charset=latin1"), Some("json")]
        {
            assert_eq!(read(content_type, "{}").await.unwrap_err()["status"], 415, "{content_type:?}");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_declared_or_not() {
        let large = vec![b' '; MAX_BYTES + 1];
        assert_eq!(read(Some("application/json"), large.clone()).await.unwrap_err()["status"], 413);
        let pieces =
            large.chunks(1_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect::<Vec<_>>();
        let streamed = Body::from_stream(futures_util::stream::iter(pieces));
        assert_eq!(read(Some("application/json"), streamed).await.unwrap_err()["status"], 413);
        let mut fitting = r#"{"name":"x","ids":[]}"#.to_owned();
        fitting.push_str(&" ".repeat(MAX_BYTES - fitting.len()));
        assert!(read(Some("application/json"), fitting).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let endless = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        assert_eq!(read(Some("application/json"), endless).await.unwrap_err()["status"], 408);
    }
}
