//! Authors who post and a follower who reads and listens all the while, and what they make of a failing store: a
//! post that was refused is sent again with its key, and each must be shown once, in its author's order.

use crate::harness::child::RealServer;
use crate::harness::person::Person;
use crate::harness::rest::{Answer, ids, text};
use crate::harness::{PATIENCE, soon, until_some};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

const AUTHORS: usize = 4;
/// Between two calls of one of them.
const PACE: Duration = Duration::from_millis(200);
/// So many calls of each of them are done one after the other where the store is well.
const STEADY: usize = 12;

/// Those who act until [`Crowd::has_lost_nothing`].
pub struct Crowd {
    authors: Vec<Person>,
    pub follower: Person,
    /// What each author did, and at last the reader.
    acts: Arc<watch::Sender<Vec<Acts>>>,
    ends: watch::Sender<bool>,
    acting: JoinSet<()>,
    heard: watch::Receiver<Heard>,
    pings: mpsc::Sender<()>,
    listening: JoinHandle<()>,
}

/// What one of them did.
#[derive(Clone, Default)]
struct Acts {
    done: usize,
    /// Done since the last refusal.
    in_a_row: usize,
    refused: usize,
    /// What it posted.
    posts: Vec<String>,
}

/// What the follower's one socket said.
#[derive(Default)]
struct Heard {
    /// Authors and posts.
    posts: Vec<(String, String)>,
    pongs: usize,
}

impl Crowd {
    pub async fn gather(server: &RealServer, name: &str) -> Self {
        let follower = server.person(&format!("{name}-eve")).await;
        let mut authors = Vec::new();
        for number in 0..AUTHORS {
            let author = server.person(&format!("{name}-{number}")).await;
            follower.follows(&author).await;
            authors.push(author);
        }
        let (heard, pings, listening) = listen(&follower).await;
        let acts = Arc::new(watch::Sender::new(vec![Acts::default(); AUTHORS + 1]));
        let ends = watch::Sender::new(false);
        let mut acting = JoinSet::new();
        for (number, author) in authors.iter().enumerate() {
            acting.spawn(post(number, author.clone(), acts.clone(), ends.subscribe()));
        }
        acting.spawn(read(follower.clone(), acts.clone(), ends.subscribe()));
        Self { authors, follower, acts, ends, acting, heard, pings, listening }
    }

    /// Each does so much more.
    pub async fn acts(&self, more: usize) {
        let before: Vec<_> = self.acts.borrow().iter().map(|acts| acts.done).collect();
        let done = |now: &Vec<Acts>| now.iter().zip(&before).all(|(now, before)| now.done >= before + more);
        soon("all act on", self.acts.subscribe().wait_for(done)).await.expect("they are here");
    }

    /// What they posted so far.
    pub fn posted(&self) -> HashSet<String> {
        self.acts.borrow().iter().flat_map(|acts| acts.posts.iter().cloned()).collect()
    }

    /// After a fault: nobody is refused any more, soon and from then on.
    pub async fn is_served_again(&self, patience: Duration) {
        let began = Instant::now();
        let before = self.refused();
        self.acts.send_modify(|all| all.iter_mut().for_each(|acts| acts.in_a_row = 0));
        let mut acts = self.acts.subscribe();
        let is_steady = acts.wait_for(|all| all.iter().all(|acts| acts.in_a_row >= STEADY));
        if tokio::time::timeout(patience, is_steady).await.is_err() {
            let now: Vec<_> =
                self.acts.borrow().iter().map(|acts| (acts.done, acts.in_a_row, acts.refused)).collect();
            panic!("they are not served after {patience:?}: (done, in a row, refused) {now:?}");
        }
        let refused = self.refused();
        println!("served again for {STEADY} calls each {:?} after the fault", began.elapsed());
        println!("refused with 503 meanwhile: {}", refused - before);
        self.acts(STEADY).await;
        assert_eq!(self.refused(), refused, "refused once it had answered again");
    }

    fn refused(&self) -> usize {
        self.acts.borrow().iter().map(|acts| acts.refused).sum()
    }

    /// The socket is open and answers, and says nothing else.
    pub async fn socket_answers(&self) {
        let (pongs, posts) = {
            let heard = self.heard.borrow();
            (heard.pongs, heard.posts.len())
        };
        self.pings.send(()).await.expect("it listens");
        let mut heard = self.heard.clone();
        let heard = soon("a pong", heard.wait_for(|heard| heard.pongs > pongs)).await.expect("it listens");
        assert_eq!(heard.posts.len(), posts, "posts of a store that is gone");
    }

    /// The end: every post was heard on the one socket, in its author's order and nothing beside it, and is on
    /// the timeline.
    pub async fn has_lost_nothing(mut self) -> HashSet<String> {
        self.ends.send_replace(true);
        while let Some(ended) = soon("they end", self.acting.join_next()).await {
            ended.expect("they were served or refused in order");
        }
        let all = self.posted();
        let enough = self.heard.wait_for(|heard| heard.posts.len() >= all.len());
        let is_enough = matches!(tokio::time::timeout(PATIENCE, enough).await, Ok(Ok(_)));
        let heard = self.heard.borrow();
        assert!(is_enough, "{} posts were heard of {}", heard.posts.len(), all.len());
        for (author, acts) in self.authors.iter().zip(self.acts.borrow().iter()) {
            let theirs: Vec<_> = heard.posts.iter().filter(|(id, _)| *id == author.id).collect();
            let theirs: Vec<_> = theirs.into_iter().map(|(_, post)| post.clone()).collect();
            assert_eq!(theirs, acts.posts, "heard and answered of {}", author.username);
        }
        assert_eq!(heard.posts.len(), all.len());
        drop(heard);
        assert!(!self.listening.is_finished(), "the one socket is still open");
        self.listening.abort();

        let mut shown = HashSet::new();
        let whole = until_some(async || {
            shown = timeline(&self.follower).await;
            (shown == all).then_some(())
        });
        if whole.await.is_none() {
            let missing: Vec<_> = all.difference(&shown).collect();
            panic!("{} are on the timeline of {}; missing {missing:?}", shown.len(), all.len());
        }
        println!("{} posts", all.len());
        all
    }
}

/// Posts, and sends again what was refused, with the same key.
async fn post(
    number: usize,
    author: Person,
    acts: Arc<watch::Sender<Vec<Acts>>>,
    ends: watch::Receiver<bool>,
) {
    let mut pace = pace();
    for count in 0.. {
        let content = format!("{}-{count}", author.username);
        loop {
            pace.tick().await;
            let answer = author.asks_to_post(&content).header("idempotency-key", &content).await;
            if let Some(posted) = note(number, answer, 201, &acts) {
                acts.send_modify(|all| all[number].posts.push(text(&posted, "id")));
                break;
            }
        }
        if *ends.borrow() {
            return;
        }
    }
}

/// Reads the timeline.
async fn read(follower: Person, acts: Arc<watch::Sender<Vec<Acts>>>, ends: watch::Receiver<bool>) {
    let mut pace = pace();
    while !*ends.borrow() {
        pace.tick().await;
        note(AUTHORS, follower.get("/timeline").await, 200, &acts);
    }
}

fn pace() -> tokio::time::Interval {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// What was answered: it was done, or refused as it must be.
fn note(
    number: usize,
    answer: Answer,
    status: u16,
    acts: &watch::Sender<Vec<Acts>>,
) -> Option<serde_json::Value> {
    let body = if answer.status == status {
        Some(answer.expect(status))
    } else {
        answer.refused(503, "unavailable");
        None
    };
    acts.send_modify(|all| {
        let acts = &mut all[number];
        if body.is_some() {
            acts.done += 1;
            acts.in_a_row += 1;
        } else {
            acts.refused += 1;
            acts.in_a_row = 0;
        }
    });
    body
}

/// One socket that is never left; whatever it says that is neither a post nor a pong ends the test.
async fn listen(follower: &Person) -> (watch::Receiver<Heard>, mpsc::Sender<()>, JoinHandle<()>) {
    let mut client = follower.connects().await;
    let (told, heard) = watch::channel(Heard::default());
    let (pings, mut pinged) = mpsc::channel(1);
    let listening = tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = pinged.recv() => client.says(json!({"type": "ping"})).await,
                frame = client.frame_whenever() => match frame["type"].as_str() {
                    Some("newPost") => told.send_modify(|heard| {
                        heard.posts.push((text(&frame["data"], "user_id"), text(&frame["data"], "id")));
                    }),
                    Some("pong") => told.send_modify(|heard| heard.pongs += 1),
                    _ => panic!("{frame}"),
                },
            }
        }
    });
    (heard, pings, listening)
}

/// All that is on a timeline.
async fn timeline(person: &Person) -> HashSet<String> {
    let mut all = HashSet::new();
    let mut path = "/timeline?limit=100".to_owned();
    loop {
        let page = person.get(&path).await.expect(200);
        all.extend(ids(&page["posts"]));
        match page["next_cursor"].as_str() {
            Some(next) => path = format!("/timeline?limit=100&cursor={next}"),
            None => return all,
        }
    }
}
