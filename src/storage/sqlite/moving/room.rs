//! Rooms, out of a database and into one.

use super::super::rooms::{effect, number as stored, press_group, room_id, taken};
use super::super::statement::Statements;
use super::export::{PORTION, key, number, portion, portion_of};
use crate::model::room::PRESS_AGE;
use crate::model::room::presses::pack_all;
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use crate::storage::moving::{MovedEffect, MovedPresses, MovedRoom, Portion, Record};
use crate::storage::rooms::TakenRoom;
use rusqlite::{Connection, params};

/// Groups of presses read at a time: each may have hundreds.
const GROUPS: usize = 200;

pub(super) fn rooms(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    let rows = store.all(
        "SELECT id, owner, created_at, event_types, epoch, version, counts, next_seq, sent, active_at, acknowledges, key
         FROM rooms WHERE ended_at IS NULL AND key > ?1 ORDER BY key LIMIT ?2",
        [key(after, 0)?, PORTION as i64],
        |row| {
            let TakenRoom { room, hold, counts, sent, acknowledges, active_at, .. } = taken(row)?;
            let moved = MovedRoom { room, hold, counts, sent, acknowledges, active_at };
            Ok((number(row, 11)?, Some(Record::Room(moved))))
        },
    )?;
    portion(rows)
}

pub(super) fn effects(store: &Connection, after: Option<&str>) -> Result<Portion, StorageError> {
    let (room, seq): (i64, i64) = key(after, (0, 0))?;
    let rows = store.all(
        "SELECT e.seq, e.event_type, e.trigger_count, e.viewer_count, r.id, e.room
         FROM room_effects e JOIN rooms r ON r.key = e.room
         WHERE (e.room, e.seq) > (?1, ?2) AND r.ended_at IS NULL ORDER BY e.room, e.seq LIMIT ?3",
        [room, seq, PORTION as i64],
        |row| {
            let moved = MovedEffect { room: room_id(row, 4)?, effect: effect(row)? };
            Ok(((number(row, 5)?, number(row, 0)?), Some(Record::Effect(moved))))
        },
    )?;
    portion(rows)
}

pub(super) fn presses(
    store: &Connection,
    after: Option<&str>,
    alive_at: Timestamp,
) -> Result<Portion, StorageError> {
    let (room, version): (i64, i64) = key(after, (0, 0))?;
    let rows = store.all(
        "SELECT p.version, p.at, p.presses, r.id, p.room
         FROM room_presses p JOIN rooms r ON r.key = p.room
         WHERE (p.room, p.version) > (?1, ?2) AND p.version >= r.presses_from AND r.ended_at IS NULL
         ORDER BY p.room, p.version LIMIT ?3",
        [room, version, GROUPS as i64],
        |row| {
            let moved = MovedPresses { room: room_id(row, 3)?, group: press_group(row)? };
            let is_kept = moved.group.at.after(PRESS_AGE) > alive_at;
            Ok(((number(row, 4)?, number(row, 0)?), is_kept.then_some(Record::Presses(moved))))
        },
    )?;
    portion_of(rows, GROUPS)
}

pub(super) fn keep_room(store: &Connection, moved: &MovedRoom) -> Result<(), StorageError> {
    let MovedRoom { room, hold, counts, sent, acknowledges, active_at } = moved;
    store.change(
        "INSERT OR IGNORE INTO rooms
            (id, owner, created_at, event_types, epoch, version, counts, next_seq, sent, active_at, acknowledges)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            room.id.bytes(),
            room.owner.0.as_bytes(),
            room.created_at.millis(),
            room.event_types.stored(),
            stored(hold.epoch),
            stored(hold.version),
            counts.stored(),
            stored(counts.next_seq),
            stored(*sent),
            active_at.millis(),
            acknowledges,
        ],
    )?;
    Ok(())
}

pub(super) fn keep_effect(store: &Connection, moved: &MovedEffect) -> Result<(), StorageError> {
    let effect = &moved.effect;
    store.change(
        "INSERT OR IGNORE INTO room_effects (room, seq, event_type, trigger_count, viewer_count)
         SELECT key, ?2, ?3, ?4, ?5 FROM rooms WHERE id = ?1",
        params![
            moved.room.bytes(),
            stored(effect.seq),
            effect.event_type,
            effect.trigger_count,
            effect.viewer_count
        ],
    )?;
    Ok(())
}

pub(super) fn keep_presses(store: &Connection, moved: &MovedPresses) -> Result<(), StorageError> {
    let group = &moved.group;
    store.change(
        "INSERT OR IGNORE INTO room_presses (room, version, at, presses)
         SELECT key, ?2, ?3, ?4 FROM rooms WHERE id = ?1",
        params![moved.room.bytes(), stored(group.version), group.at.millis(), pack_all(&group.presses)],
    )?;
    Ok(())
}
