//! Inboxes: a place is claimed by the row that has it, behind a reservation which outlives the row. Events that come together
//! are claimed together, all or none: a lightweight transaction takes its time, whether for one row or for fifty.
//!
//! Rows go by themselves after [`INBOX_AGE`]. So that no place is given again when all have gone, places are reserved first
//! (`inboxes.reserved`, which only grows): the newest place is that of the newest row, or, where there is none, the last one
//! that is reserved. A reservation that no row followed is for the next places still.

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
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

/// Where a repeated event may have its place.
const LATELY: u64 = 1_000;
/// Events that are claimed together: a batch of these is below 5 KiB, which CQL servers find large.
const TOGETHER: usize = 50;
/// A row that a reservation was made for so long ago may have come and gone. A day less than a row is kept: clocks differ,
/// and a reservation may be made again.
const MAY_BE_GONE: Duration = Duration::from_secs(29 * 24 * 3600);

statements! {
    /// What is asked of inboxes.
    Statements {
        inbox: Read, "SELECT reserved, reserved_after, reserved_at, seen FROM inboxes WHERE user = ?";
        reserve: Write, "UPDATE inboxes USING TIMESTAMP ? SET reserved = ?, reserved_after = ?, reserved_at = ? WHERE user = ?";
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
type Row = (Option<i64>, Option<i64>, Option<i64>, Option<i64>);

/// What became of a claim.
enum Claim {
    /// They have the places up to this one.
    Done(u64),
    /// Another home has come this far, maybe with some of these events.
    Behind(u64),
}

impl Inner {
    pub(in crate::storage::scylla) async fn place(
        &self,
        user: UserId,
        events: &[MessageEvent],
        is_repeat: bool,
    ) -> Result<Vec<u64>, StorageError> {
        let Some(last) = events.last() else { return Ok(Vec::new()) };
        let unseen = || StorageError::Refused("an event of no message that the user can see".to_owned());
        let conversation = self.conversation_of(last.conversation, user).await?.ok_or_else(unseen)?;
        let written = iter(events.to_vec()).map(|event| self.written(conversation.id, event.message));
        let written: Vec<_> = written.buffered(AT_ONCE).try_collect().await?;
        let are_its = events.iter().all(|event| event.conversation == conversation.id);
        let Some(Some(newest_written)) =
            written.last().filter(|_| are_its && written.iter().all(Option::is_some))
        else {
            return Err(unseen());
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
        let listed = self.move_up(user, &conversation, newest_written);
        let ((places, newest), ()) =
            tokio::try_join!(self.give_places(user, events, newest, is_repeat), listed)?;
        self.chats.newest_places.insert(user, newest);
        Ok(places)
    }

    /// Gives events their places behind the newest, but for those that have theirs; answers these, and how far the inbox
    /// reaches then.
    async fn give_places(
        &self,
        user: UserId,
        events: &[MessageEvent],
        mut newest: u64,
        is_repeat: bool,
    ) -> Result<(Vec<u64>, u64), StorageError> {
        let (mut places, mut may_have_some, mut tries) =
            (vec![None; events.len()], is_repeat, Tries::begin());
        loop {
            if may_have_some {
                let lately = self.placed_lately(user, newest).await?;
                for (event, place) in events.iter().zip(&mut places) {
                    *place = place.or_else(|| lately.get(&event.message).copied());
                }
            }
            let left: Vec<MessageEvent> = events
                .iter()
                .zip(&places)
                .filter(|(_, place)| place.is_none())
                .map(|(event, _)| *event)
                .collect();
            if left.is_empty() {
                return Ok((places.into_iter().flatten().collect(), newest));
            }
            match self.claim_places(user, &left, newest, &mut tries).await? {
                Claim::Done(last) => {
                    let empty = places.iter_mut().filter(|place| place.is_none());
                    empty.zip(newest + 1..=last).for_each(|(place, given)| *place = Some(given));
                    (newest, may_have_some) = (last, false);
                }
                Claim::Behind(now) => (newest, may_have_some) = (now, true),
            }
        }
    }

    /// Claims the next places for the first of these events, as many as go together.
    async fn claim_places(
        &self,
        user: UserId,
        events: &[MessageEvent],
        newest: u64,
        tries: &mut Tries,
    ) -> Result<Claim, StorageError> {
        let statements = &self.chats.inboxes;
        let (first, bucket) = (newest + 1, bucket_of(newest + 1));
        let together = events.len().min(TOGETHER) as u64;
        let last = (newest + together).min(last_of(bucket));
        let kept = i32::try_from(INBOX_AGE.as_secs()).unwrap_or(i32::MAX);
        let row = |(place, event): (u64, &MessageEvent)| {
            (user.0, bucket, column(place), event.message.0, event.conversation.0, kept)
        };
        let rows: Vec<_> = (first..=last).zip(events).map(row).collect();
        let inserts = vec![&statements.insert; rows.len()];
        loop {
            let reservation = (column(last), column(last), column(newest), Timestamp::now().millis(), user.0);
            self.cql.write(&statements.reserve, reservation).await?;
            if self.cql.decide_batch(&inserts, &rows).await? == Decision::Applied {
                return Ok(Claim::Done(last));
            }
            // At LOCAL_SERIAL: the batch that has the place is there whole then, whoever's it is.
            let at = (user.0, bucket, column(first));
            let there: Option<(Uuid,)> = self.cql.first(&statements.event, at).await?;
            if there.is_some() {
                return Ok(Claim::Behind(self.newest_place(&statements.newest, user).await?.max(first)));
            }
            tries.again().await?;
        }
    }

    /// The messages whose events were given the newest places of an inbox, and which.
    async fn placed_lately(
        &self,
        user: UserId,
        newest: u64,
    ) -> Result<HashMap<MessageId, u64>, StorageError> {
        let (mut after, mut lately) = (newest.saturating_sub(LATELY), HashMap::new());
        while after < newest {
            let bucket = bucket_of(after + 1);
            let events = self.events_of(user, bucket, after, LATELY as usize).await?;
            lately.extend(events.into_iter().map(|(place, event)| (event.message, place)));
            after = last_of(bucket);
        }
        Ok(lately)
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
        (reserved, reserved_after, reserved_at, _): Row,
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
        let after = reserved_after.map_or(reserved.saturating_sub(1), number);
        Ok(if is_young { after } else { reserved })
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
        let mut page = InboxPage { events: Vec::new(), through: after };
        self.read_inbox(user, &mut page, limit).await?;
        if !page.events.is_empty() || limit == 0 {
            return Ok(page);
        }
        // It ends there, or what was behind is gone.
        let newest = self.newest_place(&self.chats.inboxes.show_newest, user).await?;
        if after < newest {
            page.through = after.max(self.gone(user, newest).await?);
            self.read_inbox(user, &mut page, limit).await?;
        }
        Ok(page)
    }

    /// Reads on from where a page ends, as far as its rows follow each other.
    async fn read_inbox(&self, user: UserId, page: &mut InboxPage, limit: usize) -> Result<(), StorageError> {
        while page.events.len() < limit {
            let bucket = bucket_of(page.through + 1);
            let events = self.events_of(user, bucket, page.through, limit - page.events.len()).await?;
            let (Some((first, _)), Some((last, _))) = (events.first(), events.last()) else { return Ok(()) };
            if *first != page.through + 1 {
                // Rows go oldest first: what is not there is gone, and so is what was before it.
                page.events.clear();
            }
            page.through = *last;
            page.events.extend(events);
            if !page.through.is_multiple_of(BUCKET) {
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
        Ok(InboxReach { newest, gone, seen: row.3.map_or(0, number) })
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
