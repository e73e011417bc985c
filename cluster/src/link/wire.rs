//! What is written on a link: the kinds of messages, and batches of frames. The handshake is in `handshake`.
//!
//! A message is one gRPC message: a byte that says its kind, then its body. A batch's body is the number of its first
//! frame, the number of the view it was sent by, and its frames, each a byte of kind, four of length, and its bytes;
//! numbers are big-endian. What comes rarely is JSON, whose unknown fields are passed over, as unknown kinds are: so a
//! later version may say more.

use crate::view::{ViewId, ViewRecord};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The kind, the number of the first frame, the number of the view.
pub const BATCH_HEADER: usize = 1 + 8 + 8;
/// The kind and the length.
pub const FRAME_HEADER: usize = 1 + 4;
/// A call's number, before its bytes.
pub const CALL_HEADER: usize = 8;

const BATCH: u8 = 1;
const ACK: u8 = 2;
const PULSE: u8 = 3;
const ANSWER: u8 = 4;
const VIEW: u8 = 5;
const BYE: u8 = 6;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes for whoever listens.
    Plain,
    /// The number of a call, and bytes to be answered.
    Call,
    /// The number of a call of the receiver's, and its answer.
    Reply,
    /// Here frames are missing: there was no room for them.
    Gap,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Call => 1,
            Self::Reply => 2,
            Self::Gap => 3,
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Plain),
            1 => Some(Self::Call),
            2 => Some(Self::Reply),
            3 => Some(Self::Gap),
            _ => None,
        }
    }
}

/// Where a node stands: told with each heartbeat and each answer to one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The view it goes by.
    pub view: Option<ViewId>,
    /// The number of the view that it has confirmed, 0 for none.
    pub confirmed: u64,
}

/// A heartbeat, or the answer to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// When it was sent, by the sender's own clock, in ns; an answer repeats it.
    pub sent: u64,
    /// Where the one who says this stands.
    pub standing: Standing,
}

/// A message, after the handshake.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Numbered frames.
    Batch(Batch),
    /// All frames up to this number were taken by whoever listens.
    Ack(u64),
    /// A heartbeat.
    Pulse(Pulse),
    /// The answer to one.
    Answer(Pulse),
    /// The view that the sender goes by.
    View(ViewRecord),
    /// The sender ends for good.
    Bye,
    /// Something of a later version.
    Unknown,
}

/// What no node of ours writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it wrote what is not a message")]
pub struct Malformed;

impl Message {
    /// As it is written. A batch is written by `begin_batch` and `put_frame`.
    pub fn to_bytes(&self) -> Bytes {
        let (kind, body) = match self {
            Self::Batch(batch) => return batch.to_bytes(),
            Self::Ack(number) => (ACK, number.to_be_bytes().to_vec()),
            Self::Pulse(pulse) => (PULSE, json(pulse)),
            Self::Answer(pulse) => (ANSWER, json(pulse)),
            Self::View(record) => (VIEW, json(record)),
            Self::Bye => (BYE, Vec::new()),
            Self::Unknown => (0, Vec::new()),
        };
        let mut bytes = BytesMut::with_capacity(1 + body.len());
        bytes.put_u8(kind);
        bytes.put_slice(&body);
        bytes.freeze()
    }

    /// Reads a message; a batch to its last frame.
    pub fn parse(mut bytes: Bytes) -> Result<Self, Malformed> {
        let kind = bytes.try_get_u8().map_err(|_| Malformed)?;
        match kind {
            BATCH => Batch::parse(bytes).map(Self::Batch),
            ACK => bytes.try_get_u64().map(Self::Ack).map_err(|_| Malformed),
            PULSE => serde_json::from_slice(&bytes).map(Self::Pulse).map_err(|_| Malformed),
            ANSWER => serde_json::from_slice(&bytes).map(Self::Answer).map_err(|_| Malformed),
            VIEW => serde_json::from_slice(&bytes).map(Self::View).map_err(|_| Malformed),
            BYE => Ok(Self::Bye),
            _ => Ok(Self::Unknown),
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Numbers, texts and lists of them always have a JSON form.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Frames that follow each other, of one view.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The number of the first.
    pub first: u64,
    /// How many there are.
    pub count: u64,
    /// The view by which they were sent.
    pub view: u64,
    /// Whether there is a reply among them.
    pub has_replies: bool,
    frames: Bytes,
}

impl Batch {
    /// The number of the last frame.
    pub const fn last(&self) -> u64 {
        self.first + self.count - 1
    }

    /// The bytes of its frames, headers included.
    pub const fn size(&self) -> usize {
        self.frames.len()
    }

    /// Its frames, in order.
    pub fn frames(&self) -> Frames {
        Frames(self.frames.clone())
    }

    fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(BATCH_HEADER + self.frames.len());
        begin_batch(&mut bytes, self.first, self.view);
        bytes.put_slice(&self.frames);
        bytes.freeze()
    }

    fn parse(mut bytes: Bytes) -> Result<Self, Malformed> {
        let first = bytes.try_get_u64().map_err(|_| Malformed)?;
        let view = bytes.try_get_u64().map_err(|_| Malformed)?;
        let (mut count, mut has_replies, mut rest) = (0, false, &bytes[..]);
        while let Some((header, after)) = rest.split_first_chunk::<FRAME_HEADER>() {
            let (kind, length) = read_header(*header).ok_or(Malformed)?;
            if matches!(kind, Kind::Call | Kind::Reply) && length < CALL_HEADER {
                return Err(Malformed);
            }
            has_replies |= kind == Kind::Reply;
            count += 1;
            rest = after.get(length..).ok_or(Malformed)?;
        }
        if first == 0 || count == 0 || !rest.is_empty() || first.checked_add(count).is_none() {
            return Err(Malformed);
        }
        Ok(Self { first, count, view, has_replies, frames: bytes })
    }
}

fn read_header([kind, length @ ..]: [u8; FRAME_HEADER]) -> Option<(Kind, usize)> {
    Some((Kind::of(kind)?, usize::try_from(u32::from_be_bytes(length)).ok()?))
}

/// The frames of a batch: slices of what arrived.
#[derive(Debug)]
pub struct Frames(Bytes);

impl Iterator for Frames {
    type Item = (Kind, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, length) = read_header(*self.0.first_chunk()?)?;
        self.0.advance(FRAME_HEADER);
        // The batch was read to its end when it came.
        (length <= self.0.len()).then(|| (kind, self.0.split_to(length)))
    }
}

/// Begins a batch.
pub fn begin_batch(bytes: &mut BytesMut, first: u64, view: u64) {
    bytes.put_u8(BATCH);
    bytes.put_u64(first);
    bytes.put_u64(view);
}

/// Adds a frame to a batch that was begun: its head, if it has one, and its body.
pub fn put_frame(bytes: &mut BytesMut, kind: Kind, head: &[u8], body: &[u8]) {
    bytes.put_u8(kind.byte());
    // No frame is near this length: the sender's window is shorter.
    bytes.put_u32(u32::try_from(head.len() + body.len()).unwrap_or(u32::MAX));
    bytes.put_slice(head);
    bytes.put_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Boot;
    use proptest::prelude::*;

    fn batch(first: u64, frames: &[(Kind, &[u8])]) -> Bytes {
        let mut bytes = BytesMut::new();
        begin_batch(&mut bytes, first, 7);
        for (kind, body) in frames {
            put_frame(&mut bytes, *kind, b"", body);
        }
        bytes.freeze()
    }

    #[test]
    fn a_batch_reads_as_it_was_written() {
        let frames: [(Kind, &[u8]); 4] =
            [(Kind::Plain, b"one"), (Kind::Call, b"12345678call"), (Kind::Gap, b""), (Kind::Plain, b"")];
        let Message::Batch(read) = Message::parse(batch(5, &frames)).unwrap() else { panic!("no batch") };
        assert_eq!((read.first, read.last(), read.view, read.has_replies), (5, 8, 7, false));
        let read: Vec<(Kind, Bytes)> = read.frames().collect();
        assert_eq!(read, frames.map(|(kind, body)| (kind, Bytes::from_static(body))));
    }

    #[test]
    fn other_messages_read_as_they_were_written() {
        let standing = Standing { view: Some(ViewId { number: 3, maker: Boot::new(9) }), confirmed: 2 };
        let pulse = Pulse { sent: 1, standing };
        for message in [Message::Ack(77), Message::Pulse(pulse), Message::Answer(pulse), Message::Bye] {
            assert_eq!(Message::parse(message.to_bytes()).unwrap(), message);
        }
    }

    #[test]
    fn what_a_later_version_says_more_is_passed_over() {
        assert_eq!(Message::parse(Bytes::from_static(&[200, 1, 2])).unwrap(), Message::Unknown);
        let more = br#" {"sent":1,"standing":{"view":null,"confirmed":0,"mood":"good"},"new":[]}"#;
        let bytes = [&[PULSE], more.as_slice()].concat();
        assert!(matches!(Message::parse(bytes.into()), Ok(Message::Pulse(_))));
    }

    #[test]
    fn a_batch_that_is_cut_or_makes_no_sense_is_refused() {
        let whole = batch(1, &[(Kind::Plain, b"abc"), (Kind::Call, b"12345678")]);
        for end in 0..whole.len() {
            // Cut between two frames it is a shorter batch.
            let is_whole = end == BATCH_HEADER + FRAME_HEADER + 3;
            assert_eq!(Message::parse(whole.slice(..end)).is_ok(), is_whole, "{end}");
        }
        assert!(Message::parse(batch(0, &[(Kind::Plain, b"")])).is_err());
        assert!(Message::parse(batch(u64::MAX, &[(Kind::Plain, b"")])).is_err());
        assert!(Message::parse(batch(1, &[(Kind::Reply, b"short")])).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_u8..8) {
            let _ = Message::parse(Bytes::from(bytes.clone()));
            if let Ok(Message::Batch(batch)) = Message::parse(Bytes::from([&[kind], bytes.as_slice()].concat())) {
                prop_assert_eq!(batch.frames().count() as u64, batch.count);
            }
        }
    }
}
