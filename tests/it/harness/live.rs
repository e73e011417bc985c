//! A client of `/ws` that checks what it hears.

use super::rest::text;
use super::soon;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::HashSet;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

/// One connection. It fails the test where a post is shown twice on it.
pub struct TestClient {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The data of the first frame.
    pub connected: Value,
    /// The newest cursor.
    pub cursor: String,
    shown: HashSet<(String, String)>,
}

impl TestClient {
    pub async fn open(url: &str) -> Self {
        Self::open_with(url, &[], None).await
    }

    pub async fn open_with(
        url: &str,
        headers: &[(&'static str, String)],
        connector: Option<Connector>,
    ) -> Self {
        let mut request = url.into_client_request().expect("a request");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        let opening = connect_async_tls_with_config(request, None, true, connector);
        let (stream, _) = soon("an upgrade", opening).await.expect("an upgrade");
        Self::on(stream)
    }

    /// A connection to a server that may be gone; none where there is nobody.
    pub async fn attempt(url: &str) -> Option<Self> {
        let opening = connect_async_tls_with_config(url, None, true, None);
        match soon("an upgrade or none", opening).await {
            Ok((stream, _)) => Some(Self::on(stream)),
            Err(Error::Io(_) | Error::ConnectionClosed | Error::Protocol(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn on(stream: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Self {
        Self { stream, connected: Value::Null, cursor: String::new(), shown: HashSet::new() }
    }

    /// The first frame.
    pub async fn begins(&mut self) {
        self.connected = self.expect("connected").await;
        assert!(!self.cursor.is_empty(), "the first frame carries a cursor");
    }

    /// The next message other than pings and pongs; none where the connection ended without a close frame.
    pub async fn message(&mut self) -> Option<Message> {
        // The heartbeat is no reason to wait longer.
        soon("another frame", self.message_whenever()).await
    }

    /// The same, however long that takes.
    async fn message_whenever(&mut self) -> Option<Message> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                None | Some(Err(Error::ConnectionClosed | Error::Protocol(_) | Error::Io(_))) => return None,
                Some(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Value {
        let message = self.message().await;
        self.text_of(message)
    }

    /// The next frame, however long it takes: for who listens all the while.
    pub async fn frame_whenever(&mut self) -> Value {
        let message = self.message_whenever().await;
        self.text_of(message)
    }

    fn text_of(&mut self, message: Option<Message>) -> Value {
        match message {
            Some(Message::Text(text)) => self.note(&text),
            other => panic!("no frame but {other:?}"),
        }
    }

    /// The next frame; none where the connection ended, however it did.
    pub async fn frame_or_end(&mut self) -> Option<Value> {
        match self.message().await {
            Some(Message::Text(text)) => Some(self.note(&text)),
            Some(Message::Close(_)) | None => None,
            other => panic!("no frame but {other:?}"),
        }
    }

    fn note(&mut self, text: &str) -> Value {
        let frame: Value = serde_json::from_str(text).expect("a frame is JSON");
        if let Some(cursor) = frame["cursor"].as_str() {
            self.cursor = cursor.to_owned();
        }
        let kind = frame["type"].as_str().expect("a frame has a type").to_owned();
        if let Some(id) = frame["data"]["id"].as_str() {
            assert!(frame["cursor"].is_string(), "it carries a cursor: {frame}");
            if kind == "newPost" {
                let gone = self.shown.contains(&("postDeleted".to_owned(), id.to_owned()));
                assert!(!gone, "newPost after its postDeleted: {frame}");
            }
            assert!(self.shown.insert((kind, id.to_owned())), "shown twice: {frame}");
        }
        frame
    }

    /// The data of the next frame, which must be of this type.
    #[track_caller]
    pub fn expect<'a>(&'a mut self, kind: &'a str) -> impl Future<Output = Value> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let mut frame = self.frame().await;
            assert_eq!(frame["type"], kind, "at {caller}: {frame}");
            frame["data"].take()
        }
    }

    /// The next frame must be this post.
    #[track_caller]
    pub fn expect_post<'a>(&'a mut self, id: &'a str) -> impl Future<Output = Value> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let frame = self.frame().await;
            assert!(frame["type"] == "newPost" && frame["data"]["id"] == id, "at {caller}, no {id}: {frame}");
            frame
        }
    }

    /// The next frame must be this deletion.
    #[track_caller]
    pub fn expect_deleted<'a>(&'a mut self, id: &'a str) -> impl Future<Output = Value> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let frame = self.frame().await;
            let found = frame["type"] == "postDeleted" && frame["data"]["id"] == id;
            assert!(found, "at {caller}, no deletion of {id}: {frame}");
            frame
        }
    }

    /// The ids of all posts up to and with this one, which must come.
    pub async fn posts_until(&mut self, last: &str) -> Vec<String> {
        let mut posts = Vec::new();
        while posts.last().map(String::as_str) != Some(last) {
            let frame = self.frame().await;
            if frame["type"] == "newPost" {
                posts.push(text(&frame["data"], "id"));
            }
        }
        posts
    }

    /// The code of the close frame, whatever comes before it.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match self.message().await {
                Some(Message::Close(Some(frame))) => return frame.code.into(),
                Some(Message::Text(text)) => drop(self.note(&text)),
                other => panic!("no close frame but {other:?}"),
            }
        }
    }

    pub async fn says(&mut self, frame: Value) {
        self.sends(Message::text(frame.to_string())).await;
    }

    pub async fn sends(&mut self, message: Message) {
        soon("room to write", self.stream.send(message)).await.expect("it is still open");
    }

    /// The connection answers.
    pub async fn pings(&mut self) {
        self.says(json!({"type": "ping"})).await;
        assert_eq!(self.expect("pong").await, json!({}));
    }

    /// Gone without a word.
    pub fn cut(self) -> String {
        self.cursor
    }
}
