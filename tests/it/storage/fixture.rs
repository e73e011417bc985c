//! A store of any engine for one test, and short words for what tests do with it.

use super::observed::Observed;
use futures_util::future::join_all;
use roost::model::cursor::{Cursor, Seq};
use roost::model::id::{FollowId, LikeId, PostId, UserId};
use roost::model::post::Content;
use roost::model::social::{Follow, Like};
use roost::model::timestamp::Timestamp;
use roost::model::user::{Email, User, Username};
use roost::storage::chats::Chats;
use roost::storage::rooms::Rooms;
use roost::storage::{
    Accounts, Appended, Backup, Deletion, Entry, EntryChange, FanOut, Followed, Graph, IdempotencyKey, Jobs,
    Missed, NewPost, NewRefresh, NewUser, Page, Pending, Place, Posts, Registration, TimelineFrom, Timelines,
    TokenHash, Upkeep,
};
use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// Calls that a test makes at once where it makes many.
const AT_ONCE: usize = 16;

/// All that a store is.
pub trait Engine: Accounts + Posts + Graph + Timelines + Chats + Rooms + Jobs + Upkeep {}
impl<E: Accounts + Posts + Graph + Timelines + Chats + Rooms + Jobs + Upkeep> Engine for E {}

/// What a test's store stands on.
pub struct Ground {
    /// Opens an instance; each has the same data.
    pub open: Open,
    /// What stands behind every name: something where others use the same data.
    pub tag: String,
    /// Whether writes are done in the order of their calls, whoever's they are.
    pub is_ordered: bool,
}

/// How an engine opens an instance of a store.
pub type Open = Box<dyn Fn(Arc<Observed>) -> Pin<Box<dyn Future<Output = Opened> + Send>> + Send + Sync>;

/// An instance of a store, and what not every engine has.
pub struct Opened {
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// How it copies itself.
    pub backup: Option<Arc<dyn Backup>>,
    /// How its timelines are written.
    pub fan_out: Option<Arc<dyn FanOut>>,
}

/// A store for one test, of its own or one where it uses its own users; events are queued.
pub struct TestStore {
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// How it copies itself, if it does.
    pub backup: Option<Arc<dyn Backup>>,
    /// How its timelines are written, if they are.
    pub fan_out: Option<Arc<dyn FanOut>>,
    /// Who hears of its entries.
    pub observed: Arc<Observed>,
    /// Where a test may keep its own; removed with it.
    pub folder: Arc<TempDir>,
    ground: Ground,
    newest: Mutex<HashMap<UserId, PostId>>,
}

impl TestStore {
    /// A store that stands on that.
    pub async fn on(ground: Ground, folder: Arc<TempDir>) -> Self {
        let observed = Arc::new(Observed::default());
        let Opened { engine, backup, fan_out } = (ground.open)(Arc::clone(&observed)).await;
        Self { engine, backup, fan_out, observed, folder, ground, newest: Mutex::default() }
    }

    /// Another instance with the same data.
    pub async fn open_again(&self) -> Opened {
        (self.ground.open)(Arc::new(Observed::default())).await
    }

    /// Whether writes are done in the order of their calls, whoever's they are.
    pub const fn is_ordered(&self) -> bool {
        self.ground.is_ordered
    }

    /// A name of this test's own.
    pub fn name(&self, text: &str) -> String {
        format!("{text}{}", self.ground.tag)
    }

    /// An address of this test's own.
    #[expect(clippy::unnecessary_wraps, reason = "a user to be made has one or none")]
    pub fn email(&self, text: &str) -> Option<Email> {
        Some(Email::parse(&format!("{}@example.com", self.name(text))).unwrap())
    }

    /// A user to be made.
    pub fn new_user(&self, name: &str) -> NewUser {
        NewUser {
            id: UserId::make(),
            email: self.email(name),
            username: Username::parse(&self.name(name)).unwrap(),
            password_hash: Some(format!("hash of {name}")),
            created_at: Timestamp::now(),
        }
    }

    /// The hash of a refresh token of this test's own.
    pub fn hash(&self, number: u8) -> TokenHash {
        let mut hash = [number; 32];
        let tag = self.ground.tag.as_bytes();
        hash[..tag.len()].copy_from_slice(tag);
        hash
    }

    /// That refresh token.
    pub fn token(&self, number: u8, expires_at: Timestamp) -> NewRefresh {
        NewRefresh { hash: self.hash(number), expires_at }
    }

    /// A user of that name.
    pub async fn user(&self, name: &str) -> UserId {
        let made = self.engine.register(self.new_user(name)).await.unwrap();
        let Registration::Made(User { id, .. }) = made else { panic!("{name}: {made:?}") };
        id
    }

    /// So many users.
    pub async fn users(&self, count: usize) -> Vec<UserId> {
        self.users_named("user", count).await
    }

    /// So many users whose names begin alike.
    pub async fn users_named(&self, name: &str, count: usize) -> Vec<UserId> {
        let new: Vec<_> = (0..count).map(|number| self.new_user(&format!("{name}-{number}"))).collect();
        let mut users = Vec::new();
        for some in new.chunks(AT_ONCE) {
            for made in join_all(some.iter().map(|new| self.engine.register(new.clone()))).await {
                let Registration::Made(user) = made.unwrap() else { panic!("not made") };
                users.push(user.id);
            }
        }
        users
    }

    /// A post that is to be stored, made at `at`; its id follows those handed out before.
    pub fn draft(&self, author: UserId, text: &str, at: Timestamp) -> NewPost {
        let mut newest = self.newest.lock().unwrap();
        let id = PostId::after(newest.get(&author).copied(), at);
        newest.insert(author, id);
        NewPost {
            id,
            author,
            content: Content::parse(text).unwrap(),
            key: None,
            created_at: at,
            attempt: None,
        }
    }

    /// Begins to post; only its author's timeline shows it.
    pub fn posting(&self, author: UserId, text: &str) -> Pending<Appended> {
        self.engine.append(self.draft(author, text, Timestamp::now()))
    }

    /// Posts now.
    pub async fn post(&self, author: UserId, text: &str) -> Posted {
        self.post_at(author, text, Timestamp::now()).await
    }

    /// Posts at `at`.
    pub async fn post_at(&self, author: UserId, text: &str, at: Timestamp) -> Posted {
        let posted = stored(self.engine.append(self.draft(author, text, at)).await.unwrap());
        self.spread(&[posted.seq]).await;
        posted
    }

    /// Posts so often.
    pub async fn post_many(&self, author: UserId, count: usize) -> Vec<Posted> {
        let posting: Vec<_> =
            (0..count).map(|number| self.posting(author, &format!("number {number}"))).collect();
        let mut posted = Vec::new();
        for post in posting {
            posted.push(stored(post.await.unwrap()));
        }
        self.spread(&posted.iter().map(|post| post.seq).collect::<Vec<_>>()).await;
        posted
    }

    /// Deletes one's own post; answers the deletion's entry.
    pub async fn delete(&self, author: UserId, id: PostId) -> Entry {
        match self.engine.delete(author, id, Timestamp::now()).await.unwrap() {
            Deletion::Done(entry) => {
                self.spread(&[entry.seq]).await;
                entry
            }
            other => panic!("{other:?}"),
        }
    }

    /// Brings entries into the timelines of others, where they are written.
    pub async fn spread(&self, seqs: &[Seq]) {
        let Some(fan_out) = &self.fan_out else { return };
        for some in seqs.chunks(AT_ONCE) {
            for spread in join_all(some.iter().map(|seq| fan_out.fan_out(*seq))).await {
                spread.unwrap();
            }
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
    /// Who wrote it.
    pub author: UserId,
}

impl Posted {
    /// Where it stands in a timeline.
    pub const fn place(self) -> Place {
        Place { seq: self.seq, post: self.id, author: self.author }
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
            Posted { id: post.id, seq, author: post.author }
        }
        other => panic!("{other:?}"),
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
