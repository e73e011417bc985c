//! One who listens on a socket at any node, comes back with its last cursor wherever somebody answers, and notes what
//! it is shown: what no client may be shown is told at the end.

use super::ledger::{Ledger, Pages};
use super::{BETWEEN_TRIES, CLIENT_PATIENCE, Doors, Phase, Tally};
use crate::harness::dice::Dice;
use crate::harness::person::Person;
use crate::harness::rest::text;
use crate::harness::until_some_within;
use futures_util::StreamExt;
use roost::model::timestamp::Timestamp;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A server that pings every 2 s and is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(8);
/// A restless one cuts its connection after so many frames at most.
const FRAMES: usize = 60;
/// The most that a client waits by chance before it comes back at once.
const JITTER_MS: usize = 200;

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub struct Follower {
    person: Person,
    doors: Doors,
    ledger: Arc<Ledger>,
    is_restless: bool,
    notes: Mutex<Notes>,
    /// Moves with each note.
    noted: watch::Sender<usize>,
}

#[derive(Default)]
struct Notes {
    /// The authors whose posts it is to be shown, those asked for from then on.
    hears: HashMap<String, Instant>,
    cursor: String,
    /// On all connections, and on the one that is.
    shown: HashMap<String, Instant>,
    deletions: HashSet<String>,
    newest: HashMap<String, String>,
    on_this: HashSet<(&'static str, String)>,
    newest_on_this: HashMap<String, String>,
    tally: Tally,
    /// What happened to it, line by line.
    diary: Vec<String>,
}

/// Why a connection is over, and when to come back.
enum Ended {
    AtOnce,
    After(Duration),
}

impl Follower {
    pub fn new(person: Person, doors: Doors, ledger: Arc<Ledger>, is_restless: bool) -> Self {
        Self { person, doors, ledger, is_restless, notes: Mutex::default(), noted: watch::Sender::new(0) }
    }

    /// It follows this author from now on.
    pub fn hears(&self, author: &str) {
        let now = Instant::now();
        self.note(|notes| notes.hears.insert(author.to_owned(), now));
    }

    /// It has a cursor.
    pub async fn is_connected(&self) {
        self.comes(|notes| !notes.cursor.is_empty()).await;
    }

    /// It was shown everything that was answered by now.
    pub async fn has_heard_all(&self) {
        self.comes(|notes| self.ledger.read(|pages| notes.misses(pages).is_empty())).await;
    }

    async fn comes(&self, holds: impl Fn(&Notes) -> bool) {
        let mut noted = self.noted.subscribe();
        while !self.note_nothing(&holds) {
            noted.changed().await.expect("it is here");
        }
    }

    fn note<T>(&self, note: impl FnOnce(&mut Notes) -> T) -> T {
        let result = note(&mut self.notes.lock().expect("the notes"));
        self.noted.send_modify(|count| *count += 1);
        result
    }

    fn note_nothing<T>(&self, read: impl FnOnce(&Notes) -> T) -> T {
        read(&self.notes.lock().expect("the notes"))
    }

    /// Follows one after the other while they post.
    pub async fn begins_to_follow(self: Arc<Self>, authors: Vec<Person>, phase: watch::Receiver<Phase>) {
        let mut doors = self.doors.clone();
        for author in authors {
            if self.follows(&mut doors, &author, &phase).await {
                self.hears(&author.id);
            }
            // Among their posts, not before them.
            let before = self.ledger.posted();
            let _ = timeout(CLIENT_PATIENCE, self.ledger.reaches(before + 10)).await;
        }
    }

    /// Whether it does.
    async fn follows(&self, doors: &mut Doors, author: &Person, phase: &watch::Receiver<Phase>) -> bool {
        let mut again = false;
        while *phase.borrow() != Phase::Over {
            self.note(|notes| notes.write(format!("asks to follow {}", author.id)));
            let answer = doors.ask(|door| self.person.at(door).asks_to_follow(author)).await;
            match answer.map(|answer| (answer.status, answer.text)) {
                Some((201, _)) => {
                    self.note(|notes| notes.write(format!("follows {}", author.id)));
                    return true;
                }
                // The try before did it.
                Some((409, _)) if again => return true,
                Some((503, _)) | None => {}
                Some((status, text)) => {
                    self.ledger.notes_odd(format!("to follow was answered {status}: {text}"));
                    return false;
                }
            }
            again = true;
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        false
    }

    /// Listens until it is over, on one connection after the other.
    pub async fn listens(self: Arc<Self>, mut dice: Dice, phase: watch::Receiver<Phase>) {
        let mut doors = self.doors.clone();
        loop {
            let wait = match self.opens(&mut doors).await {
                None => BETWEEN_TRIES,
                Some(mut stream) => match self.hears_on(&mut stream, &mut dice, &phase).await {
                    Ended::AtOnce => Duration::from_millis(dice.below(JITTER_MS) as u64),
                    Ended::After(wait) => wait,
                },
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// A connection at any node; none where nobody takes it there.
    async fn opens(&self, doors: &mut Doors) -> Option<Stream> {
        let cursor = self.note_nothing(|notes| notes.cursor.clone());
        let query = if cursor.is_empty() { cursor } else { format!("&cursor={cursor}") };
        let url = self.person.at(doors.any()).live_url(&query);
        let door = url.split_once("/ws").map_or("", |(door, _)| door).to_owned();
        let opening = tokio_tungstenite::connect_async_tls_with_config(url, None, true, None);
        match timeout(CLIENT_PATIENCE, opening).await {
            Ok(Ok((stream, _))) => {
                self.note(|notes| notes.begin(&door));
                Some(stream)
            }
            Ok(Err(Error::Http(answer))) if answer.status().as_u16() != 503 => {
                self.ledger.notes_odd(format!("an upgrade was answered {}", answer.status()));
                None
            }
            Ok(Err(_)) | Err(_) => None,
        }
    }

    async fn hears_on(&self, stream: &mut Stream, dice: &mut Dice, phase: &watch::Receiver<Phase>) -> Ended {
        let mut told = None;
        let mut frames = if self.is_restless { dice.below(FRAMES) } else { usize::MAX };
        loop {
            if frames == 0 && *phase.borrow() == Phase::Acting {
                return Ended::AtOnce;
            }
            let text = match timeout(SILENCE, stream.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => text,
                Ok(Some(Ok(Message::Close(close)))) => {
                    let code = close.map_or(1006, |close| u16::from(close.code));
                    self.note(|notes| notes.write(format!("closed with {code}")));
                    if ![1006, 1011, 1012, 4008].contains(&code) {
                        self.ledger.notes_odd(format!("closed with {code}"));
                    }
                    return told.filter(|_| code == 1012).map_or(Ended::AtOnce, Ended::After);
                }
                Ok(Some(Ok(_))) => continue,
                Ok(Some(Err(_)) | None) | Err(_) => return Ended::AtOnce,
            };
            frames = frames.saturating_sub(1);
            let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
            match frame["type"].as_str() {
                Some("reconnect") => {
                    told = frame["data"]["after_ms"].as_u64().map(Duration::from_millis);
                }
                _ => self.note(|notes| notes.take(&frame)),
            }
        }
    }

    /// What it noted, and what is not on its timeline.
    pub async fn tells(&self, patience: Duration) -> Tally {
        let owed = self.note_nothing(|notes| self.ledger.read(|pages| notes.owed(pages)));
        let mut doors = self.doors.clone();
        let mut wrong = (Vec::new(), Vec::new(), Vec::new());
        let read = until_some_within(patience, async || {
            wrong = match self.timeline(&mut doors).await {
                Some(list) => self.judges(&list, &owed),
                None => (Vec::new(), Vec::new(), vec!["its timeline is not answered".to_owned()]),
            };
            (wrong.0.is_empty() && wrong.1.is_empty() && wrong.2.is_empty()).then_some(())
        });
        let _ = read.await;
        let mut tally = self.note_nothing(|notes| self.ledger.read(|pages| notes.tell(pages)));
        let (lost, doubled, odd) = wrong;
        tally.lost.extend(lost);
        tally.doubled.extend(doubled);
        tally.odd.extend(odd);
        let all = [&mut tally.lost, &mut tally.doubled, &mut tally.inverted, &mut tally.odd];
        for what in all.into_iter().flatten() {
            *what = format!("{}: {what}", self.person.username);
        }
        if let Some(folder) = env::var_os("ROOST_TEST_LOGS").filter(|_| !tally.is_clean()) {
            let diary = self.note_nothing(|notes| notes.diary.join("\n"));
            fs::create_dir_all(&folder).expect("a folder");
            let file = Path::new(&folder).join(format!("{}.diary", self.person.username));
            fs::write(file, diary).expect("a file");
        }
        tally
    }

    /// Of a timeline: what is missing, what is there twice, what should not be there.
    fn judges(&self, list: &[(String, String)], owed: &[String]) -> (Vec<String>, Vec<String>, Vec<String>) {
        let (mut doubled, mut odd) = (Vec::new(), Vec::new());
        let (mut ids, mut contents) = (HashSet::new(), HashSet::new());
        for (id, content) in list {
            if !ids.insert(id) || !contents.insert(content) {
                doubled.push(format!("{id} is on the timeline twice: {content}"));
            }
            if self.ledger.read(|pages| pages.deleted.get(id) == Some(&true)) {
                odd.push(format!("{id} is deleted and on the timeline: {content}"));
            }
        }
        let missing = owed.iter().filter(|post| !ids.contains(post));
        let told = |post: &String| {
            let content = self.ledger.read(|pages| pages.posts[post].content.clone());
            let other = if contents.contains(&content) { ", but its content is, by another id" } else { "" };
            format!("{post} is not on the timeline{other}")
        };
        (missing.map(told).collect(), doubled, odd)
    }

    /// Ids and contents of the whole timeline.
    async fn timeline(&self, doors: &mut Doors) -> Option<Vec<(String, String)>> {
        let (mut all, mut path) = (Vec::new(), "/timeline?limit=100".to_owned());
        loop {
            let page = doors.ask(|door| self.person.at(door).get(&path)).await?;
            let posts = page.json["posts"].as_array()?;
            all.extend(posts.iter().map(|post| (text(post, "id"), text(post, "content"))));
            match page.json["next_cursor"].as_str() {
                Some(next) => path = format!("/timeline?limit=100&cursor={next}"),
                None => return Some(all),
            }
        }
    }
}

impl Notes {
    /// A new connection.
    fn begin(&mut self, door: &str) {
        self.write(format!("connected to {door} with {}", self.cursor));
        self.on_this.clear();
        self.newest_on_this.clear();
        self.tally.connections += 1;
    }

    fn write(&mut self, line: String) {
        self.diary.push(format!("{} {line}", Timestamp::now()));
    }

    fn take(&mut self, frame: &Value) {
        let data = &frame["data"];
        self.write(format!("shown {} {} {} {}", frame["type"], data["id"], data["content"], frame["cursor"]));
        let id = data["id"].as_str().unwrap_or_default().to_owned();
        match frame["type"].as_str() {
            Some("newPost") => self.take_post(&id, &text(data, "user_id")),
            Some("postDeleted") => {
                if !self.on_this.insert(("postDeleted", id.clone())) {
                    self.tally.doubled.push(format!("the deletion of {id} was shown twice"));
                }
                self.deletions.insert(id);
            }
            Some("connected" | "pong") => {}
            _ => self.tally.odd.push(frame.to_string()),
        }
        if let Some(cursor) = frame["cursor"].as_str() {
            cursor.clone_into(&mut self.cursor);
        }
    }

    fn take_post(&mut self, id: &str, author: &str) {
        if self.on_this.contains(&("postDeleted", id.to_owned())) {
            self.tally.inverted.push(format!("{id} was shown after its deletion"));
        }
        if !self.on_this.insert(("newPost", id.to_owned())) {
            self.tally.doubled.push(format!("{id} was shown twice"));
        }
        let before = self.newest_on_this.insert(author.to_owned(), id.to_owned());
        if let Some(before) = before.filter(|before| before.as_str() > id) {
            self.tally.inverted.push(format!("{id} was shown after {before} on one connection"));
        }
        if self.shown.contains_key(id) {
            return;
        }
        self.shown.insert(id.to_owned(), Instant::now());
        let before = self.newest.insert(author.to_owned(), id.to_owned());
        if let Some(before) = before.filter(|before| before.as_str() > id) {
            self.tally.inverted.push(format!("{id} was first shown after {before}"));
        }
    }

    /// The posts that it is to be shown, and that are there still.
    fn owed(&self, pages: &Pages) -> Vec<String> {
        let posts = pages.posts.iter().filter(|(id, post)| {
            !pages.deleted.contains_key(*id)
                && self.hears.get(&post.author).is_some_and(|since| post.asked >= *since)
        });
        posts.map(|(id, _)| id.clone()).collect()
    }

    /// What it should have been shown, and was not.
    fn misses(&self, pages: &Pages) -> Vec<String> {
        let lost = self.owed(pages).into_iter().filter(|id| !self.shown.contains_key(id));
        let mut lost: Vec<_> =
            lost.map(|id| format!("{id} was not shown: {}", pages.posts[&id].content)).collect();
        let gone = pages.deleted.iter().filter(|(id, answered)| {
            **answered && self.shown.contains_key(*id) && !self.deletions.contains(*id)
        });
        lost.extend(gone.map(|(id, _)| format!("{id} was shown, and its deletion was not")));
        lost
    }

    fn tell(&self, pages: &Pages) -> Tally {
        let shown = self
            .shown
            .iter()
            .filter_map(|(id, at)| Some(at.saturating_duration_since(pages.posts.get(id)?.answered)));
        Tally {
            deliveries: self.shown.len(),
            latest: shown.max().unwrap_or_default(),
            lost: self.misses(pages),
            ..self.tally.clone()
        }
    }
}
