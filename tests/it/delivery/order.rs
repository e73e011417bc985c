//! An author's posts and deletions, in their order, live and on replay.

use super::{author_and_follower, of};
use crate::harness::app::TestApp;
use crate::harness::until;
use roost::actors::instant::Instant;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posts_each_sent_after_the_formers_201_arrive_in_that_order_live_and_on_replay() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let mut live = eve.connects().await;
    let cursor = live.cursor.clone();
    let mut posts = Vec::new();
    for number in 0..60 {
        posts.push(ann.posts(&format!("number {number}")).await);
    }
    let mut sorted = posts.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, posts, "ids grow");
    let last = posts.last().unwrap().clone();
    assert_eq!(live.posts_until(&last).await, posts);
    let mut replayed = eve.resumes(&cursor).await;
    assert_eq!(replayed.posts_until(&last).await, posts);
    posts.reverse();
    eve.reads(&posts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_post_is_deleted_and_a_client_resumes_with_its_cursor() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let mut listening = eve.connects().await;
    let deleted = ann.posts("deleted soon").await;
    listening.expect_post(&deleted).await;
    let cursor = listening.cut();
    ann.deletes(&deleted).await;
    let next = ann.posts("next").await;
    assert!(next > deleted, "ids grow over deleted ones too");

    let mut listening = eve.resumes(&cursor).await;
    let deletion = listening.expect_deleted(&deleted).await;
    assert_eq!(deletion["data"]["user_id"], ann.id);
    assert!(deletion["data"]["deleted_at"].is_string());
    listening.expect_post(&next).await;
    eve.reads(&[next]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_author_whose_actor_was_retired_reaches_every_online_follower() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let mut listening = eve.connects().await;
    let first = ann.posts("first").await;
    listening.expect_post(&first).await;
    let retired = async || {
        app.node().authors.retire(Duration::ZERO);
        (app.node().census().author == 0).then_some(())
    };
    until("the author is retired", retired).await;
    let second = ann.posts("second").await;
    listening.expect_post(&second).await;
    assert!(second > first);
    assert_eq!(app.node().census().author, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_deleted_while_it_is_delivered_stays_in_no_timeline() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let mut listening = eve.connects().await;

    // The deletion is durable and not delivered: no timeline, no replay has the post.
    let post = ann.posts("delivered").await;
    listening.expect_post(&post).await;
    let cursor = listening.cursor.clone();
    let mut held = app.barriers.hold(Instant::Committed(of(&ann)));
    let deleting = tokio::spawn({
        let (ann, post) = (ann.clone(), post.clone());
        async move { ann.deletes(&post).await }
    });
    held.reached().await;
    eve.reads(&[]).await;
    eve.get(&format!("/posts/{post}")).await.refused(404, "not_found");
    let mut resumed = eve.resumes(&cursor).await;
    resumed.expect_deleted(&post).await;
    held.release();
    deleting.await.unwrap();
    let marker = ann.posts("marker").await;
    listening.expect_deleted(&post).await;
    listening.expect_post(&marker).await;
    resumed.expect_post(&marker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_never_precedes_its_post_while_both_race_with_sessions() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let cursor = eve.connects().await.cut();
    let racing = tokio::spawn({
        let ann = ann.clone();
        async move {
            for number in 0..40 {
                let post = ann.posts(&format!("short-lived {number}")).await;
                ann.deletes(&post).await;
            }
            ann.posts("the last").await
        }
    });
    // Sessions begin and end all the while; TestClient checks order and repeats on each.
    let mut listeners = Vec::new();
    while !racing.is_finished() {
        listeners.push(eve.resumes(&cursor).await);
        listeners.push(eve.connects().await);
        if listeners.len() > 40 {
            listeners.drain(..20);
        }
    }
    let last = racing.await.unwrap();
    for listener in &mut listeners {
        // A session that came behind the last post is not sent it without a cursor.
        if listener.connected["resumed"] == true {
            listener.posts_until(&last).await;
        }
    }
    eve.reads(&[last]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_authors_at_once_reach_a_follower_whole_and_each_in_order() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    let mut authors = Vec::new();
    for name in ["ann", "bob", "cid"] {
        let author = app.person(name).await;
        eve.follows(&author).await;
        authors.push(author);
    }
    let listening = eve.connects().await;
    let began = listening.cursor.clone();
    let posting = authors.clone().into_iter().map(|author| {
        tokio::spawn(async move {
            let mut posts = Vec::new();
            for number in 0..30 {
                posts.push(author.posts(&format!("{} {number}", author.username)).await);
            }
            posts
        })
    });
    let mut posted = Vec::new();
    for author in posting.collect::<Vec<_>>() {
        posted.push(author.await.unwrap());
    }
    let own = eve.posts("own").await;
    let total = posted.iter().map(Vec::len).sum::<usize>() + 1;
    for (mut client, how) in [(eve.resumes(&began).await, "replayed"), (listening, "live")] {
        let mut shown = Vec::new();
        while shown.len() < total {
            let frame = client.expect("newPost").await;
            shown.push(frame["id"].as_str().unwrap().to_owned());
        }
        assert!(shown.contains(&own), "{how}");
        for posts in &posted {
            let of_author: Vec<_> = shown.iter().filter(|id| posts.contains(id)).cloned().collect();
            assert_eq!(of_author, *posts, "{how}");
        }
    }
}
