//! How a room stands, for whoever looks at it.

use crate::model::timestamp::Timestamp;

/// A room at one moment, as its home knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomStats {
    /// When.
    pub at: Timestamp,
    /// Whether a host is there.
    pub host_connected: bool,
    /// How many viewers are active.
    pub viewers: u32,
    /// How often each event type was pressed since its last effect, by its place.
    pub counts: Vec<u32>,
    /// What the next press of each is measured against.
    pub required: Vec<u32>,
}

impl RoomStats {
    /// Whether it stands for a viewer as it did then, whenever that was; whether a host is there is not shown to it.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        self.viewers == other.viewers && self.counts == other.counts && self.required == other.required
    }
}
