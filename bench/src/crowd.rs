//! The crowd of a room: connections whose viewers press, and the room's host.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use hdrhistogram::Histogram;
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::board::now;
use crate::client::{Caller, start_of};
use crate::error::{Error, Result};
use crate::frame::{Frame, FrameReader, pong};
use crate::people::Person;
use crate::stats::latencies;
use crate::upgrade::{Door, enter};

/// How an answer says that its press decided.
const DECIDED: &[u8] = b"\"effect_triggered\":true";

/// Makes a room where these can be pressed; its id.
pub async fn make_room(caller: &mut Caller, owner: &Person, event_types: &[(String, u32)]) -> Result<String> {
    #[derive(Deserialize)]
    struct Made {
        room_id: String,
    }
    let listed: Vec<_> =
        event_types.iter().map(|(name, base)| json!({"event_type": name, "base": base})).collect();
    let body = json!({"event_types": listed}).to_string();
    let made: Made = caller.expect(201, Method::POST, "/api/rooms", Some(&owner.token), Some(body)).await?;
    Ok(made.room_id)
}

/// A press, as the contract has it.
#[derive(Debug, Serialize)]
pub struct Press<'a> {
    /// What is pressed.
    pub event_type: &'a str,
    /// Who presses.
    pub viewer_id: &'a str,
    /// Its name, by which it may be sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub press_id: Option<Uuid>,
}

impl Press<'_> {
    /// Its body.
    pub fn json(&self) -> String {
        // Texts and an id can be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a crowd does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where.
    pub server: SocketAddr,
    /// In which room.
    pub room: String,
    /// What they press: each connection one of these, in turn.
    pub event_types: Vec<String>,
    /// Connections, each with one press under way.
    pub connections: usize,
    /// Viewers, who press in turn.
    pub viewers: usize,
    /// Presses a second of each connection; none for as fast as they are answered.
    pub rate: Option<f64>,
    /// Whether presses have ids.
    pub with_ids: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Pressed {
    /// Presses answered 200.
    pub answered: u64,
    /// Any other answers, and none.
    pub refused: u64,
    /// The first of those.
    pub first_refusal: Option<String>,
    /// From a press to its answer, in microseconds.
    pub to_answer: Histogram<u64>,
    /// When deciding presses were sent (nanoseconds of the Unix clock), by event type.
    pub decided: Vec<(String, u64)>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Plan {
    /// Presses for so long, or so often.
    pub async fn press(&self, until: Until) -> Pressed {
        let began = Instant::now();
        let lanes = (0..self.connections).map(|lane| self.lane(lane, until, began));
        let mut all = Pressed::new();
        for pressed in join_all(lanes).await {
            all.add(pressed);
        }
        all.elapsed = began.elapsed();
        all
    }

    async fn lane(&self, lane: usize, until: Until, began: Instant) -> Pressed {
        let mut caller = Caller::new(self.server);
        let path = format!("/api/rooms/{}/events", self.room);
        let event_type = &self.event_types[lane % self.event_types.len()];
        let mut pressed = Pressed::new();
        for turn in 0.. {
            match until {
                Until::Elapsed(duration) if began.elapsed() >= duration => break,
                Until::Each(count) if turn >= count => break,
                Until::Elapsed(_) | Until::Each(_) => {}
            }
            if let Some(rate) = self.rate {
                // Spread, so that they do not all press at the same time.
                let offset = lane as f64 / self.connections as f64;
                sleep_until(began + Duration::from_secs_f64((f64::from(turn) + offset) / rate)).await;
            }
            let viewer = (turn as usize * self.connections + lane) % self.viewers;
            let press_id = self.with_ids.then(Uuid::now_v7);
            let body = Press { event_type, viewer_id: &format!("viewer-{viewer}"), press_id }.json();
            let sent_at = now();
            match caller.call(Method::POST, &path, None, Some(body)).await {
                Ok(answer) if answer.status == 200 => {
                    pressed.answered += 1;
                    pressed.to_answer.saturating_record(now().saturating_sub(sent_at) / 1_000);
                    if memchr::memmem::find(&answer.body, DECIDED).is_some() {
                        pressed.decided.push((event_type.clone(), sent_at));
                    }
                }
                Ok(answer) => pressed.refuse(format!("{}: {}", answer.status, start_of(&answer.body))),
                Err(error) => pressed.refuse(error.to_string()),
            }
        }
        pressed
    }
}

/// When a crowd ends.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After so long.
    Elapsed(Duration),
    /// When each connection has pressed so often.
    Each(u32),
}

impl Pressed {
    fn new() -> Self {
        Self {
            answered: 0,
            refused: 0,
            first_refusal: None,
            to_answer: latencies(),
            decided: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }

    fn refuse(&mut self, why: String) {
        self.refused += 1;
        self.first_refusal.get_or_insert(why);
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.first_refusal = self.first_refusal.take().or(other.first_refusal);
        // Both have the same bounds.
        let _added = self.to_answer.add(&other.to_answer);
        self.decided.extend(other.decided);
    }

    /// Presses a second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64()
    }
}

/// A room's host, which acknowledges what it gets.
#[derive(Debug)]
pub struct Host {
    heard: Arc<Mutex<Vec<Effect>>>,
    reading: tokio::task::JoinHandle<()>,
}

/// An effect as the host got it.
#[derive(Debug, Clone, Deserialize)]
pub struct Effect {
    /// Its number in the room.
    pub seq: u64,
    /// What was pressed.
    pub event_type: String,
    /// How many presses it took.
    pub trigger_count: u64,
    /// When it came (nanoseconds of the Unix clock).
    #[serde(skip)]
    pub at: u64,
}

impl Host {
    /// Takes the room up.
    pub async fn connect(server: SocketAddr, owner: &Person, room: &str) -> Result<Self> {
        let door = Door::Host { token: owner.token.clone(), room: room.to_owned() };
        let (mut stream, mut rest) = enter(server, Ipv4Addr::LOCALHOST, &door, None).await?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        let reading = tokio::spawn(async move {
            let mut frames = FrameReader::default();
            let mut buffer = vec![0; 4 * 1024];
            loop {
                let mut answers = Vec::new();
                let at = now();
                let fed = frames.feed(&rest, |frame| match frame {
                    Frame::Text(text) => {
                        let Ok(effect) = serde_json::from_slice::<Effect>(text) else { return };
                        answers.extend_from_slice(&acknowledgement(effect.seq));
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        kept.push(Effect { at, ..effect });
                    }
                    Frame::Ping(payload) => answers.extend_from_slice(&pong(payload)),
                    Frame::Pong | Frame::Close(_) => {}
                });
                if fed.is_err() || stream.write_all(&answers).await.is_err() {
                    return;
                }
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => rest = buffer[..read].to_vec(),
                }
            }
        });
        Ok(Self { heard, reading })
    }

    /// What it has got.
    pub fn heard(&self) -> Vec<Effect> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether its connection is over.
    pub fn has_ended(&self) -> bool {
        self.reading.is_finished()
    }

    /// Waits until it has got so many.
    pub async fn has(&self, effects: usize, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.heard().len() < effects {
            if Instant::now() > deadline {
                let got = self.heard().len();
                return Err(Error::Waited(format!("{effects} effects at the host, which got {got}")));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// A masked text frame that acknowledges; the mask is zero, which leaves the payload as it is.
fn acknowledgement(seq: u64) -> Vec<u8> {
    let text = format!(r#"{{"type":"ack","seq":{seq}}}"#);
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}
