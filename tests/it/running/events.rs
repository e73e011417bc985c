//! Changes are sent to a sink as CloudEvents, tried three times, then buried for an operator.

use crate::harness::child::RealServer;
use crate::harness::engines::cql_nodes;
use crate::harness::until;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use hmac::{Hmac, KeyInit, Mac};
use scylla::client::session_builder::SessionBuilder;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use uuid::Uuid;

const SECRET: &str = "events-secret";

/// A sink of events in this process.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Received>>);

#[derive(Default)]
struct Received {
    /// Each try: its headers and body.
    tries: Vec<(HeaderMap, String)>,
    refuses: bool,
}

impl Sink {
    async fn listen(&self) -> String {
        let router =
            axum::Router::new().route("/events", axum::routing::post(Self::take)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/events", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    async fn take(State(sink): State<Self>, headers: HeaderMap, body: String) -> StatusCode {
        let mut received = sink.0.lock().expect("what was received");
        received.tries.push((headers, body));
        if received.refuses { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::ACCEPTED }
    }

    fn refuse(&self, refuses: bool) {
        self.0.lock().expect("what was received").refuses = refuses;
    }

    fn events(&self) -> Vec<Value> {
        let received = self.0.lock().expect("what was received");
        received.tries.iter().map(|(_, body)| serde_json::from_str(body).expect("an event is JSON")).collect()
    }

    /// Waits until so many tries of events of this type were made; answers them.
    async fn wait_for(&self, kind: &str, tries: usize) -> Vec<Value> {
        let kind = format!("com.mini-sns.{kind}");
        let what = format!("{tries} of {kind}");
        until(&what, async || {
            let found: Vec<_> =
                self.events().into_iter().filter(|event| event["type"] == kind.as_str()).collect();
            (found.len() >= tries).then_some(found)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_sent_as_a_signed_cloudevent() {
    let sink = Sink::default();
    let url = sink.listen().await;
    let server = RealServer::with(&[("ROOST_EVENTS_URL", &url), ("ROOST_EVENTS_SECRET", SECRET)]);
    let (ann, eve) = (server.person("ann").await, server.person("eve").await);
    ann.put(&format!("/users/{}", ann.id), json!({"username": "annabel"})).await.expect(200);
    let follow = eve.asks_to_follow(&ann).await.expect(201);
    let post = ann.posts("hello").await;
    let like = eve.call("POST", &format!("/posts/{post}/likes")).await.expect(201);
    eve.delete(&format!("/posts/{post}/likes")).await.expect(204);
    ann.deletes(&post).await;
    eve.unfollows(&ann).await;

    let data = async |kind: &str| sink.wait_for(kind, 1).await[0]["data"].clone();
    assert_eq!(sink.wait_for("user.registered", 2).await.len(), 2);
    let renamed = data("user.profile-updated").await;
    assert_eq!((&renamed["userId"], &renamed["username"]), (&json!(ann.id), &json!("annabel")));
    let followed = data("social.follow.created").await;
    let expected = json!({"followId": follow["id"], "followerId": eve.id, "followeeId": ann.id, "createdAt": follow["created_at"]});
    assert_eq!(followed, expected);
    let posted = data("post.created").await;
    assert_eq!(
        (&posted["postId"], &posted["userId"], &posted["content"]),
        (&json!(post), &json!(ann.id), &json!("hello"))
    );
    let liked = data("social.like.created").await;
    assert_eq!(
        (&liked["likeId"], &liked["userId"], &liked["postId"]),
        (&like["id"], &json!(eve.id), &json!(post))
    );
    assert_eq!(data("social.like.deleted").await["likeId"], like["id"]);
    assert_eq!(data("social.follow.deleted").await["followId"], follow["id"]);
    assert!(data("post.deleted").await["deletedAt"].is_string());

    for (headers, body) in &sink.0.lock().unwrap().tries {
        let event: Value = serde_json::from_str(body).unwrap();
        for attribute in ["specversion", "id", "source", "type", "time"] {
            assert!(event[attribute].as_str().is_some_and(|text| !text.is_empty()), "{attribute}: {event}");
        }
        assert_eq!(event["specversion"], "1.0");
        let header = |name: &str| headers[name].to_str().unwrap();
        assert!(header("content-type").starts_with("application/cloudevents+json"));
        assert_eq!(header("webhook-id"), event["id"]);
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("{}.{}.{body}", header("webhook-id"), header("webhook-timestamp")).as_bytes());
        let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        assert_eq!(header("webhook-signature"), format!("v1,{signature}"));
        assert!(!body.contains("@example.com"), "no e-mail leaves: {body}");
    }
}

/// What `roost dead-letters` prints.
fn letters(server: &RealServer, arguments: &[&str]) -> String {
    let mut all = vec!["dead-letters"];
    all.extend(arguments);
    let output = server.runs(&all);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the server prints it")
}

fn listed(server: &RealServer) -> Vec<Value> {
    letters(server, &["list", "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("the server prints it"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_refused_three_times_is_a_dead_letter_that_can_be_sent_again() {
    is_buried_and_sent_again(RealServer::prepare(&[])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_is_in_a_keyspace_which_a_command_claims_while_no_server_runs() {
    let Some(nodes) = cql_nodes() else { return };
    let keyspace = format!("letters_{}", Uuid::new_v4().simple());
    let settings = [("ROOST_SCYLLA_NODES", nodes.join(",")), ("ROOST_SCYLLA_KEYSPACE", keyspace.clone())];
    let server = RealServer::prepare(&settings.each_ref().map(|(name, value)| (*name, value.as_str())));
    let made = server.runs(&["schema", "apply"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let server = is_buried_and_sent_again(server).await;
    // From elsewhere, where its data folder is not, it is not reached, and not disturbed.
    let elsewhere = server.runs(&["dead-letters", "list", "--data-dir", "nowhere"]);
    let said = String::from_utf8_lossy(&elsewhere.stderr);
    assert_eq!(elsewhere.status.code(), Some(1), "{said}");
    assert!(said.contains(&keyspace) && said.contains("which is running"), "{said}");
    assert!(listed(&server).is_empty());
    drop(server);
    let session = SessionBuilder::new().known_nodes(&nodes).build().await.expect("the CQL servers answer");
    session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), ()).await.expect("it is dropped");
}

/// The way of a dead letter; answers the server, which runs.
async fn is_buried_and_sent_again(mut server: RealServer) -> RealServer {
    let sink = Sink::default();
    server.set("ROOST_EVENTS_URL", &sink.listen().await);
    server.spawn();
    let ann = server.person("ann").await;
    sink.wait_for("user.registered", 1).await;
    sink.refuse(true);
    ann.posts("one").await;
    ann.posts("two").await;
    let tries = sink.wait_for("post.created", 6).await;
    let mut ids: Vec<_> = tries.iter().map(|event| event["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 2, "an id is the same at each try");
    assert!(listed_until(&server, 2).await.iter().all(|letter| letter["attempts"] == 3));
    assert_eq!(tries.len(), 6, "three tries each");

    // While it runs: read, drop, redrive.
    let letters_now = listed(&server);
    let number = |letter: &Value| letter["id"].to_string();
    let shown = letters(&server, &["show", &number(&letters_now[0])]);
    assert!(shown.contains("com.mini-sns.post.created"), "{shown}");
    assert!(letters(&server, &["list"]).contains("post.created"));
    letters(&server, &["drop", &number(&letters_now[1])]);
    assert_eq!(listed(&server).len(), 1);
    sink.refuse(false);
    letters(&server, &["redrive", &number(&letters_now[0])]);
    sink.wait_for("post.created", 7).await;
    listed_until(&server, 0).await;

    // While it does not: the same, sent when it is back.
    sink.refuse(true);
    ann.posts("three").await;
    listed_until(&server, 1).await;
    server.kill();
    assert_eq!(listed(&server).len(), 1);
    letters(&server, &["redrive", "--all"]);
    assert!(listed(&server).is_empty());
    sink.refuse(false);
    server.spawn();
    let sent = sink.wait_for("post.created", 11).await;
    assert_eq!(sent.last().expect("the last")["data"]["content"], "three");
    let missing = server.runs(&["dead-letters", "show", "999999"]);
    assert_eq!(
        (missing.status.code(), String::from_utf8_lossy(&missing.stderr).lines().count()),
        (Some(1), 1)
    );
    server
}

async fn listed_until(server: &RealServer, count: usize) -> Vec<Value> {
    until(&format!("{count} dead letters"), async || {
        let letters = listed(server);
        (letters.len() == count).then_some(letters)
    })
    .await
}
