//! Chat, out of a keyspace and into one. What was never answered (a conversation whose making was cut off, a key without
//! its message) stays behind.

use super::ring::{self, Arc as Part};
use super::{MOVED_AT, Parts};
use crate::model::chat::MessageEvent;
use crate::model::id::{ConversationId, MessageId, UserId};
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::chats::INBOX_AGE;
use crate::storage::moving::{
    InboxEvent, MovedChatKey, MovedConversation, MovedInbox, MovedMember, MovedMessage, Portion, Record,
};
use crate::storage::scylla::chats::{Counts, bucket_of, column, number};
use crate::storage::scylla::cql::statements;
use crate::storage::scylla::logins::seconds_left;
use crate::storage::{KEY_AGE, StorageError};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use scylla::deserialize::row::DeserializeRow;
use scylla::statement::prepared::PreparedStatement;
use std::collections::HashSet;
use uuid::Uuid;

/// Rows of a portion, where a partition has one.
const ROWS: i32 = 500;
/// Partitions of a portion, where a partition has many rows.
const PARTITIONS: i32 = 16;
/// Rows of each of them at most; the rest comes with the next portion.
const SLICE: i32 = 500;
/// Reads that are under way at once.
const AT_ONCE: usize = 32;

statements! {
    /// What is read around the ring, and what only moving in writes.
    Statements {
        conversations: Read, "SELECT token(set_key), set_key, id, participants, created_at FROM conversation_keys WHERE token(set_key) > ? LIMIT ?";
        members: Read, "SELECT DISTINCT token(user), user FROM conversations_by_user WHERE token(user) > ? LIMIT ?";
        members_of: Read, "SELECT conversation, number, at, sent, read_number, read_own FROM conversations_by_user WHERE user = ?";
        messages: Read, "SELECT DISTINCT token(conversation, bucket), conversation, bucket FROM messages WHERE token(conversation, bucket) > ? LIMIT ?";
        messages_of: Read, "SELECT conversation, number, id, sender, body, created_at, counts FROM messages WHERE conversation = ? AND bucket = ? AND number > ? ORDER BY number ASC LIMIT ?";
        keys: Read, "SELECT token(user, key), user, key, digest, conversation, number, id, created_at FROM chat_keys WHERE token(user, key) > ? LIMIT ?";
        inboxes: Read, "SELECT token(user), user, seen FROM inboxes WHERE token(user) > ? LIMIT ?";
        events: Read, "SELECT DISTINCT token(user, bucket), user, bucket FROM inbox WHERE token(user, bucket) > ? LIMIT ?";
        events_of: Read, "SELECT user, place, message, conversation, TTL(message) FROM inbox WHERE user = ? AND bucket = ? AND place > ? ORDER BY place ASC LIMIT ?";
        conversation: Write, "INSERT INTO conversation_keys (set_key, id, participants, created_at) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
        message: WriteMany, "INSERT INTO messages (conversation, bucket, number, id, sender, body, created_at, counts) VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
        key: WriteMany, "INSERT INTO chat_keys (user, key, digest, conversation, number, id, created_at) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?";
        listed: WriteMany, "UPDATE conversations_by_user USING TIMESTAMP ? SET number = ?, at = ?, sent = ? WHERE user = ? AND conversation = ?";
        read: WriteMany, "UPDATE conversations_by_user USING TIMESTAMP ? SET read_number = ?, read_own = ? WHERE user = ? AND conversation = ?";
        inbox: WriteMany, "UPDATE inboxes USING TIMESTAMP ? SET reserved = ?, reserved_at = 0 WHERE user = ?";
        event: WriteMany, "INSERT INTO inbox (user, bucket, place, message, conversation) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?";
    }
}

type ConversationRow = (i64, Vec<u8>, Uuid, Vec<Uuid>, i64);
type MemberRow = (Uuid, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>);
type MessageRow = (Uuid, i64, Uuid, Uuid, String, i64, Vec<u8>);
type KeyRow = (i64, Uuid, String, Vec<u8>, Uuid, i64, Uuid, i64);
type EventRow = (Uuid, i64, Uuid, Uuid, Option<i32>);

fn hash(bytes: Vec<u8>) -> Result<[u8; 32], StorageError> {
    bytes.try_into().map_err(|_| StorageError::Refused("a hash that is none".to_owned()))
}

impl Parts {
    /// Gives every event its places that has none yet: what is moved is placed.
    pub(super) async fn place_all(&self) -> Result<(), StorageError> {
        let inner = self.inner();
        for id in inner.unplaced(Shard::all().collect()).await? {
            let left = inner.to_place(id).await?;
            let Some((through, _)) = left.events.last().copied() else { continue };
            let events: Vec<MessageEvent> = left.events.into_iter().map(|(_, event)| event).collect();
            for user in &left.participants {
                inner.place(*user, &events, true).await?;
            }
            inner.placed(id, through).await?;
        }
        Ok(())
    }

    pub(super) async fn conversations(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        let inner = self.inner();
        let token = |row: &ConversationRow| row.0;
        let mut part: Part<ConversationRow> =
            ring::behind(&inner.cql, &self.chat.conversations, after, ROWS, token).await?;
        let ids: HashSet<ConversationId> = part.rows.iter().map(|row| ConversationId(row.2)).collect();
        let made = self.made_of(ids).await?;
        let mut records = Vec::with_capacity(part.rows.len());
        for (_, key, id, participants, created_at) in std::mem::take(&mut part.rows) {
            let id = ConversationId(id);
            if made.contains(&id) {
                let participants = participants.into_iter().map(UserId).collect();
                let (key, created_at) = (hash(key)?, Timestamp::from_millis(created_at));
                let made = MovedConversation { id, key, participants, created_at };
                records.push(Record::Conversation(made));
            }
        }
        Ok(Portion { records, next: part.place(), share: part.share() })
    }

    pub(super) async fn members(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        let cql = &self.inner().cql;
        let mut part: Part<(i64, Uuid)> =
            ring::behind(cql, &self.chat.members, after, PARTITIONS, |row: &(i64, Uuid)| row.0).await?;
        let read: Vec<(Uuid, Vec<MemberRow>)> = iter(std::mem::take(&mut part.rows))
            .map(|(_, user)| async move {
                let rows = cql.rows(&self.chat.members_of, (user,)).await?;
                Ok::<_, StorageError>((user, rows))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut ids = HashSet::new();
        for (_, rows) in &read {
            ids.extend(rows.iter().map(|row| ConversationId(row.0)));
        }
        let made = self.made_of(ids).await?;
        let rows = read.into_iter().flat_map(|(user, rows)| rows.into_iter().map(move |row| (user, row)));
        let count = |column: Option<i64>| column.map_or(0, number);
        let members =
            rows.map(|(user, (conversation, newest, at, sent, read_number, read_own))| MovedMember {
                user: UserId(user),
                conversation: ConversationId(conversation),
                number: count(newest),
                at: newest.and(at).map(Timestamp::from_millis),
                sent: count(sent),
                read_number: count(read_number),
                read_own: count(read_own),
            });
        let members = members.filter(|member| made.contains(&member.conversation)).map(Record::Member);
        let records = members.collect();
        Ok(Portion { records, next: part.place(), share: part.share() })
    }

    /// Those of conversations that were made.
    async fn made_of(&self, ids: HashSet<ConversationId>) -> Result<HashSet<ConversationId>, StorageError> {
        let known = iter(ids).map(|id| async move {
            let known = self.inner().known_conversation(id).await?;
            Ok::<_, StorageError>(known.map(|_| id))
        });
        let known: Vec<Option<ConversationId>> = known.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(known.into_iter().flatten().collect())
    }

    pub(super) async fn messages(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        let (scan, of) = (&self.chat.messages, &self.chat.messages_of);
        let sliced = self.sliced(scan, of, after, |row: &MessageRow| row.1).await?;
        let mut records = Vec::with_capacity(sliced.rows.len());
        for (conversation, place, id, sender, body, created_at, counts) in sliced.rows {
            records.push(Record::Message(MovedMessage {
                conversation: ConversationId(conversation),
                number: number(place),
                id: MessageId(id),
                sender: UserId(sender),
                body,
                created_at: Timestamp::from_millis(created_at),
                counts: Counts::read(&counts)?.into(),
            }));
        }
        Ok(Portion { records, next: sliced.next, share: sliced.share })
    }

    pub(super) async fn chat_keys(
        &self,
        after: Option<&str>,
        alive_at: Timestamp,
    ) -> Result<Portion, StorageError> {
        let inner = self.inner();
        let mut part: Part<KeyRow> =
            ring::behind(&inner.cql, &self.chat.keys, after, ROWS, |row: &KeyRow| row.0).await?;
        let mut keys = Vec::with_capacity(part.rows.len());
        for (_, user, key, digest, conversation, place, id, created_at) in std::mem::take(&mut part.rows) {
            let key = MovedChatKey {
                user: UserId(user),
                key,
                digest: hash(digest)?,
                conversation: ConversationId(conversation),
                number: number(place),
                id: MessageId(id),
                created_at: Timestamp::from_millis(created_at),
            };
            if key.created_at.after(KEY_AGE) > alive_at {
                keys.push(key);
            }
        }
        let there = iter(keys).map(|key| async move {
            let written = inner.written(key.conversation, key.id).await?;
            Ok::<_, StorageError>(written.map(|_| Record::ChatKey(key)))
        });
        let there: Vec<Option<Record>> = there.buffer_unordered(AT_ONCE).try_collect().await?;
        let records = there.into_iter().flatten().collect();
        Ok(Portion { records, next: part.place(), share: part.share() })
    }

    pub(super) async fn inboxes(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        type Row = (i64, Uuid, Option<i64>);
        let inner = self.inner();
        let mut part: Part<Row> =
            ring::behind(&inner.cql, &self.chat.inboxes, after, ROWS, |row: &Row| row.0).await?;
        let inboxes = iter(std::mem::take(&mut part.rows)).map(|(_, user, seen)| async move {
            let user = UserId(user);
            let newest = inner.inbox_reach(user).await?.newest;
            let inbox = MovedInbox { user, newest, seen: seen.map_or(0, number) };
            Ok::<_, StorageError>((newest > 0).then_some(Record::Inbox(inbox)))
        });
        let inboxes: Vec<Option<Record>> = inboxes.buffer_unordered(AT_ONCE).try_collect().await?;
        let records = inboxes.into_iter().flatten().collect();
        Ok(Portion { records, next: part.place(), share: part.share() })
    }

    pub(super) async fn inbox_events(
        &self,
        after: Option<&str>,
        alive_at: Timestamp,
    ) -> Result<Portion, StorageError> {
        let now = Timestamp::now();
        let (scan, of) = (&self.chat.events, &self.chat.events_of);
        let sliced = self.sliced(scan, of, after, |row: &EventRow| row.1).await?;
        let events = sliced.rows.into_iter().map(|(user, place, message, conversation, left)| {
            let left = i64::from(left.unwrap_or(0)) * 1_000;
            InboxEvent {
                user: UserId(user),
                place: number(place),
                event: MessageEvent {
                    message: MessageId(message),
                    conversation: ConversationId(conversation),
                },
                at: Timestamp::from_millis(now.millis() + left).before(INBOX_AGE),
            }
        });
        let kept = events.filter(|event| event.at.after(INBOX_AGE) > alive_at).map(Record::InboxEvent);
        Ok(Portion { records: kept.collect(), next: sliced.next, share: sliced.share })
    }

    /// Rows of a few partitions, not more than a slice of each. A place is a token, behind which the next partition is, and a
    /// number, behind which that partition is gone on with.
    async fn sliced<R>(
        &self,
        scan: &PreparedStatement,
        of: &PreparedStatement,
        after: Option<&str>,
        place: impl Fn(&R) -> i64,
    ) -> Result<Sliced<R>, StorageError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + Send,
    {
        let cql = &self.inner().cql;
        let (token, from) = after.and_then(|after| after.split_once(' ')).unzip();
        let from = from.and_then(|from| from.parse().ok()).unwrap_or(0);
        let part: Part<(i64, Uuid, i32)> =
            ring::behind(cql, scan, token, PARTITIONS, |row: &(i64, Uuid, i32)| row.0).await?;
        let (next, share) = (part.place(), part.share());
        let partitions = part.rows.iter().enumerate().map(|(at, (_, id, bucket))| {
            let from: i64 = if at == 0 { from } else { 0 };
            (*id, *bucket, from, SLICE)
        });
        let read: Vec<Vec<R>> = iter(partitions.collect::<Vec<_>>())
            .map(|values| cql.rows(of, values))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut before = token.map_or_else(|| i64::MIN.to_string(), str::to_owned);
        let mut rows = Vec::new();
        for ((token, ..), slice) in part.rows.iter().zip(read) {
            let last = slice.last().map(&place);
            let is_full = i32::try_from(slice.len()).is_ok_and(|count| count >= SLICE);
            rows.extend(slice);
            if let Some(last) = last.filter(|_| is_full) {
                return Ok(Sliced { rows, next: Some(format!("{before} {last}")), share });
            }
            before = token.to_string();
        }
        Ok(Sliced { rows, next: next.map(|token| format!("{token} 0")), share })
    }

    pub(super) async fn keep_conversation(&self, new: &MovedConversation) -> Result<(), StorageError> {
        let inner = self.inner();
        let participants: Vec<Uuid> = new.participants.iter().map(|user| user.0).collect();
        let values = (&new.key[..], new.id.0, participants, new.created_at.millis(), MOVED_AT);
        inner.cql.write(&self.chat.conversation, values).await?;
        let claimed = crate::model::chat::Conversation {
            id: new.id,
            participants: new.participants.clone(),
            created_at: new.created_at,
        };
        inner.made(claimed).await.map(|_| ())
    }

    pub(super) async fn keep_member(&self, member: &MovedMember) -> Result<(), StorageError> {
        let inner = self.inner();
        let (user, conversation, at) = (member.user.0, member.conversation.0, column(member.number));
        if let Some(sent_at) = member.at {
            let values = (at, at, sent_at.millis(), column(member.sent), user, conversation);
            inner.cql.write(&self.chat.listed, values).await?;
            inner.placed(member.conversation, member.number).await?;
        }
        if member.read_number > 0 {
            let read = column(member.read_number);
            let values = (read, read, column(member.read_own), user, conversation);
            inner.cql.write(&self.chat.read, values).await?;
        }
        Ok(())
    }

    pub(super) async fn keep_message(&self, message: MovedMessage) -> Result<(), StorageError> {
        let values = (
            message.conversation.0,
            bucket_of(message.number),
            column(message.number),
            message.id.0,
            message.sender.0,
            message.body,
            message.created_at.millis(),
            Counts::from(message.counts).bytes(),
            MOVED_AT,
        );
        self.inner().cql.write(&self.chat.message, values).await
    }

    pub(super) async fn keep_chat_key(&self, key: &MovedChatKey) -> Result<(), StorageError> {
        let (at, created_at) = (column(key.number), key.created_at.millis());
        let kept = seconds_left(key.created_at.after(KEY_AGE));
        let (user, conversation, id) = (key.user.0, key.conversation.0, key.id.0);
        let values = (user, &key.key, &key.digest[..], conversation, at, id, created_at, MOVED_AT, kept);
        self.inner().cql.write(&self.chat.key, values).await
    }

    pub(super) async fn keep_inbox(&self, inbox: &MovedInbox) -> Result<(), StorageError> {
        let inner = self.inner();
        let newest = column(inbox.newest);
        // As if of long ago: where no event is left, that place is gone.
        let values = (newest, newest, inbox.user.0);
        inner.cql.write(&self.chat.inbox, values).await?;
        match inbox.seen {
            0 => Ok(()),
            seen => inner.seen(&[(inbox.user, seen)]).await,
        }
    }

    pub(super) async fn keep_inbox_event(&self, event: &InboxEvent) -> Result<(), StorageError> {
        let left = event.at.after(INBOX_AGE).millis() - Timestamp::now().millis();
        let Some(left) = i32::try_from(left / 1_000).ok().filter(|left| *left > 0) else { return Ok(()) };
        let (bucket, place) = (bucket_of(event.place), column(event.place));
        let (message, conversation) = (event.event.message.0, event.event.conversation.0);
        let values = (event.user.0, bucket, place, message, conversation, MOVED_AT, left);
        self.inner().cql.write(&self.chat.event, values).await
    }
}

/// Rows, and behind which place the next ones are.
struct Sliced<R> {
    rows: Vec<R>,
    next: Option<String>,
    share: Option<f64>,
}
