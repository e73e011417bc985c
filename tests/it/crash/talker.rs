//! Two who talk until the server is gone: one sends, and sends again under its key what had no answer; the other listens, on
//! a stream that goes on where it was.

use crate::harness::person::Person;
use crate::harness::rest::text;
use crate::harness::soon;
use crate::harness::stream::{TestStream, message_ids};
use std::collections::HashSet;
use tokio::sync::watch;

/// One who sends.
pub struct Talker {
    person: Person,
    conversation: String,
    count: usize,
    /// Messages that were answered, in that order.
    pub sent: Vec<String>,
    /// The number of the one that had no answer.
    again: Option<usize>,
}

/// One who listens.
pub struct Hearer {
    person: Person,
    place: String,
    told: HashSet<String>,
}

/// The two, who have a conversation.
pub async fn pair(talker: Person, hearer: Person) -> (Talker, Hearer) {
    let conversation = talker.talks_with(&[&hearer]).await;
    let place = hearer.streams().await.cut();
    (
        Talker { person: talker, conversation, count: 0, sent: Vec::new(), again: None },
        Hearer { person: hearer, place, told: HashSet::new() },
    )
}

impl Talker {
    /// Sends until there is no answer, counting the answers.
    pub async fn talks(&mut self, answered: &watch::Sender<usize>) {
        loop {
            self.count += 1;
            if !self.sends(self.count).await {
                self.again = Some(self.count);
                return;
            }
            answered.send_modify(|count| *count += 1);
        }
    }

    /// Sends again what had no answer, and then one more.
    pub async fn settles(&mut self) {
        if let Some(again) = self.again.take() {
            assert!(self.sends(again).await, "it answers");
        }
        self.count += 1;
        assert!(self.sends(self.count).await, "it answers");
    }

    async fn sends(&mut self, number: usize) -> bool {
        let body = format!("message {number}");
        let call = self.person.asks_to_say(&self.conversation, &body, &format!("key-{number}"));
        let Ok(answer) = call.attempt().await else { return false };
        assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.text);
        self.sent.push(text(&answer.json, "messageId"));
        true
    }

    /// The history is what was answered, each once, and in that order.
    pub async fn everything_is_in_the_history(&self) {
        let history = self.person.reads_history(&self.conversation, 100).await;
        assert_eq!(message_ids(&history), self.sent);
        let bodies: Vec<_> = history.iter().map(|message| text(message, "body")).collect();
        let expected: Vec<_> = (1..=self.count).map(|number| format!("message {number}")).collect();
        assert_eq!(bodies, expected);
    }
}

impl Hearer {
    /// Listens until the server is gone.
    pub async fn listens(&mut self) {
        let Some(mut stream) = TestStream::attempt(self.person.asks_to_stream(Some(&self.place))).await
        else {
            return;
        };
        while let Some(event) = stream.event_or_end().await {
            assert_eq!(event.kind, "message", "its place is of this store: {event:?}");
            self.told.insert(text(&event.data, "messageId"));
        }
        self.notes(&stream);
    }

    /// Comes back, and is told of everything that was answered.
    pub async fn catches_up(&mut self, sent: &[String]) {
        let mut stream = self.person.streams_from(&self.place).await;
        while sent.iter().any(|message| !self.told.contains(message)) {
            let data = soon("what was missed", stream.expect("message")).await;
            self.told.insert(text(&data, "messageId"));
        }
        self.notes(&stream);
    }

    fn notes(&mut self, stream: &TestStream) {
        if !stream.last_event_id.is_empty() {
            self.place.clone_from(&stream.last_event_id);
        }
    }
}
