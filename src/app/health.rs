//! What `/health` and `/health/ready` tell: of the actors, and of the store by its circuits.

use crate::actors::node::NodeHandle;
use crate::config::Role;
use crate::http::health::HealthSource;
use crate::storage::circuit::CircuitState;
use crate::storage::sqlite::Store;
use serde_json::{Value, json};
use std::sync::Arc;

/// How the node is, for probes.
pub(super) struct Health {
    pub(super) node: Arc<NodeHandle>,
    pub(super) store: Store,
    pub(super) name: String,
    pub(super) role: Role,
}

impl HealthSource for Health {
    fn ready(&self) -> Result<(), &'static str> {
        if self.node.is_draining() {
            return Err("the node is leaving");
        }
        match self.store.circuits() {
            (CircuitState::Closed, CircuitState::Closed) => Ok(()),
            _ => Err("the store cannot be used"),
        }
    }

    fn report(&self) -> Value {
        let (writes, reads) = self.store.circuits();
        let store = match (writes, reads) {
            (CircuitState::Closed, CircuitState::Closed) => "ok",
            (_, CircuitState::Closed) => "degraded",
            _ => "unavailable",
        };
        json!({
            "status": store,
            "draining": self.node.is_draining(),
            "dependencies": {"store": {
                "state": store,
                "circuit": writes.name(),
                "read_circuit": reads.name(),
            }},
            "actors": self.node.census(),
            "node": self.name,
            "version": env!("CARGO_PKG_VERSION"),
            "role": self.role.name(),
        })
    }
}
