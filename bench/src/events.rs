//! Reads Server-Sent Events (WHATWG HTML, section 9.2) from an answer that ends with its connection (RFC 9112, section 6.3).
//!
//! It refuses what the server never sends instead of coping with it. It finds the message's id by searching, since parsing
//! JSON would cost more than sending it.

use uuid::Uuid;

use crate::remainder::{Malformed, Remainder};

const MESSAGE: &[u8] = b"\"messageId\":\"";
/// Characters of a UUID.
const ID_LENGTH: usize = 36;
/// The longest block.
const LONGEST: usize = 64 * 1024;

/// A block of the stream, borrowed from the bytes it came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Where the stream stands when it opens: a block without an event.
    Opening,
    /// A message's event, and its whole block.
    Message(Uuid, &'a [u8]),
    /// A comment.
    Comment,
    /// A `resync`.
    Resync,
    /// Any other.
    Other,
}

/// The state between two reads of one connection.
#[derive(Debug, Default)]
pub struct EventReader {
    rest: Remainder,
}

impl EventReader {
    /// Takes what was read and hands each block that is whole now to `each`.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Event<'_>)) -> Result<(), Malformed> {
        self.rest.feed(bytes, |bytes| parse_all(bytes, &mut each))
    }
}

/// Writes another message's id over the one in a block; the length stays the same.
pub fn replace_message(block: &mut [u8], message: Uuid) {
    if let Some(at) = memchr::memmem::find(block, MESSAGE)
        && let Some(place) = block.get_mut(at + MESSAGE.len()..at + MESSAGE.len() + ID_LENGTH)
    {
        place.copy_from_slice(message.hyphenated().to_string().as_bytes());
    }
}

/// Finds the id of the message that a block, or a frame, tells of.
pub fn find_message(text: &[u8]) -> Option<Uuid> {
    let at = memchr::memmem::find(text, MESSAGE)? + MESSAGE.len();
    Uuid::try_parse_ascii(text.get(at..at + ID_LENGTH)?).ok()
}

fn parse_all(bytes: &[u8], each: &mut impl FnMut(Event<'_>)) -> Result<usize, Malformed> {
    let mut used = 0;
    while let Some(length) = memchr::memmem::find(&bytes[used..], b"\n\n") {
        let end = used + length + 2;
        each(event(&bytes[used..end])?);
        used = end;
    }
    if bytes.len() - used > LONGEST { Err(Malformed("a block without end")) } else { Ok(used) }
}

fn event(block: &[u8]) -> Result<Event<'_>, Malformed> {
    Ok(match block.strip_prefix(b"event: ") {
        Some(named) if named.starts_with(b"message\n") => {
            Event::Message(find_message(named).ok_or(Malformed("a message without id"))?, block)
        }
        Some(named) if named.starts_with(b"resync\n") => Event::Resync,
        Some(_) => Event::Other,
        None if block.starts_with(b":") => Event::Comment,
        None => Event::Opening,
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{Event, EventReader, LONGEST, find_message, replace_message};
    use crate::remainder::Malformed;

    const BLOCK: &[u8] = b"event: message\nid: abc\n\
        data: {\"messageId\":\"019b8a7e-7c05-7000-8000-000000000001\",\"conversationId\":\"x\"}\n\n";

    fn read(reader: &mut EventReader, bytes: &[u8]) -> Result<Vec<String>, Malformed> {
        let mut events = Vec::new();
        reader.feed(bytes, |event| {
            events.push(match event {
                Event::Message(message, _) => message.to_string(),
                other => format!("{other:?}"),
            });
        })?;
        Ok(events)
    }

    #[test]
    fn a_stream_cut_at_any_byte_is_read_once_and_in_order() {
        let mut bytes = b"retry: 2000\nid: abc\n\nevent: resync\ndata: {}\n\n".to_vec();
        bytes.extend([BLOCK, BLOCK, b": \n\n", b"event: expired\ndata: {}\n\n"].concat());
        let id = "019b8a7e-7c05-7000-8000-000000000001";
        let whole = ["Opening", "Resync", id, id, "Comment", "Other"];
        for cut in 0..=bytes.len() {
            let mut reader = EventReader::default();
            let mut events = read(&mut reader, &bytes[..cut]).unwrap();
            events.extend(read(&mut reader, &bytes[cut..]).unwrap());
            assert_eq!(events, whole, "cut at {cut}");
            assert!(reader.rest.is_empty(), "nothing is kept of whole blocks");
        }
    }

    #[test]
    fn what_the_server_never_sends_is_refused() {
        let endless = vec![b'x'; LONGEST + 1];
        for (bytes, why) in
            [(&b"event: message\n\n"[..], "a message without id"), (&endless, "a block without end")]
        {
            assert_eq!(read(&mut EventReader::default(), bytes), Err(Malformed(why)));
        }
    }

    #[test]
    fn another_message_takes_the_place_of_the_one_in_a_block() {
        let mut block = BLOCK.to_vec();
        replace_message(&mut block, Uuid::from_u128(7));
        assert_eq!(block.len(), BLOCK.len());
        assert_eq!(find_message(&block), Some(Uuid::from_u128(7)));
    }
}
