//! Conversations and inboxes. Who takes part and the lists are in `conversations`, messages in `messages`, what remains to
//! be placed in `talks`, inboxes in `inboxes`.
//!
//! The numbers of messages and the places in inboxes are claimed by lightweight transactions, a row each: of two homes that
//! act at once neither gives a number again. All that is remembered here only saves a reading.

mod conversations;
mod counts;
mod inboxes;
mod messages;
mod talks;

use super::Store;
use super::cql::Cql;
use super::turns::Turns;
use crate::model::chat::{Conversation, ConversationView, Message, MessageEvent};
use crate::model::id::{ConversationId, MessageId, UserId};
use crate::model::shard::Shard;
use crate::storage::chats::{
    ConversationPlace, Conversing, InboxPage, InboxReach, Marking, MessageAppended, NewConversation,
    NewMessage, Placement, ToPlace,
};
use crate::storage::{Pending, StorageError};
pub(super) use counts::Counts;
use messages::Written;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;
use talks::Talks;
use tokio::sync::broadcast;

/// Conversations that are remembered: who takes part does not change.
const KNOWN: u64 = 10_000;
/// Messages whose events are being placed that are remembered.
const WRITTEN: u64 = 10_000;
/// Inboxes whose newest place is remembered.
const INBOXES: u64 = 100_000;
/// How long: another home may give places meanwhile, whose rows must still be there when this one goes on.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Rows that one call reads or writes at once.
const AT_ONCE: usize = 32;

/// What chat keeps in this process.
pub(super) struct Chats {
    conversations: conversations::Statements,
    messages: messages::Statements,
    placing: talks::Statements,
    inboxes: inboxes::Statements,
    known: Cache<ConversationId, Arc<Conversation>>,
    written: Cache<(ConversationId, MessageId), Arc<Written>>,
    newest_places: Cache<UserId, u64>,
    pub(super) talks: Talks,
    /// Appends to one conversation are one after the other.
    appends: Turns,
    /// So are those that take a place in one inbox.
    places: Turns,
}

impl Chats {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self, StorageError> {
        let (conversations, messages, placing, inboxes) = tokio::try_join!(
            conversations::Statements::prepare(cql),
            messages::Statements::prepare(cql),
            talks::Statements::prepare(cql),
            inboxes::Statements::prepare(cql),
        )?;
        Ok(Self {
            conversations,
            messages,
            placing,
            inboxes,
            known: Cache::new(KNOWN),
            written: Cache::new(WRITTEN),
            newest_places: Cache::builder().max_capacity(INBOXES).time_to_live(REMEMBERED).build(),
            talks: Talks::default(),
            appends: Turns::default(),
            places: Turns::default(),
        })
    }
}

impl crate::storage::chats::Chats for Store {
    fn converse(&self, new: NewConversation) -> Pending<Conversing> {
        self.change(move |inner| async move { inner.converse(&new).await })
    }

    fn conversation(&self, id: ConversationId, user: UserId) -> Pending<Option<Conversation>> {
        self.read(move |inner| async move {
            let known = inner.conversation_of(id, user).await?;
            Ok(known.map(|known| Conversation::clone(&known)))
        })
    }

    fn conversations(
        &self,
        user: UserId,
        behind: Option<ConversationPlace>,
        limit: usize,
    ) -> Pending<Vec<ConversationView>> {
        self.read(move |inner| async move { inner.conversations(user, behind, limit).await })
    }

    fn mark_read(&self, id: ConversationId, user: UserId, message: MessageId) -> Pending<Marking> {
        self.change(move |inner| async move { inner.mark_read(id, user, message).await })
    }

    fn append_message(&self, new: NewMessage) -> Pending<MessageAppended> {
        self.change(move |inner| async move { inner.append_message(&new).await })
    }

    fn history(
        &self,
        id: ConversationId,
        user: UserId,
        before: Option<u64>,
        limit: usize,
    ) -> Pending<Option<Vec<Message>>> {
        self.read(move |inner| async move { inner.history(id, user, before, limit).await })
    }

    fn place(&self, user: UserId, events: Vec<MessageEvent>, is_repeat: bool) -> Pending<Vec<u64>> {
        self.change(move |inner| async move { inner.place(user, &events, is_repeat).await })
    }

    fn placed(&self, id: ConversationId, through: u64) -> Pending<()> {
        self.change(move |inner| async move { inner.placed(id, through).await })
    }

    fn unplaced(&self, shards: Vec<Shard>) -> Pending<Vec<ConversationId>> {
        self.read(move |inner| async move { inner.unplaced(shards).await })
    }

    fn to_place(&self, id: ConversationId) -> Pending<ToPlace> {
        self.read(move |inner| async move { inner.to_place(id).await })
    }

    fn placements(&self) -> Option<broadcast::Receiver<Placement>> {
        None
    }

    fn inbox(&self, user: UserId, after: u64, limit: usize) -> Pending<InboxPage> {
        self.read(move |inner| async move { inner.inbox(user, after, limit).await })
    }

    fn reach(&self, user: UserId) -> Pending<InboxReach> {
        self.read(move |inner| async move { inner.inbox_reach(user).await })
    }

    fn seen(&self, marks: Vec<(UserId, u64)>) -> Pending<()> {
        self.change(move |inner| async move { inner.seen(&marks).await })
    }
}

/// A number as CQL counts.
pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as it was counted.
pub(super) fn number(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}

/// A number of rows.
fn rows(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

/// Rows of one partition of messages, or of an inbox: number 1 is the first of bucket 0.
const BUCKET: u64 = 10_000;

/// The bucket of a number.
pub(super) fn bucket_of(number: u64) -> i32 {
    i32::try_from(number.max(1).saturating_sub(1) / BUCKET).unwrap_or(i32::MAX)
}

/// The greatest number of a bucket.
fn last_of(bucket: i32) -> u64 {
    (u64::try_from(bucket).unwrap_or(0) + 1) * BUCKET
}
