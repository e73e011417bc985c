//! The frames that come from one peer: in order, each once, and no more of them waiting than its window. No I/O.

use super::wire::Batch;

/// One direction of a link, on the receiver's side.
#[derive(Debug)]
pub struct Incoming {
    incarnation: u64,
    received: u64,
    taken: u64,
    acknowledged: u64,
    /// The bytes that wait to be taken.
    waiting: usize,
    limit: usize,
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is the next one.
    Next,
    /// It was received before.
    Repeat,
}

/// Why a batch ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfTurn {
    /// Frames are missing.
    #[error("frame {expected} should have come, not {first}")]
    Hole {
        /// What should have come.
        expected: u64,
        /// What came.
        first: u64,
    },
    /// It sent more than a node may that is not acknowledged.
    #[error("it sent more than its window")]
    OverWindow,
}

impl Incoming {
    /// A sequence whose frames from `first` on are to come.
    pub const fn new(incarnation: u64, first: u64, limit: usize) -> Self {
        let before = first.saturating_sub(1);
        Self { incarnation, received: before, taken: before, acknowledged: before, waiting: 0, limit }
    }

    /// Which sequence this is.
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Everything up to this number was received.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Takes the next batch.
    pub fn receive(&mut self, batch: &Batch) -> Result<Fate, OutOfTurn> {
        let expected = self.received + 1;
        if batch.last() < expected {
            return Ok(Fate::Repeat);
        }
        // Batches are given whole, so one never begins among those received.
        if batch.first != expected {
            return Err(OutOfTurn::Hole { expected, first: batch.first });
        }
        if self.waiting > self.limit {
            return Err(OutOfTurn::OverWindow);
        }
        self.received = batch.last();
        self.waiting += batch.size();
        Ok(Fate::Next)
    }

    /// Whoever listens has taken everything up to this number, so many bytes.
    pub const fn take(&mut self, number: u64, bytes: usize) {
        self.taken = number;
        self.waiting = self.waiting.saturating_sub(bytes);
    }

    /// What to acknowledge, if there is something new.
    pub fn acknowledge(&mut self) -> Option<u64> {
        (self.taken > self.acknowledged).then(|| {
            self.acknowledged = self.taken;
            self.taken
        })
    }

    /// Acknowledges once more on a new connection: the last word may have been lost.
    pub fn resume(&mut self) {
        self.acknowledged = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::PREFIX;
    use super::super::outgoing::Outgoing;
    use super::super::wire::{Kind, Message};
    use super::*;

    fn batches(count: u64) -> Vec<Batch> {
        let mut outgoing = Outgoing::new(1, 1 << 20);
        let batch = |_| {
            outgoing.push(1, Kind::Plain, b"", &[7; 100]).unwrap();
            let Ok(Message::Batch(batch)) = Message::parse(outgoing.give().unwrap().slice(PREFIX..)) else {
                panic!("no batch")
            };
            batch
        };
        (0..count).map(batch).collect()
    }

    #[test]
    fn each_batch_is_received_once_and_none_is_left_out() {
        let sent = batches(4);
        let mut incoming = Incoming::new(1, 1, 1 << 20);
        assert_eq!(incoming.receive(&sent[0]), Ok(Fate::Next));
        assert_eq!(incoming.receive(&sent[0]), Ok(Fate::Repeat));
        assert_eq!(incoming.receive(&sent[2]), Err(OutOfTurn::Hole { expected: 2, first: 3 }));
        assert_eq!(incoming.receive(&sent[1]), Ok(Fate::Next));
        assert_eq!(incoming.received(), 2);
    }

    #[test]
    fn only_what_was_taken_is_acknowledged_and_once_more_after_a_break() {
        let sent = batches(2);
        let mut incoming = Incoming::new(1, 1, 1 << 20);
        incoming.receive(&sent[0]).unwrap();
        incoming.receive(&sent[1]).unwrap();
        assert_eq!(incoming.acknowledge(), None);
        incoming.take(1, sent[0].size());
        assert_eq!((incoming.acknowledge(), incoming.acknowledge()), (Some(1), None));
        incoming.resume();
        assert_eq!(incoming.acknowledge(), Some(1));
    }

    #[test]
    fn a_peer_that_minds_no_window_is_stopped() {
        let sent = batches(5);
        let mut incoming = Incoming::new(1, 1, 150);
        incoming.receive(&sent[0]).unwrap();
        incoming.receive(&sent[1]).unwrap();
        assert_eq!(incoming.receive(&sent[2]), Err(OutOfTurn::OverWindow));
        incoming.take(1, sent[0].size());
        assert_eq!(incoming.receive(&sent[2]), Ok(Fate::Next));
    }
}
