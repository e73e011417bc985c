//! Messages of bytes for gRPC. No protobuf and no generated code: a batch is written once, by whoever sends, and the
//! frames that arrive are slices of it; a schema between the two would cost a parse and a copy a frame, and what has to
//! grow (handshake, heartbeats, views) is JSON.

use super::wire::BATCH_HEADER;
use bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// The longest frame.
pub const MAX_FRAME: usize = 1 << 20;
/// The longest message of a link: a frame alone in its batch.
pub const MAX_MESSAGE: usize = MAX_FRAME + BATCH_HEADER + 64;
/// The longest message of a handshake.
pub const MAX_HANDSHAKE: usize = 4096;
/// What is written at once: a batch, and the small messages before it. More would only be moved about.
const WRITE: usize = 32 * 1024;

/// Bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.reserve(item.len());
        dst.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(4096, WRITE)
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}
