//! Posts, keys, deletions, likes, entries.

use super::TestStore;
use super::fixture::{a_key, a_like, first, stored};
use roost::model::cursor::Seq;
use roost::model::id::{PostId, UserId};
use roost::model::post::Content;
use roost::model::shard::Shard;
use roost::model::timestamp::Timestamp;
use roost::storage::{Appended, Deletion, EntryChange, KEY_AGE, Liking, NewPost, Page, StorageError};
use std::time::Duration;

pub async fn a_post_is_stored_with_its_entry_its_job_and_its_count(store: TestStore) {
    let anna = store.user("anna").await;
    let draft = store.draft(anna, "hello", Timestamp::now());
    let Appended::Stored(entry) = store.engine.append(draft.clone()).await.unwrap() else { panic!() };
    let EntryChange::Posted { post, author_name } = &entry.change else { panic!("{entry:?}") };
    assert_eq!((post.id, post.author, post.likes), (draft.id, anna, 0));
    assert_eq!(
        (&post.content, post.created_at, author_name),
        (&draft.content, draft.created_at, &store.name("anna"))
    );

    let shown = store.engine.post(draft.id, anna).await.unwrap().unwrap();
    assert_eq!((&shown.post, &shown.author_name, shown.is_liked), (post, &store.name("anna"), false));
    assert_eq!(store.engine.entries(vec![entry.seq]).await.unwrap(), std::slice::from_ref(&entry));
    assert_eq!(store.engine.take_over(Shard::all().collect()).await.unwrap(), [(entry.seq, anna)]);
    assert_eq!(store.engine.profile(anna, anna).await.unwrap().unwrap().posts, 1);

    let next = store.post(anna, "again").await;
    assert!(next.seq > entry.seq);
    let nobody = NewPost { author: UserId::make(), ..draft };
    assert_eq!(store.engine.append(nobody).await.unwrap(), Appended::NoAuthor);
}

pub async fn the_newest_id_is_that_of_a_deleted_post_too(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    assert_eq!(store.engine.newest_id(anna).await.unwrap(), None);
    store.post(anna, "one").await;
    let newest = store.post(anna, "two").await;
    store.delete(anna, newest.id).await;
    assert_eq!(store.engine.newest_id(anna).await.unwrap(), Some(newest.id));
    assert_eq!(store.engine.newest_id(ben).await.unwrap(), None);
    assert_eq!(store.engine.newest_id(UserId::make()).await.unwrap(), None);
}

pub async fn a_post_that_is_refused_leaves_nothing_behind(store: TestStore) {
    let anna = store.user("anna").await;
    store.take_events().await;
    let older = store.draft(anna, "older", Timestamp::now());
    let newer = store.post(anna, "newer").await;
    store.take_events().await;
    let before = store.engine.backlog().await.unwrap();

    let keyed = NewPost { key: a_key("key", 1), ..older };
    // At once with writes that are good: those are not touched.
    let (refused, good) = (store.engine.append(keyed.clone()), store.engine.like(a_like(anna, newer.id)));
    assert!(matches!(refused.await, Err(StorageError::Refused(_))));
    assert_eq!(good.await.unwrap(), Liking::Done);
    store.take_events().await;
    assert_eq!(store.engine.backlog().await.unwrap(), before);
    assert_eq!(store.engine.take_over(Shard::all().collect()).await.unwrap(), [(newer.seq, anna)]);
    assert_eq!(store.engine.keyed(anna, "key".to_owned(), Timestamp::now()).await.unwrap(), None);
    assert_eq!(store.engine.post(keyed.id, anna).await.unwrap(), None);
    assert_eq!(store.engine.profile(anna, anna).await.unwrap().unwrap().posts, 1);
    assert_eq!(store.engine.newest_id(anna).await.unwrap(), Some(newer.id));
}

pub async fn a_key_makes_one_post_and_tells_it_as_it_was_answered(store: TestStore) {
    let anna = store.user("anna").await;
    let draft = NewPost { key: a_key("key", 1), ..store.draft(anna, "once", Timestamp::now()) };
    let Appended::Stored(entry) = store.engine.append(draft).await.unwrap() else { panic!() };
    let EntryChange::Posted { post, .. } = entry.change else { panic!() };
    store.engine.like(a_like(anna, post.id)).await.unwrap();
    store.delete(anna, post.id).await;

    // The body differs: it is for the caller to compare what it came with.
    let again = NewPost { key: a_key("key", 2), ..store.draft(anna, "other", Timestamp::now()) };
    let Appended::Repeated(used) = store.engine.append(again).await.unwrap() else { panic!() };
    assert_eq!((used.body, &used.post), ([1; 32], &post));
    let looked_up = store.engine.keyed(anna, "key".to_owned(), Timestamp::now()).await.unwrap();
    assert_eq!(looked_up, Some(used));
    assert_eq!(store.engine.profile(anna, anna).await.unwrap().unwrap().posts, 0);
}

pub async fn a_key_is_its_users_own_and_kept_for_a_day(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let now = Timestamp::now();
    let keyed = |author, at| NewPost { key: a_key("key", 1), ..store.draft(author, "text", at) };
    let first = stored(store.engine.append(keyed(anna, now)).await.unwrap());
    stored(store.engine.append(keyed(ben, now)).await.unwrap());
    let other_key = NewPost { key: a_key("other", 1), ..store.draft(anna, "text", now) };
    stored(store.engine.append(other_key).await.unwrap());

    let used = store.engine.keyed(anna, "key".to_owned(), now.after(KEY_AGE)).await.unwrap();
    assert_eq!(used.unwrap().post.id, first.id);
    let later = now.after(KEY_AGE).after(Duration::from_millis(1));
    assert_eq!(store.engine.keyed(anna, "key".to_owned(), later).await.unwrap(), None);
    assert_eq!(store.engine.keyed(anna, "unknown".to_owned(), now).await.unwrap(), None);
    let second = stored(store.engine.append(keyed(anna, later)).await.unwrap());
    let used = store.engine.keyed(anna, "key".to_owned(), later).await.unwrap();
    assert_eq!(used.unwrap().post.id, second.id);
}

pub async fn texts_and_keys_come_back_as_they_were(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    store.follow(ben, anna).await;
    let longest = "\u{1F9A9}".repeat(280);
    let texts =
        ["it's \"quoted\"; -- ? :name $1 %s {} []", "two\nlines\t?", "e\u{301} \u{202F}\u{FEFF}", &longest];
    let keys = ["a:b:c", "nul \0 inside", "\u{1F9A9}", "'; DROP TABLE posts; --"];
    let mut posted = Vec::new();
    for (text, key) in texts.into_iter().zip(keys) {
        let Ok(content) = Content::parse(text) else { continue };
        let draft = store.draft(anna, "text", Timestamp::now());
        let draft = NewPost { content, key: a_key(key, 1), ..draft };
        let post = stored(store.engine.append(draft.clone()).await.unwrap());
        store.spread(&[post.seq]).await;
        let used = store.engine.keyed(anna, key.to_owned(), Timestamp::now()).await.unwrap().unwrap();
        assert_eq!((used.post.id, &used.post.content), (post.id, &draft.content));
        let seen = store.engine.post(post.id, ben).await.unwrap().unwrap();
        assert_eq!(seen.post.content, draft.content);
        assert_eq!(store.engine.show(ben, vec![post.place()]).await.unwrap(), [seen]);
        posted.push((post, draft.content));
    }
    assert!(posted.len() >= 3, "most are fit to be posted");
    let missed = store.missed(ben, Seq(posted[0].0.seq.0 - 1)).await;
    for (entry, (_, content)) in missed.iter().zip(&posted) {
        assert!(matches!(&entry.change, EntryChange::Posted { post, .. } if post.content == *content));
    }
    assert_eq!(missed.len(), posted.len());
}

pub async fn a_key_used_by_fifty_at_once_makes_one_post(store: TestStore) {
    let anna = store.user("anna").await;
    let now = Timestamp::now();
    let tries: Vec<_> = (0..50)
        .map(|_| NewPost { key: a_key("key", 1), ..store.draft(anna, "once", now) })
        .map(|draft| tokio::spawn(store.engine.append(draft)))
        .collect();
    let mut ids = Vec::new();
    let mut made = 0;
    for tried in tries {
        match tried.await.unwrap().unwrap() {
            Appended::Repeated(used) => ids.push(used.post.id),
            other => {
                made += 1;
                ids.push(stored(other).id);
            }
        }
    }
    assert_eq!((made, ids.len()), (1, 50));
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(store.engine.profile(anna, anna).await.unwrap().unwrap().posts, 1);
}

pub async fn only_its_author_deletes_a_post_and_only_once(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let post = store.post(anna, "hello").await;
    let now = Timestamp::now();
    assert_eq!(store.engine.delete(ben, post.id, now).await.unwrap(), Deletion::Forbidden);
    assert_eq!(store.engine.delete(anna, PostId::make(), now).await.unwrap(), Deletion::Missing);

    let [first, second] = [(); 2].map(|()| store.engine.delete(anna, post.id, now));
    let (first, second) = tokio::join!(first, second);
    // They have the author's order.
    let Deletion::Done(entry) = first.unwrap() else { panic!() };
    assert_eq!(entry.change, EntryChange::Deleted { id: post.id, author: anna, deleted_at: now });
    assert_eq!(second.unwrap(), Deletion::Missing);
    assert_eq!(store.engine.delete(ben, post.id, now).await.unwrap(), Deletion::Missing);

    assert!(entry.seq > post.seq);
    assert_eq!(store.engine.entries(vec![entry.seq]).await.unwrap(), std::slice::from_ref(&entry));
    assert_eq!(
        store.engine.take_over(Shard::all().collect()).await.unwrap(),
        [(post.seq, anna), (entry.seq, anna)]
    );
    assert_eq!(store.engine.post(post.id, anna).await.unwrap(), None);
    assert_eq!(store.engine.profile(anna, anna).await.unwrap().unwrap().posts, 0);
}

pub async fn posts_are_shown_in_the_order_asked_for(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let posts = store.post_many(anna, 4).await;
    store.engine.like(a_like(ben, posts[1].id)).await.unwrap();
    store.delete(anna, posts[2].id).await;
    let asked = vec![posts[3].id, PostId::make(), posts[1].id, posts[2].id, posts[0].id];
    let shown = store.engine.posts(asked.clone(), ben).await.unwrap();
    let seen: Vec<_> = shown.iter().map(|view| (view.post.id, view.post.likes, view.is_liked)).collect();
    assert_eq!(seen, [(posts[3].id, 0, false), (posts[1].id, 1, true), (posts[0].id, 0, false)]);
    let other = store.engine.posts(asked, anna).await.unwrap();
    assert!(other.iter().all(|view| !view.is_liked));
}

pub async fn a_list_of_posts_is_walked_by_places(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let posts = store.post_many(anna, 7).await;
    store.post(ben, "not hers").await;
    store.delete(anna, posts[3].id).await;
    let mut walked = Vec::new();
    let mut before = None;
    loop {
        let page = Page { before, limit: 2 };
        let listed = store.engine.by_author(anna, ben, page).await.unwrap().unwrap();
        assert_eq!(listed.total, 6);
        let Some((place, _)) = listed.items.last() else { break };
        before = Some(*place);
        walked.extend(listed.items.into_iter().map(|(_, view)| view.post.id));
        // What comes meanwhile stands in front of it all; what goes leaves the rest in place.
        if walked.len() == 2 {
            let newer = store.post(anna, "newer").await;
            store.delete(anna, newer.id).await;
        }
    }
    let expected: Vec<_> = [6, 5, 4, 2, 1, 0].map(|number: usize| posts[number].id).to_vec();
    assert_eq!(walked, expected);
    assert!(store.engine.by_author(UserId::make(), ben, first(1)).await.unwrap().is_none());
    let none = store.engine.by_author(store.user("carla").await, ben, first(1)).await.unwrap().unwrap();
    assert_eq!((none.items.len(), none.total), (0, 0));
}

pub async fn a_like_counts_once_and_can_be_taken_back(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let post = store.post(anna, "hello").await;
    let likes = async |viewer| {
        let view = store.engine.post(post.id, viewer).await.unwrap().unwrap();
        (view.post.likes, view.is_liked)
    };
    assert_eq!(store.engine.like(a_like(ben, post.id)).await.unwrap(), Liking::Done);
    assert_eq!(store.engine.like(a_like(ben, post.id)).await.unwrap(), Liking::Already);
    assert_eq!(store.engine.like(a_like(anna, post.id)).await.unwrap(), Liking::Done);
    assert_eq!(store.engine.like(a_like(anna, PostId::make())).await.unwrap(), Liking::Missing);
    assert_eq!((likes(ben).await, likes(anna).await), ((2, true), (2, true)));

    let now = Timestamp::now();
    assert!(store.engine.unlike(ben, post.id, now).await.unwrap());
    assert!(!store.engine.unlike(ben, post.id, now).await.unwrap());
    assert!(!store.engine.unlike(ben, PostId::make(), now).await.unwrap());
    assert_eq!((likes(ben).await, likes(anna).await), ((1, false), (1, true)));
}

pub async fn a_deleted_post_cannot_be_liked_or_unliked(store: TestStore) {
    let anna = store.user("anna").await;
    let post = store.post(anna, "hello").await;
    store.engine.like(a_like(anna, post.id)).await.unwrap();
    store.delete(anna, post.id).await;
    assert_eq!(store.engine.like(a_like(anna, post.id)).await.unwrap(), Liking::Missing);
    assert!(!store.engine.unlike(anna, post.id, Timestamp::now()).await.unwrap());
}

pub async fn entries_are_told_in_their_order_without_those_that_are_gone(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let kept = store.post(anna, "kept").await;
    let gone = store.post(anna, "gone").await;
    let other = store.post(ben, "other").await;
    let deletion = store.delete(anna, gone.id).await;
    let asked = vec![deletion.seq, other.seq, Seq(1_000_000), gone.seq, kept.seq];
    let entries = store.engine.entries(asked).await.unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (entry.seq, entry.author())).collect();
    assert_eq!(told, [(kept.seq, anna), (other.seq, ben), (deletion.seq, anna)]);
    assert_eq!(entries[2], deletion);
}
