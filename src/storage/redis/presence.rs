//! `ws:connection:{connection}`: who is connected, and where, for 600 s after each ping of its client.
//!
//! What is to be told waits in a queue of bounded length, so that no connection waits for Redis; where the
//! queue is full, or Redis away, it is forgotten. What one connection does is told in order.

use super::connection::COMMAND;
use super::link::{Does, Link};
use crate::model::id::{ConnectionId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::volatile::{PRESENCE_AGE, Presence, Present};
use fred::error::Error;
use fred::interfaces::KeysInterface;
use fred::types::Expiration;
use futures_util::future::join_all;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What may wait: all sessions of a node may come at once.
const QUEUE: usize = 32_768;
/// What is told at once.
const BATCH: usize = 256;

/// Connections as Redis shows them.
#[derive(Clone)]
pub struct SharedPresence {
    queue: mpsc::Sender<Told>,
}

enum Told {
    Put(Present),
    Remove(ConnectionId),
    /// Everything before was told.
    Flushed(oneshot::Sender<()>),
}

/// As it stands in Redis.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Stored<'a> {
    connection_id: ConnectionId,
    user_id: UserId,
    connected_at: Timestamp,
    node: &'a str,
}

impl SharedPresence {
    pub(super) fn start(link: Arc<Link>, node: &str, tasks: &mut JoinSet<()>) -> Self {
        let (queue, told) = mpsc::channel(QUEUE);
        tasks.spawn(tell(link, node.to_owned(), told));
        Self { queue }
    }

    /// Waits until what was said so far has been told, or cannot be soon.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let flushing = async {
            if self.queue.send(Told::Flushed(done)).await.is_ok() {
                let _ = flushed.await;
            }
        };
        let _ = timeout(COMMAND * 4, flushing).await;
    }

    fn say(&self, told: Told) {
        // Full: that somebody is there is known again when its client pings.
        let _ = self.queue.try_send(told);
    }
}

impl Presence for SharedPresence {
    fn put(&self, present: Present) {
        self.say(Told::Put(present));
    }

    fn remove(&self, connection: ConnectionId) {
        self.say(Told::Remove(connection));
    }
}

async fn tell(link: Arc<Link>, node: String, mut queue: mpsc::Receiver<Told>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        let mut flushed = Vec::new();
        let mut telling = Vec::with_capacity(batch.len());
        for told in batch.drain(..) {
            match told {
                Told::Flushed(done) => flushed.push(done),
                told => telling.push(tell_one(&link, &node, told)),
            }
        }
        // Polled in this order, so they are sent in it.
        join_all(telling).await;
        for done in flushed {
            // Who waited may have given up.
            let _ = done.send(());
        }
    }
}

async fn tell_one(link: &Link, node: &str, told: Told) {
    let client = link.client();
    let command = async {
        match told {
            Told::Put(Present { connection, user }) => {
                let connected_at = connection.made_at();
                let stored = Stored { connection_id: connection, user_id: user, connected_at, node };
                let stored = serde_json::to_string(&stored).unwrap_or_default();
                let age = Expiration::EX(i64::try_from(PRESENCE_AGE.as_secs()).unwrap_or(i64::MAX));
                client.set::<(), _, _>(key(connection), stored, Some(age), None, false).await
            }
            Told::Remove(connection) => client.del::<(), _>(key(connection)).await,
            Told::Flushed(_) => Ok::<(), Error>(()),
        }
    };
    // Away: presence freezes until it is back.
    let _ = link.ask(Does::Read, command).await;
}

fn key(connection: ConnectionId) -> String {
    format!("ws:connection:{connection}")
}
