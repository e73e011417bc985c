//! Presence of a node that is alone: who is connected stands in its roster, and nobody else asks.

use crate::model::id::ConnectionId;
use crate::storage::volatile::{Presence, Present};

/// Keeps nothing.
pub struct Nobody;

impl Presence for Nobody {
    fn put(&self, _: Present) {}

    fn remove(&self, _: ConnectionId) {}
}
