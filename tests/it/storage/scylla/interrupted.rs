//! Fanning out: interrupted and begun again, and racing with whoever follows, unfollows or deletes meanwhile.

use super::run;
use crate::storage::fixture::{TestStore, a_follow, seqs};
use futures_util::FutureExt;
use futures_util::future::join_all;
use roost::model::cursor::Seq;
use roost::model::id::UserId;
use roost::storage::{TIMELINE_ENTRIES, TimelineFrom};
use std::collections::BTreeSet;

/// Enough for a fan-out to be under way for a while.
const FOLLOWERS: usize = 150;

/// Somebody with many followers.
async fn followed(store: &TestStore, followers: usize) -> (UserId, Vec<UserId>) {
    let author = store.user("author").await;
    let followers = store.users(followers).await;
    for some in followers.chunks(16) {
        join_all(some.iter().map(|follower| store.follow(*follower, author))).await;
    }
    (author, followers)
}

/// Posts without fanning out.
async fn post(store: &TestStore, author: UserId) -> Seq {
    crate::storage::fixture::stored(store.posting(author, "text").await.unwrap()).seq
}

async fn assert_all_show(store: &TestStore, readers: &[UserId], expected: &[Seq]) {
    for reader in readers {
        assert_eq!(store.timeline(*reader, 100).await, expected, "{reader}");
        assert_eq!(store.engine.total(*reader).await.unwrap(), expected.len() as u64);
    }
}

#[test]
fn ones_own_are_shown_before_they_are_fanned_out() {
    run(|store| async move {
        let (author, followers) = followed(&store, 1).await;
        let seq = post(&store, author).await;
        assert_eq!(store.timeline(author, 10).await, [seq]);
        assert_eq!(store.timeline(followers[0], 10).await, []);
        store.spread(&[seq]).await;
        assert_eq!(store.timeline(followers[0], 10).await, [seq]);
    });
}

#[test]
fn doing_it_twice_or_at_once_changes_nothing() {
    run(|store| async move {
        let (author, followers) = followed(&store, 3).await;
        let seqs = [post(&store, author).await, post(&store, author).await];
        store.spread(&[seqs[1], seqs[0], seqs[0], seqs[1], seqs[0]]).await;
        store.spread(&seqs).await;
        assert_all_show(&store, &followers, &[seqs[1], seqs[0]]).await;
    });
}

#[test]
fn interrupted_anywhere_it_goes_on_when_called_again() {
    run(|store| async move {
        let (author, followers) = followed(&store, FOLLOWERS).await;
        let fan_out = store.fan_out.clone().unwrap();
        let mut newest_first = Vec::new();
        for polls in [1, 2, 3, 5, 8, 13] {
            let seq = post(&store, author).await;
            newest_first.insert(0, seq);
            let mut spreading = fan_out.fan_out(seq);
            for _ in 0..polls {
                if (&mut spreading).now_or_never().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            // Whoever waited is gone: half-way, as far as it got.
            drop(spreading);
            fan_out.fan_out(seq).await.unwrap();
        }
        assert_all_show(&store, &followers, &newest_first).await;
    });
}

#[test]
fn who_follows_meanwhile_gets_it_once_and_who_unfollows_does_not_see_it() {
    run(|store| async move {
        let (author, stay) = followed(&store, 40).await;
        let (come, go) = (store.users_named("come", 20).await, store.users_named("go", 20).await);
        for reader in &go {
            store.follow(*reader, author).await;
        }
        for turn in 0..5 {
            let seq = post(&store, author).await;
            let entries = [seq];
            let spreading = store.spread(&entries);
            let coming = join_all(come.iter().map(|reader| store.follow(*reader, author)));
            let going = join_all(go.iter().map(|reader| store.unfollow(*reader, author)));
            tokio::join!(spreading, coming, going);
            let seen = store.timeline(author, 100).await;
            assert_eq!((seen.len(), seen[0]), (turn + 1, seq));
            assert_all_show(&store, &stay, &seen).await;
            assert_all_show(&store, &come, &seen).await;
            assert_all_show(&store, &go, &[]).await;
            // The other way round next: re-followed by some, left by others.
            for reader in &come {
                store.unfollow(*reader, author).await;
            }
            for reader in &go {
                store.follow(*reader, author).await;
            }
            assert_all_show(&store, &go, &seen).await;
            assert_all_show(&store, &come, &[]).await;
        }
    });
}

#[test]
fn what_is_deleted_while_it_is_fanned_out_is_shown_to_nobody() {
    run(|store| async move {
        let (author, followers) = followed(&store, 60).await;
        let kept = store.post(author, "kept").await;
        for _ in 0..5 {
            let posted = crate::storage::fixture::stored(store.posting(author, "gone").await.unwrap());
            let (start, entries) = (kept.seq, [posted.seq]);
            let spreading = store.spread(&entries);
            let deleting = store.delete(author, posted.id);
            let ((), deletion) = tokio::join!(spreading, deleting);
            assert_all_show(&store, &followers, &[kept.seq]).await;
            // Whoever resumes hears of the deletion, and not of the post.
            for reader in &followers[..5] {
                let missed = store.missed(*reader, start).await;
                assert!(missed.contains(&deletion) && missed.iter().all(|entry| entry.seq != posted.seq));
            }
            // Late, it changes nothing.
            store.spread(&[posted.seq]).await;
            assert_all_show(&store, &followers[..5], &[kept.seq]).await;
        }
    });
}

#[test]
fn who_follows_again_sees_what_was_posted_in_between() {
    run(|store| async move {
        let (author, followers) = followed(&store, 1).await;
        let reader = followers[0];
        let before = store.post_many(author, 25).await;
        store.unfollow(reader, author).await;
        assert_eq!(store.timeline(reader, 100).await, []);
        let between = store.post_many(author, 3).await;
        store.follow(reader, author).await;
        let after = store.post(author, "after").await;
        // Twenty before the follow, and what came since: not the older ones, though it once saw them.
        let twenty = before.iter().chain(&between).rev().take(20).map(|post| post.seq);
        let expected: Vec<_> = std::iter::once(after.seq).chain(twenty).collect();
        assert_eq!(store.timeline(reader, 100).await, expected);
        assert_eq!(store.engine.total(reader).await.unwrap(), 21);
    });
}

#[test]
fn a_follow_of_somebody_followed_leaves_no_hole() {
    run(|store| async move {
        // Follows begun at once with posts, over and over: every post is either brought or fanned out.
        let author = store.user("author").await;
        let readers = store.users(10).await;
        for reader in &readers {
            let posting = join_all((0..3).map(|_| store.posting(author, "text")));
            let following = store.engine.follow(a_follow(*reader, author), 100);
            let (posted, followed) = tokio::join!(posting, following);
            followed.unwrap();
            for posted in posted {
                store.spread(&[crate::storage::fixture::stored(posted.unwrap()).seq]).await;
            }
        }
        let own = store.timeline(author, 100).await;
        assert_eq!(own.len(), 30);
        for reader in &readers {
            let seen = store.timeline(*reader, 100).await;
            assert!(seen.len() >= 20 && seen[..] == own[..seen.len()], "{} of {}", seen.len(), own.len());
        }
    });
}

#[test]
fn walking_while_posts_come_and_go_shows_what_stays_exactly_once() {
    run(|store| async move {
        let (author, followers) = followed(&store, 1).await;
        let (other, reader) = (store.user("other").await, followers[0]);
        store.follow(reader, other).await;
        let (stay, go) = (store.post_many(author, 60).await, store.post_many(other, 60).await);
        let busy = async {
            for post in &go {
                store.delete(other, post.id).await;
                store.post(author, "comes").await;
            }
        };
        let walking = async {
            let mut walked = Vec::new();
            let mut from = TimelineFrom::Offset(0);
            loop {
                let page = seqs(&store.engine.list(reader, from, 5).await.unwrap());
                let Some(last) = page.last() else { return walked };
                from = TimelineFrom::Before(*last);
                walked.extend(page);
            }
        };
        let ((), walked) = tokio::join!(busy, walking);
        let once: BTreeSet<_> = walked.iter().copied().collect();
        assert_eq!(once.len(), walked.len(), "one is shown twice");
        assert!(stay.iter().all(|post| once.contains(&post.seq)), "one is missing");
        assert!(walked.windows(2).all(|pair| pair[0] > pair[1]));
        // The end is the end, at whatever place one asks.
        assert!(walked.len() <= TIMELINE_ENTRIES);
    });
}
