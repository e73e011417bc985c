//! One at a time for each key.
//!
//! By user: changes of whom it follows, and sessions that read whom it follows. So a session finds a
//! follow either whole or not at all, and of a follow and an unfollow at once the relays hear in the
//! order in which the store did. By idempotency key: a repeat waits for the first.

use std::hash::{BuildHasher, Hash, RandomState};
use tokio::sync::{Mutex, MutexGuard};

/// Keys share this many locks; two that share one only wait for each other.
const LOCKS: usize = 1024;

/// The locks of all keys.
pub struct Turns {
    locks: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        Self { locks: (0..LOCKS).map(|_| Mutex::new(())).collect(), hasher: RandomState::new() }
    }
}

impl Turns {
    /// Waits for a key's turn; it lasts as long as the guard.
    pub async fn of(&self, key: impl Hash) -> MutexGuard<'_, ()> {
        let number = self.hasher.hash_one(key) as usize % LOCKS;
        self.locks[number].lock().await
    }
}
