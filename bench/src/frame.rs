//! Reads WebSocket frames as a server sends them (RFC 6455, section 5.2): unmasked, whole.
//!
//! It refuses what the contract never sends (a masked or fragmented frame, a reserved opcode)
//! instead of skipping it, so that a server that breaks framing is noticed.

use crate::remainder::{Malformed, Remainder};

/// A whole frame, borrowed from the bytes it came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Opcode 1.
    Text(&'a [u8]),
    /// Opcode 9: wants a [`pong`] with the same payload.
    Ping(&'a [u8]),
    /// Opcode 10.
    Pong,
    /// Opcode 8, with the close code if there was one.
    Close(Option<u16>),
}

/// The state between two reads of one connection.
#[derive(Debug, Default)]
pub struct FrameReader {
    rest: Remainder,
}

impl FrameReader {
    /// Takes what was read and hands each frame that is whole now to `each`.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Frame<'_>)) -> Result<(), Malformed> {
        self.rest.feed(bytes, |bytes| parse_all(bytes, &mut each))
    }
}

/// A masked pong, as a client must send it. The mask is zero, which leaves the payload as it is.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    // A control frame carries at most 125 bytes (RFC 6455, section 5.5).
    let payload = &payload[..payload.len().min(125)];
    let mut frame = vec![0x8A, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// The header of an unmasked text frame with a payload of this many bytes, followed by the payload.
pub fn text(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        length @ 0..=125 => frame.push(length as u8),
        length @ 126..=0xFFFF => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn parse_all(bytes: &[u8], each: &mut impl FnMut(Frame<'_>)) -> Result<usize, Malformed> {
    let mut used = 0;
    while let Some((header, length)) = extent(&bytes[used..])? {
        let start = used + header;
        let Some(payload) = bytes.get(start..start + length) else {
            break;
        };
        each(frame(bytes[used] & 0x0F, payload)?);
        used = start + length;
    }
    Ok(used)
}

/// The lengths of header and payload, or none while the header is not whole.
fn extent(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0x80 == 0 {
        return Err(Malformed("fragmented"));
    }
    if first & 0x70 != 0 {
        return Err(Malformed("reserved bits"));
    }
    if second & 0x80 != 0 {
        return Err(Malformed("masked"));
    }
    Ok(match second & 0x7F {
        126 => rest.first_chunk::<2>().map(|length| (4, usize::from(u16::from_be_bytes(*length)))),
        127 => match rest.first_chunk::<8>().map(|length| u64::from_be_bytes(*length)) {
            Some(length) if length > 1 << 20 => return Err(Malformed("over 1 MiB")),
            Some(length) => Some((10, length as usize)),
            None => None,
        },
        length => Some((2, usize::from(length))),
    })
}

fn frame(opcode: u8, payload: &[u8]) -> Result<Frame<'_>, Malformed> {
    match opcode {
        1 => Ok(Frame::Text(payload)),
        8 => Ok(Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code)))),
        9 => Ok(Frame::Ping(payload)),
        10 => Ok(Frame::Pong),
        _ => Err(Malformed("opcode")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, FrameReader, Malformed, pong, text};

    fn read(reader: &mut FrameReader, bytes: &[u8]) -> Result<Vec<String>, Malformed> {
        let mut frames = Vec::new();
        reader.feed(bytes, |frame| frames.push(describe(&frame)))?;
        Ok(frames)
    }

    fn describe(frame: &Frame<'_>) -> String {
        match frame {
            Frame::Text(payload) => format!("text {}", payload.len()),
            Frame::Ping(payload) => format!("ping {}", payload.len()),
            Frame::Pong => "pong".to_owned(),
            Frame::Close(code) => format!("close {code:?}"),
        }
    }

    #[test]
    fn every_length_form_is_read_at_its_edges() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let bytes = text(&vec![b'a'; length]);
            let frames = read(&mut FrameReader::default(), &bytes).unwrap();
            assert_eq!(frames, [format!("text {length}")]);
        }
    }

    #[test]
    fn frames_cut_at_any_byte_are_read_once_and_in_order() {
        let mut bytes = text(&[b'a'; 300]);
        bytes.extend([0x89, 2, b'h', b'i']);
        bytes.extend([0x8A, 0]);
        bytes.extend(text(b"short"));
        bytes.extend([0x88, 2, 0x0F, 0xA8]);
        let whole = ["text 300", "ping 2", "pong", "text 5", "close Some(4008)"];
        for cut in 0..=bytes.len() {
            let mut reader = FrameReader::default();
            let mut frames = read(&mut reader, &bytes[..cut]).unwrap();
            frames.extend(read(&mut reader, &bytes[cut..]).unwrap());
            assert_eq!(frames, whole, "cut at {cut}");
        }
        let mut reader = FrameReader::default();
        let frames: Vec<String> =
            bytes.iter().flat_map(|byte| read(&mut reader, &[*byte]).unwrap()).collect();
        assert_eq!(frames, whole, "byte by byte");
        assert!(reader.rest.is_empty(), "nothing is kept of whole frames");
    }

    #[test]
    fn payloads_are_handed_on_unchanged() {
        let mut seen = Vec::new();
        FrameReader::default()
            .feed(&text(b"{\"type\":\"newPost\"}"), |frame| {
                if let Frame::Text(payload) = frame {
                    seen.extend_from_slice(payload);
                }
            })
            .unwrap();
        assert_eq!(seen, b"{\"type\":\"newPost\"}");
    }

    #[test]
    fn what_a_server_may_not_send_is_refused() {
        let cases: [(&[u8], &str); 5] = [
            (&[0x01, 1, b'a'], "fragmented"),
            (&[0xC1, 1, b'a'], "reserved bits"),
            (&[0x81, 0x81, 0, 0, 0, 0, b'a'], "masked"),
            (&[0x83, 0], "opcode"),
            (&[0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0], "over 1 MiB"),
        ];
        for (bytes, why) in cases {
            assert_eq!(read(&mut FrameReader::default(), bytes), Err(Malformed(why)));
        }
    }

    #[test]
    fn a_pong_is_masked_and_bounded() {
        assert_eq!(pong(b"hi"), [0x8A, 0x82, 0, 0, 0, 0, b'h', b'i']);
        assert_eq!(pong(&[0; 500]).len(), 6 + 125);
    }

    #[test]
    fn a_close_without_code_is_read() {
        let frames = read(&mut FrameReader::default(), &[0x88, 0]).unwrap();
        assert_eq!(frames, ["close None"]);
    }
}
