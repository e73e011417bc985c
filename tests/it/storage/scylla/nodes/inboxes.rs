//! Inboxes with several homes, and what is left of them when their rows have gone.

use super::chats::{append, place_all, talk};
use super::{Field, run};
use crate::storage::talk::{event, events_of, numbered, place_one};
use futures_util::future::join_all;
use roost::model::chat::MessageEvent;
use roost::model::id::{ConversationId, MessageId, UserId};
use roost::model::timestamp::Timestamp;
use roost::storage::chats::{Chats, INBOX_AGE, InboxReach};
use std::time::Duration;

impl Field {
    /// An event at a place, as if it had been put there.
    async fn put(&self, user: UserId, place: i64, event: MessageEvent) {
        let text = "INSERT INTO inbox (user, bucket, place, message, conversation) \
                    VALUES (?, ?, ?, ?, ?) IF NOT EXISTS";
        let bucket = i32::try_from((place - 1) / 10_000).unwrap();
        self.execute(text, (user.0, bucket, place, event.message.0, event.conversation.0)).await;
    }

    /// A reservation of one place that was made so long ago.
    async fn reserve(&self, user: UserId, place: i64, ago: Duration) {
        self.reserve_up_to(user, place - 1, place, ago).await;
    }

    /// The same of several, behind one.
    async fn reserve_up_to(&self, user: UserId, after: i64, last: i64, ago: Duration) {
        let text = "UPDATE inboxes USING TIMESTAMP ? SET reserved = ?, reserved_after = ?, reserved_at = ? \
                    WHERE user = ?";
        self.execute(text, (last, last, after, Timestamp::now().before(ago).millis(), user.0)).await;
    }

    /// Removes an event, as its age does.
    async fn expire(&self, user: UserId, place: i64) {
        let text = "DELETE FROM inbox WHERE user = ? AND bucket = ? AND place = ? IF EXISTS";
        self.execute(text, (user.0, i32::try_from((place - 1) / 10_000).unwrap(), place)).await;
    }
}

#[test]
fn two_homes_never_give_one_place_to_two_events() {
    run(|field| async move {
        let nodes = [field.node().await, field.node().await];
        let (users, conversation) = talk(&nodes[0], 2).await;
        let mut events = Vec::new();
        for number in 0..16 {
            events.push(event(&append(&nodes[0], &conversation, users[number % 2]).await));
        }
        let placing = events.iter().enumerate().map(|(number, event)| {
            let (node, user) = (&nodes[number % 2], users[0]);
            async move { (place_one(node, user, *event, false).await.unwrap(), *event) }
        });
        let mut placed = join_all(placing).await;
        placed.sort_unstable_by_key(|(place, _)| *place);
        assert_eq!(placed.iter().map(|(place, _)| *place).collect::<Vec<_>>(), (1..=16).collect::<Vec<_>>());
        let page = nodes[0].inbox(users[0], 0, 100).await.unwrap();
        assert_eq!(events_of(page), placed.iter().map(|(_, event)| *event).collect::<Vec<_>>());
    });
}

#[test]
fn an_event_that_is_placed_again_has_the_place_that_it_has() {
    run(|field| async move {
        let (first, second) = (field.node().await, field.node().await);
        let (users, conversation) = talk(&first, 2).await;
        let mut events = Vec::new();
        for place in 1..=5 {
            let message = append(&first, &conversation, users[0]).await;
            assert_eq!(place_one(&first, users[1], event(&message), false).await.unwrap(), place);
            events.push(event(&message));
        }
        for node in [&first, &second] {
            for (place, event) in (1..).zip(&events) {
                assert_eq!(place_one(node, users[1], *event, true).await.unwrap(), place);
            }
        }
        // One that was not placed gets the next.
        let message = append(&first, &conversation, users[0]).await;
        assert_eq!(place_one(&second, users[1], event(&message), true).await.unwrap(), 6);
        assert_eq!(place_one(&first, users[1], event(&message), true).await.unwrap(), 6);
        assert_eq!(first.reach(users[1]).await.unwrap().newest, 6);
        // One of no message has none.
        let none = MessageEvent { message: MessageId::numbered(3, None, Timestamp::now()), ..events[0] };
        assert!(place_one(&first, users[1], none, false).await.is_err());
        assert!(place_one(&first, UserId::make(), events[0], false).await.is_err());
    });
}

#[test]
fn events_that_come_together_have_places_in_their_order() {
    run(|field| async move {
        let (first, second) = (field.node().await, field.node().await);
        let (users, conversation) = talk(&first, 2).await;
        let mut events = Vec::new();
        for number in 0..120 {
            events.push(event(&append(&first, &conversation, users[number % 2]).await));
        }
        let user = users[0];
        assert!(first.place(user, Vec::new(), false).await.unwrap().is_empty());
        assert_eq!(first.place(user, events[..3].to_vec(), false).await.unwrap(), [1, 2, 3]);
        // Some of these have their places; the others are more than one transaction takes.
        let places: Vec<u64> = (1..=110).collect();
        assert_eq!(second.place(user, events[..110].to_vec(), true).await.unwrap(), places);
        // The first home does not know of those.
        let rest: Vec<u64> = (111..=120).collect();
        assert_eq!(first.place(user, events[110..].to_vec(), false).await.unwrap(), rest);
        assert_eq!(second.inbox(user, 0, 200).await.unwrap(), numbered(0, &events));
        // One of them that is of no message, or of another conversation, and none is placed.
        let strange = MessageEvent { conversation: ConversationId::make(), ..events[1] };
        assert!(first.place(user, vec![events[0], strange], false).await.is_err());
        assert_eq!(second.reach(user).await.unwrap().newest, 120);
    });
}

#[test]
fn two_homes_that_place_the_same_events_place_each_once() {
    run(|field| async move {
        let (old, new) = (field.node().await, field.node().await);
        let (users, conversation) = talk(&old, 1).await;
        let user = users[0];
        let mut events = Vec::new();
        for _ in 0..60 {
            events.push(event(&append(&old, &conversation, user).await));
        }
        // What the one that was superseded was handed, and what the other finds in the store.
        for (number, handed) in events.chunks(6).enumerate() {
            let both = &events[..(number + 1) * 6];
            let (_, found) =
                tokio::join!(old.place(user, handed.to_vec(), true), new.place(user, both.to_vec(), true));
            let expected: Vec<u64> = (1..=both.len() as u64).collect();
            assert_eq!(found.unwrap(), expected);
        }
        assert_eq!(new.inbox(user, 0, 100).await.unwrap(), numbered(0, &events));
    });
}

#[test]
fn an_event_whose_home_ended_before_the_list_heard_of_it_is_in_the_list() {
    run(|field| async move {
        let node = field.node().await;
        let (users, conversation) = talk(&node, 2).await;
        let message = append(&node, &conversation, users[0]).await;
        field.reserve(users[1], 1, Duration::ZERO).await;
        field.put(users[1], 1, event(&message)).await;
        let listed = async || node.conversations(users[1], None, 10).await.unwrap()[0].clone();
        assert_eq!(listed().await.last_message_at, None);
        assert_eq!(place_one(&node, users[1], event(&message), true).await.unwrap(), 1);
        let listed = listed().await;
        assert_eq!((listed.last_message_at, listed.unread), (Some(message.created_at), 1));
    });
}

#[test]
fn what_of_an_inbox_is_gone_is_told() {
    run(|field| async move {
        let node = field.node().await;
        let (users, conversation) = talk(&node, 1).await;
        let mut events = Vec::new();
        for _ in 0..5 {
            let message = append(&node, &conversation, users[0]).await;
            place_all(&node, &conversation, &message).await;
            events.push(event(&message));
        }
        let anna = users[0];
        let page = async |after, limit| node.inbox(anna, after, limit).await.unwrap();
        field.expire(anna, 1).await;
        field.expire(anna, 2).await;
        assert_eq!(node.reach(anna).await.unwrap(), InboxReach { newest: 5, gone: 2, seen: 0 });
        for after in [0, 1, 2] {
            assert_eq!(page(after, 10).await, numbered(2, &events[2..]));
        }
        assert_eq!(page(3, 1).await, numbered(3, &[events[3]]));
        for place in 3..=5 {
            field.expire(anna, place).await;
        }
        // A reservation of a month ago: its row was there.
        field.reserve(anna, 6, INBOX_AGE).await;
        let fresh = field.node().await;
        assert_eq!(fresh.reach(anna).await.unwrap(), InboxReach { newest: 6, gone: 6, seen: 0 });
        assert_eq!(fresh.inbox(anna, 2, 10).await.unwrap(), numbered(6, &[]));
        let message = append(&fresh, &conversation, anna).await;
        assert_eq!(
            place_one(&fresh, anna, event(&message), false).await.unwrap(),
            7,
            "no place is given again"
        );
        assert_eq!(fresh.inbox(anna, 6, 10).await.unwrap(), numbered(6, &[event(&message)]));
    });
}

#[test]
fn a_reservation_that_no_event_followed_is_the_next_place() {
    run(|field| async move {
        let node = field.node().await;
        let (users, conversation) = talk(&node, 1).await;
        let anna = users[0];
        field.reserve_up_to(anna, 0, 2, Duration::from_secs(60)).await;
        assert_eq!(node.reach(anna).await.unwrap(), InboxReach::default());
        let mut events = Vec::new();
        for place in 1..=3 {
            let message = append(&node, &conversation, anna).await;
            assert_eq!(place_one(&node, anna, event(&message), false).await.unwrap(), place);
            events.push(event(&message));
        }
        field.reserve_up_to(anna, 3, 9, Duration::from_secs(60)).await;
        let fresh = field.node().await;
        assert_eq!(fresh.reach(anna).await.unwrap().newest, 3);
        let message = append(&fresh, &conversation, anna).await;
        assert_eq!(place_one(&fresh, anna, event(&message), true).await.unwrap(), 4);
        events.push(event(&message));
        assert_eq!(fresh.inbox(anna, 0, 10).await.unwrap(), numbered(0, &events));
    });
}

#[test]
fn an_inbox_goes_from_one_bucket_into_the_next() {
    run(|field| async move {
        let node = field.node().await;
        let (users, conversation) = talk(&node, 1).await;
        let anna = users[0];
        let mut events = Vec::new();
        for _ in 0..6 {
            events.push(event(&append(&node, &conversation, anna).await));
        }
        // What is left begins near the end of the third bucket.
        field.put(anna, 29_998, events[0]).await;
        field.reserve(anna, 29_999, Duration::from_secs(60)).await;
        assert_eq!(node.reach(anna).await.unwrap(), InboxReach { newest: 29_998, gone: 29_997, seen: 0 });
        let placed = node.place(anna, events[1..].to_vec(), false).await.unwrap();
        assert_eq!(placed, [29_999, 30_000, 30_001, 30_002, 30_003]);
        assert_eq!(place_one(&field.node().await, anna, events[1], true).await.unwrap(), 29_999);
        let page = async |after, limit| node.inbox(anna, after, limit).await.unwrap();
        assert_eq!(page(29_998, 10).await, numbered(29_998, &events[1..]));
        assert_eq!(page(29_999, 2).await, numbered(29_999, &events[2..4]));
        assert_eq!(page(30_000, 10).await, numbered(30_000, &events[3..]));
        assert_eq!(page(5, 10).await, numbered(29_997, &events));
        assert_eq!(page(30_003, 10).await, numbered(30_003, &[]));
    });
}
