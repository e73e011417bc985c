//! The one writer: what it makes wait, in which order, and what it refuses.

use super::open;
use crate::storage::fixture::{a_follow, a_like, first, stored};
use crate::storage::observed::Heard;
use roost::model::cursor::Seq;
use roost::model::timestamp::Timestamp;
use roost::storage::{Followed, Liking, StorageError};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_are_heard_of_in_order_before_they_can_be_read() {
    let store = open().await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_keep_up_refuses() {
    let store = open().await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_author_is_read_behind_the_writes_that_were_called_before() {
    let store = open().await;
    let anna = store.user("anna").await;
    let held = store.observed.hold();
    let holding = store.posting(anna, "holds the writer up");
    store.observed.wait_for(1).await;
    let posting = store.posting(anna, "still waits");
    let reading = (store.engine.newest_id(anna), store.engine.entries(vec![Seq(2)]));
    drop(held);
    let (newest, entries) = (reading.0.await.unwrap(), reading.1.await.unwrap());
    stored(holding.await.unwrap());
    let posted = stored(posting.await.unwrap());
    assert_eq!(newest, Some(posted.id));
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [posted.seq]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_is_the_newest_entry() {
    let store = open().await;
    let anna = store.user("anna").await;
    assert_eq!(store.engine.head().await.unwrap().0, 0);
    let post = store.post(anna, "hello").await;
    assert_eq!(store.engine.head().await.unwrap(), post.seq);
    let deletion = store.delete(anna, post.id).await;
    assert_eq!(store.engine.head().await.unwrap(), deletion.seq);
}

#[tokio::test]
async fn a_follow_begins_at_the_newest_entry_of_the_store() {
    let store = open().await;
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let newest = store.post(anna, "own").await;
    assert_eq!(store.follow(anna, ben).await, newest.seq);
    // Nobody follows oneself.
    assert!(matches!(store.engine.follow(a_follow(ben, ben), 10).await, Err(StorageError::Refused(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_done_in_the_order_of_their_calls() {
    let store = open().await;
    let users = store.users(20).await;
    let anna = users[0];
    let post = store.post(anna, "liked").await;
    let (mut follows, mut likes, mut others) = (Vec::new(), Vec::new(), Vec::new());
    // Everybody does everything twice, and every third undoes it.
    for (number, user) in users.iter().enumerate().skip(1) {
        for _ in 0..2 {
            follows.push(tokio::spawn(store.engine.follow(a_follow(*user, anna), 10)));
            likes.push(tokio::spawn(store.engine.like(a_like(*user, post.id))));
        }
        if number % 3 == 0 {
            others.push(tokio::spawn(store.engine.unlike(*user, post.id, Timestamp::now())));
            let unfollow = store.engine.unfollow(*user, anna, Timestamp::now());
            others.push(tokio::spawn(async move { Ok(unfollow.await?.is_some()) }));
        }
    }
    let (mut made, mut liked) = (0, 0);
    for follow in follows {
        made += usize::from(matches!(follow.await.unwrap().unwrap(), Followed::Done { .. }));
    }
    for like in likes {
        liked += usize::from(like.await.unwrap().unwrap() == Liking::Done);
    }
    assert_eq!((made, liked), (19, 19));
    for undone in others {
        assert!(undone.await.unwrap().unwrap());
    }
    let profile = store.engine.profile(anna, anna).await.unwrap().unwrap();
    let followers = store.engine.followers(anna, first(100)).await.unwrap().unwrap();
    assert_eq!((profile.followers, followers.items.len(), followers.total), (13, 13, 13));
    assert_eq!(store.engine.post(post.id, anna).await.unwrap().unwrap().post.likes, 13);
}
