//! The two ways to read a timeline, author by author or entry by entry: both lead to the same.

use super::open;
use roost::model::cursor::Seq;
use roost::storage::{Loss, Missed, TIMELINE_ENTRIES, TimelineFrom};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_many_sees_the_same_as_who_follows_few() {
    let store = open().await;
    // Two who follow the same: one of them also follows enough of the silent to be served otherwise.
    let users = store.users(320).await;
    let (few, many) = (users[0], users[1]);
    let (authors, rest) = users[2..].split_at(40);
    let (strangers, silent) = rest.split_at(120);
    let mut old = Vec::new();
    for author in authors {
        old.extend(store.post_many(*author, 22).await);
    }
    for reader in [few, many] {
        for author in authors {
            store.follow(reader, *author).await;
        }
    }
    for other in silent {
        store.follow(many, *other).await;
    }
    // Lately the followed posted little among many others: pages reach behind what is walked.
    for turn in 0..14 {
        for stranger in strangers {
            drop(store.posting(*stranger, "not followed"));
        }
        store.post(authors[turn], "followed").await;
        store.delete(authors[turn], old[turn * 22 + 21].id).await;
    }
    let whole = store.timeline(few, 800).await;
    assert_eq!(whole.len(), 800);
    assert_eq!(store.timeline(many, 800).await, whole);
    for size in [1, 7, 14, 15, 100] {
        let mut walked = Vec::new();
        let mut from = TimelineFrom::Offset(0);
        while walked.len() < 300 {
            let page = store.list(many, from, size).await;
            from = TimelineFrom::Before(page[page.len() - 1]);
            walked.extend(page);
        }
        assert_eq!(walked, whole[..walked.len()], "pages of {size}");
    }
    let skipped = store.list(many, TimelineFrom::Offset(13), 40).await;
    assert_eq!(skipped, whole[13..53]);
    assert_eq!(store.engine.total(many).await.unwrap(), store.engine.total(few).await.unwrap());
}

#[tokio::test]
async fn who_follows_many_misses_the_same_as_who_follows_few() {
    let store = open().await;
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    store.follow(anna, ben).await;
    let start = store.engine.head().await.unwrap();
    store.post_many(ben, TIMELINE_ENTRIES).await;
    let few: Vec<_> = store.missed(anna, start).await;
    assert_eq!(few.len(), TIMELINE_ENTRIES);
    // Of so many the entries are walked.
    let others = store.users_named("more", 110).await;
    for other in &others {
        store.follow(anna, *other).await;
    }
    assert_eq!(store.missed(anna, start).await, few);
    store.post(others[0], "one more").await;
    let too_many = Missed::Lost(Loss::TooMany);
    assert_eq!(store.engine.since(anna, store.cursor(start)).await.unwrap(), too_many);
}

#[tokio::test]
async fn the_place_behind_the_newest_is_of_the_future() {
    let store = open().await;
    let anna = store.user("anna").await;
    let post = store.post(anna, "hello").await;
    let future = store.cursor(Seq(post.seq.0 + 1));
    assert_eq!(store.engine.since(anna, future).await.unwrap(), Missed::Lost(Loss::Foreign));
}
