//! Cursors that another node gave, by another clock.

use super::{Field, all, places, post, run, user};
use crate::harness::until;
use crate::storage::fixture::a_follow;
use roost::model::cursor::{Cursor, Seq};
use roost::model::id::{FollowId, UserId};
use roost::storage::scylla::{Nodes, Store};
use roost::storage::{EntryClock, Graph, Jobs, Loss, Missed, Timelines};
use std::time::Duration;

/// So many seconds behind a place.
const fn seconds(seq: Seq, seconds: u64) -> Seq {
    Seq(seq.0 + ((seconds * 1_000_000) << 8))
}

async fn missed(node: &Store, user: UserId, seq: Seq) -> Missed {
    node.since(user, Cursor { store: node.store_name(), seq }).await.unwrap()
}

async fn told(node: &Store, user: UserId, seq: Seq) -> Vec<Seq> {
    match missed(node, user, seq).await {
        Missed::Entries { entries, .. } => places(&entries),
        other => panic!("{other:?}"),
    }
}

/// A reader who follows somebody for long, and somebody since a moment ago (by that follow); a post of each.
async fn followed(field: &Field, node: &Store) -> (UserId, Seq, Seq, FollowId) {
    node.take_over(all()).await.unwrap();
    let (reader, old, new) = (user(node, "reader").await, user(node, "old").await, user(node, "new").await);
    let (before, _) = post(node, new, "before the follow").await;
    node.follow(a_follow(reader, old), 100).await.unwrap();
    // By its place one knows when it began.
    let long_ago = "UPDATE following SET place = 1 WHERE follower = ? AND followee = ? IF state = 1";
    field.execute(long_ago, (reader.0, old.0)).await;
    let follow = a_follow(reader, new);
    node.follow(follow, 100).await.unwrap();
    let (of_old, _) = post(node, old, "text").await;
    let (of_new, _) = post(node, new, "text").await;
    assert!(before < of_old);
    (reader, of_old, of_new, follow.id)
}

#[test]
fn what_was_numbered_shortly_before_a_cursor_is_told_where_clocks_differ() {
    run(|field| async move {
        let node = field.node().await;
        let (reader, of_old, of_new, _) = followed(&field, &node).await;
        assert_eq!(told(&node, reader, seconds(of_new, 3)).await, [of_old, of_new]);
        let head = EntryClock::head(&node);
        assert!(matches!(missed(&node, reader, seconds(head, 5)).await, Missed::Entries { .. }));
        assert_eq!(missed(&node, reader, seconds(head, 9)).await, Missed::Lost(Loss::Foreign));
    });
}

#[test]
fn of_who_was_followed_lately_everything_since_is_told_unless_that_follow_was_known() {
    run(|mut field| async move {
        let node = field.node().await;
        let (reader, _, of_new, follow) = followed(&field, &node).await;
        // Both posts are older than what is read twice in any case.
        let is_old = async || {
            let head = EntryClock::head(&node);
            (EntryClock::earlier(&node, head, Duration::from_secs(13)) > of_new).then_some(head)
        };
        let cursor = until("time has passed", is_old).await;
        // Not what was before the follow, and not of whom it has followed for long.
        assert_eq!(told(&node, reader, cursor).await, [of_new]);
        field.keyspace.node_count = Nodes::One;
        let alone = field.node().await;
        assert_eq!(told(&alone, reader, cursor).await, []);
        // Nor where all knew of the follow.
        assert_eq!(told(&node, reader, cursor).await, [of_new]);
        node.follow_told(follow).await.unwrap();
        assert_eq!(told(&node, reader, cursor).await, []);
    });
}
