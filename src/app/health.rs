//! What `/health` and `/health/ready` tell: of the actors, of the store by its circuits, and of
//! Redis, without which the node is degraded and still ready.

use super::engine::Engine;
use crate::actors::node::NodeHandle;
use crate::config::Role;
use crate::http::health::HealthSource;
use crate::storage::circuit::CircuitState;
use crate::storage::redis::Watch as RedisWatch;
use serde_json::{Value, json};
use std::sync::Arc;

/// How the node is, for probes.
pub(super) struct Health {
    pub(super) node: Arc<NodeHandle>,
    pub(super) engine: Engine,
    /// Where one is set.
    pub(super) redis: Option<RedisWatch>,
    pub(super) name: String,
    pub(super) role: Role,
}

impl HealthSource for Health {
    fn ready(&self) -> Result<(), &'static str> {
        if self.node.is_draining() {
            return Err("the node is leaving");
        }
        if !self.node.is_open() {
            return Err("the node has no place in its cluster yet");
        }
        match self.engine.circuits() {
            (CircuitState::Closed, CircuitState::Closed) => Ok(()),
            _ => Err("the store cannot be used"),
        }
    }

    fn report(&self) -> Value {
        let (writes, reads) = self.engine.circuits();
        let store = match (writes, reads) {
            (CircuitState::Closed, CircuitState::Closed) => "ok",
            (_, CircuitState::Closed) => "degraded",
            _ => "unavailable",
        };
        let mut dependencies = json!({"store": {
            "state": store,
            "circuit": writes.name(),
            "read_circuit": reads.name(),
        }});
        let mut status = store;
        if let Some(redis) = self.redis.as_ref().map(RedisWatch::state) {
            let state = if redis.is_well() { "ok" } else { "degraded" };
            dependencies["redis"] = json!({"state": state, "circuit": redis.circuit.name()});
            if status == "ok" {
                status = state;
            }
        }
        let cluster = self.node.clustered().map(|clustered| {
            let own = clustered.own();
            json!({"view": own.view, "state": own.state, "homes": own.homes})
        });
        json!({
            "cluster": cluster,
            "status": status,
            "draining": self.node.is_draining(),
            "dependencies": dependencies,
            "actors": self.node.census(),
            "node": self.name,
            "version": env!("CARGO_PKG_VERSION"),
            "role": self.role.name(),
        })
    }
}
