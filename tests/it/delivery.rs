//! A post answered 201 reaches every connected follower and every timeline, at whatever instant
//! something else happens: with barriers at the named instants of the delivery.

mod broken;
mod order;
mod slow;

use crate::harness::app::TestApp;
use crate::harness::person::Person;
use crate::harness::until;
use roost::actors::instant::Instant;
use roost::model::id::UserId;

/// What instants call a person.
fn of(person: &Person) -> UserId {
    person.id.parse().expect("an id")
}

/// An author and a follower of it.
async fn author_and_follower(app: &TestApp) -> (Person, Person) {
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    eve.follows(&ann).await;
    (ann, eve)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_held_between_commit_and_relay_arrives_after_a_resume_with_the_newest_cursor() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let bob = app.person("bob").await;
    eve.follows(&bob).await;
    let mut listening = eve.connects().await;

    let mut held = app.barriers.hold(Instant::Committed(of(&ann)));
    let posting = tokio::spawn({
        let ann = ann.clone();
        async move { ann.posts("held").await }
    });
    held.reached().await;
    for number in 0..3 {
        let passing = bob.posts(&format!("passing {number}")).await;
        listening.expect_post(&passing).await;
    }
    let cursor = listening.cut();

    // It is durable, so the replay has it, with the others that the cursor does not yet promise.
    let mut listening = eve.resumes(&cursor).await;
    held.release();
    let held = posting.await.unwrap();
    let last = bob.posts("last").await;
    let shown = listening.posts_until(&last).await;
    assert!(shown.contains(&held), "{held} is not among {shown:?}");
    let whole = async || (eve.timeline().await.len() == 5).then_some(());
    until("all five are on the timeline", whole).await;

    // Now that everything has arrived, the newest cursor promises everything.
    let mut listening = eve.resumes(&listening.cut()).await;
    let next = bob.posts("next").await;
    listening.expect_post(&next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_post_is_released_after_a_resume_that_did_not_wait_for_it() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let cursor = eve.connects().await.cut();
    let mut held = app.barriers.hold(Instant::Committed(of(&ann)));
    let posting = tokio::spawn({
        let ann = ann.clone();
        async move { ann.posts("held").await }
    });
    held.reached().await;
    // One who resumes gets it by the replay, once; one who comes anew gets it live: it is not answered yet.
    let (mut resumed, mut fresh) = (eve.resumes(&cursor).await, eve.connects().await);
    held.release();
    let held = posting.await.unwrap();
    let last = ann.posts("last").await;
    assert_eq!(resumed.posts_until(&last).await, [held.clone(), last.clone()]);
    assert_eq!(fresh.posts_until(&last).await, [held, last]);
}

/// Posts and a deletion made while a session stands at `at`, between what it missed and what comes live.
async fn what_happens_meanwhile_arrives_once(at: fn(UserId) -> Instant) {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let cursor = eve.connects().await.cut();
    let missed = [ann.posts("missed 1").await, ann.posts("missed 2").await];

    let mut held = app.barriers.hold(at(of(&eve)));
    let mut listening = eve.opens(&format!("&cursor={cursor}")).await;
    held.reached().await;
    let meanwhile = [ann.posts("meanwhile 1").await, ann.posts("meanwhile 2").await];
    ann.deletes(&missed[1]).await;
    held.release();
    listening.begins().await;
    assert_eq!(listening.connected["resumed"], true, "{}", listening.connected);
    let after = ann.posts("after").await;

    // `missed 2` may come before its deletion, or its deletion alone; TestClient refuses the reverse
    // order and repeats.
    let shown = listening.posts_until(&after).await;
    let expected = [&missed[0], &meanwhile[0], &meanwhile[1], &after];
    let without_deleted: Vec<_> = shown.iter().filter(|id| **id != missed[1]).collect();
    assert_eq!(without_deleted, expected);
    eve.reads(&[&after, &meanwhile[1], &meanwhile[0], &missed[0]].map(String::clone)).await;

    // The same for one who comes without a cursor: what was made before it came is not shown.
    let mut held = app.barriers.hold(at(of(&eve)));
    let replaying = matches!(at(of(&eve)), Instant::Replaying(_));
    let mut fresh = eve.opens("").await;
    if replaying {
        // Nothing is replayed to it.
        drop(held);
        fresh.begins().await;
        let last = ann.posts("last").await;
        fresh.expect_post(&last).await;
        return;
    }
    held.reached().await;
    let meanwhile = [ann.posts("meanwhile 3").await, ann.posts("meanwhile 4").await];
    held.release();
    fresh.begins().await;
    assert!(fresh.connected["resumed"].is_null(), "{}", fresh.connected);
    let last = ann.posts("last").await;
    assert_eq!(fresh.posts_until(&last).await, [&meanwhile[0], &meanwhile[1], &last].map(String::clone));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_before_a_session_stands_in_the_index_arrives_once() {
    what_happens_meanwhile_arrives_once(Instant::Entering).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_before_a_session_reads_what_it_missed_arrives_once() {
    what_happens_meanwhile_arrives_once(Instant::Entered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_after_a_session_read_what_it_missed_arrives_once() {
    what_happens_meanwhile_arrives_once(Instant::Read).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_during_a_replay_arrives_once() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let cursor = eve.connects().await.cut();
    let mut expected = vec![ann.posts("missed 1").await, ann.posts("missed 2").await];
    let mut held = app.barriers.hold(Instant::Replaying(of(&eve)));
    let mut listening = eve.opens(&format!("&cursor={cursor}")).await;
    held.reached().await;
    expected.push(ann.posts("meanwhile 1").await);
    expected.push(ann.posts("meanwhile 2").await);
    listening.begins().await;
    listening.expect_post(&expected[0]).await;
    assert_eq!(listening.cursor, cursor, "no frame promises more than the client came with");
    held.release();
    for id in &expected[1..] {
        listening.expect_post(id).await;
    }
    assert_ne!(listening.cursor, cursor, "what comes live promises the replay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_was_cut_begins_again() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let cursor = eve.connects().await.cut();
    let mut missed = Vec::new();
    for number in 0..5 {
        missed.push(ann.posts(&format!("missed {number}")).await);
    }
    let mut held = app.barriers.hold(Instant::Replaying(of(&eve)));
    let mut cut = eve.resumes(&cursor).await;
    held.reached().await;
    cut.expect_post(&missed[0]).await;
    let cursor = cut.cut();
    held.release();

    let mut whole = eve.resumes(&cursor).await;
    let last = ann.posts("last").await;
    missed.push(last.clone());
    assert_eq!(whole.posts_until(&last).await, missed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_made_while_a_post_is_published_sees_it_live_or_by_the_backfill() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let mut listening = eve.connects().await;
    let follows = || {
        let (ann, eve) = (ann.clone(), eve.clone());
        tokio::spawn(async move { eve.follows(&ann).await })
    };

    // The relay expects the follow, the store has none: the post is older, and backfilled.
    let mut held = app.barriers.hold(Instant::FollowExpected(of(&eve)));
    let following = follows();
    held.reached().await;
    let older = ann.posts("older than the follow").await;
    held.release();
    following.await.unwrap();
    let newer = ann.posts("newer").await;
    listening.expect_post(&newer).await;
    eve.reads(&[newer.clone(), older.clone()]).await;

    // The store has the follow, the relay has not heard: the post is newer, and pushed.
    eve.unfollows(&ann).await;
    eve.reads(&[]).await;
    let mut held = app.barriers.hold(Instant::FollowStored(of(&eve)));
    let following = follows();
    held.reached().await;
    let between = ann.posts("between store and relay").await;
    held.release();
    following.await.unwrap();
    let last = ann.posts("last").await;
    assert_eq!(listening.posts_until(&last).await, [between.clone(), last.clone()]);
    eve.reads(&[last, between, newer, older]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_made_between_commit_and_relay_of_a_post_has_it_on_the_timeline() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let mut listening = eve.connects().await;
    let mut held = app.barriers.hold(Instant::Committed(of(&ann)));
    let posting = tokio::spawn({
        let ann = ann.clone();
        async move { ann.posts("under way").await }
    });
    held.reached().await;
    eve.follows(&ann).await;
    held.release();
    let under_way = posting.await.unwrap();
    let last = ann.posts("last").await;
    listening.posts_until(&last).await;
    eve.reads(&[last, under_way]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_follower_is_not_sent_what_was_posted_before_and_an_unfollower_nothing_after() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    let mut listening = eve.connects().await;
    let before = ann.posts("before").await;
    eve.follows(&ann).await;
    let during = ann.posts("during").await;
    listening.expect_post(&during).await;
    eve.reads(&[during, before]).await;
    eve.unfollows(&ann).await;
    ann.posts("after").await;
    let own = eve.posts("own").await;
    listening.expect_post(&own).await;
    eve.reads(&[own]).await;
}
