//! What is refused where too much is asked at once.

use super::run_alone;
use crate::storage::fixture::{a_like, stored};
use roost::model::timestamp::Timestamp;
use roost::storage::StorageError;

#[test]
fn a_store_that_cannot_keep_up_refuses() {
    run_alone(|store| async move {
        let anna = store.user("anna").await;
        let post = store.post(anna, "liked").await;
        let many: Vec<_> = (0..6_000).map(|_| store.engine.like(a_like(anna, post.id))).collect();
        let (mut done, mut refused) = (0, 0);
        for like in many {
            match like.await {
                Ok(_) => done += 1,
                Err(StorageError::Unavailable(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(done >= 1 && refused >= 1_000, "{done} done, {refused} refused");
        // What was refused is no failure of the store: it goes on.
        assert_eq!(store.engine.post(post.id, anna).await.unwrap().unwrap().post.likes, 1);
        store.post(anna, "goes on").await;
    });
}

#[test]
fn an_author_that_cannot_keep_up_is_refused_and_others_are_not() {
    run_alone(|store| async move {
        let (anna, ben) = (store.user("anna").await, store.user("ben").await);
        let many: Vec<_> = (0..2_000).map(|_| store.posting(anna, "text")).collect();
        let other = store.posting(ben, "meanwhile");
        stored(other.await.unwrap());
        let mut made = 0;
        let mut refused = 0;
        for posting in many {
            match posting.await {
                Ok(appended) => {
                    stored(appended);
                    made += 1;
                }
                Err(StorageError::Unavailable(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(made >= 1_000 && refused >= 100, "{made} made, {refused} refused");
        let profile = store.engine.profile(anna, anna).await.unwrap().unwrap();
        assert_eq!(profile.posts, made);
        let newest = store.post(anna, "goes on").await;
        assert_eq!(store.engine.newest_id(anna).await.unwrap(), Some(newest.id));
        assert!(store.engine.keyed(anna, "none".to_owned(), Timestamp::now()).await.unwrap().is_none());
    });
}
