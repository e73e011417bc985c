//! HTTP/1.1 and WebSocket frames as bytes, written whatever they are, and answers that are checked.

use crate::harness::PATIENCE;
use crate::harness::raw::masked;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

/// A request in its parts, each of which may be nonsense.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub headers: Vec<u8>,
    pub body: Vec<u8>,
}

impl Request {
    /// One that is right.
    pub fn new(method: &str, target: &str, token: &str, body: &str) -> Self {
        let mut headers = format!("authorization: Bearer {token}\r\n");
        if !body.is_empty() {
            headers.push_str("content-type: application/json\r\n");
        }
        Self { method: method.into(), target: target.into(), headers: headers.into(), body: body.into() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let Self { method, target, headers, body } = self;
        let length = format!("content-length: {}\r\n\r\n", body.len()).into_bytes();
        [method, b" ".as_slice(), target, b" HTTP/1.1\r\nhost: localhost\r\n", headers, &length, body]
            .concat()
    }
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// Whether the request was understood so far as to be answered by more than its connection.
    pub fn is_of_a_handler(&self) -> bool {
        self.has("x-content-type-options: nosniff")
    }

    pub fn ends_the_connection(&self) -> bool {
        self.status == 101 || self.has("connection: close")
    }

    fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line == header)
    }

    /// What is wrong with it, if anything is: no fault of the server's, and refusals that say what they are.
    pub fn objection(&self) -> Option<&'static str> {
        if self.status >= 500 {
            return Some("a fault of the server");
        }
        if self.status < 400 {
            return None;
        }
        if !self.is_of_a_handler() {
            // What cannot be parsed is refused by the connection, without words.
            let is_bare = matches!(self.status, 400 | 414 | 431) && self.body.is_empty();
            return (!is_bare).then_some("neither a problem nor a bare refusal");
        }
        if !self.has("content-type: application/problem+json") {
            return Some("not a problem by its type");
        }
        // HEAD is answered without a body.
        if self.body.is_empty() {
            return None;
        }
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(problem) if problem["status"] == self.status && problem["code"].is_string() => None,
            _ => Some("not a problem by its body"),
        }
    }
}

/// A connection.
pub struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub fn connect(authority: &str) -> Self {
        let stream = TcpStream::connect(authority).expect("the server is there");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, read: Vec::new() }
    }

    /// Writes; the other side may have hung up.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more comes.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next answer, other than `100 Continue`; none where the connection ended.
    pub fn answer(&mut self, to_head: bool) -> Option<Answer> {
        loop {
            let end = self.position(b"\r\n\r\n")? + 4;
            let head = String::from_utf8(self.read.drain(..end).collect()).expect("a head is text");
            let status = head.get(9..12).and_then(|status| status.parse().ok());
            let status = status.unwrap_or_else(|| panic!("no status: {head}"));
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
            assert!(!head.contains("transfer-encoding"), "every answer says how long it is: {head}");
            if status == 100 {
                continue;
            }
            let length = if to_head { 0 } else { length };
            while self.read.len() < length {
                self.more().then_some(())?;
            }
            return Some(Answer { status, head, body: self.read.drain(..length).collect() });
        }
    }

    /// The next frame: its opcode and what it carries; none where the connection ended.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let [first, short, ..] = self.read[..] {
                let (from, length) = match short {
                    126 if self.read.len() >= 4 => {
                        (4, usize::from(self.read[2]) << 8 | usize::from(self.read[3]))
                    }
                    short => (2, usize::from(short)),
                };
                assert!(short < 127, "nothing that long is said here");
                if self.read.len() >= from + length && (short < 126 || from == 4) {
                    let frame: Vec<u8> = self.read.drain(..from + length).collect();
                    return Some((first & 0xf, frame[from..].to_vec()));
                }
            }
            self.more().then_some(())?;
        }
    }

    /// A text frame, as it should be.
    pub fn say(&mut self, text: &str) {
        self.write(&masked(true, 1, text.as_bytes()));
    }

    fn position(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            if let Some(place) = self.read.windows(bytes.len()).position(|window| window == bytes) {
                return Some(place);
            }
            self.more().then_some(())?;
        }
    }

    /// Reads on; false at the end, however it came.
    fn more(&mut self) -> bool {
        let mut some = [0; 16 * 1024];
        match self.stream.read(&mut some) {
            Ok(length) => {
                self.read.extend_from_slice(&some[..length]);
                length > 0
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
                panic!("no answer in {PATIENCE:?}; so far: {:?}", String::from_utf8_lossy(&self.read))
            }
            Err(_) => false,
        }
    }
}
