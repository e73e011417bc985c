//! What lies behind a cursor.

use super::TestStore;
use roost::model::cursor::{Cursor, Seq, StoreName};
use roost::storage::{EntryChange, Loss, Missed, TIMELINE_ENTRIES};

/// So far behind a place that no clock and no counter gets there.
const FAR: u64 = 1 << 52;

pub async fn everything_behind_a_cursor_is_told_in_order(store: TestStore) {
    let users = store.users(4).await;
    store.follow(users[0], users[1]).await;
    store.follow(users[0], users[2]).await;
    let seen = store.post(users[1], "seen").await;
    let mut expected = Vec::new();
    for turn in 0..10 {
        for user in [users[0], users[3], users[2], users[1]] {
            let post = store.post(user, &format!("turn {turn}")).await;
            if user != users[3] {
                expected.push((post.seq, post.id, user));
            }
        }
    }
    let missed = store.engine.since(users[0], store.cursor(seen.seq)).await.unwrap();
    let Missed::Entries { entries, told: covered } = missed else { panic!("{missed:?}") };
    assert!(entries.iter().all(|entry| covered.covers(entry.seq)));
    let told: Vec<_> = entries
        .iter()
        .map(|entry| match &entry.change {
            EntryChange::Posted { post, author_name } => {
                assert!(author_name.starts_with("user-") && post.content.as_str().starts_with("turn "));
                (entry.seq, post.id, post.author)
            }
            EntryChange::Deleted { .. } => panic!("{entry:?}"),
        })
        .collect();
    assert_eq!(told, expected);
    // What comes later was not covered.
    let later = store.post(users[1], "later").await;
    assert!(!covered.covers(later.seq));
    // The newest cursor is behind nothing.
    assert_eq!(store.missed(users[0], later.seq).await, []);
}

pub async fn a_post_deleted_since_is_told_by_its_deletion_alone(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    store.follow(anna, ben).await;
    let before = store.post(ben, "before").await;
    let cursor = before.seq;
    let gone = store.post(ben, "gone").await;
    let kept = store.post(ben, "kept").await;
    let deletions = [store.delete(ben, gone.id).await, store.delete(ben, before.id).await];
    let missed = store.missed(anna, cursor).await;
    let told: Vec<_> = missed.iter().map(|entry| entry.seq).collect();
    assert_eq!(told, [kept.seq, deletions[0].seq, deletions[1].seq]);
    assert_eq!(missed[1..], deletions);
}

pub async fn the_cursor_of_a_deleted_post_goes_on(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    store.follow(anna, ben).await;
    let newest = store.post(ben, "newest").await;
    let deletion = store.delete(ben, newest.id).await;
    let next = store.post(ben, "next").await;
    let told: Vec<_> = store.missed(anna, newest.seq).await.iter().map(|entry| entry.seq).collect();
    assert_eq!(told, [deletion.seq, next.seq]);
}

pub async fn what_came_before_a_follow_is_not_missed(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let cursor = store.post(anna, "own").await.seq;
    let before = store.post(ben, "before the follow").await;
    store.follow(anna, ben).await;
    let after = store.post(ben, "after it").await;
    let told =
        |entries: Vec<roost::storage::Entry>| entries.iter().map(|entry| entry.seq).collect::<Vec<_>>();
    assert_eq!(told(store.missed(anna, cursor).await), [after.seq]);
    // What the follow brought is on the timeline, and its deletion is told.
    let deletion = store.delete(ben, before.id).await;
    assert_eq!(told(store.missed(anna, cursor).await), [after.seq, deletion.seq]);
    // What the unfollowed do is no longer missed.
    store.unfollow(anna, ben).await;
    assert_eq!(told(store.missed(anna, cursor).await), []);
}

pub async fn eight_hundred_posts_are_told_and_one_more_is_too_many(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    store.follow(anna, ben).await;
    let start = store.engine.head().await.unwrap();
    let posts = store.post_many(ben, TIMELINE_ENTRIES + 2).await;
    // Deleted ones do not count.
    store.delete(ben, posts[5].id).await;
    let too_many = Missed::Lost(Loss::TooMany);
    assert_eq!(store.engine.since(anna, store.cursor(start)).await.unwrap(), too_many);
    store.delete(ben, posts[6].id).await;
    assert_eq!(store.missed(anna, start).await.len(), TIMELINE_ENTRIES + 2);
    store.post(anna, "one more").await;
    assert_eq!(store.engine.since(anna, store.cursor(start)).await.unwrap(), too_many);
}

pub async fn a_cursor_of_another_store_or_of_the_future_is_foreign(store: TestStore) {
    let anna = store.user("anna").await;
    let post = store.post(anna, "hello").await;
    let foreign = Missed::Lost(Loss::Foreign);
    let other = Cursor { store: StoreName(!store.engine.store_name().0), seq: post.seq };
    assert_eq!(store.engine.since(anna, other).await.unwrap(), foreign);
    for future in [post.seq.0 + FAR, i64::MAX.unsigned_abs(), u64::MAX] {
        assert_eq!(store.engine.since(anna, store.cursor(Seq(future))).await.unwrap(), foreign);
    }
}

pub async fn who_reads_little_in_a_busy_store_misses_nothing(store: TestStore) {
    let (anna, ben, busy) = (store.user("anna").await, store.user("ben").await, store.user("busy").await);
    store.follow(anna, ben).await;
    let start = store.engine.head().await.unwrap();
    let (own, read) = (store.post(anna, "own").await, store.post(ben, "read").await);
    store.post_many(busy, 500).await;
    let last = store.post(ben, "last").await;
    let told: Vec<_> = store.missed(anna, start).await.iter().map(|entry| entry.seq).collect();
    assert_eq!(told, [own.seq, read.seq, last.seq]);
}
