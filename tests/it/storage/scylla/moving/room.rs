//! What of rooms comes along.

use super::{House, database, keyspace_options, moved, run, target};
use crate::storage::fixture::{Engine, TestStore};
use crate::storage::rooms::{a_room, effect, press, quiet};
use roost::model::id::{RoomId, UserId};
use roost::model::room::{Counts, PRESS_AGE};
use roost::model::shard::Shard;
use roost::model::timestamp::Timestamp;
use roost::storage::Upkeep;
use roost::storage::rooms::{Group, NewRoom, RoomWrite, Rooms, TakenRoom};
use roost::storage::scylla::{Mover, Store};
use roost::storage::sqlite;
use std::fmt::Write;
use std::time::Duration;

/// The rooms: one where much happened, one where nothing did, one that ended.
pub(super) async fn fill(store: &TestStore, users: &[UserId]) -> Vec<RoomId> {
    let mut rooms = Vec::new();
    for owner in [users[0], users[0], users[1]] {
        let new = a_room(owner);
        rooms.push(new.id);
        store.engine.make_room(new).await.unwrap();
    }
    let engine = store.engine.as_ref();
    let taken = taken(engine, rooms[0]).await;
    let old = Timestamp::now().before(PRESS_AGE + Duration::from_secs(60));
    // Presses that are too many, that are too old, and that are known; effects that the host has, and that it has not.
    for (number, at, sent) in [(1, None, 0), (2, Some(old), 2), (3, None, 2), (4, None, 3)] {
        let group = Group {
            counts: Counts { counts: vec![number as u32; 6], next_seq: 2 * number + 1 },
            effects: vec![effect(2 * number - 1), effect(2 * number)],
            presses: (0..7).map(|of| press(10 * number + of)).collect(),
            presses_from: if number > 1 { taken.hold.version + 2 } else { 0 },
            sent,
            acknowledges: number == 4,
            at: at.unwrap_or_else(Timestamp::now),
            ..quiet(&taken)
        };
        wrote(engine, rooms[0], &taken, number - 1, group).await;
    }
    let ended = self::taken(engine, rooms[2]).await;
    wrote(engine, rooms[2], &ended, 0, Group { effects: vec![effect(1)], ..quiet(&ended) }).await;
    assert_eq!(engine.end_room(rooms[2], ended.hold.next()).await.unwrap(), RoomWrite::Written);
    rooms
}

async fn taken(engine: &dyn Engine, room: RoomId) -> TakenRoom {
    engine.take_room(room, Timestamp::now()).await.unwrap().unwrap()
}

/// Writes a group of a home that has written so many.
async fn wrote(engine: &dyn Engine, room: RoomId, taken: &TakenRoom, before: u64, group: Group) {
    let hold = (0..before).fold(taken.hold, |hold, _| hold.next());
    assert_eq!(engine.write_room(room, hold, group).await.unwrap(), RoomWrite::Written);
}

/// All that a store shows of them, and all that a home finds but how often they were taken.
pub(super) async fn picture(house: &House, engine: &dyn Engine, shown: &mut String) {
    let mut line = |told: &dyn std::fmt::Debug| writeln!(shown, "{told:?}").unwrap();
    for user in &house.users {
        line(&engine.rooms_of(*user, 100).await.unwrap());
    }
    for room in &house.rooms {
        line(&engine.room(*room).await.unwrap());
        line(&engine.effects(*room, 0, 100).await.unwrap());
        let Some(taken) = engine.take_room(*room, Timestamp::now()).await.unwrap() else { continue };
        line(&(
            taken.hold.version,
            taken.counts,
            taken.sent,
            taken.acknowledges,
            taken.active_at,
            taken.recent,
        ));
    }
    let mut idle =
        engine.idle_rooms(Shard::all().collect(), Timestamp::now().after(PRESS_AGE), 100).await.unwrap();
    idle.retain(|room| house.rooms.contains(room));
    idle.sort_unstable();
    line(&idle);
}

/// The store goes on where the other ended.
pub(super) async fn is_lived_in(house: &House, engine: &dyn Engine) {
    let busy = house.rooms[0];
    let again = taken(engine, busy).await;
    let known: Vec<_> = again.recent.iter().flat_map(|group| &group.presses).copied().collect();
    assert!(again.acknowledges);
    assert_eq!(known, [30, 40].map(|first| (first..first + 7).map(press).collect::<Vec<_>>()).concat());
    let kept: Vec<_> = (4..=8).map(effect).collect();
    assert_eq!(engine.effects(busy, 0, 100).await.unwrap(), kept);
    let counts = Counts { counts: vec![0; 6], next_seq: again.counts.next_seq + 1 };
    let next = Group {
        counts: counts.clone(),
        effects: vec![effect(again.counts.next_seq)],
        presses: vec![press(90)],
        sent: 7,
        ..quiet(&again)
    };
    wrote(engine, busy, &again, 0, next).await;
    assert_eq!(engine.effects(busy, 0, 100).await.unwrap(), [effect(8), effect(9)]);
    let last = taken(engine, busy).await;
    assert_eq!((last.counts, last.sent), (counts, 7));
    assert_eq!(last.recent.last().unwrap().presses, [press(90)]);
    assert_eq!(engine.end_room(busy, last.hold).await.unwrap(), RoomWrite::Written);
    let listed = engine.rooms_of(house.users[0], 100).await.unwrap();
    assert_eq!(listed.iter().map(|room| room.id).collect::<Vec<_>>(), [house.rooms[1]]);
}

#[test]
fn many_rooms_and_one_of_many_effects_and_groups_come_along() {
    run(|keyspace| async move {
        let house = House::build().await;
        let engine = house.store.engine.as_ref();
        for number in 0..450 {
            let created_at = Timestamp::now();
            engine.make_room(NewRoom { created_at, ..a_room(house.users[number % 6]) }).await.unwrap();
        }
        let room = house.rooms[1];
        let before = taken(engine, room).await;
        for number in 1..=350 {
            let counts = Counts { next_seq: number + 1, ..before.counts.clone() };
            let (effects, presses) = (vec![effect(number)], vec![press(number)]);
            let group = Group { counts, effects, presses, ..quiet(&before) };
            wrote(engine, room, &before, number - 1, group).await;
        }
        let (before, effects) = (taken(engine, room).await, engine.effects(room, 0, 1_000).await.unwrap());
        assert_eq!((before.recent.len(), effects.len()), (350, 350));
        engine.close().await.unwrap();
        // Rooms and effects are read whole, and compared, by the copy itself; presses would be gone before that.
        moved(&database(&house.file()), &target(&keyspace).await).await;
        let cluster = Store::open(keyspace_options(&keyspace)).await.unwrap();
        assert_eq!(cluster.effects(room, 0, 1_000).await.unwrap(), effects);
        assert_eq!(taken(&cluster, room).await.recent, before.recent);
        let back = house.store.folder.path().join("back.db");
        let target = sqlite::Store::open_target(crate::storage::sqlite::options(&back)).unwrap();
        moved(&Mover::source(cluster).await.unwrap(), &target).await;
        target.close().await.unwrap();
        let back = database(&back);
        assert_eq!(back.effects(room, 0, 1_000).await.unwrap(), effects);
        assert_eq!(taken(&back, room).await.recent, before.recent);
    });
}
