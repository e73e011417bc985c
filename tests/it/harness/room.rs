//! Rooms as a host and its viewers use them.

use super::live::TestClient;
use super::person::Person;
use super::rest::{Call, Rest, text};
use super::stream::TestStream;
use serde_json::{Value, json};

impl Person {
    /// A new room; its id.
    pub async fn makes_room(&self) -> String {
        text(&self.call("POST", "/api/rooms").await.expect(201), "room_id")
    }

    /// A new room where these can be pressed.
    pub async fn makes_room_of(&self, event_types: &[(&str, u32)]) -> String {
        let listed: Vec<_> =
            event_types.iter().map(|(name, base)| json!({"event_type": name, "base": base})).collect();
        text(&self.post("/api/rooms", json!({"event_types": listed})).await.expect(201), "room_id")
    }

    /// Where it hosts a room.
    pub fn host_url(&self, room: &str) -> String {
        self.rest.url(&format!("/ws/rooms/{room}?token={}", self.token)).replacen("http", "ws", 1)
    }

    /// Hosts a room.
    pub async fn hosts(&self, room: &str) -> TestClient {
        let mut host = TestClient::open(&self.host_url(room)).await;
        let first = host.frame().await;
        assert_eq!((&first["type"], &first["room_id"]), (&json!("room_created"), &json!(room)), "{first}");
        host
    }
}

impl Rest {
    /// Asks to press.
    pub fn asks_to_press(&self, room: &str, press: Value) -> Call {
        self.post(&format!("/api/rooms/{room}/events"), press)
    }

    /// A viewer presses.
    pub async fn presses(&self, room: &str, event_type: &str, viewer: &str) -> Value {
        let press = json!({"event_type": event_type, "viewer_id": viewer});
        self.asks_to_press(room, press).await.expect(200)
    }

    /// The counts of a room, by event type.
    pub async fn counts(&self, room: &str) -> Vec<(String, u64)> {
        let stats = self.get(&format!("/api/rooms/{room}/stats")).await.expect(200);
        let stats = stats["stats"].as_array().expect("a list");
        stats.iter().map(|stat| (text(stat, "event_type"), number(stat, "current_count"))).collect()
    }

    /// A room's stream.
    pub async fn watches(&self, room: &str) -> TestStream {
        let call = self.get(&format!("/api/rooms/{room}/stream"));
        TestStream::attempt(call).await.expect("a stream")
    }
}

/// The number at a name.
#[track_caller]
pub fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// What a host heard: effects in order of `seq`, some of them more than once.
#[derive(Default)]
pub struct Heard {
    /// Presses that effects took.
    pub presses: u64,
    /// The newest effect.
    pub seq: u64,
}

impl Heard {
    /// Takes a frame.
    #[track_caller]
    pub fn take(&mut self, frame: &Value) {
        assert_eq!(frame["type"], "game_event", "{frame}");
        let seq = number(frame, "seq");
        assert!(seq <= self.seq + 1, "effect {} is missing: {frame}", self.seq + 1);
        if seq == self.seq + 1 {
            self.seq = seq;
            self.presses += number(frame, "trigger_count");
        }
    }
}
