//! What holds for every write, whatever it writes.

use super::TestStore;
use super::fixture::stored;
use super::observed::Heard;
use roost::model::timestamp::Timestamp;

pub async fn writes_take_their_place_when_they_are_called(store: TestStore) {
    let anna = store.user("anna").await;
    let mut posting: Vec<_> =
        (0..100).map(|number| store.posting(anna, &format!("number {number}"))).collect();
    // Whoever waits for the last first changes nothing.
    posting.reverse();
    let mut posted = Vec::new();
    for post in posting {
        posted.push(stored(post.await.unwrap()));
    }
    assert!(posted.windows(2).all(|pair| pair[0].seq > pair[1].seq && pair[0].id > pair[1].id));
}

pub async fn a_write_nobody_waits_for_is_done(store: TestStore) {
    let anna = store.user("anna").await;
    let draft = store.draft(anna, "hello", Timestamp::now());
    drop(store.engine.append(draft.clone()));
    // A later one of the same author is answered after it.
    store.post(anna, "next").await;
    assert!(store.engine.post(draft.id, anna).await.unwrap().is_some());
    drop(store.engine.delete(anna, draft.id, Timestamp::now()));
    store.post(anna, "next").await;
    assert!(store.engine.post(draft.id, anna).await.unwrap().is_none());
}

pub async fn the_newest_id_counts_what_was_called_before(store: TestStore) {
    let anna = store.user("anna").await;
    let drafts = [(); 20].map(|()| store.draft(anna, "text", Timestamp::now()));
    let newest = drafts[19].id;
    let posting = drafts.map(|draft| store.engine.append(draft));
    assert_eq!(store.engine.newest_id(anna).await.unwrap(), Some(newest));
    for post in posting {
        stored(post.await.unwrap());
    }
}

pub async fn an_entry_that_was_heard_of_can_be_asked_for(store: TestStore) {
    let anna = store.user("anna").await;
    for count in 1..20 {
        let posting = store.posting(anna, "text");
        store.observed.wait_for(count).await;
        let Heard::Entering(seq, author) = store.observed.heard()[count - 1] else { panic!("withdrawn") };
        // Its post is still on its way.
        let entries = store.engine.entries(vec![seq]).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [seq]);
        assert_eq!((author, stored(posting.await.unwrap()).seq), (anna, seq));
    }
}

pub async fn entries_are_heard_of_in_order(store: TestStore) {
    let (anna, ben) = (store.user("anna").await, store.user("ben").await);
    let posting: Vec<_> =
        (0..20).flat_map(|_| [anna, ben]).map(|author| (author, store.posting(author, "text"))).collect();
    let mut expected = Vec::new();
    for (author, post) in posting {
        let seq = stored(post.await.unwrap()).seq;
        let entering = Heard::Entering(seq, author);
        // Who has the answer may read it.
        assert!(store.observed.heard().contains(&entering));
        expected.push((seq, entering));
    }
    let newest = store.post(anna, "newest").await;
    let deletion = store.delete(anna, newest.id).await;
    expected.extend([newest.seq, deletion.seq].map(|seq| (seq, Heard::Entering(seq, anna))));
    // Other writes are no entries.
    store.follow(anna, ben).await;
    store.engine.delete(anna, newest.id, Timestamp::now()).await.unwrap();
    expected.sort_by_key(|(seq, _)| *seq);
    let expected: Vec<_> = expected.into_iter().map(|(_, heard)| heard).collect();
    assert_eq!(store.observed.heard(), expected);
}
