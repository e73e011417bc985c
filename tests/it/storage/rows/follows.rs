//! One follow: what it writes, alone and when many follow the same user.

use super::{Ground, a_follow, first};
use futures_util::future::join_all;
use roost::model::cursor::Seq;
use roost::model::timestamp::Timestamp;
use roost::storage::{Followed, Graph};
use std::collections::BTreeSet;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_follow_one_at_once() {
    let Some(ground) = Ground::lay().await else { return };
    let store = ground.open().await;
    let users = ground.users(301).await;
    let (star, crowd) = users.split_first().unwrap();
    let before = store.requests();
    let made = join_all(crowd.iter().map(|user| store.follow(a_follow(*user, *star), 10))).await;
    assert!(made.into_iter().all(|made| matches!(made, Ok(Followed::Done { .. }))));
    println!("{} requests a follow", (store.requests() - before) / 300);
    let followers = Graph::followers(&store, *star, first(1_000)).await.unwrap().unwrap();
    assert_eq!((followers.total, followers.items.len()), (300, 300));
    let changes: Vec<(i64,)> = ground.all("SELECT changes FROM followers LIMIT 1").await;
    assert!(changes[0].0 < 150, "those that wait go together: {changes:?}");
    ground.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_brings_the_newest_twenty_and_what_is_deleted_meanwhile() {
    let Some(ground) = Ground::lay().await else { return };
    let store = ground.open().await;
    let users = ground.users(2).await;
    let (reader, author) = (users[0], users[1]);
    let now = Timestamp::now().millis();
    let stamp = |minutes: i64| ((now - minutes * 60_000) * 1_000) << 8;
    // A post every two hours, every third one deleted.
    let mut living = Vec::new();
    for number in 0..60 {
        let seq = stamp(number * 120);
        let day = (now - number * 120 * 60_000) / 86_400_000;
        let deleted = if number % 3 == 0 { "1" } else { "null" };
        ground.run(&format!("INSERT INTO days_by_author (author, day) VALUES ({author}, {day})")).await;
        ground
            .run(&format!(
                "INSERT INTO posts_by_author (author, day, seq, post, created_at, deleted_at)
                 VALUES ({author}, {day}, {seq}, {}, {}, {deleted})",
                Uuid::new_v4(),
                now - number * 120 * 60_000,
            ))
            .await;
        if number % 3 != 0 {
            living.push(seq);
        }
    }
    let newest = stamp(0);
    ground
        .run(&format!(
            "INSERT INTO authors (id, version, newest_seq) VALUES ({author}, 60, {newest}) IF NOT EXISTS"
        ))
        .await;
    // One is deleted while the follow is under way: its author's row does not tell yet.
    let (gone, today) = (newest + (1 << 8), now / 86_400_000);
    ground
        .run(&format!(
            "INSERT INTO deletions_by_author (author, day, seq, post, post_seq, deleted_at)
             VALUES ({author}, {today}, {gone}, {}, {newest}, {now})",
            Uuid::new_v4(),
        ))
        .await;
    let made = store.follow(a_follow(reader, author), 10).await.unwrap();
    assert_eq!(made, Followed::Done { since: Seq(newest.unsigned_abs()) });
    let entries: Vec<(i64, i32)> = ground.all("SELECT seq, TTL(post) FROM home_timeline").await;
    let seqs: BTreeSet<i64> = entries.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, living[..20].iter().copied().collect());
    let month = 30 * 24 * 3600;
    assert!(entries.iter().all(|(_, left)| (month - 3 * 24 * 3600..=month).contains(left)));
    let deletions: Vec<(i64,)> = ground.all("SELECT seq FROM home_deletions").await;
    assert_eq!(deletions, [(gone,)]);
    let sees: Vec<(Option<i64>,)> = ground.all("SELECT sees_from FROM following").await;
    assert!(sees.contains(&(Some(living[19]),)));
    ground.end().await;
}
