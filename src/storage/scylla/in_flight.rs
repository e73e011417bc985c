//! Entries that are being written: who asks for them waits for their end.

use super::cql::WRITE_DEADLINE;
use crate::model::cursor::Seq;
use crate::storage::StorageError;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries whose writing has begun and not ended: who asks for them waits for that.
#[derive(Default)]
pub(super) struct InFlight {
    seqs: Mutex<HashSet<Seq>>,
    left: tokio::sync::Notify,
}

impl InFlight {
    /// One begins.
    pub(super) fn enter(&self, seq: Seq) {
        self.lock().insert(seq);
    }

    /// One has ended.
    pub(super) fn leave(&self, seq: Seq) {
        self.lock().remove(&seq);
        self.left.notify_waiters();
    }

    /// Waits until none of them is under way.
    pub(super) async fn wait_for(&self, seqs: &[Seq]) -> Result<(), StorageError> {
        let gone = async {
            loop {
                let left = self.left.notified();
                let is_clear = {
                    let under_way = self.lock();
                    !seqs.iter().any(|seq| under_way.contains(seq))
                };
                if is_clear {
                    return;
                }
                left.await;
            }
        };
        let waited = tokio::time::timeout(WRITE_DEADLINE, gone).await;
        waited.map_err(|_| StorageError::Unavailable("entries are still being written".to_owned()))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Seq>> {
        self.seqs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
