//! A registered user, and what it does.

use super::ground::Ground;
use super::live::TestClient;
use super::rest::{Answer, Call, Rest, ids, text};
use super::until_some;
use serde_json::{Value, json};

/// The password of everybody.
pub const PASSWORD: &str = "correct-horse-7";

/// Somebody with an account.
#[derive(Clone)]
pub struct Person {
    pub rest: Rest,
    pub id: String,
    pub username: String,
    pub token: String,
    pub refresh_token: String,
}

impl Rest {
    /// Somebody new.
    pub async fn person(&self, username: &str) -> Person {
        let made = self.register(username).await.expect(201);
        Person {
            rest: self.clone(),
            id: text(&made["user"], "id"),
            username: username.to_owned(),
            token: text(&made, "token"),
            refresh_token: text(&made, "refresh_token"),
        }
    }

    pub fn register(&self, username: &str) -> Call {
        let email = format!("{username}@example.com");
        self.post("/auth/register", json!({"email": email, "username": username, "password": PASSWORD}))
    }

    pub fn login(&self, username: &str) -> Call {
        self.post("/auth/login", json!({"email": format!("{username}@example.com"), "password": PASSWORD}))
    }
}

impl Person {
    /// The same person by another login.
    pub async fn again(&self) -> Self {
        let answer = self.rest.login(&self.username).await.expect(200);
        Self { token: text(&answer, "token"), refresh_token: text(&answer, "refresh_token"), ..self.clone() }
    }

    /// The same person at another node.
    pub fn at(&self, rest: &Rest) -> Self {
        Self { rest: rest.clone(), ..self.clone() }
    }

    pub fn call(&self, method: &str, path: &str) -> Call {
        self.rest.call(method, path).bearer(&self.token)
    }

    pub fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    pub fn post(&self, path: &str, body: Value) -> Call {
        self.call("POST", path).json(&body)
    }

    pub fn put(&self, path: &str, body: Value) -> Call {
        self.call("PUT", path).json(&body)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.call("DELETE", path)
    }

    /// Asks to post.
    pub fn asks_to_post(&self, content: &str) -> Call {
        self.post("/posts", json!({"content": content}))
    }

    /// Posts; answers the post's id.
    pub async fn posts(&self, content: &str) -> String {
        text(&self.asks_to_post(content).await.expect(201), "id")
    }

    pub async fn deletes(&self, post: &str) {
        self.delete(&format!("/posts/{post}")).await.expect(204);
    }

    pub fn asks_to_follow(&self, other: &Self) -> Call {
        self.call("POST", &format!("/users/{}/follow", other.id))
    }

    pub async fn follows(&self, other: &Self) {
        self.asks_to_follow(other).await.expect(201);
    }

    pub async fn unfollows(&self, other: &Self) {
        self.delete(&format!("/users/{}/follow", other.id)).await.expect(204);
    }

    /// The ids on the whole timeline, by its first page.
    pub async fn timeline(&self) -> Vec<String> {
        ids(&self.get("/timeline?limit=100").await.expect(200)["posts"])
    }

    /// Its timeline is this: at once, or, where timelines are written by fan-out, soon.
    pub async fn reads(&self, expected: &[String]) {
        if !Ground::is_shared() {
            return assert_eq!(self.timeline().await, expected);
        }
        let mut last = Vec::new();
        let read = until_some(async || {
            last = self.timeline().await;
            (last == expected).then_some(())
        });
        if read.await.is_none() {
            assert_eq!(last, expected);
        }
    }

    /// Connects, without waiting for the first frame.
    pub async fn opens(&self, query: &str) -> TestClient {
        TestClient::open(&self.live_url(query)).await
    }

    /// Where it connects; `query` is appended.
    pub fn live_url(&self, query: &str) -> String {
        self.rest.url(&format!("/ws?token={}{query}", self.token)).replacen("http", "ws", 1)
    }

    /// Connects anew.
    pub async fn connects(&self) -> TestClient {
        let mut client = self.opens("").await;
        client.begins().await;
        client
    }

    /// Connects with a cursor.
    pub async fn resumes(&self, cursor: &str) -> TestClient {
        let mut client = self.opens(&format!("&cursor={cursor}")).await;
        client.begins().await;
        client
    }

    /// Asks for an upgrade that is to be refused.
    pub async fn refused_upgrade(&self, query: &str) -> Answer {
        upgrade(self.rest.get(&format!("/ws?token={}{query}", self.token))).await
    }
}

/// A call with the headers of an upgrade.
pub fn upgrade(call: Call) -> Call {
    call.header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}
