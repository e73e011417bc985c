//! Requests by the page, broken in one piece or several, and what comes back.

use super::mutation::{mutate_json, mutate_text};
use crate::harness::chance::Chance;
use crate::harness::person::{PASSWORD, Person};
use crate::harness::raw::RawSocket;
use serde_json::{Value, json};

/// A request in pieces.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// What was answered.
pub struct Reply {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
    /// Whether the connection takes another request.
    pub goes_on: bool,
}

impl Request {
    /// A request that would be fine.
    pub fn seed(ann: &Person, post: &str, chance: &mut Chance) -> Self {
        let user = &ann.id;
        let name = format!("f{:x}", chance.next());
        // Those that hash a password cost a hundred others.
        let (method, path, query, body) = if chance.once_in(60) {
            let register = json!({"email": format!("{name}@example.com"), "username": name, "password": PASSWORD});
            let login = json!({"email": "ann@example.com", "password": PASSWORD});
            let both = [("POST", "/auth/register", register), ("POST", "/auth/login", login)];
            let (method, path, body) = chance.pick(&both).clone();
            (method, path.to_owned(), None, Some(body))
        } else {
            let all: [(&str, String, Option<&str>, Option<Value>); 16] = [
                ("POST", "/posts".into(), None, Some(json!({"content": "fuzzed"}))),
                ("POST", "/posts".into(), None, Some(json!({"content": name}))),
                ("GET", format!("/posts/{post}"), None, None),
                ("DELETE", format!("/posts/{}", uuid::Uuid::now_v7()), None, None),
                ("POST", "/posts/batch".into(), None, Some(json!({"post_ids": [post, user]}))),
                ("GET", format!("/users/{user}"), None, None),
                ("GET", "/users".into(), Some("username=ann"), None),
                ("PUT", format!("/users/{user}"), None, Some(json!({"username": name}))),
                ("GET", format!("/users/{user}/posts"), Some("limit=5"), None),
                ("POST", format!("/users/{user}/follow"), None, None),
                ("GET", format!("/users/{user}/followers"), Some("limit=5&cursor=x"), None),
                ("POST", format!("/posts/{post}/likes"), None, None),
                ("DELETE", format!("/posts/{post}/likes"), None, None),
                ("GET", "/timeline".into(), Some("limit=5&offset=2"), None),
                ("POST", "/auth/refresh".into(), None, Some(json!({"refresh_token": "x"}))),
                ("GET", "/ws".into(), Some("cursor=x"), None),
            ];
            chance.pick(&all).clone()
        };
        let mut headers = vec![("authorization".to_owned(), format!("Bearer {}", ann.token))];
        if body.is_some() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
            headers.push(("idempotency-key".to_owned(), name));
        }
        let body = body.map(|body| body.to_string().into_bytes());
        Self { method: method.to_owned(), path, query: query.map(str::to_owned), headers, body }
    }

    /// Breaks it in a place or two.
    pub fn mutate(&mut self, chance: &mut Chance) {
        for _ in 0..=chance.below(2) {
            match chance.below(7) {
                0 => {
                    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "FOO"];
                    self.method = (*chance.pick(&methods)).to_owned();
                }
                1 => self.path = format!("/{}", on_one_line(&mutate_text(&self.path, chance), "? #")),
                2 => {
                    let query = self.query.clone().unwrap_or_else(|| "limit=1".to_owned());
                    self.query = Some(on_one_line(&mutate_text(&query, chance), " #"));
                }
                3 => {
                    let place = chance.below(self.headers.len());
                    let changed = mutate_text(&self.headers[place].1, chance);
                    self.headers[place].1 = on_one_line(&changed, "");
                }
                4 => {
                    let names = ["cookie", "origin", "traceparent", "x-request-id", "x-forwarded-for", "forwarded", "accept-encoding", "range", "idempotency-key"];
                    let value = on_one_line(&mutate_text("roost_session=a.b.c; for=192.0.2.1", chance), "");
                    self.headers.push(((*chance.pick(&names)).to_owned(), value));
                }
                _ => {
                    let body = self.body.clone().unwrap_or_else(|| b"{}".to_vec());
                    let changed = match serde_json::from_slice(&body) {
                        Ok(value) if !chance.once_in(3) => mutate_json(&value, chance).to_string(),
                        _ => mutate_text(&String::from_utf8_lossy(&body), chance),
                    };
                    self.body = Some(changed.into_bytes());
                }
            }
        }
    }

    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// As it goes over the wire; its length is told truly.
    pub fn bytes(&self, authority: &str) -> Vec<u8> {
        let query = self.query.as_ref().map_or(String::new(), |query| format!("?{query}"));
        let mut bytes = format!("{} {}{query} HTTP/1.1\r\nhost: {authority}\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if let Some(body) = &self.body {
            bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// Without what would end the line, or the piece of it: the request stays one.
fn on_one_line(text: &str, ends: &str) -> String {
    text.chars().filter(|char| !char.is_ascii_control() && !ends.contains(*char)).collect()
}

impl Reply {
    pub async fn read(raw: &mut RawSocket, request: &Request) -> Self {
        let head = raw.head().await.unwrap_or_else(|| panic!("no answer to {request:?}"));
        let status = statuses(head.as_bytes()).first().copied().unwrap_or_else(|| panic!("{head}"));
        let header = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(':'));
            let found = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
            found.last().unwrap_or_default().to_owned()
        };
        let length: usize = header("content-length").parse().unwrap_or(0);
        let body = if request.is_head() { Vec::new() } else { raw.bytes(length).await };
        let closes = header("connection").eq_ignore_ascii_case("close") || status == 101;
        Self { status, content_type: header("content-type"), body, goes_on: !closes }
    }
}

/// The statuses of all answers in these bytes.
pub fn statuses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes);
    let begins = text.match_indices("HTTP/1.");
    begins.filter_map(|(place, _)| text.get(place + 9..place + 12)?.parse().ok()).collect()
}
