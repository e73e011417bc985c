//! `Tries`: how long, and with which pauses, a change of claims is tried before it is given up.

use super::cql::jittered;
use crate::storage::StorageError;
use std::time::{Duration, Instant};

/// How long one call tries.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before the second try; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// The tries of one call.
pub(super) struct Tries {
    until: Instant,
    pause: Duration,
}

impl Tries {
    /// Of a call that begins now.
    pub(super) fn begin() -> Self {
        Self { until: Instant::now() + PATIENCE, pause: FIRST_PAUSE }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// `Unavailable` once it has been tried for long enough: what was begun may have been done.
    pub(super) async fn again(&mut self) -> Result<(), StorageError> {
        if Instant::now() + self.pause >= self.until {
            return Err(StorageError::Unavailable(
                "a claim is changed by too many, or is not answered".to_owned(),
            ));
        }
        tokio::time::sleep(jittered(self.pause)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
