//! Who listens by a chat stream: every stream of this node, by user, oldest first; and how each is told to end.
//!
//! A part of the [`Roster`](super::roster::Roster), which tells connections of both kinds. A stream's own answer holds
//! its [`StreamSeat`] and reads there why it is to end; dropped, the seat is given up.

use crate::model::id::{LoginId, UserId};
use futures_util::task::AtomicWaker;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use tokio::sync::Notify;

/// Why a stream ends, other than that its client left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Its token is over: by time, or because the login ended.
    Expired,
    /// The user has more streams than are allowed, and this is the oldest.
    TakenOver,
    /// The node is leaving: come back after that time.
    Leaving {
        /// Milliseconds to wait.
        after_ms: u64,
    },
}

/// All streams. Its mutex is a std one: nothing awaits under it.
#[derive(Default)]
pub struct Streams {
    users: Mutex<HashMap<UserId, Vec<Seat>>>,
    /// Told when the last one has gone.
    empty: Notify,
}

struct Seat {
    login: LoginId,
    ending: Arc<Ending>,
}

/// How one stream is told to end. The first reason stands.
#[derive(Default)]
pub struct Ending {
    reason: OnceLock<StreamEnd>,
    told: AtomicWaker,
}

/// A stream's place in the table, given up when this is dropped.
pub struct StreamSeat {
    streams: Arc<Streams>,
    user: UserId,
    ending: Arc<Ending>,
}

impl Streams {
    /// A stream comes. With `most` others of the user there, the oldest is told to end.
    pub fn join(self: &Arc<Self>, user: UserId, login: LoginId, most: usize) -> StreamSeat {
        let ending = Arc::new(Ending::default());
        let mut users = self.lock();
        let seats = users.entry(user).or_default();
        seats.push(Seat { login, ending: ending.clone() });
        // One that was told to end may not have gone yet, and no longer counts.
        let counted = seats.iter().filter(|seat| seat.ending.reason.get().is_none());
        let over = counted.clone().count().saturating_sub(most);
        counted.take(over).for_each(|seat| seat.ending.tell(StreamEnd::TakenOver));
        drop(users);
        StreamSeat { streams: self.clone(), user, ending }
    }

    /// A login ended.
    pub fn end_login(&self, login: LoginId) {
        let users = self.lock();
        let seats = users.values().flatten().filter(|seat| seat.login == login);
        seats.for_each(|seat| seat.ending.tell(StreamEnd::Expired));
    }

    /// Every stream ends.
    pub fn end_all(&self, reason: StreamEnd) {
        self.lock().values().flatten().for_each(|seat| seat.ending.tell(reason));
    }

    /// How each is told to end.
    pub fn endings(&self) -> Vec<Arc<Ending>> {
        self.lock().values().flatten().map(|seat| seat.ending.clone()).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Waits until nobody listens.
    pub async fn emptied(&self) {
        let mut told = std::pin::pin!(self.empty.notified());
        // Registered before it looks, so that it cannot miss the last one.
        told.as_mut().enable();
        if !self.lock().is_empty() {
            told.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Vec<Seat>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ending {
    /// Tells it.
    pub fn tell(&self, reason: StreamEnd) {
        // Only the first is heard.
        let _ = self.reason.set(reason);
        self.told.wake();
    }
}

impl StreamSeat {
    /// Waits until it is told to end. One waits at a time.
    pub async fn ended(&self) -> StreamEnd {
        poll_fn(|context| {
            // Before it looks, so that it misses nothing.
            self.ending.told.register(context.waker());
            self.ending.reason.get().map_or(Poll::Pending, |reason| Poll::Ready(*reason))
        })
        .await
    }
}

impl Drop for StreamSeat {
    fn drop(&mut self) {
        let mut users = self.streams.lock();
        if let Some(seats) = users.get_mut(&self.user) {
            seats.retain(|seat| !Arc::ptr_eq(&seat.ending, &self.ending));
            if seats.is_empty() {
                users.remove(&self.user);
            }
        }
        if users.is_empty() {
            self.streams.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{StreamEnd, Streams};
    use crate::model::id::{LoginId, UserId};
    use std::sync::Arc;

    #[tokio::test]
    async fn one_too_many_ends_the_oldest_that_was_not_told_before() {
        let (streams, user, login) = (Arc::new(Streams::default()), UserId::make(), LoginId::make());
        let first = streams.join(user, login, 2);
        let second = streams.join(user, login, 2);
        let _other = streams.join(UserId::make(), login, 2);
        let _third = streams.join(user, login, 2);
        assert_eq!(first.ended().await, StreamEnd::TakenOver);
        assert!(second.ending.reason.get().is_none());
        let _fourth = streams.join(user, login, 2);
        assert_eq!(second.ended().await, StreamEnd::TakenOver);
    }

    #[tokio::test]
    async fn the_first_reason_stands_and_the_last_one_to_go_is_heard() {
        let (streams, login) = (Arc::new(Streams::default()), LoginId::make());
        let stream = streams.join(UserId::make(), login, 1);
        streams.end_login(LoginId::make());
        streams.end_login(login);
        streams.end_all(StreamEnd::Leaving { after_ms: 1 });
        assert_eq!(stream.ended().await, StreamEnd::Expired);
        let emptied = tokio::spawn({
            let streams = streams.clone();
            async move { streams.emptied().await }
        });
        drop(stream);
        emptied.await.unwrap();
        assert_eq!(streams.count(), 0);
    }
}
