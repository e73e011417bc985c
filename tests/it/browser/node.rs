//! One node that dies, and a way to it that is cut.

use super::page::Tabs;
use super::talk::{Talker, are_heard_elsewhere, end};
use crate::harness::browser::Browser;
use crate::harness::child::RealServer;
use crate::harness::engines::lasting_port;
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::harness::person::PASSWORD;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// What is seen in so many messages.
const SOME: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_cut_before_its_first_event_comes_back_to_where_it_began() {
    let Some(browser) = Browser::start().await else { return };
    let server = RealServer::start();
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let conversation = ann.talks_with(&[&bob]).await;
    let way = FaultProxy::to(&server.authority()).await;
    let tabs = Tabs::open(browser, &format!("http://{}", way.address())).await;
    tabs.listen(Some(&bob.token)).await;
    // What a stream begins with comes with its head; so it is there when another answer is.
    tabs.run("return fetch('/health/live').then((answer) => answer.status)", Vec::new()).await;
    way.set(Mode::Cut).await;
    let mut elsewhere = bob.streams().await;
    for number in 0..SOME {
        ann.says(&conversation, &format!("while they are away: {number}")).await;
    }
    are_heard_elsewhere(&bob, &mut elsewhere, SOME).await;
    assert!(tabs.report().await.iter().all(|page| page["view"] == json!([])), "nothing came to them");
    way.set(Mode::Pass).await;
    tabs.show_all(&bob, &conversation).await;
    tabs.until("both came back by themselves", |page| page["opened"] == 2 && page["reopened"] == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tabs_keep_a_conversation_through_kill_9_and_a_restart() {
    let Some(browser) = Browser::start().await else { return };
    let mut server = RealServer::prepare(&[]);
    // The port stays when it starts again.
    server.set("ROOST_LISTEN", &format!("127.0.0.1:{}", lasting_port(&[Ipv4Addr::LOCALHOST])));
    server.spawn();
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let conversation = ann.talks_with(&[&bob]).await;
    let way = FaultProxy::to(&server.authority()).await;
    let tabs = Tabs::open(browser, &format!("http://{}", way.address())).await;
    tabs.listen(Some(&bob.token)).await;
    let doors = [ann.rest.clone()];
    let talkers = [&ann, &bob].map(|person| Talker::begins(person, &doors, &conversation));
    tabs.show(SOME).await;

    server.kill();
    way.set(Mode::Cut).await;
    tokio::task::block_in_place(|| server.spawn());
    let mut elsewhere = bob.streams().await;
    are_heard_elsewhere(&bob, &mut elsewhere, SOME).await;
    way.set(Mode::Pass).await;
    tabs.until("both came back", |page| page["opened"] == 2).await;
    let seen = bob.reads_history(&conversation, 100).await.len();
    tabs.show(seen + SOME).await;

    end(talkers.into(), &bob, &conversation).await;
    tabs.show_all(&bob, &conversation).await;
    for page in tabs.report().await {
        assert_eq!(page["reopened"], 0, "it came back by itself");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_in_the_page_is_enough_and_its_logout_ends_the_streams() {
    let Some(browser) = Browser::start().await else { return };
    let server = RealServer::start();
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let conversation = ann.talks_with(&[&bob]).await;
    let tabs = Tabs::open(browser, &server.url("")).await;
    let post = "const [path, body] = arguments;
        const headers = {'content-type': 'application/json'};
        return fetch(path, {method: 'POST', headers, body: JSON.stringify(body)}).then((answer) => answer.status)";
    let login = json!({"email": "bob@example.com", "password": PASSWORD});
    assert_eq!(tabs.run_in_first(post, vec![json!("/auth/login"), login]).await, 200);
    tabs.listen(None).await;
    for number in 0..SOME {
        ann.says(&conversation, &format!("number {number}")).await;
    }
    tabs.show_all(&bob, &conversation).await;
    // The page writes by the cookie too.
    let message = json!({"conversationId": conversation, "body": "from the page", "idempotencyKey": "one"});
    assert_eq!(tabs.run_in_first(post, vec![json!("/api/chat/send"), message]).await, 201);
    tabs.show_all(&bob, &conversation).await;
    assert_eq!(tabs.run_in_first(post, vec![json!("/auth/logout"), Value::Null]).await, 204);
    tabs.until("both are told", |page| page["kinds"]["expired"] == 1).await;
    assert!(tabs.report().await.iter().all(|page| page["opened"] == 1 && page["reopened"] == 0));
}
