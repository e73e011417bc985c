//! Shards: the 256 parts of everything that has one home.

use super::id::{ConversationId, RoomId, UserId};

/// A part of all users, with what belongs to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u8);

impl Shard {
    /// How many there are; what is stored and what nodes agree on depend on it.
    pub const COUNT: usize = 256;

    /// The shard that a user's posts, follows and jobs belong to.
    #[must_use]
    pub fn of(user: UserId) -> Self {
        Self((user.mixed() >> 56) as u8)
    }

    /// The shard that a conversation belongs to.
    #[must_use]
    pub fn of_conversation(conversation: ConversationId) -> Self {
        Self((conversation.mixed() >> 56) as u8)
    }

    /// The shard that a room belongs to.
    #[must_use]
    pub fn of_room(room: RoomId) -> Self {
        Self((room.mixed() >> 56) as u8)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::Shard;
    use crate::model::id::UserId;
    use std::collections::HashSet;

    #[test]
    fn users_spread_over_the_shards() {
        let shards: HashSet<Shard> = (0..4_000).map(|_| Shard::of(UserId::make())).collect();
        assert!(shards.len() > 250, "{} shards", shards.len());
    }
}
