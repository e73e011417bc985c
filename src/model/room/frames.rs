//! Frames of a room's host: what it is told, and what it may say. Unlike those of `/ws` they carry their fields beside their
//! `type`; what both have in common (`ping`, `auth`, `reconnect` and the like) is [`crate::model::frame`]'s.

use super::Effect;
use super::rules::EventName;
use crate::model::frame::{self, ClientFrame, Frame, FrameError};
use crate::model::id::RoomId;
use serde::{Deserialize, Serialize};

/// The first frame: which room it is, and where its viewers go.
#[must_use]
pub fn room_created(room: RoomId, web_url: &str) -> Frame {
    #[derive(Serialize)]
    struct Created<'a> {
        r#type: &'static str,
        room_id: String,
        web_url: &'a str,
    }
    let created = Created { r#type: "room_created", room_id: room.to_string(), web_url };
    // Text alone: nothing in it can fail to serialise.
    frame::text(&serde_json::to_vec(&created).unwrap_or_default())
}

/// An effect, as the host and the channel of Redis are told of it.
#[must_use]
pub fn game_event(room: RoomId, event_type: &EventName, effect: &Effect) -> String {
    #[derive(Serialize)]
    struct GameEvent<'a> {
        r#type: &'static str,
        room_id: String,
        event_type: &'a str,
        trigger_count: u32,
        viewer_count: u32,
        seq: u64,
    }
    let event = GameEvent {
        r#type: "game_event",
        room_id: room.to_string(),
        event_type: event_type.as_str(),
        trigger_count: effect.trigger_count,
        viewer_count: effect.viewer_count,
        seq: effect.seq,
    };
    // Text and numbers alone.
    serde_json::to_string(&event).unwrap_or_default()
}

/// What a host says.
#[derive(Debug)]
pub enum HostFrame {
    /// It is there.
    Ping,
    /// A newer token.
    Auth(crate::model::secret::Secret),
    /// It has the effects up to that number.
    Ack(u64),
}

/// Why a frame is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostFrameError {
    /// As on `/ws`.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// An `ack` of nothing.
    #[error("\"ack\" needs a \"seq\", a whole number from 0")]
    AckWithoutSeq,
    /// A type that hosts do not say.
    #[error("the type {0:?} is not known; known are \"ping\", \"auth\" and \"ack\"")]
    UnknownType(String),
}

impl HostFrameError {
    /// The code in the `error` frame.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Frame(error) => error.code(),
            Self::AckWithoutSeq => "malformed_frame",
            Self::UnknownType(_) => "unknown_type",
        }
    }
}

impl HostFrame {
    /// Reads a text frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, HostFrameError> {
        #[derive(Deserialize)]
        struct Ack {
            seq: u64,
        }
        match ClientFrame::parse(text) {
            Ok(ClientFrame::Ping) => Ok(Self::Ping),
            Ok(ClientFrame::Auth(token)) => Ok(Self::Auth(token)),
            Err(FrameError::UnknownType(name)) if name == "ack" => serde_json::from_str(text)
                .map(|Ack { seq }| Self::Ack(seq))
                .map_err(|_| HostFrameError::AckWithoutSeq),
            Err(FrameError::UnknownType(name)) => Err(HostFrameError::UnknownType(name)),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HostFrame, game_event, room_created};
    use crate::model::id::RoomId;
    use crate::model::room::{Effect, EventName};

    #[test]
    fn a_host_is_told_its_room_and_its_effects_with_the_fields_beside_the_type() {
        let room: RoomId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let frame = room_created(room, "https://r.example/rooms/x");
        let text = r#"{"type":"room_created","room_id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","web_url":"https://r.example/rooms/x"}"#;
        assert_eq!(std::str::from_utf8(&frame[2..]).unwrap(), text);
        let effect = Effect { seq: 7, event_type: 0, trigger_count: 5, viewer_count: 3 };
        let event = game_event(room, &EventName::parse("skill1").unwrap(), &effect);
        assert_eq!(
            event,
            r#"{"type":"game_event","room_id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","event_type":"skill1","trigger_count":5,"viewer_count":3,"seq":7}"#
        );
    }

    #[test]
    fn a_host_acknowledges_pings_and_renews_and_is_told_what_else_is_wrong() {
        assert!(matches!(HostFrame::parse(r#"{"type":"ack","seq":7}"#), Ok(HostFrame::Ack(7))));
        assert!(matches!(HostFrame::parse(r#"{"type":"ping"}"#), Ok(HostFrame::Ping)));
        let auth = HostFrame::parse(r#"{"type":"auth","data":{"token":"t"}}"#);
        assert!(matches!(auth, Ok(HostFrame::Auth(token)) if token.expose() == "t"));
        for (text, code) in [
            (r#"{"type":"ack"}"#, "malformed_frame"),
            (r#"{"type":"ack","seq":-1}"#, "malformed_frame"),
            (r#"{"type":"ack","seq":"1"}"#, "malformed_frame"),
            (r#"{"type":"shout"}"#, "unknown_type"),
            ("x", "malformed_frame"),
        ] {
            assert_eq!(HostFrame::parse(text).err().map(|error| error.code()), Some(code), "{text}");
        }
    }
}
