//! gRPC's framing of messages that are bytes. No protobuf and no generated code: a batch is written once, by whoever
//! sends, with gRPC's own prefix in front, and goes to HTTP/2 as it is; the frames that arrive are slices of what tonic
//! read. A schema between the two would cost a parse and a copy a frame, and what has to grow (handshake, heartbeats,
//! views) is JSON.

use super::wire::BATCH_HEADER;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::Status;
use tonic::codec::{DecodeBuf, Decoder};

/// gRPC's prefix of a message: whether it is compressed, and its length.
pub const PREFIX: usize = 5;
/// The longest frame.
pub const MAX_FRAME: usize = 1 << 20;
/// The longest message of a link: a frame alone in its batch.
pub const MAX_MESSAGE: usize = MAX_FRAME + BATCH_HEADER + 64;
/// The longest message of a handshake.
pub const MAX_HANDSHAKE: usize = 4096;

/// Leaves room for the prefix.
pub fn begin_message(bytes: &mut BytesMut) {
    bytes.put_bytes(0, PREFIX);
}

/// Writes the prefix of a message that is whole.
pub fn end_message(bytes: &mut BytesMut) {
    // No message is near this length: see `MAX_MESSAGE`.
    let length = u32::try_from(bytes.len().saturating_sub(PREFIX)).unwrap_or(u32::MAX);
    if let Some(prefix) = bytes.first_chunk_mut::<PREFIX>() {
        prefix[1..].copy_from_slice(&length.to_be_bytes());
    }
}

/// A message with its prefix.
pub fn prefixed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + message.len());
    begin_message(&mut bytes);
    bytes.put_slice(message);
    end_message(&mut bytes);
    bytes.freeze()
}

/// What says that a request or an answer is gRPC's.
pub const CONTENT_TYPE: (HeaderName, HeaderValue) =
    (http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
/// What says that its sender hears the status at the end.
pub const TRAILERS: (HeaderName, HeaderValue) = (http::header::TE, HeaderValue::from_static("trailers"));

/// The status at the end: all is well.
pub fn end_well() -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))])
}

/// Reads bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}
