//! A game: viewers who press at whichever node answers, each press under one id until it is answered, and a host that comes back
//! where its connection was cut. At the end every press that was answered must be counted once: the answers, the host's
//! effects and what is left in the count must be the same runs from 1 to the press that made the effect.

use super::crowd::Tally;
use super::person::Person;
use super::rest::Rest;
use super::room::number;
use super::{PATIENCE, soon};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};
use uuid::Uuid;

/// What is pressed, and its base.
const JUMP: (&str, u32) = ("jump", 7);
/// Between two tries of a client.
const AGAIN: Duration = Duration::from_millis(50);
/// How long it waits for an answer before it tries another door.
const ANSWER: Duration = Duration::from_secs(5);
/// A server that pings every 2 s and is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(8);
/// The host acknowledges every so many effects.
const BETWEEN_ACKS: u64 = 3;

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A room until it settles; dropped, it is over.
pub struct Game {
    doors: Vec<Rest>,
    room: String,
    pressed: watch::Sender<u64>,
    over: watch::Sender<bool>,
    pressing: JoinSet<Vec<Value>>,
    heard: watch::Receiver<Heard>,
    _hosting: JoinSet<()>,
}

/// What the host heard.
#[derive(Clone, Default)]
struct Heard {
    /// By how many presses each effect was made, in order of `seq`.
    effects: Vec<u64>,
    connections: usize,
    wrong: Wrong,
}

#[derive(Clone, Default)]
struct Wrong {
    lost: Vec<String>,
    doubled: Vec<String>,
    odd: Vec<String>,
}

impl Game {
    /// A new room of that host; so many viewers press, and pause so long between two presses.
    pub async fn begins(doors: Vec<Rest>, host: Person, viewers: usize, pace: Duration) -> Self {
        let room = host.makes_room_of(&[JUMP]).await;
        let (pressed, over) = (watch::Sender::new(0), watch::Sender::new(false));
        let mut pressing = JoinSet::new();
        for number in 0..viewers {
            let viewer = Viewer { number, doors: doors.clone(), room: room.clone() };
            pressing.spawn(viewer.presses_on(pressed.clone(), over.subscribe(), pace));
        }
        let (hears, heard) = watch::channel(Heard::default());
        let mut hosting = JoinSet::new();
        hosting.spawn(Host { person: host, doors: doors.clone(), room: room.clone(), hears }.plays());
        Self { doors, room, pressed, over, pressing, heard, _hosting: hosting }
    }

    /// Waits for so many more presses.
    pub async fn presses(&self, more: u64) {
        let mut pressed = self.pressed.subscribe();
        let enough = *pressed.borrow() + more;
        soon("they press on", pressed.wait_for(|pressed| *pressed >= enough)).await.expect("they press");
    }

    /// The end: every press that was answered is in one effect, which the host has, or in the count.
    pub async fn settle(mut self) -> Tally {
        self.over.send_replace(true);
        let mut answers = Vec::new();
        while let Some(answered) = soon("they end", self.pressing.join_next()).await {
            answers.extend(answered.expect("all presses are answered"));
        }
        let made = answers.iter().filter(|answer| answer["effect_triggered"] == true).count();
        // What does not come is told below.
        let has_all = self.heard.wait_for(|heard| heard.effects.len() >= made);
        let _ = timeout(PATIENCE, has_all).await;
        let left = self.left().await;
        let Heard { effects, connections, mut wrong } = self.heard.borrow().clone();
        wrong.compare(&answers, &effects, left);
        println!(
            "  {} presses, {} effects on {connections} connections, {left} left",
            answers.len(),
            effects.len()
        );
        let Wrong { lost, doubled, odd } = wrong;
        let (presses, effects) = (answers.len(), effects.len());
        Tally { presses, effects, connections, lost, doubled, odd, ..Tally::default() }
    }

    /// What the count says.
    async fn left(&self) -> u64 {
        for door in self.doors.iter().cycle() {
            let asking = door.get(&format!("/api/rooms/{}/stats", self.room)).attempt();
            if let Ok(Ok(answer)) = timeout(ANSWER, asking).await
                && answer.status == 200
            {
                return number(&answer.json["stats"][0], "current_count");
            }
            sleep(AGAIN).await;
        }
        unreachable!("doors go round")
    }
}

impl Wrong {
    /// Answers, effects and what is left must be the same runs from 1.
    fn compare(&mut self, answers: &[Value], effects: &[u64], left: u64) {
        let mut counted = BTreeMap::<u64, i64>::new();
        let mut made = BTreeMap::<u64, i64>::new();
        for answer in answers {
            let (count, required) = (number(answer, "current_count"), number(answer, "required_count"));
            *counted.entry(count).or_default() += 1;
            let is_effect = answer["effect_triggered"] == true;
            if is_effect {
                *made.entry(count).or_default() += 1;
            }
            let promised = required_by(number(answer, "viewer_count"));
            if is_effect != (count >= required) || number(answer, "next_threshold") != promised {
                self.odd.push(format!("a press was answered {answer}"));
            }
        }
        for presses in effects {
            *made.entry(*presses).or_default() -= 1;
        }
        for run in effects.iter().copied().chain([left]) {
            (1..=run).for_each(|count| *counted.entry(count).or_default() -= 1);
        }
        for (count, more) in made {
            let what = format!("effects of {count} presses: {more} more in answers than the host has");
            self.note(more, what);
        }
        for (count, more) in counted {
            let what = format!("presses that were the {count}th: {more} more were answered than are counted");
            self.note(more, what);
        }
    }

    fn note(&mut self, more: i64, what: String) {
        match more {
            0 => {}
            1.. => self.lost.push(what),
            _ => self.doubled.push(what),
        }
    }
}

/// How many presses it takes where so many are active.
fn required_by(viewers: u64) -> u64 {
    let hundredths = match viewers {
        0..=5 => 100,
        6..=10 => 120,
        11..=20 => 150,
        21..=50 => 200,
        _ => 300,
    };
    (u64::from(JUMP.1) * hundredths).div_ceil(100)
}

/// One who presses.
struct Viewer {
    number: usize,
    doors: Vec<Rest>,
    room: String,
}

impl Viewer {
    /// Presses until it is over; what each press was answered.
    async fn presses_on(
        self,
        pressed: watch::Sender<u64>,
        over: watch::Receiver<bool>,
        pace: Duration,
    ) -> Vec<Value> {
        let (mut answers, mut door) = (Vec::new(), self.number);
        while !*over.borrow() {
            answers.push(self.presses(&mut door).await);
            pressed.send_modify(|pressed| *pressed += 1);
            sleep(pace).await;
        }
        answers
    }

    /// One press, at the door that answered last, then at one after the other until it is answered.
    async fn presses(&self, door: &mut usize) -> Value {
        let (viewer, id) = (format!("viewer {}", self.number), Uuid::new_v4().to_string());
        let press = json!({"event_type": JUMP.0, "viewer_id": viewer, "press_id": id});
        let deadline = Instant::now() + 3 * PATIENCE;
        loop {
            let asked = self.doors[*door % self.doors.len()].asks_to_press(&self.room, press.clone());
            match timeout(ANSWER, asked.attempt()).await {
                Ok(Ok(answer)) if answer.status == 200 => return answer.json,
                Ok(Ok(answer)) => assert_eq!(answer.status, 503, "{}", answer.text),
                Ok(Err(_)) | Err(_) => {}
            }
            assert!(Instant::now() < deadline, "a press is not answered");
            *door += 1;
            sleep(AGAIN).await;
        }
    }
}

struct Host {
    person: Person,
    doors: Vec<Rest>,
    room: String,
    hears: watch::Sender<Heard>,
}

impl Host {
    /// Hosts at one node after the other, for ever.
    async fn plays(self) {
        // Anywhere at first, so that the node that fails is now the host's, now another.
        let first = Uuid::new_v4().as_bytes()[0];
        for door in self.doors.iter().cycle().skip(usize::from(first) % self.doors.len()) {
            let url = self.person.at(door).host_url(&self.room);
            match timeout(ANSWER, connect_async_tls_with_config(url, None, true, None)).await {
                Ok(Ok((mut stream, _))) => {
                    self.hears.send_modify(|heard| heard.connections += 1);
                    self.hears_on(&mut stream).await;
                }
                Ok(Err(Error::Http(answer))) if answer.status().as_u16() != 503 => {
                    self.notes_odd(format!("the host's upgrade was answered {}", answer.status()));
                }
                Ok(Err(_)) | Err(_) => {}
            }
            sleep(AGAIN).await;
        }
    }

    /// Until the connection ends or falls silent.
    async fn hears_on(&self, stream: &mut Stream) {
        while let Ok(Some(Ok(message))) = timeout(SILENCE, stream.next()).await {
            let frame: Value = match message {
                Message::Text(text) => serde_json::from_str(&text).expect("a frame is JSON"),
                Message::Close(close) => {
                    let code = close.map_or(1006, |close| u16::from(close.code));
                    if ![1006, 1011, 1012].contains(&code) {
                        self.notes_odd(format!("the host was closed with {code}"));
                    }
                    return;
                }
                _ => continue,
            };
            match frame["type"].as_str() {
                Some("room_created" | "reconnect") => {}
                Some("game_event") => {
                    let seq = number(&frame, "seq");
                    self.hears.send_modify(|heard| heard.take(seq, number(&frame, "trigger_count")));
                    let ack = Message::text(json!({"type": "ack", "seq": seq}).to_string());
                    if seq.is_multiple_of(BETWEEN_ACKS) && stream.send(ack).await.is_err() {
                        return;
                    }
                }
                _ => self.notes_odd(format!("the host was told {frame}")),
            }
        }
    }

    fn notes_odd(&self, what: String) {
        self.hears.send_modify(|heard| heard.wrong.odd.push(what));
    }
}

impl Heard {
    /// The next effect, or one that was heard before.
    fn take(&mut self, seq: u64, presses: u64) {
        let known = self.effects.len() as u64;
        match seq.checked_sub(1).and_then(|before| self.effects.get(before as usize)) {
            Some(before) if *before != presses => {
                self.wrong.odd.push(format!("effect {seq} took {before} presses, and then {presses}"));
            }
            Some(_) => {}
            None if seq == known + 1 => self.effects.push(presses),
            None => {
                self.wrong.lost.push(format!("effect {seq} came behind {known}"));
                self.effects.resize(seq.saturating_sub(1) as usize, 0);
                self.effects.push(presses);
            }
        }
    }
}
