//! What nodes say to each other: frames, and calls with their answers, as Protocol Buffers. A later version adds fields
//! and kinds; what it does not know a node passes over (a frame) or answers as not understood (a call). This file has their shapes;
//! `reading` what they mean here.

mod chat;
mod reading;
mod room;

pub use chat::{MessageText, NotSent, PlaceText, PlacedText, SendText};
pub use room::{
    AcknowledgeText, AttachText, AttachedText, ConnectionText, EffectText, EffectsText, EndText,
    HostOverText, NodeText, PressText, PressedText, Pressing, ResetText, RoomAsking, RoomText, StatsText,
    TurnText, connection_of, room_bytes, room_of,
};

use crate::model::id::UserId;
use bytes::Bytes;
use prost::{Message, Oneof};
use uuid::Uuid;

/// Bytes of another node that make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another node said what this one does not understand")]
pub struct Garbled;

/// A frame: said, not answered.
#[derive(Clone, PartialEq, Message)]
pub struct Told {
    /// What is said; none where a later version says something new.
    #[prost(oneof = "Telling", tags = "1, 2, 3, 4, 5, 6")]
    pub what: Option<Telling>,
}

/// What a frame says.
#[derive(Clone, PartialEq, Oneof)]
pub enum Telling {
    /// An entry, from its home to a node that is interested in its author.
    #[prost(message, tag = "1")]
    Entry(EntryText),
    /// The node is interested in these authors no longer.
    #[prost(message, tag = "2")]
    Forget(Users),
    /// An event has its place in an inbox, from the inbox's home to a node where somebody listens.
    #[prost(message, tag = "3")]
    Placed(PlacedText),
    /// Effects of a room, from its home to the node of its host.
    #[prost(message, tag = "4")]
    Effects(EffectsText),
    /// A host's time is over, from the room's home to the host's node.
    #[prost(message, tag = "5")]
    HostOver(HostOverText),
    /// How a room stands, from its home to a node where somebody looks at it.
    #[prost(message, tag = "6")]
    Stats(StatsText),
}

/// A call: asked, and answered by [`Answered`].
#[derive(Clone, PartialEq, Message)]
pub struct Asked {
    /// What is asked.
    #[prost(oneof = "Asking", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14")]
    pub what: Option<Asking>,
}

/// What a call asks.
#[derive(Clone, PartialEq, Oneof)]
pub enum Asking {
    /// Of an author's home: post this.
    #[prost(message, tag = "1")]
    Publish(Publish),
    /// Of an author's home: delete this.
    #[prost(message, tag = "2")]
    Delete(Delete),
    /// Of a home: this node is interested in these authors.
    #[prost(message, tag = "3")]
    Interest(Interest),
    /// Of every node: so far has this home come. Its answer says that all frames before it were taken.
    #[prost(message, tag = "4")]
    Mark(Mark),
    /// Of every node: a follow is about to be stored.
    #[prost(message, tag = "5")]
    Expect(FollowText),
    /// Of every node: a follow was stored.
    #[prost(message, tag = "6")]
    Settle(FollowText),
    /// Of every node: a follow ended.
    #[prost(message, tag = "7")]
    Unfollow(FollowText),
    /// Of a third node: ask that node this, to which there is no link here.
    #[prost(message, tag = "8")]
    Forward(Forward),
    /// Of a node: what an operator wants of it, as its `membership` reads it.
    #[prost(bytes = "bytes", tag = "9")]
    Operate(Bytes),
    /// Of every node: these users' connections are to begin anew, for whom they follow has changed.
    #[prost(message, tag = "10")]
    Reread(Users),
    /// Of a conversation's home: send this.
    #[prost(message, tag = "11")]
    Send(SendText),
    /// Of an inbox's home: give this event its place.
    #[prost(message, tag = "12")]
    Place(PlaceText),
    /// Of a room's home: count this press.
    #[prost(message, tag = "13")]
    Press(PressText),
    /// Of a room's home: something else.
    #[prost(message, tag = "14")]
    Room(RoomText),
}

/// The answer to a call.
#[derive(Clone, PartialEq, Message)]
pub struct Answered {
    /// What is answered; none where the call was not understood.
    #[prost(oneof = "Answer", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19")]
    pub what: Option<Answer>,
}

/// What an answer says.
#[derive(Clone, PartialEq, Oneof)]
pub enum Answer {
    /// It was taken.
    #[prost(message, tag = "1")]
    Done(Nothing),
    /// This node is not the home, or not yet, or no longer: nothing was begun, unless it says so.
    #[prost(message, tag = "2")]
    NotHome(NotHome),
    /// The post was stored.
    #[prost(message, tag = "3")]
    Stored(EntryText),
    /// The key, or the request, had been used: nothing was stored.
    #[prost(message, tag = "4")]
    Repeated(Repeated),
    /// There is no such author.
    #[prost(message, tag = "5")]
    NoAuthor(Nothing),
    /// The post was deleted.
    #[prost(message, tag = "6")]
    Deleted(EntryText),
    /// There is no such post, or it is another's.
    #[prost(message, tag = "7")]
    NotDeleted(NotDeleted),
    /// The store did not do it.
    #[prost(message, tag = "8")]
    Failed(Failed),
    /// The interest is known; these entries may be missing in timelines.
    #[prost(message, tag = "9")]
    Interested(Interested),
    /// What an operator asked for.
    #[prost(bytes = "bytes", tag = "10")]
    Operated(Bytes),
    /// The message was stored.
    #[prost(message, tag = "11")]
    Sent(MessageText),
    /// The key had been used for the same: nothing was stored.
    #[prost(message, tag = "12")]
    SentBefore(MessageText),
    /// The message is refused.
    #[prost(message, tag = "13")]
    NotSent(NotSent),
    /// It was taken, and the user's connections here begin anew.
    #[prost(message, tag = "14")]
    Closed(Nothing),
    /// The press was counted, or had been.
    #[prost(message, tag = "15")]
    Pressed(PressedText),
    /// How a room stands.
    #[prost(message, tag = "16")]
    Stats(StatsText),
    /// The host is known.
    #[prost(message, tag = "17")]
    Attached(AttachedText),
    /// There is no such room.
    #[prost(message, tag = "18")]
    NoRoom(Nothing),
    /// Somebody was at the room: it was not ended.
    #[prost(message, tag = "19")]
    NotIdle(Nothing),
}

/// Nothing but that it was said.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Nothing {}

/// Not this node's.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct NotHome {
    /// Whether it may have been done all the same.
    #[prost(bool, tag = "1")]
    pub is_unclear: bool,
}

/// Users, by their ids.
#[derive(Clone, PartialEq, Message)]
pub struct Users {
    /// 16 bytes each.
    #[prost(bytes = "bytes", tag = "1")]
    pub ids: Bytes,
}

/// A post or a deletion, and its place.
#[derive(Clone, PartialEq, Message)]
pub struct EntryText {
    /// Its place.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// Its author.
    #[prost(bytes = "bytes", tag = "2")]
    pub author: Bytes,
    /// The post.
    #[prost(bytes = "bytes", tag = "3")]
    pub post: Bytes,
    /// When it was made, or deleted: milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub at: i64,
    /// What it says; none for a deletion.
    #[prost(message, optional, tag = "5")]
    pub text: Option<PostText>,
}

/// What a post says.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PostText {
    /// Its content.
    #[prost(string, tag = "1")]
    pub content: String,
    /// The author's name.
    #[prost(string, tag = "2")]
    pub author_name: String,
}

/// A post to be stored.
#[derive(Clone, PartialEq, Message)]
pub struct Publish {
    /// Its author.
    #[prost(bytes = "bytes", tag = "1")]
    pub author: Bytes,
    /// What it says, checked.
    #[prost(string, tag = "2")]
    pub content: String,
    /// The client's key.
    #[prost(message, optional, tag = "3")]
    pub key: Option<KeyText>,
    /// The same for all tries.
    #[prost(bytes = "bytes", tag = "4")]
    pub request: Bytes,
    /// Whether there may have been a try before.
    #[prost(bool, tag = "5")]
    pub is_repeat: bool,
}

/// A client's key.
#[derive(Clone, PartialEq, Message)]
pub struct KeyText {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The SHA-256 of the body.
    #[prost(bytes = "bytes", tag = "2")]
    pub body: Bytes,
}

/// A post to be deleted.
#[derive(Clone, PartialEq, Message)]
pub struct Delete {
    /// Its author.
    #[prost(bytes = "bytes", tag = "1")]
    pub author: Bytes,
    /// The post.
    #[prost(bytes = "bytes", tag = "2")]
    pub post: Bytes,
}

/// What had been stored for a key or a request.
#[derive(Clone, PartialEq, Message)]
pub struct Repeated {
    /// The post.
    #[prost(message, optional, tag = "1")]
    pub post: Option<EntryText>,
    /// The SHA-256 of the body that it came with.
    #[prost(bytes = "bytes", tag = "2")]
    pub body: Bytes,
}

/// Why a post was not deleted.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct NotDeleted {
    /// Whether it is somebody else's.
    #[prost(bool, tag = "1")]
    pub is_anothers: bool,
}

/// Why the store did not do it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Failed {
    /// In words, for a log.
    #[prost(string, tag = "1")]
    pub why: String,
    /// Whether trying again is right.
    #[prost(bool, tag = "2")]
    pub is_for_now: bool,
}

/// In whom a node is interested.
#[derive(Clone, PartialEq, Message)]
pub struct Interest {
    /// These authors.
    #[prost(message, optional, tag = "1")]
    pub authors: Option<Users>,
    /// Of these shards these, and those that were said before, are all.
    #[prost(bytes = "bytes", tag = "2")]
    pub complete: Bytes,
}

/// What a home answers to that.
#[derive(Clone, PartialEq, Message)]
pub struct Interested {
    /// Shards of those that were asked for that are not at home there.
    #[prost(bytes = "bytes", tag = "1")]
    pub not_home: Bytes,
    /// Entries of the others that may be missing in timelines.
    #[prost(uint64, repeated, tag = "2")]
    pub seqs: Vec<u64>,
    /// Their authors, in the same order.
    #[prost(message, optional, tag = "3")]
    pub authors: Option<Users>,
    /// Its clock: what comes after this is sent.
    #[prost(uint64, tag = "4")]
    pub head: u64,
}

/// How far a home has come.
#[derive(Clone, PartialEq, Message)]
pub struct Mark {
    /// The newest view for which it has begun all that it is home to.
    #[prost(uint64, tag = "1")]
    pub view: u64,
    /// Everything of its shards up to here was sent before this.
    #[prost(uint64, tag = "2")]
    pub mark: u64,
    /// Everything of its shards up to here is in every timeline.
    #[prost(uint64, tag = "3")]
    pub spread: u64,
    /// Its clock.
    #[prost(uint64, tag = "4")]
    pub head: u64,
    /// Shards of which it does not know all that the other node is interested in.
    #[prost(bytes = "bytes", tag = "5")]
    pub wanted: Bytes,
}

/// A follow, as the follower's other connections have to hear of it.
#[derive(Clone, PartialEq, Message)]
pub struct FollowText {
    /// Names it until it is settled, among those of the node that tells it.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Who follows.
    #[prost(bytes = "bytes", tag = "2")]
    pub follower: Bytes,
    /// Whom.
    #[prost(bytes = "bytes", tag = "3")]
    pub followee: Bytes,
    /// The entry after which it sees, once that is known.
    #[prost(uint64, optional, tag = "4")]
    pub since: Option<u64>,
}

/// A call to be passed on.
#[derive(Clone, PartialEq, Message)]
pub struct Forward {
    /// The node's name.
    #[prost(string, tag = "1")]
    pub to: String,
    /// The call.
    #[prost(bytes = "bytes", tag = "2")]
    pub call: Bytes,
}

impl Told {
    /// The bytes of a frame.
    #[must_use]
    pub fn encode_frame(what: Telling) -> Bytes {
        Self { what: Some(what) }.encode_to_vec().into()
    }

    /// What a frame says; none where it is of a later version.
    ///
    /// # Errors
    /// Where the bytes are none of ours.
    pub fn read(bytes: Bytes) -> Result<Option<Telling>, Garbled> {
        Self::decode(bytes).map(|told| told.what).map_err(|_| Garbled)
    }
}

impl Asked {
    /// The bytes of a call.
    #[must_use]
    pub fn encode_call(what: Asking) -> Bytes {
        Self { what: Some(what) }.encode_to_vec().into()
    }

    /// What a call asks; none where it is of a later version.
    ///
    /// # Errors
    /// Where the bytes are none of ours.
    pub fn read(bytes: Bytes) -> Result<Option<Asking>, Garbled> {
        Self::decode(bytes).map(|asked| asked.what).map_err(|_| Garbled)
    }
}

impl Answered {
    /// The bytes of an answer.
    #[must_use]
    pub fn encode_answer(what: Option<Answer>) -> Bytes {
        Self { what }.encode_to_vec().into()
    }

    /// What was answered; none where the other node did not understand.
    ///
    /// # Errors
    /// Where the bytes are none of ours.
    pub fn read(bytes: Bytes) -> Result<Option<Answer>, Garbled> {
        Self::decode(bytes).map(|answered| answered.what).map_err(|_| Garbled)
    }
}

impl Users {
    /// Those users.
    #[must_use]
    pub fn of(users: &[UserId]) -> Self {
        Self { ids: users.iter().flat_map(|user| *user.0.as_bytes()).collect() }
    }

    /// Who they are.
    pub fn users(&self) -> impl Iterator<Item = UserId> + '_ {
        self.ids.as_chunks::<16>().0.iter().map(|id| UserId(Uuid::from_bytes(*id)))
    }
}

/// The bytes of an id.
#[must_use]
pub fn id_bytes(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

/// A user by the bytes of its id.
///
/// # Errors
/// Where they are none.
pub fn user_of(bytes: &[u8]) -> Result<UserId, Garbled> {
    reading::uuid_of(bytes).map(UserId)
}

#[cfg(test)]
mod tests;
