//! What time takes away, and that it leaves the rest.

use super::{assert_sound, open};
use crate::storage::fixture::{a_key, a_like, first, stored};
use crate::storage::talk::{a_message, event, numbered};
use roost::model::id::LoginId;
use roost::model::timestamp::Timestamp;
use roost::storage::chats::{INBOX_AGE, InboxReach, NewMessage};
use roost::storage::{KEY_AGE, Loss, Missed, NewPost, NewRefresh, TIMELINE_AGE};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_is_swept_and_nothing_else() {
    let store = open().await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_number_is_never_used_twice() {
    let store = open().await;
    let anna = store.user("anna").await;
    let posts = store.post_many(anna, 5).await;
    let deletion = store.delete(anna, posts[4].id).await;
    let late = Timestamp::now().after(TIMELINE_AGE).after(Duration::from_secs(60));
    while store.engine.sweep(late).await.unwrap() > 0 {}
    assert_eq!(store.engine.entries(posts.iter().map(|post| post.seq).collect()).await.unwrap(), []);
    assert_eq!(store.engine.head().await.unwrap(), deletion.seq);
    assert!(store.post(anna, "next").await.seq > deletion.seq);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_likes_of_a_deleted_post_go() {
    let store = open().await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_older_than_thirty_days_is_expired() {
    let store = open().await;
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    store.follow(anna, ben).await;
    let edge = Timestamp::now().before(TIMELINE_AGE);
    let start = store.engine.head().await.unwrap();
    let old = store.post_at(ben, "old", edge.before(Duration::from_secs(60))).await;
    let new = store.post_at(ben, "new", edge.after(Duration::from_secs(600))).await;
    let expired = Missed::Lost(Loss::Expired);
    // Before and after the sweep alike; and what lies behind the old one alone is still told.
    for _ in 0..2 {
        assert_eq!(store.engine.since(anna, store.cursor(start)).await.unwrap(), expired);
        let told: Vec<_> = store.missed(anna, old.seq).await.iter().map(|entry| entry.seq).collect();
        assert_eq!(told, [new.seq]);
        store.engine.sweep(Timestamp::now()).await.unwrap();
    }
    // Though nothing at all is left behind it.
    store.engine.sweep(Timestamp::now().after(TIMELINE_AGE)).await.unwrap();
    assert_eq!(store.engine.since(anna, store.cursor(old.seq)).await.unwrap(), expired);
    assert_eq!(store.missed(anna, new.seq).await, []);
}

#[tokio::test]
async fn ended_logins_are_forgotten_once_they_would_have_expired() {
    let store = open().await;
    let (now, minute) = (Timestamp::now(), Duration::from_secs(60));
    let (soon, later) = (LoginId::make(), LoginId::make());
    store.engine.revoke_login(soon, now.after(minute)).await.unwrap();
    store.engine.revoke_login(later, now.after(minute * 10)).await.unwrap();
    store.engine.sweep(now.after(minute * 5)).await.unwrap();
    assert_eq!(store.engine.revoked_logins(now).await.unwrap(), [later]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_loses_its_oldest_events_after_thirty_days() {
    let store = open().await;
    let users = store.users(3).await;
    let conversation = store.converse(&users[..2]).await;
    let other = store.converse(&users[1..]).await;
    let now = Timestamp::now();
    let second = Duration::from_secs(1);
    let mut messages = Vec::new();
    // The second was made by a clock that stepped back: it goes with the first, not before it.
    let ages = [INBOX_AGE - second * 2, INBOX_AGE + second, second * 60, second * 30];
    for (age, conversation) in ages.into_iter().zip([&conversation, &other, &conversation, &conversation]) {
        let new = NewMessage { created_at: now.before(age), ..a_message(conversation.id, users[1], "text") };
        messages.push(event(&store.deliver(new).await.0));
    }
    let sweep = async |now| store.engine.sweep(now).await.unwrap();
    // The keys of two messages.
    assert_eq!(sweep(now).await, 2);
    assert_eq!(store.events(users[1]).await, messages);
    assert_eq!(store.reach(users[1]).await, InboxReach { newest: 4, gone: 0, seen: 0 });

    assert_eq!(sweep(now.after(second * 3)).await, 2);
    let page = store.engine.inbox(users[1], 1, 10).await.unwrap();
    assert_eq!(page, numbered(2, &messages[2..]));
    assert_eq!(store.reach(users[1]).await, InboxReach { newest: 4, gone: 2, seen: 0 });
    assert_eq!(store.events(users[2]).await, []);
    // The messages stay, and places go on.
    assert_eq!(store.history(other.id, users[2]).await.len(), 1);
    let (_, places) = store.deliver(a_message(other.id, users[2], "again")).await;
    assert_eq!(places.iter().map(|(_, place)| *place).collect::<Vec<_>>(), [5, 5]);
    while sweep(now.after(INBOX_AGE + KEY_AGE)).await > 0 {}
    assert_eq!(store.reach(users[1]).await, InboxReach { newest: 5, gone: 5, seen: 0 });
    assert_eq!(store.events(users[1]).await, []);
    assert_sound(&store.folder.path().join("roost.db"));
}
