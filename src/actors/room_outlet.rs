//! Where a room's effects go from its home, and how it stands: to hosts and viewers here, to other nodes, and to Redis.
//!
//! Nothing here waits. What a node is not told it finds out: a host's node asks which effect is the newest, a viewer's how
//! the room stands, every few seconds.

use super::hosts::{HostEnd, Hosts};
use super::room_guests::HostSeat;
use super::room_watch::Watches;
use super::wire::{EffectsText, HostOverText, StatsText, Telling, Told};
use crate::model::id::RoomId;
use crate::model::room::frames::game_event;
use crate::model::room::{Effect, Room, RoomStats};
use crate::storage::volatile::GameEvents;
use crate::telemetry::metric;
use bytes::Bytes;
use roost_cluster::{Cluster, NodeName};
use std::sync::Arc;

/// The ways out of all rooms that are at home here.
pub struct RoomOutlet {
    cluster: Option<Arc<Cluster>>,
    /// Hosts that are connected here.
    pub hosts: Arc<Hosts>,
    /// Who looks at rooms here.
    pub watches: Arc<Watches>,
    game_events: Option<Arc<dyn GameEvents>>,
}

impl RoomOutlet {
    /// Of this node.
    #[must_use]
    pub fn new(cluster: Option<Arc<Cluster>>, game_events: Option<Arc<dyn GameEvents>>) -> Self {
        Self { cluster, hosts: Arc::default(), watches: Arc::default(), game_events }
    }

    /// These effects are stored.
    pub(super) fn tell_effects(&self, room: &Room, host: Option<&HostSeat>, effects: &[Effect]) {
        self.hosts.push(room.id, effects);
        if let Some(node) = host.and_then(|host| self.other(host.node.as_ref())) {
            self.send(node, &Told::encode_frame(Telling::Effects(EffectsText::of(room.id, effects))));
        }
        metrics::counter!(metric::ROOM_EFFECTS).increment(effects.len() as u64);
        if let Some(game_events) = &self.game_events {
            for effect in effects {
                if let Some(event_type) = room.event_types.at(effect.event_type) {
                    game_events.publish(game_event(room.id, &event_type.name, effect));
                }
            }
        }
    }

    /// A host's time is over.
    pub(super) fn end_host(&self, room: RoomId, host: &HostSeat, is_ended: bool) {
        let end = if is_ended { HostEnd::RoomEnded } else { HostEnd::TakenOver };
        self.hosts.end(room, host.connection, end);
        if let Some(node) = self.other(host.node.as_ref()) {
            let over = HostOverText::of(room, host.connection, is_ended);
            self.send(node, &Told::encode_frame(Telling::HostOver(over)));
        }
    }

    /// How a room stands, for those nodes where somebody looks.
    pub(super) fn tell_stats<'a>(
        &self,
        room: RoomId,
        nodes: impl Iterator<Item = &'a Option<NodeName>>,
        stats: RoomStats,
    ) {
        let others: Vec<&NodeName> = nodes.filter_map(|node| self.other(node.as_ref())).collect();
        if !others.is_empty() {
            let frame = Told::encode_frame(Telling::Stats(StatsText::of(room, stats.clone())));
            others.into_iter().for_each(|node| self.send(node, &frame));
        }
        self.watches.tell(room, stats);
    }

    /// A room has ended; other nodes find out when they ask.
    pub(super) fn end_watching(&self, room: RoomId) {
        self.watches.end(room);
    }

    /// The node, where it is not this one.
    fn other<'a>(&self, node: Option<&'a NodeName>) -> Option<&'a NodeName> {
        let me = &self.cluster.as_ref()?.me().name;
        node.filter(|node| *node != me)
    }

    fn send(&self, node: &NodeName, frame: &Bytes) {
        if let Some(cluster) = &self.cluster {
            // One that has left, or whose window is full, finds out.
            let _ = cluster.send(node, frame);
            metrics::counter!(metric::LINK_FRAMES).increment(1);
        }
    }
}
