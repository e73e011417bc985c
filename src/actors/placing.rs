//! What of one conversation is still to be placed in inboxes, where the store does not do that by itself.
//!
//! Behind the 201: the conversation hands it each message that is stored, in order, and it gives each participant's inbox
//! the event, the next message's when the former's is in all of them, trying again until that is so. Bounded: what would
//! be too much to hold is read from the store, which knows what was never placed; so is what a former process left.

use super::chat_homes::InboxHomes;
use crate::model::chat::{Message, MessageEvent};
use crate::model::id::{ConversationId, UserId};
use crate::storage::StorageError;
use crate::storage::chats::{Chats, ToPlace};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// Messages that are held.
const HELD: usize = 1_024;
/// Inboxes that are handed an event at once.
const AT_ONCE: usize = 16;
/// The first and the longest pause before a store is asked again that failed.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// The way of one conversation's events into inboxes. Its mutex is a std one: nothing awaits under it.
pub struct Placing {
    id: ConversationId,
    chats: Arc<dyn Chats>,
    inboxes: Arc<InboxHomes>,
    queue: Mutex<Queue>,
    bell: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Since when the store may know of messages that are not held here.
    behind: Option<Instant>,
    /// Since when that which is being placed has waited.
    at_hand: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Waiting {
    number: u64,
    event: MessageEvent,
    since: Instant,
}

/// Who takes part, and how far everything is placed.
#[derive(Default)]
struct Progress {
    participants: Vec<UserId>,
    through: u64,
}

impl Placing {
    /// Of a conversation, of which the store may know more.
    #[must_use]
    pub fn new(id: ConversationId, chats: Arc<dyn Chats>, inboxes: Arc<InboxHomes>) -> Self {
        let queue = Mutex::new(Queue { behind: Some(Instant::now()), ..Queue::default() });
        Self { id, chats, inboxes, queue, bell: Notify::new() }
    }

    /// A message is stored and its events have no places.
    pub fn add(&self, message: &Message) {
        let event = MessageEvent { message: message.id, conversation: message.conversation };
        let mut queue = self.lock();
        if queue.waiting.len() == HELD {
            queue.behind = queue.behind.or(Some(queue.waiting[0].since));
            queue.waiting.clear();
        } else if queue.behind.is_none() {
            queue.waiting.push_back(Waiting { number: message.number, event, since: Instant::now() });
        }
        drop(queue);
        self.bell.notify_one();
    }

    /// The store may know of messages that nobody hands over.
    pub fn fall_behind(&self) {
        self.lock().behind.get_or_insert_with(Instant::now);
        self.bell.notify_one();
    }

    /// How many messages wait, and since when; what only the store knows counts as one.
    #[must_use]
    pub fn backlog(&self) -> (usize, Option<Instant>) {
        let queue = self.lock();
        let count =
            queue.waiting.len() + usize::from(queue.behind.is_some()) + usize::from(queue.at_hand.is_some());
        let oldest = [queue.at_hand, queue.behind, queue.waiting.front().map(|waiting| waiting.since)];
        (count, oldest.into_iter().flatten().min())
    }

    /// Places what there is, and what comes. Never ends.
    pub async fn run(self: Arc<Self>) {
        let mut progress = Progress::default();
        loop {
            if let Some(since) = self.take_behind() {
                let to_place = self.until_done("what is to be placed", || self.chats.to_place(self.id)).await;
                self.catch_up(&mut progress, to_place, since).await;
            } else if let Some(next) = self.take_next() {
                if next.number > progress.through + 1 {
                    // Another home has stored something in between, and may have ended before it was placed.
                    self.fall_behind();
                } else if next.number > progress.through {
                    self.place(&progress.participants, next.event, false).await;
                    progress.through = next.number;
                }
                if !self.has_more() {
                    self.tell_placed(progress.through).await;
                }
            } else {
                self.bell.notified().await;
                continue;
            }
            self.lock().at_hand = None;
        }
    }

    /// Places what the store knows of; what was handed over meanwhile may be among it, and is passed over then.
    async fn catch_up(&self, progress: &mut Progress, to_place: ToPlace, since: Instant) {
        let is_something = !to_place.events.is_empty();
        progress.participants = to_place.participants;
        progress.through = progress.through.max(to_place.through);
        for (number, event) in to_place.events {
            self.lock().at_hand = Some(since);
            self.place(&progress.participants, event, true).await;
            progress.through = progress.through.max(number);
        }
        if is_something {
            self.tell_placed(progress.through).await;
        }
    }

    /// An event in everybody's inbox, tried again until it is there.
    async fn place(&self, participants: &[UserId], event: MessageEvent, is_repeat: bool) {
        let place = |user| async move {
            let mut is_repeat = is_repeat;
            self.until_done("an event", || {
                let placing = self.inboxes.place(user, event, is_repeat);
                is_repeat = true;
                placing
            })
            .await;
        };
        let mut rest = participants.iter().copied();
        let mut placing: FuturesUnordered<_> = rest.by_ref().take(AT_ONCE).map(place).collect();
        while placing.next().await.is_some() {
            placing.extend(rest.next().map(place));
        }
    }

    async fn tell_placed(&self, through: u64) {
        self.until_done("how far all is placed", || self.chats.placed(self.id, through)).await;
    }

    async fn until_done<T, F: Future<Output = Result<T, StorageError>>>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> F,
    ) -> T {
        let [mut pause, longest] = BACKOFF;
        loop {
            match ask().await {
                Ok(done) => return done,
                Err(error) => {
                    tracing::warn!(conversation = %self.id, %error, "{what} of {} waits: {error}", self.id);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    fn take_behind(&self) -> Option<Instant> {
        let mut queue = self.lock();
        queue.at_hand = queue.behind.take();
        if queue.at_hand.is_some() {
            // The store knows of these, too.
            queue.waiting.clear();
        }
        queue.at_hand
    }

    fn take_next(&self) -> Option<Waiting> {
        let mut queue = self.lock();
        let next = queue.waiting.pop_front();
        queue.at_hand = next.map(|next| next.since);
        next
    }

    fn has_more(&self) -> bool {
        let queue = self.lock();
        queue.behind.is_some() || !queue.waiting.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
