//! What listeners heard, counted.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::stats::latencies;

/// What was heard since the last [`Audience::forget`](crate::audience::Audience::forget).
#[derive(Debug, Clone)]
pub struct Tally {
    /// `connected` frames, and streams that opened.
    pub connected: u64,
    /// Posts of the board, each once a listener; and events of chat messages, repeats and all.
    pub delivered: u64,
    /// Posts that a listener had already; of chat messages those that a scenario counted.
    pub repeated: u64,
    /// Posts with a lower number than one before on the same listener.
    pub disordered: u64,
    /// `resync` frames.
    pub resyncs: u64,
    /// Text frames of any other type.
    pub other: u64,
    /// Bytes that follow no protocol; the listener stops there.
    pub malformed: u64,
    /// Ends of connections, by close code, or by what the transport said.
    pub ends: BTreeMap<String, u64>,
    /// Microseconds from the request's start to the receipt.
    pub from_send: Histogram<u64>,
    /// Microseconds from the 201 to the receipt; 0 where the frame came first. Not of what was replayed.
    pub from_answer: Histogram<u64>,
    /// Posts answered before the listener's connection began: what a resume brought.
    pub replayed: u64,
    /// The text of the first post, or the block of the first chat event, that was heard.
    pub sample: Option<Vec<u8>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            connected: 0,
            delivered: 0,
            repeated: 0,
            disordered: 0,
            resyncs: 0,
            other: 0,
            malformed: 0,
            ends: BTreeMap::new(),
            from_send: latencies(),
            from_answer: latencies(),
            replayed: 0,
            sample: None,
        }
    }
}

impl Tally {
    /// Adds what another thread heard.
    pub fn add(&mut self, other: &Self) {
        self.connected += other.connected;
        self.delivered += other.delivered;
        self.repeated += other.repeated;
        self.disordered += other.disordered;
        self.resyncs += other.resyncs;
        self.other += other.other;
        self.malformed += other.malformed;
        self.replayed += other.replayed;
        for (end, count) in &other.ends {
            *self.ends.entry(end.clone()).or_default() += count;
        }
        // Both have the same bounds, so that adding cannot fail.
        let _same_bounds = self.from_send.add(&other.from_send);
        let _same_bounds = self.from_answer.add(&other.from_answer);
        if self.sample.is_none() {
            self.sample.clone_from(&other.sample);
        }
    }

    /// Connections that ended.
    pub fn ended(&self) -> u64 {
        self.ends.values().sum()
    }
}
