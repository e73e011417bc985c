//! A connection's clock: when it ends because nothing is asked on it, or because its client takes nothing.
//!
//! An answer without an end (a stream) holds a [`Held`]: while there is one, the connection is not idle, however long ago
//! its request was. It tells there what it offers; who takes nothing of that for [`STALL`] loses the connection, so that a
//! client that does not read holds no place. (An offer is taken when more is asked for, which is when what was offered
//! before has gone into the connection's buffer: one that takes a few bytes at a time has that long for a bufferful.)

use super::{IDLE, PATIENCE};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What is offered is taken within so long.
pub(super) const STALL: Duration = Duration::from_secs(30);
/// How long a stream may take to end when the server stops; it was told before.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// A connection's clock.
#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    /// When something was last asked: milliseconds after `began`, plus one; 0 for never.
    asked: AtomicU64,
    /// When each stream offered what it was not asked more for since, likewise; 0 while it is.
    streams: Mutex<Vec<Arc<AtomicU64>>>,
    /// Told when there is one.
    streaming: Notify,
}

/// A connection's clock as its requests see it; an extension of each.
#[derive(Clone, Debug)]
pub struct Lifeline(pub(super) Arc<Activity>);

/// What an answer without an end holds as long as it goes on.
#[derive(Debug)]
pub struct Held {
    activity: Arc<Activity>,
    offered: Arc<AtomicU64>,
}

impl Activity {
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            asked: AtomicU64::new(0),
            streams: Mutex::default(),
            streaming: Notify::new(),
        }
    }

    pub(super) fn note_request(&self) {
        self.asked.store(self.now(), Ordering::Relaxed);
    }

    /// When the connection ends if nothing happens until then; `stopping_at` is when the server began to stop. Where
    /// that moment is still to come it may be later by then: who waits for it looks again.
    pub(super) fn deadline(&self, stopping_at: Option<Instant>) -> Instant {
        let streams = self.streams();
        let offered = streams.iter().map(|offered| match offered.load(Ordering::Relaxed) {
            0 => Instant::now() + STALL,
            millis => self.moment(millis) + STALL,
        });
        match (offered.min(), stopping_at) {
            // Requests may take their time; streams have been told to end.
            (Some(offered), Some(stopping_at)) => offered.min(stopping_at + FAREWELL),
            (Some(offered), None) => offered,
            (None, _) => match self.asked.load(Ordering::Relaxed) {
                0 => self.began + PATIENCE,
                millis => self.moment(millis) + IDLE,
            },
        }
    }

    /// Whether an answer without an end goes on.
    pub(super) fn has_streams(&self) -> bool {
        !self.streams().is_empty()
    }

    /// Waits until one begins. One waits at a time.
    pub(super) async fn stream_begins(&self) {
        self.streaming.notified().await;
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn moment(&self, millis: u64) -> Instant {
        self.began + Duration::from_millis(millis - 1)
    }

    fn streams(&self) -> MutexGuard<'_, Vec<Arc<AtomicU64>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lifeline {
    /// An answer without an end begins.
    #[must_use]
    pub fn hold(&self) -> Held {
        let offered: Arc<AtomicU64> = Arc::default();
        self.0.streams().push(offered.clone());
        self.0.streaming.notify_one();
        Held { activity: self.0.clone(), offered }
    }
}

impl Held {
    /// Something is offered.
    pub fn offer(&self) {
        self.offered.store(self.activity.now(), Ordering::Relaxed);
    }

    /// More is asked for.
    pub fn taken(&self) {
        self.offered.store(0, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut streams = self.activity.streams();
        streams.retain(|offered| !Arc::ptr_eq(offered, &self.offered));
        // From now on the connection is idle.
        self.activity.note_request();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{IDLE, PATIENCE};
    use super::{Activity, FAREWELL, Lifeline, STALL};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::time::{Instant, advance};

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_its_last_request_or_the_end_of_its_last_stream() {
        let activity = Arc::new(Activity::begin());
        assert_eq!(activity.deadline(None), Instant::now() + PATIENCE);
        activity.note_request();
        let held = Lifeline(activity.clone()).hold();
        advance(10 * IDLE).await;
        assert!(activity.deadline(None) > Instant::now());
        let now = Instant::now();
        assert_eq!(activity.deadline(Some(now)), now + FAREWELL, "streams do not hold up a stop");
        drop(held);
        assert_eq!(activity.deadline(None), Instant::now() + IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_what_is_offered_loses_the_connection() {
        let activity = Arc::new(Activity::begin());
        let (read, unread) = (Lifeline(activity.clone()).hold(), Lifeline(activity.clone()).hold());
        read.offer();
        unread.offer();
        advance(STALL - Duration::from_millis(1)).await;
        read.taken();
        assert!(activity.deadline(None) > Instant::now());
        advance(Duration::from_millis(1)).await;
        assert!(activity.deadline(None) <= Instant::now());
        unread.taken();
        assert!(activity.deadline(None) > Instant::now());
    }
}
