//! Ids: a type each, so that one is never taken for another. All are UUIDs, version 7 where made here.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id, version 7, from the current time.
            #[must_use]
            pub fn make() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(
    /// A user.
    UserId
);
id!(
    /// A post. Ids of one author grow: each is greater than the one before.
    PostId
);
id!(
    /// A follow: one user's reading of another.
    FollowId
);
id!(
    /// A like of a post.
    LikeId
);
id!(
    /// A login and everything that came of it by refreshing: a *family* of tokens, revoked as one.
    LoginId
);
id!(
    /// One WebSocket connection.
    ConnectionId
);
id!(
    /// A published change; the `id` of its CloudEvent.
    EventId
);
id!(
    /// A conversation.
    ConversationId
);
id!(
    /// A message of a conversation. Ids of one conversation grow, and each has the message's number in it.
    MessageId
);

impl UserId {
    /// A number of it that others have little in common with.
    #[must_use]
    pub fn mixed(self) -> u64 {
        // A version 7 id ends in 62 random bits; one of an outside maker may not, so all of it is mixed in.
        let (high, low) = self.0.as_u64_pair();
        mixed(high, low)
    }
}

/// A room's id: a ULID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(u128);

/// A text that is no room's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a room's id has 26 of the digits 0-9 and the letters A-Z without I, L, O and U")]
pub struct NoRoomId;

/// The digits of a ULID (Crockford's base 32), by their value.
const ULID_DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl RoomId {
    /// A new id, from the current time.
    #[must_use]
    pub fn make() -> Self {
        let millis = u64::try_from(super::timestamp::Timestamp::now().millis()).unwrap_or(0);
        // Of the 122 random bits the 48 at the top and 32 of those at the bottom.
        let random = Uuid::new_v4().as_u128();
        Self(u128::from(millis) << 80 | random >> 80 << 32 | random & 0xFFFF_FFFF)
    }

    /// Its 16 bytes, which sort as its text does.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id of these bytes.
    #[must_use]
    pub const fn of_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// When it was made, which its first 48 bits say.
    #[must_use]
    pub const fn made_at(self) -> super::timestamp::Timestamp {
        super::timestamp::Timestamp::from_millis((self.0 >> 80) as i64)
    }

    /// A number of it that others have little in common with.
    #[must_use]
    pub fn mixed(self) -> u64 {
        mixed((self.0 >> 64) as u64, self.0 as u64)
    }
}

impl FromStr for RoomId {
    type Err = NoRoomId;

    fn from_str(text: &str) -> Result<Self, NoRoomId> {
        let value = |digit: u8| {
            ULID_DIGITS.iter().position(|known| *known == digit.to_ascii_uppercase()).ok_or(NoRoomId)
        };
        // 26 digits are 130 bits: the first has three.
        if text.len() != 26 || value(text.as_bytes()[0])? > 7 {
            return Err(NoRoomId);
        }
        text.bytes().try_fold(0, |sum, digit| Ok(sum << 5 | value(digit)? as u128)).map(Self)
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |place: u32| ULID_DIGITS[(self.0 >> (5 * place) & 31) as usize] as char;
        f.write_str(&(0..26).rev().map(digit).collect::<String>())
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Numbers of an id, all bits of which have a part in each bit of what comes of them at the top.
const fn mixed(high: u64, low: u64) -> u64 {
    (high ^ low.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl ConnectionId {
    /// When it was made, which its first 48 bits say.
    #[must_use]
    pub fn made_at(self) -> super::timestamp::Timestamp {
        let millis = self.0.as_bytes()[..6].iter().fold(0, |sum, byte| (sum << 8) | i64::from(*byte));
        super::timestamp::Timestamp::from_millis(millis)
    }
}

impl MessageId {
    /// The id of a conversation's message number `number`, whose newest before it is `newest`: version 7 of `now`, never
    /// earlier than the newest. Its last 32 bits are the number, modulo 2^32.
    #[must_use]
    pub fn numbered(number: u64, newest: Option<Self>, now: super::timestamp::Timestamp) -> Self {
        let floor = newest.map_or(0, |id| millis(id.0) + 1);
        let millis = u64::try_from(now.millis()).unwrap_or(0).max(floor);
        let random = *Uuid::new_v4().as_bytes();
        let mut tail = [0; 10];
        tail[..6].copy_from_slice(&random[..6]);
        tail[6..].copy_from_slice(&(number as u32).to_be_bytes());
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
    }

    /// The number of the message, where one of ours has this id.
    #[must_use]
    pub fn number(self) -> u64 {
        u64::from(self.0.as_u128() as u32)
    }
}

impl ConversationId {
    /// A number of it that others have little in common with.
    #[must_use]
    pub fn mixed(self) -> u64 {
        let (high, low) = self.0.as_u64_pair();
        mixed(high, low)
    }
}

/// The milliseconds since 1970 that the first 48 bits of an id of version 7 say.
fn millis(id: Uuid) -> u64 {
    id.as_bytes()[..6].iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

impl PostId {
    /// An id for the next post of an author whose newest is `newest`: version 7 of `now`, and at
    /// least one millisecond later than the newest, whatever the clock says.
    #[must_use]
    pub fn after(newest: Option<Self>, now: super::timestamp::Timestamp) -> Self {
        let floor = newest.map_or(0, |id| id.millis() + 1);
        let millis = u64::try_from(now.millis()).unwrap_or(0).max(floor);
        let random = *Uuid::new_v4().as_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&random[6..]);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
    }

    fn millis(self) -> u64 {
        millis(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectionId, MessageId, PostId, RoomId};
    use crate::model::timestamp::Timestamp;

    #[test]
    fn an_id_of_a_connection_says_when_it_was_made() {
        let (before, made, after) = (Timestamp::now(), ConnectionId::make().made_at(), Timestamp::now());
        assert!((before..=after).contains(&made), "{before} {made} {after}");
    }

    #[test]
    fn a_messages_id_has_its_number_and_follows_the_one_before() {
        let first = MessageId::numbered(7, None, Timestamp::from_millis(1_000_000));
        let second = MessageId::numbered(8, Some(first), Timestamp::from_millis(400_000));
        assert_eq!((first.number(), second.number()), (7, 8));
        assert!(first < second);
        assert_eq!(first.0.get_version_num(), 7);
    }

    #[test]
    fn a_rooms_id_is_read_as_it_is_written_and_nothing_else_is() {
        for id in ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "00000000000000000000000000", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"] {
            assert_eq!(id.parse::<RoomId>().unwrap().to_string(), id);
        }
        for text in
            ["", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01ARZ3NDEKTSV4RRFFQ69G5FAU", "01ARZ3NDEKTSV4RRFFQ69G5FA"]
        {
            assert!(text.parse::<RoomId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rooms_id_says_when_it_was_made_and_reads_back() {
        let (before, made, after) = (Timestamp::now(), RoomId::make(), Timestamp::now());
        assert!((before..=after).contains(&made.made_at()), "{made}");
        assert_eq!(made.to_string().parse(), Ok(made));
        assert_eq!(RoomId::of_bytes(made.bytes()), made);
        assert_ne!(RoomId::make(), RoomId::make());
    }

    #[test]
    fn ids_of_an_author_grow_though_the_clock_steps_back() {
        let first = PostId::after(None, Timestamp::from_millis(1_000_000));
        let second = PostId::after(Some(first), Timestamp::from_millis(400_000));
        let third = PostId::after(Some(second), Timestamp::from_millis(2_000_000));
        assert!(first < second && second < third);
        assert_eq!(second.millis(), 1_000_001);
        assert_eq!(third.millis(), 2_000_000);
        assert_eq!(first.0.get_version_num(), 7);
    }
}
