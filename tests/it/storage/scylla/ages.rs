//! Cursors tell their own age: an entry's number is the time at which it was made.

use super::{run, run_alone};
use roost::model::cursor::Seq;
use roost::storage::{Loss, Missed, TIMELINE_AGE};
use std::time::Duration;

/// A place so much earlier.
fn earlier(seq: Seq, by: Duration) -> Seq {
    Seq(seq.0 - ((by.as_micros() as u64) << 8))
}

#[test]
fn a_cursor_older_than_thirty_days_is_expired_and_a_younger_one_is_not() {
    run(|store| async move {
        let (anna, ben) = (store.user("anna").await, store.user("ben").await);
        store.follow(anna, ben).await;
        let post = store.post(ben, "new").await;
        let minute = Duration::from_secs(60);
        let old = store.cursor(earlier(post.seq, TIMELINE_AGE + minute));
        assert_eq!(store.engine.since(anna, old).await.unwrap(), Missed::Lost(Loss::Expired));
        let young = store.missed(anna, earlier(post.seq, TIMELINE_AGE - minute)).await;
        assert_eq!(young.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [post.seq]);
    });
}

#[test]
fn the_same_keyspace_has_the_same_name_and_another_has_another() {
    run_alone(|store| async move {
        let again = store.open_again().await.engine;
        assert_eq!(again.store_name(), store.engine.store_name());
        run_beside(store.engine.store_name().0).await;
    });
}

/// A keyspace beside one whose store has that name.
async fn run_beside(name: u64) {
    let Some(nodes) = crate::harness::engines::cql_nodes() else { return };
    let other = super::alone(super::Keyspace::new(&nodes)).await;
    assert_ne!(other.engine.store_name().0, name);
}
