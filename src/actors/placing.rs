//! What of one conversation is still to be placed in inboxes, where the store does not do that by itself.
//!
//! Behind the 201: the conversation hands it each message that is stored, in order, and it gives each participant's inbox
//! the event, those that came meanwhile together when the former is in all of them, trying again until that is so. Bounded:
//! what would be too much to hold is read from the store, which knows what was never placed; so is what a former process
//! left.

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
/// Inboxes that are handed events at once.
const AT_ONCE: usize = 16;
/// Events that an inbox is handed together.
const TOGETHER: usize = 50;
/// The store is told how far all is placed after so many messages at the latest, and when no more wait.
const UNTOLD: u64 = 1_000;
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

/// What is to be done next.
enum Next {
    /// These follow what is placed.
    Events(Vec<MessageEvent>),
    /// Something is missing before what waits.
    Unknown,
}

#[derive(Clone, Copy)]
struct Waiting {
    number: u64,
    event: MessageEvent,
    since: Instant,
}

/// Who takes part, how far everything is placed, and how far the store was told that it is.
#[derive(Default)]
struct Progress {
    participants: Vec<UserId>,
    through: u64,
    told: u64,
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
            } else if let Some(next) = self.take_next(progress.through) {
                match next {
                    // Another home has stored something in between, and may have ended before it was placed.
                    Next::Unknown => self.fall_behind(),
                    Next::Events(events) => {
                        self.place(&progress.participants, &events, false).await;
                        progress.through += events.len() as u64;
                    }
                }
                if !self.has_more() || progress.through - progress.told >= UNTOLD {
                    self.tell_placed(&mut progress).await;
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
        progress.participants = to_place.participants;
        progress.told = progress.told.max(to_place.through);
        progress.through = progress.through.max(to_place.through);
        for together in to_place.events.chunks(TOGETHER) {
            self.lock().at_hand = Some(since);
            let events: Vec<MessageEvent> = together.iter().map(|(_, event)| *event).collect();
            self.place(&progress.participants, &events, true).await;
            progress.through = together.iter().map(|(number, _)| *number).fold(progress.through, u64::max);
        }
        if progress.through > progress.told {
            self.tell_placed(progress).await;
        }
    }

    /// Events in everybody's inbox, tried again until they are there.
    async fn place(&self, participants: &[UserId], events: &[MessageEvent], is_repeat: bool) {
        let place = |user| async move {
            let mut is_repeat = is_repeat;
            self.until_done("an event", || {
                let placing = self.inboxes.place(user, events, is_repeat);
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

    async fn tell_placed(&self, progress: &mut Progress) {
        let through = progress.through;
        self.until_done("how far all is placed", || self.chats.placed(self.id, through)).await;
        progress.told = through;
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

    /// What waits first, of what is not placed already.
    fn take_next(&self, through: u64) -> Option<Next> {
        let mut queue = self.lock();
        while queue.waiting.front().is_some_and(|waiting| waiting.number <= through) {
            queue.waiting.pop_front();
        }
        let first = *queue.waiting.front()?;
        queue.at_hand = Some(first.since);
        let follows = |(number, waiting): (u64, &Waiting)| waiting.number == number;
        let together =
            (through + 1..).zip(&queue.waiting).take(TOGETHER).take_while(|pair| follows(*pair)).count();
        if together == 0 {
            return Some(Next::Unknown);
        }
        Some(Next::Events(queue.waiting.drain(..together).map(|waiting| waiting.event).collect()))
    }

    fn has_more(&self) -> bool {
        let queue = self.lock();
        queue.behind.is_some() || !queue.waiting.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
