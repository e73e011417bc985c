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

    /// Whether it is under way.
    pub(super) fn has(&self, seq: Seq) -> bool {
        self.lock().contains(&seq)
    }

    /// Waits until none of them is under way.
    pub(super) async fn wait_for(&self, seqs: &[Seq]) -> Result<(), StorageError> {
        if self.wait_until_none(|seq| seqs.contains(&seq)).await {
            return Ok(());
        }
        Err(StorageError::Unavailable("entries are still being written".to_owned()))
    }

    /// Waits until none of such is under way, but no longer than a write may take; answers whether that is so.
    pub(super) async fn wait_until_none(&self, is_such: impl Fn(Seq) -> bool) -> bool {
        let gone = async {
            loop {
                let left = self.left.notified();
                let is_clear = !self.lock().iter().any(|seq| is_such(*seq));
                if is_clear {
                    return;
                }
                left.await;
            }
        };
        tokio::time::timeout(WRITE_DEADLINE, gone).await.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Seq>> {
        self.seqs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
