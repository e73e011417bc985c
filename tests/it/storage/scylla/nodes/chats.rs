//! Chat with several homes, one after the other or at once, and what outlives each of them.

use super::{run, user};
use crate::storage::talk::{a_message, among, event, events_of, keyed, place_one, sent};
use futures_util::future::join_all;
use roost::model::chat::{Conversation, Message};
use roost::model::id::{ConversationId, MessageId, UserId};
use roost::model::shard::Shard;
use roost::model::timestamp::Timestamp;
use roost::storage::chats::{Chats, Conversing, MessageAppended, ToPlace};
use roost::storage::scylla::Store;
use roost::storage::{Jobs, Upkeep};
use std::collections::HashSet;
use std::time::Duration;
use uuid::Uuid;

/// Users who talk, and where.
pub(super) async fn talk(node: &Store, people: usize) -> (Vec<UserId>, Conversation) {
    let mut users = Vec::new();
    for number in 0..people {
        users.push(user(node, &format!("user-{number}")).await);
    }
    let made = node.converse(among(&users)).await.unwrap();
    let Conversing::Made(conversation) = made else { panic!("{made:?}") };
    (users, conversation)
}

pub(super) async fn append(node: &Store, conversation: &Conversation, sender: UserId) -> Message {
    sent(node.append_message(a_message(conversation.id, sender, "text")).await.unwrap())
}

async fn numbers(node: &Store, conversation: &Conversation) -> Vec<u64> {
    let user = conversation.participants[0];
    let history = node.history(conversation.id, user, None, 1_000).await.unwrap().unwrap();
    history.into_iter().map(|message| message.number).collect()
}

pub(super) async fn place_all(node: &Store, conversation: &Conversation, message: &Message) {
    for user in &conversation.participants {
        place_one(node, *user, event(message), false).await.unwrap();
    }
    node.placed(conversation.id, message.number).await.unwrap();
}

/// When whatever is used now has been quiet for a while.
fn later() -> Timestamp {
    Timestamp::now().after(Duration::from_secs(120))
}

async fn unplaced(node: &Store) -> Vec<ConversationId> {
    node.unplaced(Shard::all().collect()).await.unwrap()
}

#[test]
fn a_home_that_was_superseded_gives_the_next_number_and_not_the_same() {
    run(|field| async move {
        let (old, new) = (field.node().await, field.node().await);
        let (users, conversation) = talk(&old, 2).await;
        let mut ids = Vec::new();
        for (number, node) in [&old, &old, &new, &new, &old, &new, &old].into_iter().enumerate() {
            let message = append(node, &conversation, users[number % 2]).await;
            assert_eq!(message.number, number as u64 + 1);
            place_all(node, &conversation, &message).await;
            ids.push(message.id);
        }
        assert!(ids.is_sorted());
        assert_eq!(numbers(&new, &conversation).await, [7, 6, 5, 4, 3, 2, 1]);
        // Counted across both.
        for (user, unread) in users.iter().zip([3, 4]) {
            let listed = new.conversations(*user, None, 10).await.unwrap();
            assert_eq!((listed.len(), listed[0].unread), (1, unread));
        }
    });
}

#[test]
fn two_homes_at_once_leave_no_gap_and_store_nothing_twice() {
    run(|field| async move {
        let nodes = [field.node().await, field.node().await];
        let (users, conversation) = talk(&nodes[0], 2).await;
        // Each message is sent to both, by one key; one or the other stores it.
        let sending = (0..12).map(|number| {
            let (nodes, users, id) = (&nodes, &users, conversation.id);
            async move {
                let new = keyed(id, users[number % 2], &format!("text {number}"), &format!("key {number}"));
                let [one, other] = nodes.each_ref().map(|node| node.append_message(new.clone()));
                let told = [one.await.unwrap(), other.await.unwrap()].map(|appended| match appended {
                    MessageAppended::Stored { message, .. } | MessageAppended::Repeated(message) => message,
                    other => panic!("{other:?}"),
                });
                assert_eq!(told[0], told[1]);
                told[0].id
            }
        });
        let ids: HashSet<MessageId> = join_all(sending).await.into_iter().collect();
        assert_eq!(ids.len(), 12);
        assert_eq!(numbers(&nodes[1], &conversation).await, (1..=12).rev().collect::<Vec<_>>());
        let history = nodes[0].history(conversation.id, users[0], None, 100).await.unwrap().unwrap();
        assert!(history.windows(2).all(|pair| pair[0].id > pair[1].id));
    });
}

#[test]
fn what_was_not_placed_is_found_by_the_next_home() {
    run(|field| async move {
        let old = field.node().await;
        let (users, conversation) = talk(&old, 2).await;
        let shard = vec![Shard::of_conversation(conversation.id)];
        assert_eq!(old.unplaced(shard.clone()).await.unwrap(), []);
        let mut messages = Vec::new();
        for number in 0..5 {
            messages.push(append(&old, &conversation, users[number % 2]).await);
        }
        place_all(&old, &conversation, &messages[0]).await;
        place_all(&old, &conversation, &messages[1]).await;
        place_one(&old, users[0], event(&messages[2]), false).await.unwrap();
        drop(old);

        let new = field.node().await;
        assert_eq!(new.unplaced(shard.clone()).await.unwrap(), [conversation.id]);
        let others = Shard::all().filter(|other| *other != shard[0]).collect();
        assert_eq!(new.unplaced(others).await.unwrap(), []);
        let left = new.to_place(conversation.id).await.unwrap();
        let events: Vec<_> = messages[2..].iter().map(|message| (message.number, event(message))).collect();
        assert_eq!(left, ToPlace { participants: conversation.participants.clone(), through: 2, events });
        for (number, event) in left.events {
            for user in &left.participants {
                place_one(&new, *user, event, true).await.unwrap();
            }
            new.placed(conversation.id, number).await.unwrap();
        }
        let expected: Vec<_> = messages.iter().map(event).collect();
        for user in &users {
            assert_eq!(events_of(new.inbox(*user, 0, 100).await.unwrap()), expected);
        }
        assert_eq!(new.to_place(conversation.id).await.unwrap().events, []);
    });
}

#[test]
fn a_note_goes_when_it_is_quiet_and_all_is_placed() {
    run(|field| async move {
        let node = field.node().await;
        node.take_over(Shard::all().collect()).await.unwrap();
        let (users, conversation) = talk(&node, 2).await;
        let first = append(&node, &conversation, users[0]).await;
        let second = append(&node, &conversation, users[0]).await;
        place_all(&node, &conversation, &first).await;
        node.sweep(later()).await.unwrap();
        assert_eq!(unplaced(&node).await, [conversation.id], "one has no place");
        place_all(&node, &conversation, &second).await;
        node.sweep(Timestamp::now()).await.unwrap();
        assert_eq!(unplaced(&node).await, [conversation.id], "it was used lately");
        node.sweep(later()).await.unwrap();
        assert_eq!(unplaced(&node).await, []);
        // The next message is noted again, and so it is after a home that found it so.
        let third = append(&node, &conversation, users[1]).await;
        assert_eq!(unplaced(&node).await, [conversation.id]);
        let next = field.node().await;
        next.take_over(Shard::all().collect()).await.unwrap();
        assert_eq!(next.to_place(conversation.id).await.unwrap().events, [(3, event(&third))]);
        place_all(&next, &conversation, &third).await;
        next.sweep(later()).await.unwrap();
        assert_eq!(unplaced(&next).await, []);
        // Home again, the first remembers no note.
        node.let_go(Shard::all().collect()).await.unwrap();
        node.take_over(Shard::all().collect()).await.unwrap();
        append(&node, &conversation, users[0]).await;
        assert_eq!(unplaced(&node).await, [conversation.id]);
    });
}

#[test]
fn a_note_outlives_a_removal_that_comes_late() {
    run(|field| async move {
        let (old, new) = (field.node().await, field.node().await);
        let (users, conversation) = talk(&old, 2).await;
        let first = append(&old, &conversation, users[0]).await;
        place_all(&old, &conversation, &first).await;
        append(&new, &conversation, users[0]).await;
        // The former home knows of nothing that has no place.
        old.sweep(later()).await.unwrap();
        assert_eq!(unplaced(&new).await, [conversation.id]);
        let left = new.to_place(conversation.id).await.unwrap().events;
        assert_eq!(left.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2]);
    });
}

#[test]
fn who_finds_a_claim_without_its_message_stores_it() {
    run(|field| async move {
        let node = field.node().await;
        let (users, conversation) = talk(&node, 2).await;
        append(&node, &conversation, users[0]).await;
        // As a home left it that ended: once its number is free still, once another message has it.
        let claimed = async |key: &str, number: u64| {
            let id = MessageId::numbered(number, None, Timestamp::now());
            let new = keyed(conversation.id, users[0], "claimed", key);
            let text = "INSERT INTO chat_keys (user, key, digest, conversation, number, id, created_at) \
                        VALUES (?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
            let (digest, at) = (&new.digest[..], new.created_at.before(Duration::from_secs(60)));
            let values = (users[0].0, key, digest, conversation.id.0, number as i64, id.0, at.millis());
            field.execute(text, values).await;
            (new, id, at)
        };
        let (free, free_id, at) = claimed("free", 2).await;
        let stored = sent(node.append_message(free.clone()).await.unwrap());
        assert_eq!((stored.id, stored.number, stored.created_at), (free_id, 2, at));
        assert_eq!(node.append_message(free).await.unwrap(), MessageAppended::Repeated(stored));

        let (taken, taken_id, at) = claimed("taken", 1).await;
        let stored = sent(node.append_message(taken.clone()).await.unwrap());
        assert_eq!((stored.number, stored.created_at), (3, at));
        assert_ne!(stored.id, taken_id);
        assert_eq!(node.append_message(taken).await.unwrap(), MessageAppended::Repeated(stored));
        assert_eq!(numbers(&node, &conversation).await, [3, 2, 1]);
    });
}

#[test]
fn a_repeat_of_what_was_not_placed_is_noted() {
    run(|field| async move {
        let (old, new) = (field.node().await, field.node().await);
        let (users, conversation) = talk(&old, 2).await;
        let first = append(&old, &conversation, users[0]).await;
        assert_eq!(new.to_place(conversation.id).await.unwrap().events, [(1, event(&first))]);
        place_all(&new, &conversation, &first).await;
        new.sweep(later()).await.unwrap();
        // The former home has not heard that it is none any more, and ends before it answers.
        let second = keyed(conversation.id, users[0], "text", "second");
        let message = sent(old.append_message(second.clone()).await.unwrap());
        assert_eq!(unplaced(&new).await, []);
        let repeated = new.append_message(second).await.unwrap();
        assert_eq!(repeated, MessageAppended::Repeated(message.clone()));
        assert_eq!(unplaced(&new).await, [conversation.id]);
        assert_eq!(new.to_place(conversation.id).await.unwrap().events, [(2, event(&message))]);
    });
}

#[test]
fn a_conversation_whose_making_was_cut_off_is_made_by_who_finds_its_claim() {
    run(|field| async move {
        let node = field.node().await;
        let users = [user(&node, "anna").await, user(&node, "ben").await];
        let mut new = among(&users);
        new.participants.sort_unstable();
        let participants: Vec<Uuid> = new.participants.iter().map(|user| user.0).collect();
        let text = "INSERT INTO conversation_keys (set_key, id, participants, created_at) \
                    VALUES (?, ?, ?, ?) IF NOT EXISTS";
        field.execute(text, (&new.key.0[..], new.id.0, participants, new.created_at.millis())).await;
        assert_eq!(node.conversation(new.id, users[0]).await.unwrap(), None);
        let found = node.converse(among(&users)).await.unwrap();
        let Conversing::Found(conversation) = found else { panic!("{found:?}") };
        assert_eq!((conversation.id, conversation.created_at), (new.id, new.created_at));
        assert_eq!(append(&node, &conversation, users[0]).await.number, 1);
        assert_eq!(node.conversations(users[1], None, 10).await.unwrap().len(), 1);
    });
}

#[test]
fn the_newest_message_is_found_behind_many_full_buckets() {
    run(|field| async move {
        let node = field.node().await;
        let (users, conversation) = talk(&node, 2).await;
        // The last row of each full bucket stands for all of it.
        let insert = async |number: i64| {
            let id = MessageId::numbered(number as u64, None, Timestamp::now());
            let text = "INSERT INTO messages (conversation, bucket, number, id, sender, body, created_at, counts) \
                        VALUES (?, ?, ?, ?, ?, 'text', 7, 0x0505) IF NOT EXISTS";
            let bucket = i32::try_from((number - 1) / 10_000).unwrap();
            field.execute(text, (conversation.id.0, bucket, number, id.0, users[0].0)).await;
        };
        for bucket in 1..=21 {
            insert(bucket * 10_000).await;
            if [1, 2, 3, 5, 8, 13, 20, 21].contains(&bucket) {
                let newest = node.history(conversation.id, users[0], None, 1).await.unwrap().unwrap();
                assert_eq!(newest[0].number, bucket as u64 * 10_000);
            }
        }
        let message = append(&node, &conversation, users[0]).await;
        assert_eq!(message.number, 210_001);
        // A page goes from one bucket into the one before.
        let page = node.history(conversation.id, users[0], None, 3).await.unwrap().unwrap();
        assert_eq!(
            page.iter().map(|message| message.number).collect::<Vec<_>>(),
            [210_001, 210_000, 200_000]
        );
        place_all(&node, &conversation, &message).await;
        assert_eq!(append(&field.node().await, &conversation, users[1]).await.number, 210_002);
    });
}
