//! Accounts, follows and conversations, made through the public API.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::board::{Mark, content, now};
use crate::client::{Caller, start_of};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// Connections that do the setting up at once; more would only queue before argon2.
const WORKERS: usize = 16;

/// A registered user.
#[derive(Debug, Clone)]
pub struct Person {
    /// The user's UUID.
    pub id: String,
    /// The access token; good for an hour, which no scenario outlasts.
    pub token: String,
}

impl Person {
    /// The id, parsed.
    pub fn uuid(&self) -> Result<Uuid> {
        Uuid::parse_str(&self.id).map_err(|_| Error::Refused(format!("{} is not a UUID", self.id)))
    }
}

/// Registers this many users, named after the prefix.
pub async fn register(
    server: SocketAddr,
    prefix: &str,
    count: usize,
    progress: &Progress,
) -> Result<Vec<Person>> {
    #[derive(Deserialize)]
    struct Registered {
        user: User,
        token: String,
    }
    #[derive(Deserialize)]
    struct User {
        id: String,
    }

    let bar = progress.bar(&format!("registering {prefix}"), count as u64);
    let next = AtomicUsize::new(0);
    let work = (0..WORKERS.min(count)).map(|_| async {
        let mut caller = Caller::new(server);
        let mut made = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok::<_, Error>(made);
            }
            let body = json!({
                "email": format!("{prefix}-{index}@example.org"),
                "username": format!("{prefix}-{index}"),
                "password": "a bench of 1!",
            });
            let answer: Registered =
                caller.expect(201, Method::POST, "/auth/register", None, Some(body.to_string())).await?;
            made.push((index, Person { id: answer.user.id, token: answer.token }));
            bar.inc(1);
        }
    });
    let mut people: Vec<(usize, Person)> = try_join_all(work).await?.into_iter().flatten().collect();
    people.sort_by_key(|(index, _)| *index);
    Ok(people.into_iter().map(|(_, person)| person).collect())
}

/// Makes every follower follow every author.
pub async fn follow(
    server: SocketAddr,
    followers: &[Person],
    authors: &[Person],
    progress: &Progress,
) -> Result<()> {
    let pairs: Vec<(&Person, &Person)> = followers
        .iter()
        .flat_map(|follower| authors.iter().map(move |author| (follower, author)))
        .filter(|(follower, author)| follower.id != author.id)
        .collect();
    let bar = progress.bar("following", pairs.len() as u64);
    let next = AtomicUsize::new(0);
    let work = (0..WORKERS.min(pairs.len())).map(|_| async {
        let mut caller = Caller::new(server);
        while let Some((follower, author)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let path = format!("/users/{}/follow", author.id);
            let answer = caller.call(Method::POST, &path, Some(&follower.token), None).await?;
            if answer.status != 201 {
                return Err(Error::Answer {
                    call: format!("POST {path}"),
                    status: answer.status,
                    body: start_of(&answer.body),
                });
            }
            bar.inc(1);
        }
        Ok(())
    });
    try_join_all(work).await?;
    Ok(())
}

/// Opens the conversation of these people; the first of them asks.
pub async fn converse(caller: &mut Caller, participants: &[Person]) -> Result<Uuid> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Opened {
        conversation_id: Uuid,
    }

    let ids: Vec<&str> = participants.iter().map(|person| person.id.as_str()).collect();
    let token = participants.first().map(|person| person.token.as_str());
    let body = json!({ "participants": ids }).to_string();
    let opened: Opened =
        caller.expect(201, Method::POST, "/api/chat/conversations", token, Some(body)).await?;
    Ok(opened.conversation_id)
}

/// Posts once; answers the post's id and how long its 201 took.
pub async fn post(caller: &mut Caller, author: &Person, number: u32) -> Result<(Uuid, Duration)> {
    #[derive(Deserialize)]
    struct Posted {
        id: Uuid,
    }

    let body = json!({ "content": content(Mark { sent_at: now(), number }) }).to_string();
    let began = Instant::now();
    let posted: Posted = caller.expect(201, Method::POST, "/posts", Some(&author.token), Some(body)).await?;
    Ok((posted.id, began.elapsed()))
}
