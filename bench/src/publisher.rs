//! The publisher: posts, or sends to conversations, at a set rate over some connections, each waiting for its 201.
//!
//! The rate is an intention set beforehand, not what the server allows: a lane that is late sends at
//! once, and the time to the 201 is counted from when the post was due.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use futures_util::future::join_all;
use hdrhistogram::Histogram;
use hyper::Method;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::board::{Board, Mark, content, now};
use crate::client::{Caller, start_of};
use crate::people::Person;
use crate::stats::latencies;

/// Where messages are sent.
pub const SEND: &str = "/api/chat/send";

/// What a message's 201 says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// Which it is.
    pub message_id: Uuid,
}

/// The body of a message's request, under a key that is the number's.
pub fn message(conversation: Uuid, content: &str, number: u32) -> String {
    format!(r#"{{"conversationId":"{conversation}","body":"{content}","idempotencyKey":"bench-{number}"}}"#)
}

/// One connection that posts as one author, one post at a time.
#[derive(Debug)]
pub struct Lane {
    caller: Caller,
    token: String,
    conversation: Option<Uuid>,
}

impl Lane {
    /// A lane of this author.
    pub fn new(server: SocketAddr, author: &Person) -> Self {
        Self { caller: Caller::new(server), token: author.token.clone(), conversation: None }
    }

    /// A lane of this user that sends to this conversation.
    pub fn within(server: SocketAddr, sender: &Person, conversation: Uuid) -> Self {
        Self { conversation: Some(conversation), ..Self::new(server, sender) }
    }
}

/// What was published.
#[derive(Debug)]
pub struct Published {
    /// The posts' numbers.
    pub numbers: Range<u32>,
    /// Posts that got 201.
    pub answered: u64,
    /// Posts that were due but not sent before the deadline: twice the intended time.
    pub unsent: u64,
    /// Posts that got anything but 201.
    pub refused: u64,
    /// The first of those answers.
    pub first_refusal: Option<String>,
    /// From the first post's due time to the last answer.
    pub elapsed: Duration,
    /// Microseconds from when a post was due to its 201.
    pub to_answer: Histogram<u64>,
    /// Where they were sent to conversations: the number of each that got 201.
    pub messages: HashMap<Uuid, u32>,
}

impl Published {
    /// Posts answered a second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64()
    }
}

/// Publishes `posts` posts at `rate` a second, dealt to the lanes in turn.
pub async fn publish(lanes: &mut [Lane], board: &Board, rate: f64, posts: u32) -> Published {
    let first = board.peek_number();
    let start = Instant::now() + Duration::from_millis(20);
    let intended = Duration::from_secs_f64(f64::from(posts) / rate);
    let deadline = start + intended * 2 + Duration::from_secs(1);
    let step = lanes.len();
    let work = lanes.iter_mut().enumerate().map(|(index, lane)| async move {
        let mut done = Done::default();
        for turn in (index as u32..posts).step_by(step) {
            let due = start + Duration::from_secs_f64(f64::from(turn) / rate);
            sleep_until(due).await;
            if Instant::now() > deadline {
                done.unsent += 1;
                continue;
            }
            lane.post(board, due, &mut done).await;
        }
        done
    });
    let mut all = Done::default();
    for done in join_all(work).await {
        all.answered += done.answered;
        all.unsent += done.unsent;
        all.refused += done.refused;
        all.messages.extend(done.messages);
        all.first_refusal = all.first_refusal.or(done.first_refusal);
        // Both have the same bounds, so that adding cannot fail.
        let _same_bounds = all.to_answer.add(&done.to_answer);
    }
    Published {
        numbers: first..board.peek_number(),
        answered: all.answered,
        unsent: all.unsent,
        refused: all.refused,
        first_refusal: all.first_refusal,
        elapsed: start.elapsed(),
        to_answer: all.to_answer,
        messages: all.messages,
    }
}

#[derive(Debug)]
struct Done {
    answered: u64,
    unsent: u64,
    refused: u64,
    first_refusal: Option<String>,
    to_answer: Histogram<u64>,
    messages: HashMap<Uuid, u32>,
}

impl Default for Done {
    fn default() -> Self {
        Self {
            answered: 0,
            unsent: 0,
            refused: 0,
            first_refusal: None,
            to_answer: latencies(),
            messages: HashMap::new(),
        }
    }
}

impl Lane {
    async fn post(&mut self, board: &Board, due: Instant, done: &mut Done) {
        let number = board.take_number();
        let content = content(Mark { sent_at: now(), number });
        let (path, body) = match self.conversation {
            None => ("/posts", format!(r#"{{"content":"{content}"}}"#)),
            Some(id) => (SEND, message(id, &content, number)),
        };
        let answer = self.caller.call(Method::POST, path, Some(&self.token), Some(body)).await;
        match answer {
            Ok(answer) if answer.status == 201 => {
                board.answered(number, now());
                done.answered += 1;
                if self.conversation.is_some()
                    && let Ok(sent) = answer.json::<Sent>(201, SEND)
                {
                    done.messages.insert(sent.message_id, number);
                }
                done.to_answer.saturating_record(due.elapsed().as_micros() as u64);
            }
            Ok(answer) => {
                done.refuse(format!("{} {}", answer.status, start_of(&answer.body)));
            }
            Err(error) => done.refuse(error.to_string()),
        }
    }
}

impl Done {
    fn refuse(&mut self, answer: String) {
        self.refused += 1;
        self.first_refusal.get_or_insert(answer);
    }
}
