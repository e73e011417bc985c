//! What follows from frames that came: an acknowledgement, once whoever listens has gone on, and answers to calls.

use super::Peer;
use crate::link::wire::Kind;
use crate::link::{Hub, MAX_FRAME};
use crate::node::Node;
use std::sync::Arc;

/// What follows from frames that came: they are acknowledged when this is dropped, or their calls answered.
pub struct Sequel {
    pub(super) hub: Arc<Hub>,
    pub(super) peer: Arc<Peer>,
    pub(super) from: Node,
    pub(super) incarnation: u64,
    /// The last frame and the bytes to be acknowledged.
    pub(super) taken: Option<(u64, usize)>,
}

impl Sequel {
    /// Whose frames they are.
    pub const fn from(&self) -> &Node {
        &self.from
    }

    /// The same, for one call among them.
    pub fn for_reply(&self) -> Self {
        Self {
            hub: Arc::clone(&self.hub),
            peer: Arc::clone(&self.peer),
            from: self.from.clone(),
            incarnation: self.incarnation,
            taken: None,
        }
    }

    /// Answers the call of this number; whether that could be sent.
    pub fn reply(&self, number: u64, bytes: &[u8]) -> bool {
        if bytes.len() > MAX_FRAME {
            return false;
        }
        let mut state = self.peer.state();
        let is_same = state.incoming.as_ref().is_some_and(|i| i.incarnation() == self.incarnation);
        if !is_same {
            return false;
        }
        let taken = state.outgoing.push(self.hub.view_number(), Kind::Reply, &number.to_be_bytes(), bytes);
        if let Some(line) = &mut state.line {
            line.wake();
        }
        taken.is_ok()
    }
}

impl Drop for Sequel {
    fn drop(&mut self) {
        if let Some((number, bytes)) = self.taken {
            self.peer.take(&self.hub, self.incarnation, number, bytes);
        }
    }
}

impl std::fmt::Debug for Sequel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequel").field("from", &self.from).finish_non_exhaustive()
    }
}
