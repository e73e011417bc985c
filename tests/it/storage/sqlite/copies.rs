//! Copies of the file, made while everything goes on.

use super::{open, open_file};
use crate::storage::fixture::a_like;
use roost::model::shard::Shard;
use roost::storage::{Accounts, Jobs, Loss, Missed, Posts, StorageError, TimelineFrom, Timelines, Upkeep};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

fn silent() -> Box<dyn Fn(u64, u64) + Send> {
    Box::new(|_, _| {})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_whole_and_has_a_name_of_its_own() {
    let store = open().await;
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

    let copy = open_file(&file);
    assert_eq!(
        copy.list(anna, TimelineFrom::Offset(0), 10).await.unwrap(),
        store.engine.list(anna, TimelineFrom::Offset(0), 10).await.unwrap()
    );
    assert_eq!(copy.profile(ben, anna).await.unwrap(), store.engine.profile(ben, anna).await.unwrap());
    assert_eq!(
        copy.post(posts[0].id, anna).await.unwrap(),
        store.engine.post(posts[0].id, anna).await.unwrap()
    );
    assert_eq!(
        copy.take_over(Shard::all().collect()).await.unwrap(),
        store.engine.take_over(Shard::all().collect()).await.unwrap()
    );
    assert_ne!(copy.store_name(), store.engine.store_name());
    let cursor = store.cursor(posts[0].seq);
    assert_eq!(copy.since(anna, cursor).await.unwrap(), Missed::Lost(Loss::Foreign));
    assert_eq!(store.missed(anna, posts[0].seq).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_made_while_writes_go_on() {
    let store = open().await;
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
    let copy = open_file(&file);
    assert_eq!(copy.head().await.unwrap(), before);
    assert_eq!(copy.profile(anna, anna).await.unwrap().unwrap().posts, 3_000);
    let total = store.engine.profile(anna, anna).await.unwrap().unwrap().posts;
    assert_eq!(total, 3_000 + count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_overwrites_nothing_and_leaves_nothing_half_made() {
    let store = open().await;
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
    let copy = open_file(&path("copy.db"));
    assert!(copy.user(anna).await.unwrap().is_some());
}
