//! Places: where an entry stands in a store ([`Seq`]), the cursor that a connection resumes from
//! ([`Cursor`]) and those that lists go on from ([`PageCursor`], [`ConversationCursor`]).
//!
//! A cursor is opaque to clients. It names its store, so that one of another store (a restored
//! backup, a copy) is known for what it is.

use super::id::ConversationId;
use super::timestamp::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// The place of an entry (a post or a deletion) in its store: they are numbered in the order in
/// which they were committed, from 1, and a number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

/// A store's name: made when the store is made, and anew for each copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreName(pub u64);

impl StoreName {
    /// A new name, by chance.
    #[must_use]
    pub fn make() -> Self {
        Self(uuid::Uuid::new_v4().as_u64_pair().1)
    }
}

/// A low-water mark of a store: everything up to `seq` was sent on the connection it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The store that counted.
    pub store: StoreName,
    /// Up to where.
    pub seq: Seq,
}

/// A text that no cursor of ours looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor of this server")]
pub struct CursorError;

/// Tells a resume cursor from those of other lists.
const RESUME: u8 = b'r';
/// Tells a list's cursor from a resume cursor.
const PAGE: u8 = b'p';
/// Tells the one of a list of conversations from both.
const CONVERSATIONS: u8 = b'c';

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(RESUME, [self.store.0, self.seq.0]))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let [store, seq] = decode(RESUME, text)?;
        Ok(Self { store: StoreName(store), seq: Seq(seq) })
    }
}

/// Where a list goes on: behind the entry at `before`, `shown` entries having been shown so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCursor {
    /// The place (in the list's own order) of the last entry that was shown.
    pub before: u64,
    /// How many entries the pages so far have shown.
    pub shown: u64,
}

impl fmt::Display for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(PAGE, [self.before, self.shown]))
    }
}

impl FromStr for PageCursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let [before, shown] = decode(PAGE, text)?;
        Ok(Self { before, shown })
    }
}

/// Where a list of conversations goes on: behind that one, as active as it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationCursor {
    /// When its newest message had been sent, or it was made.
    pub active_at: Timestamp,
    /// Which.
    pub id: ConversationId,
}

impl fmt::Display for ConversationCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [CONVERSATIONS; 25];
        bytes[1..9].copy_from_slice(&self.active_at.millis().to_be_bytes());
        bytes[9..].copy_from_slice(self.id.0.as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for ConversationCursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let bytes: [u8; 25] = bytes.try_into().map_err(|_| CursorError)?;
        if bytes[0] != CONVERSATIONS {
            return Err(CursorError);
        }
        let mut millis = [0; 8];
        millis.copy_from_slice(&bytes[1..9]);
        let id = Uuid::from_slice(&bytes[9..]).map_err(|_| CursorError)?;
        Ok(Self { active_at: Timestamp::from_millis(i64::from_be_bytes(millis)), id: ConversationId(id) })
    }
}

/// One byte of kind, then both numbers, big-endian, in URL-safe base 64: 23 characters.
fn encode(kind: u8, numbers: [u64; 2]) -> String {
    let mut bytes = [kind; 17];
    bytes[1..9].copy_from_slice(&numbers[0].to_be_bytes());
    bytes[9..].copy_from_slice(&numbers[1].to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(kind: u8, text: &str) -> Result<[u64; 2], CursorError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
    let bytes: [u8; 17] = bytes.try_into().map_err(|_| CursorError)?;
    if bytes[0] != kind {
        return Err(CursorError);
    }
    let number = |from: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[from..from + 8]);
        u64::from_be_bytes(eight)
    };
    let numbers = [number(1), number(9)];
    // A store counts in SQL's signed integers; what does not fit was never ours.
    if i64::try_from(numbers[1]).is_err() || (kind == PAGE && i64::try_from(numbers[0]).is_err()) {
        return Err(CursorError);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::{ConversationCursor, Cursor, PageCursor, Seq, StoreName};
    use crate::model::id::ConversationId;
    use crate::model::timestamp::Timestamp;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_reads_as_one() {
        let cursor = Cursor { store: StoreName(u64::MAX), seq: Seq(42) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        let page = PageCursor { before: 7, shown: 20 };
        assert_eq!(page.to_string().parse(), Ok(page));
        assert!(page.to_string().parse::<Cursor>().is_err());
        let list = ConversationCursor { active_at: Timestamp::from_millis(-5), id: ConversationId::make() };
        assert_eq!(list.to_string().parse(), Ok(list));
        assert!(page.to_string().parse::<ConversationCursor>().is_err());
        for bad in ["", "x", "42", "cgAAAAAA", &"A".repeat(23), &"A".repeat(10_000), "é"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
