//! What nodes say to each other of rooms, and what it means here.

use super::reading::uuid_of;
use super::{Answer, Garbled, id_bytes};
use crate::model::id::{ConnectionId, RoomId};
use crate::model::room::{Answered as PressAnswered, Effect, PressKey, RoomStats, ViewerKey};
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use bytes::Bytes;
use prost::{Message, Oneof};

/// A press.
#[derive(Clone, PartialEq, Message)]
pub struct PressText {
    /// The room.
    #[prost(bytes = "bytes", tag = "1")]
    pub room: Bytes,
    /// What is pressed: its place among the room's event types.
    #[prost(uint32, tag = "2")]
    pub event_type: u32,
    /// Who presses.
    #[prost(fixed64, tag = "3")]
    pub viewer: u64,
    /// Names the press, so that one sent again is counted once.
    #[prost(bytes = "bytes", tag = "4")]
    pub key: Bytes,
}

/// What is asked of a room's home besides.
#[derive(Clone, PartialEq, Message)]
pub struct RoomText {
    /// The room.
    #[prost(bytes = "bytes", tag = "1")]
    pub room: Bytes,
    /// What of it; none where a later version asks something new.
    #[prost(oneof = "RoomAsking", tags = "2, 3, 4, 5, 6, 7, 8")]
    pub what: Option<RoomAsking>,
}

/// What a room is asked.
#[derive(Clone, PartialEq, Oneof)]
pub enum RoomAsking {
    /// How it stands.
    #[prost(message, tag = "2")]
    Stats(super::Nothing),
    /// How it stands, and from now on for a while whenever that changes.
    #[prost(message, tag = "3")]
    Watch(NodeText),
    /// All counts start again.
    #[prost(message, tag = "4")]
    Reset(ResetText),
    /// It ends.
    #[prost(message, tag = "5")]
    End(EndText),
    /// A host is there, or still there.
    #[prost(message, tag = "6")]
    Attach(AttachText),
    /// The host has the effects up to a number.
    #[prost(message, tag = "7")]
    Acknowledge(AcknowledgeText),
    /// The host has gone.
    #[prost(message, tag = "8")]
    Detach(ConnectionText),
}

/// A node.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NodeText {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// All counts start again.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ResetText {
    /// Names it, so that a try that comes late resets nothing more.
    #[prost(bytes = "bytes", tag = "1")]
    pub request: Bytes,
}

/// The end of a room.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct EndText {
    /// Only where nobody was there for a day.
    #[prost(bool, tag = "1")]
    pub if_idle: bool,
}

/// A host's connection.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConnectionText {
    /// Which.
    #[prost(bytes = "bytes", tag = "1")]
    pub connection: Bytes,
}

/// A host that is there.
#[derive(Clone, PartialEq, Message)]
pub struct AttachText {
    /// Its connection.
    #[prost(bytes = "bytes", tag = "1")]
    pub connection: Bytes,
    /// The node where it is connected.
    #[prost(string, tag = "2")]
    pub node: String,
    /// What its first coming was answered; none at that.
    #[prost(message, optional, tag = "3")]
    pub turn: Option<TurnText>,
    /// What it has: a home that moved may not know.
    #[prost(uint64, tag = "4")]
    pub has: u64,
    /// Whether it said so itself.
    #[prost(bool, tag = "5")]
    pub by_host: bool,
}

/// Which of several hosts came later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct TurnText {
    /// How often the room had been taken.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Which of those who came since.
    #[prost(uint64, tag = "2")]
    pub number: u64,
}

/// What a host that is there is answered.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AttachedText {
    /// Its turn; none where another came later.
    #[prost(message, optional, tag = "1")]
    pub turn: Option<TurnText>,
    /// Effects up to here are done with.
    #[prost(uint64, tag = "2")]
    pub sent: u64,
    /// The newest effect.
    #[prost(uint64, tag = "3")]
    pub newest: u64,
    /// Whether a host of this room has acknowledged.
    #[prost(bool, tag = "4")]
    pub acknowledges: bool,
}

/// What a host has.
#[derive(Clone, PartialEq, Message)]
pub struct AcknowledgeText {
    /// The host's connection.
    #[prost(bytes = "bytes", tag = "1")]
    pub connection: Bytes,
    /// Up to which number.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// Whether it said so itself.
    #[prost(bool, tag = "3")]
    pub by_host: bool,
}

/// What a press is answered.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PressedText {
    /// What was pressed.
    #[prost(uint32, tag = "1")]
    pub event_type: u32,
    /// The count that it reached.
    #[prost(uint32, tag = "2")]
    pub current: u32,
    /// What it was measured against.
    #[prost(uint32, tag = "3")]
    pub required: u32,
    /// Whether it made an effect.
    #[prost(bool, tag = "4")]
    pub is_effect: bool,
    /// How many viewers are active.
    #[prost(uint32, tag = "5")]
    pub viewers: u32,
    /// What the next is measured against.
    #[prost(uint32, tag = "6")]
    pub next: u32,
}

/// How a room stands.
#[derive(Clone, PartialEq, Message)]
pub struct StatsText {
    /// The room.
    #[prost(bytes = "bytes", tag = "1")]
    pub room: Bytes,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "2")]
    pub at: i64,
    /// Whether a host is there.
    #[prost(bool, tag = "3")]
    pub host_connected: bool,
    /// How many viewers are active.
    #[prost(uint32, tag = "4")]
    pub viewers: u32,
    /// By the place of the event type.
    #[prost(uint32, repeated, tag = "5")]
    pub counts: Vec<u32>,
    /// Likewise.
    #[prost(uint32, repeated, tag = "6")]
    pub required: Vec<u32>,
}

/// An effect.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct EffectText {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// What was pressed.
    #[prost(uint32, tag = "2")]
    pub event_type: u32,
    /// How many presses it took.
    #[prost(uint32, tag = "3")]
    pub presses: u32,
    /// How many viewers were active.
    #[prost(uint32, tag = "4")]
    pub viewers: u32,
}

/// Effects for a host.
#[derive(Clone, PartialEq, Message)]
pub struct EffectsText {
    /// The room.
    #[prost(bytes = "bytes", tag = "1")]
    pub room: Bytes,
    /// In order.
    #[prost(message, repeated, tag = "2")]
    pub effects: Vec<EffectText>,
}

/// A host whose time is over.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HostOverText {
    /// The room.
    #[prost(bytes = "bytes", tag = "1")]
    pub room: Bytes,
    /// The host's connection.
    #[prost(bytes = "bytes", tag = "2")]
    pub connection: Bytes,
    /// Whether the room has ended; otherwise another host came.
    #[prost(bool, tag = "3")]
    pub is_ended: bool,
}

/// A press, as its room counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressing {
    /// What is pressed.
    pub event_type: u8,
    /// Who presses.
    pub viewer: ViewerKey,
    /// Names the press.
    pub key: PressKey,
}

impl PressText {
    /// That press in that room.
    #[must_use]
    pub fn of(room: RoomId, press: &Pressing) -> Self {
        Self {
            room: room_bytes(room),
            event_type: press.event_type.into(),
            viewer: press.viewer.0,
            key: Bytes::copy_from_slice(&press.key.0),
        }
    }

    /// Which room, and which press.
    ///
    /// # Errors
    /// Where it makes no sense.
    pub fn read(&self) -> Result<(RoomId, Pressing), Garbled> {
        let key = self.key.as_ref().try_into().map_err(|_| Garbled)?;
        let event_type = u8::try_from(self.event_type).map_err(|_| Garbled)?;
        let (viewer, key) = (ViewerKey(self.viewer), PressKey(key));
        Ok((room_of(&self.room)?, Pressing { event_type, viewer, key }))
    }
}

impl StatsText {
    /// That room, as it stands.
    #[must_use]
    pub fn of(room: RoomId, stats: RoomStats) -> Self {
        Self {
            room: room_bytes(room),
            at: stats.at.millis(),
            host_connected: stats.host_connected,
            viewers: stats.viewers,
            counts: stats.counts,
            required: stats.required,
        }
    }

    /// Which room, and how it stands.
    ///
    /// # Errors
    /// Where it makes no sense.
    pub fn read(self) -> Result<(RoomId, RoomStats), Garbled> {
        if self.counts.len() != self.required.len() {
            return Err(Garbled);
        }
        let stats = RoomStats {
            at: Timestamp::from_millis(self.at),
            host_connected: self.host_connected,
            viewers: self.viewers,
            counts: self.counts,
            required: self.required,
        };
        Ok((room_of(&self.room)?, stats))
    }
}

impl EffectsText {
    /// Those effects of that room.
    #[must_use]
    pub fn of(room: RoomId, effects: &[Effect]) -> Self {
        let text = |effect: &Effect| EffectText {
            seq: effect.seq,
            event_type: effect.event_type.into(),
            presses: effect.trigger_count,
            viewers: effect.viewer_count,
        };
        Self { room: room_bytes(room), effects: effects.iter().map(text).collect() }
    }

    /// Which room, and which effects.
    ///
    /// # Errors
    /// Where it makes no sense.
    pub fn read(self) -> Result<(RoomId, Vec<Effect>), Garbled> {
        let effect = |text: EffectText| {
            Ok(Effect {
                seq: text.seq,
                event_type: u8::try_from(text.event_type).map_err(|_| Garbled)?,
                trigger_count: text.presses,
                viewer_count: text.viewers,
            })
        };
        let effects: Result<_, _> = self.effects.into_iter().map(effect).collect();
        Ok((room_of(&self.room)?, effects?))
    }
}

impl HostOverText {
    /// That host of that room.
    #[must_use]
    pub fn of(room: RoomId, connection: ConnectionId, is_ended: bool) -> Self {
        Self { room: room_bytes(room), connection: id_bytes(connection.0), is_ended }
    }

    /// Which room, and which connection.
    ///
    /// # Errors
    /// Where it makes no sense.
    pub fn read(&self) -> Result<(RoomId, ConnectionId), Garbled> {
        Ok((room_of(&self.room)?, connection_of(&self.connection)?))
    }
}

impl From<PressAnswered> for Answer {
    fn from(answered: PressAnswered) -> Self {
        Self::Pressed(PressedText {
            event_type: answered.event_type.into(),
            current: answered.current_count,
            required: answered.required_count,
            is_effect: answered.effect_triggered,
            viewers: answered.viewer_count,
            next: answered.next_threshold,
        })
    }
}

impl Answer {
    /// What a press was answered; none where there is no such room.
    ///
    /// # Errors
    /// Where it is no answer to that, or makes no sense.
    pub fn pressed(self) -> Result<Result<Option<PressAnswered>, StorageError>, Garbled> {
        Ok(match self {
            Self::Pressed(text) => Ok(Some(PressAnswered {
                event_type: u8::try_from(text.event_type).map_err(|_| Garbled)?,
                current_count: text.current,
                required_count: text.required,
                effect_triggered: text.is_effect,
                viewer_count: text.viewers,
                next_threshold: text.next,
            })),
            Self::NoRoom(_) => Ok(None),
            Self::Failed(failed) => Err(failed.into()),
            _ => return Err(Garbled),
        })
    }

    /// How a room stands; none where there is none.
    ///
    /// # Errors
    /// As [`Self::pressed`].
    pub fn stats(self) -> Result<Result<Option<RoomStats>, StorageError>, Garbled> {
        Ok(match self {
            Self::Stats(text) => Ok(Some(text.read()?.1)),
            Self::NoRoom(_) => Ok(None),
            Self::Failed(failed) => Err(failed.into()),
            _ => return Err(Garbled),
        })
    }

    /// What a host that is there was answered; none where there is no such room.
    ///
    /// # Errors
    /// As [`Self::pressed`].
    pub fn attached(self) -> Result<Result<Option<AttachedText>, StorageError>, Garbled> {
        Ok(match self {
            Self::Attached(text) => Ok(Some(text)),
            Self::NoRoom(_) => Ok(None),
            Self::Failed(failed) => Err(failed.into()),
            _ => return Err(Garbled),
        })
    }

    /// Whether an idle room was ended; not where there is none, or somebody was there.
    ///
    /// # Errors
    /// As [`Self::pressed`].
    pub fn ended_idle(self) -> Result<Result<bool, StorageError>, Garbled> {
        match self {
            Self::NotIdle(_) => Ok(Ok(false)),
            answer => answer.done(),
        }
    }

    /// Whether what was asked of a room was done; not where there is none.
    ///
    /// # Errors
    /// As [`Self::pressed`].
    pub fn done(self) -> Result<Result<bool, StorageError>, Garbled> {
        Ok(match self {
            Self::Done(_) => Ok(true),
            Self::NoRoom(_) => Ok(false),
            Self::Failed(failed) => Err(failed.into()),
            _ => return Err(Garbled),
        })
    }
}

/// The bytes of a room's id.
#[must_use]
pub fn room_bytes(room: RoomId) -> Bytes {
    Bytes::copy_from_slice(&room.bytes())
}

/// A room by the bytes of its id.
///
/// # Errors
/// Where they are none.
pub fn room_of(bytes: &[u8]) -> Result<RoomId, Garbled> {
    bytes.try_into().map(RoomId::of_bytes).map_err(|_| Garbled)
}

/// A connection by the bytes of its id.
///
/// # Errors
/// Where they are none.
pub fn connection_of(bytes: &[u8]) -> Result<ConnectionId, Garbled> {
    uuid_of(bytes).map(ConnectionId)
}
