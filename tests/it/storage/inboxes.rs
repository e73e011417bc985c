//! Inboxes: every event of everybody who takes part, each with its place, in order.

use super::TestStore;
use super::talk::{a_message, event, events_of, keyed};
use futures_util::future::join_all;
use roost::model::chat::MessageEvent;
use roost::model::id::UserId;
use roost::storage::chats::{InboxPage, MessageAppended};

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
        let page = store.engine.inbox(*user, 0, 100).await.unwrap();
        let last = page.events.last().map_or(0, |(place, _)| *place);
        let reach = store.reach(*user).await;
        assert!(reach.newest >= last && page.through >= reach.newest, "{page:?} {reach:?}");
        assert_eq!((reach.gone, reach.seen), (0, 0));
        assert_eq!(events_of(page), *told);
    }
}

pub async fn places_grow_whatever_comes_at_once(store: TestStore) {
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
                let new = a_message(conversation.id, users[number % 2], "text");
                placed.push(store.deliver(new).await);
            }
            placed
        }
    });
    let sent: Vec<_> = join_all(sending).await.concat();
    for (user, count) in users.iter().zip([32, 32, 24, 16, 8]) {
        let events = store.engine.inbox(*user, 0, 1_000).await.unwrap().events;
        let places: Vec<u64> = events.iter().map(|(place, _)| *place).collect();
        assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
        assert_eq!(places.len(), count);
        if store.engine.placements().is_none() {
            assert_eq!(
                places,
                (1..=count as u64).collect::<Vec<_>>(),
                "an inbox that numbers its own has no gap"
            );
            assert_eq!(store.reach(*user).await.newest, count as u64);
        }
        // Each stands where its append, or who placed it, said.
        for (message, places) in &sent {
            if let Some((_, place)) = places.iter().find(|(to, _)| to == user) {
                assert!(events.contains(&(*place, event(message))), "{place} of {user}");
            }
        }
        let events: Vec<_> = events.into_iter().map(|(_, event)| event).collect();
        for conversation in &conversations {
            let ids = events.iter().filter(|event| event.conversation == conversation.id);
            let ids: Vec<_> = ids.map(|event| event.message).collect();
            assert!(ids.is_sorted(), "out of order in {user}");
        }
    }
}

pub async fn an_inbox_is_read_on_from_any_place(store: TestStore) {
    let users = store.users(3).await;
    let (one, other) = (store.converse(&users[..2]).await, store.converse(&users).await);
    let strange = store.converse(&users[2..]).await;
    let mut events = Vec::new();
    for number in 0..7 {
        let conversation = [&one, &other][usize::from(number % 3 == 0)];
        events.push(event(&store.send(conversation, users[number % 2], "text").await));
        store.send(&strange, users[2], "not in it").await;
    }
    let page = async |after, limit| store.engine.inbox(users[1], after, limit).await.unwrap();
    let all = page(0, 100).await;
    assert_eq!(events_of(all.clone()), events);
    let newest = store.reach(users[1]).await.newest;
    for (from, limit) in [(0, 3), (3, 3), (6, 3), (7, 3), (0, 7), (1, 100)] {
        let after = if from == 0 { 0 } else { all.events[from - 1].0 };
        let expected = &all.events[from..(from + limit).min(7)];
        let page = page(after, limit).await;
        assert_eq!(page.events, expected);
        if expected.len() == limit {
            assert_eq!(page.through, expected[limit - 1].0);
        } else {
            assert!(page.through >= newest, "{page:?}");
        }
    }
    // Places to come, and an inbox of nobody.
    assert_eq!(page(newest + 20, 3).await, InboxPage { events: Vec::new(), through: newest + 20 });
    let nobody = UserId::make();
    assert_eq!(store.engine.inbox(nobody, 0, 3).await.unwrap().events, []);
    assert_eq!(store.reach(nobody).await.seen, 0);
}

/// Where appends place nothing there is nothing to tell.
pub async fn appends_tell_what_they_place_in_its_order(store: TestStore) {
    let users = store.users(3).await;
    let conversations = [store.converse(&users[..2]).await, store.converse(&users[1..]).await];
    store.send(&conversations[0], users[1], "before anybody listens").await;
    let Some(mut placements) = store.engine.placements() else { return };
    let sending = (0..40).map(|number| {
        let new = a_message(conversations[number % 2].id, users[1], "text");
        store.engine.append_message(new)
    });
    let appended = join_all(sending.collect::<Vec<_>>()).await;
    // Of what is not stored nothing is told.
    let again = keyed(conversations[0].id, users[1], "once", "key");
    let once = store.engine.append_message(again.clone()).await;
    assert!(matches!(store.engine.append_message(again).await, Ok(MessageAppended::Repeated(_))));
    let not_its = a_message(conversations[0].id, users[2], "not a participant");
    assert_eq!(store.engine.append_message(not_its).await.unwrap(), MessageAppended::Forbidden);
    for appended in appended.into_iter().chain([once]) {
        let MessageAppended::Stored { message, place } = appended.unwrap() else { panic!("not stored") };
        let told = placements.try_recv().unwrap();
        assert_eq!((Some(told.place), told.event), (place, event(&message)));
        let conversation = conversations.iter().find(|one| one.id == message.conversation).unwrap();
        assert_eq!(told.participants[..], conversation.participants);
    }
    assert!(placements.try_recv().is_err());
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
}
