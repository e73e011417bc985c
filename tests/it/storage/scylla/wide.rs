//! Authors with more followers than are written to: their posts are read, and nobody sees where the threshold is.

use super::{Keyspace, RUNTIME, alone};
use crate::harness::engines::cql_nodes;
use crate::storage::fixture::{Posted, TestStore, seqs};
use roost::model::cursor::Seq;
use roost::model::id::UserId;
use roost::storage::{Missed, TIMELINE_ENTRIES, TimelineFrom};

/// From so many followers on an author is wide here.
const WIDE: usize = 4;

fn run_narrow<F: Future<Output = ()>>(test: impl FnOnce(TestStore) -> F) {
    let Some(nodes) = cql_nodes() else { return };
    RUNTIME.block_on(async {
        let mut keyspace = Keyspace::new(&nodes);
        keyspace.wide_author_followers = WIDE as u64;
        test(alone(keyspace).await).await;
    });
}

async fn follow(store: &TestStore, readers: &[UserId], author: UserId) {
    for reader in readers {
        store.follow(*reader, author).await;
    }
}

async fn unfollow(store: &TestStore, readers: &[UserId], author: UserId) {
    for reader in readers {
        store.unfollow(*reader, author).await;
    }
}

fn newest_first(posts: &[Posted]) -> Vec<Seq> {
    posts.iter().rev().map(|post| post.seq).collect()
}

#[test]
fn an_author_crosses_the_threshold_either_way_and_nobody_notices() {
    run_narrow(|store| async move {
        let (author, readers) = (store.user("author").await, store.users(WIDE * 2).await);
        let (stay, come) = readers.split_at(2);
        follow(&store, stay, author).await;
        let start = store.engine.head().await.unwrap();
        let mut posts = Vec::new();
        // Narrow, wide, narrow, wide.
        for turn in 0..4 {
            posts.extend(store.post_many(author, 4).await);
            assert_eq!(store.timeline(stay[0], 100).await, newest_first(&posts), "turn {turn}");
            if turn % 2 == 0 {
                follow(&store, come, author).await;
            } else {
                assert_eq!(store.timeline(come[0], 100).await, newest_first(&posts));
                unfollow(&store, come, author).await;
                assert_eq!(store.timeline(come[0], 100).await, []);
            }
            // One of those that were fanned out goes, and one that is read.
            let gone = posts.remove(turn);
            store.delete(author, gone.id).await;
            assert_eq!(store.timeline(stay[1], 100).await, newest_first(&posts), "turn {turn}");
            assert_eq!(store.engine.total(stay[1]).await.unwrap(), posts.len() as u64);
        }
        let missed = store.missed(stay[0], start).await;
        let told = |seq: Seq| missed.iter().any(|entry| entry.seq == seq);
        assert!(posts.iter().all(|post| told(post.seq)));
        assert_eq!(missed.len(), posts.len() + 4, "and each deletion");
    });
}

#[test]
fn posts_of_the_wide_and_of_others_are_one_list() {
    run_narrow(|store| async move {
        let (wide, other) = (store.user("wide").await, store.user("other").await);
        let readers = store.users(WIDE + 2).await;
        follow(&store, &readers, wide).await;
        store.follow(readers[0], other).await;
        let mut posts = Vec::new();
        for turn in 0..30 {
            let author = if turn % 3 == 0 {
                wide
            } else if turn % 3 == 1 {
                other
            } else {
                readers[0]
            };
            posts.push(store.post(author, "text").await);
        }
        let whole = newest_first(&posts);
        assert_eq!(store.timeline(readers[0], 100).await, whole);
        for size in [1, 4, 7] {
            let mut walked = Vec::new();
            let mut from = TimelineFrom::Offset(0);
            loop {
                let page = seqs(&store.engine.list(readers[0], from, size).await.unwrap());
                let Some(last) = page.last() else { break };
                from = TimelineFrom::Before(*last);
                walked.extend(page);
            }
            assert_eq!(walked, whole, "pages of {size}");
        }
        let middle = seqs(&store.engine.list(readers[0], TimelineFrom::Offset(10), 7).await.unwrap());
        assert_eq!(middle, whole[10..17]);
        // Who resumes misses both, in one order.
        let missed: Vec<_> =
            store.missed(readers[0], posts[9].seq).await.iter().map(|entry| entry.seq).collect();
        assert_eq!(missed, posts[10..].iter().map(|post| post.seq).collect::<Vec<_>>());
    });
}

#[test]
fn a_wide_authors_post_is_shown_from_the_moment_of_the_follow_only() {
    run_narrow(|store| async move {
        let (wide, readers) = (store.user("wide").await, store.users(WIDE + 2).await);
        follow(&store, &readers[1..], wide).await;
        let before = store.post_many(wide, 25).await;
        store.follow(readers[0], wide).await;
        let after = store.post_many(wide, 2).await;
        let expected = [newest_first(&after), newest_first(&before[5..])].concat();
        assert_eq!(store.timeline(readers[0], 100).await, expected);
        // What came before the follow is on the timeline, and was not missed.
        let missed = store.missed(readers[0], before[0].seq).await;
        assert_eq!(missed.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [after[0].seq, after[1].seq]);
    });
}

#[test]
fn what_a_wide_author_posts_counts_among_the_eight_hundred() {
    run_narrow(|store| async move {
        let (wide, readers) = (store.user("wide").await, store.users(WIDE + 2).await);
        follow(&store, &readers, wide).await;
        let start = store.engine.head().await.unwrap();
        store.post_many(wide, TIMELINE_ENTRIES).await;
        assert_eq!(store.missed(readers[0], start).await.len(), TIMELINE_ENTRIES);
        store.post(readers[0], "own").await;
        let missed = store.engine.since(readers[0], store.cursor(start)).await.unwrap();
        assert!(matches!(missed, Missed::Lost(_)));
        assert_eq!(store.engine.total(readers[0]).await.unwrap(), TIMELINE_ENTRIES as u64);
        assert_eq!(store.timeline(readers[0], 1_000).await.len(), TIMELINE_ENTRIES);
    });
}
