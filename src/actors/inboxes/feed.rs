//! `Feed`: one listener's way through an inbox.
//!
//! It takes what comes from the table's tail, or reads the store from where it is, and gives each event once, in order. It stands in
//! the table as long as it lives.

use super::super::seen::Handed;
use super::inbox::{Delivery, Inbox, Next, PAGE};
use super::{Inboxes, lock};
use crate::model::chat::InboxPosition;
use crate::model::id::UserId;
use crate::storage::chats::{Chats, InboxPage};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;

/// The first and the longest pause before a store is asked again that failed, or does not have yet what was told of it.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// One listener's way through an inbox.
pub struct Feed {
    inboxes: Arc<Inboxes>,
    inbox: Arc<Inbox>,
    number: u64,
    handed: Arc<Handed>,
    user: UserId,
    /// Everything up to here was given.
    place: u64,
    /// Of how many doubts it knows what the store says.
    doubts: u64,
    reading: Option<Reading>,
}

/// A page on its way. It is kept where whoever waits for it gives up, and waits again.
struct Reading {
    doubts: u64,
    page: Pin<Box<dyn Future<Output = InboxPage> + Send>>,
}

impl Feed {
    /// Of a listener that has just entered the table, at the inbox's beginning.
    pub(super) fn new(inboxes: Arc<Inboxes>, inbox: Arc<Inbox>, user: UserId) -> Self {
        let doubts = inbox.doubts();
        let (number, handed) = inboxes.seen.enter(user);
        Self { inboxes, inbox, number, handed, user, place: 0, doubts, reading: None }
    }

    /// It begins behind that place.
    pub(super) fn begin_behind(&mut self, place: u64) {
        self.place = place;
    }

    /// The store has events up to that place; answers the newest that is known.
    pub(super) fn learn(&self, newest: u64) -> u64 {
        self.inbox.learn(newest)
    }

    /// Where it stands: everything up to there was given, or is not this listener's.
    #[must_use]
    pub fn position(&self) -> InboxPosition {
        self.position_of(self.place)
    }

    /// A place of this inbox as clients are told of it.
    #[must_use]
    pub fn position_of(&self, place: u64) -> InboxPosition {
        InboxPosition { store: self.inboxes.store, user: self.user, place }
    }

    /// What was given up to there was handed to the connection.
    pub fn hand(&self, place: u64) {
        self.handed.note(place);
    }

    /// The connection ends in order: what it was handed is written.
    pub fn settle(&self) {
        self.inboxes.seen.settle(self.number);
    }

    /// The next events, some at most, in order; waits where there are none. May be dropped at any await and called anew:
    /// what was not answered is not given.
    pub async fn next(&mut self) -> Vec<Delivery> {
        loop {
            let inbox = self.inbox.clone();
            let mut rung = pin!(inbox.bell.notified());
            // Before it looks: what comes afterwards wakes it.
            rung.as_mut().enable();
            if self.reading.is_none() {
                match inbox.after(self.place, self.doubts) {
                    Next::Here(events) => {
                        self.place = events.last().map_or(self.place, |delivery| delivery.place);
                        return events;
                    }
                    Next::InStore { newest, doubts } => {
                        let chats = self.inboxes.chats.clone();
                        let page = Box::pin(read(chats, self.user, self.place, newest));
                        self.reading = Some(Reading { doubts, page });
                    }
                    Next::Nowhere => {
                        rung.await;
                        continue;
                    }
                }
            }
            let Some(reading) = &mut self.reading else { continue };
            let page = reading.page.as_mut().await;
            self.doubts = reading.doubts;
            self.reading = None;
            self.place = self.place.max(page.through);
            let delivery = |(place, event)| Delivery { event, place, told_at: None };
            let events: Vec<_> = page.events.into_iter().map(delivery).collect();
            if !events.is_empty() {
                inbox.learn(self.place);
                return events;
            }
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.inboxes.seen.forget(self.number);
        let mut users = lock(&self.inboxes.users);
        if self.inbox.listeners.fetch_sub(1, Ordering::Relaxed) == 1 {
            users.remove(&self.user);
            self.inboxes.tell_listened(self.user, false);
        }
    }
}

/// Reads what is behind a place, until the store answers, and has something, or nothing is missing up to `newest`.
async fn read(chats: Arc<dyn Chats>, user: UserId, after: u64, newest: u64) -> InboxPage {
    let [mut pause, longest] = BACKOFF;
    loop {
        match chats.inbox(user, after, PAGE).await {
            Ok(page) if !page.events.is_empty() || page.through >= newest => return page,
            Ok(_) => tracing::debug!(%user, newest, "the store does not have yet what it took"),
            Err(error) => tracing::warn!(%user, %error, "the inbox of {user} is read later: {error}"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}
