//! Inboxes: every event of everybody who takes part, each with its place, without a gap.

use super::TestStore;
use super::talk::event;
use futures_util::future::join_all;
use roost::model::chat::MessageEvent;
use roost::model::id::UserId;
use roost::storage::chats::{InboxPage, InboxReach};

pub async fn everybody_who_takes_part_hears_of_each_message(store: TestStore) {
    let users = store.users(4).await;
    let (all, two) = (store.converse(&users[..3]).await, store.converse(&users[..2]).await);
    let mut told: Vec<Vec<MessageEvent>> = vec![Vec::new(); 4];
    for (number, conversation) in [&all, &two, &two, &all, &two, &all].into_iter().enumerate() {
        let message = store.send(conversation, users[number % 2], "text").await;
        for (user, told) in users.iter().zip(&mut told) {
            if conversation.participants.contains(user) {
                told.push(event(&message));
            }
        }
    }
    for (user, told) in users.iter().zip(&told) {
        assert_eq!(store.events(*user).await, *told);
        let newest = told.len() as u64;
        assert_eq!(store.reach(*user).await, InboxReach { newest, gone: 0, seen: 0 });
    }
}

pub async fn places_have_no_gap_whatever_comes_at_once(store: TestStore) {
    let users = store.users(5).await;
    let mut conversations = Vec::new();
    for others in 1..5 {
        conversations.push(store.converse(&users[..=others]).await);
    }
    let sending = conversations.iter().map(|conversation| {
        let (store, users) = (&store, &users);
        async move {
            let mut placed = Vec::new();
            for number in 0..8 {
                let new = super::talk::a_message(conversation.id, users[number % 2], "text");
                placed.push(store.deliver(new).await);
            }
            placed
        }
    });
    let sent: Vec<_> = join_all(sending).await.concat();
    for (user, count) in users.iter().zip([32, 32, 24, 16, 8]) {
        let events = store.events(*user).await;
        assert_eq!((events.len(), store.reach(*user).await.newest), (count, count as u64));
        // Each stands where its append, or who placed it, said.
        for (message, places) in &sent {
            if let Some((_, place)) = places.iter().find(|(to, _)| to == user) {
                assert_eq!(events[*place as usize - 1], event(message));
            }
        }
        for conversation in &conversations {
            let ids = events.iter().filter(|event| event.conversation == conversation.id);
            let ids: Vec<_> = ids.map(|event| event.message).collect();
            assert!(ids.is_sorted(), "out of order in {user}");
        }
    }
}

pub async fn an_inbox_is_read_on_from_any_place(store: TestStore) {
    let users = store.users(2).await;
    let conversation = store.converse(&users).await;
    let mut events = Vec::new();
    for number in 0..7 {
        events.push(event(&store.send(&conversation, users[number % 2], "text").await));
    }
    let page = async |after, limit| store.engine.inbox(users[1], after, limit).await.unwrap();
    for (after, limit, expected) in
        [(0, 3, &events[..3]), (3, 3, &events[3..6]), (6, 3, &events[6..]), (7, 3, &[]), (0, 7, &events[..])]
    {
        assert_eq!(page(after, limit).await, InboxPage { after, events: expected.to_vec() });
    }
    // Places to come, and an inbox of nobody.
    assert_eq!(page(20, 3).await, InboxPage { after: 20, events: Vec::new() });
    let nobody = UserId::make();
    assert_eq!(store.engine.inbox(nobody, 0, 3).await.unwrap(), InboxPage::default());
    assert_eq!(store.reach(nobody).await, InboxReach::default());
}

pub async fn what_was_seen_stays_seen(store: TestStore) {
    let users = store.users(2).await;
    let conversation = store.converse(&users).await;
    for _ in 0..5 {
        store.send(&conversation, users[0], "text").await;
    }
    let seen = async || (store.reach(users[0]).await.seen, store.reach(users[1]).await.seen);
    assert_eq!(seen().await, (0, 0));
    store.engine.seen(vec![(users[0], 3), (users[1], 1), (UserId::make(), 1)]).await.unwrap();
    assert_eq!(seen().await, (3, 1));
    store.engine.seen(vec![(users[0], 2), (users[1], 5)]).await.unwrap();
    assert_eq!(seen().await, (3, 5));
    store.engine.seen(Vec::new()).await.unwrap();
    assert_eq!(seen().await, (3, 5));
    assert_eq!(store.reach(users[1]).await, InboxReach { newest: 5, gone: 0, seen: 5 });
}
