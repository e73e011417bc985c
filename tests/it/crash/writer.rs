//! One who posts, deletes and likes, one call after the other, until the server is gone.

use crate::harness::dice::Dice;
use crate::harness::person::Person;
use crate::harness::rest::{Answer, Call, text};
use serde_json::json;
use std::collections::HashSet;
use tokio::sync::watch;

/// Somebody, and what was answered.
pub struct Writer {
    pub person: Person,
    dice: Dice,
    count: usize,
    /// Posts answered with 201, in that order.
    pub posted: Vec<String>,
    /// Those of them of which nobody has checked that they arrived.
    pub unsettled: Vec<String>,
    /// Posts whose deletion was answered.
    pub deleted: HashSet<String>,
    /// Posts whose like was answered.
    pub liked: HashSet<String>,
    /// Contents of posts without a key that had no answer: they may be there, or not.
    pub unanswered: HashSet<String>,
    /// What is to be asked again.
    again: Option<Act>,
}

/// What a writer does; it may be done twice.
#[derive(Clone, Debug)]
enum Act {
    Post { content: String, key: Option<String> },
    Delete(String),
    Like(String),
}

impl Writer {
    pub fn new(person: Person, dice: Dice) -> Self {
        Self {
            person,
            dice,
            count: 0,
            posted: Vec::new(),
            unsettled: Vec::new(),
            deleted: HashSet::new(),
            liked: HashSet::new(),
            unanswered: HashSet::new(),
            again: None,
        }
    }

    /// Writes until there is no answer, counting the answers.
    pub async fn writes(&mut self, answered: &watch::Sender<usize>) {
        loop {
            let act = self.chooses();
            let Ok(answer) = self.call(&act).attempt().await else {
                match act {
                    Act::Post { content, key: None } => drop(self.unanswered.insert(content)),
                    act => self.again = Some(act),
                }
                return;
            };
            self.notes(act, answer, false);
            answered.send_modify(|count| *count += 1);
        }
    }

    /// Asks again what had no answer.
    pub async fn asks_again(&mut self) {
        if let Some(act) = self.again.take() {
            let answer = self.call(&act).await;
            self.notes(act, answer, true);
        }
    }

    /// Posts once.
    pub async fn posts(&mut self) {
        let act = self.post();
        let answer = self.call(&act).await;
        self.notes(act, answer, false);
    }

    fn chooses(&mut self) -> Act {
        // One of the newest few, that what is being delivered is met too.
        let recent = self.posted.len().saturating_sub(1 + self.dice.below(4));
        match (self.dice.below(10), self.posted.get(recent)) {
            (0, Some(post)) if !self.deleted.contains(post) => Act::Delete(post.clone()),
            (1 | 2, Some(post)) if !self.deleted.contains(post) && !self.liked.contains(post) => {
                Act::Like(post.clone())
            }
            _ => self.post(),
        }
    }

    fn post(&mut self) -> Act {
        self.count += 1;
        let content = format!("{} {}", self.person.username, self.count);
        let key = self.dice.one_in(2).then(|| format!("key-{}", self.count));
        Act::Post { content, key }
    }

    fn call(&self, act: &Act) -> Call {
        match act {
            Act::Post { content, key: None } => self.person.asks_to_post(content),
            Act::Post { content, key: Some(key) } => {
                self.person.post("/posts", json!({"content": content})).header("idempotency-key", key)
            }
            Act::Delete(post) => self.person.delete(&format!("/posts/{post}")),
            Act::Like(post) => self.person.call("POST", &format!("/posts/{post}/likes")),
        }
    }

    fn notes(&mut self, act: Act, answer: Answer, again: bool) {
        match (act, answer.status) {
            (Act::Post { content, .. }, 201) => {
                assert_eq!(answer.json["content"], content.as_str());
                let post = text(&answer.json, "id");
                let is_newer = self.posted.last().is_none_or(|last| *last < post);
                assert!(is_newer, "its id is under that of an older post: {post}");
                self.posted.push(post.clone());
                self.unsettled.push(post);
            }
            (Act::Delete(post), 204) => drop(self.deleted.insert(post)),
            (Act::Delete(post), 404) if again => drop(self.deleted.insert(post)),
            (Act::Like(post), 201) => drop(self.liked.insert(post)),
            (Act::Like(post), 409) if again => drop(self.liked.insert(post)),
            (act, status) => panic!("{act:?}: {status} {}", answer.text),
        }
    }
}
