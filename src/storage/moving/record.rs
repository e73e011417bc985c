//! The records: what is moved of each kind, by the ids that clients know.
//!
//! A record's [`sealed`](Record::sealed) form is what must be the same in both stores: without the numbers by which
//! each store keeps its own order.

use super::chat::{InboxEvent, MovedChatKey, MovedConversation, MovedInbox, MovedMember, MovedMessage};
use super::room::{MovedEffect, MovedPresses, MovedRoom};
use crate::model::cursor::Seq;
use crate::model::id::{FollowId, LikeId, LoginId, PostId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::TokenHash;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt;

/// A kind of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// [`MovedUser`]
    Users,
    /// [`MovedOutsider`]
    Outsiders,
    /// [`MovedLogin`]
    Logins,
    /// [`EndedLogin`]
    Ended,
    /// [`MovedToken`]
    Tokens,
    /// [`MovedKey`]
    Keys,
    /// [`MovedPost`]
    Posts,
    /// [`Liked`]
    Likes,
    /// [`MovedFollow`]
    Follows,
    /// [`MovedConversation`]
    Conversations,
    /// [`MovedMember`]
    Members,
    /// [`MovedMessage`]
    Messages,
    /// [`MovedChatKey`]
    ChatKeys,
    /// [`MovedInbox`]
    Inboxes,
    /// [`InboxEvent`]
    InboxEvents,
    /// [`MovedRoom`]
    Rooms,
    /// [`MovedEffect`]
    Effects,
    /// [`MovedPresses`]
    Presses,
    /// [`MovedAuthor`]
    Authors,
    /// [`WaitingEvent`]
    Events,
    /// [`MovedLetter`]
    Letters,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Users,
        Self::Outsiders,
        Self::Logins,
        Self::Ended,
        Self::Tokens,
        Self::Keys,
        Self::Posts,
        Self::Likes,
        Self::Follows,
        Self::Conversations,
        Self::Members,
        Self::Messages,
        Self::ChatKeys,
        Self::Inboxes,
        Self::InboxEvents,
        Self::Rooms,
        Self::Effects,
        Self::Presses,
        Self::Authors,
        Self::Events,
        Self::Letters,
    ];

    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Outsiders => "outside users",
            Self::Logins => "logins",
            Self::Ended => "ended logins",
            Self::Tokens => "refresh tokens",
            Self::Keys => "idempotency keys",
            Self::Posts => "posts",
            Self::Likes => "likes",
            Self::Follows => "follows",
            Self::Conversations => "conversations",
            Self::Members => "conversation members",
            Self::Messages => "messages",
            Self::ChatKeys => "chat keys",
            Self::Inboxes => "inboxes",
            Self::InboxEvents => "inbox events",
            Self::Rooms => "rooms",
            Self::Effects => "effects",
            Self::Presses => "groups of presses",
            Self::Authors => "counts",
            Self::Events => "events",
            Self::Letters => "dead letters",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One record.
#[derive(Clone, Debug)]
pub enum Record {
    /// Of [`Kind::Users`].
    User(MovedUser),
    /// Of [`Kind::Outsiders`].
    Outsider(MovedOutsider),
    /// Of [`Kind::Logins`].
    Login(MovedLogin),
    /// Of [`Kind::Ended`].
    Ended(EndedLogin),
    /// Of [`Kind::Tokens`].
    Token(MovedToken),
    /// Of [`Kind::Keys`].
    Key(MovedKey),
    /// Of [`Kind::Posts`].
    Post(MovedPost),
    /// Of [`Kind::Likes`].
    Like(Liked),
    /// Of [`Kind::Follows`].
    Follow(MovedFollow),
    /// Of [`Kind::Conversations`].
    Conversation(MovedConversation),
    /// Of [`Kind::Members`].
    Member(MovedMember),
    /// Of [`Kind::Messages`].
    Message(MovedMessage),
    /// Of [`Kind::ChatKeys`].
    ChatKey(MovedChatKey),
    /// Of [`Kind::Inboxes`].
    Inbox(MovedInbox),
    /// Of [`Kind::InboxEvents`].
    InboxEvent(InboxEvent),
    /// Of [`Kind::Rooms`].
    Room(MovedRoom),
    /// Of [`Kind::Effects`].
    Effect(MovedEffect),
    /// Of [`Kind::Presses`].
    Presses(MovedPresses),
    /// Of [`Kind::Authors`].
    Author(MovedAuthor),
    /// Of [`Kind::Events`].
    Event(WaitingEvent),
    /// Of [`Kind::Letters`].
    Letter(MovedLetter),
}

/// A user.
#[derive(Clone)]
pub struct MovedUser {
    /// Its id.
    pub id: UserId,
    /// Its address, as it was given.
    pub email: Option<String>,
    /// Its name, as it was given.
    pub username: String,
    /// Its password's hash.
    pub password_hash: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its name was last changed.
    pub updated_at: Option<Timestamp>,
}

impl fmt::Debug for MovedUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Addresses and hashes belong in no log.
        f.debug_struct("MovedUser").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Who an outside issuer's subject is.
#[derive(Clone, Debug)]
pub struct MovedOutsider {
    /// The issuer.
    pub issuer: String,
    /// Its subject.
    pub subject: String,
    /// The user.
    pub user: UserId,
}

/// A login that goes on.
#[derive(Clone, Copy, Debug)]
pub struct MovedLogin {
    /// Its id.
    pub id: LoginId,
    /// Whose it is.
    pub user: UserId,
    /// When it began.
    pub created_at: Timestamp,
    /// When the last of its tokens expires.
    pub expires_at: Timestamp,
}

/// A login that was ended before it expired, wherever it began.
#[derive(Clone, Copy, Debug)]
pub struct EndedLogin {
    /// Its id.
    pub id: LoginId,
    /// When the last of its tokens would have expired.
    pub expires_at: Timestamp,
}

/// A refresh token of a login that goes on.
#[derive(Clone, Copy, Debug)]
pub struct MovedToken {
    /// Its SHA-256.
    pub hash: TokenHash,
    /// Its login.
    pub login: LoginId,
    /// Whose that is.
    pub user: UserId,
    /// Until when it can be spent.
    pub expires_at: Timestamp,
    /// Whether it was.
    pub is_spent: bool,
}

/// What a key was used for.
#[derive(Clone, Debug)]
pub struct MovedKey {
    /// Whose key.
    pub user: UserId,
    /// The key.
    pub key: String,
    /// The SHA-256 of the body that it came with.
    pub body: TokenHash,
    /// The post that was made.
    pub post: PostId,
    /// What that said.
    pub content: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A post that is not deleted.
#[derive(Clone, Debug)]
pub struct MovedPost {
    /// Its id.
    pub id: PostId,
    /// Who wrote it.
    pub author: UserId,
    /// What it says.
    pub content: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its number in its store.
    pub number: Seq,
    /// How many likes its store shows.
    pub likes: u64,
}

/// A like of a post that is not deleted.
#[derive(Clone, Copy, Debug)]
pub struct Liked {
    /// Its id.
    pub id: LikeId,
    /// Who likes.
    pub user: UserId,
    /// What.
    pub post: PostId,
    /// Since when.
    pub created_at: Timestamp,
}

/// A follow.
#[derive(Clone, Copy, Debug)]
pub struct MovedFollow {
    /// Its id.
    pub id: FollowId,
    /// Who follows.
    pub follower: UserId,
    /// Whom.
    pub followee: UserId,
    /// Since when.
    pub created_at: Timestamp,
    /// Where it stands in lists: the greater, the newer.
    pub place: u64,
    /// From where on it shows the followee's posts.
    pub sees_from: SeesFrom,
    /// How many follow the followee.
    pub crowd: u64,
}

/// From where on a follow shows posts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeesFrom {
    /// All of them.
    All,
    /// From this one.
    Post(PostId),
    /// From this number, where numbers are kept ([`super::Numbering::Stamped`]).
    Number(Seq),
    /// None of those that there are.
    New,
}

/// What is counted of a user, and what its next post follows.
#[derive(Clone, Copy, Debug)]
pub struct MovedAuthor {
    /// The user.
    pub id: UserId,
    /// Its newest post, deleted or not.
    pub newest: Option<PostId>,
    /// Posts that are not deleted.
    pub posts: u64,
    /// Who follows it.
    pub followers: u64,
    /// Whom it follows.
    pub following: u64,
}

/// An event that is not sent.
#[derive(Clone, Debug)]
pub struct WaitingEvent {
    /// Its number in its store.
    pub number: u64,
    /// The CloudEvent, as JSON.
    pub event: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was queued.
    pub made_at: Timestamp,
    /// When it is to be tried.
    pub due_at: Timestamp,
}

/// An event that was given up.
#[derive(Clone, Debug)]
pub struct MovedLetter {
    /// Its number in its store.
    pub number: u64,
    /// The CloudEvent, as JSON.
    pub event: String,
    /// What its last try said.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up.
    pub buried_at: Timestamp,
}

impl Record {
    /// What must be the same in both stores.
    #[must_use]
    pub fn sealed(&self) -> String {
        let sealed = match self {
            Self::User(user) => json!([
                user.id,
                user.email,
                user.username,
                user.password_hash,
                user.created_at.millis(),
                user.updated_at.map(Timestamp::millis)
            ]),
            Self::Outsider(outsider) => json!([outsider.issuer, outsider.subject, outsider.user]),
            Self::Login(login) => {
                json!([login.id, login.user, login.created_at.millis(), login.expires_at.millis()])
            }
            Self::Ended(login) => json!([login.id, login.expires_at.millis()]),
            Self::Token(token) => {
                json!([token.hash, token.login, token.user, token.expires_at.millis(), token.is_spent])
            }
            Self::Key(key) => {
                json!([key.user, key.key, key.body, key.post, key.content, key.created_at.millis()])
            }
            Self::Post(post) => {
                json!([post.id, post.author, post.content, post.created_at.millis(), post.likes])
            }
            Self::Like(like) => json!([like.id, like.user, like.post, like.created_at.millis()]),
            Self::Follow(follow) => {
                json!([follow.id, follow.follower, follow.followee, follow.created_at.millis(), follow.place])
            }
            Self::Conversation(record) => record.sealed(),
            Self::Member(record) => record.sealed(),
            Self::Message(record) => record.sealed(),
            Self::ChatKey(record) => record.sealed(),
            Self::Inbox(record) => record.sealed(),
            Self::InboxEvent(record) => record.sealed(),
            Self::Room(record) => record.sealed(),
            Self::Effect(record) => record.sealed(),
            Self::Presses(record) => record.sealed(),
            Self::Author(author) => {
                json!([author.id, author.newest, author.posts, author.followers, author.following])
            }
            Self::Event(event) => json!([event.event, event.attempts, event.due_at.millis()]),
            Self::Letter(letter) => {
                json!([letter.event, letter.error, letter.attempts, letter.buried_at.millis()])
            }
        };
        sealed.to_string()
    }
}
