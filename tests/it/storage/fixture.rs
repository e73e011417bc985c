//! An empty store of any engine, who observes it, and short words for what tests do with it.

use roost::model::cursor::{Cursor, Seq};
use roost::model::id::{FollowId, LikeId, PostId, UserId};
use roost::model::post::Content;
use roost::model::social::{Follow, Like};
use roost::model::timestamp::Timestamp;
use roost::model::user::{Email, User, Username};
use roost::storage::{
    Accounts, Appended, Backup, Deletion, Entry, EntryChange, EntryObserver, Followed, Graph, IdempotencyKey,
    Jobs, Missed, NewPost, NewUser, Page, Pending, Place, Posts, Registration, TimelineFrom, Timelines,
    Upkeep,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use tempfile::TempDir;
use tokio::sync::watch;

/// All that a store is.
pub trait Engine: Accounts + Posts + Graph + Timelines + Jobs + Upkeep {}
impl<E: Accounts + Posts + Graph + Timelines + Jobs + Upkeep> Engine for E {}

/// How an engine opens a file anew: the same data, another instance.
pub type Reopen = fn(&Path, Arc<Observed>) -> Opened;

/// An instance of a store, and what not every engine has.
pub struct Opened {
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// How it copies itself.
    pub backup: Option<Arc<dyn Backup>>,
}

/// A store of its own for one test; events are queued.
pub struct TestStore {
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// How it copies itself, if it does.
    pub backup: Option<Arc<dyn Backup>>,
    /// Who hears of its entries.
    pub observed: Arc<Observed>,
    /// Where it keeps its data and a test may keep its own; removed with it.
    pub folder: TempDir,
    /// Opens a store from a file in that folder.
    pub reopen: Reopen,
    newest: Mutex<HashMap<UserId, PostId>>,
}

/// What an observer heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An entry is about to be committed.
    Entering(Seq, UserId),
    /// It was not committed.
    Withdrawn(Seq),
}

/// An observer that writes down what it hears and can hold the writer up.
pub struct Observed {
    heard: Mutex<Vec<Heard>>,
    // Shut by a test for as long as the writer is to wait.
    is_shut: Mutex<bool>,
    opened: Condvar,
    count: watch::Sender<usize>,
}

/// Holds the writer up until it is dropped.
pub struct Held<'a>(&'a Observed);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.is_shut.lock().unwrap() = false;
        self.0.opened.notify_all();
    }
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            heard: Mutex::default(),
            is_shut: Mutex::default(),
            opened: Condvar::new(),
            count: watch::Sender::new(0),
        }
    }
}

impl Observed {
    /// Everything so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Holds the writer up at the next entry, until what is answered is dropped.
    pub fn hold(&self) -> Held<'_> {
        *self.is_shut.lock().unwrap() = true;
        Held(self)
    }

    /// Waits until so many were heard.
    pub async fn wait_for(&self, count: usize) {
        self.count.subscribe().wait_for(|heard| *heard >= count).await.unwrap();
    }

    fn hear(&self, heard: Heard) {
        self.heard.lock().unwrap().push(heard);
        self.count.send_modify(|count| *count += 1);
        let shut = self.is_shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
    }
}

impl EntryObserver for Observed {
    fn entering(&self, seq: Seq, author: UserId) {
        self.hear(Heard::Entering(seq, author));
    }

    fn withdrawn(&self, seq: Seq) {
        self.hear(Heard::Withdrawn(seq));
    }
}

impl TestStore {
    /// An empty store of the engine that `reopen` opens.
    pub fn new(reopen: Reopen) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let observed = Arc::new(Observed::default());
        let Opened { engine, backup } = reopen(&folder.path().join("roost.db"), Arc::clone(&observed));
        Self { engine, backup, observed, folder, reopen, newest: Mutex::default() }
    }

    /// A user of that name.
    pub async fn user(&self, name: &str) -> UserId {
        let made = self.engine.register(new_user(name)).await.unwrap();
        let Registration::Made(User { id, .. }) = made else { panic!("{name}: {made:?}") };
        id
    }

    /// So many users.
    pub async fn users(&self, count: usize) -> Vec<UserId> {
        self.users_named("user", count).await
    }

    /// So many users whose names begin alike.
    pub async fn users_named(&self, name: &str, count: usize) -> Vec<UserId> {
        let made: Vec<_> =
            (0..count).map(|number| self.engine.register(new_user(&format!("{name}-{number}")))).collect();
        let mut users = Vec::new();
        for made in made {
            let Registration::Made(user) = made.await.unwrap() else { panic!("not made") };
            users.push(user.id);
        }
        users
    }

    /// A post that is to be stored, made at `at`; its id follows those handed out before.
    pub fn draft(&self, author: UserId, text: &str, at: Timestamp) -> NewPost {
        let mut newest = self.newest.lock().unwrap();
        let id = PostId::after(newest.get(&author).copied(), at);
        newest.insert(author, id);
        NewPost { id, author, content: Content::parse(text).unwrap(), key: None, created_at: at }
    }

    /// Begins to post.
    pub fn posting(&self, author: UserId, text: &str) -> Pending<Appended> {
        self.engine.append(self.draft(author, text, Timestamp::now()))
    }

    /// Posts now.
    pub async fn post(&self, author: UserId, text: &str) -> Posted {
        self.post_at(author, text, Timestamp::now()).await
    }

    /// Posts at `at`.
    pub async fn post_at(&self, author: UserId, text: &str, at: Timestamp) -> Posted {
        stored(self.engine.append(self.draft(author, text, at)).await.unwrap())
    }

    /// Posts so often.
    pub async fn post_many(&self, author: UserId, count: usize) -> Vec<Posted> {
        let posting: Vec<_> =
            (0..count).map(|number| self.posting(author, &format!("number {number}"))).collect();
        let mut posted = Vec::new();
        for post in posting {
            posted.push(stored(post.await.unwrap()));
        }
        posted
    }

    /// Deletes one's own post; answers the deletion's entry.
    pub async fn delete(&self, author: UserId, id: PostId) -> Entry {
        match self.engine.delete(author, id, Timestamp::now()).await.unwrap() {
            Deletion::Done(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    /// Follows; answers since when.
    pub async fn follow(&self, follower: UserId, followee: UserId) -> Seq {
        match self.engine.follow(a_follow(follower, followee), 10_000).await.unwrap() {
            Followed::Done { since } => since,
            other => panic!("{other:?}"),
        }
    }

    /// Unfollows somebody followed.
    pub async fn unfollow(&self, follower: UserId, followee: UserId) {
        assert!(self.engine.unfollow(follower, followee, Timestamp::now()).await.unwrap().is_some());
    }

    /// The first page of a timeline, by places.
    pub async fn timeline(&self, user: UserId, limit: usize) -> Vec<Seq> {
        self.list(user, TimelineFrom::Offset(0), limit).await
    }

    /// A page of a timeline, by the places of its entries.
    pub async fn list(&self, user: UserId, from: TimelineFrom, limit: usize) -> Vec<Seq> {
        seqs(&self.engine.list(user, from, limit).await.unwrap())
    }

    /// A cursor of this store.
    pub fn cursor(&self, seq: Seq) -> Cursor {
        Cursor { store: self.engine.store_name(), seq }
    }

    /// The entries behind a cursor; they must be there.
    pub async fn missed(&self, user: UserId, after: Seq) -> Vec<Entry> {
        match self.engine.since(user, self.cursor(after)).await.unwrap() {
            Missed::Entries { entries, .. } => entries,
            other => panic!("{other:?}"),
        }
    }

    /// Copies itself into a file.
    pub fn copy(&self, file: PathBuf, progress: Box<dyn Fn(u64, u64) + Send>) -> Pending<()> {
        self.backup.as_ref().unwrap().backup(file, progress)
    }

    /// The kinds of all events that are due, oldest first; they are gone then.
    pub async fn take_events(&self) -> Vec<String> {
        let due = self.engine.due_events(Timestamp::now(), 10_000).await.unwrap();
        self.engine.sent(due.iter().map(|event| event.id).collect()).await.unwrap();
        let kind = |event: &str| {
            let event: serde_json::Value = serde_json::from_str(event).unwrap();
            event["type"].as_str().unwrap().replace("com.mini-sns.", "")
        };
        due.iter().map(|job| kind(&job.event)).collect()
    }
}

/// A post that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Its id.
    pub id: PostId,
    /// Its place.
    pub seq: Seq,
}

impl Posted {
    /// Where it stands in a timeline.
    pub const fn place(self) -> Place {
        Place { seq: self.seq, post: self.id }
    }
}

/// The entries of places.
pub fn seqs(places: &[Place]) -> Vec<Seq> {
    places.iter().map(|place| place.seq).collect()
}

/// What an append must have answered.
pub fn stored(appended: Appended) -> Posted {
    match appended {
        Appended::Stored(Entry { seq, change: EntryChange::Posted { post, .. } }) => {
            Posted { id: post.id, seq }
        }
        other => panic!("{other:?}"),
    }
}

/// A user to be made.
pub fn new_user(name: &str) -> NewUser {
    NewUser {
        id: UserId::make(),
        email: Some(Email::parse(&format!("{name}@example.com")).unwrap()),
        username: Username::parse(name).unwrap(),
        password_hash: Some(format!("hash of {name}")),
        created_at: Timestamp::now(),
    }
}

/// A follow to be made.
pub fn a_follow(follower: UserId, followee: UserId) -> Follow {
    Follow { id: FollowId::make(), follower, followee, created_at: Timestamp::now() }
}

/// A like to be made.
pub fn a_like(user: UserId, post: PostId) -> Like {
    Like { id: LikeId::make(), user, post, created_at: Timestamp::now() }
}

/// A key as a client sends it, with the hash of its body.
pub fn a_key(key: &str, body: u8) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { key: key.to_owned(), body: [body; 32] })
}

/// A list from its beginning.
pub const fn first(limit: usize) -> Page {
    Page { before: None, limit }
}
