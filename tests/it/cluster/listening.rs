//! One who listens at one node, comes back at once from where it was, and notes in which order it is shown posts first.

use crate::harness::person::Person;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

pub struct Listening {
    person: Person,
    cursor: String,
    stream: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    /// Ids, in the order of their first showing.
    pub shown: Vec<String>,
}

impl Listening {
    /// It is connected to the node where this person is.
    pub async fn at(person: &Person) -> Self {
        let mut this = Self::from(person, String::new());
        while this.cursor.is_empty() {
            this.frame().await;
        }
        this
    }

    /// It will come back with that cursor.
    pub fn from(person: &Person, cursor: String) -> Self {
        Self { person: person.clone(), cursor, stream: None, shown: Vec::new() }
    }

    /// What was shown, once this post is among it.
    pub async fn until(&mut self, post: &str) -> Vec<String> {
        while !self.shown.iter().any(|shown| shown == post) {
            self.frame().await;
        }
        self.shown.clone()
    }

    /// One frame, or a connection more.
    async fn frame(&mut self) {
        let Some(stream) = &mut self.stream else {
            let query =
                if self.cursor.is_empty() { String::new() } else { format!("&cursor={}", self.cursor) };
            match connect_async(self.person.live_url(&query)).await {
                Ok((stream, _)) => self.stream = Some(stream),
                Err(_) => tokio::task::yield_now().await,
            }
            return;
        };
        match stream.next().await {
            Some(Ok(Message::Text(text))) => self.note(&text),
            Some(Ok(Message::Close(_)) | Err(_)) | None => self.stream = None,
            Some(Ok(_)) => {}
        }
    }

    fn note(&mut self, text: &str) {
        let frame: Value = serde_json::from_str(text).expect("a frame is JSON");
        if let Some(cursor) = frame["cursor"].as_str() {
            cursor.clone_into(&mut self.cursor);
        }
        if let (Some("newPost"), Some(id)) = (frame["type"].as_str(), frame["data"]["id"].as_str())
            && !self.shown.iter().any(|shown| shown == id)
        {
            self.shown.push(id.to_owned());
        }
    }
}
