//! Who looks at rooms on this node: for each room that somebody looks at, how it stood last.
//!
//! A table beside the tree, bounded by room and by address. A room's home tells it when something changed, four times a
//! second at most; beside that [`RoomHomes`](super::room_homes::RoomHomes) asks the home every few seconds, so that a home that
//! moved, or a telling that was lost, shows by then. Those who look are woken and take what is newest: nothing piles up.

use crate::model::id::RoomId;
use crate::model::room::RoomStats;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How late a telling may come behind a newer one of the same home.
const OVERTAKEN_MILLIS: i64 = 1_000;

/// How a room stood last.
#[derive(Clone, Debug, Default)]
pub enum Seen {
    /// Not known yet.
    #[default]
    Nothing,
    /// So.
    Stats(Arc<RoomStats>),
    /// It has ended.
    Ended,
}

/// How many may look.
#[derive(Clone, Copy, Debug)]
pub struct WatchBounds {
    /// At one room, on this node.
    pub room: usize,
    /// From one address, on this node.
    pub address: usize,
}

/// Why one more may not look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFull {
    /// The room has as many streams as it may have.
    Room,
    /// The address has.
    Address,
}

/// Everybody who looks. Its mutex is a std one: nothing awaits under it.
#[derive(Default)]
pub struct Watches {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    rooms: HashMap<RoomId, Watched>,
    addresses: HashMap<IpAddr, usize>,
    /// How often somebody was the first to look at a room.
    begun: u64,
}

struct Watched {
    /// Which of those times.
    number: u64,
    seen: watch::Sender<Seen>,
    lookers: usize,
}

/// One who looks; given up when this is dropped.
pub struct Watching {
    watches: Arc<Watches>,
    room: RoomId,
    address: IpAddr,
    seen: watch::Receiver<Seen>,
}

impl Watches {
    /// One more looks; the room's first is answered a number as well, by which it is [kept up](Self::is_kept_by).
    ///
    /// # Errors
    /// Where that would be too many.
    pub fn join(
        self: &Arc<Self>,
        room: RoomId,
        address: IpAddr,
        bounds: WatchBounds,
    ) -> Result<(Watching, Option<u64>), WatchFull> {
        let mut table = self.lock();
        if table.addresses.get(&address).is_some_and(|streams| *streams >= bounds.address) {
            return Err(WatchFull::Address);
        }
        let Table { rooms, begun, .. } = &mut *table;
        let watched = rooms.entry(room).or_insert_with(|| {
            *begun += 1;
            Watched { number: *begun, seen: watch::Sender::new(Seen::Nothing), lookers: 0 }
        });
        if watched.lookers >= bounds.room {
            return Err(WatchFull::Room);
        }
        watched.lookers += 1;
        let first = (watched.lookers == 1).then_some(watched.number);
        let seen = watched.seen.subscribe();
        *table.addresses.entry(address).or_default() += 1;
        Ok((Watching { watches: self.clone(), room, address, seen }, first))
    }

    /// How a room stands; whoever looks at it is woken where that is news.
    pub fn tell(&self, room: RoomId, stats: RoomStats) {
        if let Some(watched) = self.lock().rooms.get(&room) {
            watched.seen.send_if_modified(|seen| {
                let is_news = match seen {
                    // A telling that was overtaken says nothing new; a home's clock may be behind that of the one before.
                    Seen::Stats(last) => {
                        let late = last.at.millis() - stats.at.millis();
                        !stats.is_as(last) && !(1..OVERTAKEN_MILLIS).contains(&late)
                    }
                    Seen::Nothing => true,
                    Seen::Ended => false,
                };
                if is_news {
                    *seen = Seen::Stats(Arc::new(stats));
                }
                is_news
            });
        }
    }

    /// A room has ended.
    pub fn end(&self, room: RoomId) {
        if let Some(watched) = self.lock().rooms.get(&room) {
            watched.seen.send_replace(Seen::Ended);
        }
    }

    /// Whether whoever got that number is still to ask how the room stands.
    #[must_use]
    pub fn is_kept_by(&self, room: RoomId, number: u64) -> bool {
        self.lock().rooms.get(&room).is_some_and(|watched| watched.number == number)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watching {
    /// How it stands now.
    pub fn now(&mut self) -> Seen {
        self.seen.borrow_and_update().clone()
    }

    /// Waits until it stands otherwise.
    pub async fn changed(&mut self) {
        // The sender lives as long as the table has the room, hence as long as this.
        if self.seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut table = self.watches.lock();
        if let Some(watched) = table.rooms.get_mut(&self.room) {
            watched.lookers -= 1;
            if watched.lookers == 0 {
                table.rooms.remove(&self.room);
            }
        }
        if let Some(streams) = table.addresses.get_mut(&self.address) {
            *streams -= 1;
            if *streams == 0 {
                table.addresses.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Seen, WatchBounds, Watches};
    use crate::model::id::RoomId;
    use crate::model::room::RoomStats;
    use crate::model::timestamp::Timestamp;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    #[test]
    fn who_looks_is_told_what_it_is_shown_and_no_more() {
        let (watches, room) = (Arc::new(Watches::default()), RoomId::make());
        let bounds = WatchBounds { room: 1, address: 1 };
        let (mut watching, _) = watches.join(room, Ipv4Addr::LOCALHOST.into(), bounds).unwrap();
        let (counts, required) = (vec![1], vec![5]);
        let first = RoomStats { at: Timestamp::now(), host_connected: false, viewers: 1, counts, required };
        watches.tell(room, first.clone());
        assert!(matches!(watching.now(), Seen::Stats(stats) if *stats == first));
        // A host comes and goes; later it stands as it did.
        for (seconds, host_connected) in [(1, true), (2, false), (3, false)] {
            let at = first.at.after(std::time::Duration::from_secs(seconds));
            watches.tell(room, RoomStats { at, host_connected, ..first.clone() });
            assert!(!watching.seen.has_changed().unwrap(), "{seconds}");
        }
        let at = first.at.after(std::time::Duration::from_secs(4));
        watches.tell(room, RoomStats { at, viewers: 2, ..first });
        assert!(watching.seen.has_changed().unwrap());
    }
}
