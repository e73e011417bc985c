//! The hosts of rooms that are connected to this node, and what each is to be sent.
//!
//! A table beside the tree. A room's home tells it of each effect; of those it keeps a short tail for every host. What
//! comes in its turn is given from the tail; behind a gap (a push was late or lost, or the tail was full) the host's [`HostFeed`]
//! reads the store from where it is. So pushes may be lost, doubled or late, and a host is given each effect once, in order of
//! `seq`, and none is missed: every few seconds its home says which is the newest.

use crate::model::id::{ConnectionId, RoomId};
use crate::model::room::Effect;
use crate::storage::Pending;
use crate::storage::rooms::Rooms;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Effects that are kept for a host.
const TAIL: usize = 256;
/// Effects that are read at once.
const PAGE: usize = 256;
/// The first and the longest pause before a store is asked again that failed, or does not have yet what was told of it.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// Why a host is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostEnd {
    /// Another host of the room came later.
    TakenOver,
    /// The room has ended.
    RoomEnded,
}

/// All hosts of this node. Its mutexes are std ones: nothing awaits under them.
#[derive(Default)]
pub struct Hosts {
    rooms: Mutex<HashMap<RoomId, Vec<Arc<HostLine>>>>,
}

/// One host, as what comes for it finds it.
pub struct HostLine {
    connection: ConnectionId,
    known: Mutex<Known>,
    bell: Notify,
}

#[derive(Default)]
struct Known {
    /// The newest effect that was told of.
    newest: u64,
    /// Up to there a host has them, this one or another; the store has them no more.
    sent: u64,
    /// Those that end there, without a gap.
    tail: VecDeque<Effect>,
    end: Option<HostEnd>,
}

/// A host's way through its room's effects; its place in the table is given up when this is dropped.
pub struct HostFeed {
    hosts: Arc<Hosts>,
    store: Arc<dyn Rooms>,
    room: RoomId,
    line: Arc<HostLine>,
    /// The number of the effect that it was given last.
    given: u64,
    /// What is being read of the store.
    reading: Option<Pending<Vec<Effect>>>,
    /// When the store is asked again that had nothing, and the pause after that.
    again_at: Option<Instant>,
    pause: Duration,
}

/// What comes next for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostNews {
    /// These, in order.
    Effects(Vec<Effect>),
    /// Nothing more: it is to go.
    End(HostEnd),
}

impl Hosts {
    /// A host is there, from now on.
    pub fn enter(
        self: &Arc<Self>,
        store: Arc<dyn Rooms>,
        room: RoomId,
        connection: ConnectionId,
    ) -> HostFeed {
        let line = Arc::new(HostLine { connection, known: Mutex::default(), bell: Notify::new() });
        self.lock().entry(room).or_default().push(line.clone());
        let (given, pause) = (0, BACKOFF[0]);
        HostFeed { hosts: self.clone(), store, room, line, given, reading: None, again_at: None, pause }
    }

    /// Effects of a room, in order, that are stored.
    pub fn push(&self, room: RoomId, effects: &[Effect]) {
        for line in self.lock().get(&room).into_iter().flatten() {
            line.push(effects);
        }
    }

    /// A host is to go.
    pub fn end(&self, room: RoomId, connection: ConnectionId, end: HostEnd) {
        for line in self.lock().get(&room).into_iter().flatten() {
            if line.connection == connection {
                line.end(end);
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, Vec<Arc<HostLine>>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostLine {
    /// The home says which effect is the newest, and up to which a host has them.
    pub fn is_told(&self, newest: u64, sent: u64) {
        let mut known = self.lock();
        known.sent = known.sent.max(sent);
        if newest > known.newest {
            // What lies between was not told here.
            known.newest = newest;
            known.tail.clear();
            self.bell.notify_one();
        }
    }

    /// It is to go.
    pub fn end(&self, end: HostEnd) {
        self.lock().end.get_or_insert(end);
        self.bell.notify_one();
    }

    fn push(&self, effects: &[Effect]) {
        let mut known = self.lock();
        for effect in effects.iter().copied() {
            if effect.seq <= known.newest {
                continue;
            }
            if effect.seq > known.newest + 1 {
                known.tail.clear();
            }
            if known.tail.len() >= TAIL {
                known.tail.pop_front();
            }
            known.newest = effect.seq;
            known.tail.push_back(effect);
        }
        self.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a feed finds what comes next.
enum Next {
    Here(HostNews),
    InStore,
    Nowhere,
}

impl HostFeed {
    /// How what comes for it finds it.
    #[must_use]
    pub const fn line(&self) -> &Arc<HostLine> {
        &self.line
    }

    /// What comes next. May be dropped at any await and called anew; what is being read meanwhile is not lost.
    pub async fn next(&mut self) -> HostNews {
        loop {
            match self.look() {
                Next::Here(news) => return self.take(news),
                Next::Nowhere => self.line.bell.notified().await,
                Next::InStore => {
                    if let Some(effects) = self.read().await {
                        return self.take(HostNews::Effects(effects));
                    }
                }
            }
        }
    }

    /// Reads on; none where it is to be looked again.
    async fn read(&mut self) -> Option<Vec<Effect>> {
        if let Some(again_at) = self.again_at {
            tokio::select! {
                () = self.line.bell.notified() => {}
                () = sleep_until(again_at) => {}
            }
            self.again_at = None;
            return None;
        }
        let begin = || self.store.effects(self.room, self.given, PAGE);
        let read = self.reading.get_or_insert_with(begin).await;
        self.reading = None;
        match read {
            Ok(mut effects) => {
                // A host has those by now that were read before that was told.
                effects.retain(|effect| effect.seq > self.given);
                if !effects.is_empty() {
                    return Some(effects);
                }
                // It does not have yet what was told of it, or another host has acknowledged that meanwhile.
            }
            Err(error) => tracing::warn!(
                room = %self.room, %error, "effects of room {} cannot be read yet: {error}", self.room
            ),
        }
        self.again_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(BACKOFF[1]);
        None
    }

    fn take(&mut self, news: HostNews) -> HostNews {
        (self.reading, self.again_at, self.pause) = (None, None, BACKOFF[0]);
        if let HostNews::Effects(effects) = &news
            && let Some(last) = effects.last()
        {
            self.given = self.given.max(last.seq);
        }
        news
    }

    fn look(&mut self) -> Next {
        let known = self.line.lock();
        self.given = self.given.max(known.sent);
        if let Some(end) = known.end {
            return Next::Here(HostNews::End(end));
        }
        if known.newest <= self.given {
            return Next::Nowhere;
        }
        match known.tail.front() {
            Some(first) if first.seq <= self.given + 1 => {
                let news = known.tail.iter().filter(|effect| effect.seq > self.given);
                Next::Here(HostNews::Effects(news.copied().collect()))
            }
            _ => Next::InStore,
        }
    }
}

impl Drop for HostFeed {
    fn drop(&mut self) {
        let mut rooms = self.hosts.lock();
        if let Some(lines) = rooms.get_mut(&self.room) {
            lines.retain(|line| !Arc::ptr_eq(line, &self.line));
            if lines.is_empty() {
                rooms.remove(&self.room);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HostNews, Hosts};
    use crate::actors::room::stub::{Stub, effect};
    use crate::model::id::{ConnectionId, RoomId};
    use futures_util::FutureExt;
    use std::sync::Arc;

    #[tokio::test]
    async fn what_is_being_read_is_not_read_again_where_whoever_waits_for_it_looks_elsewhere() {
        let (store, hosts, room) = (Arc::new(Stub::default()), Arc::new(Hosts::default()), RoomId::make());
        let mut feed = hosts.enter(store.clone(), room, ConnectionId::make());
        feed.line().is_told(2, 0);
        for _ in 0..3 {
            assert_eq!(feed.next().now_or_never(), None);
        }
        // Another host had the first, by what the home says meanwhile.
        feed.line().is_told(2, 1);
        store.effects.send(vec![effect(1), effect(2)]);
        assert_eq!(feed.next().await, HostNews::Effects(vec![effect(2)]));
        assert_eq!(store.effects.asked(), 1);
        assert_eq!(feed.next().now_or_never(), None);
    }
}
