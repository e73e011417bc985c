//! A client of `/api/chat/stream` as the standard has it (WHATWG HTML, section 9.2), and what people say to each other.

use super::person::Person;
use super::rest::{Call, Rest, text};
use super::soon;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;
use uuid::Uuid;

/// One stream. It fails the test where a message is told twice on it.
pub struct TestStream {
    response: reqwest::Response,
    unread: Vec<u8>,
    /// What a browser would send as `Last-Event-ID`.
    pub last_event_id: String,
    /// After which it would come back.
    pub retry: Option<Duration>,
    /// Comments so far.
    pub comments: usize,
    shown: HashSet<String>,
}

/// An event that a page would be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: String,
    pub data: Value,
}

impl TestStream {
    /// A stream that begins with where it stands.
    pub async fn open(call: Call) -> Self {
        let mut stream = Self::attempt(call).await.expect("a stream");
        stream.begins().await;
        stream
    }

    /// A stream, or nothing where nobody is there. What is refused fails the test.
    pub async fn attempt(call: Call) -> Option<Self> {
        let response = soon("an answer", call.response()).await.ok()?;
        assert_eq!(response.status(), 200);
        Some(Self::on(response))
    }

    /// A stream, or nothing where nobody is there or the node cannot serve it now.
    pub async fn attempt_anywhere(call: Call) -> Option<Self> {
        let response = soon("an answer", call.response()).await.ok()?;
        match response.status().as_u16() {
            503 => None,
            200 => Some(Self::on(response)),
            other => panic!("a stream was answered {other}"),
        }
    }

    fn on(response: reqwest::Response) -> Self {
        check_headers(response.headers());
        Self {
            response,
            unread: Vec::new(),
            last_event_id: String::new(),
            retry: None,
            comments: 0,
            shown: HashSet::new(),
        }
    }

    /// Reads the block that it begins with.
    pub async fn begins(&mut self) {
        let block = self.block().await.expect("a first block");
        assert_eq!(self.take(&block), None, "it tells a page nothing");
        assert!(!self.last_event_id.is_empty() && self.retry.is_some(), "{block}");
    }

    /// The next event; none where the stream ended, however it did.
    pub async fn event_or_end(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            if let Some(event) = self.take(&block) {
                return Some(event);
            }
        }
    }

    pub async fn event(&mut self) -> Event {
        // Comments that come meanwhile do not count.
        soon("an event", self.event_or_end()).await.expect("an event")
    }

    /// The next event must be of this kind; its data.
    #[track_caller]
    pub fn expect<'a>(&'a mut self, kind: &'a str) -> impl Future<Output = Value> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let event = self.event().await;
            assert_eq!(event.kind, kind, "at {caller}: {event:?}");
            event.data
        }
    }

    /// The next events must be these messages, in this order.
    pub async fn expect_messages(&mut self, messages: &[String]) {
        for message in messages {
            assert_eq!(text(&self.expect("message").await, "messageId"), *message);
        }
    }

    /// The ids of all messages up to and with this one, which must come.
    pub async fn messages_until(&mut self, last: &str) -> Vec<String> {
        let mut messages = Vec::new();
        while messages.last().map(String::as_str) != Some(last) {
            messages.push(text(&self.expect("message").await, "messageId"));
        }
        messages
    }

    /// The next comment or event; answers whether it was a comment.
    pub async fn is_commented(&mut self) -> bool {
        let before = self.comments;
        let block = self.block().await.expect("it goes on");
        self.take(&block);
        self.comments > before
    }

    /// It ends, and tells nothing before.
    pub async fn ended(&mut self) {
        assert_eq!(self.event_or_end().await, None);
    }

    /// Gone without a word.
    pub fn cut(self) -> String {
        self.last_event_id
    }

    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
                let block = self.unread.drain(..end + 2).collect();
                return Some(String::from_utf8(block).expect("a stream is UTF-8"));
            }
            // An end by reset is an end.
            let chunk = soon("more of the stream", self.response.chunk()).await.ok()??;
            self.unread.extend_from_slice(&chunk);
        }
    }

    fn take(&mut self, block: &str) -> Option<Event> {
        let (mut kind, mut data) = ("message".to_owned(), None);
        for line in block.lines().filter(|line| !line.is_empty()) {
            let (field, value) = line.split_once(':').expect("a field");
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => self.comments += 1,
                "id" => self.last_event_id = value.to_owned(),
                "retry" => self.retry = Some(Duration::from_millis(value.parse().expect("milliseconds"))),
                "event" => kind = value.to_owned(),
                "data" => data = Some(serde_json::from_str(value).expect("data is JSON")),
                other => panic!("nobody knows {other}: {block}"),
            }
        }
        let event = Event { kind, data: data? };
        if event.kind == "message" {
            assert!(self.shown.insert(text(&event.data, "messageId")), "told twice: {event:?}");
            assert!(Uuid::parse_str(&text(&event.data, "conversationId")).is_ok(), "{event:?}");
        }
        Some(event)
    }
}

#[track_caller]
fn check_headers(headers: &HeaderMap) {
    let has = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(has("content-type"), Some("text/event-stream"));
    assert_eq!(has("cache-control"), Some("no-store"));
    assert_eq!(has("x-accel-buffering"), Some("no"));
    assert_eq!(has("x-content-type-options"), Some("nosniff"));
    assert_eq!(has("content-encoding"), None);
    assert_eq!(has("content-length"), None);
}

impl Call {
    /// The answer's head, its body still to come.
    pub async fn response(self) -> Result<reqwest::Response, reqwest::Error> {
        self.into_request().send().await
    }
}

impl Person {
    pub fn asks_to_talk_with(&self, others: &[&Self]) -> Call {
        let participants: Vec<_> = others.iter().map(|other| &other.id).collect();
        self.post("/api/chat/conversations", json!({"participants": participants}))
    }

    /// The conversation with these, new or not.
    pub async fn talks_with(&self, others: &[&Self]) -> String {
        let answer = self.asks_to_talk_with(others).await;
        assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.text);
        text(&answer.json, "conversationId")
    }

    pub fn asks_to_say(&self, conversation: &str, body: &str, key: &str) -> Call {
        let message = json!({"conversationId": conversation, "body": body, "idempotencyKey": key});
        self.post("/api/chat/send", message)
    }

    /// Sends a message; answers its id.
    pub async fn says(&self, conversation: &str, body: &str) -> String {
        let key = Uuid::new_v4().to_string();
        text(&self.asks_to_say(conversation, body, &key).await.expect(201), "messageId")
    }

    /// The call of a stream.
    pub fn asks_to_stream(&self, last_event_id: Option<&str>) -> Call {
        let call = stream_call(&self.rest, &format!("?token={}", self.token));
        match last_event_id {
            Some(id) => call.header("last-event-id", id),
            None => call,
        }
    }

    /// Listens, to what was written to none of its streams.
    pub async fn streams(&self) -> TestStream {
        TestStream::open(self.asks_to_stream(None)).await
    }

    /// Listens from there on.
    pub async fn streams_from(&self, last_event_id: &str) -> TestStream {
        TestStream::open(self.asks_to_stream(Some(last_event_id))).await
    }

    /// The whole history, oldest first, by pages of so many.
    pub async fn reads_history(&self, conversation: &str, limit: usize) -> Vec<Value> {
        let (mut messages, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/chat/history?conversationId={conversation}&limit={limit}{cursor}");
            let page = self.get(&path).await.expect(200);
            messages.extend(page["messages"].as_array().expect("messages").iter().cloned());
            let Some(next) = page["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        messages.reverse();
        messages
    }

    /// Its list of conversations.
    pub async fn conversations(&self) -> Vec<Value> {
        let list = self.get("/api/chat/conversations").await.expect(200);
        list["conversations"].as_array().expect("conversations").clone()
    }
}

/// A call of the stream with this query.
pub fn stream_call(rest: &Rest, query: &str) -> Call {
    rest.get(&format!("/api/chat/stream{query}"))
}

/// The ids of messages.
pub fn message_ids(messages: &[Value]) -> Vec<String> {
    messages.iter().map(|message| text(message, "messageId")).collect()
}
