//! Rooms: who presses, what a press is answered, and the effects that come of presses. [`rules`] says how many it takes,
//! [`counts`] counts, [`viewers`] knows who pressed lately, [`presses`] what the newest presses were answered, [`frames`] what a
//! host is told.
//!
//! Nothing here knows a clock: whoever asks says what time it is.

pub mod counts;
pub mod frames;
pub mod presses;
pub mod rules;
pub mod stats;
pub mod viewers;

pub use counts::{Counts, Crowd};
pub use presses::RecentPresses;
pub use rules::{EventName, EventType, EventTypes, Rules};
pub use stats::RoomStats;
pub use viewers::ActiveViewers;

use super::id::{RoomId, UserId};
use super::timestamp::Timestamp;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::time::Duration;

/// A room without host or press for so long ends.
pub const IDLE_AGE: Duration = Duration::from_secs(24 * 3600);
/// How long a press is answered again as it was.
pub const PRESS_AGE: Duration = Duration::from_secs(600);
/// How many presses of a room are, at most.
pub const RECENT_PRESSES: usize = 100_000;
/// The most characters of a viewer's id and of a press's.
pub const MAX_ID_CHARS: usize = 64;

/// A room, but for what its presses change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Its id.
    pub id: RoomId,
    /// Who made it.
    pub owner: UserId,
    /// When.
    pub created_at: Timestamp,
    /// What can be pressed there; it does not change.
    pub event_types: EventTypes,
}

/// A text that is neither a viewer's id nor a press's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 64 characters, none of them a control character")]
pub struct IdError;

/// The id that a viewer gives itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ViewerId(String);

/// The id that a viewer gives a press, so that one sent again is counted once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PressId(String);

impl ViewerId {
    /// Checks `text`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        checked(text).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PressId {
    /// Checks `text`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        checked(text).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn checked(text: &str) -> Result<String, IdError> {
    // One character more decides; of a text of megabytes the rest is not looked at.
    let length = text.chars().take(MAX_ID_CHARS + 1).count();
    if !(1..=MAX_ID_CHARS).contains(&length) || text.chars().any(char::is_control) {
        return Err(IdError);
    }
    Ok(text.to_owned())
}

/// Who presses. One kind is never taken for another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Viewer {
    /// One that gave an id.
    Named(ViewerId),
    /// A user that gave none.
    User(UserId),
    /// Whoever else is there.
    Address(IpAddr),
}

/// A viewer among those of a room: of two viewers it is hardly ever the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ViewerKey(pub u64);

/// A viewer's press among those of a room: of two it is never the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PressKey(pub [u8; 16]);

impl Viewer {
    /// What stands for it in a room.
    #[must_use]
    pub fn key(&self) -> ViewerKey {
        ViewerKey(u64::from_be_bytes(first(self.hash().finalize().as_slice())))
    }

    /// What stands for its press of that id.
    #[must_use]
    pub fn press_key(&self, press: &PressId) -> PressKey {
        PressKey(first(self.hash().chain_update(press.0.as_bytes()).finalize().as_slice()))
    }

    /// The kind and the length first, so that what follows is never taken for a part of the viewer.
    fn hash(&self) -> Sha256 {
        let of = |kind: u8, bytes: &[u8]| {
            let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
            Sha256::new().chain_update([kind]).chain_update(length.to_be_bytes()).chain_update(bytes)
        };
        match self {
            Self::Named(id) => of(0, id.0.as_bytes()),
            Self::User(id) => of(1, id.0.as_bytes()),
            Self::Address(IpAddr::V4(address)) => of(2, &address.octets()),
            Self::Address(IpAddr::V6(address)) => of(2, &address.octets()),
        }
    }
}

/// The first bytes of a hash.
fn first<const N: usize>(hash: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(hash).for_each(|(byte, of_hash)| *byte = *of_hash);
    bytes
}

/// What a press was answered. Counts and thresholds are at most [`rules::MAX_THRESHOLD`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What was pressed: its place among the room's event types.
    pub event_type: u8,
    /// The count that the press reached.
    pub current_count: u32,
    /// What it was measured against.
    pub required_count: u32,
    /// Whether it made an effect; the count starts again at 0 then.
    pub effect_triggered: bool,
    /// How many viewers are active, the one that pressed included.
    pub viewer_count: u32,
    /// What the next press will be measured against.
    pub next_threshold: u32,
}

/// A press and what it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Press {
    /// Whose and which.
    pub key: PressKey,
    /// What it was answered.
    pub answered: Answered,
}

/// What enough presses made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Its number in the room, from 1 without a gap.
    pub seq: u64,
    /// What was pressed: its place among the room's event types.
    pub event_type: u8,
    /// How many presses it took.
    pub trigger_count: u32,
    /// How many viewers were active.
    pub viewer_count: u32,
}

#[cfg(test)]
mod tests {
    use super::{PressId, Viewer, ViewerId};
    use crate::model::id::UserId;

    #[test]
    fn ids_have_1_to_64_characters_and_no_controls() {
        for good in ["a", &"é".repeat(64), "ann 7"] {
            assert!(ViewerId::parse(good).is_ok() && PressId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", &"é".repeat(65), "a\n", "\u{85}", &"x".repeat(10_000_000)] {
            assert!(ViewerId::parse(bad).is_err() && PressId::parse(bad).is_err());
        }
    }

    #[test]
    fn two_viewers_have_no_press_in_common() {
        let named = |text: &str| Viewer::Named(ViewerId::parse(text).unwrap());
        let press = |text: &str| PressId::parse(text).unwrap();
        assert_eq!(named("ann").press_key(&press("1")), named("ann").press_key(&press("1")));
        assert_ne!(named("ann").press_key(&press("1")), named("an").press_key(&press("n1")));
        assert_ne!(named("ann").key(), named("bob").key());
        let user = UserId::make();
        assert_ne!(Viewer::User(user).key(), named(&user.to_string()).key());
        assert_ne!(named("10.0.0.1").key(), Viewer::Address([10, 0, 0, 1].into()).key());
    }
}
