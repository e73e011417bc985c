//! Shards that come and go between nodes.

use super::{all, draft, key, places, post, run, stamp, user};
use crate::storage::fixture::stored;
use roost::model::shard::Shard;
use roost::model::timestamp::Timestamp;
use roost::storage::{EntryClock, Jobs, Posts, Upkeep};
use std::time::Duration;

#[test]
fn who_takes_shards_over_has_their_deliveries_and_events_and_no_others() {
    run(|field| async move {
        let (one, two) = (field.node().await, field.node().await);
        assert_eq!(one.take_over(all()).await.unwrap(), []);
        let (anna, ben) = (user(&one, "anna").await, user(&one, "ben").await);
        let (first, _) = post(&one, anna, "first").await;
        let (second, _) = post(&one, anna, "second").await;
        let (others, _) = post(&one, ben, "another's").await;
        one.delivered(vec![first]).await.unwrap();
        let shard = vec![Shard::of(anna)];
        assert_ne!(Shard::of(anna), Shard::of(ben), "a chance of 1 in 256");
        one.let_go(shard.clone()).await.unwrap();
        assert_eq!(one.backlog().await.unwrap().deliveries, 1, "the one that it still is home of");
        assert_eq!(two.take_over(shard.clone()).await.unwrap(), [(second, anna)]);
        // Asked again it says the same, and reads nothing for it.
        let before = two.requests();
        assert_eq!(two.take_over(shard.clone()).await.unwrap(), [(second, anna)]);
        assert_eq!(two.requests(), before);
        assert!(EntryClock::head(&two) > others);

        let later = Timestamp::now().after(Duration::from_secs(60));
        let due = two.due_events(later, 100).await.unwrap();
        assert_eq!(due.len(), 3, "a registration and two posts: {due:?}");
        let left = one.due_events(later, 100).await.unwrap();
        assert!(left.len() == 2 && left.iter().all(|event| due.iter().all(|other| other.id != event.id)));

        // Back again: what the other did is known.
        two.delivered(vec![second]).await.unwrap();
        let (third, _) = post(&two, anna, "third").await;
        two.let_go(shard.clone()).await.unwrap();
        assert_eq!(one.take_over(shard).await.unwrap(), [(third, anna)]);
        assert_eq!(one.take_over(all()).await.unwrap(), [(others, ben), (third, anna)]);
    });
}

#[test]
fn a_home_that_was_let_go_orders_behind_what_others_did_meanwhile() {
    run(|field| async move {
        let (one, two) = (field.node().await, field.node().await);
        one.take_over(all()).await.unwrap();
        let anna = user(&one, "anna").await;
        let mut order = vec![post(&one, anna, "1").await.0];
        for turn in 0..3 {
            for (from, to) in [(&one, &two), (&two, &one)] {
                from.let_go(all()).await.unwrap();
                to.take_over(all()).await.unwrap();
                order.push(post(to, anna, &format!("turn {turn}")).await.0);
            }
        }
        assert!(order.is_sorted(), "{order:?}");
        // Also who is no longer asked for: its own row of the author is read anew.
        one.let_go(all()).await.unwrap();
        two.take_over(all()).await.unwrap();
        order.push(post(&two, anna, "two").await.0);
        order.push(stored(one.append(draft(anna, "late")).await.unwrap()).seq);
        assert!(order.is_sorted());
    });
}

#[test]
fn what_a_former_home_left_is_shown_or_void_and_stays_so() {
    run(|field| async move {
        let (one, two) = (field.node().await, field.node().await);
        one.take_over(all()).await.unwrap();
        let (anna, ben) = (user(&one, "anna").await, user(&one, "ben").await);
        // Placed and not shown.
        let placed = stamp(anna, Duration::ZERO);
        let id = field.leave_post(placed, anna, 1).await;
        field.place_post(placed, id, anna).await;
        // Noted down and never placed: what the former home sent for it may still come.
        let void = stamp(ben, Duration::ZERO);
        let ghost = field.leave_post(void, ben, 1).await;
        assert_eq!(two.take_over(all()).await.unwrap(), [(placed, anna)]);
        assert!(two.post(id, anna).await.unwrap().is_some(), "what has its place is shown");
        assert!(two.post(ghost, ben).await.unwrap().is_none());
        field.until_done(void).await;
        let late = "UPDATE authors SET version = 1, recent = ? WHERE id = ? IF version = null";
        field.execute(late, (vec![void.0 as i64], ben.0)).await;
        let recent: Vec<(Option<Vec<i64>>,)> =
            field.all("SELECT recent FROM authors WHERE id = ?", (ben.0,)).await;
        assert!(
            !recent.iter().any(|(recent,)| recent.as_ref().is_some_and(|all| all.contains(&key(void).2)))
        );
        // Who orders its entries now has nothing to try twice.
        stored(two.append(draft(ben, "next")).await.unwrap());
    });
}

#[test]
fn entries_are_told_to_who_cannot_hear_their_home() {
    run(|field| async move {
        let (home, deaf) = (field.node().await, field.node().await);
        home.take_over(all()).await.unwrap();
        let (anna, ben) = (user(&home, "anna").await, user(&home, "ben").await);
        let (before, _) = post(&home, anna, "before").await;
        let (kept, _) = post(&home, anna, "kept").await;
        let (gone, gone_id) = post(&home, ben, "gone").await;
        let roost::storage::Deletion::Done(deletion) =
            home.delete(ben, gone_id, Timestamp::now()).await.unwrap()
        else {
            panic!("not deleted")
        };
        home.delivered(vec![kept]).await.unwrap();
        // Neither what was only noted down nor what is no entry.
        field.leave_post(stamp(ben, Duration::ZERO), ben, 9).await;
        let told = deaf.told_since(all(), before).await.unwrap();
        assert_eq!(places(&told), [kept, deletion.seq]);
        assert!(
            matches!(&told[0].change, roost::storage::EntryChange::Posted { author_name, .. } if author_name == "anna")
        );
        let of_ben = deaf.told_since(vec![Shard::of(ben)], before).await.unwrap();
        assert_eq!(places(&of_ben), [deletion.seq]);
        assert_eq!(deaf.told_since(all(), deletion.seq).await.unwrap(), []);
        assert!(gone > kept);
    });
}

#[test]
fn only_the_home_removes_and_nothing_that_anybody_left_undone() {
    run(|field| async move {
        let (home, other) = (field.node().await, field.node().await);
        home.take_over(all()).await.unwrap();
        let (anna, ben) = (user(&home, "anna").await, user(&home, "ben").await);
        let old = Duration::from_secs(70 * 60);
        let (done, undone) = (stamp(anna, old), stamp(ben, old));
        field.leave_post(done, anna, 1).await;
        let (shard, minute, seq) = key(done);
        let mark = "UPDATE jobs SET done = true WHERE shard = ? AND minute = ? AND seq = ?";
        field.execute(mark, (shard, minute, seq)).await;
        field.leave_post(undone, ben, 1).await;
        let now = Timestamp::now();
        assert_eq!(other.sweep(now).await.unwrap(), 0, "it is home of nothing");
        assert_eq!(home.sweep(now).await.unwrap(), 1);
        let minutes: Vec<(i32,)> =
            field.all("SELECT minute FROM minutes WHERE kind = 'jobs' AND shard = ?", (shard,)).await;
        assert!(!minutes.contains(&(minute,)));
        // What it found undone it finishes: that one was never placed.
        assert_eq!(home.tend().await.unwrap(), []);
        field.until_done(undone).await;
        assert_eq!(home.sweep(now).await.unwrap(), 1);
    });
}
