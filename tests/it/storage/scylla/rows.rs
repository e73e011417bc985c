//! What stands in the rows themselves, or is put there: by writes that come late, by a crash between two of them, by
//! somebody who follows and unfollows all day.

use super::{Keyspace, RUNTIME, alone, session};
use crate::harness::engines::cql_nodes;
use crate::storage::fixture::{TestStore, stored};
use crate::storage::rooms::a_room;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use roost::model::cursor::Seq;
use roost::model::id::UserId;
use roost::model::shard::Shard;
use roost::model::timestamp::Timestamp;
use roost::storage::Page;
use roost::storage::rooms::NewRoom;
use scylla::client::session::Session;
use scylla::serialize::row::SerializeRow;
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

/// More than two slices of a fan-out.
const CROWD: i64 = 4_500;

/// Runs a test in a store of its own, with a way to its rows.
fn run<F: Future<Output = ()>>(test: impl FnOnce(TestStore, Session) -> F) {
    let Some(nodes) = cql_nodes() else { return };
    RUNTIME.block_on(async {
        let keyspace = Keyspace::new(&nodes);
        let name = keyspace.access.keyspace.clone();
        let store = alone(keyspace).await;
        let session = session(&nodes).await;
        session.use_keyspace(name, false).await.unwrap();
        test(store, session).await;
    });
}

async fn execute(session: &Session, text: &str, values: impl SerializeRow) {
    session.query_unpaged(text, values).await.unwrap();
}

async fn reached(session: &Session) -> BTreeSet<Uuid> {
    let rows = session.query_iter("SELECT reader FROM home_timeline", ()).await.unwrap();
    let rows = rows.rows_stream::<(Uuid,)>().unwrap();
    rows.map_ok(|(reader,)| reader).try_collect().await.unwrap()
}

#[test]
fn an_interrupted_fan_out_goes_on_behind_the_follower_that_was_noted_down() {
    run(|store, session| async move {
        let author = store.user("author").await;
        let readers: Vec<Uuid> = (0..CROWD).map(|_| Uuid::now_v7()).collect();
        let insert = "INSERT INTO followers_by_place (followee, shard, place, follower) VALUES (?, 0, ?, ?)";
        let insert = &session.prepare(insert).await.unwrap();
        let rows = readers.iter().zip(1_i64..).map(|(reader, place)| {
            let session = &session;
            async move { session.execute_unpaged(insert, (author.0, place, reader)).await }
        });
        iter(rows).buffer_unordered(64).try_for_each(|_| std::future::ready(Ok(()))).await.unwrap();
        let count = "UPDATE follow_counts SET followers[0] = ? WHERE user = ?";
        execute(&session, count, (CROWD, author.0)).await;

        let fan_out = store.fan_out.clone().unwrap();
        let posting = async || stored(store.posting(author, "text").await.unwrap()).seq;
        let key =
            |seq: Seq| ((seq.0 & 0xff) as i32, (seq.0 >> 8).div_euclid(60_000_000) as i32, seq.0 as i64);

        let whole = posting().await;
        fan_out.fan_out(whole).await.unwrap();
        assert_eq!(reached(&session).await, readers.iter().copied().collect());
        let noted = "SELECT progress FROM jobs WHERE shard = ? AND minute = ? AND seq = ?";
        let noted = session.query_unpaged(noted, key(whole)).await.unwrap().into_rows_result().unwrap();
        let (progress,) = noted.single_row::<(Option<String>,)>().unwrap();
        assert!(progress.is_some(), "no place was noted down between two slices");

        // As a process left it that ended when the newest thousand were reached.
        execute(&session, "TRUNCATE home_timeline", ()).await;
        let half = posting().await;
        let place = CROWD - 1_000;
        let note = "UPDATE jobs SET progress = ? WHERE shard = ? AND minute = ? AND seq = ?";
        let (shard, minute, seq) = key(half);
        execute(&session, note, (format!(r#"{{"0":{place}}}"#), shard, minute, seq)).await;
        fan_out.fan_out(half).await.unwrap();
        assert_eq!(reached(&session).await, readers[..place as usize - 1].iter().copied().collect());
    });
}

#[test]
fn who_follows_and_unfollows_all_day_leaves_few_places_in_the_lists() {
    run(|store, session| async move {
        let (anna, ben) = (store.user("anna").await, store.user("ben").await);
        let mut places = BTreeSet::new();
        for _ in 0..20 {
            store.follow(anna, ben).await;
            let first = Page { before: None, limit: 10 };
            let followers = store.engine.followers(ben, first).await.unwrap().unwrap();
            assert_eq!(followers.items.iter().map(|(_, user)| user.id).collect::<Vec<_>>(), [anna]);
            places.insert(followers.items[0].0);
            store.unfollow(anna, ben).await;
            assert_eq!(store.engine.followers(ben, first).await.unwrap().unwrap().items, []);
            assert_eq!(store.engine.following(anna, first).await.unwrap().unwrap().items, []);
        }
        assert!((2..=5).contains(&places.len()), "{} places of one pair", places.len());
        // Once it has rested, the next follow is the newest again.
        let long_ago = (Timestamp::now().before(Duration::from_secs(11 * 86_400)).millis() * 1_000) << 8;
        let age = "UPDATE following SET recent = ? WHERE follower = ? AND followee = ? IF state = 0";
        execute(&session, age, (vec![long_ago; 8], anna.0, ben.0)).await;
        store.follow(anna, ben).await;
        let first = Page { before: None, limit: 10 };
        let followers = store.engine.followers(ben, first).await.unwrap().unwrap();
        assert!(followers.items[0].0 > *places.last().unwrap());
    });
}

#[test]
fn what_was_put_off_late_does_not_bring_back_an_event_that_was_sent() {
    run(|store, session| async move {
        store.users(2).await;
        let now = Timestamp::now();
        let later = now.after(Duration::from_secs(3_600));
        let due = store.engine.due_events(now, 10).await.unwrap();
        let key = |id: u64| ((id & 0xff) as i32, (id >> 8).div_euclid(60_000_000) as i32, id as i64);
        store.engine.sent(vec![due[0].id]).await.unwrap();
        let late = "UPDATE events USING TIMESTAMP ? SET attempts = 1, due_at = ? WHERE shard = ? AND minute = ? AND id = ?";
        let (shard, minute, id) = key(due[0].id);
        let written_at = (due[0].id >> 8) as i64 + 1;
        execute(&session, late, (written_at, now.millis(), shard, minute, id)).await;
        let rows = "SELECT id FROM events WHERE shard = ? AND minute = ? AND id = ?";
        let row = session.query_unpaged(rows, (shard, minute, id)).await.unwrap().into_rows_result().unwrap();
        assert_eq!(row.rows_num(), 0);

        // A row that has lost its text holds up no other.
        let torn = "UPDATE events SET attempts = 1, due_at = ? WHERE shard = ? AND minute = ? AND id = ?";
        execute(&session, torn, (now.millis(), shard, minute, id)).await;
        let again = store.open_again().await.engine;
        again.take_over(Shard::all().collect()).await.unwrap();
        let left = again.due_events(later, 10).await.unwrap();
        assert_eq!(left.iter().map(|job| job.id).collect::<Vec<_>>(), [due[1].id]);
    });
}

#[test]
fn a_room_whose_row_is_damaged_keeps_no_other_from_being_found_idle() {
    run(|store, session| async move {
        let day = Duration::from_secs(24 * 3600);
        let new = NewRoom { created_at: Timestamp::now().before(2 * day), ..a_room(UserId::make()) };
        store.engine.make_room(new.clone()).await.unwrap();
        let shard = Shard::of_room(new.id);
        let insert = "INSERT INTO rooms_by_shard (shard, room) VALUES (?, 0x0102)";
        execute(&session, insert, (i32::from(shard.0),)).await;
        let idle = store.engine.idle_rooms(vec![shard], Timestamp::now().before(day), 10).await.unwrap();
        assert_eq!(idle, [new.id]);
    });
}
