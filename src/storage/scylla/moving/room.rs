//! Rooms, out of a keyspace and into one. What has ended stays behind, and so do effects that hosts have.

use super::ring::{self, Arc as Part};
use super::{MOVED_AT, Parts};
use crate::model::id::RoomId;
use crate::model::room::PRESS_AGE;
use crate::model::room::presses::pack_all;
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use crate::storage::moving::{MovedEffect, MovedPresses, MovedRoom, Portion, Record};
use crate::storage::rooms::TakenRoom;
use crate::storage::scylla::cql::statements;
use crate::storage::scylla::rooms::{
    EFFECT, Head, PRESSES, Row, column, effect, effect_body, id, press_group,
};
use futures_util::stream::{StreamExt, TryStreamExt, iter};

/// Rooms of a portion.
const ROOMS: i32 = 200;
/// Rooms of a portion of their rows, and rows of each of them at most; the rest comes with the next portion.
const PARTITIONS: i32 = 16;
const SLICE: i32 = 100;
/// Reads that are under way at once.
const AT_ONCE: usize = 32;

statements! {
    /// What is read around the ring, and what only moving in writes.
    Statements {
        rooms: Read, "SELECT DISTINCT token(room), room FROM rooms WHERE token(room) > ? LIMIT ?";
        rows_of: Read, "SELECT number, at, body FROM rooms WHERE room = ? AND kind = ? AND number > ? LIMIT ?";
        room: Write, "UPDATE rooms USING TIMESTAMP ? SET state = 1, owner = ?, created_at = ?, event_types = ?, epoch = ?, version = ?, counts = ?, next_seq = ?, sent = ?, acknowledges = ?, presses_from = 0, active_at = ? WHERE room = ?";
        effect: WriteMany, "INSERT INTO rooms (room, kind, number, body) VALUES (?, 1, ?, ?) USING TIMESTAMP ?";
        presses: WriteMany, "INSERT INTO rooms (room, kind, number, at, body) VALUES (?, 2, ?, ?, ?) USING TIMESTAMP ? AND TTL 900";
    }
}

/// A partition and its token.
type Partition = (i64, Vec<u8>);

impl Parts {
    pub(super) async fn rooms(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        let part = self.room_part(after, ROOMS).await?;
        let mut records = Vec::with_capacity(part.rows.len());
        for (_, head) in self.heads(&part.rows).await? {
            let TakenRoom { room, hold, counts, sent, acknowledges, active_at, .. } =
                head.taken(head.hold().epoch)?;
            records.push(Record::Room(MovedRoom { room, hold, counts, sent, acknowledges, active_at }));
        }
        Ok(Portion { records, next: part.place(), share: part.share() })
    }

    pub(super) async fn effects(&self, after: Option<&str>) -> Result<Portion, StorageError> {
        let of = |room, row| Ok(Some(Record::Effect(MovedEffect { room, effect: effect(row)? })));
        self.rows_of_rooms(after, EFFECT, |head| head.gone().0, of).await
    }

    pub(super) async fn presses(
        &self,
        after: Option<&str>,
        alive_at: Timestamp,
    ) -> Result<Portion, StorageError> {
        let of = |room, row| {
            let group = press_group(row)?;
            let is_kept = group.at.after(PRESS_AGE) > alive_at;
            Ok(is_kept.then_some(Record::Presses(MovedPresses { room, group })))
        };
        self.rows_of_rooms(after, PRESSES, |head| head.gone().1.saturating_sub(1), of).await
    }

    async fn room_part(&self, after: Option<&str>, most: i32) -> Result<Part<Partition>, StorageError> {
        ring::behind(&self.inner().cql, &self.room.rooms, after, most, |row: &Partition| row.0).await
    }

    /// Those of these rooms that are there, each with its place among them.
    async fn heads(&self, rooms: &[Partition]) -> Result<Vec<(usize, Head)>, StorageError> {
        let ids: Vec<RoomId> = rooms.iter().map(|(_, room)| id(room)).collect::<Result<_, _>>()?;
        let read = iter(ids.into_iter().enumerate()).map(|(at, room)| async move {
            let head = self.inner().shown_room(room).await?;
            Ok::<_, StorageError>(head.map(|head| (at, head)))
        });
        let heads: Vec<Option<(usize, Head)>> = read.buffered(AT_ONCE).try_collect().await?;
        Ok(heads.into_iter().flatten().collect())
    }

    /// Rows of one kind of a few rooms, not more than a slice of each, behind the number up to which they are gone. A place is a
    /// token, behind which the next room is, and a number, behind which that room is gone on with.
    async fn rows_of_rooms(
        &self,
        after: Option<&str>,
        kind: i8,
        gone: impl Fn(&Head) -> u64,
        record: impl Fn(RoomId, Row) -> Result<Option<Record>, StorageError>,
    ) -> Result<Portion, StorageError> {
        let (token, from) = after.and_then(|after| after.split_once(' ')).unzip();
        let from: i64 = from.and_then(|from| from.parse().ok()).unwrap_or(0);
        let part = self.room_part(token, PARTITIONS).await?;
        let heads = self.heads(&part.rows).await?;
        let asked = heads.iter().map(|(at, head)| {
            let gone = column(gone(head));
            (*at, if *at == 0 { gone.max(from) } else { gone })
        });
        let read = iter(asked.collect::<Vec<_>>()).map(|(at, behind)| {
            let room = &part.rows[at].1;
            async move {
                let rows = self.inner().cql.rows(&self.room.rows_of, (room, kind, behind, SLICE)).await?;
                Ok::<(usize, Vec<Row>), StorageError>((at, rows))
            }
        });
        let read: Vec<(usize, Vec<Row>)> = read.buffered(AT_ONCE).try_collect().await?;
        let mut records = Vec::new();
        for (at, rows) in read {
            let is_full = i32::try_from(rows.len()).is_ok_and(|count| count >= SLICE);
            let last = rows.last().map(|(number, ..)| *number).filter(|_| is_full);
            let room = id(&part.rows[at].1)?;
            for row in rows {
                records.extend(record(room, row)?);
            }
            if let Some(last) = last {
                let before = match at.checked_sub(1) {
                    Some(before) => part.rows[before].0.to_string(),
                    None => token.map_or_else(|| i64::MIN.to_string(), str::to_owned),
                };
                return Ok(Portion { records, next: Some(format!("{before} {last}")), share: part.share() });
            }
        }
        let next = part.place().map(|token| format!("{token} 0"));
        Ok(Portion { records, next, share: part.share() })
    }

    pub(super) async fn keep_room(&self, moved: &MovedRoom) -> Result<(), StorageError> {
        let MovedRoom { room, hold, counts, sent, acknowledges, active_at } = moved;
        let inner = self.inner();
        inner.list_room(room.id, room.owner).await?;
        let values = (
            MOVED_AT,
            room.owner.0,
            room.created_at.millis(),
            room.event_types.stored(),
            column(hold.epoch),
            column(hold.version),
            counts.stored(),
            column(counts.next_seq),
            column(*sent),
            *acknowledges,
            active_at.millis(),
            &room.id.bytes()[..],
        );
        inner.cql.write(&self.room.room, values).await
    }

    pub(super) async fn keep_effect(&self, moved: &MovedEffect) -> Result<(), StorageError> {
        let (number, body) = (column(moved.effect.seq), effect_body(&moved.effect));
        let values = (&moved.room.bytes()[..], number, body, MOVED_AT);
        self.inner().cql.write(&self.room.effect, values).await
    }

    pub(super) async fn keep_presses(&self, moved: &MovedPresses) -> Result<(), StorageError> {
        let group = &moved.group;
        let (number, presses) = (column(group.version), pack_all(&group.presses));
        let values = (&moved.room.bytes()[..], number, group.at.millis(), presses, MOVED_AT);
        self.inner().cql.write(&self.room.presses, values).await
    }
}
