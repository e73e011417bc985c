//! What each user reads.

use super::TestStore;
use super::fixture::{Posted, a_like};
use roost::model::cursor::Seq;
use roost::model::id::{PostId, UserId};
use roost::model::timestamp::Timestamp;
use roost::storage::{Place, TIMELINE_AGE, TimelineFrom};
use std::collections::HashSet;
use std::time::Duration;

/// The places of posts, newest first.
fn newest_first(posts: impl IntoIterator<Item = Posted>) -> Vec<Seq> {
    let mut seqs: Vec<_> = posts.into_iter().map(|post| post.seq).collect();
    seqs.sort_unstable_by(|a, b| b.cmp(a));
    seqs
}

pub async fn it_holds_ones_own_posts_and_those_of_the_followed_newest_first(store: TestStore) {
    let users = store.users(4).await;
    store.follow(users[0], users[1]).await;
    store.follow(users[0], users[2]).await;
    store.follow(users[3], users[0]).await;
    let mut expected = Vec::new();
    for turn in 0..3 {
        for user in &users {
            let post = store.post(*user, &format!("turn {turn}")).await;
            if *user != users[3] {
                expected.push(post);
            }
        }
    }
    assert_eq!(store.timeline(users[0], 100).await, newest_first(expected));
    assert_eq!(store.engine.total(users[0]).await.unwrap(), 9);
    assert_eq!(store.engine.total(users[1]).await.unwrap(), 3);
    assert_eq!(store.timeline(UserId::make(), 100).await, []);
    assert_eq!(store.engine.total(UserId::make()).await.unwrap(), 0);
}

pub async fn a_follow_brings_the_newest_twenty_and_all_that_come(store: TestStore) {
    let users = store.users(3).await;
    let before = store.post_many(users[1], 30).await;
    let few = store.post_many(users[2], 5).await;
    // The deleted ones are not among the twenty.
    store.delete(users[1], before[29].id).await;
    store.delete(users[1], before[15].id).await;
    store.follow(users[0], users[1]).await;
    store.follow(users[0], users[2]).await;
    let after = store.post_many(users[1], 10).await;

    let twenty = before[8..29].iter().filter(|post| post.id != before[15].id);
    let expected = newest_first(twenty.copied().chain(few).chain(after));
    assert_eq!(expected.len(), 35);
    assert_eq!(store.timeline(users[0], 100).await, expected);
    assert_eq!(store.engine.total(users[0]).await.unwrap(), 35);
}

pub async fn an_unfollow_and_a_deletion_take_away(store: TestStore) {
    let users = store.users(3).await;
    store.follow(users[0], users[1]).await;
    store.follow(users[0], users[2]).await;
    let gone = store.post(users[1], "of who is unfollowed").await;
    let (kept, deleted) = (store.post(users[2], "kept").await, store.post(users[2], "deleted").await);
    assert_eq!(store.timeline(users[0], 10).await, [deleted.seq, kept.seq, gone.seq]);
    store.unfollow(users[0], users[1]).await;
    store.delete(users[2], deleted.id).await;
    assert_eq!(store.timeline(users[0], 10).await, [kept.seq]);
    assert_eq!(store.engine.total(users[0]).await.unwrap(), 1);
}

pub async fn what_was_deleted_while_one_did_not_follow_is_neither_shown_nor_counted(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    store.follow(anna, ben).await;
    let posts = store.post_many(ben, 4).await;
    assert_eq!((store.timeline(anna, 10).await.len(), store.engine.total(anna).await.unwrap()), (4, 4));
    store.unfollow(anna, ben).await;
    assert_eq!(store.engine.total(anna).await.unwrap(), 0);
    store.delete(ben, posts[1].id).await;
    store.delete(ben, posts[3].id).await;
    store.follow(anna, ben).await;
    assert_eq!(store.timeline(anna, 10).await, [posts[2].seq, posts[0].seq]);
    assert_eq!(store.engine.total(anna).await.unwrap(), 2);
    store.delete(ben, posts[0].id).await;
    assert_eq!(store.engine.total(anna).await.unwrap(), 1);
}

pub async fn what_is_older_than_thirty_days_is_not_shown(store: TestStore) {
    let users = store.users(2).await;
    store.follow(users[0], users[1]).await;
    let edge = Timestamp::now().before(TIMELINE_AGE);
    for (number, user) in users.iter().enumerate() {
        store.post_at(*user, "old", edge.before(Duration::from_secs(number as u64))).await;
    }
    let mut shown = Vec::new();
    for user in &users {
        shown.push(store.post_at(*user, "new", edge.after(Duration::from_secs(600))).await);
    }
    assert_eq!(store.timeline(users[0], 10).await, newest_first(shown.clone()));
    assert_eq!(store.engine.total(users[0]).await.unwrap(), 2);
    // The sweep takes nothing that is shown; old posts stay with their author.
    store.engine.sweep(Timestamp::now()).await.unwrap();
    assert_eq!(store.timeline(users[0], 10).await, newest_first(shown));
    assert_eq!(store.engine.total(users[0]).await.unwrap(), 2);
    assert_eq!(store.engine.profile(users[1], users[0]).await.unwrap().unwrap().posts, 2);
}

pub async fn walking_shows_what_was_there_throughout_exactly_once(store: TestStore) {
    let users = store.users(4).await;
    for other in &users[1..] {
        store.follow(users[0], *other).await;
    }
    let mut throughout = HashSet::new();
    let mut going = Vec::new();
    for turn in 0..30 {
        for (number, user) in users.iter().enumerate() {
            let post = store.post(*user, &format!("turn {turn}")).await;
            match number {
                1 => going.push(post),
                2 => {}
                _ => drop(throughout.insert(post.seq)),
            }
        }
    }
    let mut walked = Vec::new();
    let mut from = TimelineFrom::Offset(0);
    loop {
        let page = store.list(users[0], from, 7).await;
        let Some(last) = page.last() else { break };
        from = TimelineFrom::Before(*last);
        walked.extend(page);
        // Meanwhile posts arrive and go, and somebody is unfollowed.
        store.post(users[3], "arrives").await;
        if let Some(post) = going.pop() {
            store.delete(users[1], post.id).await;
        }
        if walked.len() == 28 {
            store.unfollow(users[0], users[2]).await;
        }
    }
    let once: HashSet<_> = walked.iter().copied().collect();
    assert_eq!(once.len(), walked.len(), "one is shown twice");
    assert!(throughout.is_subset(&once));
    assert!(walked.windows(2).all(|pair| pair[0] > pair[1]));
}

pub async fn it_ends_after_eight_hundred_entries(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    store.follow(anna, ben).await;
    let posts = newest_first(store.post_many(ben, 790).await);
    assert_eq!(store.engine.total(anna).await.unwrap(), 790);
    let own = newest_first(store.post_many(anna, 30).await);
    assert_eq!(store.engine.total(anna).await.unwrap(), 800);
    let end = store.list(anna, TimelineFrom::Offset(795), 100).await;
    assert_eq!(end, posts[765..770]);
    for beyond in [800, 801, 100_000, usize::MAX] {
        assert_eq!(store.list(anna, TimelineFrom::Offset(beyond), 100).await, []);
    }
    let middle = store.list(anna, TimelineFrom::Offset(25), 10).await;
    assert_eq!(middle, [&own[25..], &posts[..5]].concat());
}

pub async fn a_full_timeline_that_loses_some_is_counted_anew(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    store.follow(anna, ben).await;
    let posts = store.post_many(ben, 805).await;
    let total = async || store.engine.total(anna).await.unwrap();
    // Counted twice: the second time it may be known.
    assert_eq!((total().await, total().await), (800, 800));
    for post in &posts[..10] {
        store.delete(ben, post.id).await;
    }
    assert_eq!(total().await, 795);
    let own = store.post_many(anna, 8).await;
    assert_eq!((total().await, total().await), (800, 800));
    for post in &own {
        store.delete(anna, post.id).await;
    }
    assert_eq!(total().await, 795);
    store.post_many(ben, 20).await;
    assert_eq!((total().await, total().await), (800, 800));
    store.unfollow(anna, ben).await;
    assert_eq!(total().await, 0);
    store.follow(anna, ben).await;
    assert_eq!(total().await, 20);
}

pub async fn posts_are_shown_as_their_reader_sees_them(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let posts = store.post_many(ben, 3).await;
    store.engine.like(a_like(anna, posts[0].id)).await.unwrap();
    store.delete(ben, posts[1].id).await;
    let never = Place { seq: Seq(1_000_000), post: PostId::make(), author: ben };
    let asked = vec![posts[0].place(), posts[1].place(), posts[2].place(), never];
    let shown = store.engine.show(anna, asked.clone()).await.unwrap();
    let seen: Vec<_> = shown
        .iter()
        .map(|view| (view.post.id, view.author_name.as_str(), view.post.likes, view.is_liked))
        .collect();
    let ben_s = store.name("ben");
    assert_eq!(seen, [(posts[0].id, ben_s.as_str(), 1, true), (posts[2].id, &ben_s, 0, false)]);
    let other = store.engine.show(ben, asked.into_iter().rev().collect()).await.unwrap();
    let seen: Vec<_> = other.iter().map(|view| (view.post.id, view.is_liked)).collect();
    assert_eq!(seen, [(posts[2].id, false), (posts[0].id, false)]);
}
