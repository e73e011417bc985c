//! The upgrade: where the token may stand, what is refused before it, and what a cursor does.

use crate::harness::app::TestApp;
use crate::harness::live::TestClient;
use crate::harness::person::upgrade;
use crate::harness::rest::names;
use roost::config::Role;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_taken_from_the_query_the_header_and_the_subprotocol() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    let url = app.url("/ws").replacen("http", "ws", 1);
    eve.connects().await.pings().await;
    for (name, value) in [
        ("authorization", format!("Bearer {}", eve.token)),
        ("sec-websocket-protocol", format!("bearer, {}", eve.token)),
    ] {
        let mut client = TestClient::open_with(&url, &[(name, value)], None).await;
        client.begins().await;
        assert_eq!(client.connected["user_id"], eve.id, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_token_is_refused_before_the_upgrade_wherever_it_stands() {
    let app = TestApp::start().await;
    let ask = |path: &str| upgrade(app.get(path));
    ask("/ws").await.refused(401, "unauthorized");
    ask("/ws?token=").await.refused(401, "unauthorized");
    let problem = ask("/ws?token=nonsense").await.refused(401, "unauthorized");
    assert!(!problem.to_string().contains("nonsense"), "the token is told nobody: {problem}");
    ask("/ws").bearer("nonsense").await.refused(401, "unauthorized");
    ask("/ws").header("sec-websocket-protocol", "bearer, nonsense").await.refused(401, "unauthorized");

    let eve = app.person("eve").await;
    eve.call("POST", "/auth/logout").await.expect(204);
    eve.refused_upgrade("").await.refused(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_upgrade_it_is_426() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    eve.get("/ws").await.refused(426, "upgrade_required");
    app.get(&format!("/ws?token={}", eve.token)).await.refused(426, "upgrade_required");
    let old = eve.get("/ws").header("connection", "upgrade").header("upgrade", "websocket");
    let old =
        old.header("sec-websocket-version", "8").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    old.await.refused(426, "upgrade_required");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_cursor_is_refused_before_the_upgrade() {
    let app = TestApp::start().await;
    let eve = app.person("eve").await;
    let page = {
        eve.posts("one").await;
        eve.posts("two").await;
        eve.get("/timeline?limit=1").await.expect(200)["next_cursor"].as_str().unwrap().to_owned()
    };
    for cursor in ["", "x", "42", "%00", page.as_str(), &"A".repeat(5000)] {
        eve.refused_upgrade(&format!("&cursor={cursor}")).await.refuses_fields(&["cursor"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_of_another_store_or_of_the_future_gets_resync_and_goes_on() {
    let (app, other) = (TestApp::start().await, TestApp::start().await);
    let (eve, far) = (app.person("eve").await, other.person("far").await);
    let foreign = far.connects().await.cut();
    let mut listening = eve.resumes(&foreign).await;
    assert_eq!(listening.connected["resumed"], false);
    let resync = listening.expect("resync").await;
    assert_eq!((names(&resync), resync["reason"].as_str()), (vec!["reason"], Some("foreign")));
    let post = eve.posts("goes on").await;
    listening.expect_post(&post).await;
    // What it got since is a cursor of this store.
    let mut again = eve.resumes(&listening.cut()).await;
    assert_eq!(again.connected["resumed"], true);
    again.pings().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_800_missed_posts_get_resync() {
    let app = TestApp::start().await;
    let (ann, eve) = (app.person("ann").await, app.person("eve").await);
    eve.follows(&ann).await;
    let cursor = eve.connects().await.cut();
    let post = async |many: usize| {
        let posting: Vec<_> = (0..many)
            .map(|number| {
                let ann = ann.clone();
                tokio::spawn(async move { ann.posts(&format!("number {number}")).await })
            })
            .collect();
        for post in posting {
            post.await.unwrap();
        }
    };
    for _ in 0..20 {
        post(40).await;
    }
    let mut whole = eve.resumes(&cursor).await;
    assert_eq!(whole.connected["resumed"], true, "800 are always replayed");
    for _ in 0..800 {
        whole.expect("newPost").await;
    }
    post(1).await;
    app.spreads().await;
    let mut resumed = eve.resumes(&cursor).await;
    assert_eq!(resumed.connected["resumed"], false);
    assert_eq!(resumed.expect("resync").await["reason"], "too_many");
    let next = ann.posts("next").await;
    resumed.expect_post(&next).await;
    let page = eve.get("/timeline").await.expect(200);
    assert_eq!(page["total"], 800);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_send_each_others_calls_away() {
    let api = TestApp::with(|config| config.role = Role::Api).await;
    let eve = api.person("eve").await;
    eve.refused_upgrade("").await.refused(421, "wrong_role");
    let realtime = TestApp::with(|config| config.role = Role::Realtime).await;
    realtime.register("eve").await.refused(421, "wrong_role");
    realtime.get("/timeline").await.refused(421, "wrong_role");
    realtime.get("/health/live").await.expect(200);
    upgrade(realtime.get("/ws")).await.refused(401, "unauthorized");
}
