//! kill -9 of the real program at random instants under load: what was answered 201 is never lost, every
//! follower gets it across its resumes, in its author's order, once a connection, and the database is
//! whole. `ROOST_TEST_ROUNDS` rounds (20) on one data folder; `ROOST_TEST_SEED` repeats a run's chances.

use crate::harness::chance::{Chance, number};
use crate::harness::child::RealServer;
use crate::harness::live::TestClient;
use crate::harness::person::Person;
use crate::harness::rest::{ids, text};
use crate::harness::{PATIENCE, soon};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

/// Writers and listeners of a round; they are new in each, so that no timeline is longer than it may be.
const WRITERS: usize = 3;
const LISTENERS: usize = 3;
/// Posts of a writer in a round: together fewer than a timeline holds.
const MOST_POSTS: usize = 240;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_any_instant_loses_nothing_that_was_answered() {
    let mut chance = Chance::for_test("crash");
    let mut server = RealServer::start();
    for round in 0..number("ROOST_TEST_ROUNDS", 20) {
        let posted = one_round(&mut server, &mut chance.split(), round).await;
        check_database(&server.data_dir());
        println!("crash: round {round}: {posted} posts were answered before the kill");
    }
}

async fn one_round(server: &mut RealServer, chance: &mut Chance, round: usize) -> usize {
    let (writers, listeners) = people(server, round).await;
    let instant = Duration::from_millis(chance.below(1200) as u64);
    let mut listening = Vec::new();
    for listener in &listeners {
        let view = View::begin(listener).await;
        listening.push(tokio::spawn(view.follow_until_the_end(listener.clone(), chance.split())));
    }
    let writing: Vec<_> =
        writers.iter().map(|writer| tokio::spawn(write_until_the_end(writer.clone(), chance.split()))).collect();

    tokio::time::sleep(instant).await;
    server.kill();
    let mut written = Vec::new();
    for one in writing {
        written.push(soon("a writer sees the end", one).await.expect("a writer"));
    }
    let mut views = Vec::new();
    for one in listening {
        views.push(soon("a listener sees the end", one).await.expect("a listener"));
    }
    check_database(&server.data_dir());
    server.spawn();

    // What was answered is there; what was not is sent again where that is safe.
    let mut answered: Vec<Vec<String>> = Vec::new();
    for (writer, mut written) in writers.iter().zip(written) {
        if let Some((content, key)) = written.unsettled.take() {
            let again = writer.asks_to_post(&content).header("idempotency-key", &key).await.expect(201);
            written.answered.push(text(&again, "id"));
        }
        answered.push(written.answered);
    }
    let all: HashSet<String> = answered.iter().flatten().cloned().collect();
    for (listener, view) in listeners.iter().zip(views) {
        view.resume_until_all(listener, &all).await;
        check_timeline(listener, &writers, &all).await;
    }
    for (writer, answered) in writers.iter().zip(&answered) {
        let listed = everything(writer, &format!("/users/{}/posts", writer.id)).await;
        let in_order: Vec<_> = listed.iter().rev().filter(|id| answered.contains(id)).cloned().collect();
        assert_eq!(in_order, *answered, "an author's posts are in the order of their answers");
        let profile = writer.get(&format!("/users/{}", writer.id)).await.expect(200);
        assert_eq!(profile["posts_count"], listed.len(), "the count is exact");
    }
    all.len()
}

async fn people(server: &RealServer, round: usize) -> (Vec<Person>, Vec<Person>) {
    let mut made = Vec::new();
    for number in 0..WRITERS + LISTENERS {
        let name = if number < WRITERS { format!("writer-{round}-{number}") } else { format!("reader-{round}-{number}") };
        made.push(server.person(&name).await);
    }
    let listeners = made.split_off(WRITERS);
    for listener in &listeners {
        for writer in &made {
            listener.follows(writer).await;
        }
    }
    (made, listeners)
}

/// What a writer knows.
#[derive(Default)]
struct Written {
    /// Posts that were answered 201, in order.
    answered: Vec<String>,
    /// The last one's content and key, if it had a key and no answer.
    unsettled: Option<(String, String)>,
}

/// Posts one after the other, some with keys, until the server is gone.
async fn write_until_the_end(writer: Person, mut chance: Chance) -> Written {
    let mut written = Written::default();
    while written.answered.len() < MOST_POSTS {
        let content = format!("{} of {}", written.answered.len(), writer.username);
        let key = chance.once_in(2).then(|| format!("key-{}", written.answered.len()));
        let call = writer.asks_to_post(&content);
        let call = key.iter().fold(call, |call, key| call.header("idempotency-key", key));
        match call.attempt().await {
            Ok(answer) => written.answered.push(text(&answer.expect(201), "id")),
            Err(_) => {
                written.unsettled = key.map(|key| (content, key));
                return written;
            }
        }
    }
    written
}

/// What a listener has seen, over all its connections.
struct View {
    client: Option<TestClient>,
    cursor: String,
    seen: HashSet<String>,
    /// The newest post of each author on this connection.
    newest: HashMap<String, String>,
}

impl View {
    async fn begin(listener: &Person) -> Self {
        let client = listener.connects().await;
        let cursor = client.cursor.clone();
        Self { client: Some(client), cursor, seen: HashSet::new(), newest: HashMap::new() }
    }

    /// Listens, coming again now and then, until the server is gone.
    async fn follow_until_the_end(mut self, listener: Person, mut chance: Chance) -> Self {
        loop {
            let Some(frame) = self.next().await else { return self };
            self.take(&frame);
            if chance.once_in(25) {
                self.client = listener.tries_to_open(&format!("&cursor={}", self.cursor)).await;
                self.newest.clear();
                if self.client.is_none() {
                    return self;
                }
            }
        }
    }

    /// Resumes until everything was seen.
    async fn resume_until_all(mut self, listener: &Person, all: &HashSet<String>) {
        let client = listener.resumes(&self.cursor).await;
        assert_eq!(client.connected["resumed"], true, "a cursor of before the kill is replayed");
        self.client = Some(client);
        self.newest.clear();
        let resuming = async {
            while !all.is_subset(&self.seen) {
                let frame = self.next().await.expect("the connection stays");
                self.take(&frame);
            }
        };
        if tokio::time::timeout(PATIENCE, resuming).await.is_err() {
            let lost: Vec<_> = all.difference(&self.seen).collect();
            panic!("{} never got {lost:?}", listener.username);
        }
    }

    /// The next frame; none once the connection ended.
    async fn next(&mut self) -> Option<Value> {
        self.client.as_mut()?.next().await
    }

    fn take(&mut self, frame: &Value) {
        assert_ne!(frame["type"], "resync", "nothing was too much to replay");
        if let Some(cursor) = frame["cursor"].as_str() {
            self.cursor = cursor.to_owned();
        }
        if frame["type"] == "newPost" {
            let (id, author) = (text(&frame["data"], "id"), text(&frame["data"], "user_id"));
            // Ids of an author grow in the order of its answers.
            let former = self.newest.insert(author, id.clone());
            assert!(former.is_none_or(|former| former < id), "out of its author's order: {frame}");
            self.seen.insert(id);
        }
    }
}

/// All pages of a list of posts.
async fn everything(reader: &Person, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut query = "?limit=100".to_owned();
    loop {
        let page = reader.get(&format!("{path}{query}")).await.expect(200);
        found.extend(ids(&page["posts"]));
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?limit=100&cursor={cursor}"),
            None => return found,
        }
    }
}

async fn check_timeline(listener: &Person, writers: &[Person], all: &HashSet<String>) {
    let timeline = everything(listener, "/timeline").await;
    let shown: HashSet<String> = timeline.iter().cloned().collect();
    assert_eq!(shown.len(), timeline.len(), "a timeline shows each post once");
    let lost: Vec<_> = all.difference(&shown).collect();
    assert!(lost.is_empty(), "answered 201 and in no timeline: {lost:?}");
    let mut stored = HashSet::new();
    for writer in writers {
        stored.extend(everything(listener, &format!("/users/{}/posts", writer.id)).await);
    }
    assert_eq!(shown, stored, "the timeline is what those who are followed posted");
}

fn check_database(data_dir: &Path) {
    let database = rusqlite::Connection::open(data_dir.join("roost.db")).expect("the database opens");
    let found: String =
        database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be checked");
    assert_eq!(found, "ok");
    let orphans: i64 = database
        .prepare("PRAGMA foreign_key_check")
        .and_then(|mut check| Ok(check.query([])?.mapped(|_| Ok(())).count() as i64))
        .expect("it can be checked");
    assert_eq!(orphans, 0, "nothing refers to what is not there");
}
