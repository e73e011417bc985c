//! Inboxes: a place is claimed by the row that has it, behind a reservation which outlives the row.
//!
//! Rows go by themselves after [`INBOX_AGE`]. So that no place is given again when all have gone, the place is reserved first
//! (`inboxes.reserved`, which only grows): the newest place is that of the newest row, or, where there is none, the one
//! that is reserved. A reservation that no row followed is the next place still.

use super::{AT_ONCE, BUCKET, bucket_of, column, last_of, number, rows};
use crate::model::chat::MessageEvent;
use crate::model::id::{ConversationId, MessageId, UserId};
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use crate::storage::chats::{INBOX_AGE, InboxPage, InboxReach};
use crate::storage::scylla::Inner;
use crate::storage::scylla::cql::{Decision, statements};
use crate::storage::scylla::tries::Tries;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use scylla::statement::prepared::PreparedStatement;
use std::time::Duration;
use uuid::Uuid;

/// Where a repeated event may have its place.
const LATELY: u64 = 100;
/// A row that a reservation was made for so long ago may have come and gone. A day less than a row is kept: clocks differ,
/// and a reservation may be made again.
const MAY_BE_GONE: Duration = Duration::from_secs(29 * 24 * 3600);

statements! {
    /// What is asked of inboxes.
    Statements {
        inbox: Read, "SELECT reserved, reserved_at, seen FROM inboxes WHERE user = ?";
        reserve: Write, "UPDATE inboxes USING TIMESTAMP ? SET reserved = ?, reserved_at = ? WHERE user = ?";
        see: WriteMany, "UPDATE inboxes USING TIMESTAMP ? SET seen = ? WHERE user = ?";
        newest: Decide, "SELECT place FROM inbox WHERE user = ? AND bucket = ? ORDER BY place DESC LIMIT 1";
        show_newest: Read, "SELECT place FROM inbox WHERE user = ? AND bucket = ? ORDER BY place DESC LIMIT 1";
        oldest: Read, "SELECT place FROM inbox WHERE user = ? AND bucket = ? ORDER BY place ASC LIMIT 1";
        event: Decide, "SELECT message FROM inbox WHERE user = ? AND bucket = ? AND place = ?";
        events: Read, "SELECT place, message, conversation FROM inbox WHERE user = ? AND bucket = ? AND place > ? ORDER BY place ASC LIMIT ?";
        insert: Claim, "INSERT INTO inbox (user, bucket, place, message, conversation) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS USING TTL ?";
    }
}

/// The row of a user's inbox.
type Row = (Option<i64>, Option<i64>, Option<i64>);

impl Inner {
    pub(in crate::storage::scylla) async fn place(
        &self,
        user: UserId,
        event: MessageEvent,
        is_repeat: bool,
    ) -> Result<u64, StorageError> {
        let conversation = self.conversation_of(event.conversation, user).await?;
        let written = self.written(event.conversation, event.message).await?;
        let (Some(conversation), Some(written)) = (conversation, written) else {
            return Err(StorageError::Refused("an event of no message that the user can see".to_owned()));
        };
        let _turn = self.chats.places.of(user).await;
        let known = self.chats.newest_places.get(&user).filter(|_| !is_repeat);
        // Whatever comes of this, the next one reads where the inbox ends.
        self.chats.newest_places.invalidate(&user);
        let newest = match known {
            Some(newest) => newest,
            None => self.newest_place(&self.chats.inboxes.newest, user).await?,
        };
        // Who is told of a message finds it in the list. Of an event that has its place, the list may not have heard.
        let listed = self.move_up(user, &conversation, &written);
        if is_repeat && let Some(place) = self.placed_lately(user, event, newest).await? {
            listed.await?;
            self.chats.newest_places.insert(user, newest);
            return Ok(place);
        }
        let (place, ()) = tokio::try_join!(self.claim_place(user, event, newest), listed)?;
        self.chats.newest_places.insert(user, place);
        Ok(place)
    }

    /// Gives an event the next place behind the newest.
    async fn claim_place(
        &self,
        user: UserId,
        event: MessageEvent,
        mut newest: u64,
    ) -> Result<u64, StorageError> {
        let statements = &self.chats.inboxes;
        let kept = i32::try_from(INBOX_AGE.as_secs()).unwrap_or(i32::MAX);
        let mut tries = Tries::begin();
        loop {
            let place = newest + 1;
            let reservation = (column(place), column(place), Timestamp::now().millis(), user.0);
            self.cql.write(&statements.reserve, reservation).await?;
            let at = (user.0, bucket_of(place), column(place));
            let values = (at.0, at.1, at.2, event.message.0, event.conversation.0, kept);
            if self.cql.decide(&statements.insert, values).await? == Decision::Applied {
                return Ok(place);
            }
            let there: Option<(Uuid,)> = self.cql.first(&statements.event, at).await?;
            match there {
                Some((message,)) if message == event.message.0 => return Ok(place),
                // Another home has come further.
                Some(_) => newest = self.newest_place(&statements.newest, user).await?.max(place),
                None => tries.again().await?,
            }
        }
    }

    /// The place that an event was given among the newest of an inbox.
    async fn placed_lately(
        &self,
        user: UserId,
        event: MessageEvent,
        newest: u64,
    ) -> Result<Option<u64>, StorageError> {
        let mut after = newest.saturating_sub(LATELY);
        while after < newest {
            let bucket = bucket_of(after + 1);
            let events = self.events_of(user, bucket, after, LATELY as usize).await?;
            if let Some((place, _)) = events.into_iter().find(|(_, placed)| *placed == event) {
                return Ok(Some(place));
            }
            after = last_of(bucket);
        }
        Ok(None)
    }

    async fn events_of(
        &self,
        user: UserId,
        bucket: i32,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, MessageEvent)>, StorageError> {
        let values = (user.0, bucket, column(after), rows(limit));
        let events: Vec<(i64, Uuid, Uuid)> =
            self.cql.rows_at_once(&self.chats.inboxes.events, values).await?;
        let event = |(place, message, conversation)| {
            let event =
                MessageEvent { message: MessageId(message), conversation: ConversationId(conversation) };
            (number(place), event)
        };
        Ok(events.into_iter().map(event).collect())
    }

    async fn inbox_row(&self, user: UserId) -> Result<Row, StorageError> {
        let row: Option<Row> = self.cql.first(&self.chats.inboxes.inbox, (user.0,)).await?;
        Ok(row.unwrap_or_default())
    }

    /// The place of the newest event that an inbox ever had.
    async fn newest_place(&self, statement: &PreparedStatement, user: UserId) -> Result<u64, StorageError> {
        let row = self.inbox_row(user).await?;
        self.newest_up_to(statement, user, row).await
    }

    async fn newest_up_to(
        &self,
        statement: &PreparedStatement,
        user: UserId,
        (reserved, reserved_at, _): Row,
    ) -> Result<u64, StorageError> {
        let Some(reserved) = reserved.map(number) else { return Ok(0) };
        let last = bucket_of(reserved);
        // The first of a bucket may be reserved only.
        for bucket in [last, last - 1].into_iter().filter(|bucket| *bucket >= 0) {
            let newest: Option<(i64,)> = self.cql.first(statement, (user.0, bucket)).await?;
            if let Some((place,)) = newest {
                return Ok(number(place));
            }
        }
        let reserved_at = reserved_at.map_or(Timestamp::from_millis(0), Timestamp::from_millis);
        let is_young = reserved_at > Timestamp::now().before(MAY_BE_GONE);
        Ok(if is_young { reserved - 1 } else { reserved })
    }

    /// The place behind which the events of an inbox are kept, whose newest has that place. Rows go oldest first: empty
    /// buckets stand before those that are not.
    async fn gone(&self, user: UserId, newest: u64) -> Result<u64, StorageError> {
        let oldest_of = async |bucket: i32| {
            let row: Option<(i64,)> = self.cql.first(&self.chats.inboxes.oldest, (user.0, bucket)).await?;
            Ok::<_, StorageError>(row.map(|(place,)| number(place)))
        };
        if newest == 0 {
            return Ok(0);
        }
        let (mut low, mut high, mut gone) = (0, bucket_of(newest), newest);
        while low <= high {
            // The first bucket first: most inboxes have no other.
            let middle = if low == 0 && gone == newest { 0 } else { low + (high - low) / 2 };
            match oldest_of(middle).await? {
                Some(oldest) => (gone, high) = (oldest.saturating_sub(1), middle - 1),
                None => low = middle + 1,
            }
        }
        Ok(gone)
    }

    pub(super) async fn inbox(
        &self,
        user: UserId,
        after: u64,
        limit: usize,
    ) -> Result<InboxPage, StorageError> {
        let mut page = InboxPage { after, events: Vec::new() };
        self.read_inbox(user, &mut page, limit).await?;
        if !page.events.is_empty() || limit == 0 {
            return Ok(page);
        }
        // It ends there, or what was behind is gone.
        let newest = self.newest_place(&self.chats.inboxes.show_newest, user).await?;
        if after < newest {
            page.after = after.max(self.gone(user, newest).await?);
            self.read_inbox(user, &mut page, limit).await?;
        }
        Ok(page)
    }

    /// Reads on from where a page begins, as far as its rows follow each other.
    async fn read_inbox(&self, user: UserId, page: &mut InboxPage, limit: usize) -> Result<(), StorageError> {
        while page.events.len() < limit {
            let reached = page.after + page.events.len() as u64;
            let bucket = bucket_of(reached + 1);
            let events = self.events_of(user, bucket, reached, limit - page.events.len()).await?;
            let Some((first, _)) = events.first() else { return Ok(()) };
            if *first != reached + 1 {
                // Rows go oldest first: what is not there is gone, and so is what was before it.
                *page = InboxPage { after: first - 1, events: Vec::new() };
            }
            page.events.extend(events.into_iter().map(|(_, event)| event));
            if !(page.after + page.events.len() as u64).is_multiple_of(BUCKET) {
                return Ok(());
            }
        }
        Ok(())
    }

    pub(in crate::storage::scylla) async fn inbox_reach(
        &self,
        user: UserId,
    ) -> Result<InboxReach, StorageError> {
        let row = self.inbox_row(user).await?;
        let newest = self.newest_up_to(&self.chats.inboxes.show_newest, user, row).await?;
        let gone = self.gone(user, newest).await?;
        Ok(InboxReach { newest, gone, seen: row.2.map_or(0, number) })
    }

    pub(in crate::storage::scylla) async fn seen(&self, marks: &[(UserId, u64)]) -> Result<(), StorageError> {
        iter(marks.iter().copied())
            .map(|(user, place)| {
                let place = column(place);
                self.cql.write(&self.chats.inboxes.see, (place, place, user.0))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }
}
