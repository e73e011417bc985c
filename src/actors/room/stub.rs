//! A store of rooms whose answers a test decides, for tests of what stands on it.

use crate::model::id::{RoomId, UserId};
use crate::model::room::{Counts, Effect, Room, Rules};
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::rooms::{Group, Hold, NewRoom, RoomWrite, Rooms, TakenRoom};
use crate::storage::{Pending, StorageError};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A store that has every room that has not ended, and forgets what it is told.
#[derive(Default)]
pub struct Stub {
    /// What reads of effects are answered.
    pub effects: Answers<Vec<Effect>>,
    /// What writes of groups are answered.
    pub written: Answers<RoomWrite>,
    /// What ends are answered.
    pub ended: Answers<RoomWrite>,
    /// The groups that were to be written.
    pub groups: Mutex<Vec<Group>>,
    /// Rooms where nobody was.
    pub idle: Mutex<Vec<RoomId>>,
    has_ended: AtomicBool,
}

/// Answers of one kind, in the order in which they are asked for; who asks early waits.
pub struct Answers<T> {
    asked: AtomicUsize,
    sender: UnboundedSender<T>,
    receiver: Arc<tokio::sync::Mutex<UnboundedReceiver<T>>>,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        let (sender, receiver) = unbounded_channel();
        Self { asked: AtomicUsize::new(0), sender, receiver: Arc::new(receiver.into()) }
    }
}

impl<T: Send + 'static> Answers<T> {
    /// The next answer.
    pub fn send(&self, answer: T) {
        self.sender.send(answer).unwrap();
    }

    /// How often one was asked for.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn next(&self) -> Pending<T> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let receiver = self.receiver.clone();
        Box::pin(async move {
            let next = receiver.lock().await.recv().await;
            next.ok_or_else(|| StorageError::Unavailable("the test is over".to_owned()))
        })
    }
}

/// A room that was just taken, and where somebody was last then.
pub fn taken(id: RoomId, active_at: Timestamp) -> TakenRoom {
    let event_types = Rules::default().event_types;
    TakenRoom {
        hold: Hold { epoch: 1, version: 0 },
        counts: Counts::new(&event_types),
        sent: 0,
        acknowledges: false,
        active_at,
        recent: Vec::new(),
        room: Room { id, owner: UserId::make(), created_at: active_at, event_types },
    }
}

/// An effect.
pub fn effect(seq: u64) -> Effect {
    Effect { seq, event_type: 0, trigger_count: 5, viewer_count: 1 }
}

impl Rooms for Stub {
    fn make_room(&self, _: NewRoom) -> Pending<()> {
        done(())
    }

    fn room(&self, id: RoomId) -> Pending<Option<Room>> {
        let is_there = !self.has_ended.load(Ordering::Relaxed);
        done(is_there.then(|| taken(id, Timestamp::now()).room))
    }

    fn rooms_of(&self, _: UserId, _: usize) -> Pending<Vec<Room>> {
        done(Vec::new())
    }

    fn idle_rooms(&self, _: Vec<Shard>, _: Timestamp, limit: usize) -> Pending<Vec<RoomId>> {
        done(self.idle.lock().unwrap().iter().take(limit).copied().collect())
    }

    fn take_room(&self, id: RoomId, now: Timestamp) -> Pending<Option<TakenRoom>> {
        let is_there = !self.has_ended.load(Ordering::Relaxed);
        done(is_there.then(|| taken(id, now)))
    }

    fn write_room(&self, _: RoomId, _: Hold, group: Group) -> Pending<RoomWrite> {
        self.groups.lock().unwrap().push(group);
        self.written.next()
    }

    fn end_room(&self, _: RoomId, _: Hold) -> Pending<RoomWrite> {
        self.has_ended.store(true, Ordering::Relaxed);
        self.ended.next()
    }

    fn effects(&self, _: RoomId, _: u64, _: usize) -> Pending<Vec<Effect>> {
        self.effects.next()
    }
}

fn done<T: Send + 'static>(answer: T) -> Pending<T> {
    Box::pin(std::future::ready(Ok(answer)))
}
