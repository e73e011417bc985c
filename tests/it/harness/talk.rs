//! Three who talk in one conversation at whichever node answers, each with a stream that comes back where it was cut: what
//! was answered must be in the history, and everybody told of it, once and in one order.

use super::crowd::Tally;
use super::person::Person;
use super::rest::{Rest, text};
use super::soon;
use super::stream::{TestStream, message_ids};
use futures_util::future::join_all;
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// Between two tries of a client.
const AGAIN: Duration = Duration::from_millis(100);
/// How long it waits for an answer, and for a stream to say anything: a comment comes every 15 s.
const ANSWER: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(20);
/// What each is told of once all is over must have come by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// The last thing that is said.
const THE_END: &str = "the end";
/// Messages of one page.
const PAGE: usize = 100;

/// A conversation until it settles; dropped, it is over.
pub struct Talk {
    people: Vec<Person>,
    doors: Vec<Rest>,
    conversation: String,
    said: watch::Sender<usize>,
    over: watch::Sender<bool>,
    talking: JoinSet<Vec<String>>,
    listening: JoinSet<(String, Heard)>,
}

/// What one was told, in the order of the first time.
type Heard = Vec<String>;

impl Talk {
    /// They know each other and listen; each says something every so often.
    pub async fn begins(doors: Vec<Rest>, name: &str, pace: Duration) -> Self {
        let names: Vec<_> = (0..3).map(|number| format!("{name}-t{number}")).collect();
        let people = names.iter().enumerate().map(|(number, name)| doors[number % doors.len()].person(name));
        let people = join_all(people).await;
        let conversation = people[0].talks_with(&[&people[1], &people[2]]).await;
        let (said, over) = (watch::Sender::new(0), watch::Sender::new(false));
        let (mut talking, mut listening) = (JoinSet::new(), JoinSet::new());
        for (number, person) in people.iter().enumerate() {
            let listener = Listener { person: person.clone(), doors: doors.clone(), heard: Vec::new() };
            listening.spawn(listener.listens(number));
            let (person, doors, conversation) = (person.clone(), doors.clone(), conversation.clone());
            let (said, is_over) = (said.clone(), over.subscribe());
            talking.spawn(async move {
                let mut answered = Vec::new();
                while !*is_over.borrow() {
                    let body = format!("number {}", answered.len());
                    answered.push(says(&person, &doors, &conversation, &body).await);
                    said.send_modify(|said| *said += 1);
                    sleep(pace).await;
                }
                answered
            });
        }
        Self { people, doors, conversation, said, over, talking, listening }
    }

    /// So much more is said.
    pub async fn says(&self, more: usize) {
        let mut said = self.said.subscribe();
        let enough = *said.borrow() + more;
        soon("they talk on", said.wait_for(|said| *said >= enough)).await.expect("they talk");
    }

    /// The end: what was answered is there, and everybody was told.
    pub async fn settle(mut self) -> Tally {
        self.over.send_replace(true);
        let mut answered = Vec::new();
        while let Some(said) = soon("they end", self.talking.join_next()).await {
            answered.extend(said.expect("one talks in order"));
        }
        answered.push(says(&self.people[0], &self.doors, &self.conversation, THE_END).await);
        let history = message_ids(&self.people[0].reads_history(&self.conversation, PAGE).await);
        let mut tally = Tally { messages: answered.len(), ..Tally::default() };
        let (there, distinct): (HashSet<_>, HashSet<_>) =
            (history.iter().collect(), answered.iter().collect());
        let missing = answered.iter().filter(|message| !there.contains(message));
        tally.lost.extend(missing.map(|message| format!("{message} is not in the history")));
        if there.len() != history.len() || history.len() != distinct.len() {
            let (history, answered) = (history.len(), answered.len());
            tally.doubled.push(format!("the history has {history} messages, {answered} were answered"));
        }
        let mut hearing = Vec::new();
        let all = async {
            while let Some(heard) = self.listening.join_next().await {
                hearing.push(heard.expect("one listens in order"));
            }
        };
        if timeout(PATIENCE, all).await.is_err() {
            tally.lost.push(format!("{} of 3 were told of the end", hearing.len()));
        }
        for (name, heard) in hearing {
            let known: HashSet<_> = heard.iter().collect();
            let missed = history.iter().filter(|message| !known.contains(message));
            tally.lost.extend(missed.map(|message| format!("{name}: {message} was not told")));
            tally.deliveries += heard.len();
            if known.len() == history.len() && heard != history {
                tally.inverted.push(format!("{name}: was told in another order than the history's"));
            }
        }
        tally
    }
}

/// Says it until it is answered, by one key.
async fn says(person: &Person, doors: &[Rest], conversation: &str, body: &str) -> String {
    let key = Uuid::new_v4().to_string();
    for door in doors.iter().cycle() {
        let asking = person.at(door).asks_to_say(conversation, body, &key).attempt();
        match timeout(ANSWER, asking).await {
            Ok(Ok(answer)) if matches!(answer.status, 200 | 201) => return text(&answer.json, "messageId"),
            Ok(Ok(answer)) => assert_eq!(answer.status, 503, "{}", answer.text),
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(AGAIN).await;
    }
    unreachable!("doors go round")
}

struct Listener {
    person: Person,
    doors: Vec<Rest>,
    heard: Heard,
}

impl Listener {
    /// Listens at one node after the other, from where it was, until the end; answers who it is, and what it was told.
    async fn listens(mut self, first: usize) -> (String, Heard) {
        let doors = self.doors.clone();
        let mut position = None::<String>;
        for door in doors.iter().cycle().skip(first) {
            let call = self.person.at(door).asks_to_stream(position.as_deref());
            let Ok(Some(mut stream)) = timeout(SILENCE, TestStream::attempt_anywhere(call)).await else {
                sleep(AGAIN).await;
                continue;
            };
            if self.hears_the_end(&mut stream).await {
                break;
            }
            position = Some(stream.cut()).filter(|id| !id.is_empty()).or(position);
        }
        (self.person.username, self.heard)
    }

    /// Until the stream ends or falls silent; answers whether the end was told.
    async fn hears_the_end(&mut self, stream: &mut TestStream) -> bool {
        while let Ok(Some(event)) = timeout(SILENCE, stream.event_or_end()).await {
            if event.kind != "message" {
                continue;
            }
            let message = text(&event.data, "messageId");
            let is_new = !self.heard.contains(&message);
            if is_new {
                self.heard.push(message.clone());
            }
            if is_new && self.is_the_end(&text(&event.data, "conversationId"), &message).await {
                return true;
            }
        }
        false
    }

    async fn is_the_end(&self, conversation: &str, message: &str) -> bool {
        for door in &self.doors {
            let path = format!("/api/chat/history?conversationId={conversation}&limit=1");
            let asking = self.person.at(door).get(&path).attempt();
            if let Ok(Ok(answer)) = timeout(ANSWER, asking).await
                && answer.status == 200
            {
                let newest = &answer.json["messages"][0];
                return newest["messageId"] == message && newest["body"] == THE_END;
            }
        }
        false
    }
}
