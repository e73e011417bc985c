//! One listener: a socket or a chat stream that is read, and what it has heard.
//!
//! It answers pings, remembers which posts it has and, where asked, the last cursor. It sends nothing
//! else. It finds what it needs in a frame by searching: parsing JSON would cost the client more than
//! the server spends on sending it.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;

use crate::board::{Board, find_mark, now};
use crate::error::Result;
use crate::events::{Event, EventReader, find_message};
use crate::frame::{Frame, FrameReader, pong};
use crate::receipts::Receipt;
use crate::remainder::Malformed;
use crate::tally::Tally;
use crate::upgrade::{Door, enter};

/// One read takes at most this much.
const BUFFER: usize = 64 * 1024;

/// One listener, connected or not.
#[derive(Debug)]
pub struct Listener {
    index: usize,
    door: Door,
    source: Ipv4Addr,
    hearing: Hearing,
    state: Mutex<State>,
}

/// What a listener shares with the others of its audience.
#[derive(Debug)]
pub struct Hearing {
    /// What its thread hears.
    pub heard: Arc<Mutex<Heard>>,
    /// The posts of the scenario.
    pub board: Arc<Board>,
    /// While true, all that arrives is thrown away unread.
    pub deaf: Arc<AtomicBool>,
    /// Whether the last cursor is kept.
    pub keep_cursors: bool,
    /// Who wants to know when a connection ended.
    pub ends: Option<UnboundedSender<Ended>>,
}

/// A connection that ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// The listener's index.
    pub index: usize,
    /// How long the server asked it to stay away.
    pub after: Option<Duration>,
    /// Whether it had been greeted before.
    pub was_greeted: bool,
}

/// What belongs to one thread of listeners; its lock is contended only while a tally is read.
#[derive(Debug)]
pub struct Heard {
    /// What was counted.
    pub tally: Tally,
    /// Chat messages that were told of, each time.
    pub receipts: Vec<Receipt>,
    buffer: Vec<u8>,
}

/// Where a listener stands in catching up with a range of posts.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// Posts of the range that it does not have.
    pub missing: u32,
    /// When it got the last of them, in nanoseconds of the Unix clock.
    pub whole_at: Option<u64>,
    /// Whether it is connected and was greeted.
    pub is_connected: bool,
    /// Whether it was ever told that what it missed cannot be replayed.
    pub is_told: bool,
}

#[derive(Debug, Default)]
struct State {
    wire: Wire,
    seen: Seen,
    highest: Option<u32>,
    cursor: Option<String>,
    connected_at: u64,
    is_connected: bool,
    is_told: bool,
    after: Option<Duration>,
    watched: Range<u32>,
    missing: u32,
    whole_at: Option<u64>,
}

/// What its bytes are.
#[derive(Debug)]
enum Wire {
    Frames(FrameReader),
    Events(EventReader),
}

impl Default for Wire {
    fn default() -> Self {
        Self::Frames(FrameReader::default())
    }
}

impl Default for Heard {
    fn default() -> Self {
        Self { tally: Tally::default(), receipts: Vec::new(), buffer: vec![0; BUFFER] }
    }
}

impl Listener {
    /// The listener of this index, which chooses its source address.
    pub fn new(index: usize, door: Door, hearing: Hearing) -> Self {
        Self {
            index,
            door,
            // One source address has some 28,000 ports, which closed connections hold for a minute.
            source: Ipv4Addr::new(127, 0, 0, 2 + (index / 4_000) as u8),
            hearing,
            state: Mutex::default(),
        }
    }

    /// Connects, with the last cursor if there is one, and is read from then on.
    pub async fn connect(self: Arc<Self>, server: SocketAddr) -> Result<()> {
        let cursor = lock(&self.state).cursor.clone();
        let (stream, rest) = enter(server, self.source, &self.door, cursor.as_deref()).await?;
        lock(&self.state).wire = match self.door {
            Door::Stream { .. } => Wire::Events(EventReader::default()),
            Door::Bare | Door::WebSocket { .. } | Door::Host { .. } => Wire::default(),
        };
        tokio::spawn(self.listen(stream, rest));
        Ok(())
    }

    /// From now on its [`Standing`] counts the posts of this range.
    pub fn watch(&self, numbers: Range<u32>) {
        let mut state = lock(&self.state);
        let missing = numbers.clone().filter(|number| !state.seen.has(*number)).count();
        state.watched = numbers;
        state.missing = missing as u32;
        state.whole_at = (missing == 0).then(now);
    }

    /// Where it stands with the watched posts.
    pub fn standing(&self) -> Standing {
        let state = lock(&self.state);
        Standing {
            missing: state.missing,
            whole_at: state.whole_at,
            is_connected: state.is_connected,
            is_told: state.is_told,
        }
    }

    /// Reads until the connection ends.
    async fn listen(self: Arc<Self>, mut stream: TcpStream, rest: Vec<u8>) {
        let mut pongs = Vec::new();
        let first = {
            let Heard { tally, receipts, .. } = &mut *lock(&self.hearing.heard);
            self.take(tally, receipts, &rest, &mut pongs)
        };
        let mut end = first.err();
        while end.is_none() {
            if !pongs.is_empty() {
                if let Err(error) = stream.write_all(&pongs).await {
                    end = Some(error.kind().to_string());
                    break;
                }
                pongs.clear();
            }
            end = poll_fn(|context| self.poll_read(&mut stream, &mut pongs, context)).await.err();
        }
        let end = end.unwrap_or_default();
        *lock(&self.hearing.heard).tally.ends.entry(end).or_default() += 1;
        let (after, was_greeted) = {
            let mut state = lock(&self.state);
            (state.after.take(), std::mem::take(&mut state.is_connected))
        };
        if let Some(ends) = &self.hearing.ends {
            // Nobody listens any more when the run is over.
            let _told = ends.send(Ended { index: self.index, after, was_greeted });
        }
    }

    /// One read. `poll_read` rather than `try_read`: it knows that a read that did not fill the buffer
    /// has emptied the socket, and saves the second system call.
    fn poll_read(
        &self,
        stream: &mut TcpStream,
        pongs: &mut Vec<u8>,
        context: &mut Context<'_>,
    ) -> Poll<std::result::Result<(), String>> {
        let heard = &mut *lock(&self.hearing.heard);
        let mut buffer = ReadBuf::new(&mut heard.buffer);
        if let Err(error) = ready!(Pin::new(stream).poll_read(context, &mut buffer)) {
            return Poll::Ready(Err(error.kind().to_string()));
        }
        Poll::Ready(match buffer.filled() {
            [] => Err("end of stream".to_owned()),
            _ if self.hearing.deaf.load(Ordering::Relaxed) => Ok(()),
            bytes => self.take(&mut heard.tally, &mut heard.receipts, bytes, pongs),
        })
    }

    fn take(
        &self,
        tally: &mut Tally,
        receipts: &mut Vec<Receipt>,
        bytes: &[u8],
        pongs: &mut Vec<u8>,
    ) -> std::result::Result<(), String> {
        let at = now();
        let mut state = lock(&self.state);
        let mut wire = std::mem::take(&mut state.wire);
        let mut end = None;
        let mut receive = |message| receipts.push(Receipt { message, listener: self.index, at });
        let fed = match &mut wire {
            Wire::Frames(frames) => frames.feed(bytes, |frame| match frame {
                Frame::Text(payload) if frame_type(payload) == b"chatMessage" => {
                    tally.delivered += 1;
                    find_message(payload).map_or_else(|| tally.other += 1, &mut receive);
                }
                Frame::Text(payload) => self.take_text(&mut state, tally, payload, at),
                Frame::Ping(payload) => pongs.extend_from_slice(&pong(payload)),
                Frame::Pong => {}
                Frame::Close(code) => {
                    end = Some(code.map_or_else(|| "close".to_owned(), |code| format!("close {code}")));
                }
            }),
            Wire::Events(events) => events.feed(bytes, |event| match event {
                Event::Opening => {
                    tally.connected += 1;
                    state.is_connected = true;
                }
                Event::Message(message, block) => {
                    tally.delivered += 1;
                    tally.sample.get_or_insert_with(|| block.to_vec());
                    receive(message);
                }
                Event::Comment => {}
                Event::Resync => tally.resyncs += 1,
                Event::Other => tally.other += 1,
            }),
        };
        state.wire = wire;
        if let Err(Malformed(why)) = fed {
            tally.malformed += 1;
            return Err(format!("malformed: {why}"));
        }
        end.map_or(Ok(()), Err)
    }

    fn take_text(&self, state: &mut State, tally: &mut Tally, payload: &[u8], at: u64) {
        match frame_type(payload) {
            b"newPost" => self.take_post(state, tally, payload, at),
            b"connected" => {
                tally.connected += 1;
                state.connected_at = at;
                state.is_connected = true;
            }
            b"reconnect" => state.after = Some(after_of(payload)),
            b"resync" => {
                tally.resyncs += 1;
                state.is_told = true;
            }
            _ => tally.other += 1,
        }
        if self.hearing.keep_cursors
            && let Some(cursor) = frame_cursor(payload)
        {
            let kept = state.cursor.get_or_insert_default();
            kept.clear();
            kept.push_str(cursor);
        }
    }

    fn take_post(&self, state: &mut State, tally: &mut Tally, payload: &[u8], at: u64) {
        let Some(mark) = find_mark(payload) else {
            tally.other += 1;
            return;
        };
        if !state.seen.insert(mark.number) {
            tally.repeated += 1;
            return;
        }
        tally.delivered += 1;
        if state.highest > Some(mark.number) {
            tally.disordered += 1;
        }
        state.highest = state.highest.max(Some(mark.number));
        if state.watched.contains(&mark.number) {
            state.missing -= 1;
            if state.missing == 0 {
                state.whole_at = Some(at);
            }
        }
        let answered_at = self.hearing.board.received(mark.number, at);
        if answered_at.is_some_and(|answered| answered < state.connected_at) {
            tally.replayed += 1;
        } else {
            let since_answer = answered_at.map_or(0, |answered| at.saturating_sub(answered));
            tally.from_answer.saturating_record(since_answer / 1_000);
        }
        tally.from_send.saturating_record(at.saturating_sub(mark.sent_at) / 1_000);
        if tally.sample.is_none() {
            tally.sample = Some(payload.to_vec());
        }
    }
}

/// Which posts of the board a listener has: a bit each.
#[derive(Debug, Default)]
struct Seen(Vec<u64>);

impl Seen {
    fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1_u64 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    fn has(&self, number: u32) -> bool {
        let word = self.0.get(number as usize / 64);
        word.is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

/// The value of the first `type` in a frame; its key comes first, before any content.
fn frame_type(payload: &[u8]) -> &[u8] {
    value_after(payload, memchr::memmem::find(payload, b"\"type\":\""), 8)
}

/// How long a `reconnect` frame asks to stay away.
fn after_of(payload: &[u8]) -> Duration {
    let digits = memchr::memmem::find(payload, b"\"after_ms\":").map_or(&[][..], |at| &payload[at + 11..]);
    let digits = digits.iter().take_while(|digit| digit.is_ascii_digit());
    Duration::from_millis(digits.fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// The value of the last `cursor` in a frame: it stands behind the data.
fn frame_cursor(payload: &[u8]) -> Option<&str> {
    let at = memchr::memmem::rfind(payload, b"\"cursor\":\"");
    let value = value_after(payload, at, 10);
    std::str::from_utf8(value).ok().filter(|cursor| !cursor.is_empty())
}

fn value_after(payload: &[u8], key: Option<usize>, key_length: usize) -> &[u8] {
    let Some(key) = key else {
        return &[];
    };
    let value = &payload[key + key_length..];
    &value[..memchr::memchr(b'"', value).unwrap_or(0)]
}

/// Takes a lock that no panic can spoil: what is behind it are counts.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Seen, after_of, frame_cursor, frame_type};

    #[test]
    fn type_and_cursor_are_found_without_parsing() {
        let frame = br#"{"type":"newPost","data":{"content":"t=1"},"cursor":"abc-_.1"}"#;
        assert_eq!(frame_type(frame), b"newPost");
        assert_eq!(frame_cursor(frame), Some("abc-_.1"));
        assert_eq!(frame_type(b"{}"), b"");
        assert_eq!(frame_cursor(br#"{"type":"pong","data":{}}"#), None);
        let leaving = br#"{"type":"reconnect","data":{"after_ms":2500}}"#;
        assert_eq!(after_of(leaving).as_millis(), 2_500);
        assert_eq!(after_of(b"{}").as_millis(), 0);
    }

    #[test]
    fn a_post_is_new_once() {
        let mut seen = Seen::default();
        for number in [0, 63, 64, 10_000] {
            assert!(!seen.has(number));
            assert!(seen.insert(number));
            assert!(!seen.insert(number));
            assert!(seen.has(number));
        }
        assert!(!seen.has(1));
    }
}
