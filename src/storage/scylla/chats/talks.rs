//! `Talks`: what this process remembers of conversations that it is home of, and which of them may have messages whose
//! events have no places yet.
//!
//! Before the first such message a note is written, by which a later home finds the conversation; a conversation that goes on
//! needs no other. A note is written USING TIMESTAMP the number of the message that comes, and removed USING TIMESTAMP the
//! number up to which all is placed: so no removal, however late, takes away the note of a message that came later. It is
//! removed once the conversation has been quiet for a minute.
//!
//! What is remembered of a note holds as long as nobody else is home: it is forgotten when a shard comes or goes, and when a
//! number is found to be taken.

use super::counts::Counts;
use super::{AT_ONCE, bucket_of, column, last_of, number};
use crate::model::chat::MessageEvent;
use crate::model::id::{ConversationId, MessageId};
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use crate::storage::chats::ToPlace;
use crate::storage::scylla::Inner;
use crate::storage::scylla::cql::{WRITE_DEADLINE, statements};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

/// Nothing was sent for so long: its note can go.
const QUIET: Duration = Duration::from_secs(60);
/// What is remembered of a conversation goes after so long without a call.
const IDLE: Duration = Duration::from_secs(600);

statements! {
    /// What is asked of what remains to be placed.
    Statements {
        note: Write, "INSERT INTO conversations_unplaced (shard, conversation) VALUES (?, ?) USING TIMESTAMP ?";
        remove_note: Write, "DELETE FROM conversations_unplaced USING TIMESTAMP ? WHERE shard = ? AND conversation = ?";
        notes: Read, "SELECT conversation FROM conversations_unplaced WHERE shard = ?";
        placed: Read, "SELECT through FROM conversation_placed WHERE conversation = ?";
        place: Write, "UPDATE conversation_placed USING TIMESTAMP ? SET through = ? WHERE conversation = ?";
        behind: Read, "SELECT number, id FROM messages WHERE conversation = ? AND bucket = ? AND number > ? ORDER BY number ASC";
    }
}

/// The newest message of a conversation, as the next one needs it.
#[derive(Clone, Debug)]
pub(super) struct Newest {
    /// Its number; 0 where there is none.
    pub(super) number: u64,
    pub(super) id: Option<MessageId>,
    pub(super) counts: Counts,
}

/// All conversations that were called for lately.
#[derive(Default)]
pub(in crate::storage::scylla) struct Talks {
    // A std mutex: it is held for a few instructions, never across an await.
    talks: Mutex<HashMap<ConversationId, Talk>>,
    appended: Notify,
}

struct Talk {
    newest: Option<Newest>,
    /// There is a note, and nobody else has removed it.
    is_noted: bool,
    /// There may be one: it is to be removed some time.
    may_be_noted: bool,
    /// All events up to there have their places.
    placed: u64,
    /// Appends under way.
    under_way: usize,
    used_at: Timestamp,
}

/// An append under way.
pub(super) struct UnderWay<'a> {
    talks: &'a Talks,
    id: ConversationId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(talk) = self.talks.lock().get_mut(&self.id) {
            talk.under_way = talk.under_way.saturating_sub(1);
        }
        self.talks.appended.notify_waiters();
    }
}

impl Talk {
    /// What the newest message is has been read: others may have stored it, and removed a note.
    fn found(&mut self, newest: Newest) {
        (self.newest, self.is_noted) = (Some(newest), false);
    }
}

impl Talks {
    /// An append begins.
    pub(super) fn enter(&self, id: ConversationId) -> UnderWay<'_> {
        self.with(id, |talk| talk.under_way += 1);
        UnderWay { talks: self, id }
    }

    pub(super) fn newest(&self, id: ConversationId) -> Option<Newest> {
        self.lock().get(&id)?.newest.clone()
    }

    /// This process has stored the next message.
    pub(super) fn stored(&self, id: ConversationId, newest: Newest) {
        self.with(id, |talk| talk.newest = Some(newest));
    }

    /// It is not known what the newest message is.
    pub(super) fn doubt(&self, id: ConversationId) {
        self.with(id, |talk| talk.newest = None);
    }

    /// Forgets conversations of shards whose home changes.
    pub(in crate::storage::scylla) fn forget(&self, is_such: impl Fn(Shard) -> bool) {
        let mut talks = self.lock();
        talks.retain(|id, talk| talk.under_way > 0 || !is_such(Shard::of_conversation(*id)));
        let such = talks.iter_mut().filter(|(id, _)| is_such(Shard::of_conversation(**id)));
        such.for_each(|(_, talk)| (talk.newest, talk.is_noted) = (None, false));
    }

    /// Waits until no append to such a conversation is under way, no longer than a write may take.
    pub(in crate::storage::scylla) async fn wait_until_none(&self, is_such: impl Fn(Shard) -> bool) {
        let none = async {
            loop {
                let appended = self.appended.notified();
                let is_under_way = |(id, talk): (&ConversationId, &Talk)| {
                    talk.under_way > 0 && is_such(Shard::of_conversation(*id))
                };
                if !self.lock().iter().any(is_under_way) {
                    return;
                }
                appended.await;
            }
        };
        // Those that take longer are decided by their numbers' rows.
        let _ = tokio::time::timeout(WRITE_DEADLINE, none).await;
    }

    /// Forgets the idle; answers those that may have a note and have been quiet, with how far they were placed.
    fn retire(&self, now: Timestamp) -> Vec<(ConversationId, u64, Option<u64>)> {
        let mut talks = self.lock();
        let is_used = |talk: &Talk, within: Duration| talk.under_way > 0 || talk.used_at > now.before(within);
        talks.retain(|_, talk| is_used(talk, IDLE) || talk.may_be_noted);
        let quiet = talks.iter().filter(|(_, talk)| talk.may_be_noted && !is_used(talk, QUIET));
        let newest = |talk: &Talk| talk.newest.as_ref().map(|newest| newest.number);
        quiet.map(|(id, talk)| (*id, talk.placed, newest(talk))).collect()
    }

    /// The note goes, unless an append has begun; the next one writes another.
    fn unnote(&self, id: ConversationId) -> bool {
        let mut talks = self.lock();
        let Some(talk) = talks.get_mut(&id).filter(|talk| talk.under_way == 0) else { return false };
        (talk.is_noted, talk.may_be_noted) = (false, false);
        true
    }

    fn with<T>(&self, id: ConversationId, change: impl FnOnce(&mut Talk) -> T) -> T {
        let mut talks = self.lock();
        let now = Timestamp::now();
        let talk = talks.entry(id).or_insert_with(|| Talk {
            newest: None,
            is_noted: false,
            may_be_noted: false,
            placed: 0,
            under_way: 0,
            used_at: now,
        });
        talk.used_at = now;
        change(talk)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConversationId, Talk>> {
        self.talks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Notes that message `coming`, and what follows it, may have no places yet. To be called by an append under way.
    pub(super) async fn note(&self, id: ConversationId, coming: u64) -> Result<(), StorageError> {
        if self.chats.talks.with(id, |talk| talk.is_noted) {
            return Ok(());
        }
        let values = (shard(id), id.0, column(coming));
        self.cql.write(&self.chats.placing.note, values).await?;
        self.chats.talks.with(id, |talk| (talk.is_noted, talk.may_be_noted) = (true, true));
        Ok(())
    }

    /// The newest message of a conversation, read anew.
    pub(super) async fn find_newest(
        &self,
        id: ConversationId,
        participants: usize,
    ) -> Result<Newest, StorageError> {
        let least = self.placed_through(id).await?;
        let found = self.newest_message(&self.chats.messages.newest, id, least).await?;
        let newest = match found {
            Some(written) => Newest { number: written.number, id: Some(written.id), counts: written.counts },
            None => Newest { number: 0, id: None, counts: Counts::none(participants) },
        };
        self.chats.talks.with(id, |talk| talk.found(newest.clone()));
        Ok(newest)
    }

    /// Up to which message all events have their places.
    pub(super) async fn placed_through(&self, id: ConversationId) -> Result<u64, StorageError> {
        let row: Option<(Option<i64>,)> = self.cql.first(&self.chats.placing.placed, (id.0,)).await?;
        let through = row.and_then(|(through,)| through).map_or(0, number);
        Ok(self.chats.talks.with(id, |talk| {
            talk.placed = talk.placed.max(through);
            talk.placed
        }))
    }

    /// Whether that message's events are known to have their places.
    pub(super) async fn is_placed(&self, id: ConversationId, number: u64) -> Result<bool, StorageError> {
        let known = self.chats.talks.with(id, |talk| talk.placed);
        Ok(known >= number || self.placed_through(id).await? >= number)
    }

    pub(in crate::storage::scylla) async fn placed(
        &self,
        id: ConversationId,
        through: u64,
    ) -> Result<(), StorageError> {
        let number = column(through);
        self.cql.write(&self.chats.placing.place, (number, number, id.0)).await?;
        self.chats.talks.with(id, |talk| talk.placed = talk.placed.max(through));
        Ok(())
    }

    pub(in crate::storage::scylla) async fn unplaced(
        &self,
        shards: Vec<Shard>,
    ) -> Result<Vec<ConversationId>, StorageError> {
        let notes: Vec<Vec<(Uuid,)>> = iter(shards)
            .map(|shard| self.cql.rows(&self.chats.placing.notes, (i32::from(shard.0),)))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(notes.into_iter().flatten().map(|(id,)| ConversationId(id)).collect())
    }

    pub(in crate::storage::scylla) async fn to_place(
        &self,
        id: ConversationId,
    ) -> Result<ToPlace, StorageError> {
        let Some(known) = self.known_conversation(id).await? else {
            return Ok(ToPlace::default());
        };
        let through = self.placed_through(id).await?;
        // At LOCAL_SERIAL: what was on its way is there then, or never will be.
        let newest = self.newest_message(&self.chats.messages.newest, id, through).await?;
        let newest = newest.map_or(0, |written| written.number);
        // There may be a note that nobody remembers.
        self.chats.talks.with(id, |talk| talk.may_be_noted = true);
        let mut events = Vec::new();
        let mut behind = through;
        while behind < newest {
            let bucket = bucket_of(behind + 1);
            let values = (id.0, bucket, column(behind));
            let rows: Vec<(i64, Uuid)> = self.cql.rows(&self.chats.placing.behind, values).await?;
            events.extend(rows.into_iter().map(|(place, message)| {
                (number(place), MessageEvent { message: MessageId(message), conversation: id })
            }));
            behind = last_of(bucket);
        }
        Ok(ToPlace { participants: known.participants.clone(), through, events })
    }

    /// Removes the notes of conversations that are quiet and wholly placed; forgets the idle.
    pub(in crate::storage::scylla) async fn tidy_talks(&self, now: Timestamp) -> Result<(), StorageError> {
        for (id, placed, newest) in self.chats.talks.retire(now) {
            let newest = match newest {
                Some(newest) => newest,
                None => {
                    let found = self.newest_message(&self.chats.messages.newest, id, placed).await?;
                    found.map_or(0, |written| written.number)
                }
            };
            if newest <= placed && self.chats.talks.unnote(id) {
                let values = (column(placed), shard(id), id.0);
                self.cql.write(&self.chats.placing.remove_note, values).await?;
            }
        }
        Ok(())
    }
}

fn shard(id: ConversationId) -> i32 {
    i32::from(Shard::of_conversation(id).0)
}
