//! The frames on their way to one peer: numbered, packed into batches as they come, and kept until the peer says that
//! they were taken, so that a connection that breaks loses none. Bounded in bytes: what does not fit is refused, and
//! the peer hears of it as a gap at that place. No I/O.

use super::codec::{PREFIX, begin_message, end_message};
use super::wire::{BATCH_HEADER, FRAME_HEADER, Kind, begin_batch, put_frame};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// A batch that is longer is closed; a frame that is longer has a batch of its own.
const BATCH: usize = 64 * 1024;
/// What is left of a batch's memory is used for the next ones while it is not shorter.
const REMNANT: usize = 4 * 1024;
/// What a batch costs beside its bytes.
const OVERHEAD: usize = 64;
/// The memory of so many batches that were acknowledged is used again.
const SPARE: usize = 16;

/// There was no room: the peer will hear of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// One direction of a link, on the sender's side.
#[derive(Debug)]
pub struct Outgoing {
    incarnation: u64,
    limit: usize,
    /// The number that the next frame gets.
    next: u64,
    /// The batch that frames are added to; empty if there is none.
    open: BytesMut,
    open_first: u64,
    open_view: u64,
    /// Closed batches that were not acknowledged, in order; the first few were given to the connection.
    kept: VecDeque<Closed>,
    given: usize,
    /// The bytes of all of them.
    held: usize,
    /// Memory to be used again.
    spare: Vec<BytesMut>,
    /// Whether the last frame is a gap.
    ends_in_gap: bool,
}

#[derive(Debug)]
struct Closed {
    first: u64,
    last: u64,
    bytes: Bytes,
}

impl Outgoing {
    /// A sequence that begins; its incarnation tells it from all others.
    pub fn new(incarnation: u64, limit: usize) -> Self {
        Self {
            incarnation,
            limit,
            next: 1,
            open: BytesMut::new(),
            open_first: 1,
            open_view: 0,
            kept: VecDeque::new(),
            given: 0,
            held: 0,
            spare: Vec::new(),
            ends_in_gap: false,
        }
    }

    /// Which sequence this is.
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The number of the first frame that is still here.
    pub fn first(&self) -> u64 {
        self.kept.front().map_or(self.open_first, |batch| batch.first)
    }

    /// The bytes that it holds.
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Whether a frame of this length would be taken.
    pub const fn has_room(&self, length: usize) -> bool {
        self.held + PREFIX + BATCH_HEADER + FRAME_HEADER + OVERHEAD + length <= self.limit
    }

    /// Takes a frame, if there is room.
    pub fn push(&mut self, view: u64, kind: Kind, head: &[u8], body: &[u8]) -> Result<(), Full> {
        if !self.has_room(head.len() + body.len()) {
            // One gap stands for all that follow each other.
            if !self.ends_in_gap {
                self.put(view, Kind::Gap, &[], &[]);
                self.ends_in_gap = true;
            }
            return Err(Full);
        }
        self.put(view, kind, head, body);
        self.ends_in_gap = false;
        Ok(())
    }

    fn put(&mut self, view: u64, kind: Kind, head: &[u8], body: &[u8]) {
        let length = FRAME_HEADER + head.len() + body.len();
        let fits = self.open.len() + length <= self.open.capacity();
        if !self.open.is_empty() && (!fits || self.open_view != view) {
            self.close();
        }
        if self.open.is_empty() {
            let needed = PREFIX + BATCH_HEADER + length;
            if self.open.capacity() < needed.max(REMNANT) {
                let spare = self.spare.pop().filter(|spare| spare.capacity() >= needed);
                self.open = spare.unwrap_or_else(|| BytesMut::with_capacity(needed.max(BATCH)));
            }
            begin_message(&mut self.open);
            begin_batch(&mut self.open, self.next, view);
            (self.open_first, self.open_view) = (self.next, view);
            self.held += PREFIX + BATCH_HEADER + OVERHEAD;
        }
        put_frame(&mut self.open, kind, head, body);
        self.held += length;
        self.next += 1;
    }

    fn close(&mut self) {
        end_message(&mut self.open);
        let bytes = self.open.split().freeze();
        self.kept.push_back(Closed { first: self.open_first, last: self.next - 1, bytes });
        self.open_first = self.next;
    }

    /// The next batch that the connection was not given yet.
    pub fn give(&mut self) -> Option<Bytes> {
        if self.given == self.kept.len() && !self.open.is_empty() {
            self.close();
        }
        let batch = self.kept.get(self.given)?;
        self.given += 1;
        Some(batch.bytes.clone())
    }

    /// Lets go what the peer has taken: everything up to this number.
    pub fn acknowledge(&mut self, number: u64) {
        while self.kept.front().is_some_and(|batch| batch.last <= number) {
            let Some(batch) = self.kept.pop_front() else { return };
            self.held -= batch.bytes.len() + OVERHEAD;
            self.given = self.given.saturating_sub(1);
            // Not while the connection, or a batch behind it, has a part of it.
            if let Ok(mut spare) = batch.bytes.try_into_mut()
                && self.spare.len() < SPARE
                && (BATCH..=2 * BATCH).contains(&spare.capacity())
            {
                spare.clear();
                self.spare.push(spare);
            }
        }
    }

    /// Begins on a new connection, behind what the peer has received of this sequence.
    pub fn resume(&mut self, received: u64) {
        self.given = self.kept.iter().take_while(|batch| batch.last <= received).count();
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Batch, Message};
    use super::*;

    fn read(bytes: Bytes) -> Batch {
        let Message::Batch(batch) = Message::parse(bytes.slice(PREFIX..)).unwrap() else {
            panic!("no batch")
        };
        batch
    }

    fn rest(outgoing: &mut Outgoing) -> Vec<u64> {
        std::iter::from_fn(|| outgoing.give())
            .map(read)
            .flat_map(|batch| batch.first..=batch.last())
            .collect()
    }

    fn push(outgoing: &mut Outgoing, count: usize) {
        for _ in 0..count {
            outgoing.push(1, Kind::Plain, b"", &[7; 300]).unwrap();
        }
    }

    #[test]
    fn every_frame_is_given_once_and_in_order() {
        let mut outgoing = Outgoing::new(1, 1 << 20);
        push(&mut outgoing, 500);
        let first = read(outgoing.give().unwrap());
        push(&mut outgoing, 500);
        let numbers: Vec<u64> = (first.first..=first.last()).chain(rest(&mut outgoing)).collect();
        assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
        assert!(rest(&mut outgoing).is_empty());
    }

    #[test]
    fn a_new_connection_goes_on_behind_what_was_received() {
        let mut outgoing = Outgoing::new(1, 1 << 20);
        for _ in 0..5 {
            push(&mut outgoing, 1);
            outgoing.give();
        }
        outgoing.resume(3);
        push(&mut outgoing, 1);
        assert_eq!(rest(&mut outgoing), [4, 5, 6]);
        outgoing.resume(0);
        assert_eq!(rest(&mut outgoing), [1, 2, 3, 4, 5, 6]);
        outgoing.acknowledge(5);
        assert_eq!(outgoing.first(), 6);
        outgoing.resume(0);
        assert_eq!(rest(&mut outgoing), [6]);
        outgoing.acknowledge(6);
        assert_eq!((outgoing.first(), outgoing.held()), (7, 0));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_becomes_one_gap_at_its_place() {
        let mut outgoing = Outgoing::new(1, 10_000);
        let mut taken = 0;
        while outgoing.push(1, Kind::Plain, b"", &[7; 300]).is_ok() {
            taken += 1;
        }
        assert!((28..=33).contains(&taken), "{taken}");
        for _ in 0..1000 {
            assert_eq!(outgoing.push(1, Kind::Plain, b"", &[7; 300]), Err(Full));
        }
        assert!(outgoing.held() <= 10_000);
        let batch = read(outgoing.give().unwrap());
        let kinds: Vec<Kind> = batch.frames().map(|(kind, _)| kind).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Gap).count(), 1);
        assert_eq!(kinds.last(), Some(&Kind::Gap));
        outgoing.acknowledge(batch.last());
        push(&mut outgoing, 1);
        assert_eq!(read(outgoing.give().unwrap()).frames().next().unwrap().0, Kind::Plain);
    }

    #[test]
    fn a_batch_is_of_one_view() {
        let mut outgoing = Outgoing::new(1, 10_000);
        for view in [1, 1, 2, 3] {
            outgoing.push(view, Kind::Plain, b"", b"x").unwrap();
        }
        let views: Vec<(u64, u64)> =
            std::iter::from_fn(|| outgoing.give()).map(read).map(|batch| (batch.view, batch.count)).collect();
        assert_eq!(views, [(1, 2), (2, 1), (3, 1)]);
    }

    #[test]
    fn a_frame_longer_than_a_batch_goes_alone() {
        let mut outgoing = Outgoing::new(1, 1 << 20);
        outgoing.push(1, Kind::Plain, b"", b"x").unwrap();
        outgoing.push(1, Kind::Plain, b"", &vec![7; 200_000]).unwrap();
        outgoing.push(1, Kind::Plain, b"", b"y").unwrap();
        let sizes: Vec<u64> = std::iter::from_fn(|| outgoing.give()).map(|b| read(b).count).collect();
        assert_eq!(sizes, [1, 1, 1]);
    }
}
