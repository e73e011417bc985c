//! Conversations: made once, numbered without a gap, read by those who take part alone.

use super::TestStore;
use super::talk::{a_message, among, events_of, keyed, sent, texts};
use crate::harness::dice::Dice;
use futures_util::future::join_all;
use roost::model::chat::{ConversationKey, MessageBody};
use roost::model::id::{ConversationId, MessageId, UserId};
use roost::model::timestamp::Timestamp;
use roost::storage::KEY_AGE;
use roost::storage::chats::{
    ConversationPlace, Conversing, Marking, MessageAppended, NewConversation, NewMessage,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub async fn the_same_set_is_the_same_conversation(store: TestStore) {
    let users = store.users(3).await;
    let new = among(&users[..2]);
    let made = store.engine.converse(new.clone()).await.unwrap();
    let Conversing::Made(conversation) = &made else { panic!("{made:?}") };
    let mut sorted = users[..2].to_vec();
    sorted.sort_unstable();
    assert_eq!((conversation.id, &conversation.participants), (new.id, &sorted));
    assert_eq!(conversation.created_at, new.created_at);
    let again = among(&[users[1], users[0], users[1]]);
    assert_eq!(store.engine.converse(again).await.unwrap(), Conversing::Found(conversation.clone()));
    assert_ne!(store.converse(&users).await.id, conversation.id);
    assert_ne!(store.converse(&users[1..]).await.id, conversation.id);
    for user in &users[..2] {
        let seen = store.engine.conversation(conversation.id, *user).await.unwrap();
        assert_eq!(seen.as_ref(), Some(conversation));
    }
}

pub async fn of_one_set_asked_for_by_many_at_once_one_conversation_is_made(store: TestStore) {
    let users = store.users(2).await;
    for _ in 0..3 {
        let third = store.user(&format!("third-{}", &UserId::make().to_string()[30..])).await;
        let set = [users[0], users[1], third];
        let asked = (0..8).map(|_| tokio::spawn(store.engine.converse(among(&set))));
        let (mut made, mut ids) = (0, Vec::new());
        for answer in join_all(asked).await {
            match answer.unwrap().unwrap() {
                Conversing::Made(conversation) => {
                    made += 1;
                    ids.push(conversation.id);
                }
                Conversing::Found(conversation) => ids.push(conversation.id),
                Conversing::Unknown(users) => panic!("{users:?}"),
            }
        }
        assert_eq!(made, 1);
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(store.engine.conversations(third, None, 10).await.unwrap().len(), 1);
    }
}

pub async fn a_conversation_with_unknown_users_is_not_made(store: TestStore) {
    let anna = store.user("anna").await;
    let mut nobody = [UserId::make(), UserId::make()];
    nobody.sort_unstable();
    let new = among(&[nobody[1], anna, nobody[0]]);
    let asked = store.engine.converse(new.clone()).await.unwrap();
    assert_eq!(asked, Conversing::Unknown(nobody.to_vec()));
    assert_eq!(store.engine.conversation(new.id, anna).await.unwrap(), None);
    assert_eq!(store.engine.conversations(anna, None, 10).await.unwrap(), []);
    // The key is free.
    let known = NewConversation { participants: vec![anna], ..new };
    assert!(matches!(store.engine.converse(known).await.unwrap(), Conversing::Made(_)));
}

pub async fn a_support_conversation_is_its_users_own(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let support = |user, participants: &[UserId]| NewConversation {
        key: ConversationKey::of_support(user),
        ..among(participants)
    };
    let made = store.engine.converse(support(anna, &[anna, ben])).await.unwrap();
    let Conversing::Made(conversation) = made else { panic!("{made:?}") };
    assert_ne!(store.converse(&[anna, ben]).await.id, conversation.id);
    // Who answers there is looked at when it is made, and then not again.
    let found = store.engine.converse(support(anna, &[anna, UserId::make()])).await.unwrap();
    assert_eq!(found, Conversing::Found(conversation.clone()));
    let other = store.engine.converse(support(ben, &[ben])).await.unwrap();
    let Conversing::Made(alone) = other else { panic!("{other:?}") };
    assert_eq!(alone.participants, [ben]);
    assert_eq!(store.send(&alone, ben, "anybody?").await.number, 1);
    assert_eq!(store.engine.conversation(alone.id, anna).await.unwrap(), None);
}

pub async fn a_hundred_take_part_in_one(store: TestStore) {
    let users = store.users(100).await;
    let conversation = store.converse(&users).await;
    assert_eq!(conversation.participants.len(), 100);
    let (message, places) = store.deliver(a_message(conversation.id, users[7], "all of you")).await;
    assert_eq!(places.len(), 100);
    assert!(places.iter().all(|(_, place)| *place == 1), "{places:?}");
    for user in [users[0], users[7], users[99]] {
        assert_eq!(store.history(conversation.id, user).await, std::slice::from_ref(&message));
        assert_eq!(store.events(user).await.len(), 1);
        let unread = u64::from(user != users[7]);
        assert_eq!(store.unread(user).await, [(conversation.id, unread)]);
    }
}

pub async fn who_takes_no_part_sees_what_is_seen_of_none(store: TestStore) {
    let users = store.users(3).await;
    let conversation = store.converse(&users[..2]).await;
    let message = store.send(&conversation, users[0], "between us").await;
    let none = ConversationId::make();
    let asked = [(conversation.id, users[2]), (conversation.id, UserId::make()), (none, users[0])];
    for (id, user) in asked {
        assert_eq!(store.engine.conversation(id, user).await.unwrap(), None);
        assert_eq!(store.engine.history(id, user, None, 10).await.unwrap(), None);
        assert_eq!(store.engine.mark_read(id, user, message.id).await.unwrap(), Marking::Forbidden);
        let appended = store.engine.append_message(a_message(id, user, "let me in")).await.unwrap();
        assert_eq!(appended, MessageAppended::Forbidden);
    }
    assert_eq!(store.history(conversation.id, users[1]).await, [message]);
    assert_eq!(store.engine.conversations(users[2], None, 10).await.unwrap(), []);
    assert_eq!(store.engine.conversations(UserId::make(), None, 10).await.unwrap(), []);
    assert_eq!(store.events(users[2]).await, []);
}

pub async fn messages_are_numbered_in_order_however_many_come_at_once(store: TestStore) {
    let users = store.users(2).await;
    let conversation = store.converse(&users).await;
    // Its home appends one at a time.
    let home = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    let sending = (0..50).map(|number| {
        let (home, engine) = (Arc::clone(&home), Arc::clone(&store.engine));
        let new = a_message(conversation.id, users[number % 2], &format!("text {number}"));
        tokio::spawn(async move {
            let mut order = home.lock().await;
            order.push(sent(engine.append_message(new).await.unwrap()));
        })
    });
    for done in join_all(sending).await {
        done.unwrap();
    }
    let mut order = std::mem::take(&mut *home.lock().await);
    for (number, message) in (1..).zip(&order) {
        assert_eq!((message.number, message.id.number()), (number, number));
    }
    assert!(order.windows(2).all(|pair| pair[0].id < pair[1].id));
    order.reverse();
    assert_eq!(store.history(conversation.id, users[1]).await, order);
}

pub async fn conversations_do_not_get_in_each_others_way(store: TestStore) {
    let users = store.users(6).await;
    let anna = users[0];
    let mut conversations = Vec::new();
    for other in &users[1..] {
        conversations.push(store.converse(&[anna, *other]).await);
    }
    let talking = conversations.iter().zip(&users[1..]).map(|(conversation, other)| {
        let store = &store;
        async move {
            for number in 1..=10 {
                let sender = if number % 2 == 0 { *other } else { anna };
                assert_eq!(store.send(conversation, sender, "text").await.number, number);
            }
        }
    });
    join_all(talking).await;
    let unread = store.unread(anna).await;
    assert!(unread.len() == 5 && unread.iter().all(|(_, count)| *count == 5), "{unread:?}");
    // Each event once, and of each conversation in its order.
    let events = store.events(anna).await;
    assert_eq!(events.len(), 50);
    for conversation in &conversations {
        let told = events.iter().filter(|event| event.conversation == conversation.id);
        let told: Vec<_> = told.map(|event| event.message).collect();
        let history = store.history(conversation.id, anna).await;
        assert_eq!(told, history.iter().rev().map(|message| message.id).collect::<Vec<_>>());
    }
}

pub async fn a_key_makes_one_message(store: TestStore) {
    let users = store.users(3).await;
    let first = store.converse(&users[..2]).await;
    let second = store.converse(&users).await;
    let new = keyed(first.id, users[0], "once", "key");
    let message = sent(store.engine.append_message(new.clone()).await.unwrap());
    store.send(&first, users[1], "between").await;
    let later = NewMessage { created_at: message.created_at.after(Duration::from_secs(5)), ..new };
    let again = store.engine.append_message(later).await.unwrap();
    assert_eq!(again, MessageAppended::Repeated(message.clone()));
    for other in [keyed(first.id, users[0], "other", "key"), keyed(second.id, users[0], "once", "key")] {
        assert_eq!(store.engine.append_message(other).await.unwrap(), MessageAppended::KeyReused);
    }
    assert_eq!(store.history(first.id, users[0]).await.len(), 2);
    assert_eq!(store.history(second.id, users[0]).await, []);
    // It is its user's own.
    let others = store.engine.append_message(keyed(first.id, users[1], "once", "key")).await.unwrap();
    assert_eq!(sent(others).number, 3);
    let other_key = store.engine.append_message(keyed(first.id, users[0], "once", "other")).await.unwrap();
    assert_eq!(sent(other_key).number, 4);
}

pub async fn a_key_is_kept_for_a_day(store: TestStore) {
    let users = store.users(2).await;
    let conversation = store.converse(&users).await;
    let at = |created_at| NewMessage { created_at, ..keyed(conversation.id, users[0], "text", "key") };
    let now = Timestamp::now();
    let first = sent(store.engine.append_message(at(now)).await.unwrap());
    let again = store.engine.append_message(at(now.after(KEY_AGE))).await.unwrap();
    assert_eq!(again, MessageAppended::Repeated(first));
    let late = now.after(KEY_AGE).after(Duration::from_millis(1));
    let second = sent(store.engine.append_message(at(late)).await.unwrap());
    assert_eq!(second.number, 2);
    let again = store.engine.append_message(at(late)).await.unwrap();
    assert_eq!(again, MessageAppended::Repeated(second));
}

pub async fn messages_come_back_as_they_were(store: TestStore) {
    let users = store.users(2).await;
    let conversation = store.converse(&users).await;
    let longest = "\u{1F9A9}".repeat(4_000);
    for text in ["it's \"quoted\"; -- ? :name $1 %s {} []", "two\nlines\t?", "e\u{301} \u{202F}", &longest] {
        let Ok(body) = MessageBody::parse(text) else { continue };
        let new = NewMessage { body, key: text.to_owned(), ..a_message(conversation.id, users[0], "text") };
        let message = sent(store.engine.append_message(new.clone()).await.unwrap());
        let told = (message.conversation, message.sender, &message.body, message.created_at);
        assert_eq!(told, (conversation.id, users[0], &new.body, new.created_at));
        assert_eq!(store.history(conversation.id, users[1]).await[0], message);
        let again = store.engine.append_message(new).await.unwrap();
        assert_eq!(again, MessageAppended::Repeated(message));
    }
    assert!(store.history(conversation.id, users[0]).await.len() >= 3, "most are fit to be sent");
}

pub async fn history_is_walked_by_pages_while_messages_arrive(store: TestStore) {
    let users = store.users(2).await;
    let conversation = store.converse(&users).await;
    for number in 1..=10 {
        store.send(&conversation, users[number % 2], &format!("text {number}")).await;
    }
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.engine.history(conversation.id, users[0], before, 3).await.unwrap().unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.number);
        seen.extend(page);
        store.send(&conversation, users[0], "meanwhile").await;
    }
    let numbers: Vec<_> = seen.iter().map(|message| message.number).collect();
    assert_eq!(numbers, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(texts(&seen)[..2], ["text 10", "text 9"]);
    let page = |before, limit| store.engine.history(conversation.id, users[0], before, limit);
    assert_eq!(page(Some(1), 3).await.unwrap().unwrap(), []);
    assert_eq!(page(Some(u64::MAX), 1).await.unwrap().unwrap()[0].number, 14);
    assert_eq!(page(Some(1_000_000), 1).await.unwrap().unwrap()[0].number, 14);
}

pub async fn ids_grow_though_the_clock_steps_back(store: TestStore) {
    let users = store.users(2).await;
    let conversation = store.converse(&users).await;
    let now = Timestamp::now();
    let mut newest: Option<MessageId> = None;
    for back in [0, 10, 3_600] {
        let created_at = now.before(Duration::from_secs(back));
        let new = NewMessage { created_at, ..a_message(conversation.id, users[0], "text") };
        let message = sent(store.engine.append_message(new).await.unwrap());
        assert!(newest < Some(message.id));
        newest = Some(message.id);
    }
}

pub async fn a_read_mark_never_goes_back(store: TestStore) {
    let users = store.users(2).await;
    let conversation = store.converse(&users).await;
    let mut messages = Vec::new();
    for number in 0..6 {
        messages.push(store.send(&conversation, users[number % 2], "text").await);
    }
    let mark = |user, message| store.engine.mark_read(conversation.id, user, message);
    assert_eq!(store.unread(users[0]).await, [(conversation.id, 3)]);
    assert_eq!(mark(users[0], messages[3].id).await.unwrap(), Marking::Done);
    assert_eq!(store.unread(users[0]).await, [(conversation.id, 1)]);
    assert_eq!(mark(users[0], messages[1].id).await.unwrap(), Marking::Done);
    assert_eq!(store.unread(users[0]).await, [(conversation.id, 1)], "it stands further on");
    // It is one's own.
    assert_eq!(store.unread(users[1]).await, [(conversation.id, 3)]);
    assert_eq!(mark(users[0], messages[5].id).await.unwrap(), Marking::Done);
    assert_eq!(store.unread(users[0]).await, [(conversation.id, 0)]);

    let other = store.converse(&users[..1]).await;
    let others = store.send(&other, users[0], "elsewhere").await;
    let never = MessageId::numbered(3, None, Timestamp::now());
    for wrong in [others.id, never, MessageId::make(), MessageId::numbered(0, None, Timestamp::now())] {
        assert_eq!(mark(users[0], wrong).await.unwrap(), Marking::NoSuchMessage, "{wrong}");
    }
}

pub async fn unread_counts_what_others_sent_behind_the_mark(store: TestStore) {
    let mut dice = Dice::thrown("unread");
    let users = store.users(3).await;
    let conversation = store.converse(&users).await;
    let mut messages = Vec::new();
    let mut marks: HashMap<UserId, usize> = HashMap::new();
    for _ in 0..120 {
        let user = users[dice.below(3)];
        if messages.is_empty() || dice.below(3) > 0 {
            messages.push(store.send(&conversation, user, "text").await);
        } else {
            let through = dice.below(messages.len());
            let marked = store.engine.mark_read(conversation.id, user, messages[through].id).await;
            assert_eq!(marked.unwrap(), Marking::Done);
            let mark = marks.entry(user).or_default();
            *mark = (*mark).max(through + 1);
        }
        let user = users[dice.below(3)];
        let behind = &messages[marks.get(&user).copied().unwrap_or(0)..];
        let unread = behind.iter().filter(|message| message.sender != user).count() as u64;
        assert_eq!(store.unread(user).await, [(conversation.id, unread)], "of {}", messages.len());
    }
}

pub async fn conversations_are_listed_by_activity_and_walked_by_place(store: TestStore) {
    let users = store.users(7).await;
    let anna = users[0];
    let now = Timestamp::now();
    let after = |seconds| now.after(Duration::from_secs(seconds));
    let mut all = Vec::new();
    for (place, other) in (0..).zip(&users[1..]) {
        // The last three are of one instant.
        let new = NewConversation { created_at: after(10 * place.min(3)), ..among(&[anna, *other]) };
        assert!(matches!(store.engine.converse(new.clone()).await.unwrap(), Conversing::Made(_)));
        all.push(new.id);
    }
    let mut tied = all[3..].to_vec();
    tied.sort_unstable_by(|one, other| other.cmp(one));
    let mut expected = [tied, vec![all[2], all[1], all[0]]].concat();
    let ids = |user, behind, limit| {
        let listed = store.engine.conversations(user, behind, limit);
        async move {
            let listed = listed.await.unwrap();
            listed.iter().map(|view| view.conversation.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(ids(anna, None, 10).await, expected);

    // One that was sent to comes first, for everybody.
    let new = NewMessage { created_at: after(100), ..a_message(all[1], users[2], "text") };
    let (message, _) = store.deliver(new).await;
    expected.retain(|id| *id != all[1]);
    expected.insert(0, all[1]);
    let (mut walked, mut behind) = (Vec::new(), None);
    loop {
        let page = store.engine.conversations(anna, behind, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        let active_at = last.last_message_at.unwrap_or(last.conversation.created_at);
        behind = Some(ConversationPlace { active_at, id: last.conversation.id });
        walked.extend(page);
    }
    assert_eq!(walked.iter().map(|view| view.conversation.id).collect::<Vec<_>>(), expected);
    let first = (walked[0].last_message_at, walked[0].unread);
    assert_eq!(first, (Some(message.created_at), 1));
    assert!(walked[1..].iter().all(|view| view.last_message_at.is_none() && view.unread == 0));
    assert_eq!(walked[0].conversation.participants.len(), 2);
    assert_eq!(ids(users[2], None, 10).await, [all[1]]);
    assert_eq!(ids(anna, None, 0).await, []);
}

pub async fn a_store_that_is_opened_again_has_all_of_it(store: TestStore) {
    let users = store.users(3).await;
    let conversation = store.converse(&users).await;
    let new = keyed(conversation.id, users[0], "first", "key");
    let (first, _) = store.deliver(new.clone()).await;
    let second = store.send(&conversation, users[1], "second").await;
    store.engine.mark_read(conversation.id, users[2], first.id).await.unwrap();
    store.engine.seen(vec![(users[2], 1)]).await.unwrap();
    let listed = store.engine.conversations(users[2], None, 10).await.unwrap();
    let (events, reach) = (store.events(users[2]).await, store.reach(users[2]).await);
    store.engine.close().await.unwrap();

    let again = store.open_again().await.engine;
    assert_eq!(again.conversations(users[2], None, 10).await.unwrap(), listed);
    assert_eq!(events_of(again.inbox(users[2], 0, 10).await.unwrap()), events);
    assert_eq!(again.reach(users[2]).await.unwrap(), reach);
    assert_eq!(again.append_message(new).await.unwrap(), MessageAppended::Repeated(first.clone()));
    let next = a_message(conversation.id, users[0], "third");
    let third = sent(again.append_message(next).await.unwrap());
    assert_eq!(third.number, 3);
    assert!(third.id > second.id);
    let history = again.history(conversation.id, users[0], None, 10).await.unwrap().unwrap();
    assert_eq!(history, [third, second, first]);
}
