//! What one connection is still to be sent: the bounded queue between relays and a socket.
//!
//! A relay pushes frames; where the outbox is empty and the socket bare TCP, the push itself writes the
//! bytes and wakes nobody. What does not fit waits here and is drained by the socket's task. The queue is
//! bounded in bytes: a reader that lets it grow past the bound is closed with 4008, whole frames that it
//! has not begun to receive are dropped, and it resumes by its cursor.
//!
//! While a session reads what it missed, the outbox *holds* frames of relays back; [`Outbox::release`]
//! lets them go, less those that the replay contained.

use crate::model::close::Close;
use crate::model::cursor::Seq;
use crate::model::frame::{self, Frame};
use crate::storage::Told;
use bytes::BytesMut;
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Slices that one write takes at most.
const SLICES: usize = 64;

/// The queue of one connection. Its mutex is a std one: nothing awaits under it.
pub struct Outbox {
    /// The socket, where bytes may be written past its task; none under TLS, whose state cannot be.
    wire: Option<Arc<TcpStream>>,
    bound: usize,
    state: Mutex<State>,
    /// Wakes the socket's task: something waits, or room was made.
    wake: Notify,
    /// Wakes a replay that waits for room.
    room: Notify,
}

struct State {
    pending: VecDeque<Frame>,
    /// Bytes of `pending`'s first frame that are written.
    written: usize,
    /// Bytes in `pending` and `held`, less `written`.
    bytes: usize,
    /// Frames held back while the session reads what it missed; none afterwards.
    held: Option<Vec<(Seq, Frame)>>,
    /// What of relays' frames the replay covered.
    told: Told,
    closing: Option<Close>,
}

/// How far writing got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All that waited is written.
    Empty,
    /// The socket takes no more now.
    Full,
    /// All is written, the last frame was a close frame.
    Closed(Close),
    /// The socket is broken.
    Broken,
}

impl Outbox {
    /// An outbox that holds frames of relays back, and lets at most `bound` bytes wait.
    #[must_use]
    pub fn new(wire: Option<Arc<TcpStream>>, bound: usize) -> Self {
        let state = State {
            pending: VecDeque::new(),
            written: 0,
            bytes: 0,
            held: Some(Vec::new()),
            told: Told::default(),
            closing: None,
        };
        Self { wire, bound, state: Mutex::new(state), wake: Notify::new(), room: Notify::new() }
    }

    /// A relay's frame of entry `seq`: written at once if nothing waits. Answers whether it was taken.
    pub fn push(&self, seq: Seq, frame: &Frame) -> bool {
        let mut state = self.lock();
        // Nothing waits: the bytes go to the socket, and the queue is not touched.
        let written = match &self.wire {
            Some(wire) if state.is_idle(seq) => wire.try_write(frame).unwrap_or(0),
            _ => 0,
        };
        if written == frame.len() {
            return true;
        }
        let taken = state.take(seq, frame, self.bound);
        if written > 0 {
            state.wrote(written);
        }
        self.flush(&mut state);
        taken
    }

    /// The same without writing: for a relay with several frames, which calls [`Self::write`] after the last.
    pub fn queue(&self, seq: Seq, frame: &Frame) -> bool {
        let mut state = self.lock();
        // What one round brings may be more than the bound; slow is who does not take it, not who gets it.
        if state.bytes + frame.len() > self.bound {
            self.flush(&mut state);
        }
        state.take(seq, frame, self.bound)
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn write(&self) {
        self.flush(&mut self.lock());
    }

    /// The session's own frame: not held back.
    pub fn say(&self, frame: Frame) {
        let mut state = self.lock();
        state.append(frame, self.bound);
        self.flush(&mut state);
    }

    /// The same, once less than half of the bound waits; answers whether the connection is still open.
    pub async fn say_when_room(&self, frame: Frame) -> bool {
        loop {
            let room = self.room.notified();
            {
                let state = self.lock();
                if state.closing.is_some() {
                    return false;
                }
                if state.pending_bytes() < self.bound / 2 {
                    break;
                }
            }
            room.await;
        }
        self.say(frame);
        true
    }

    /// The replay was written, and covered `told`: what was held back beside it goes out, and from now on
    /// pushes are written directly. Everything up to `mark` has been pushed by now.
    pub fn release(&self, mut told: Told, mark: Seq) {
        let mut state = self.lock();
        for (seq, frame) in state.held.take().unwrap_or_default() {
            if !told.covers(seq) && state.closing.is_none() {
                state.pending.push_back(frame);
            } else {
                state.bytes -= frame.len();
            }
        }
        // What may yet come.
        told.also.retain(|seq| *seq > mark);
        told.also.shrink_to_fit();
        state.told = told;
        self.flush(&mut state);
    }

    /// Ends the connection: after what waits, a close frame, then nothing. The first reason stands.
    pub fn close(&self, reason: Close) {
        let mut state = self.lock();
        state.close(reason);
        self.flush(&mut state);
        self.wake.notify_one();
        self.room.notify_waiters();
    }

    /// Why it is closing, if it is.
    pub fn closing(&self) -> Option<Close> {
        self.lock().closing
    }

    /// Whether less than half of the bound waits.
    pub fn has_room(&self) -> bool {
        self.lock().bytes < self.bound / 2
    }

    /// Whether nothing waits.
    pub fn is_written(&self) -> bool {
        self.lock().pending.is_empty()
    }

    /// Waits until there is something for the socket's task to write, or it is closing.
    pub async fn waiting(&self) {
        loop {
            {
                let state = self.lock();
                if !state.pending.is_empty() || state.closing.is_some() {
                    return;
                }
            }
            self.wake.notified().await;
        }
    }

    /// Waits until it is told to close; for ever where it was told before.
    pub async fn begins_to_close(&self) {
        if self.closing().is_some() {
            std::future::pending::<()>().await;
        }
        while self.closing().is_none() {
            self.wake.notified().await;
        }
    }

    /// Writes what waits, as far as the bare socket takes it.
    pub fn drain(&self) -> Drained {
        let mut state = self.lock();
        if !self.flush(&mut state) {
            return Drained::Broken;
        }
        match (state.pending.is_empty(), state.closing) {
            (false, _) => Drained::Full,
            (true, Some(reason)) => Drained::Closed(reason),
            (true, None) => Drained::Empty,
        }
    }

    /// Moves what waits, up to about `most` bytes, into `chunk`, for a socket that only its task can write
    /// to; answers why it is closing where that was the last.
    pub fn take_pending(&self, most: usize, chunk: &mut BytesMut) -> Option<Close> {
        let mut state = self.lock();
        let before = chunk.len();
        while chunk.len() - before < most
            && let Some(frame) = state.pending.pop_front()
        {
            chunk.extend_from_slice(&frame);
        }
        state.bytes -= chunk.len() - before;
        self.room.notify_waiters();
        if state.pending.is_empty() { state.closing } else { None }
    }

    /// Writes as far as the bare socket takes; answers false where it is broken.
    fn flush(&self, state: &mut State) -> bool {
        if state.pending.is_empty() {
            return true;
        }
        let Some(wire) = &self.wire else {
            self.wake.notify_one();
            return true;
        };
        match state.write_to(wire) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.wake.notify_one(),
            Err(_) => {
                // The socket's task finds out by reading; nothing more can be sent.
                state.clear();
                self.wake.notify_one();
                return false;
            }
        }
        self.room.notify_waiters();
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock is in code that leaves the queue whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a relay's frame may be written past the queue.
    fn is_idle(&self, seq: Seq) -> bool {
        self.pending.is_empty() && self.held.is_none() && self.closing.is_none() && !self.told.covers(seq)
    }

    fn take(&mut self, seq: Seq, frame: &Frame, bound: usize) -> bool {
        if self.closing.is_some() || self.told.covers(seq) {
            return false;
        }
        match &mut self.held {
            Some(held) if self.bytes + frame.len() <= bound => {
                held.push((seq, frame.clone()));
                self.bytes += frame.len();
            }
            Some(_) => self.close(Close::TooSlow),
            None => self.append(frame.clone(), bound),
        }
        true
    }

    fn append(&mut self, frame: Frame, bound: usize) {
        if self.closing.is_some() {
            return;
        }
        if self.bytes + frame.len() > bound {
            self.close(Close::TooSlow);
            return;
        }
        self.bytes += frame.len();
        self.pending.push_back(frame);
    }

    fn close(&mut self, reason: Close) {
        if self.closing.is_some() {
            return;
        }
        self.closing = Some(reason);
        self.held = None;
        if reason == Close::TooSlow {
            // What it has begun to receive must end before the close frame; the rest it resumes.
            self.pending.truncate(usize::from(self.written > 0));
        }
        self.pending.push_back(frame::close(reason));
        self.bytes = self.pending_bytes();
    }

    fn clear(&mut self) {
        self.pending.clear();
        self.held = None;
        self.written = 0;
        self.bytes = 0;
        self.closing.get_or_insert(Close::Normal);
    }

    fn pending_bytes(&self) -> usize {
        self.pending.iter().map(Frame::len).sum::<usize>() - self.written
    }

    /// One write takes as many frames as it can: a reader that is behind catches up in few of them.
    fn write_to(&mut self, wire: &TcpStream) -> std::io::Result<()> {
        while let Some(first) = self.pending.front() {
            let wrote = if self.pending.len() == 1 {
                wire.try_write(&first[self.written..])?
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let mut count = 0;
                for (slice, frame) in slices.iter_mut().zip(&self.pending) {
                    let from = if count == 0 { self.written } else { 0 };
                    *slice = IoSlice::new(&frame[from..]);
                    count += 1;
                }
                wire.try_write_vectored(&slices[..count])?
            };
            self.wrote(wrote);
        }
        // An idle connection keeps no queue behind it.
        if self.pending.capacity() > 8 {
            self.pending = VecDeque::new();
        }
        Ok(())
    }

    fn wrote(&mut self, mut bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        while let Some(first) = self.pending.front() {
            let left = first.len() - self.written;
            if bytes < left {
                self.written += bytes;
                return;
            }
            bytes -= left;
            self.written = 0;
            self.pending.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Drained, Outbox};
    use crate::model::close::Close;
    use crate::model::cursor::Seq;
    use crate::model::frame::{self, Frame};
    use crate::storage::Told;
    use bytes::{Bytes, BytesMut};

    fn frame(text: &'static str) -> Frame {
        Bytes::from_static(text.as_bytes())
    }

    fn taken(outbox: &Outbox) -> (Vec<u8>, Option<Close>) {
        let mut chunk = BytesMut::new();
        let closed = outbox.take_pending(usize::MAX, &mut chunk);
        (chunk.to_vec(), closed)
    }

    #[test]
    fn what_came_during_the_replay_follows_it_less_what_it_contained() {
        let outbox = Outbox::new(None, 1000);
        outbox.push(Seq(4), &frame("four;"));
        outbox.push(Seq(6), &frame("six, which was read too"));
        outbox.push(Seq(7), &frame("seven;"));
        outbox.say(frame("replay to five;"));
        outbox.release(Told { through: Seq(5), also: vec![Seq(6), Seq(8)] }, Seq(7));
        outbox.push(Seq(5), &frame("five again"));
        outbox.push(Seq(8), &frame("eight, which was read and comes late"));
        outbox.push(Seq(9), &frame("nine;"));
        assert_eq!(taken(&outbox), (b"replay to five;seven;nine;".to_vec(), None));
    }

    #[test]
    fn a_slow_reader_is_closed_at_the_bound_and_holds_nothing_more() {
        let outbox = Outbox::new(None, 10);
        outbox.release(Told::default(), Seq(0));
        assert!(outbox.push(Seq(1), &frame("12345678")));
        outbox.push(Seq(2), &frame("12345678"));
        assert_eq!(outbox.closing(), Some(Close::TooSlow));
        assert!(!outbox.push(Seq(3), &frame("x")));
        assert_eq!(taken(&outbox), (frame::close(Close::TooSlow).to_vec(), Some(Close::TooSlow)));
    }

    #[test]
    fn frames_held_back_are_bounded_too() {
        let outbox = Outbox::new(None, 10);
        outbox.push(Seq(1), &frame("12345678"));
        outbox.push(Seq(2), &frame("12345678"));
        assert_eq!(outbox.closing(), Some(Close::TooSlow));
    }

    #[test]
    fn the_first_reason_to_close_stands_and_comes_after_what_waited() {
        let outbox = Outbox::new(None, 1000);
        outbox.say(frame("reconnect"));
        outbox.close(Close::Leaving);
        outbox.close(Close::Internal);
        outbox.say(frame("late"));
        let expected = [b"reconnect".as_slice(), &frame::close(Close::Leaving)].concat();
        assert_eq!(taken(&outbox), (expected, Some(Close::Leaving)));
    }

    #[tokio::test]
    async fn a_bare_socket_gets_every_byte_in_order_though_it_fills_up() {
        use tokio::io::AsyncReadExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = std::sync::Arc::new(listener.accept().await.unwrap().0);
        let outbox = Outbox::new(Some(server.clone()), 64 * 1024 * 1024);
        outbox.release(Told::default(), Seq(0));
        let mut sent = Vec::new();
        for number in 1..=2000_u64 {
            let body = Bytes::from(format!("{number:08}").repeat(1000));
            sent.extend_from_slice(&body);
            outbox.push(Seq(number), &body);
        }
        let reading = tokio::spawn(async move {
            let mut got = vec![0; sent.len()];
            client.read_exact(&mut got).await.unwrap();
            assert!(got == sent, "the bytes differ");
        });
        while outbox.drain() == Drained::Full {
            server.writable().await.unwrap();
        }
        reading.await.unwrap();
    }
}
