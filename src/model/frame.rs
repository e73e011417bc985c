//! Frames of `/ws`: what the server says, encoded once with its WebSocket header, and what a client
//! may say, parsed. Shapes are those of docs/protocol.md.

use super::chat::InboxPosition;
use super::close::Close;
use super::cursor::Cursor;
use super::id::{ConnectionId, ConversationId, MessageId, PostId, UserId};
use super::post::Post;
use super::secret::Secret;
use super::timestamp::Timestamp;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

/// A complete, unmasked WebSocket frame (RFC 6455, section 5.2), ready to be written to any socket.
pub type Frame = Bytes;

/// What the server says in text frames.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "camelCase", rename_all_fields = "snake_case")]
pub enum ServerFrame<'a> {
    /// The first frame of every connection.
    Connected {
        /// This connection.
        connection_id: ConnectionId,
        /// Whose it is.
        user_id: UserId,
        /// Seconds between protocol pings.
        heartbeat_seconds: u64,
        /// Seconds without a text frame or ping from the client after which it is closed.
        idle_timeout_seconds: u64,
        /// Whether the cursor that came along is replayed; null where none came.
        resumed: Option<bool>,
    },
    /// A post of oneself or of somebody one follows.
    NewPost {
        /// Its id.
        id: PostId,
        /// Who wrote it.
        user_id: UserId,
        /// What it says.
        content: &'a str,
        /// Who wrote it, by name.
        author: Author<'a>,
        /// How many liked it when it was sent.
        likes_count: u64,
        /// When it was made.
        created_at: Timestamp,
    },
    /// A post is gone.
    PostDeleted {
        /// Its id.
        id: PostId,
        /// Who wrote it.
        user_id: UserId,
        /// When it was deleted.
        deleted_at: Timestamp,
    },
    /// A message of a conversation that the user takes part in.
    #[serde(rename_all = "camelCase")]
    ChatMessage {
        /// Which; what it says is in the history.
        message_id: MessageId,
        /// Where it was sent.
        conversation_id: ConversationId,
    },
    /// What was missed cannot be replayed: read the timeline, or, where the reason is `chat`, the conversations.
    Resync {
        /// Why: `expired`, `too_many`, `foreign`, `chat`.
        reason: &'static str,
    },
    /// The node is leaving: come back elsewhere, or here, after that time.
    Reconnect {
        /// Milliseconds to wait.
        after_ms: u64,
    },
    /// The answer to `ping`.
    Pong {},
    /// The answer to `auth`.
    Authenticated {
        /// When the new token expires.
        expires_at: Timestamp,
    },
    /// The answer to a frame that was not understood.
    Error {
        /// Stable, for programs.
        code: &'static str,
        /// For people.
        detail: &'a str,
    },
}

/// The author in a `newPost`.
#[derive(Serialize)]
pub struct Author<'a> {
    /// Its id.
    pub id: UserId,
    /// Its name.
    pub username: &'a str,
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(flatten)]
    frame: ServerFrame<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_cursor: Option<String>,
}

impl<'a> ServerFrame<'a> {
    /// The frame of a post.
    #[must_use]
    pub fn new_post(post: &'a Post, author_name: &'a str) -> Self {
        Self::NewPost {
            id: post.id,
            user_id: post.author,
            content: post.content.as_str(),
            author: Author { id: post.author, username: author_name },
            likes_count: post.likes,
            created_at: post.created_at,
        }
    }

    /// The frame as it goes over the wire, with a cursor where one is promised.
    #[must_use]
    pub fn encode(self, cursor: Option<Cursor>) -> Frame {
        self.encode_with(cursor, None)
    }

    /// The same, with where the user's inbox stands.
    #[must_use]
    pub fn encode_with(self, cursor: Option<Cursor>, inbox: Option<InboxPosition>) -> Frame {
        let envelope = Envelope {
            frame: self,
            cursor: cursor.map(|cursor| cursor.to_string()),
            chat_cursor: inbox.map(|position| position.to_string()),
        };
        // Nothing in an envelope can fail to serialise: no map with keys that are not text.
        encode(0x1, &serde_json::to_vec(&envelope).unwrap_or_default())
    }
}

/// A protocol ping without payload.
#[must_use]
pub fn ping() -> Frame {
    Bytes::from_static(&[0x89, 0])
}

/// A close frame with its code and reason.
#[must_use]
pub fn close(close: Close) -> Frame {
    let mut payload = close.code().to_be_bytes().to_vec();
    payload.extend_from_slice(close.reason().as_bytes());
    encode(0x8, &payload)
}

/// A ping of the protocol that carries something, which its answer repeats (RFC 6455, section 5.5.3).
#[must_use]
pub fn ping_with(payload: [u8; 8]) -> Frame {
    encode(0x9, &payload)
}

/// A text frame that says that.
#[must_use]
pub fn text(payload: &[u8]) -> Frame {
    encode(0x1, payload)
}

/// A final frame of one opcode with its length in the shortest form.
fn encode(opcode: u8, payload: &[u8]) -> Frame {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(0x80 | opcode);
    match payload.len() {
        short @ 0..=125 => frame.push(short as u8),
        medium @ 126..=0xFFFF => {
            frame.push(126);
            frame.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame.into()
}

/// What a client says in a text frame.
#[derive(Debug)]
pub enum ClientFrame {
    /// Answered with `pong`.
    Ping,
    /// The same user's newer token.
    Auth(Secret),
}

/// Why a client's frame was not understood; answered with an `error` frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not JSON, or not an object with a `type`.
    #[error("a frame is a JSON object with a \"type\": {0}")]
    Malformed(String),
    /// A `type` that no client says.
    #[error("the type {0:?} is not known; known are \"ping\" and \"auth\"")]
    UnknownType(String),
    /// `auth` without its token.
    #[error("\"auth\" needs data of the form {{\"token\": \"...\"}}")]
    AuthWithoutToken,
    /// A binary frame.
    #[error("frames are JSON text; binary frames are not read")]
    Binary,
}

impl FrameError {
    /// The stable code of the `error` frame.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::AuthWithoutToken => "malformed_frame",
            Self::UnknownType(_) => "unknown_type",
            Self::Binary => "binary_frame",
        }
    }
}

impl ClientFrame {
    /// Reads a text frame.
    ///
    /// # Errors
    /// What was wrong with it; the detail never repeats what a token might be.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        #[derive(serde::Deserialize)]
        struct Envelope<'a> {
            r#type: String,
            #[serde(borrow)]
            data: Option<&'a RawValue>,
        }
        #[derive(serde::Deserialize)]
        struct Auth {
            token: Secret,
        }
        let envelope: Envelope<'_> = serde_json::from_str(text)
            .map_err(|error| FrameError::Malformed(format!("{:?} error", error.classify()).to_lowercase()))?;
        match envelope.r#type.as_str() {
            "ping" => Ok(Self::Ping),
            "auth" => envelope
                .data
                .and_then(|data| serde_json::from_str(data.get()).ok())
                .map(|Auth { token }| Self::Auth(token))
                .ok_or(FrameError::AuthWithoutToken),
            other => Err(FrameError::UnknownType(other.chars().take(40).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientFrame, FrameError, ServerFrame, close, encode};
    use crate::model::chat::InboxPosition;
    use crate::model::close::Close;
    use crate::model::cursor::{Cursor, Seq, StoreName};
    use crate::model::id::{ConversationId, MessageId, UserId};

    #[test]
    fn a_frame_is_a_header_then_json_with_type_data_and_cursor() {
        let cursor = Cursor { store: StoreName(1), seq: Seq(2) };
        let frame = ServerFrame::Pong {}.encode(Some(cursor));
        let text = std::str::from_utf8(&frame[2..]).unwrap();
        assert_eq!(frame[0], 0x81);
        assert_eq!(usize::from(frame[1]), text.len());
        assert_eq!(text, format!(r#"{{"type":"pong","data":{{}},"cursor":"{cursor}"}}"#));
    }

    #[test]
    fn a_message_of_a_chat_carries_where_the_inbox_stands() {
        let (message_id, conversation_id) = (MessageId::make(), ConversationId::make());
        let inbox = InboxPosition { store: StoreName(1), user: UserId::make(), place: 7 };
        let frame = ServerFrame::ChatMessage { message_id, conversation_id }.encode_with(None, Some(inbox));
        let data = format!(r#"{{"messageId":"{message_id}","conversationId":"{conversation_id}"}}"#);
        let text = format!(r#"{{"type":"chatMessage","data":{data},"chat_cursor":"{inbox}"}}"#);
        assert_eq!(std::str::from_utf8(&frame[4..]).unwrap(), text);
    }

    #[test]
    fn lengths_take_their_shortest_form() {
        assert_eq!(encode(1, &[0; 125])[1], 125);
        assert_eq!(encode(1, &[0; 126])[1..4], [126, 0, 126]);
        assert_eq!(encode(1, &[0; 65_536])[1..10], [127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_close_frame_starts_with_its_code() {
        assert_eq!(close(Close::TooSlow)[2..4], 4008_u16.to_be_bytes());
    }

    #[test]
    fn client_frames_are_known_or_told_why_not() {
        assert!(matches!(ClientFrame::parse(r#"{"type":"ping"}"#), Ok(ClientFrame::Ping)));
        let auth = ClientFrame::parse(r#"{"type":"auth","data":{"token":"t"}}"#);
        assert!(matches!(auth, Ok(ClientFrame::Auth(token)) if token.expose() == "t"));
        for (text, code) in [
            ("", "malformed_frame"),
            ("[]", "malformed_frame"),
            (r#"{"type":1}"#, "malformed_frame"),
            (r#"{"type":"auth"}"#, "malformed_frame"),
            (r#"{"type":"auth","data":{"token":1}}"#, "malformed_frame"),
            (r#"{"type":"shout"}"#, "unknown_type"),
        ] {
            let error = ClientFrame::parse(text).err();
            assert_eq!(error.as_ref().map(FrameError::code), Some(code), "{text}");
        }
    }
}
