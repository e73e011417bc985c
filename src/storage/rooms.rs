//! Rooms, as a store keeps them.

use super::Pending;
use crate::model::id::{RoomId, UserId};
use crate::model::room::{Counts, Effect, EventTypes, Press, Room};
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;

/// Rooms.
///
/// A room has one home, which takes it ([`Rooms::take_room`]) and by that supersedes whoever had it. What is changed is
/// changed in groups ([`Rooms::write_room`]), each all or nothing and only where nobody has taken the room since and no other
/// group was written: a home writes one at a time. Where a write of a home answers
/// [`Unavailable`](super::StorageError::Unavailable), it may have been done or be done yet; the home then takes the room anew,
/// after which it is settled.
///
/// An ended room is to every call as one that never was, but to [`Rooms::make_room`]: its id is never given again.
pub trait Rooms: Send + Sync {
    /// Makes a room. To make one of that id again, by whoever does not know whether it was made, changes nothing.
    fn make_room(&self, new: NewRoom) -> Pending<()>;
    /// A room.
    fn room(&self, id: RoomId) -> Pending<Option<Room>>;
    /// The newest rooms of a user, newest first.
    fn rooms_of(&self, owner: UserId, limit: usize) -> Pending<Vec<Room>>;
    /// Rooms of these shards with no [`Group::active_at`] since `before`, in no order, at most `limit`.
    fn idle_rooms(&self, shards: Vec<Shard>, before: Timestamp, limit: usize) -> Pending<Vec<RoomId>>;

    /// Takes a room: whoever had it writes nothing from then on. Has the presses of the last
    /// [`PRESS_AGE`](crate::model::room::PRESS_AGE) before `now`, the newest
    /// [`RECENT_PRESSES`](crate::model::room::RECENT_PRESSES) of them at least.
    fn take_room(&self, id: RoomId, now: Timestamp) -> Pending<Option<TakenRoom>>;
    /// Writes a group. [`RoomWrite::Written`] raises the version by one.
    fn write_room(&self, id: RoomId, hold: Hold, group: Group) -> Pending<RoomWrite>;
    /// Ends a room; its effects go.
    fn end_room(&self, id: RoomId, hold: Hold) -> Pending<RoomWrite>;
    /// The oldest effects behind number `after` that are kept, in order.
    fn effects(&self, id: RoomId, after: u64, limit: usize) -> Pending<Vec<Effect>>;
}

/// A room to be made.
#[derive(Clone, Debug)]
pub struct NewRoom {
    /// The id that it gets.
    pub id: RoomId,
    /// Whose it is.
    pub owner: UserId,
    /// When it is made; it counts as active then.
    pub created_at: Timestamp,
    /// What can be pressed there.
    pub event_types: EventTypes,
}

/// What a home has of a room: by it the store knows who was superseded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// How often the room was taken.
    pub epoch: u64,
    /// How many groups were written.
    pub version: u64,
}

impl Hold {
    /// What a home has once its group is written.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { epoch: self.epoch, version: self.version + 1 }
    }
}

/// A room that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenRoom {
    /// The room.
    pub room: Room,
    /// What the first group is written by.
    pub hold: Hold,
    /// Its counts and the number of the next effect.
    pub counts: Counts,
    /// What [`Group::sent`] said last.
    pub sent: u64,
    /// What [`Group::acknowledges`] said last.
    pub acknowledges: bool,
    /// What [`Group::active_at`] said last.
    pub active_at: Timestamp,
    /// The recent presses, oldest first.
    pub recent: Vec<PressGroup>,
}

/// The presses of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PressGroup {
    /// The version that the group made.
    pub version: u64,
    /// When they were taken.
    pub at: Timestamp,
    /// The presses.
    pub presses: Vec<Press>,
}

/// What is changed of a room at once. One without presses and effects resets counts, marks what was sent, or says that
/// somebody is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The counts and the number of the next effect, as they are with this group.
    pub counts: Counts,
    /// The effects that it makes, in order.
    pub effects: Vec<Effect>,
    /// Effects up to this number may go: the host has them. Never goes back.
    pub sent: u64,
    /// Whether a host of the room has acknowledged: what one was sent it has only once it says so. Never goes back.
    pub acknowledges: bool,
    /// The presses that it takes.
    pub presses: Vec<Press>,
    /// Presses of groups of versions below this one may go: they are too old or too many. Never goes back.
    pub presses_from: u64,
    /// When the group was made.
    pub at: Timestamp,
    /// When a host or a press was there last.
    pub active_at: Timestamp,
}

/// What came of a write of a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomWrite {
    /// Done.
    Written,
    /// Not done, nor will it be: somebody took the room since, or it ended.
    Superseded,
}
