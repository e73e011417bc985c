//! What a node that died had begun in another's shards.

use super::{Field, all, draft, key, run, stamp, user};
use crate::storage::fixture::{first, stored};
use roost::model::id::{FollowId, UserId};
use roost::model::timestamp::Timestamp;
use roost::storage::scylla::Store;
use roost::storage::{Accounts, Graph, Jobs, Posts};
use serde_json::json;
use std::time::Duration;

/// So old that it was left, in a minute that is still looked at.
const LEFT: Duration = Duration::from_secs(75);

/// A follow that was noted down, and (`made`) decided, and no more.
async fn leave_follow(
    field: &Field,
    (follower, followee): (UserId, UserId),
    ago: Duration,
    made: bool,
) -> roost::model::cursor::Seq {
    let seq = stamp(follower, ago);
    let (id, now) = (FollowId::make(), Timestamp::now().millis());
    let body = json!({
        "kind": "follow", "id": id, "follower": follower, "followee": followee, "created_at": now,
        "version": 1, "ends": false, "at": now, "place": null,
    });
    field.leave_job(seq, body).await;
    if made {
        let counts = "UPDATE following SET total = 1, changes = 1 WHERE follower = ? IF changes = null";
        field.execute(counts, (follower.0,)).await;
        let row = "UPDATE following SET state = 1, version = 1, id = ?, created_at = ?, since = 0, sees_from = 0, \
                   place = ?, shard = 0, recent = ? WHERE follower = ? AND followee = ? IF state = null";
        let place = key(seq).2;
        field.execute(row, (id.0, now, place, vec![place], follower.0, followee.0)).await;
    }
    seq
}

async fn followers(node: &Store, user: UserId) -> (Vec<UserId>, u64) {
    let list = node.followers(user, first(10)).await.unwrap().unwrap();
    (list.items.into_iter().map(|(_, user)| user.id).collect(), list.total)
}

#[test]
fn a_follow_that_a_node_left_half_way_is_finished_once_it_is_a_minute_old() {
    run(|field| async move {
        let home = field.node().await;
        let users = [
            user(&home, "anna").await,
            user(&home, "ben").await,
            user(&home, "cleo").await,
            user(&home, "dora").await,
        ];
        let [anna, ben, cleo, dora] = users;
        home.take_over(all()).await.unwrap();
        let old = leave_follow(&field, (anna, ben), LEFT, true).await;
        let young = leave_follow(&field, (cleo, ben), Duration::from_secs(20), true).await;
        let never = leave_follow(&field, (dora, ben), LEFT, false).await;
        assert_eq!(home.tend().await.unwrap(), []);
        field.until_done(old).await;
        field.until_done(never).await;
        assert_eq!(followers(&home, ben).await, (vec![anna], 1));
        assert_eq!(home.profile(ben, anna).await.unwrap().unwrap().followers, 1);
        assert!(!field.is_done(young).await, "somebody may be at it");
        let later = Timestamp::now().after(Duration::from_secs(60));
        let follows = home.due_events(later, 100).await.unwrap();
        let follows = follows.iter().filter(|job| job.event.contains("follow.created")).count();
        assert_eq!(follows, 1, "an event of the one that was made");
        // Whoever is still at the one that was not made finds the counts changed: it cannot be made unseen.
        let changes: Vec<(Option<i64>,)> =
            field.all("SELECT changes FROM following WHERE follower = ? LIMIT 1", (dora.0,)).await;
        assert_eq!(changes, [(Some(1),)]);
    });
}

#[test]
fn a_registration_that_a_node_left_is_never_made_late() {
    run(|field| async move {
        let home = field.node().await;
        home.take_over(all()).await.unwrap();
        let ghost = UserId::make();
        let seq = stamp(ghost, LEFT);
        let body = json!({"kind": "register", "user": ghost, "email": null, "username": "anna"});
        field.leave_job(seq, body).await;
        home.tend().await.unwrap();
        field.until_done(seq).await;
        // Whoever was at it goes on now.
        let late = "INSERT INTO users (id, username, version) VALUES (?, 'anna', 1) IF NOT EXISTS";
        field.execute(late, (ghost.0,)).await;
        assert_eq!(home.user(ghost).await.unwrap(), None);
    });
}

#[test]
fn an_entry_that_came_behind_the_home_is_shown_and_on_its_way() {
    run(|field| async move {
        let home = field.node().await;
        home.take_over(all()).await.unwrap();
        let anna = user(&home, "anna").await;
        // A former home, cut off for a while, still had it placed.
        let late = stamp(anna, LEFT);
        let id = field.leave_post(late, anna, 1).await;
        field.place_post(late, id, anna).await;
        assert_eq!(home.tend().await.unwrap(), [(late, anna)]);
        assert!(home.post(id, anna).await.unwrap().is_some());
        assert_eq!(home.take_over(all()).await.unwrap(), [(late, anna)]);
        home.delivered(vec![late]).await.unwrap();
        stored(home.append(draft(anna, "next")).await.unwrap());
    });
}

#[test]
fn events_that_a_node_left_are_sent_by_the_home() {
    run(|field| async move {
        let (home, other) = (field.node().await, field.node().await);
        home.take_over(all()).await.unwrap();
        let anna = user(&other, "anna").await;
        let later = Timestamp::now().after(Duration::from_secs(60));
        assert_eq!(home.due_events(later, 10).await.unwrap(), [], "the other is at it");
        let left = stamp(anna, LEFT);
        let (shard, minute, id) = key(left);
        field
            .execute("INSERT INTO minutes (kind, shard, minute) VALUES ('events', ?, ?)", (shard, minute))
            .await;
        let event =
            "INSERT INTO events (shard, minute, id, event, attempts, due_at) VALUES (?, ?, ?, '{}', 2, 0)";
        field.execute(event, (shard, minute, id)).await;
        home.tend().await.unwrap();
        let due = home.due_events(later, 10).await.unwrap();
        assert_eq!(due.iter().map(|job| (job.id, job.attempts)).collect::<Vec<_>>(), [(left.0, 2)]);
        assert_eq!(other.tend().await.unwrap(), [], "it is home of nothing");
    });
}
