//! The records of rooms that have not ended.

use crate::model::id::RoomId;
use crate::model::room::{Counts, Effect, Room};
use crate::model::timestamp::Timestamp;
use crate::storage::rooms::{Hold, PressGroup};
use serde_json::{Value, json};

/// A room as it stands.
#[derive(Clone, Debug)]
pub struct MovedRoom {
    /// The room.
    pub room: Room,
    /// How often it was taken, and how many groups were written.
    pub hold: Hold,
    /// Its counts and the number of the next effect.
    pub counts: Counts,
    /// Up to which number its host has effects.
    pub sent: u64,
    /// Whether a host has acknowledged.
    pub acknowledges: bool,
    /// When somebody was there last.
    pub active_at: Timestamp,
}

/// An effect that a room's host does not have.
#[derive(Clone, Copy, Debug)]
pub struct MovedEffect {
    /// Of which room.
    pub room: RoomId,
    /// What the host is to be told.
    pub effect: Effect,
}

/// Presses that are known if they are sent again.
#[derive(Clone, Debug)]
pub struct MovedPresses {
    /// Of which room.
    pub room: RoomId,
    /// Those of one group.
    pub group: PressGroup,
}

impl MovedRoom {
    pub(super) fn sealed(&self) -> Value {
        let Self { room, hold, counts, sent, acknowledges, active_at } = self;
        let event_types = room.event_types.stored();
        json!([
            room.id.to_string(),
            room.owner,
            room.created_at.millis(),
            event_types,
            [hold.epoch, hold.version],
            counts.counts,
            counts.next_seq,
            sent,
            acknowledges,
            active_at.millis()
        ])
    }
}

impl MovedEffect {
    pub(super) fn sealed(&self) -> Value {
        let Effect { seq, event_type, trigger_count, viewer_count } = self.effect;
        json!([self.room.to_string(), seq, event_type, trigger_count, viewer_count])
    }
}

impl MovedPresses {
    pub(super) fn sealed(&self) -> Value {
        let PressGroup { version, at, presses } = &self.group;
        json!([self.room.to_string(), version, at.millis(), crate::model::room::presses::pack_all(presses)])
    }
}
