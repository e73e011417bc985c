//! Keeping the store: what is swept stays out of the way of what is not, and the end.

use super::TestStore;
use super::fixture::{a_key, a_like, first, stored};
use roost::model::id::LoginId;
use roost::model::timestamp::Timestamp;
use roost::storage::{KEY_AGE, NewPost, StorageError, TIMELINE_AGE};
use std::time::Duration;

pub async fn a_store_that_works_says_so(store: TestStore) {
    store.engine.check().await.unwrap();
    store.engine.close().await.unwrap();
    assert!(matches!(store.engine.check().await, Err(StorageError::Unavailable(_))));
}

pub async fn the_head_is_before_all_that_comes_and_not_before_what_is_there(store: TestStore) {
    let anna = store.user("anna").await;
    let start = store.engine.head().await.unwrap();
    let post = store.post(anna, "hello").await;
    let between = store.engine.head().await.unwrap();
    let deletion = store.delete(anna, post.id).await;
    let end = store.engine.head().await.unwrap();
    assert!(start < post.seq && post.seq <= between && between < deletion.seq && deletion.seq <= end);
}

pub async fn what_has_not_expired_is_not_swept(store: TestStore) {
    let anna = store.user("anna").await;
    let now = Timestamp::now();
    let second = Duration::from_secs(1);
    let keyed = |key, at| NewPost { key: a_key(key, 1), ..store.draft(anna, key, at) };
    let (edge, day) = (now.before(TIMELINE_AGE).after(second * 600), now.before(KEY_AGE).after(second * 600));
    let mut kept = Vec::new();
    for (key, at) in [("month", edge), ("day", day), ("now", now)] {
        kept.push(stored(store.engine.append(keyed(key, at)).await.unwrap()));
    }
    store.engine.like(a_like(anna, kept[0].id)).await.unwrap();
    let login = LoginId::make();
    store.engine.open_login(login, anna, store.token(1, now.after(second * 600)), now).await.unwrap();
    while store.engine.sweep(now).await.unwrap() > 0 {}

    assert!(store.engine.login_alive(login, now).await.unwrap());
    for (key, post) in [("day", &kept[1]), ("now", &kept[2])] {
        let used = store.engine.keyed(anna, key.to_owned(), now).await.unwrap();
        assert_eq!(used.unwrap().post.id, post.id);
    }
    assert_eq!(store.timeline(anna, 10).await, [kept[2].seq, kept[1].seq, kept[0].seq]);
    assert_eq!(store.engine.by_author(anna, anna, first(10)).await.unwrap().unwrap().items.len(), 3);
    assert_eq!(store.engine.post(kept[0].id, anna).await.unwrap().unwrap().post.likes, 1);
}

pub async fn what_was_taken_before_the_end_is_committed_and_nothing_after(store: TestStore) {
    let anna = store.user("anna").await;
    let posting: Vec<_> = (0..50).map(|_| store.posting(anna, "before")).collect();
    let [first, second] = [store.engine.close(), store.engine.close()];
    let late = store.posting(anna, "after");
    assert!(matches!(late.await, Err(StorageError::Unavailable(_))));
    first.await.unwrap();
    second.await.unwrap();
    for post in posting {
        stored(post.await.unwrap());
    }
    let again = store.open_again().await.engine;
    assert_eq!(again.profile(anna, anna).await.unwrap().unwrap().posts, 50);
    assert_eq!(again.store_name(), store.engine.store_name());
}
