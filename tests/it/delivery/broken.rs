//! An actor that panics takes nothing else with it, and nothing is lost.

use super::{author_and_follower, of};
use crate::harness::app::TestApp;
use crate::harness::rest::text;
use crate::harness::until;
use roost::actors::instant::Instant;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_panics_closes_its_own_socket_and_no_other() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let (mut broken, mut whole) = (eve.connects().await, eve.connects().await);
    app.barriers.panic(Instant::Heard(of(&eve)));
    broken.says(json!({"type": "ping"})).await;
    assert_eq!(broken.closed().await, 1011);
    whole.pings().await;
    let post = ann.posts("to the other").await;
    whole.expect_post(&post).await;
    until("the broken one is gone", async || (app.node().census().session == 1).then_some(())).await;
    // It comes again as if its connection had been cut.
    let mut resumed = eve.resumes(&broken.cursor).await;
    resumed.expect_post(&post).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_panics_while_it_begins_is_closed_and_comes_again() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let cursor = eve.connects().await.cut();
    let missed = ann.posts("missed").await;
    for at in [Instant::Entering, Instant::Entered, Instant::Read, Instant::Replaying] {
        app.barriers.panic(at(of(&eve)));
        let mut broken = eve.opens(&format!("&cursor={cursor}")).await;
        assert_eq!(broken.closed().await, 1011, "{:?}", at(of(&eve)));
    }
    let mut resumed = eve.resumes(&cursor).await;
    resumed.expect_post(&missed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_author_that_panics_between_commit_and_relay_loses_nothing() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let mut listening = eve.connects().await;
    app.barriers.panic(Instant::Committed(of(&ann)));
    let keyed = || ann.asks_to_post("half-way").header("idempotency-key", "once");
    // What came of it is not known: 503, and safe to send again.
    keyed().await.refused(503, "unavailable");
    let half_way = text(&keyed().await.expect(201), "id");
    let next = ann.posts("next").await;
    listening.expect_post(&half_way).await;
    listening.expect_post(&next).await;
    eve.reads(&[next, half_way]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_author_left_half_way_arrives_though_it_never_posts_again() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let mut listening = eve.connects().await;
    app.barriers.panic(Instant::Committed(of(&ann)));
    ann.asks_to_post("half-way").await.refused(503, "unavailable");
    let frame = listening.expect("newPost").await;
    assert_eq!(frame["content"], "half-way");
    eve.reads(&[text(&frame, "id")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_panics_sends_everybody_to_resume_and_loses_nothing() {
    let app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let mut listening = eve.connects().await;
    let before = ann.posts("before").await;
    listening.expect_post(&before).await;
    app.barriers.panic(Instant::Carried(of(&ann)));
    // It is durable, so it is answered; the relay that had taken it is gone.
    let taken = ann.posts("taken").await;
    assert_eq!(listening.closed().await, 1011);
    let mut resumed = eve.resumes(&listening.cursor).await;
    resumed.expect_post(&taken).await;
    // The new relay carries, and once it was brought again, nothing holds the cursors back.
    until("it has arrived", async || (app.node().watermark.depth().0 == 0).then_some(())).await;
    let after = ann.posts("after").await;
    resumed.expect_post(&after).await;
    let mut again = eve.resumes(&resumed.cut()).await;
    let last = ann.posts("last").await;
    again.expect_post(&last).await;
    eve.reads(&[last, after, taken, before]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_when_the_server_stopped_arrives_after_its_start() {
    let mut app = TestApp::start().await;
    let (ann, eve) = author_and_follower(&app).await;
    let cursor = eve.connects().await.cut();
    let missed = ann.posts("before the restart").await;
    app.restart().await;
    let mut resumed = eve.resumes(&cursor).await;
    assert_eq!(resumed.connected["resumed"], true);
    resumed.expect_post(&missed).await;
    let next = ann.posts("after it").await;
    resumed.expect_post(&next).await;
    eve.reads(&[next, missed]).await;
}
