//! Fanning out: entries that are durable go into the timelines that show them, behind their answers.
//!
//! A few workers a node, spawned and ended by the `Node`; each takes the oldest entry that nobody has
//! taken from the [`Watermark`], which bounds nothing but is fed by authors whose queues are bounded, and
//! keeps 24 bytes an entry. What fails is tried again, with growing pauses up to 5 s, until it succeeds:
//! what only waits for its turn does not wait for it.

use super::watermark::Watermark;
use crate::model::cursor::Seq;
use crate::storage::{FanOut, StorageError};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Entries fanned out at a time.
const WORKERS: usize = 8;
/// The first pause after a failure, and the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Starts the workers; they end when what is answered is dropped.
#[must_use]
pub fn start(fan_out: &Arc<dyn FanOut>, watermark: &Arc<Watermark>) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (fan_out, watermark) = (fan_out.clone(), watermark.clone());
        workers.spawn(async move {
            loop {
                let seq = watermark.next_to_spread().await;
                match fan_out.fan_out(seq).await {
                    Ok(()) => watermark.spread(seq),
                    Err(error) => retry_apart(seq, &error, fan_out.clone(), watermark.clone()),
                }
            }
        });
    }
    workers
}

/// Tries again beside the workers: one entry that cannot be fanned out must not keep others waiting.
fn retry_apart(seq: Seq, error: &StorageError, fan_out: Arc<dyn FanOut>, watermark: Arc<Watermark>) {
    tracing::warn!(seq = seq.0, %error, "entry {} waits to be fanned out: {error}", seq.0);
    tokio::spawn(async move {
        let mut pause = PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            if fan_out.fan_out(seq).await.is_ok() {
                return watermark.spread(seq);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    });
}
