//! A timeline's page takes at most three rounds of queries, its total included.

use super::lockstep::Lockstep;
use super::{Keyspace, RUNTIME, on, opened};
use crate::harness::engines::cql_nodes;
use crate::harness::until;
use crate::storage::fixture::{Open, TestStore, seqs};
use crate::storage::observed::Observed;
use roost::model::cursor::Seq;
use roost::model::id::UserId;
use roost::storage::TimelineFrom;
use roost::storage::scylla::Store;
use std::collections::HashMap;
use std::future::ready;
use std::net::ToSocketAddrs;
use std::sync::Arc;

const PAGE: usize = 20;
/// An author with more followers is wide here.
const WIDE: u64 = 3;

/// A store to write with, and the same behind a proxy that counts.
struct Counted {
    direct: TestStore,
    counted: Store,
    lockstep: Lockstep,
}

async fn counted(nodes: &[String]) -> Counted {
    let mut keyspace = Keyspace::new(nodes);
    keyspace.wide_author_followers = WIDE;
    let store = keyspace.open(Arc::new(Observed::default())).await;
    let open: Open = Box::new(move |_| Box::pin(ready(opened(store.clone()))));
    let direct = on(open).await;
    let lockstep = Lockstep::to(&nodes[0]).await;
    let node = nodes[0].to_socket_addrs().unwrap().next().unwrap();
    keyspace.access.nodes = vec![lockstep.address().to_string()];
    keyspace.access.translate = HashMap::from([(node, lockstep.address())]);
    let counted = keyspace.open(Arc::new(Observed::default())).await;
    // The keyspace goes with the next run.
    std::mem::forget(keyspace);
    Counted { direct, counted, lockstep }
}

impl Counted {
    /// A page and the total, as they are read together; answers the places and how many rounds that took.
    async fn page(&self, user: UserId, from: TimelineFrom) -> (Vec<Seq>, usize) {
        use roost::storage::Timelines;
        let before = self.lockstep.rounds();
        let store = &self.counted;
        let list = store.list(user, from, PAGE + 1).await.unwrap();
        let (shown, total) = tokio::try_join!(store.show(user, list.clone()), store.total(user)).unwrap();
        assert_eq!(shown.len(), list.len());
        assert!(total >= list.len() as u64);
        (seqs(&list), self.lockstep.rounds() - before)
    }

    /// The first page and the one behind it, each in three rounds at most, the same as one reads otherwise.
    async fn assert_three_rounds(&self, user: UserId, what: &str) {
        let whole = self.direct.timeline(user, 2 * PAGE).await;
        // Who is wide the other store knows a second later.
        let knows = async || {
            let (first, _) = self.page(user, TimelineFrom::Offset(0)).await;
            (first[..PAGE] == whole[..PAGE]).then_some(())
        };
        until("both stores read the same", knows).await;
        // What the store does by itself now and then may come between: of three pages one has none of it.
        let mut fewest = usize::MAX;
        for _ in 0..3 {
            let (first, rounds) = self.page(user, TimelineFrom::Offset(0)).await;
            assert_eq!(first[..PAGE], whole[..PAGE], "{what}");
            fewest = fewest.min(rounds);
            let (second, rounds) = self.page(user, TimelineFrom::Before(first[PAGE - 1])).await;
            assert_eq!(second[..PAGE], whole[PAGE..], "{what}");
            assert!(rounds <= 4, "{what}: the second page took {rounds}");
        }
        assert!((2..=3).contains(&fewest), "{what}: {fewest} rounds");
    }
}

#[test]
fn a_page_takes_three_rounds() {
    let Some(nodes) = cql_nodes() else { return };
    RUNTIME.block_on(async {
        let store = counted(&nodes).await;
        let direct = &store.direct;
        let (reader, authors) = (direct.user("reader").await, direct.users(3).await);
        for author in &authors {
            direct.follow(reader, *author).await;
        }
        for _ in 0..4 {
            for author in authors.iter().chain([&reader]) {
                direct.post_many(*author, 4).await;
            }
        }
        // Nothing is known of the reader: the very first page.
        let (first, rounds) = store.page(reader, TimelineFrom::Offset(0)).await;
        assert_eq!(first, direct.timeline(reader, PAGE + 1).await);
        assert!(rounds <= 3, "the first page took {rounds} rounds");
        store.assert_three_rounds(reader, "of few").await;

        // The same where an author is wide.
        for other in direct.users_named("other", 4).await {
            direct.follow(other, authors[0]).await;
        }
        for author in authors.iter().chain([&reader]) {
            direct.post_many(*author, 4).await;
        }
        store.assert_three_rounds(reader, "with a wide author").await;

        // And where some are gone.
        let own = direct.post_many(reader, 3).await;
        direct.delete(reader, own[1].id).await;
        let posts = direct.post_many(authors[1], 3).await;
        direct.delete(authors[1], posts[0].id).await;
        direct.unfollow(reader, authors[2]).await;
        direct.post_many(authors[0], 10).await;
        store.assert_three_rounds(reader, "with some gone").await;
    });
}
