//! Rooms: a partition each, changed by lightweight transactions alone. A group is one conditional batch in it, on epoch and
//! version, so that of two homes that act at once one writes and the other learns that it was superseded.
//!
//! What became of a batch that was not answered is read at LOCAL_SERIAL ([`Inner::settle_room`]); where that does not tell, the
//! home takes the room anew, and after the epoch has risen nothing of the former home's can come any more. A room that
//! has ended says so in its row, which stays.

use super::cql::{Cql, Decision, statements};
use super::tries::Tries;
use super::{Inner, Store};
use crate::model::id::{RoomId, UserId};
use crate::model::room::presses::{pack_all, unpack_all};
use crate::model::room::{Counts, Effect, EventTypes, IDLE_AGE, PRESS_AGE, Room};
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::rooms::{Group, Hold, NewRoom, PressGroup, RoomWrite, Rooms as RoomStore, TakenRoom};
use crate::storage::{Pending, StorageError};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use moka::sync::Cache;
use scylla::DeserializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
use uuid::Uuid;

/// A room that is there.
const THERE: i8 = 1;
/// Rows of this kind are effects.
pub(super) const EFFECT: i8 = 1;
/// Rows of this kind are presses.
pub(super) const PRESSES: i8 = 2;
/// Rooms of which is remembered how far their effects are gone.
const REMEMBERED: u64 = 100_000;
/// Rooms that one call reads at once.
const AT_ONCE: usize = 32;

statements! {
    /// What is asked of rooms.
    Statements {
        show: Read, "SELECT DISTINCT room, state, owner, created_at, event_types, epoch, version, counts, next_seq, sent, acknowledges, presses_from, active_at FROM rooms WHERE room = ?";
        decide: Decide, "SELECT DISTINCT room, state, owner, created_at, event_types, epoch, version, counts, next_seq, sent, acknowledges, presses_from, active_at FROM rooms WHERE room = ?";
        make: Claim, "UPDATE rooms SET state = 1, owner = ?, created_at = ?, event_types = ?, epoch = 0, version = 0, counts = ?, next_seq = 1, sent = 0, presses_from = 0, active_at = ? WHERE room = ? IF state = null";
        take: Claim, "UPDATE rooms SET epoch = ? WHERE room = ? IF epoch = ? AND state = 1";
        group: Claim, "UPDATE rooms SET version = ?, counts = ?, next_seq = ?, sent = ?, acknowledges = ?, presses_from = ?, active_at = ? WHERE room = ? IF epoch = ? AND version = ? AND state = 1";
        effect: Claim, "INSERT INTO rooms (room, kind, number, body) VALUES (?, 1, ?, ?)";
        presses: Claim, "INSERT INTO rooms (room, kind, number, at, body) VALUES (?, 2, ?, ?, ?) USING TTL 900";
        drop: Claim, "DELETE FROM rooms WHERE room = ? AND kind = ? AND number <= ?";
        end: Claim, "UPDATE rooms SET state = 2, version = ? WHERE room = ? IF epoch = ? AND version = ? AND state = 1";
        behind: Read, "SELECT number, at, body FROM rooms WHERE room = ? AND kind = ? AND number > ? LIMIT ?";
        enlist: Write, "INSERT INTO rooms_by_owner (owner, room) VALUES (?, ?)";
        delist: Write, "DELETE FROM rooms_by_owner WHERE owner = ? AND room = ?";
        list: Read, "SELECT room FROM rooms_by_owner WHERE owner = ? AND room < ? LIMIT ?";
        note: Write, "INSERT INTO rooms_by_shard (shard, room) VALUES (?, ?)";
        remove_note: Write, "DELETE FROM rooms_by_shard WHERE shard = ? AND room = ?";
        notes: Read, "SELECT room FROM rooms_by_shard WHERE shard = ?";
    }
}

/// What is kept in this process.
pub(super) struct Rooms {
    statements: Statements,
    /// Up to which number a room's effects were removed: to remove them again would leave another tombstone.
    removed: Cache<RoomId, u64>,
}

impl Rooms {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self, StorageError> {
        Ok(Self { statements: Statements::prepare(cql).await?, removed: Cache::new(REMEMBERED) })
    }
}

/// What a room's partition has once.
#[derive(DeserializeRow)]
pub(super) struct Head {
    room: Vec<u8>,
    state: Option<i8>,
    owner: Option<Uuid>,
    created_at: Option<i64>,
    event_types: Option<String>,
    epoch: Option<i64>,
    version: Option<i64>,
    counts: Option<Vec<u8>>,
    next_seq: Option<i64>,
    sent: Option<i64>,
    acknowledges: Option<bool>,
    presses_from: Option<i64>,
    active_at: Option<i64>,
}

impl Head {
    fn is_there(&self) -> bool {
        self.state == Some(THERE)
    }

    pub(super) fn hold(&self) -> Hold {
        Hold { epoch: number(self.epoch), version: number(self.version) }
    }

    /// Up to which number effects are gone, and below which version presses are.
    pub(super) fn gone(&self) -> (u64, u64) {
        (number(self.sent), number(self.presses_from))
    }

    fn room(&self) -> Result<Room, StorageError> {
        let event_types = self.event_types.as_deref().and_then(EventTypes::of_stored).ok_or_else(damaged)?;
        Ok(Room {
            id: id(&self.room)?,
            owner: UserId(self.owner.ok_or_else(damaged)?),
            created_at: time(self.created_at),
            event_types,
        })
    }

    pub(super) fn taken(&self, epoch: u64) -> Result<TakenRoom, StorageError> {
        let room = self.room()?;
        let counts = self.counts.as_deref().unwrap_or_default();
        Ok(TakenRoom {
            hold: Hold { epoch, ..self.hold() },
            counts: Counts::of_stored(&room.event_types, counts, number(self.next_seq))
                .ok_or_else(damaged)?,
            sent: number(self.sent),
            acknowledges: self.acknowledges.unwrap_or(false),
            active_at: time(self.active_at),
            recent: Vec::new(),
            room,
        })
    }
}

/// A row of effects or presses.
pub(super) type Row = (i64, Option<i64>, Option<Vec<u8>>);

impl RoomStore for Store {
    fn make_room(&self, new: NewRoom) -> Pending<()> {
        self.change(move |store| async move { store.make_room(&new).await })
    }

    fn room(&self, id: RoomId) -> Pending<Option<Room>> {
        self.read(move |store| async move {
            let head = store.room_head(&store.rooms.statements.show, id).await?;
            head.map(|head| head.room()).transpose()
        })
    }

    fn rooms_of(&self, owner: UserId, limit: usize) -> Pending<Vec<Room>> {
        self.read(move |store| async move { store.rooms_of(owner, limit).await })
    }

    fn idle_rooms(&self, shards: Vec<Shard>, before: Timestamp, limit: usize) -> Pending<Vec<RoomId>> {
        self.read(move |store| async move { store.idle_rooms(&shards, before, limit).await })
    }

    fn take_room(&self, id: RoomId, now: Timestamp) -> Pending<Option<TakenRoom>> {
        self.change(move |store| async move { store.take_room(id, now).await })
    }

    fn write_room(&self, id: RoomId, hold: Hold, group: Group) -> Pending<RoomWrite> {
        self.change(move |store| async move { store.write_room(id, hold, &group).await })
    }

    fn end_room(&self, id: RoomId, hold: Hold) -> Pending<RoomWrite> {
        self.change(move |store| async move { store.end_room(id, hold).await })
    }

    fn effects(&self, id: RoomId, after: u64, limit: usize) -> Pending<Vec<Effect>> {
        self.read(move |store| async move {
            let statements = &store.rooms.statements;
            let Some(head) = store.room_head(&statements.show, id).await? else {
                return Ok(Vec::new());
            };
            let after = column(after).max(head.sent.unwrap_or(0));
            let limit = i32::try_from(limit).unwrap_or(i32::MAX);
            let values = (&id.bytes()[..], EFFECT, after, limit);
            let rows: Vec<Row> = store.cql.rows(&statements.behind, values).await?;
            rows.into_iter().map(effect).collect()
        })
    }
}

impl Inner {
    /// A room that is there, read by that statement.
    async fn room_head(
        &self,
        statement: &PreparedStatement,
        id: RoomId,
    ) -> Result<Option<Head>, StorageError> {
        let head: Option<Head> = self.cql.first(statement, (&id.bytes()[..],)).await?;
        Ok(head.filter(Head::is_there))
    }

    /// A room that is there, as it is shown.
    pub(super) async fn shown_room(&self, id: RoomId) -> Result<Option<Head>, StorageError> {
        self.room_head(&self.rooms.statements.show, id).await
    }

    /// Writes a room that is about to be made into the lists of rooms.
    pub(super) async fn list_room(&self, id: RoomId, owner: UserId) -> Result<(), StorageError> {
        let (statements, room) = (&self.rooms.statements, &id.bytes()[..]);
        tokio::try_join!(
            self.cql.write(&statements.note, (shard(id), room)),
            self.cql.write(&statements.enlist, (owner.0, room)),
        )?;
        Ok(())
    }

    async fn make_room(&self, new: &NewRoom) -> Result<(), StorageError> {
        let statements = &self.rooms.statements;
        let room = &new.id.bytes()[..];
        self.list_room(new.id, new.owner).await?;
        let mut tries = Tries::begin();
        loop {
            let (at, counts) = (new.created_at.millis(), Counts::new(&new.event_types).stored());
            let values = (new.owner.0, at, new.event_types.stored(), counts, at, room);
            if self.cql.decide(&statements.make, values).await? != Decision::Unknown {
                // Refused: it was made before.
                return Ok(());
            }
            tries.again().await?;
        }
    }

    async fn rooms_of(&self, owner: UserId, limit: usize) -> Result<Vec<Room>, StorageError> {
        let statements = &self.rooms.statements;
        // Every id is below these seventeen bytes.
        let (mut rooms, mut below) = (Vec::new(), vec![u8::MAX; 17]);
        while rooms.len() < limit {
            let wanted = i32::try_from(limit - rooms.len()).unwrap_or(i32::MAX);
            let listed: Vec<(Vec<u8>,)> = self.cql.rows(&statements.list, (owner.0, &below, wanted)).await?;
            let Some((last,)) = listed.last() else { break };
            below.clone_from(last);
            let ids: Vec<RoomId> = listed.iter().map(|(room,)| id(room)).collect::<Result<_, _>>()?;
            let heads: Vec<Option<Head>> = iter(ids)
                .map(|id| self.room_head(&statements.show, id))
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            for head in heads.into_iter().flatten() {
                rooms.push(head.room()?);
            }
        }
        Ok(rooms)
    }

    async fn idle_rooms(
        &self,
        shards: &[Shard],
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<RoomId>, StorageError> {
        let statements = &self.rooms.statements;
        let mut idle = Vec::new();
        for shard in shards {
            let notes: Vec<(Vec<u8>,)> = self.cql.rows(&statements.notes, (i32::from(shard.0),)).await?;
            let heads = iter(notes).map(|(room,)| async move {
                let id = id(&room)?;
                self.room_head(&statements.show, id).await.map(|head| (id, head))
            });
            let heads: Vec<Result<_, StorageError>> = heads.buffer_unordered(AT_ONCE).collect().await;
            for head in heads {
                let (id, head): (RoomId, Option<Head>) = match head {
                    Ok(head) => head,
                    // It stays so; the others are none the worse for it.
                    Err(error @ StorageError::Refused(_)) => {
                        tracing::warn!(shard = shard.0, %error, "a room of shard {} is passed over: {error}", shard.0);
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                match head {
                    Some(head) if time(head.active_at) < before => idle.push(id),
                    Some(_) => {}
                    // It ended and its note stayed, or it was never made.
                    None if id.made_at() < Timestamp::now().before(IDLE_AGE) => {
                        let values = (i32::from(shard.0), &id.bytes()[..]);
                        self.cql.write(&statements.remove_note, values).await?;
                    }
                    None => {}
                }
            }
            if idle.len() >= limit {
                idle.truncate(limit);
                break;
            }
        }
        Ok(idle)
    }

    async fn take_room(&self, id: RoomId, now: Timestamp) -> Result<Option<TakenRoom>, StorageError> {
        let statements = &self.rooms.statements;
        let room = &id.bytes()[..];
        let mut tries = Tries::begin();
        let epoch = loop {
            let Some(head) = self.room_head(&statements.decide, id).await? else {
                return Ok(None);
            };
            let epoch = head.hold().epoch + 1;
            let values = (column(epoch), room, head.epoch);
            if self.cql.decide(&statements.take, values).await? == Decision::Applied {
                break epoch;
            }
            // Another took it, or it is not known whether this did: the next epoch is nobody's yet.
            tries.again().await?;
        };
        // What the former home wrote until then is all there now. Whoever has taken it since writes for a later epoch,
        // and what is written by this one is refused.
        let Some(head) = self.room_head(&statements.decide, id).await? else {
            return Ok(None);
        };
        let mut taken = head.taken(epoch)?;
        let values = (room, PRESSES, head.presses_from.unwrap_or(0) - 1, i32::MAX);
        let rows: Vec<Row> = self.cql.rows(&statements.behind, values).await?;
        let kept_from = now.before(PRESS_AGE);
        for row in rows.into_iter().filter(|(_, at, _)| time(*at) >= kept_from) {
            taken.recent.push(press_group(row)?);
        }
        self.rooms.removed.invalidate(&id);
        Ok(Some(taken))
    }

    async fn write_room(&self, id: RoomId, hold: Hold, group: &Group) -> Result<RoomWrite, StorageError> {
        let statements = &self.rooms.statements;
        let room = || CqlValue::Blob(id.bytes().to_vec());
        let big = |number: u64| CqlValue::BigInt(column(number));
        let version = hold.next().version;
        let mut batch = vec![&statements.group];
        let mut values = vec![vec![
            big(version),
            CqlValue::Blob(group.counts.stored()),
            big(group.counts.next_seq),
            big(group.sent),
            CqlValue::Boolean(group.acknowledges),
            big(group.presses_from),
            CqlValue::BigInt(group.active_at.millis()),
            room(),
            big(hold.epoch),
            big(hold.version),
        ]];
        for effect in &group.effects {
            batch.push(&statements.effect);
            values.push(vec![room(), big(effect.seq), CqlValue::Blob(effect_body(effect))]);
        }
        if !group.presses.is_empty() {
            batch.push(&statements.presses);
            let at = CqlValue::BigInt(group.at.millis());
            values.push(vec![room(), big(version), at, CqlValue::Blob(pack_all(&group.presses))]);
        }
        if group.sent > self.rooms.removed.get(&id).unwrap_or(0) {
            batch.push(&statements.drop);
            values.push(vec![room(), CqlValue::TinyInt(EFFECT), big(group.sent)]);
        }
        let decision = self.cql.decide_batch(&batch, values).await?;
        let written = self.settle_room(id, hold, decision, false).await?;
        if written == RoomWrite::Written {
            self.rooms.removed.insert(id, group.sent);
        }
        Ok(written)
    }

    async fn end_room(&self, id: RoomId, hold: Hold) -> Result<RoomWrite, StorageError> {
        let statements = &self.rooms.statements;
        let room = &id.bytes()[..];
        let Some(head) = self.room_head(&statements.decide, id).await? else {
            return Ok(RoomWrite::Superseded);
        };
        let batch = [&statements.end, &statements.drop, &statements.drop];
        let (epoch, version) = (column(hold.epoch), column(hold.version));
        let values = (
            (column(hold.next().version), room, epoch, version),
            (room, EFFECT, i64::MAX),
            (room, PRESSES, i64::MAX),
        );
        let decision = self.cql.decide_batch(&batch, values).await?;
        let ended = self.settle_room(id, hold, decision, true).await?;
        if ended == RoomWrite::Written {
            let owner = head.room()?.owner.0;
            tokio::try_join!(
                self.cql.write(&statements.delist, (owner, room)),
                self.cql.write(&statements.remove_note, (shard(id), room)),
            )?;
        }
        Ok(ended)
    }

    /// What became of a write by that hold, which was to end the room or not. A home writes one at a time, so that a version
    /// one further on in its epoch is its own write's.
    async fn settle_room(
        &self,
        id: RoomId,
        hold: Hold,
        decision: Decision,
        ends: bool,
    ) -> Result<RoomWrite, StorageError> {
        if decision == Decision::Applied {
            return Ok(RoomWrite::Written);
        }
        let head: Option<Head> = self.cql.first(&self.rooms.statements.decide, (&id.bytes()[..],)).await?;
        let Some(head) = head else {
            return Ok(RoomWrite::Superseded);
        };
        let now = head.hold();
        if now == hold.next() && head.is_there() != ends {
            return Ok(RoomWrite::Written);
        }
        // A condition that did not hold will not hold later, nor will one that another's epoch or the room's end has passed,
        // unless it had been written before that.
        let is_past = now != hold || !head.is_there();
        let cannot_have_been = decision == Decision::Refused || now.version <= hold.version;
        if is_past && cannot_have_been {
            return Ok(RoomWrite::Superseded);
        }
        Err(StorageError::Unavailable("whether a room's group was written is not known".to_owned()))
    }
}

/// Event type, count and viewers.
pub(super) fn effect_body(effect: &Effect) -> Vec<u8> {
    let mut body = vec![effect.event_type];
    body.extend_from_slice(&effect.trigger_count.to_be_bytes());
    body.extend_from_slice(&effect.viewer_count.to_be_bytes());
    body
}

pub(super) fn effect((seq, _, body): Row) -> Result<Effect, StorageError> {
    let body: [u8; 9] = body.and_then(|body| body.try_into().ok()).ok_or_else(damaged)?;
    let four = |from: usize| body[from..from + 4].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    Ok(Effect { seq: number(Some(seq)), event_type: body[0], trigger_count: four(1), viewer_count: four(5) })
}

pub(super) fn press_group((version, at, body): Row) -> Result<PressGroup, StorageError> {
    let presses = body.as_deref().and_then(unpack_all).ok_or_else(damaged)?;
    Ok(PressGroup { version: number(Some(version)), at: time(at), presses })
}

pub(super) fn id(room: &[u8]) -> Result<RoomId, StorageError> {
    room.try_into().map(RoomId::of_bytes).map_err(|_| damaged())
}

fn shard(id: RoomId) -> i32 {
    i32::from(Shard::of_room(id).0)
}

fn time(column: Option<i64>) -> Timestamp {
    Timestamp::from_millis(column.unwrap_or(0))
}

/// A column that counts or numbers something.
fn number(column: Option<i64>) -> u64 {
    column.and_then(|column| u64::try_from(column).ok()).unwrap_or(0)
}

pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn damaged() -> StorageError {
    StorageError::Refused("a room's row has not what was stored there".to_owned())
}
