//! Calls over HTTP, and what they answer.

use serde_json::{Value, json};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

/// The way to one server, which may move (a restart takes another port).
#[derive(Clone)]
pub struct Rest {
    client: reqwest::Client,
    base: Arc<Mutex<String>>,
}

/// A call that is being put together; awaiting it makes it.
pub struct Call(reqwest::RequestBuilder);

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Rest {
    pub fn to(base: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        Self::by(client.build().expect("a client"), base)
    }

    pub fn by(client: reqwest::Client, base: &str) -> Self {
        Self { client, base: Arc::new(Mutex::new(base.to_owned())) }
    }

    pub fn moved_to(&self, base: &str) {
        *self.base.lock().expect("the base") = base.to_owned();
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base.lock().expect("the base"))
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        let base = self.url("");
        base.split_once("://").map(|(_, authority)| authority.to_owned()).expect("a URL")
    }

    pub fn call(&self, method: &str, path: &str) -> Call {
        let method = method.parse().expect("a method");
        Call(self.client.request(method, self.url(path)))
    }

    pub fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    pub fn post(&self, path: &str, body: Value) -> Call {
        self.call("POST", path).json(&body)
    }
}

impl Call {
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub fn header(self, name: &str, value: impl AsRef<str>) -> Self {
        Self(self.0.header(name, value.as_ref()))
    }

    pub fn json(self, body: &Value) -> Self {
        Self(self.0.json(body))
    }

    pub fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.body(body))
    }

    /// As the HTTP client has it.
    pub fn into_request(self) -> reqwest::RequestBuilder {
        self.0
    }

    /// The answer, or how the connection failed.
    pub async fn attempt(self) -> Result<Answer, reqwest::Error> {
        let response = self.0.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, headers, text, json })
    }
}

impl IntoFuture for Call {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.attempt().await.expect("an answer") })
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "every answer is nosniff");
        self.json
    }

    /// A refusal, in the shape of all refusals.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.json["code"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text);
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"));
        let problem = &self.json;
        assert_eq!(problem["status"], json!(status), "{problem}");
        for text in ["type", "title", "detail", "instance", "trace_id"] {
            assert!(problem[text].as_str().is_some_and(|text| !text.is_empty()), "{text} of {problem}");
        }
        assert!(problem["retryable"].is_boolean(), "{problem}");
        match status {
            401 => assert!(self.header("www-authenticate").is_some(), "401 says how to authenticate"),
            405 => assert!(self.header("allow").is_some(), "405 says what is allowed"),
            429 | 503 => {
                let seconds = self.header("retry-after").and_then(|text| text.parse::<u64>().ok());
                assert!(seconds.is_some_and(|seconds| seconds >= 1), "Retry-After: {seconds:?}");
            }
            _ => {}
        }
        self.json
    }

    /// A refusal of these fields.
    #[track_caller]
    pub fn refuses_fields(self, fields: &[&str]) {
        let problem = self.refused(400, "invalid");
        let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("errors of {problem}"));
        let named: Vec<_> = errors.iter().map(|error| error["field"].as_str().expect("a field")).collect();
        assert_eq!(named, fields, "{problem}");
        assert!(errors.iter().all(|error| error["detail"].as_str().is_some_and(|text| !text.is_empty())));
    }
}

/// The names in an object, sorted.
#[track_caller]
pub fn names(object: &Value) -> Vec<&str> {
    let mut names: Vec<_> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// The text at a path of names, each level being an object.
#[track_caller]
pub fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}")).to_owned()
}

/// The ids of a list of posts.
#[track_caller]
pub fn ids(posts: &Value) -> Vec<String> {
    posts
        .as_array()
        .unwrap_or_else(|| panic!("a list: {posts}"))
        .iter()
        .map(|post| text(post, "id"))
        .collect()
}
