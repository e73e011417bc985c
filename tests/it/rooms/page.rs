//! The page of a room, without a browser: what it answers, and what browsers are told to do with it.

use crate::harness::app::TestApp;
use crate::harness::engines::cql_nodes;
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::harness::ground::Keyspace;
use crate::harness::rest::Answer;
use crate::harness::until;
use roost::config::Role;

/// What holds for every page, of a room or of none.
#[track_caller]
fn is_a_page(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    let policy = answer.header("content-security-policy").expect("a policy");
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    ] {
        assert!(policy.contains(part), "{part}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_has_a_page_that_is_kept_and_asked_for_again() {
    let app = TestApp::start().await;
    let ann = app.person("ann").await;
    let room = ann.makes_room().await;
    let path = format!("/rooms/{room}");
    let page = app.get(&path).await;
    is_a_page(&page, 200);
    assert!(page.text.starts_with("<!doctype html>") && page.text.contains("data-room=\"here\""));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    let tag = page.header("etag").expect("a tag").to_owned();
    let again = app.get(&path).header("if-none-match", format!("\"other\", W/{tag}")).await;
    assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", Some(tag.as_str())));
    assert_eq!(app.get(&path).header("if-none-match", "\"other\"").await.status, 200);
    let head = app.call("HEAD", &path).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    app.call("POST", &path).await.refused(405, "method_not_allowed");

    ann.delete(&format!("/api/rooms/{room}")).await.expect(204);
    let ended = app.get(&path).header("if-none-match", tag).await;
    is_a_page(&ended, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_is_a_page_too() {
    let app = TestApp::start().await;
    for room in ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "x", "%3Cscript%3E", "%FF"] {
        let page = app.get(&format!("/rooms/{room}")).await;
        is_a_page(&page, 404);
        assert!(page.text.contains("data-room=\"unknown\""), "{room}");
        assert_eq!((page.header("cache-control"), page.header("etag")), (Some("no-store"), None));
    }
    app.get("/rooms").await.refused(404, "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_every_role_have_the_page() {
    for role in [Role::All, Role::Api, Role::Realtime] {
        let app = TestApp::with(|config| config.role = role).await;
        is_a_page(&app.get("/rooms/01ARZ3NDEKTSV4RRFFQ69G5FAV").await, 404);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_the_page_comes_all_the_same_and_is_not_kept() {
    let Some(nodes) = cql_nodes() else { return };
    let keyspace = Keyspace::on(nodes);
    let way = FaultProxy::to(&keyspace.nodes()[0]).await;
    let app = TestApp::with(|config| {
        config.scylla_nodes = vec![way.address().to_string().parse().expect("host:port")];
        config.scylla_keyspace = keyspace.name().parse().expect("a keyspace's name");
    })
    .await;
    way.set(Mode::Cut).await;
    let page = app.get("/rooms/01ARZ3NDEKTSV4RRFFQ69G5FAV").await;
    is_a_page(&page, 503);
    assert!(page.text.contains("data-room=\"here\""), "it goes on asking by itself");
    assert!(
        page.header("retry-after").is_some_and(|seconds| seconds.parse().is_ok_and(|wait: u32| wait > 0))
    );
    assert_eq!((page.header("cache-control"), page.header("etag")), (Some("no-store"), None));
    way.set(Mode::Pass).await;
    until("the store answers", async || {
        let page = app.get("/rooms/01ARZ3NDEKTSV4RRFFQ69G5FAV").await;
        (page.status == 404).then_some(())
    })
    .await;
}
