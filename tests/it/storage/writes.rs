//! What holds for every write, whatever it writes.

use super::TestStore;
use super::fixture::{Heard, a_like, stored};
use roost::storage::StorageError;

pub async fn writes_take_their_place_when_they_are_called(store: TestStore) {
    let anna = store.user("anna").await;
    let mut posting: Vec<_> =
        (0..100).map(|number| store.posting(anna, &format!("number {number}"))).collect();
    // Whoever waits for the last first changes nothing.
    posting.reverse();
    let mut posted = Vec::new();
    for post in posting {
        posted.push(stored(post.await.unwrap()));
    }
    assert!(posted.windows(2).all(|pair| pair[0].seq > pair[1].seq && pair[0].id > pair[1].id));
}

pub async fn a_write_nobody_waits_for_is_done(store: TestStore) {
    let anna = store.user("anna").await;
    let draft = store.draft(anna, "hello", roost::model::timestamp::Timestamp::now());
    drop(store.engine.append(draft.clone()));
    // A later write is answered after it.
    store.user("ben").await;
    assert!(store.engine.post(draft.id, anna).await.unwrap().is_some());
}

pub async fn entries_are_heard_of_in_order_before_they_can_be_read(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let held = store.observed.hold();
    let posting = [store.posting(anna, "one"), store.posting(ben, "two")];
    store.observed.wait_for(1).await;
    // The first was heard of, and is not committed yet.
    assert_eq!(store.engine.head().await.unwrap().0, 0);
    assert_eq!(store.timeline(anna, 10).await, []);
    drop(held);
    let mut expected = Vec::new();
    for (post, author) in posting.into_iter().zip([anna, ben]) {
        expected.push(Heard::Entering(stored(post.await.unwrap()).seq, author));
    }
    let newest = store.post(anna, "three").await;
    let deletion = store.delete(anna, newest.id).await;
    expected.extend([Heard::Entering(newest.seq, anna), Heard::Entering(deletion.seq, anna)]);
    assert_eq!(store.observed.heard(), expected);
    // Other writes are no entries.
    store.follow(anna, ben).await;
    assert_eq!(store.observed.heard(), expected);
}

pub async fn a_store_that_cannot_keep_up_refuses(store: TestStore) {
    let anna = store.user("anna").await;
    let post = store.post(anna, "liked").await;
    let held = store.observed.hold();
    let holding = store.posting(anna, "holds the writer up");
    store.observed.wait_for(2).await;
    let many: Vec<_> = (0..6_000).map(|_| store.engine.like(a_like(anna, post.id))).collect();
    drop(held);
    stored(holding.await.unwrap());
    let (mut done, mut refused) = (0, 0);
    for like in many {
        match like.await {
            Ok(_) => done += 1,
            Err(StorageError::Unavailable(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(done >= 1_000 && refused >= 1_000, "{done} done, {refused} refused");
    // What was refused is no failure of the store: it goes on.
    assert_eq!(store.engine.post(post.id, anna).await.unwrap().unwrap().post.likes, 1);
    store.post(anna, "goes on").await;
}
