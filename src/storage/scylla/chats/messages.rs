//! Messages: each has the number that its row claims, and its client's key says which number that is.
//!
//! An append writes, in this order: the key's claim (`chat_keys`: the message is to have this id and this number, the one
//! behind the newest); a note that something is to be placed (`talks`); the message, by a lightweight transaction on the row
//! of that number. Then it is answered.
//! - It ends behind the claim: the message is not there, nobody was answered, and who sends the key again finds the claim
//!   and stores the message that it names.
//! - The number is found taken by another message: nothing can store this one there any more. So the claim is changed, by a
//!   lightweight transaction that compares the id, to the next number and another id, and that one is stored. Two that do
//!   so at once change the claim once.
//! - A transaction is not answered: its row is read at LOCAL_SERIAL; where nothing is there, the same is sent again.
//!
//! So there is one message at most that a claim has ever named and that is stored, and an append that was answered is stored.

use super::counts::Counts;
use super::talks::Newest;
use super::{BUCKET, bucket_of, column, last_of, number, rows};
use crate::model::chat::{Conversation, Message, MessageBody};
use crate::model::id::{ConversationId, MessageId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::chats::{MessageAppended, NewMessage};
use crate::storage::scylla::Inner;
use crate::storage::scylla::cql::{Decision, statements};
use crate::storage::scylla::logins::seconds_left;
use crate::storage::scylla::tries::Tries;
use crate::storage::{KEY_AGE, StorageError};
use scylla::DeserializeRow;
use scylla::statement::prepared::PreparedStatement;
use std::sync::Arc;
use uuid::Uuid;

statements! {
    /// What is asked of messages and their keys.
    Statements {
        newest: Decide, "SELECT number, id, created_at, counts FROM messages WHERE conversation = ? AND bucket = ? LIMIT 1";
        show_newest: Read, "SELECT number, id, created_at, counts FROM messages WHERE conversation = ? AND bucket = ? LIMIT 1";
        written: Read, "SELECT number, id, created_at, counts FROM messages WHERE conversation = ? AND bucket = ? AND number = ?";
        insert: Claim, "INSERT INTO messages (conversation, bucket, number, id, sender, body, created_at, counts) VALUES (?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
        page: Read, "SELECT number, id, sender, body, created_at FROM messages WHERE conversation = ? AND bucket = ? AND number < ? LIMIT ?";
        key: Decide, "SELECT digest, conversation, number, id, created_at FROM chat_keys WHERE user = ? AND key = ?";
        set_key: Claim, "UPDATE chat_keys USING TTL ? SET digest = ?, conversation = ?, number = ?, id = ?, created_at = ? WHERE user = ? AND key = ? IF id = ?";
    }
}

/// A message without its text.
#[derive(Clone, Debug)]
pub(in crate::storage::scylla) struct Written {
    pub(super) number: u64,
    pub(super) id: MessageId,
    pub(super) created_at: Timestamp,
    pub(super) counts: Counts,
}

impl Written {
    /// How many messages a user had sent by then.
    pub(super) fn sent_by(&self, conversation: &Conversation, user: UserId) -> u64 {
        conversation.participants.binary_search(&user).map_or(0, |place| self.counts.of(place))
    }
}

#[derive(DeserializeRow)]
struct WrittenRow {
    number: i64,
    id: Uuid,
    created_at: i64,
    counts: Vec<u8>,
}

impl WrittenRow {
    fn read(self) -> Result<Written, StorageError> {
        Ok(Written {
            number: number(self.number),
            id: MessageId(self.id),
            created_at: Timestamp::from_millis(self.created_at),
            counts: Counts::read(&self.counts)?,
        })
    }
}

/// A key's claim.
#[derive(Clone, Debug, DeserializeRow)]
struct KeyClaim {
    digest: Vec<u8>,
    conversation: Uuid,
    number: i64,
    id: Uuid,
    created_at: i64,
}

impl KeyClaim {
    /// For a message behind the newest.
    fn behind(newest: &Newest, new: &NewMessage, created_at: Timestamp) -> Self {
        let coming = newest.number + 1;
        Self {
            digest: new.digest.to_vec(),
            conversation: new.conversation.0,
            number: column(coming),
            id: MessageId::numbered(coming, newest.id, created_at).0,
            created_at: created_at.millis(),
        }
    }

    /// The message that it names, if it says the same as the one that is sent.
    fn message(&self, new: &NewMessage) -> Message {
        Message {
            id: MessageId(self.id),
            conversation: new.conversation,
            number: number(self.number),
            sender: new.sender,
            body: new.body.clone(),
            created_at: Timestamp::from_millis(self.created_at),
        }
    }
}

impl Inner {
    pub(super) async fn append_message(&self, new: &NewMessage) -> Result<MessageAppended, StorageError> {
        let Some(conversation) = self.conversation_of(new.conversation, new.sender).await? else {
            return Ok(MessageAppended::Forbidden);
        };
        let _turn = self.chats.appends.of(new.conversation).await;
        let _under_way = self.chats.talks.enter(new.conversation);
        let outcome = self.append_in_turn(&conversation, new).await;
        if outcome.is_err() {
            self.chats.talks.doubt(new.conversation);
        }
        outcome
    }

    async fn append_in_turn(
        &self,
        conversation: &Conversation,
        new: &NewMessage,
    ) -> Result<MessageAppended, StorageError> {
        let (id, people) = (conversation.id, conversation.participants.len());
        let mut tries = Tries::begin();
        let mut newest = match self.chats.talks.newest(id) {
            Some(newest) => newest,
            None => self.find_newest(id, people).await?,
        };
        let (mut claim, is_found) = self.claim_key(new, &newest, &mut tries).await?;
        if claim.digest != new.digest || claim.conversation != id.0 {
            return Ok(MessageAppended::KeyReused);
        }
        // What others may have stored by the claim is a repeat; what this call may have stored is not.
        let mut may_be_others = is_found;
        loop {
            let claimed = number(claim.number);
            if claimed > newest.number + 1 {
                newest = self.find_newest(id, people).await?;
                if claimed > newest.number + 1 {
                    return Err(StorageError::Refused("a key of a number that none led to".to_owned()));
                }
            }
            if claimed <= newest.number {
                if self.has_number(id, &claim).await? {
                    return self.stored(new, &claim, may_be_others).await;
                }
                claim = self.claim_next(new, &claim, &newest, &mut tries).await?;
                continue;
            }
            self.note(id, claimed).await?;
            may_be_others = false;
            let message = claim.message(new);
            let place = conversation.participants.binary_search(&new.sender).unwrap_or(usize::MAX);
            let counts = newest.counts.plus(place);
            if self.insert(&message, &counts).await? == Decision::Applied {
                self.chats.talks.stored(id, Newest { number: claimed, id: Some(message.id), counts });
                return Ok(MessageAppended::Stored { message, place: None });
            }
            newest = self.find_newest(id, people).await?;
            if newest.number < claimed {
                tries.again().await?;
            }
        }
    }

    /// The answer for a message that is there.
    async fn stored(
        &self,
        new: &NewMessage,
        claim: &KeyClaim,
        is_repeat: bool,
    ) -> Result<MessageAppended, StorageError> {
        let message = claim.message(new);
        if !is_repeat {
            return Ok(MessageAppended::Stored { message, place: None });
        }
        // Whoever stored it may have ended before it was placed, and its note may be gone with another's.
        if !self.is_placed(message.conversation, message.number).await? {
            self.note(message.conversation, message.number).await?;
        }
        Ok(MessageAppended::Repeated(message))
    }

    /// Claims a key for the message behind the newest; answers the claim that it has, and whether it was there before.
    async fn claim_key(
        &self,
        new: &NewMessage,
        newest: &Newest,
        tries: &mut Tries,
    ) -> Result<(KeyClaim, bool), StorageError> {
        let claim = KeyClaim::behind(newest, new, new.created_at);
        let mut seen: Option<Uuid> = None;
        loop {
            // Most are new: that costs one round.
            if self.set_key(new, seen, &claim).await? == Decision::Applied {
                return Ok((claim, false));
            }
            let kept_from = new.created_at.before(KEY_AGE).millis();
            match self.key_claim(new).await? {
                Some(found) if found.id == claim.id => return Ok((found, false)),
                Some(found) if found.created_at >= kept_from => return Ok((found, true)),
                found => seen = found.map(|found| found.id),
            }
            tries.again().await?;
        }
    }

    /// Has a claim whose number another message has name the next; answers the claim as it is then.
    async fn claim_next(
        &self,
        new: &NewMessage,
        claim: &KeyClaim,
        newest: &Newest,
        tries: &mut Tries,
    ) -> Result<KeyClaim, StorageError> {
        let next = KeyClaim::behind(newest, new, Timestamp::from_millis(claim.created_at));
        if self.set_key(new, Some(claim.id), &next).await? == Decision::Applied {
            return Ok(next);
        }
        tries.again().await?;
        let found = self.key_claim(new).await?;
        found.ok_or_else(|| StorageError::Unavailable("a key's claim is gone".to_owned()))
    }

    async fn key_claim(&self, new: &NewMessage) -> Result<Option<KeyClaim>, StorageError> {
        self.cql.first(&self.chats.messages.key, (new.sender.0, &new.key)).await
    }

    /// Changes a key's claim that has that id.
    async fn set_key(
        &self,
        new: &NewMessage,
        seen: Option<Uuid>,
        claim: &KeyClaim,
    ) -> Result<Decision, StorageError> {
        let kept = seconds_left(Timestamp::from_millis(claim.created_at).after(KEY_AGE));
        let KeyClaim { digest, conversation, number, id, created_at } = claim;
        let values = (kept, digest, conversation, number, id, created_at, new.sender.0, &new.key, seen);
        self.cql.decide(&self.chats.messages.set_key, values).await
    }

    /// Whether the message that a claim names is the one that has its number.
    async fn has_number(&self, id: ConversationId, claim: &KeyClaim) -> Result<bool, StorageError> {
        let there = self.message_at(id, number(claim.number)).await?;
        match there {
            Some(written) => Ok(written.id.0 == claim.id),
            None => Err(StorageError::Unavailable("a message cannot be seen yet".to_owned())),
        }
    }

    async fn insert(&self, message: &Message, counts: &Counts) -> Result<Decision, StorageError> {
        let values = (
            message.conversation.0,
            bucket_of(message.number),
            column(message.number),
            message.id.0,
            message.sender.0,
            message.body.as_str(),
            message.created_at.millis(),
            counts.bytes(),
        );
        self.cql.decide(&self.chats.messages.insert, values).await
    }

    async fn message_at(&self, id: ConversationId, at: u64) -> Result<Option<Written>, StorageError> {
        let values = (id.0, bucket_of(at), column(at));
        let row: Option<WrittenRow> = self.cql.first(&self.chats.messages.written, values).await?;
        row.map(WrittenRow::read).transpose()
    }

    /// A message of a conversation; none where it has none with that id.
    pub(in crate::storage::scylla) async fn written(
        &self,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Option<Arc<Written>>, StorageError> {
        if let Some(written) = self.chats.written.get(&(conversation, id)) {
            return Ok(Some(written));
        }
        let there = self.message_at(conversation, id.number()).await?;
        let written = there.filter(|written| written.id == id).map(Arc::new);
        if let Some(written) = &written {
            self.chats.written.insert((conversation, id), Arc::clone(written));
        }
        Ok(written)
    }

    /// The newest message of a conversation that has at least so many: the last row of its last bucket. A bucket is there once
    /// the one before it is full, so the last is found by steps that double, and then halve.
    pub(super) async fn newest_message(
        &self,
        statement: &PreparedStatement,
        id: ConversationId,
        least: u64,
    ) -> Result<Option<Written>, StorageError> {
        let newest_of = async |bucket: i32| {
            let row: Option<WrittenRow> = self.cql.first(statement, (id.0, bucket)).await?;
            row.map(WrittenRow::read).transpose()
        };
        let mut bucket = bucket_of(least);
        let Some(mut newest) = newest_of(bucket).await? else { return Ok(None) };
        let (mut step, mut is_growing) = (1, true);
        while newest.number >= last_of(bucket) && step > 0 {
            match newest_of(bucket.saturating_add(step)).await? {
                Some(further) => {
                    (newest, bucket) = (further, bucket.saturating_add(step));
                    step = if is_growing { step.saturating_mul(2) } else { step / 2 };
                }
                None => {
                    is_growing = false;
                    step /= 2;
                }
            }
        }
        Ok(Some(newest))
    }

    pub(super) async fn history(
        &self,
        id: ConversationId,
        user: UserId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Option<Vec<Message>>, StorageError> {
        if self.conversation_of(id, user).await?.is_none() {
            return Ok(None);
        }
        let mut found = Vec::new();
        if let Some(before) = before {
            self.page(id, before, limit, &mut found).await?;
            if !found.is_empty() || before <= 1 {
                return Ok(Some(found));
            }
            // That is above all that is there.
        }
        let least = self.listed_number(id, user).await?;
        let newest = self.newest_message(&self.chats.messages.show_newest, id, least).await?;
        if let Some(newest) = newest {
            let below = newest.number.saturating_add(1).min(before.unwrap_or(u64::MAX));
            self.page(id, below, limit, &mut found).await?;
        }
        Ok(Some(found))
    }

    /// Messages below a number, newest first, down through the buckets.
    async fn page(
        &self,
        id: ConversationId,
        mut below: u64,
        limit: usize,
        found: &mut Vec<Message>,
    ) -> Result<(), StorageError> {
        while below > 1 && found.len() < limit {
            let bucket = bucket_of(below - 1);
            let values = (id.0, bucket, column(below), rows(limit - found.len()));
            let page: Vec<(i64, Uuid, Uuid, String, i64)> =
                self.cql.rows_at_once(&self.chats.messages.page, values).await?;
            // Only above the newest message is there nothing.
            if page.is_empty() {
                return Ok(());
            }
            found.extend(page.into_iter().map(|(place, message, sender, body, created_at)| Message {
                id: MessageId(message),
                conversation: id,
                number: number(place),
                sender: UserId(sender),
                body: MessageBody::stored(body),
                created_at: Timestamp::from_millis(created_at),
            }));
            below = u64::try_from(bucket).unwrap_or(0) * BUCKET + 1;
        }
        Ok(())
    }
}
