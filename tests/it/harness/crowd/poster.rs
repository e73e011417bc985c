//! One who posts through any node, one post after the other's answer, each with a key, and sends it again until it is
//! answered with 201; some it deletes.

use super::ledger::{Ledger, Posted};
use super::{BETWEEN_TRIES, Doors, Phase};
use crate::harness::dice::Dice;
use crate::harness::person::Person;
use crate::harness::rest::text;
use roost::model::timestamp::Timestamp;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// One of so many posts is followed by a deletion.
const DELETES: usize = 10;

pub struct Poster {
    number: usize,
    person: Person,
    doors: Doors,
    ledger: Arc<Ledger>,
    dice: Dice,
    /// Its posts, but those it deleted.
    posts: Vec<String>,
}

/// The fewer are left, the longer it takes between two, so that there are some to the end, however long a fault lasts.
fn slower(pace: Duration, left: usize, most: usize) -> Duration {
    pace.mul_f64(most as f64 / left as f64)
}

impl Poster {
    pub fn new(number: usize, person: Person, doors: Doors, ledger: Arc<Ledger>, dice: Dice) -> Self {
        Self { number, person, doors, ledger, dice, posts: Vec::new() }
    }

    pub async fn posts(mut self, pace: Duration, most: usize, phase: watch::Receiver<Phase>) {
        let (mut last, mut next) = (None, Instant::now());
        for count in 0..most {
            sleep_until(next).await;
            next = Instant::now() + slower(pace, most - count, most);
            if *phase.borrow() != Phase::Acting {
                return;
            }
            let content = format!("{}-{count}", self.person.username);
            let Some(id) = self.posts_one(&content, last.as_deref(), &phase).await else {
                return self.ledger.notes_unanswered(content);
            };
            self.posts.push(id.clone());
            last = Some(id);
            if self.dice.one_in(DELETES) {
                // One of the newest few, that what is being delivered is met too.
                let newest = self.posts.len() - 1 - self.dice.below(self.posts.len().min(4));
                let post = self.posts.remove(newest);
                self.deletes(&post, &phase).await;
            }
        }
    }

    /// The post's id; none where it was left.
    async fn posts_one(
        &mut self,
        content: &str,
        last: Option<&str>,
        phase: &watch::Receiver<Phase>,
    ) -> Option<String> {
        let asked = Instant::now();
        let body = json!({"content": content});
        let mut tries = 0;
        while *phase.borrow() != Phase::Over {
            tries += 1;
            let person = self.person.clone();
            let answer = self
                .doors
                .ask(|door| person.at(door).post("/posts", body.clone()).header("idempotency-key", content));
            match answer.await {
                Some(answer) if answer.status == 201 => {
                    let id = text(&answer.json, "id");
                    let (author, content) = (self.person.id.clone(), content.to_owned());
                    let when = format!("{} after {tries} tries", Timestamp::now());
                    let post = Posted { author, content, asked, answered: Instant::now(), when };
                    self.ledger.notes_post(&id, post, last);
                    return Some(id);
                }
                Some(answer) if answer.status == 503 => self.ledger.notes_refusal(),
                Some(answer) => {
                    let (number, status) = (self.number, answer.status);
                    self.ledger.notes_odd(format!("author {number} was answered {status}: {}", answer.text));
                }
                None => {}
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        None
    }

    async fn deletes(&mut self, post: &str, phase: &watch::Receiver<Phase>) {
        // From the first try on it may be gone.
        self.ledger.notes_deletion(post, false);
        let mut again = false;
        while *phase.borrow() != Phase::Over {
            let person = self.person.clone();
            let path = format!("/posts/{post}");
            match self.doors.ask(|door| person.at(door).delete(&path)).await {
                Some(answer) if answer.status == 204 => return self.ledger.notes_deletion(post, true),
                // The try before did it.
                Some(answer) if answer.status == 404 && again => {
                    return self.ledger.notes_deletion(post, true);
                }
                Some(answer) if answer.status == 503 => self.ledger.notes_refusal(),
                Some(answer) => {
                    let what = format!("deleting {post} was answered {}: {}", answer.status, answer.text);
                    return self.ledger.notes_odd(what);
                }
                None => {}
            }
            again = true;
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }
}
