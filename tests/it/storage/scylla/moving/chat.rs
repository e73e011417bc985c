//! What of chat comes along.

use super::{House, database, keyspace_options, moved, run, target};
use crate::storage::fixture::{Engine, TestStore};
use crate::storage::talk::{a_message, among, event, events_of, keyed, place_one};
use futures_util::future::try_join_all;
use roost::model::chat::Conversation;
use roost::model::id::UserId;
use roost::model::timestamp::Timestamp;
use roost::storage::Upkeep;
use roost::storage::chats::{Chats, Conversing, INBOX_AGE, MessageAppended, NewMessage};
use roost::storage::scylla::{Mover, Store};
use roost::storage::sqlite;
use std::fmt::Write;
use std::time::Duration;

/// Some of everything; answers where it was said.
pub(super) async fn fill(store: &TestStore, users: &[UserId]) -> Vec<Conversation> {
    let [anna, ben, carl, dora, eve, _] = users[..] else { panic!("six users") };
    let old = Timestamp::now().before(INBOX_AGE + Duration::from_secs(60));
    let two = store.converse(&[anna, ben]).await;
    let three = store.converse(&[carl, anna, ben]).await;
    let (silent, past) = (store.converse(&[ben, carl]).await, store.converse(&[dora, eve]).await);
    // Some of it is in no inbox any more; of two users nothing is.
    for (conversation, sender) in [(&two, ben), (&past, dora), (&three, carl)] {
        let new = NewMessage { created_at: old, ..a_message(conversation.id, sender, "long ago") };
        store.deliver(new).await;
    }
    while store.engine.sweep(Timestamp::now()).await.unwrap() > 0 {}
    let mut last = None;
    let begun = Timestamp::now().before(Duration::from_secs(60));
    for number in 0..12 {
        let (conversation, sender) = [(&two, anna), (&three, carl), (&two, ben), (&three, anna)][number % 4];
        let new = a_message(conversation.id, sender, &format!("text {number} \u{1F600}"));
        // Each of a time of its own: that orders those of different conversations.
        let created_at = begun.after(Duration::from_millis(number as u64));
        last = Some(store.deliver(NewMessage { created_at, ..new }).await.0);
        if number == 7 {
            let read = last.as_ref().unwrap().id;
            store.engine.mark_read(three.id, ben, read).await.unwrap();
            store.engine.mark_read(three.id, anna, read).await.unwrap();
        }
    }
    store.deliver(the_keyed(&two, anna)).await;
    store.engine.mark_read(three.id, carl, last.unwrap().id).await.unwrap();
    store.engine.seen(vec![(anna, 9), (dora, 1)]).await.unwrap();
    vec![two, three, silent, past]
}

/// What was sent with a key.
fn the_keyed(conversation: &Conversation, sender: UserId) -> NewMessage {
    keyed(conversation.id, sender, "with a key", "nul\0 and: colon \u{1F511}")
}

/// All that a store shows of it.
pub(super) async fn picture(house: &House, engine: &dyn Engine, shown: &mut String) {
    let mut line = |told: &dyn std::fmt::Debug| writeln!(shown, "{told:?}").unwrap();
    for user in &house.users {
        line(&engine.conversations(*user, None, 100).await.unwrap());
        line(&events_of(engine.inbox(*user, 0, 100).await.unwrap()));
        let reach = engine.reach(*user).await.unwrap();
        let unseen = engine.inbox(*user, reach.seen.max(reach.gone), 100).await.unwrap();
        line(&events_of(unseen));
        for conversation in &house.talks {
            line(&engine.history(conversation.id, *user, None, 100).await.unwrap());
        }
    }
}

/// The store goes on where the other ended.
pub(super) async fn is_lived_in(house: &House, engine: &dyn Engine) {
    let [anna, ben, _, dora, eve, ..] = house.users[..] else { panic!("users") };
    let two = &house.talks[0];
    let again = engine.append_message(the_keyed(two, anna)).await.unwrap();
    assert!(matches!(again, MessageAppended::Repeated(_)), "{again:?}");
    assert_eq!(engine.converse(among(&[ben, anna])).await.unwrap(), Conversing::Found(two.clone()));
    for (conversation, sender, reader) in [(two, anna, ben), (&house.talks[3], dora, eve)] {
        let id = conversation.id;
        let newest = engine.history(id, reader, None, 1).await.unwrap().unwrap()[0].clone();
        let unread = async || {
            let listed = engine.conversations(reader, None, 100).await.unwrap();
            listed.into_iter().find(|view| view.conversation.id == id).unwrap().unread
        };
        let (place, before) = (engine.reach(reader).await.unwrap().newest, unread().await);
        let appended = engine.append_message(a_message(id, sender, "at home")).await.unwrap();
        let MessageAppended::Stored { message, place: placed } = appended else { panic!("{appended:?}") };
        assert_eq!(message.number, newest.number + 1);
        assert!(message.id > newest.id);
        if placed.is_none() {
            assert_eq!(engine.to_place(id).await.unwrap().events, [(message.number, event(&message))]);
            for user in &conversation.participants {
                place_one(engine, *user, event(&message), false).await.unwrap();
            }
        }
        let page = engine.inbox(reader, place, 10).await.unwrap();
        assert_eq!(events_of(page), [event(&message)]);
        assert_eq!(unread().await, before + 1);
        engine.mark_read(id, reader, message.id).await.unwrap();
        assert_eq!(unread().await, 0);
    }
}

#[test]
fn a_conversation_of_many_pages_and_buckets_comes_along() {
    run(|keyspace| async move {
        let house = House::build().await;
        let (engine, two) = (&house.store.engine, &house.talks[0]);
        for round in 0..101 {
            // They are stored in the order of these calls.
            let sender = two.participants[round % 2];
            let calls = (0..100).map(|_| engine.append_message(a_message(two.id, sender, "one of many")));
            try_join_all(calls.collect::<Vec<_>>()).await.unwrap();
        }
        let newest = engine.history(two.id, two.participants[0], None, 1).await.unwrap().unwrap();
        assert!(newest[0].number > 10_100);
        engine.close().await.unwrap();
        // Both are read whole, and compared, by the copy itself.
        moved(&database(&house.file()), &target(&keyspace).await).await;
        let cluster = Store::open(keyspace_options(&keyspace)).await.unwrap();
        let shown = cluster.history(two.id, two.participants[0], None, 1).await.unwrap();
        assert_eq!(shown, Some(newest));
        let back = house.store.folder.path().join("back.db");
        let target = sqlite::Store::open_target(crate::storage::sqlite::options(&back)).unwrap();
        moved(&Mover::source(cluster).await.unwrap(), &target).await;
        target.close().await.unwrap();
        is_lived_in(&house, &database(&back)).await;
    });
}
