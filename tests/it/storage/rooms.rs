//! Rooms: taken by one home at a time, written in groups that are whole or not at all.

use super::TestStore;
use crate::harness::dice::Dice;
use futures_util::future::join_all;
use roost::model::id::{RoomId, UserId};
use roost::model::room::{
    Answered, Counts, Crowd, Effect, EventType, EventTypes, PRESS_AGE, Press, PressKey, RECENT_PRESSES, Room,
    Rules,
};
use roost::model::shard::Shard;
use roost::model::timestamp::Timestamp;
use roost::storage::rooms::{Group, Hold, NewRoom, PressGroup, RoomWrite, TakenRoom};
use std::collections::HashSet;
use std::time::Duration;

/// A room of the usual event types that is to be made.
pub fn a_room(owner: UserId) -> NewRoom {
    let event_types = Rules::default().event_types;
    NewRoom { id: RoomId::make(), owner, created_at: Timestamp::now(), event_types }
}

fn shown(new: &NewRoom) -> Room {
    Room { id: new.id, owner: new.owner, created_at: new.created_at, event_types: new.event_types.clone() }
}

/// A press that is like no other number's.
pub fn press(number: u64) -> Press {
    let mut key = [7; 16];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    let answered = Answered {
        event_type: (number % 6) as u8,
        current_count: number as u32 % 100,
        required_count: 100,
        effect_triggered: number.is_multiple_of(7),
        viewer_count: number as u32,
        next_threshold: 3,
    };
    Press { key: PressKey(key), answered }
}

pub fn effect(seq: u64) -> Effect {
    Effect { seq, event_type: (seq % 6) as u8, trigger_count: seq as u32 + 5, viewer_count: 90_000 }
}

/// A group that changes nothing but when somebody was there.
pub fn quiet(taken: &TakenRoom) -> Group {
    Group {
        counts: taken.counts.clone(),
        effects: Vec::new(),
        sent: taken.sent,
        acknowledges: taken.acknowledges,
        presses: Vec::new(),
        presses_from: 0,
        at: Timestamp::now(),
        active_at: Timestamp::now(),
    }
}

impl TestStore {
    async fn made_room(&self) -> NewRoom {
        let new = a_room(UserId::make());
        self.engine.make_room(new.clone()).await.unwrap();
        new
    }

    async fn taken(&self, id: RoomId) -> TakenRoom {
        self.engine.take_room(id, Timestamp::now()).await.unwrap().unwrap()
    }

    async fn wrote(&self, id: RoomId, hold: Hold, group: Group) -> RoomWrite {
        self.engine.write_room(id, hold, group).await.unwrap()
    }

    async fn kept(&self, id: RoomId) -> Vec<Effect> {
        self.engine.effects(id, 0, 10_000).await.unwrap()
    }
}

pub async fn a_room_is_made_once_and_read_back(store: TestStore) {
    let one = EventType::parse("jump_2-x", 7).unwrap();
    let new = NewRoom { event_types: EventTypes::parse(vec![one]).unwrap(), ..a_room(UserId::make()) };
    store.engine.make_room(new.clone()).await.unwrap();
    assert_eq!(store.engine.room(new.id).await.unwrap(), Some(shown(&new)));
    let taken = store.taken(new.id).await;
    assert_eq!(taken.room, shown(&new));
    assert_eq!(taken.counts, Counts::new(&new.event_types));
    assert_eq!((taken.sent, taken.active_at, taken.recent.len()), (0, new.created_at, 0));
    let counts = Counts { counts: vec![4], next_seq: 9 };
    let group = Group { counts: counts.clone(), ..quiet(&taken) };
    assert_eq!(store.wrote(new.id, taken.hold, group).await, RoomWrite::Written);
    // By whoever did not hear that it was made: nothing is changed.
    store.engine.make_room(NewRoom { owner: UserId::make(), ..new.clone() }).await.unwrap();
    assert_eq!(store.engine.room(new.id).await.unwrap(), Some(shown(&new)));
    assert_eq!(store.taken(new.id).await.counts, counts);
}

pub async fn rooms_of_an_owner_are_listed_newest_first(store: TestStore) {
    let (owner, other) = (UserId::make(), UserId::make());
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(a_room(owner));
    }
    made.sort_by_key(|new| std::cmp::Reverse(new.id));
    for new in [&made[2], &made[0], &made[4], &made[1], &made[3], &a_room(other)] {
        store.engine.make_room(new.clone()).await.unwrap();
    }
    let all: Vec<Room> = made.iter().map(shown).collect();
    assert_eq!(store.engine.rooms_of(owner, 10).await.unwrap(), all);
    assert_eq!(store.engine.rooms_of(owner, 2).await.unwrap(), all[..2]);
    let hold = store.taken(made[0].id).await.hold;
    assert_eq!(store.engine.end_room(made[0].id, hold).await.unwrap(), RoomWrite::Written);
    assert_eq!(store.engine.rooms_of(owner, 2).await.unwrap(), all[1..3]);
    assert_eq!(store.engine.rooms_of(UserId::make(), 10).await.unwrap(), []);
}

pub async fn a_room_that_never_was_is_none_to_every_call(store: TestStore) {
    let id = RoomId::make();
    let group = quiet(&store.taken(store.made_room().await.id).await);
    none(&store, id, Hold { epoch: 0, version: 0 }, group).await;
}

async fn none(store: &TestStore, id: RoomId, hold: Hold, group: Group) {
    assert_eq!(store.engine.room(id).await.unwrap(), None);
    assert_eq!(store.engine.take_room(id, Timestamp::now()).await.unwrap(), None);
    assert_eq!(store.wrote(id, hold, group).await, RoomWrite::Superseded);
    assert_eq!(store.engine.end_room(id, hold).await.unwrap(), RoomWrite::Superseded);
    assert_eq!(store.kept(id).await, []);
}

pub async fn a_group_is_there_whole_when_the_room_is_taken_again(store: TestStore) {
    let id = store.made_room().await.id;
    let taken = store.taken(id).await;
    let first = Group {
        counts: Counts { counts: vec![1, 2, 3, 4, 5, 65_535], next_seq: 3 },
        effects: vec![effect(1), effect(2)],
        presses: (0..40).map(press).collect(),
        ..quiet(&taken)
    };
    assert_eq!(store.wrote(id, taken.hold, first.clone()).await, RoomWrite::Written);
    let second = Group {
        counts: Counts { counts: vec![0; 6], next_seq: 4 },
        effects: vec![effect(3)],
        presses: vec![press(40)],
        active_at: first.active_at.after(Duration::from_secs(5)),
        ..quiet(&taken)
    };
    assert_eq!(store.wrote(id, taken.hold.next(), second.clone()).await, RoomWrite::Written);
    let again = store.taken(id).await;
    assert_eq!(again.counts, second.counts);
    assert_eq!(again.hold.version, taken.hold.version + 2);
    assert!(again.hold.epoch > taken.hold.epoch);
    assert_eq!(again.active_at, second.active_at);
    let group = |version, group: Group| PressGroup { version, at: group.at, presses: group.presses };
    assert_eq!(again.recent, [group(again.hold.version - 1, first), group(again.hold.version, second)]);
    assert_eq!(store.kept(id).await, [effect(1), effect(2), effect(3)]);
}

pub async fn a_superseded_home_writes_nothing(store: TestStore) {
    let id = store.made_room().await.id;
    let former = store.taken(id).await;
    let later = store.taken(id).await;
    let group = Group {
        counts: Counts { counts: vec![9; 6], next_seq: 2 },
        effects: vec![effect(1)],
        presses: vec![press(1)],
        ..quiet(&former)
    };
    assert_eq!(store.wrote(id, former.hold, group.clone()).await, RoomWrite::Superseded);
    assert_eq!(store.engine.end_room(id, former.hold).await.unwrap(), RoomWrite::Superseded);
    assert_eq!(store.kept(id).await, []);
    assert_eq!(store.wrote(id, later.hold, quiet(&later)).await, RoomWrite::Written);
    // Nor with the version that the room has now.
    assert_eq!(store.wrote(id, former.hold.next(), group).await, RoomWrite::Superseded);
    let taken = store.taken(id).await;
    assert_eq!((taken.counts, taken.recent), (later.counts, Vec::new()));
}

pub async fn of_many_that_take_it_at_once_one_writes(store: TestStore) {
    let id = store.made_room().await.id;
    for round in 1..=3 {
        let taking = (0..4).map(|_| tokio::spawn(store.engine.take_room(id, Timestamp::now())));
        let mut taken = Vec::new();
        for answer in join_all(taking).await {
            taken.push(answer.unwrap().unwrap().unwrap());
        }
        let epochs: HashSet<u64> = taken.iter().map(|taken| taken.hold.epoch).collect();
        assert_eq!(epochs.len(), 4);
        let writing = taken.iter().map(|taken| {
            let counts = Counts { counts: vec![taken.hold.epoch as u32; 6], next_seq: round + 1 };
            let group = Group { counts, effects: vec![effect(round)], ..quiet(taken) };
            tokio::spawn(store.engine.write_room(id, taken.hold, group))
        });
        let mut wrote = Vec::new();
        for (answer, taken) in join_all(writing).await.into_iter().zip(&taken) {
            if answer.unwrap().unwrap() == RoomWrite::Written {
                wrote.push(taken.hold.epoch);
            }
        }
        assert_eq!(wrote, [*epochs.iter().max().unwrap()]);
        assert_eq!(store.kept(id).await.len() as u64, round);
        assert_eq!(store.taken(id).await.counts.counts, [wrote[0] as u32; 6]);
    }
}

pub async fn of_two_groups_by_one_hold_one_is_written(store: TestStore) {
    let id = store.made_room().await.id;
    let taken = store.taken(id).await;
    let group = Group { effects: vec![effect(1)], presses: vec![press(1)], ..quiet(&taken) };
    assert_eq!(store.wrote(id, taken.hold, group).await, RoomWrite::Written);
    // A former version writes nothing, nor does one to come.
    let next = Group { effects: vec![effect(2)], presses: vec![press(2)], ..quiet(&taken) };
    let to_come = taken.hold.next().next();
    assert_eq!(store.wrote(id, to_come, next.clone()).await, RoomWrite::Superseded);
    assert_eq!(store.kept(id).await, [effect(1)]);
    assert_eq!(store.wrote(id, taken.hold.next(), next).await, RoomWrite::Written);
    let late = Group { effects: vec![effect(3)], ..quiet(&taken) };
    assert_eq!(store.wrote(id, taken.hold, late).await, RoomWrite::Superseded);
    assert_eq!(store.kept(id).await, [effect(1), effect(2)]);
    assert_eq!(store.taken(id).await.recent.len(), 2);
}

pub async fn effects_are_read_by_pages_and_go_once_they_are_sent(store: TestStore) {
    let id = store.made_room().await.id;
    let taken = store.taken(id).await;
    let all: Vec<Effect> = (1..=30).map(effect).collect();
    let mut hold = taken.hold;
    let numbered = |next_seq| Counts { next_seq, ..taken.counts.clone() };
    for (place, ten) in all.chunks(10).enumerate() {
        let group =
            Group { effects: ten.to_vec(), counts: numbered(10 * place as u64 + 11), ..quiet(&taken) };
        assert_eq!(store.wrote(id, hold, group).await, RoomWrite::Written);
        hold = hold.next();
    }
    let page = async |after, limit| store.engine.effects(id, after, limit).await.unwrap();
    assert_eq!(page(0, 12).await, all[..12]);
    assert_eq!(page(12, 12).await, all[12..24]);
    assert_eq!(page(24, 12).await, all[24..]);
    assert_eq!(page(30, 12).await, []);
    for sent in [7, 7, 29] {
        let group = Group { sent, counts: numbered(31), ..quiet(&taken) };
        assert_eq!(store.wrote(id, hold, group).await, RoomWrite::Written);
        hold = hold.next();
        assert_eq!(page(0, 100).await, all[sent as usize..]);
    }
    let again = store.taken(id).await;
    assert_eq!((again.sent, again.counts.next_seq), (29, 31));
    assert_eq!(store.kept(id).await, all[29..]);
}

pub async fn whether_a_host_acknowledges_is_known_from_then_on(store: TestStore) {
    let id = store.made_room().await.id;
    let taken = store.taken(id).await;
    assert!(!taken.acknowledges);
    let group = Group { acknowledges: true, ..quiet(&taken) };
    assert_eq!(store.wrote(id, taken.hold, group).await, RoomWrite::Written);
    let again = store.taken(id).await;
    assert!(again.acknowledges);
    // Of another room that says nothing.
    let other = store.made_room().await.id;
    assert!(!store.taken(other).await.acknowledges);
    assert_eq!(store.wrote(id, again.hold, quiet(&again)).await, RoomWrite::Written);
    assert!(store.taken(id).await.acknowledges);
}

pub async fn old_presses_are_not_answered_again(store: TestStore) {
    let id = store.made_room().await.id;
    let taken = store.taken(id).await;
    let now = Timestamp::now();
    let mut hold = taken.hold;
    for (number, age) in [(1, PRESS_AGE + Duration::from_secs(60)), (2, Duration::from_secs(500))] {
        let group = Group { presses: vec![press(number)], at: now.before(age), ..quiet(&taken) };
        assert_eq!(store.wrote(id, hold, group).await, RoomWrite::Written);
        hold = hold.next();
    }
    let group = Group { presses: vec![press(3)], at: now, ..quiet(&taken) };
    assert_eq!(store.wrote(id, hold, group).await, RoomWrite::Written);
    let numbers = |taken: TakenRoom| -> Vec<Press> {
        taken.recent.into_iter().flat_map(|group| group.presses).collect()
    };
    assert_eq!(numbers(store.taken(id).await), [press(2), press(3)]);
    // Nor those that are said to be too many.
    let last = store.taken(id).await;
    let group = Group { presses_from: last.hold.version, ..quiet(&last) };
    assert_eq!(store.wrote(id, last.hold, group).await, RoomWrite::Written);
    assert_eq!(numbers(store.taken(id).await), [press(3)]);
}

pub async fn an_ended_room_is_as_one_that_never_was(store: TestStore) {
    let new = store.made_room().await;
    let taken = store.taken(new.id).await;
    let group = Group { effects: vec![effect(1)], presses: vec![press(1)], ..quiet(&taken) };
    assert_eq!(store.wrote(new.id, taken.hold, group.clone()).await, RoomWrite::Written);
    let hold = taken.hold.next();
    assert_eq!(store.engine.end_room(new.id, hold).await.unwrap(), RoomWrite::Written);
    for late in [hold.next(), taken.hold] {
        none(&store, new.id, late, group.clone()).await;
    }
    assert_eq!(store.engine.rooms_of(new.owner, 10).await.unwrap(), []);
    let shards = vec![Shard::of_room(new.id)];
    let idle = store.engine.idle_rooms(shards, Timestamp::now().after(PRESS_AGE), 10_000).await.unwrap();
    assert!(!idle.contains(&new.id));
    // Its id is not given again.
    store.engine.make_room(new.clone()).await.unwrap();
    none(&store, new.id, hold.next(), group).await;
}

pub async fn rooms_are_idle_by_when_somebody_was_there_last(store: TestStore) {
    let day = Duration::from_secs(24 * 3600);
    let long_ago = Timestamp::now().before(2 * day);
    let before = Timestamp::now().before(day);
    let mut made = Vec::new();
    for _ in 0..3 {
        let new = NewRoom { created_at: long_ago, ..a_room(UserId::make()) };
        store.engine.make_room(new.clone()).await.unwrap();
        made.push(new.id);
    }
    let idle = async |shards: Vec<Shard>| -> Vec<bool> {
        let idle = store.engine.idle_rooms(shards, before, 10_000).await.unwrap();
        made.iter().map(|id| idle.contains(id)).collect()
    };
    let shards: Vec<Shard> = made.iter().map(|id| Shard::of_room(*id)).collect();
    assert_eq!(idle(shards.clone()).await, [true, true, true]);
    let others = Shard::all().filter(|shard| *shard != shards[0]).collect();
    assert!(!idle(others).await[0]);
    let taken = store.taken(made[1]).await;
    assert_eq!(store.wrote(made[1], taken.hold, quiet(&taken)).await, RoomWrite::Written);
    assert_eq!(idle(shards.clone()).await, [true, false, true]);
    assert_eq!(store.engine.idle_rooms(shards, before, 1).await.unwrap().len(), 1);
}

/// Homes come and go, each writes what it counts; what a store has must be what the model has.
pub async fn random_groups_agree_with_a_model(store: TestStore) {
    let mut dice = Dice::thrown("rooms");
    let (rules, types) = (Rules::default(), Rules::default().event_types);
    let id = store.made_room().await.id;
    let (mut counts, mut kept, mut sent, mut number) = (Counts::new(&types), Vec::new(), 0, 0);
    let mut presses: Vec<Press> = Vec::new();
    let mut former: Option<Hold> = None;
    for _ in 0..12 {
        let taken = store.taken(id).await;
        assert_eq!((&taken.counts, taken.sent), (&counts, sent));
        assert_eq!(taken.recent.into_iter().flat_map(|group| group.presses).collect::<Vec<_>>(), presses);
        assert_eq!(store.kept(id).await, kept);
        let mut hold = taken.hold;
        for _ in 0..dice.below(6) {
            let mut next = counts.clone();
            if dice.one_in(8) {
                next.reset();
            }
            let (mut effects, mut taken) = (Vec::new(), Vec::new());
            for _ in 0..dice.below(60) {
                let crowd = Crowd { before: dice.below(60) as u32, with: dice.below(60) as u32 };
                let (answered, effect) = next.press(&rules, &types, dice.below(6) as u8, crowd).unwrap();
                number += 1;
                taken.push(Press { key: press(number).key, answered });
                effects.extend(effect);
            }
            let sent_now = sent.max(dice.below(counts.next_seq as usize) as u64);
            let group = Group {
                counts: next.clone(),
                effects: effects.clone(),
                sent: sent_now,
                acknowledges: false,
                presses: taken.clone(),
                presses_from: 0,
                at: Timestamp::now(),
                active_at: Timestamp::now(),
            };
            let by = former.filter(|_| dice.one_in(4)).unwrap_or(hold);
            let wrote = store.wrote(id, by, group).await;
            assert_eq!(wrote == RoomWrite::Written, by == hold);
            if by == hold {
                hold = hold.next();
                kept.extend(effects);
                kept.retain(|effect: &Effect| effect.seq > sent_now);
                presses.extend(taken);
                (counts, sent) = (next, sent_now);
            }
        }
        former = Some(hold);
    }
}

/// As many as are kept, in groups of a busy room, and some that are too many.
pub async fn a_room_has_its_presses_when_the_store_is_opened_again(store: TestStore) {
    let new = store.made_room().await;
    let taken = store.taken(new.id).await;
    let (mut hold, group_size) = (taken.hold, 2_000);
    let all: Vec<Press> = (0..RECENT_PRESSES as u64 + group_size).map(press).collect();
    for presses in all.chunks(group_size as usize) {
        let group = Group { presses: presses.to_vec(), ..quiet(&taken) };
        assert_eq!(store.wrote(new.id, hold, group).await, RoomWrite::Written);
        hold = hold.next();
    }
    let again = store.open_again().await.engine;
    let taken = again.take_room(new.id, Timestamp::now()).await.unwrap().unwrap();
    let recent: Vec<Press> = taken.recent.into_iter().flat_map(|group| group.presses).collect();
    assert!(recent.len() >= RECENT_PRESSES, "{}", recent.len());
    assert!(recent == all[all.len() - recent.len()..], "other presses, or in another order");
    assert_eq!(again.room(new.id).await.unwrap(), Some(shown(&new)));
    let late = store.wrote(new.id, hold, quiet_of(&new)).await;
    assert_eq!(late, RoomWrite::Superseded);
}

/// A group of a room with nothing in it.
fn quiet_of(new: &NewRoom) -> Group {
    Group {
        counts: Counts::new(&new.event_types),
        effects: Vec::new(),
        sent: 0,
        acknowledges: false,
        presses: Vec::new(),
        presses_from: 0,
        at: Timestamp::now(),
        active_at: Timestamp::now(),
    }
}
