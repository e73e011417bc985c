//! Who writes in the conversation meanwhile, and who else listens.

use crate::harness::person::Person;
use crate::harness::rest::{Rest, text};
use crate::harness::stream::TestStream;
use crate::harness::until;
use roost::model::chat::InboxPosition;
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::interval;
use uuid::Uuid;

/// Between two messages, or two tries of one.
const PACE: Duration = Duration::from_millis(50);
/// How long a try may take.
const TRY: Duration = Duration::from_secs(12);

/// Somebody who writes message after message until asked to end, each until it is answered.
pub struct Talker {
    goes_on: watch::Sender<bool>,
    talking: JoinHandle<Vec<String>>,
}

impl Talker {
    /// Begins, by these doors in turn.
    pub fn begins(person: &Person, doors: &[Rest], conversation: &str) -> Self {
        let goes_on = watch::Sender::new(true);
        let (person, doors, conversation) = (person.clone(), doors.to_vec(), conversation.to_owned());
        let told = goes_on.subscribe();
        let talking = tokio::spawn(async move {
            let (mut said, mut pace) = (Vec::new(), interval(PACE));
            while *told.borrow() {
                pace.tick().await;
                let body = format!("{} says number {}", person.username, said.len());
                said.push(says(&person, &doors, &conversation, &body).await);
            }
            said
        });
        Self { goes_on, talking }
    }

    /// Ends after the message that it is at; the ids of all of them.
    async fn ends(self) -> Vec<String> {
        self.goes_on.send_replace(false);
        self.talking.await.expect("it talks")
    }
}

/// They end; what they said is in the history, and nothing else is.
pub async fn end(talkers: Vec<Talker>, reader: &Person, conversation: &str) {
    let mut said = HashSet::new();
    for talker in talkers {
        said.extend(talker.ends().await);
    }
    let history = reader.reads_history(conversation, 100).await;
    assert_eq!(history.len(), said.len(), "each message is there once");
    assert!(history.iter().all(|message| said.contains(&text(message, "messageId"))));
}

/// Says it by one key until it is answered.
async fn says(person: &Person, doors: &[Rest], conversation: &str, body: &str) -> String {
    let (key, mut pace) = (Uuid::new_v4().to_string(), interval(PACE));
    for door in doors.iter().cycle() {
        pace.tick().await;
        let asking = person.at(door).asks_to_say(conversation, body, &key).attempt();
        match tokio::time::timeout(TRY, asking).await {
            Ok(Ok(answer)) if matches!(answer.status, 200 | 201) => return text(&answer.json, "messageId"),
            Ok(Ok(answer)) => assert_eq!(answer.status, 503, "{}", answer.text),
            Ok(Err(_)) | Err(_) => {}
        }
    }
    unreachable!("doors go round")
}

/// Hears messages as the same user elsewhere, until who comes without a place is not told of them any more.
pub async fn are_heard_elsewhere(listener: &Person, elsewhere: &mut TestStream, count: usize) {
    for _ in 0..count {
        elsewhere.expect("message").await;
    }
    let heard = place(&elsewhere.last_event_id);
    let told = async || (place(&listener.streams().await.cut()) >= heard).then_some(());
    until("they count as told", told).await;
}

fn place(id: &str) -> u64 {
    let position: InboxPosition = id.parse().expect("a position");
    position.place
}
