//! Who follows whom.

use super::TestStore;
use super::fixture::{a_follow, first};
use roost::model::id::UserId;
use roost::model::timestamp::Timestamp;
use roost::model::user::Username;
use roost::storage::{Followed, Page};
use std::collections::HashMap;

pub async fn a_follow_is_made_once_of_somebody_who_is_there(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let post = store.post(ben, "before").await;
    let follow = a_follow(anna, ben);
    let Followed::Done { since } = store.engine.follow(follow, 10).await.unwrap() else { panic!("not made") };
    assert!(since >= post.seq);
    assert!(store.post(ben, "after").await.seq > since);
    let again = store.engine.follow(a_follow(anna, ben), 10).await.unwrap();
    assert_eq!(again, Followed::Already { since: follow.created_at });
    let nobody = store.engine.follow(a_follow(anna, UserId::make()), 10).await.unwrap();
    assert_eq!(nobody, Followed::Missing);
    // The other way round is another follow.
    store.follow(ben, anna).await;
    let profile = store.engine.profile(anna, ben).await.unwrap().unwrap();
    assert_eq!((profile.followers, profile.following, profile.is_following), (1, 1, true));
}

pub async fn a_follow_beyond_the_limit_is_refused(store: TestStore) {
    let users = store.users(4).await;
    for followee in &users[1..3] {
        let made = store.engine.follow(a_follow(users[0], *followee), 2).await.unwrap();
        assert!(matches!(made, Followed::Done { .. }));
    }
    let beyond = a_follow(users[0], users[3]);
    assert_eq!(store.engine.follow(beyond, 2).await.unwrap(), Followed::TooMany);
    // What is followed already is told as that, and one that ended makes room.
    let again = store.engine.follow(a_follow(users[0], users[1]), 2).await.unwrap();
    assert!(matches!(again, Followed::Already { .. }));
    store.unfollow(users[0], users[1]).await;
    assert!(matches!(store.engine.follow(beyond, 2).await.unwrap(), Followed::Done { .. }));
}

pub async fn an_unfollow_answers_the_follow_that_ended(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let follow = a_follow(anna, ben);
    store.engine.follow(follow, 10).await.unwrap();
    let now = Timestamp::now();
    assert_eq!(store.engine.unfollow(ben, anna, now).await.unwrap(), None);
    assert_eq!(store.engine.unfollow(anna, ben, now).await.unwrap(), Some(follow));
    assert_eq!(store.engine.unfollow(anna, ben, now).await.unwrap(), None);
    assert_eq!(store.engine.unfollow(anna, UserId::make(), now).await.unwrap(), None);
    let profile = store.engine.profile(ben, anna).await.unwrap().unwrap();
    assert_eq!((profile.followers, profile.is_following), (0, false));
}

pub async fn lists_go_by_the_newest_follow(store: TestStore) {
    let users = store.users(5).await;
    let anna = users[0];
    for other in &users[1..] {
        store.follow(anna, *other).await;
        store.follow(*other, anna).await;
    }
    // Followed again, it is the newest; renamed, it has its new name.
    store.unfollow(anna, users[1]).await;
    store.follow(anna, users[1]).await;
    store
        .engine
        .rename(users[4], Username::parse(&store.name("renamed")).unwrap(), Timestamp::now())
        .await
        .unwrap();

    let whole = store.engine.following(anna, first(10)).await.unwrap().unwrap();
    let names: Vec<_> = whole.items.iter().map(|(_, user)| user.username.as_str()).collect();
    let expected = ["user-1", "renamed", "user-3", "user-2"].map(|name| store.name(name));
    assert_eq!((names, whole.total), (expected.each_ref().map(String::as_str).to_vec(), 4));
    assert!(whole.items.windows(2).all(|pair| pair[0].0 > pair[1].0));

    let page = Page { before: Some(whole.items[1].0), limit: 1 };
    let next = store.engine.following(anna, page).await.unwrap().unwrap();
    assert_eq!(next.items, whole.items[2..3]);
    assert_eq!(next.total, 4);

    let followers = store.engine.followers(anna, first(10)).await.unwrap().unwrap();
    let ids: Vec<_> = followers.items.iter().map(|(_, user)| user.id).collect();
    assert_eq!((ids, followers.total), (vec![users[4], users[3], users[2], users[1]], 4));
    let page = Page { before: Some(followers.items[2].0), limit: 10 };
    let last = store.engine.followers(anna, page).await.unwrap().unwrap();
    assert_eq!(last.items, followers.items[3..]);

    assert!(store.engine.following(UserId::make(), first(1)).await.unwrap().is_none());
    assert!(store.engine.followers(UserId::make(), first(1)).await.unwrap().is_none());
}

pub async fn followees_are_told_with_the_entry_after_which_the_follow_began(store: TestStore) {
    let users = store.users(3).await;
    store.post(users[1], "one").await;
    let first = store.follow(users[0], users[1]).await;
    store.post(users[1], "two").await;
    let second = store.follow(users[0], users[2]).await;
    let followees: HashMap<_, _> = store.engine.followees(users[0]).await.unwrap().into_iter().collect();
    assert_eq!(followees, HashMap::from([(users[1], first), (users[2], second)]));
    assert_eq!(store.engine.followees(users[1]).await.unwrap(), []);
    assert_eq!(store.engine.followees(UserId::make()).await.unwrap(), []);
}

pub async fn a_follow_of_many_at_once_stays_within_the_limit(store: TestStore) {
    let users = store.users(12).await;
    let following: Vec<_> = users[1..]
        .iter()
        .map(|other| tokio::spawn(store.engine.follow(a_follow(users[0], *other), 5)))
        .collect();
    let mut made = 0;
    for follow in following {
        match follow.await.unwrap().unwrap() {
            Followed::Done { .. } => made += 1,
            Followed::TooMany => {}
            other => panic!("{other:?}"),
        }
    }
    let listed = store.engine.following(users[0], first(100)).await.unwrap().unwrap();
    assert_eq!((made, listed.total, listed.items.len()), (5, 5, 5));
}
