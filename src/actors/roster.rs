//! Who is connected: every connection of this node, by user, oldest first; and, by [`Streams`], who listens by a stream.

use super::outbox::Outbox;
use super::streams::{Ending, StreamEnd, Streams};
use crate::model::close::Close;
use crate::model::frame::ServerFrame;
use crate::model::id::{ConnectionId, LoginId, UserId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// All connections. Its mutex is a std one: nothing awaits under it.
#[derive(Default)]
pub struct Roster {
    users: Mutex<HashMap<UserId, Vec<Seat>>>,
    /// Told when the last one has gone.
    empty: Notify,
    /// Those who listen by a stream.
    pub streams: Arc<Streams>,
}

/// One who is sent away.
enum Guest {
    Socket(Arc<Outbox>),
    Stream(Arc<Ending>),
}

struct Seat {
    connection: ConnectionId,
    login: LoginId,
    outbox: Arc<Outbox>,
}

impl Roster {
    /// A connection comes. With `most` others of the user there, the oldest is closed with 4409.
    pub fn join(
        &self,
        user: UserId,
        login: LoginId,
        connection: ConnectionId,
        outbox: Arc<Outbox>,
        most: usize,
    ) {
        let mut users = self.lock();
        let seats = users.entry(user).or_default();
        seats.push(Seat { connection, login, outbox });
        let over = seats.len().saturating_sub(most);
        let oldest: Vec<_> = seats.drain(..over).map(|seat| seat.outbox).collect();
        drop(users);
        oldest.iter().for_each(|outbox| outbox.close(Close::TakenOver));
    }

    /// A connection is gone.
    pub fn leave(&self, user: UserId, connection: ConnectionId) {
        let mut users = self.lock();
        if let Some(seats) = users.get_mut(&user) {
            seats.retain(|seat| seat.connection != connection);
            if seats.is_empty() {
                users.remove(&user);
            }
            if users.is_empty() {
                self.empty.notify_waiters();
            }
        }
    }

    /// A connection goes on under a newer login of its user.
    pub fn renew(&self, user: UserId, connection: ConnectionId, login: LoginId) {
        if let Some(seat) = self
            .lock()
            .get_mut(&user)
            .and_then(|seats| seats.iter_mut().find(|seat| seat.connection == connection))
        {
            seat.login = login;
        }
    }

    /// A user's connections.
    pub fn connections(&self, user: UserId) -> Vec<ConnectionId> {
        self.lock()
            .get(&user)
            .map(|seats| seats.iter().map(|seat| seat.connection).collect())
            .unwrap_or_default()
    }

    /// Waits until nobody is connected, and nobody listens by a stream.
    pub async fn emptied(&self) {
        tokio::join!(self.no_sockets(), self.streams.emptied());
    }

    async fn no_sockets(&self) {
        let mut told = std::pin::pin!(self.empty.notified());
        // Registered before it looks, so that it cannot miss the last one.
        told.as_mut().enable();
        if !self.lock().is_empty() {
            told.await;
        }
    }

    /// How many connections there are, streams not counted.
    pub fn count(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// A login ended: its connections close with 4401, its streams end.
    pub fn end_login(&self, login: LoginId) {
        self.close(|seat| seat.login == login, Close::Unauthorized);
        self.streams.end_login(login);
    }

    /// A user's sockets close, because of what they are sent of posts.
    pub fn close_user(&self, user: UserId, reason: Close) {
        let users = self.lock();
        let outboxes: Vec<_> =
            users.get(&user).into_iter().flatten().map(|seat| seat.outbox.clone()).collect();
        drop(users);
        outboxes.iter().for_each(|outbox| outbox.close(reason));
    }

    /// Every socket closes; streams end where that is not for the sake of posts, which they do not carry.
    pub fn close_all(&self, reason: Close) {
        self.close(|_| true, reason);
        match reason {
            Close::Leaving => self.streams.end_all(StreamEnd::Leaving { after_ms: 1_000 }),
            Close::Unauthorized => self.streams.end_all(StreamEnd::Expired),
            _ => {}
        }
    }

    /// Every connection is told to come back, and closes with 1012, spread evenly over `span`; each is
    /// told to wait until the span is over, and a little more the later it would have been told. Streams likewise.
    pub async fn send_away(&self, span: Duration) {
        let mut everybody: Vec<_> =
            self.lock().values().flatten().map(|seat| Guest::Socket(seat.outbox.clone())).collect();
        everybody.extend(self.streams.endings().into_iter().map(Guest::Stream));
        let (start, count) = (tokio::time::Instant::now(), everybody.len());
        for (place, guest) in everybody.into_iter().enumerate() {
            let due = span.mul_f64(place as f64 / count as f64);
            tokio::time::sleep_until(start + due).await;
            let after = span - due + Duration::from_secs(1).mul_f64(place as f64 / count as f64);
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            match guest {
                Guest::Socket(outbox) => {
                    outbox.say(ServerFrame::Reconnect { after_ms }.encode(None));
                    outbox.close(Close::Leaving);
                }
                Guest::Stream(ending) => ending.tell(StreamEnd::Leaving { after_ms }),
            }
        }
        self.close_all(Close::Leaving);
    }

    fn close(&self, which: impl Fn(&Seat) -> bool, reason: Close) {
        let chosen: Vec<_> = self
            .lock()
            .values()
            .flatten()
            .filter(|seat| which(seat))
            .map(|seat| seat.outbox.clone())
            .collect();
        chosen.iter().for_each(|outbox| outbox.close(reason));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Vec<Seat>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
