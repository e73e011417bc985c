//! A server whose Redis is stopped, hangs, is slow, emptied, read-only or full: sessions stay, posts go on,
//! limits are the node's own, `/health` says so, and it mends by itself.

use super::{app_on, is_degraded, mends};
use crate::harness::app::TestApp;
use crate::harness::engines::redis_server::RedisServer;
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::harness::live::TestClient;
use crate::harness::person::Person;
use crate::harness::until;
use roost::config::Limit;
use std::time::Duration;

/// Two who follow each other, one of them connected.
struct Scene {
    app: TestApp,
    ann: Person,
    eve: Person,
    client: TestClient,
    posts: Vec<String>,
}

impl Scene {
    async fn on(url: &str) -> Self {
        let app = app_on(url, |config| config.limit_posts_per_minute = Limit::of(10)).await;
        let (ann, eve) = (app.person("ann").await, app.person("eve").await);
        eve.follows(&ann).await;
        let client = eve.connects().await;
        Self { app, ann, eve, client, posts: Vec::new() }
    }

    /// A post is taken, heard, and on the timeline; who likes it sees that at once.
    async fn goes_on(&mut self) {
        let post = self.ann.posts("hello").await;
        self.client.expect_post(&post).await;
        self.client.pings().await;
        self.eve.call("POST", &format!("/posts/{post}/likes")).await.expect(201);
        self.posts.insert(0, post);
        for _ in 0..2 {
            let page = self.eve.get("/timeline").await.expect(200);
            assert_eq!(page["posts"][0]["is_liked"], true, "{page}");
            assert_eq!(page["posts"][0]["likes_count"], 1, "{page}");
        }
        assert_eq!(self.eve.timeline().await, self.posts);
        // Somebody comes and goes.
        self.ann.connects().await.cut();
    }

    /// As many posts as are left in a bucket of ten are taken; then it is full.
    async fn is_limited(&mut self) {
        while self.posts.len() < 10 {
            self.goes_on().await;
        }
        self.ann.asks_to_post("one too many").await.refused(429, "rate_limited");
    }

    /// Everything that a failing Redis must not touch, until it is well again.
    async fn outlives(mut self, breaks: impl AsyncFnOnce(), restores: impl AsyncFnOnce()) {
        self.goes_on().await;
        breaks().await;
        self.goes_on().await;
        is_degraded(&self.app).await;
        self.is_limited().await;
        restores().await;
        mends(&self.app).await;
        self.client.pings().await;
        let again = self.ann.again().await;
        again.timeline().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_and_started_again() {
    let Some(redis) = RedisServer::start().await else { return };
    let scene = Scene::on(&redis.url()).await;
    let redis = tokio::sync::Mutex::new(redis);
    scene.outlives(async || redis.lock().await.kill(), async || redis.lock().await.start_again().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging() {
    let Some(redis) = RedisServer::start().await else { return };
    let scene = Scene::on(&redis.url()).await;
    scene.outlives(async || redis.pause(), async || redis.resume()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_only() {
    let Some(redis) = RedisServer::start().await else { return };
    let scene = Scene::on(&redis.url()).await;
    scene.outlives(async || redis.refuse_writes(), async || redis.take_writes()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_memory() {
    let Some(redis) = RedisServer::start().await else { return };
    let scene = Scene::on(&redis.url()).await;
    scene.outlives(async || redis.limit_memory(1), async || redis.limit_memory(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_by_a_second() {
    let Some(redis) = RedisServer::start().await else { return };
    let proxy = FaultProxy::to(&redis.address()).await;
    let scene = Scene::on(&format!("redis://{}", proxy.address())).await;
    scene
        .outlives(
            async || proxy.set(Mode::Delay(Duration::from_secs(1))).await,
            async || proxy.set(Mode::Pass).await,
        )
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off() {
    let Some(redis) = RedisServer::start().await else { return };
    let proxy = FaultProxy::to(&redis.address()).await;
    let scene = Scene::on(&format!("redis://{}", proxy.address())).await;
    scene.outlives(async || proxy.set(Mode::Cut).await, async || proxy.set(Mode::Pass).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emptied_it_goes_on_and_is_not_even_degraded() {
    let Some(redis) = RedisServer::start().await else { return };
    let mut scene = Scene::on(&redis.url()).await;
    scene.goes_on().await;
    redis.flush();
    scene.goes_on().await;
    assert_eq!(super::health(&scene.app).await.2, "ok");
    // The buckets are full again: nobody is refused for it.
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_redis_was_not_told_of_is_seen_by_its_maker_when_it_is_back() {
    let Some(redis) = RedisServer::start().await else { return };
    let proxy = FaultProxy::to(&redis.address()).await;
    let app = app_on(&format!("redis://{}", proxy.address()), |_| {}).await;
    let ann = app.person("ann").await;
    let post = ann.posts("hello").await;
    until("the page is kept", async || {
        ann.get("/timeline").await.expect(200)["cached_at"].as_str().map(drop)
    })
    .await;
    // It hears nothing of the like, and still has the page when it answers again.
    proxy.set(Mode::Cut).await;
    ann.call("POST", &format!("/posts/{post}/likes")).await.expect(201);
    proxy.set(Mode::Pass).await;
    mends(&app).await;
    assert_eq!(redis.says(&["hexists", &format!("timeline:{}", ann.id), "pages"]), "1");
    for _ in 0..20 {
        let page = ann.get("/timeline").await.expect(200);
        assert_eq!(page["posts"][0]["is_liked"], true, "{page}");
    }
}
