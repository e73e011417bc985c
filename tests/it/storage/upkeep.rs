//! Keeping the store: sweeping, copies, the end.

use super::fixture::{a_key, a_like, first, stored};
use super::{Observed, TestStore};
use roost::model::id::LoginId;
use roost::model::timestamp::Timestamp;
use roost::storage::{KEY_AGE, Loss, Missed, NewPost, NewRefresh, StorageError, TIMELINE_AGE, TimelineFrom};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

pub async fn a_store_that_works_says_so(store: TestStore) {
    store.engine.check().await.unwrap();
    store.engine.close().await.unwrap();
    assert!(matches!(store.engine.check().await, Err(StorageError::Unavailable(_))));
}

pub async fn the_head_is_the_newest_entry(store: TestStore) {
    let anna = store.user("anna").await;
    assert_eq!(store.engine.head().await.unwrap().0, 0);
    let post = store.post(anna, "hello").await;
    assert_eq!(store.engine.head().await.unwrap(), post.seq);
    let deletion = store.delete(anna, post.id).await;
    assert_eq!(store.engine.head().await.unwrap(), deletion.seq);
}

pub async fn what_has_expired_is_swept_and_nothing_else(store: TestStore) {
    let anna = store.user("anna").await;
    let now = Timestamp::now();
    let second = Duration::from_secs(1);
    let (old_key, new_key) = (now.before(KEY_AGE).before(second), now.before(KEY_AGE).after(second));
    for (key, at) in [("entry", now.before(TIMELINE_AGE).before(second)), ("old", old_key), ("new", new_key)]
    {
        let draft = NewPost { key: a_key(key, 1), ..store.draft(anna, key, at) };
        stored(store.engine.append(draft).await.unwrap());
    }
    let (expired, alive) = (LoginId::make(), LoginId::make());
    for (number, login, expires_at) in [(1, expired, now), (2, alive, now.after(second))] {
        let token = NewRefresh { hash: [number; 32], expires_at };
        store.engine.open_login(login, anna, token, now).await.unwrap();
    }
    // Two keys, a token, a login, an entry.
    assert_eq!(store.engine.sweep(now).await.unwrap(), 5);
    assert_eq!(store.engine.sweep(now).await.unwrap(), 0);
    assert!(store.engine.login_alive(alive, now).await.unwrap());
    let kept = |key: &str| store.engine.keyed(anna, key.to_owned(), new_key);
    assert!(kept("new").await.unwrap().is_some());
    assert_eq!((kept("old").await.unwrap(), kept("entry").await.unwrap()), (None, None));
    assert_eq!(store.timeline(anna, 10).await.len(), 2);
    assert_eq!(store.engine.by_author(anna, anna, first(10)).await.unwrap().unwrap().items.len(), 3);
}

pub async fn an_entry_number_is_never_used_twice(store: TestStore) {
    let anna = store.user("anna").await;
    let posts = store.post_many(anna, 5).await;
    let deletion = store.delete(anna, posts[4].id).await;
    let late = Timestamp::now().after(TIMELINE_AGE).after(Duration::from_secs(60));
    while store.engine.sweep(late).await.unwrap() > 0 {}
    assert_eq!(store.engine.entries(posts.iter().map(|post| post.seq).collect()).await.unwrap(), []);
    assert_eq!(store.engine.head().await.unwrap(), deletion.seq);
    assert!(store.post(anna, "next").await.seq > deletion.seq);
}

pub async fn the_likes_of_a_deleted_post_go(store: TestStore) {
    let users = store.users(4).await;
    let (gone, kept) = (store.post(users[0], "gone").await, store.post(users[0], "kept").await);
    for user in &users {
        store.engine.like(a_like(*user, gone.id)).await.unwrap();
        store.engine.like(a_like(*user, kept.id)).await.unwrap();
    }
    assert_eq!(store.engine.sweep(Timestamp::now()).await.unwrap(), 0);
    store.delete(users[0], gone.id).await;
    assert_eq!(store.engine.sweep(Timestamp::now()).await.unwrap(), 4);
    assert_eq!(store.engine.sweep(Timestamp::now()).await.unwrap(), 0);
    assert_eq!(store.engine.post(kept.id, users[0]).await.unwrap().unwrap().post.likes, 4);
}

fn silent() -> Box<dyn Fn(u64, u64) + Send> {
    Box::new(|_, _| {})
}

pub async fn a_copy_is_whole_and_has_a_name_of_its_own(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    store.follow(anna, ben).await;
    let posts = store.post_many(ben, 3).await;
    store.engine.like(a_like(anna, posts[0].id)).await.unwrap();
    let file = store.folder.path().join("copy.db");
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = Arc::clone(&told);
    let progress = Box::new(move |left, all| tells.lock().unwrap().push((left, all)));
    store.copy(file.clone(), progress).await.unwrap();
    let last = *told.lock().unwrap().last().unwrap();
    assert!(last.0 == 0 && last.1 > 0, "{last:?}");

    let copy = (store.reopen)(&file, Arc::new(Observed::default())).engine;
    assert_eq!(
        copy.list(anna, TimelineFrom::Offset(0), 10).await.unwrap(),
        store.engine.list(anna, TimelineFrom::Offset(0), 10).await.unwrap()
    );
    assert_eq!(copy.profile(ben, anna).await.unwrap(), store.engine.profile(ben, anna).await.unwrap());
    assert_eq!(
        copy.post(posts[0].id, anna).await.unwrap(),
        store.engine.post(posts[0].id, anna).await.unwrap()
    );
    assert_eq!(copy.undelivered().await.unwrap(), store.engine.undelivered().await.unwrap());
    assert_ne!(copy.store_name(), store.engine.store_name());
    let cursor = store.cursor(posts[0].seq);
    assert_eq!(copy.since(anna, cursor).await.unwrap(), Missed::Lost(Loss::Foreign));
    assert_eq!(store.missed(anna, posts[0].seq).await.len(), 2);
}

pub async fn a_copy_is_made_while_writes_go_on(store: TestStore) {
    let anna = store.user("anna").await;
    store.post_many(anna, 3_000).await;
    let before = store.engine.head().await.unwrap();
    // At each step the copy waits until another post is committed.
    let (stepped, mut steps) = mpsc::channel::<()>(1);
    let (posted, posts) = std::sync::mpsc::channel::<()>();
    let posts = Mutex::new(posts);
    let progress = Box::new(move |_, _| {
        // Nobody answers any more when the copy is done.
        if stepped.blocking_send(()).is_ok() {
            let _ = posts.lock().unwrap().recv();
        }
    });
    let file = store.folder.path().join("copy.db");
    let copying = store.copy(file.clone(), progress);
    let mut count = 0;
    while let Some(()) = steps.recv().await {
        store.post(anna, "meanwhile").await;
        posted.send(()).unwrap();
        count += 1;
    }
    copying.await.unwrap();
    assert!(count >= 2, "the copy was made in {count} steps");
    let copy = (store.reopen)(&file, Arc::new(Observed::default())).engine;
    assert_eq!(copy.head().await.unwrap(), before);
    assert_eq!(copy.profile(anna, anna).await.unwrap().unwrap().posts, 3_000);
    let total = store.engine.profile(anna, anna).await.unwrap().unwrap().posts;
    assert_eq!(total, 3_000 + count);
}

pub async fn a_copy_overwrites_nothing_and_leaves_nothing_half_made(store: TestStore) {
    let anna = store.user("anna").await;
    let path = |name: &str| store.folder.path().join(name);
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(store.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("roost.db"))
            .collect();
        names.sort();
        names
    };
    std::fs::write(path("mine"), "mine").unwrap();
    assert!(matches!(store.copy(path("mine"), silent()).await, Err(StorageError::Refused(_))));
    assert_eq!(std::fs::read_to_string(path("mine")).unwrap(), "mine");
    let nowhere = store.copy(path("no-such-folder").join("copy.db"), silent()).await;
    assert!(nowhere.is_err());
    assert_eq!(names(), ["mine"]);
    // What a copy left that was cut off is in nobody's way.
    std::fs::write(path("copy.db.partial"), "x".repeat(100_000)).unwrap();
    store.copy(path("copy.db"), silent()).await.unwrap();
    assert_eq!(names(), ["copy.db", "mine"]);
    let copy = (store.reopen)(&path("copy.db"), Arc::new(Observed::default())).engine;
    assert!(copy.user(anna).await.unwrap().is_some());
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
    let again = (store.reopen)(&store.folder.path().join("roost.db"), Arc::new(Observed::default())).engine;
    assert_eq!(again.profile(anna, anna).await.unwrap().unwrap().posts, 50);
    assert_eq!(again.store_name(), store.engine.store_name());
}
