//! What is kept, and what may be relied on: a trait for each aggregate, its semantics in its docs.
//!
//! Every call answers a [`Pending`]. A write begins when the call is made, not when the future is first
//! polled; dropping the future does not undo it. **An author's posts and deletions take their place in the
//! author's order when they are called.** What else is begun at once has no order among itself. A write
//! that answers `Ok` is durable; one that answers [`StorageError::Unavailable`] may have been done, or
//! be done yet. Writes are refused, never queued without bound: a store that cannot keep up answers
//! [`StorageError::Unavailable`].
//!
//! Counts are exact: each is changed in the same write as the rows that it counts.

pub mod chats;
pub mod circuit;
pub mod memory;
pub mod moving;
pub mod redis;
pub mod rooms;
pub mod scylla;
pub mod sqlite;
pub mod volatile;

use crate::model::cursor::{Cursor, Seq, StoreName};
use crate::model::id::{FollowId, LoginId, PostId, UserId};
use crate::model::post::{Content, Post, PostView};
use crate::model::shard::Shard;
use crate::model::social::{Follow, Like};
use crate::model::timestamp::Timestamp;
use crate::model::user::{Email, Named, Profile, User, Username};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;
use uuid::Uuid;

/// The answer of a store, on its way.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send>>;

/// A timeline holds at most this many entries; a resume replays at most as many posts.
pub const TIMELINE_ENTRIES: usize = 800;
/// A timeline's entries, and the cursors that can be resumed from, are at most this old.
pub const TIMELINE_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Posts of the followed that a new follow puts on the timeline.
pub const BACKFILL_POSTS: usize = 20;
/// How long an idempotency key is kept.
pub const KEY_AGE: Duration = Duration::from_secs(24 * 3600);

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// It cannot now: full, read-only, busy, gone. Trying again later is right.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It never will: a fault of ours or a damaged store.
    #[error("the store refused: {0}")]
    Refused(String),
}

/// Hears of entries before anybody can read them, so that no low-water mark passes one that is on its
/// way. Called by the store itself, in order of `Seq`.
pub trait EntryObserver: Send + Sync {
    /// The entry is about to be committed.
    fn entering(&self, seq: Seq, author: UserId);
    /// The commit failed: there is no such entry. Of several, the newest is withdrawn first; the newest
    /// of all may have its number given again.
    fn withdrawn(&self, seq: Seq);
}

/// Users, how they log in, and their logins.
pub trait Accounts: Send + Sync {
    /// Makes a user. Of two at once with one e-mail or name (regardless of case), one is made.
    fn register(&self, new: NewUser) -> Pending<Registration>;
    /// The user with that e-mail (regardless of case) and the hash of its password, if it has one.
    fn credentials(&self, email: Email) -> Pending<Option<(User, Option<String>)>>;
    /// A user by id.
    fn user(&self, id: UserId) -> Pending<Option<User>>;
    /// A user as `viewer` sees it.
    fn profile(&self, id: UserId, viewer: UserId) -> Pending<Option<Profile>>;
    /// The same, by name regardless of case.
    fn profile_by_name(&self, name: String, viewer: UserId) -> Pending<Option<Profile>>;
    /// Changes a name; the old one is free at once.
    fn rename(&self, id: UserId, name: Username, now: Timestamp) -> Pending<Renaming>;
    /// The user of an outside issuer's subject, made from `new` at first use; where the name is taken,
    /// a hyphen and a number that is free go behind it (cut to 50 characters).
    fn outside_user(&self, issuer: String, subject: String, new: NewUser) -> Pending<User>;

    /// Begins a login with its first refresh token (by its SHA-256).
    fn open_login(&self, login: LoginId, user: UserId, first: NewRefresh, now: Timestamp) -> Pending<()>;
    /// Spends a refresh token for the next one. A spent one used again revokes its whole login; of two
    /// uses at once, one is such a use.
    fn refresh(&self, spend: TokenHash, next: NewRefresh, now: Timestamp) -> Pending<Refresh>;
    /// Ends a login: its tokens stop working. `expires_at` is when the last of them would have ended by
    /// itself. Ending one that is ended, or that the store never saw (an outside issuer's), is no error.
    fn revoke_login(&self, login: LoginId, expires_at: Timestamp) -> Pending<()>;
    /// Whether the login was begun here and is neither revoked nor expired.
    fn login_alive(&self, login: LoginId, now: Timestamp) -> Pending<bool>;
    /// All that were revoked and would not have expired by `now`.
    fn revoked_logins(&self, now: Timestamp) -> Pending<Vec<LoginId>>;
}

/// The SHA-256 of an opaque token.
pub type TokenHash = [u8; 32];

/// A refresh token to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewRefresh {
    /// Its SHA-256.
    pub hash: TokenHash,
    /// Until when it can be spent.
    pub expires_at: Timestamp,
}

/// A user to be made.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Its id.
    pub id: UserId,
    /// Its address; an outside issuer's user has none.
    pub email: Option<Email>,
    /// Its name.
    pub username: Username,
    /// The PHC string of its password's hash; an outside issuer's user has none.
    pub password_hash: Option<String>,
    /// When it is made.
    pub created_at: Timestamp,
}

/// What came of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The user was made.
    Made(User),
    /// The e-mail belongs to somebody.
    EmailTaken,
    /// The name belongs to somebody.
    UsernameTaken,
}

/// What came of a change of name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renaming {
    /// Done.
    Done(User),
    /// There is no such user.
    Missing,
    /// The name belongs to somebody else.
    Taken,
}

/// What came of spending a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// It was good, and is spent now.
    Rotated {
        /// The login that goes on.
        login: LoginId,
        /// Whose it is.
        user: UserId,
    },
    /// It had been spent: its login is revoked now.
    Reused {
        /// The login that ended.
        login: LoginId,
    },
    /// Unknown, expired, or of a login that was revoked.
    Refused,
}

/// Posts, deletions and likes. Each post and each deletion is an entry with a [`Seq`].
pub trait Posts: Send + Sync {
    /// The author's newest id, deleted posts included; the next must be greater. Takes its place in the
    /// author's order: it counts every append that was called before.
    fn newest_id(&self, author: UserId) -> Pending<Option<PostId>>;
    /// Stores a post, its entry, the job of its delivery and, with a key, the key: all or nothing.
    fn append(&self, post: NewPost) -> Pending<Appended>;
    /// What a key, at most [`KEY_AGE`] old, was used for.
    fn keyed(&self, user: UserId, key: String, now: Timestamp) -> Pending<Option<KeyUse>>;
    /// Deletes an author's own post, with its entry and the job of its delivery.
    fn delete(&self, author: UserId, id: PostId, now: Timestamp) -> Pending<Deletion>;
    /// A post as `viewer` sees it; none where it never was or is deleted.
    fn post(&self, id: PostId, viewer: UserId) -> Pending<Option<PostView>>;
    /// Those of `ids` that are there, in the order of `ids`.
    fn posts(&self, ids: Vec<PostId>, viewer: UserId) -> Pending<Vec<PostView>>;
    /// A page of an author's posts, newest first, each with its place; `total` counts all. None where
    /// there is no such user.
    fn by_author(&self, author: UserId, viewer: UserId, page: Page) -> Pending<Option<Listed<PostView>>>;
    /// Likes a post, once.
    fn like(&self, like: Like) -> Pending<Liking>;
    /// Takes a like back; answers whether there was one.
    fn unlike(&self, user: UserId, post: PostId, now: Timestamp) -> Pending<bool>;
    /// Entries by number whose deliveries are not done, in their order; posts that are deleted now are left
    /// out. Of one author's entries it has every one whose write was called before.
    fn entries(&self, seqs: Vec<Seq>) -> Pending<Vec<Entry>>;
}

/// A post to be stored.
#[derive(Clone, Debug)]
pub struct NewPost {
    /// Its id, greater than the author's newest.
    pub id: PostId,
    /// Who wrote it.
    pub author: UserId,
    /// What it says.
    pub content: Content,
    /// The client's key, if it sent one.
    pub key: Option<IdempotencyKey>,
    /// When it is made.
    pub created_at: Timestamp,
    /// By which try it comes, where another node may send it again.
    pub attempt: Option<Attempt>,
}

/// One try of several to have one post stored once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The same for all tries.
    pub request: Uuid,
    /// Whether there may have been one before, within the last minute. Where that was stored, the append answers
    /// [`Appended::Repeated`], and as the body that of its key, or zeros.
    pub is_repeat: bool,
}

/// A client's key and what it was sent with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key, unique to its user.
    pub key: String,
    /// The SHA-256 of the body that it came with.
    pub body: TokenHash,
}

/// What a key was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// The SHA-256 of the body that it came with.
    pub body: TokenHash,
    /// The post that was made, as it was answered.
    pub post: Post,
}

/// What came of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Stored, as this entry.
    Stored(Entry),
    /// The key had been used: nothing was stored.
    Repeated(KeyUse),
    /// There is no such author.
    NoAuthor,
}

/// What came of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Deleted, as this entry.
    Done(Entry),
    /// Not there, or deleted before.
    Missing,
    /// Somebody else's.
    Forbidden,
}

/// What came of a like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liking {
    /// It is liked now.
    Done,
    /// It was liked already.
    Already,
    /// There is no such post.
    Missing,
}

/// One entry of the store's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub seq: Seq,
    /// What happened.
    pub change: EntryChange,
}

/// What an entry tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryChange {
    /// A post was made (and is not deleted since).
    Posted {
        /// The post.
        post: Post,
        /// Its author's name.
        author_name: String,
    },
    /// A post was deleted.
    Deleted {
        /// The post.
        id: PostId,
        /// Its author.
        author: UserId,
        /// When.
        deleted_at: Timestamp,
    },
}

impl Entry {
    /// Whose entry it is.
    #[must_use]
    pub const fn author(&self) -> UserId {
        match &self.change {
            EntryChange::Posted { post, .. } => post.author,
            EntryChange::Deleted { author, .. } => *author,
        }
    }
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only what stands behind this place.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// A part of a list, each item with its place in it, and how many there are in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// Place and item, in the list's order.
    pub items: Vec<(u64, T)>,
    /// The length of the whole list.
    pub total: u64,
}

/// Who follows whom.
pub trait Graph: Send + Sync {
    /// Follows, if the follower has fewer than `max` followees. The follow sees what comes after
    /// `Followed::Done.since`; the [`BACKFILL_POSTS`] newest before it join the timeline.
    fn follow(&self, follow: Follow, max: u64) -> Pending<Followed>;
    /// Every connection that the follower had when it was stored knows of this follow: what was missed behind a cursor
    /// need not be looked for from the follow on. Forgotten after an hour.
    fn follow_told(&self, follow: FollowId) -> Pending<()>;
    /// Unfollows; answers the follow that ended.
    fn unfollow(&self, follower: UserId, followee: UserId, now: Timestamp) -> Pending<Option<Follow>>;
    /// Who follows `user`, newest follow first; none where there is no such user.
    fn followers(&self, user: UserId, page: Page) -> Pending<Option<Listed<Named>>>;
    /// Whom `user` follows, newest follow first; none where there is no such user.
    fn following(&self, user: UserId, page: Page) -> Pending<Option<Listed<Named>>>;
    /// All whom `user` follows, each with the entry after which the follow began.
    fn followees(&self, user: UserId) -> Pending<Vec<(UserId, Seq)>>;
}

/// What came of a follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Followed: everything of the followee behind `since` is new to the follower.
    Done {
        /// The newest entry of the store when the follow was committed.
        since: Seq,
    },
    /// Followed already.
    Already {
        /// When that began.
        since: Timestamp,
    },
    /// There is no such user to follow.
    Missing,
    /// As many followees as allowed.
    TooMany,
}

/// What each user reads: its own posts and those of the users it follows.
pub trait Timelines: Send + Sync {
    /// The places of `limit` entries of the timeline, newest first, behind `before` or after leaving out
    /// `skip`: posts of the last [`TIMELINE_AGE`] that are not deleted now, by those who are followed now.
    fn list(&self, user: UserId, from: TimelineFrom, limit: usize) -> Pending<Vec<Place>>;
    /// How many entries the timeline has, [`TIMELINE_ENTRIES`] at most.
    fn total(&self, user: UserId) -> Pending<u64>;
    /// The posts at those places as `user` sees them, in that order, as they are now or were when they were listed
    /// a moment ago; those deleted since may be left out.
    fn show(&self, user: UserId, places: Vec<Place>) -> Pending<Vec<PostView>>;
    /// What `user` missed behind `cursor`.
    fn since(&self, user: UserId, cursor: Cursor) -> Pending<Missed>;
    /// The store's name, for cursors.
    fn store_name(&self) -> StoreName;
}

/// Where a post stands in a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The number of its entry.
    pub seq: Seq,
    /// The post.
    pub post: PostId,
    /// Who wrote it.
    pub author: UserId,
}

/// Where a timeline's page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimelineFrom {
    /// Behind the newest so many entries.
    Offset(usize),
    /// Behind the entry at this place.
    Before(Seq),
}

/// What lies behind a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missed {
    /// All of it, in order of `Seq`; a post that was deleted since is told by its deletion alone.
    Entries {
        /// The entries of the user's timeline behind the cursor.
        entries: Vec<Entry>,
        /// What need not be told any more.
        told: Told,
    },
    /// It cannot be replayed.
    Lost(Loss),
}

/// What a reading of missed entries has covered: none of it is to be shown again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Everything up to here.
    pub through: Seq,
    /// And these, in order: entries behind `through` that were read, posts that were found deleted among them.
    pub also: Vec<Seq>,
}

impl Told {
    /// Everything up to a place, and nothing behind it.
    #[must_use]
    pub const fn up_to(through: Seq) -> Self {
        Self { through, also: Vec::new() }
    }

    /// Whether an entry was covered.
    #[must_use]
    pub fn covers(&self, seq: Seq) -> bool {
        seq <= self.through || self.also.binary_search(&seq).is_ok()
    }
}

/// Why a cursor cannot be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is older than [`TIMELINE_AGE`].
    Expired,
    /// More than [`TIMELINE_ENTRIES`] posts, or than 10,000 deletions, lie behind it.
    TooMany,
    /// It is of another store, or from this one's future.
    Foreign,
}

impl Loss {
    /// The reason in a `resync` frame.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::TooMany => "too_many",
            Self::Foreign => "foreign",
        }
    }
}

/// Timelines that are written when a post is made; a store that reads them from the posts has none.
pub trait FanOut: Send + Sync {
    /// Brings an entry into the timeline of everybody who follows its author: answers once everybody's
    /// shows it, at once or, of a wide author, when it is read. Begins again where a former call, in a
    /// former run too, was interrupted; doing it twice changes nothing.
    fn fan_out(&self, seq: Seq) -> Pending<()>;
}

/// The numbers of entries, where several nodes give them: they grow with time, and tell it.
pub trait EntryClock: Send + Sync {
    /// A number that no entry of this node so far exceeds, each of which has been heard of; all that come do.
    fn head(&self) -> Seq;
    /// This node gives no number that is not greater than this one.
    fn advance(&self, past: Seq);
    /// The least number of so long before.
    fn earlier(&self, seq: Seq, by: Duration) -> Seq;
    /// The least number of a time.
    fn at(&self, time: Timestamp) -> Seq;
    /// The time from one to a later one.
    fn between(&self, earlier: Seq, later: Seq) -> Duration;
}

/// What remains to be done for changes that are durable, and what was given up. Each belongs to a [`Shard`], and each
/// shard to one node at a time, its home; a database in a folder has one home for all.
pub trait Jobs: Send + Sync {
    /// This node is home of these shards from now on. Answers every delivery there that is not done, in order of
    /// `Seq`; what former homes left is finished or void when this answers, and none of them can change that.
    fn take_over(&self, shards: Vec<Shard>) -> Pending<Vec<(Seq, UserId)>>;
    /// This node is no longer home of these shards. Answers when its writes there have been answered, or are past
    /// their deadline.
    fn let_go(&self, shards: Vec<Shard>) -> Pending<()>;
    /// The entries of these shards behind a place, delivered or not, in order of `Seq`, without posts that are deleted
    /// now; they are kept for an hour. For a node that cannot hear their home. [`StorageError::Refused`] where the
    /// store has one home for all.
    fn told_since(&self, shards: Vec<Shard>, after: Seq) -> Pending<Vec<Entry>>;
    /// Finishes what nodes began in the shards of this home more than a minute ago and did not finish; answers the
    /// deliveries that are on their way by that, in no order. To be called every few seconds: it looks every ten, and
    /// again at once where it found something.
    fn tend(&self) -> Pending<Vec<(Seq, UserId)>>;
    /// Those deliveries are done.
    fn delivered(&self, seqs: Vec<Seq>) -> Pending<()>;
    /// Events that are due at `now`, oldest first.
    fn due_events(&self, now: Timestamp, limit: usize) -> Pending<Vec<EventJob>>;
    /// Those events were accepted by their sink.
    fn sent(&self, ids: Vec<u64>) -> Pending<()>;
    /// An event was not accepted: try it again at `due_at`.
    fn postpone(&self, id: u64, due_at: Timestamp) -> Pending<()>;
    /// An event is given up, for `error`: it is a dead letter now.
    fn bury(&self, id: u64, error: String, now: Timestamp) -> Pending<()>;
    /// What waits.
    fn backlog(&self) -> Pending<Backlog>;

    /// Dead letters, oldest first.
    fn dead_letters(&self, page: Page) -> Pending<Listed<DeadLetter>>;
    /// One of them.
    fn dead_letter(&self, id: u64) -> Pending<Option<DeadLetter>>;
    /// Makes a dead letter a job again, its tries counted anew; answers whether it was there.
    fn redrive(&self, id: u64, now: Timestamp) -> Pending<bool>;
    /// Forgets a dead letter; answers whether it was there.
    fn drop_letter(&self, id: u64) -> Pending<bool>;
}

/// An event to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventJob {
    /// The job.
    pub id: u64,
    /// The CloudEvent, as JSON.
    pub event: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// What waits to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Deliveries that are not done.
    pub deliveries: u64,
    /// Events that are not sent.
    pub events: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// When the oldest waiting job was made.
    pub oldest: Option<Timestamp>,
}

/// An event that was given up.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeadLetter {
    /// Its number; a redriven one keeps none.
    pub id: u64,
    /// The CloudEvent, as JSON.
    pub event: String,
    /// What its last try said.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up.
    pub buried_at: Timestamp,
}

/// A copy of a store made by itself; where the engine's own tools do that, there is none.
pub trait Backup: Send + Sync {
    /// Writes a whole copy into `file`, which must not exist, while everything goes on; the copy gets a
    /// [`StoreName`] of its own. `progress` hears pages left and pages in all.
    fn backup(&self, file: PathBuf, progress: Box<dyn Fn(u64, u64) + Send>) -> Pending<()>;
}

/// Keeping the store itself.
pub trait Upkeep: Send + Sync {
    /// Whether it can be read, and written, now.
    fn check(&self) -> Pending<()>;
    /// The newest committed entry.
    fn head(&self) -> Pending<Seq>;
    /// Removes what has expired (keys, tokens, entries past [`TIMELINE_AGE`]), a bounded slice at a
    /// time; answers how many rows went.
    fn sweep(&self, now: Timestamp) -> Pending<u64>;
    /// Ends writing: what was taken is committed, what comes later is refused.
    fn close(&self) -> Pending<()>;
}
