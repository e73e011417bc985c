//! One who listens, comes back with its last cursor, and checks what it is shown.

use crate::harness::dice::Dice;
use crate::harness::live::TestClient;
use crate::harness::person::Person;
use crate::harness::rest::text;
use crate::harness::soon;
use serde_json::Value;
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

    /// Listens, with connections of random lengths, until the server is gone.
    pub async fn listens(&mut self) {
        while self.connects(|_| false).await {}
    }

    /// Listens until it was shown all of these that its authors posted, and each deletion of what it was
    /// shown, or its author's newest post would not say that it was.
    pub async fn hears_everything(&mut self, posts: &HashMap<String, String>, gone: &HashSet<String>) {
        let owed: Vec<_> =
            posts.iter().filter(|(_, author)| self.hears.contains(*author)).map(|(post, _)| post).collect();
        let has_heard = |listener: &Self| {
            owed.iter().all(|post| match gone.contains(*post) {
                true => !listener.posts.contains(*post) || listener.deletions.contains(*post),
                false => listener.posts.contains(*post),
            })
        };
        let whole = async {
            for cut in 0.. {
                let cuts = cut < CUTS;
                if has_heard(self) || !self.connection(cuts, &has_heard).await && !cuts {
                    break;
                }
            }
        };
        soon("everything is heard", whole).await;
        let missing: Vec<_> =
            owed.iter().filter(|post| !gone.contains(**post) && !self.posts.contains(**post)).collect();
        assert!(has_heard(self), "{} missed {missing:?}", self.person.username);
    }

    /// Reads its whole timeline: it has `newest`, but for what was deleted, and shows nothing twice.
    pub async fn reads_everything(
        &self,
        newest: &[String],
        posts: &HashMap<String, String>,
        gone: &HashSet<String>,
    ) {
        let (mut ids, mut contents, mut cursor) = (HashSet::new(), HashSet::new(), String::new());
        loop {
            let page = self.person.get(&format!("/timeline?limit=100{cursor}")).await.expect(200);
            for post in page["posts"].as_array().expect("posts") {
                assert!(ids.insert(text(post, "id")), "twice on the timeline: {post}");
                assert!(contents.insert(text(post, "content")), "one key, two posts: {post}");
                assert!(self.hears.contains(&text(post, "user_id")), "not one of its own: {post}");
                assert!(!gone.contains(&text(post, "id")), "deleted, but on the timeline: {post}");
            }
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let owed = newest.iter().filter(|post| !gone.contains(*post) && self.hears.contains(&posts[*post]));
        let missing: Vec<_> = owed.filter(|post| !ids.contains(*post)).collect();
        assert!(missing.is_empty(), "not on {}'s timeline: {missing:?}", self.person.username);
    }

    async fn connects(&mut self, enough: impl Fn(&Self) -> bool) -> bool {
        self.connection(true, &enough).await
    }

    /// One connection: until it is enough, or its end, or (`cuts`) so many frames as the dice say. False
    /// where the server is gone.
    async fn connection(&mut self, cuts: bool, enough: &impl Fn(&Self) -> bool) -> bool {
        let url = self.person.live_url(&format!("&cursor={}", self.cursor));
        let Some(mut client) = TestClient::attempt(&url).await else { return false };
        let frames = if cuts { self.dice.below(FRAMES) } else { usize::MAX };
        let mut on_this = HashMap::new();
        for _ in 0..frames {
            let Some(frame) = client.frame_or_end().await else { return false };
            self.notes(&frame, &mut on_this);
            if !client.cursor.is_empty() {
                self.cursor.clone_from(&client.cursor);
            }
            if enough(self) {
                break;
            }
        }
        true
    }

    /// Checks a frame. `on_this` has the newest post of each author on this connection.
    fn notes(&mut self, frame: &Value, on_this: &mut HashMap<String, String>) {
        let data = &frame["data"];
        match frame["type"].as_str() {
            Some("connected") => {
                assert_eq!(data["resumed"], true, "a cursor of this store is always replayed: {frame}");
            }
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
