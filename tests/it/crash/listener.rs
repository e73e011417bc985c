//! One who listens, comes back with its last cursor, and checks what it is shown.

use crate::harness::dice::Dice;
use crate::harness::ground::Ground;
use crate::harness::live::TestClient;
use crate::harness::person::Person;
use crate::harness::rest::text;
use crate::harness::soon;
use crate::harness::until_some;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// So often does it cut its own connection while it is made up for what it missed.
const CUTS: usize = 3;
/// After so many frames at most.
const FRAMES: usize = 40;

/// Somebody, and what was shown on all its connections.
pub struct Listener {
    pub person: Person,
    /// The authors whose posts it is to be shown.
    pub hears: HashSet<String>,
    dice: Dice,
    cursor: String,
    posts: HashSet<String>,
    deletions: HashSet<String>,
    /// The newest post of each author, by what was shown.
    newest: HashMap<String, String>,
}

/// What everybody has answers for.
#[derive(Default)]
pub struct Answered {
    /// Posts, and their authors.
    pub posts: HashMap<String, String>,
    /// Those of them that were deleted.
    pub deleted: HashSet<String>,
}

/// A connection, and the newest post of each author on it.
pub struct Listening {
    client: TestClient,
    newest: HashMap<String, String>,
}

impl Listener {
    pub fn new(person: Person, dice: Dice) -> Self {
        Self {
            person,
            hears: HashSet::new(),
            dice,
            cursor: String::new(),
            posts: HashSet::new(),
            deletions: HashSet::new(),
            newest: HashMap::new(),
        }
    }

    /// Connects for the first time.
    pub async fn begins(&mut self) {
        self.cursor = self.person.connects().await.cut();
    }

    /// Listens, on connections that it often cuts, until the server is gone.
    pub async fn listens(&mut self) {
        while let Some(mut listening) = self.connects().await {
            // One that is always cut in mid replay would never get beyond it.
            let frames = if self.dice.one_in(3) { usize::MAX } else { self.dice.below(FRAMES) };
            for _ in 0..frames {
                if self.hears_one(&mut listening).await.is_none() {
                    return;
                }
            }
        }
    }

    /// Comes back, some times only to cut the replay, and is shown all that it missed. The connection on
    /// which it was stays, and hears of what comes next.
    pub async fn catches_up(&mut self, answered: &Answered) -> Listening {
        for _ in 0..self.dice.below(CUTS + 1) {
            let mut listening = self.connects().await.expect("the server is there");
            for _ in 0..self.dice.below(FRAMES) {
                if self.has_heard(answered) {
                    break;
                }
                self.hears_one(&mut listening).await.expect("it goes on");
            }
        }
        let mut listening = self.connects().await.expect("the server is there");
        // Its answer stands behind the replay.
        listening.client.says(json!({"type": "ping"})).await;
        while self.hears_one(&mut listening).await.expect("it goes on")["type"] != "pong" {}
        let missed: Vec<_> = self.owed(answered).collect();
        assert!(missed.is_empty(), "{} missed {missed:?}", self.person.username);
        listening
    }

    /// Listens until it was shown everything.
    pub async fn hears_all(&mut self, listening: &mut Listening, answered: &Answered) {
        while !self.has_heard(answered) {
            self.hears_one(listening).await.expect("it goes on");
        }
    }

    /// Reads its whole timeline: it has `newest`, but for what was deleted, and shows nothing twice. Where
    /// timelines are written by fan-out, it soon has.
    pub async fn reads(&self, newest: &[String], answered: &Answered) {
        let mut missing = Vec::new();
        let read = until_some(async || {
            missing = self.misses(newest, answered).await;
            (missing.is_empty() || !Ground::is_shared()).then_some(())
        });
        let _ = read.await;
        assert!(missing.is_empty(), "not on {}'s timeline: {missing:?}", self.person.username);
    }

    /// What its timeline, read whole, lacks of `newest`.
    async fn misses(&self, newest: &[String], answered: &Answered) -> Vec<String> {
        let (mut ids, mut contents, mut cursor) = (HashSet::new(), HashSet::new(), String::new());
        loop {
            let page = self.person.get(&format!("/timeline?limit=100{cursor}")).await.expect(200);
            for post in page["posts"].as_array().expect("posts") {
                assert!(ids.insert(text(post, "id")), "twice on the timeline: {post}");
                assert!(contents.insert(text(post, "content")), "one key, two posts: {post}");
                assert!(self.hears.contains(&text(post, "user_id")), "not one of its own: {post}");
                let is_deleted = answered.deleted.contains(&text(post, "id"));
                assert!(!is_deleted, "deleted, but on the timeline: {post}");
            }
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let is_owed =
            |post: &String| !answered.deleted.contains(post) && self.hears.contains(&answered.posts[post]);
        newest.iter().filter(|post| is_owed(post) && !ids.contains(*post)).cloned().collect()
    }

    fn has_heard(&self, answered: &Answered) -> bool {
        self.owed(answered).next().is_none()
    }

    /// Posts that it has not been shown, and such as it was but that are gone.
    fn owed<'a>(&self, answered: &'a Answered) -> impl Iterator<Item = &'a String> {
        let Answered { posts, deleted } = answered;
        let its_own = posts.iter().filter(|(_, author)| self.hears.contains(*author)).map(|(post, _)| post);
        its_own.filter(|post| match deleted.contains(*post) {
            true => self.posts.contains(*post) && !self.deletions.contains(*post),
            false => !self.posts.contains(*post),
        })
    }

    /// Comes with its last cursor; none where the server is gone.
    async fn connects(&self) -> Option<Listening> {
        let url = self.person.live_url(&format!("&cursor={}", self.cursor));
        let client = TestClient::attempt(&url).await?;
        Some(Listening { client, newest: HashMap::new() })
    }

    /// The next frame, checked; none where the connection ended.
    async fn hears_one(&mut self, listening: &mut Listening) -> Option<Value> {
        let frame = soon("a frame", listening.client.frame_or_end()).await?;
        self.notes(&frame, &mut listening.newest);
        self.cursor.clone_from(&listening.client.cursor);
        Some(frame)
    }

    fn notes(&mut self, frame: &Value, on_this: &mut HashMap<String, String>) {
        let data = &frame["data"];
        match frame["type"].as_str() {
            Some("connected") => {
                assert_eq!(data["resumed"], true, "a cursor of this store is always replayed: {frame}");
            }
            Some("pong") => {}
            Some("postDeleted") => drop(self.deletions.insert(text(data, "id"))),
            Some("newPost") => {
                let (post, author) = (text(data, "id"), text(data, "user_id"));
                assert!(self.hears.contains(&author), "follows no such author: {frame}");
                let before = on_this.insert(author.clone(), post.clone());
                assert!(before.is_none_or(|before| before < post), "out of order: {frame}");
                if self.posts.insert(post.clone()) {
                    let before = self.newest.insert(author, post.clone());
                    assert!(before.is_none_or(|before| before < post), "came after a later one: {frame}");
                }
            }
            _ => panic!("nobody asked for this: {frame}"),
        }
    }
}
