//! What was heard so far: the last cursor, and the ids by which repeats are known.

use serde_json::Value;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

pub(super) struct Heard {
    cursor: Option<String>,
    left: Option<u64>,
    shown: HashSet<String>,
    order: VecDeque<String>,
}

/// Ids that are remembered: a replay has at most 800 posts, and as many deletions are plenty.
const REMEMBERED: usize = 4096;

/// What a frame is to whoever listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// To be shown.
    Shown,
    /// The first frame: to be shown, and how often the server pings.
    Greeting(Option<Duration>),
    /// The node is leaving: to be shown, and how long to stay away.
    Leaving(Duration),
    /// Shown before, or an answer to our own ping.
    Nothing,
}

impl Heard {
    pub fn new(cursor: Option<String>, count: Option<u64>) -> Self {
        Self { cursor, left: count, shown: HashSet::new(), order: VecDeque::new() }
    }

    /// The last cursor.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Whether as many posts were heard as were asked for.
    pub const fn enough(&self) -> bool {
        matches!(self.left, Some(0))
    }

    /// Takes a frame in. Its cursor counts from now on, so a frame to be shown must be shown.
    pub fn take(&mut self, text: &str) -> Meaning {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return Meaning::Shown };
        if let Some(cursor) = frame["cursor"].as_str() {
            self.cursor = Some(cursor.to_owned());
        }
        let (kind, data) = (frame["type"].as_str().unwrap_or_default(), &frame["data"]);
        match kind {
            "pong" => Meaning::Nothing,
            "connected" => Meaning::Greeting(data["heartbeat_seconds"].as_u64().map(Duration::from_secs)),
            "reconnect" => Meaning::Leaving(Duration::from_millis(data["after_ms"].as_u64().unwrap_or(0))),
            "newPost" | "postDeleted" => {
                let id = data["id"].as_str().unwrap_or_default();
                if !self.remember(format!("{kind} {id}")) {
                    return Meaning::Nothing;
                }
                if kind == "newPost" {
                    self.left = self.left.map(|left| left.saturating_sub(1));
                }
                Meaning::Shown
            }
            _ => Meaning::Shown,
        }
    }

    /// Answers whether it is new.
    fn remember(&mut self, id: String) -> bool {
        if !self.shown.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.shown.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Heard, Meaning, REMEMBERED};
    use std::time::Duration;

    #[test]
    fn a_repeat_is_known_and_its_cursor_still_counts() {
        let mut heard = Heard::new(Some("a".to_owned()), None);
        assert_eq!(heard.take(r#"{"type":"newPost","data":{"id":"1"},"cursor":"b"}"#), Meaning::Shown);
        assert_eq!(heard.take(r#"{"type":"newPost","data":{"id":"1"},"cursor":"c"}"#), Meaning::Nothing);
        assert_eq!(heard.cursor(), Some("c"));
        assert_eq!(heard.take(r#"{"type":"postDeleted","data":{"id":"1"}}"#), Meaning::Shown);
        assert_eq!(heard.cursor(), Some("c"));
    }

    #[test]
    fn enough_is_that_many_different_posts() {
        let mut heard = Heard::new(None, Some(2));
        let frames = [("newPost", "1"), ("newPost", "1"), ("postDeleted", "1"), ("newPost", "2")];
        let enough = frames.map(|(kind, id)| {
            heard.take(&format!(r#"{{"type":"{kind}","data":{{"id":"{id}"}}}}"#));
            heard.enough()
        });
        assert_eq!(enough, [false, false, false, true]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut heard = Heard::new(None, None);
        for id in 0..2 * REMEMBERED {
            heard.take(&format!(r#"{{"type":"newPost","data":{{"id":"{id}"}}}}"#));
        }
        assert_eq!((heard.shown.len(), heard.order.len()), (REMEMBERED, REMEMBERED));
    }

    #[test]
    fn what_the_server_says_of_itself_is_understood() {
        let mut heard = Heard::new(None, None);
        let greeting = heard.take(r#"{"type":"connected","data":{"heartbeat_seconds":7},"cursor":"a"}"#);
        assert_eq!(greeting, Meaning::Greeting(Some(Duration::from_secs(7))));
        let leaving = heard.take(r#"{"type":"reconnect","data":{"after_ms":1500}}"#);
        assert_eq!(leaving, Meaning::Leaving(Duration::from_millis(1500)));
        assert_eq!(heard.take(r#"{"type":"pong","data":{}}"#), Meaning::Nothing);
        assert_eq!(heard.take(r#"{"type":"resync","data":{"reason":"expired"}}"#), Meaning::Shown);
        assert_eq!(heard.take(r#"{"type":"somethingNew"}"#), Meaning::Shown);
    }
}
