//! Rooms: a row with what every group changes, its effects, and a row for the presses of each group.
//!
//! A group is one savepoint, and many rooms' groups are one commit. What is marked as gone goes in the same write; what a quiet
//! or an ended room leaves behind is swept.

use super::Store;
use super::readers::Readers;
use super::statement::{Statements, before, count, rows, time, user_id};
use super::writer::Write;
use crate::model::id::{RoomId, UserId};
use crate::model::room::presses::{pack_all, unpack_all};
use crate::model::room::{Counts, Effect, EventTypes, IDLE_AGE, PRESS_AGE, RECENT_PRESSES, Room};
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::rooms::{Group, Hold, NewRoom, PressGroup, RoomWrite, Rooms, TakenRoom};
use crate::storage::{Pending, StorageError};
use rusqlite::{Connection, Row, params};
use std::sync::Arc;

impl Rooms for Store {
    fn make_room(&self, new: NewRoom) -> Pending<()> {
        self.write(move |write| make(write, &new))
    }

    fn room(&self, id: RoomId) -> Pending<Option<Room>> {
        self.read(move |store| {
            let sql =
                "SELECT id, owner, created_at, event_types FROM rooms WHERE id = ?1 AND ended_at IS NULL";
            store.first(sql, [id.bytes()], room)
        })
    }

    fn rooms_of(&self, owner: UserId, limit: usize) -> Pending<Vec<Room>> {
        self.read(move |store| {
            store.all(
                "SELECT id, owner, created_at, event_types FROM rooms
                 WHERE owner = ?1 AND ended_at IS NULL ORDER BY id DESC LIMIT ?2",
                params![owner.0.as_bytes(), rows(limit)],
                room,
            )
        })
    }

    fn idle_rooms(&self, shards: Vec<Shard>, before: Timestamp, limit: usize) -> Pending<Vec<RoomId>> {
        self.read(move |store| {
            let sql = "SELECT id FROM rooms WHERE ended_at IS NULL AND active_at < ?1 ORDER BY active_at";
            let mut statement = store.prepare_cached(sql)?;
            let mut found = statement.query([before.millis()])?;
            let mut idle = Vec::new();
            while idle.len() < limit
                && let Some(row) = found.next()?
            {
                let id = room_id(row, 0)?;
                if shards.contains(&Shard::of_room(id)) {
                    idle.push(id);
                }
            }
            Ok(idle)
        })
    }

    fn take_room(&self, id: RoomId, now: Timestamp) -> Pending<Option<TakenRoom>> {
        let taking = self.write(move |write| take(write, id));
        let readers = Arc::clone(&self.readers);
        Box::pin(async move {
            let Some((key, presses_from, mut taken)) = taking.await? else {
                return Ok(None);
            };
            // Nobody else writes presses of it any more.
            taken.recent = recent(&readers, key, presses_from, now).await?;
            Ok(Some(taken))
        })
    }

    fn write_room(&self, id: RoomId, hold: Hold, group: Group) -> Pending<RoomWrite> {
        self.write(move |write| write_group(write, id, hold, &group))
    }

    fn end_room(&self, id: RoomId, hold: Hold) -> Pending<RoomWrite> {
        self.write(move |write| {
            let ended = write.connection.change(
                "UPDATE rooms SET ended_at = ?4, version = version + 1
                 WHERE id = ?1 AND epoch = ?2 AND version = ?3 AND ended_at IS NULL",
                params![id.bytes(), number(hold.epoch), number(hold.version), Timestamp::now().millis()],
            )?;
            Ok(if ended == 1 { RoomWrite::Written } else { RoomWrite::Superseded })
        })
    }

    fn effects(&self, id: RoomId, after: u64, limit: usize) -> Pending<Vec<Effect>> {
        self.read(move |store| {
            store.all(
                "SELECT e.seq, e.event_type, e.trigger_count, e.viewer_count
                 FROM room_effects e JOIN rooms r ON r.key = e.room
                 WHERE r.id = ?1 AND r.ended_at IS NULL AND e.seq > ?2 ORDER BY e.seq LIMIT ?3",
                params![id.bytes(), number(after), rows(limit)],
                effect,
            )
        })
    }
}

fn make(write: &Write<'_>, new: &NewRoom) -> Result<(), StorageError> {
    write.connection.change(
        "INSERT INTO rooms (id, owner, created_at, event_types, counts, active_at) VALUES (?1, ?2, ?3, ?4, ?5, ?3)
         ON CONFLICT (id) DO NOTHING",
        params![
            new.id.bytes(),
            new.owner.0.as_bytes(),
            new.created_at.millis(),
            new.event_types.stored(),
            Counts::new(&new.event_types).stored()
        ],
    )?;
    Ok(())
}

/// Takes a room; answers its key in the store and from which version on it has presses, too.
fn take(write: &Write<'_>, id: RoomId) -> Result<Option<(i64, u64, TakenRoom)>, StorageError> {
    let store = write.connection;
    let raise = "UPDATE rooms SET epoch = epoch + 1 WHERE id = ?1 AND ended_at IS NULL";
    if store.change(raise, [id.bytes()])? == 0 {
        return Ok(None);
    }
    store.first(
        "SELECT id, owner, created_at, event_types, epoch, version, counts, next_seq, sent, active_at, acknowledges, key, presses_from
         FROM rooms WHERE id = ?1",
        [id.bytes()],
        |row| Ok((row.get(11)?, count(row, 12)?, taken(row)?)),
    )
}

/// Columns 0 to 10: id, owner, time, event types, epoch, version, counts, next effect, sent, when somebody was there last, whether
/// a host has acknowledged.
pub(super) fn taken(row: &Row<'_>) -> rusqlite::Result<TakenRoom> {
    let room = room(row)?;
    let counts = Counts::of_stored(&room.event_types, &row.get::<_, Vec<u8>>(6)?, count(row, 7)?);
    Ok(TakenRoom {
        hold: Hold { epoch: count(row, 4)?, version: count(row, 5)? },
        counts: counts.ok_or_else(|| damaged(6))?,
        sent: count(row, 8)?,
        acknowledges: row.get(10)?,
        active_at: time(row, 9)?,
        recent: Vec::new(),
        room,
    })
}

/// The recent presses of the room of that key.
fn recent(readers: &Arc<Readers>, key: i64, from: u64, now: Timestamp) -> Pending<Vec<PressGroup>> {
    readers.call(move |store| {
        let mut statement = store.prepare_cached(
            "SELECT version, at, presses FROM room_presses
             WHERE room = ?1 AND version >= ?2 AND at >= ?3 ORDER BY version DESC",
        )?;
        let mut found = statement.query(params![key, number(from), now.before(PRESS_AGE).millis()])?;
        let (mut groups, mut presses) = (Vec::new(), 0);
        while presses < RECENT_PRESSES
            && let Some(row) = found.next()?
        {
            let group = press_group(row)?;
            presses += group.presses.len();
            groups.push(group);
        }
        groups.reverse();
        Ok(groups)
    })
}

fn write_group(write: &Write<'_>, id: RoomId, hold: Hold, group: &Group) -> Result<RoomWrite, StorageError> {
    let store = write.connection;
    let key = store.first(
        "SELECT key FROM rooms WHERE id = ?1 AND epoch = ?2 AND version = ?3 AND ended_at IS NULL",
        params![id.bytes(), number(hold.epoch), number(hold.version)],
        |row| row.get::<_, i64>(0),
    )?;
    let Some(key) = key else {
        return Ok(RoomWrite::Superseded);
    };
    let version = number(hold.next().version);
    store.change(
        "UPDATE rooms SET version = ?2, counts = ?3, next_seq = ?4, sent = max(sent, ?5),
             presses_from = max(presses_from, ?6), active_at = max(active_at, ?7),
             acknowledges = max(acknowledges, ?8) WHERE key = ?1",
        params![
            key,
            version,
            group.counts.stored(),
            number(group.counts.next_seq),
            number(group.sent),
            number(group.presses_from),
            group.active_at.millis(),
            group.acknowledges
        ],
    )?;
    for effect in &group.effects {
        store.change(
            "INSERT INTO room_effects (room, seq, event_type, trigger_count, viewer_count) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![key, number(effect.seq), effect.event_type, effect.trigger_count, effect.viewer_count],
        )?;
    }
    if !group.presses.is_empty() {
        store.change(
            "INSERT INTO room_presses (room, version, at, presses) VALUES (?1, ?2, ?3, ?4)",
            params![key, version, group.at.millis(), pack_all(&group.presses)],
        )?;
    }
    store.change("DELETE FROM room_effects WHERE room = ?1 AND seq <= ?2", [key, number(group.sent)])?;
    store.change(
        "DELETE FROM room_presses WHERE room = ?1 AND version < ?2",
        [key, number(group.presses_from)],
    )?;
    Ok(RoomWrite::Written)
}

/// Removes presses that are too old, and what ended rooms leave behind; of each `slice` at most.
pub(super) fn sweep(store: &Connection, now: Timestamp, slice: i64) -> Result<usize, StorageError> {
    let mut gone = store.change(
        "DELETE FROM room_presses WHERE rowid IN (SELECT rowid FROM room_presses WHERE at < ?1 LIMIT ?2)",
        [now.before(PRESS_AGE).millis(), slice],
    )?;
    gone += store.change(
        "DELETE FROM room_effects WHERE (room, seq) IN
         (SELECT e.room, e.seq FROM rooms r JOIN room_effects e ON e.room = r.key
          WHERE r.ended_at IS NOT NULL LIMIT ?1)",
        [slice],
    )?;
    gone += store.change(
        "DELETE FROM rooms WHERE key IN
         (SELECT key FROM rooms r WHERE ended_at < ?1
              AND NOT EXISTS (SELECT 1 FROM room_effects WHERE room = r.key)
              AND NOT EXISTS (SELECT 1 FROM room_presses WHERE room = r.key) LIMIT ?2)",
        [now.before(IDLE_AGE).millis(), slice],
    )?;
    Ok(gone)
}

/// Columns 0 to 3: id, owner, time, event types.
fn room(row: &Row<'_>) -> rusqlite::Result<Room> {
    let event_types = EventTypes::of_stored(&row.get::<_, String>(3)?).ok_or_else(|| damaged(3))?;
    Ok(Room { id: room_id(row, 0)?, owner: user_id(row, 1)?, created_at: time(row, 2)?, event_types })
}

/// Columns 0 to 2: version, time, presses.
pub(super) fn press_group(row: &Row<'_>) -> rusqlite::Result<PressGroup> {
    let presses = unpack_all(&row.get::<_, Vec<u8>>(2)?).ok_or_else(|| damaged(2))?;
    Ok(PressGroup { version: count(row, 0)?, at: time(row, 1)?, presses })
}

/// Columns 0 to 3: number, event type, presses, viewers.
pub(super) fn effect(row: &Row<'_>) -> rusqlite::Result<Effect> {
    Ok(Effect {
        seq: count(row, 0)?,
        event_type: row.get(1)?,
        trigger_count: row.get(2)?,
        viewer_count: row.get(3)?,
    })
}

/// A column that is a room's id.
pub(super) fn room_id(row: &Row<'_>, column: usize) -> rusqlite::Result<RoomId> {
    row.get(column).map(RoomId::of_bytes)
}

/// A number as SQLite has it.
pub(super) fn number(number: u64) -> i64 {
    before(Some(number))
}

/// A column that has not what was stored there.
fn damaged(column: usize) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(
        column,
        rusqlite::types::Type::Blob,
        "not what was stored".into(),
    )
}
