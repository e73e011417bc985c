//! Posts, deletions and likes, as a store keeps them; and entries, which are its order of posts and deletions.

use super::{Listed, Page, Pending, TokenHash};
use crate::model::cursor::Seq;
use crate::model::id::{PostId, UserId};
use crate::model::post::{Content, Post, PostView};
use crate::model::social::Like;
use crate::model::timestamp::Timestamp;
use uuid::Uuid;

/// Posts, deletions and likes. Each post and each deletion is an entry with a [`Seq`].
pub trait Posts: Send + Sync {
    /// The author's newest id, deleted posts included; the next must be greater. Takes its place in the
    /// author's order: it counts every append that was called before.
    fn newest_id(&self, author: UserId) -> Pending<Option<PostId>>;
    /// Stores a post, its entry, the job of its delivery and, with a key, the key: all or nothing.
    fn append(&self, post: NewPost) -> Pending<Appended>;
    /// What a key, at most [`KEY_AGE`](super::KEY_AGE) old, was used for.
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
