//! Whoever listens to an inbox is given what the store tells, and what it told too fast.

use super::open;
use crate::storage::talk::{a_message, event};
use roost::actors::inboxes::{Feed, Inboxes};
use roost::actors::instant::Instants;
use roost::model::chat::MessageEvent;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::timeout;

/// The next events, so many; each says whether it was told, or read.
async fn given(feed: &mut Feed, count: usize) -> Vec<(MessageEvent, bool)> {
    let mut events = Vec::new();
    while events.len() < count {
        let next = timeout(Duration::from_secs(10), feed.next()).await.expect("events are missing");
        events.extend(next.iter().map(|delivery| (delivery.event, delivery.told_at.is_some())));
    }
    events
}

#[tokio::test]
async fn a_listener_is_given_each_event_once_though_it_was_told_of_some_only() {
    let store = open().await;
    let users = store.users(3).await;
    let (all, two) = (store.converse(&users).await, store.converse(&users[..2]).await);
    let inboxes =
        Arc::new(Inboxes::new(store.engine.clone(), store.engine.store_name(), None, Instants::default()));
    let (told, receiver) = broadcast::channel(4);
    let telling = tokio::spawn(inboxes.clone().keep_telling(receiver));
    let mut placements = store.engine.placements().unwrap();
    let mut feeds = Vec::new();
    for user in &users {
        feeds.push(inboxes.listen(*user, None).await.unwrap().0);
    }
    let mut sent = Vec::new();
    for (count, is_too_fast) in [(3, false), (200, true), (3, false)] {
        let (begins, mut listening) = (sent.len(), Vec::new());
        for number in 0..count {
            let conversation = [&all, &two][number % 2];
            let message = store.deliver(a_message(conversation.id, users[0], "text")).await.0;
            sent.push((event(&message), conversation));
            if !is_too_fast {
                told.send(placements.try_recv().unwrap()).unwrap();
            }
        }
        // Of more than a page all but the newest four are told too fast.
        while let Ok(placement) = placements.try_recv() {
            told.send(placement).unwrap();
        }
        for (feed, user) in feeds.iter_mut().zip(&users) {
            let its =
                sent[begins..].iter().filter(|(_, conversation)| conversation.participants.contains(user));
            let expected: Vec<_> = its.map(|(event, _)| *event).collect();
            let events = given(feed, expected.len()).await;
            assert_eq!(events.iter().map(|(event, _)| *event).collect::<Vec<_>>(), expected);
            listening.push(events.iter().all(|(_, is_told)| *is_told));
        }
        assert_eq!(listening, [!is_too_fast; 3]);
    }
    telling.abort();
}
