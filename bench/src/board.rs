//! The board of posts: what was sent, when it was answered, who has it.
//!
//! A post of the bench carries a mark in its content: the time it was sent and its number. So a
//! listener knows from the frame alone which post it is and how old, and the publisher's 201 is joined
//! on the number. All is atomic: publishers and listeners run on threads of their own.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The length of every post of the bench, in characters and bytes.
pub const CONTENT_LENGTH: usize = 200;

const STAMP_DIGITS: usize = 19;
const NUMBER_DIGITS: usize = 10;
const OPENING: &[u8] = b"\"t=";
const BETWEEN: &[u8] = b" n=";

/// What a post of the bench says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// When its request was sent, in nanoseconds of the Unix clock.
    pub sent_at: u64,
    /// Its place on the board.
    pub number: u32,
}

/// Nanoseconds of the Unix clock: the one clock that two processes share.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// The content of a post: the mark, then filler up to [`CONTENT_LENGTH`].
pub fn content(mark: Mark) -> String {
    let mut content = marked(mark);
    while content.len() < CONTENT_LENGTH {
        content.push_str(" a post of two hundred characters");
    }
    content.truncate(CONTENT_LENGTH);
    // Ends are trimmed by the server, which would make this post a character shorter.
    if content.ends_with(' ') {
        content.replace_range(CONTENT_LENGTH - 1.., ".");
    }
    content
}

/// Finds the mark in a frame that carries such a post.
pub fn find_mark(payload: &[u8]) -> Option<Mark> {
    let at = memchr::memmem::find(payload, OPENING)? + OPENING.len();
    let digits = payload.get(at..)?;
    let sent_at = number(digits.get(..STAMP_DIGITS)?)?;
    let rest = digits[STAMP_DIGITS..].strip_prefix(BETWEEN)?;
    let number = number(rest.get(..NUMBER_DIGITS)?)?;
    Some(Mark { sent_at, number: u32::try_from(number).ok()? })
}

/// Writes another mark over the one in a frame; the length stays the same.
pub fn replace_mark(payload: &mut [u8], mark: Mark) {
    if let Some(at) = memchr::memmem::find(payload, OPENING) {
        let text = marked(mark);
        let start = at + 1;
        if let Some(place) = payload.get_mut(start..start + text.len()) {
            place.copy_from_slice(text.as_bytes());
        }
    }
}

fn marked(mark: Mark) -> String {
    format!("t={:019} n={:010}", mark.sent_at, mark.number)
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        digit.is_ascii_digit().then(|| value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
    })
}

/// One post's row.
#[derive(Debug, Default)]
struct Row {
    answered_at: AtomicU64,
    /// 0 until somebody has it.
    first_received_at: AtomicU64,
    last_received_at: AtomicU64,
    received: AtomicU32,
}

/// The rows of all posts of a scenario.
#[derive(Debug)]
pub struct Board {
    rows: Vec<Row>,
    next: AtomicU32,
}

impl Board {
    /// A board for at most this many posts.
    pub fn new(posts: usize) -> Self {
        Self { rows: (0..posts).map(|_| Row::default()).collect(), next: AtomicU32::new(0) }
    }

    /// The number of the next post to be sent.
    pub fn take_number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The number that the next post will get.
    pub fn peek_number(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// Whether another post fits.
    pub fn has_room(&self) -> bool {
        (self.peek_number() as usize) < self.rows.len()
    }

    /// The post's 201 was read at this time.
    pub fn answered(&self, number: u32, at: u64) {
        if let Some(row) = self.rows.get(number as usize) {
            row.answered_at.store(at, Ordering::Release);
        }
    }

    /// A listener has the post, for the first time. Gives the time of its 201 if that is known.
    pub fn received(&self, number: u32, at: u64) -> Option<u64> {
        let row = self.rows.get(number as usize)?;
        row.received.fetch_add(1, Ordering::Relaxed);
        row.last_received_at.fetch_max(at, Ordering::Relaxed);
        // Only one of several threads that come at once is first; the others are not earlier by much.
        let _taken = row.first_received_at.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed);
        Some(row.answered_at.load(Ordering::Acquire)).filter(|at| *at != 0)
    }

    /// Whether the post got its 201.
    pub fn is_answered(&self, number: u32) -> bool {
        self.rows.get(number as usize).is_some_and(|row| row.answered_at.load(Ordering::Acquire) != 0)
    }

    /// Deliveries that are missing of the answered posts in this range, each due this many times.
    pub fn lost(&self, numbers: std::ops::Range<u32>, listeners: u32) -> u64 {
        numbers
            .filter(|number| self.is_answered(*number))
            .filter_map(|number| self.rows.get(number as usize))
            .map(|row| u64::from(listeners.saturating_sub(row.received.load(Ordering::Relaxed))))
            .sum()
    }

    /// Nanoseconds from the 201 to the first receipt, of each answered post in this range that somebody has; zero
    /// where the receipt came first.
    pub fn first_after_answer(&self, numbers: std::ops::Range<u32>) -> impl Iterator<Item = u64> {
        numbers.filter_map(|number| self.rows.get(number as usize)).filter_map(|row| {
            let answered = row.answered_at.load(Ordering::Acquire);
            let first = row.first_received_at.load(Ordering::Relaxed);
            (answered != 0 && first != 0).then(|| first.saturating_sub(answered))
        })
    }

    /// Nanoseconds from the 201 to the last receipt, of each answered post in this range that
    /// somebody has; zero where the last receipt came first.
    pub fn last_after_answer(&self, numbers: std::ops::Range<u32>) -> impl Iterator<Item = u64> {
        numbers.filter_map(|number| self.rows.get(number as usize)).filter_map(|row| {
            let answered = row.answered_at.load(Ordering::Acquire);
            let last = row.last_received_at.load(Ordering::Relaxed);
            (answered != 0 && last != 0).then(|| last.saturating_sub(answered))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Board, CONTENT_LENGTH, Mark, content, find_mark, replace_mark};

    const MARK: Mark = Mark { sent_at: 1_767_398_400_123_456_789, number: 4_000_000_001 };

    #[test]
    fn a_mark_survives_the_frame_and_the_content_has_its_length() {
        let content = content(MARK);
        assert_eq!(content.len(), CONTENT_LENGTH);
        assert_eq!(content.trim(), content);
        let frame = format!(r#"{{"type":"newPost","data":{{"content":"{content}"}}}}"#);
        assert_eq!(find_mark(frame.as_bytes()), Some(MARK));
    }

    #[test]
    fn a_replaced_mark_leaves_the_length() {
        let mut frame = format!(r#"{{"content":"{}"}}"#, content(MARK)).into_bytes();
        let length = frame.len();
        let other = Mark { sent_at: 7, number: 9 };
        replace_mark(&mut frame, other);
        assert_eq!(find_mark(&frame), Some(other));
        assert_eq!(frame.len(), length);
    }

    #[test]
    fn a_frame_without_a_mark_has_none() {
        for payload in [&b""[..], b"{\"content\":\"hello\"}", b"\"t=12", b"\"t=123456789012345678x n=0"] {
            assert_eq!(find_mark(payload), None);
        }
    }

    #[test]
    fn only_answered_posts_can_be_lost() {
        let board = Board::new(3);
        board.answered(0, 100);
        board.answered(1, 100);
        board.received(0, 150);
        board.received(0, 90);
        board.received(2, 10);
        assert_eq!(board.lost(0..3, 2), 2);
        assert_eq!(board.last_after_answer(0..3).collect::<Vec<_>>(), [50]);
    }
}
