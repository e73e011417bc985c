//! Bytes on a TCP connection: for clients that break the rules, and for WebSockets whose pings,
//! fragments and reading a test decides itself.

use super::rest::Rest;
use super::soon;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A connection.
pub struct RawSocket {
    pub stream: TcpStream,
    read: Vec<u8>,
}

/// A WebSocket frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl RawSocket {
    pub async fn connect(rest: &Rest) -> Self {
        Self::connect_with(rest, None).await
    }

    /// With room for about that many unread bytes.
    pub async fn connect_with(rest: &Rest, receive_buffer: Option<u32>) -> Self {
        let address: SocketAddr = rest.authority().parse().expect("an address");
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).expect("a buffer");
        }
        Self { stream: socket.connect(address).await.expect("a connection"), read: Vec::new() }
    }

    /// Connects to `/ws` and reads the answer's head.
    pub async fn upgrade(rest: &Rest, token: &str, receive_buffer: Option<u32>) -> Self {
        Self::upgrade_at(rest, "/ws", token, receive_buffer).await
    }

    /// The same at another path.
    pub async fn upgrade_at(rest: &Rest, path: &str, token: &str, receive_buffer: Option<u32>) -> Self {
        Self::upgrade_saying(rest, path, token, receive_buffer, &[]).await
    }

    /// The same, and says something at once, before it has an answer.
    pub async fn upgrade_saying(
        rest: &Rest,
        path: &str,
        token: &str,
        receive_buffer: Option<u32>,
        said: &[u8],
    ) -> Self {
        let mut socket = Self::connect_with(rest, receive_buffer).await;
        let request = format!(
            "GET {path}?token={token} HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            rest.authority()
        );
        socket.write(&[request.as_bytes(), said].concat()).await;
        let head = socket.head().await.expect("an answer");
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        socket
    }

    /// Bytes, in pieces of the size of frames, that this system takes for a reader with that buffer who does not read.
    pub async fn buffers(receive_buffer: Option<u32>) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let rest = Rest::to(&format!("http://{}", listener.local_addr().expect("an address")));
        let reader = Self::connect_with(&rest, receive_buffer).await;
        let (mut writer, _) = listener.accept().expect("the reader");
        writer.set_nonblocking(true).expect("a socket");
        let mut taken = 0;
        while let Ok(written) = writer.write(&[0; 1_400]) {
            taken += written;
        }
        drop(reader);
        taken
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        soon("room to write", self.stream.write_all(bytes)).await.expect("it is open");
    }

    /// Says that nothing more comes.
    pub async fn end_writing(&mut self) {
        // The connection may have ended already.
        let _ = self.stream.shutdown().await;
    }

    /// The head of an answer, with its empty line; none where the connection ended.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.read.drain(..end + 4).collect();
                return Some(String::from_utf8(head).expect("a head is text"));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Everything until the other side ends.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    /// What came until now, once there is something; none where the connection ended.
    pub async fn some(&mut self) -> Option<String> {
        if self.read.is_empty() && !self.more().await {
            return None;
        }
        Some(String::from_utf8(std::mem::take(&mut self.read)).expect("it is text"))
    }

    async fn more(&mut self) -> bool {
        // An end by reset is an end.
        soon("an answer or the end", self.stream.read_buf(&mut self.read)).await.is_ok_and(|read| read > 0)
    }

    /// The next frame; none where the connection ended.
    pub async fn frame(&mut self) -> Option<RawFrame> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    fn take_frame(&mut self) -> Option<RawFrame> {
        let head: [u8; 2] = self.read.get(..2)?.try_into().ok()?;
        assert_eq!(head[0] & 0x80, 0x80, "the server does not fragment");
        let (from, length) = match head[1] {
            126 => (4, usize::from(u16::from_be_bytes(self.read.get(2..4)?.try_into().ok()?))),
            127 => (10, u64::from_be_bytes(self.read.get(2..10)?.try_into().ok()?) as usize),
            short => (2, usize::from(short)),
        };
        let payload = self.read.get(from..from + length)?.to_vec();
        self.read.drain(..from + length);
        Some(RawFrame { opcode: head[0] & 0xf, payload })
    }

    /// The close code that comes in the end.
    pub async fn closed(&mut self) -> u16 {
        while let Some(frame) = self.frame().await {
            if frame.opcode == 8 {
                return u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            }
        }
        panic!("it ended without a close frame");
    }

    /// Sends a frame with a mask of zeros.
    pub async fn send(&mut self, last: bool, opcode: u8, payload: &[u8]) {
        self.write(&masked(last, opcode, payload)).await;
    }
}

/// A client's frame.
pub fn masked(last: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![if last { 0x80 | opcode } else { opcode }];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        medium @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0xff);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}
