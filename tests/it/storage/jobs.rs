//! What remains to be done, and what was given up.

use super::TestStore;
use super::fixture::{a_follow, a_key, a_like, first};
use roost::model::id::PostId;
use roost::model::shard::Shard;
use roost::model::timestamp::Timestamp;
use roost::model::user::Username;
use roost::storage::{Followed, Liking, NewPost, Page};
use std::time::Duration;

pub async fn deliveries_wait_in_order_until_they_are_done(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let posts =
        [store.post(anna, "one").await, store.post(ben, "two").await, store.post(anna, "three").await];
    let deletion = store.delete(ben, posts[1].id).await;
    let waiting = store.engine.take_over(Shard::all().collect()).await.unwrap();
    let expected = [(posts[0].seq, anna), (posts[1].seq, ben), (posts[2].seq, anna), (deletion.seq, ben)];
    assert_eq!(waiting, expected);
    // One that is done already is no error.
    for _ in 0..2 {
        store.engine.delivered(vec![posts[2].seq, posts[0].seq]).await.unwrap();
        assert_eq!(store.engine.take_over(Shard::all().collect()).await.unwrap(), [expected[1], expected[3]]);
    }
}

pub async fn every_change_is_one_event_of_its_kind(store: TestStore) {
    let now = Timestamp::now();
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    store.engine.rename(anna, Username::parse(&store.name("anita")).unwrap(), now).await.unwrap();
    store.follow(ben, anna).await;
    let post = store.post(anna, "hello").await;
    store.engine.like(a_like(ben, post.id)).await.unwrap();
    store.engine.unlike(ben, post.id, now).await.unwrap();
    store.delete(anna, post.id).await;
    store.unfollow(ben, anna).await;
    let events = store.take_events().await;
    let expected = [
        "user.registered",
        "user.registered",
        "user.profile-updated",
        "social.follow.created",
        "post.created",
        "social.like.created",
        "social.like.deleted",
        "post.deleted",
        "social.follow.deleted",
    ];
    assert_eq!(events, expected);
}

pub async fn what_changes_nothing_is_no_event(store: TestStore) {
    let now = Timestamp::now();
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let keyed = NewPost { key: a_key("key", 1), ..store.draft(anna, "hello", now) };
    let post = keyed.id;
    store.engine.append(keyed.clone()).await.unwrap();
    store.engine.like(a_like(ben, post)).await.unwrap();
    store.follow(anna, ben).await;
    store.take_events().await;

    store.engine.append(keyed).await.unwrap();
    assert_eq!(store.engine.like(a_like(ben, post)).await.unwrap(), Liking::Already);
    let again = store.engine.follow(a_follow(anna, ben), 10).await.unwrap();
    assert!(matches!(again, Followed::Already { .. }));
    store.engine.unlike(anna, post, now).await.unwrap();
    store.engine.unfollow(ben, anna, now).await.unwrap();
    store.engine.delete(ben, post, now).await.unwrap();
    store.engine.delete(anna, PostId::make(), now).await.unwrap();
    store.engine.register(store.new_user("anna")).await.unwrap();
    store.engine.rename(anna, Username::parse(&store.name("ben")).unwrap(), now).await.unwrap();
    assert_eq!(store.take_events().await, Vec::<String>::new());
}

pub async fn events_are_due_oldest_first_and_put_off(store: TestStore) {
    store.users(3).await;
    let now = Timestamp::now();
    let later = now.after(Duration::from_secs(60));
    let due = store.engine.due_events(now, 10).await.unwrap();
    assert_eq!(due.len(), 3);
    assert!(due.iter().all(|job| job.attempts == 0) && due.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!(store.engine.due_events(now, 2).await.unwrap(), due[..2]);

    store.engine.postpone(due[0].id, later).await.unwrap();
    assert_eq!(store.engine.due_events(now, 10).await.unwrap(), due[1..]);
    let all = store.engine.due_events(later, 10).await.unwrap();
    // The same event as before, with the same id: only tried once more.
    assert_eq!((all.len(), &all[0].event, all[0].attempts), (3, &due[0].event, 1));
    store.engine.sent(vec![due[0].id, due[2].id]).await.unwrap();
    assert_eq!(store.engine.due_events(later, 10).await.unwrap(), due[1..2]);
    assert_eq!(store.engine.due_events(now.before(Duration::from_secs(3600)), 10).await.unwrap(), []);
}

pub async fn an_event_given_up_is_a_dead_letter(store: TestStore) {
    store.users(2).await;
    let now = Timestamp::now();
    let due = store.engine.due_events(now, 10).await.unwrap();
    store.engine.postpone(due[0].id, now).await.unwrap();
    store.engine.postpone(due[0].id, now).await.unwrap();
    store.engine.bury(due[0].id, "answered 500".to_owned(), now).await.unwrap();
    assert_eq!(store.engine.due_events(now, 10).await.unwrap(), due[1..]);
    let letters = store.engine.dead_letters(first(10)).await.unwrap();
    assert_eq!((letters.items.len(), letters.total), (1, 1));
    let (place, letter) = &letters.items[0];
    assert_eq!((*place, &letter.event, letter.error.as_str()), (letter.id, &due[0].event, "answered 500"));
    assert_eq!((letter.attempts, letter.buried_at), (3, now));
    assert_eq!(store.engine.dead_letter(letter.id).await.unwrap().as_ref(), Some(letter));
    assert_eq!(store.engine.dead_letter(letter.id + 1).await.unwrap(), None);
}

pub async fn a_dead_letter_is_tried_anew_or_forgotten(store: TestStore) {
    store.users(2).await;
    let now = Timestamp::now();
    let due = store.engine.due_events(now, 10).await.unwrap();
    for job in &due {
        store.engine.bury(job.id, "no".to_owned(), now).await.unwrap();
    }
    let letters = store.engine.dead_letters(first(10)).await.unwrap().items;
    assert!(store.engine.redrive(letters[0].0, now).await.unwrap());
    assert!(!store.engine.redrive(letters[0].0, now).await.unwrap());
    let again = store.engine.due_events(now, 10).await.unwrap();
    assert_eq!((again.len(), &again[0].event, again[0].attempts), (1, &due[0].event, 0));

    assert!(store.engine.drop_letter(letters[1].0).await.unwrap());
    assert!(!store.engine.drop_letter(letters[1].0).await.unwrap());
    assert!(!store.engine.drop_letter(u64::MAX).await.unwrap());
    assert_eq!(store.engine.dead_letters(first(10)).await.unwrap().total, 0);
    assert_eq!(store.engine.due_events(now, 10).await.unwrap().len(), 1);
}

pub async fn dead_letters_are_listed_oldest_first(store: TestStore) {
    store.users(5).await;
    let now = Timestamp::now();
    for job in store.engine.due_events(now, 10).await.unwrap() {
        store.engine.bury(job.id, format!("error {}", job.id), now).await.unwrap();
    }
    let whole = store.engine.dead_letters(first(10)).await.unwrap();
    assert!(whole.items.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let page = Page { before: Some(whole.items[1].0), limit: 2 };
    let next = store.engine.dead_letters(page).await.unwrap();
    assert_eq!((next.items.as_slice(), next.total), (&whole.items[2..4], 5));
}

pub async fn the_backlog_counts_what_waits(store: TestStore) {
    let empty = store.engine.backlog().await.unwrap();
    assert_eq!((empty.deliveries, empty.events, empty.dead_letters, empty.oldest), (0, 0, 0, None));
    let anna = store.user("anna").await;
    store.take_events().await;
    let began = Timestamp::now();
    let post = store.post(anna, "first").await;
    let between = Timestamp::now();
    store.post(anna, "second").await;
    let due = store.engine.due_events(Timestamp::now(), 1).await.unwrap();
    store.engine.bury(due[0].id, "no".to_owned(), Timestamp::now()).await.unwrap();
    let waits = store.engine.backlog().await.unwrap();
    assert_eq!((waits.deliveries, waits.events, waits.dead_letters), (2, 1, 1));
    assert!(waits.oldest >= Some(began) && waits.oldest <= Some(between), "{waits:?}");
    store.engine.delivered(vec![post.seq]).await.unwrap();
    let left = store.engine.backlog().await.unwrap();
    assert!(left.deliveries == 1 && left.oldest >= Some(between), "{left:?}");
}
