//! `roost copy`: from a database into a CQL cluster and back, killed in the middle, and what it refuses.

use crate::harness::child::RealServer;
use crate::harness::engines::cql_nodes;
use crate::harness::person::Person;
use crate::harness::rest::text;
use crate::harness::room::number;
use crate::harness::until;
use roost::model::id::{PostId, UserId};
use roost::model::post::Content;
use roost::model::timestamp::Timestamp;
use roost::model::user::Username;
use roost::storage::sqlite::{Options, Store, Unobserved};
use roost::storage::{Accounts, NewPost, NewUser, Posts, Upkeep};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use serde_json::json;
use std::process::{Output, Stdio};
use std::sync::Arc;
use uuid::Uuid;

/// A keyspace of a test's own.
struct Keyspace {
    nodes: String,
    name: String,
    session: Session,
}

impl Keyspace {
    async fn new() -> Option<Self> {
        let nodes = cql_nodes()?;
        let session =
            SessionBuilder::new().known_nodes(&nodes).build().await.expect("the CQL servers answer");
        let name = format!("copy_{}", Uuid::new_v4().simple());
        Some(Self { nodes: nodes.join(","), name, session })
    }

    async fn remove(self) {
        self.session
            .query_unpaged(format!("DROP KEYSPACE IF EXISTS {}", self.name), ())
            .await
            .expect("the CQL servers answer");
    }

    /// Whether a copy into it was begun and is not whole.
    async fn is_unfinished(&self) -> bool {
        let asked = format!("SELECT name FROM {}.unfinished_copies", self.name);
        let Ok(found) = self.session.query_unpaged(asked, ()).await else { return false };
        found.into_rows_result().is_ok_and(|rows| rows.rows_num() > 0)
    }

    fn place(&self) -> String {
        format!("scylla:{}", self.name)
    }
}

/// Runs a copy by the settings of a server, which has none of a cluster.
async fn copies(server: &RealServer, keyspace: &Keyspace, from: &str, to: &str) -> Output {
    let arguments = ["copy", "--from", from, "--to", to, "--scylla-nodes", &keyspace.nodes];
    let mut command = server.command(&arguments);
    let run = move || command.stdin(Stdio::null()).output().expect("the program starts");
    tokio::task::spawn_blocking(run).await.expect("it ends")
}

#[track_caller]
fn done(output: &Output) -> String {
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !wrong.contains("roost:"), "{said}{wrong}");
    said.into_owned()
}

#[track_caller]
fn refused(output: &Output, status: i32, why: &str) {
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{wrong}");
    assert!(wrong.contains(why), "{wrong}");
}

/// What somebody sees.
async fn view(person: &Person) -> serde_json::Value {
    let id = &person.id;
    json!({
        "profile": person.get(&format!("/users/{id}")).await.expect(200),
        "posts": person.get(&format!("/users/{id}/posts?limit=100")).await.expect(200)["posts"],
        // Not its total, which may be a minute old.
        "timeline": person.get("/timeline?limit=100").await.expect(200)["posts"],
        "following": person.get(&format!("/users/{id}/following")).await.expect(200)["users"],
        "followers": person.get(&format!("/users/{id}/followers")).await.expect(200)["users"],
    })
}

/// A press that is sent again where the room was moved to.
fn named_press() -> serde_json::Value {
    json!({"event_type": "jump", "viewer_id": "one", "press_id": "the first"})
}

/// A room is where it was, with a press in its count; its effects are kept until its host acknowledges
/// them, which it does not; three more presses make the next one.
async fn goes_on(ann: &Person, room: &str, pressed: &serde_json::Value, seq: u64) {
    assert_eq!(ann.rest.counts(room).await, [("jump".to_owned(), 1)]);
    assert_eq!(ann.rest.asks_to_press(room, named_press()).await.expect(200), *pressed);
    let mut host = ann.hosts(room).await;
    host.says(json!({"type": "ack", "seq": 0})).await;
    for kept in 1..=seq {
        assert_eq!(number(&host.frame().await, "seq"), kept);
    }
    for _ in 0..3 {
        ann.rest.presses(room, "jump", "one").await;
    }
    assert_eq!(number(&host.frame().await, "seq"), seq + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_moves_into_a_cluster_and_back_and_takes_everything_along() {
    let mut server = RealServer::start();
    if !server.stands_alone() {
        return;
    }
    let Some(keyspace) = Keyspace::new().await else { return };
    let (ann, eve) = (server.person("ann").await, server.person("eve").await);
    for number in 0..25 {
        ann.posts(&format!("before {number}")).await;
    }
    eve.follows(&ann).await;
    let liked = ann.posts("\u{1F426} after the follow").await;
    eve.post(&format!("/posts/{liked}/likes"), json!({})).await.expect(201);
    let gone = ann.posts("to be deleted").await;
    ann.deletes(&gone).await;
    let room = ann.makes_room_of(&[("jump", 3)]).await;
    let pressed = server.asks_to_press(&room, named_press()).await.expect(200);
    for _ in 0..3 {
        server.presses(&room, "jump", "two").await;
    }
    let cursor = eve.connects().await.cut();
    let before = (view(&ann).await, view(&eve).await);
    let (data, there) = (format!("sqlite:{}", server.data_dir().display()), keyspace.place());

    let pid = server.pid().to_string();
    refused(&copies(&server, &keyspace, &data, &there).await, 1, &pid);
    server.kill();
    let told = done(&copies(&server, &keyspace, &data, &there).await);
    let posts = told.lines().find(|line| line.starts_with("posts ")).unwrap_or_else(|| panic!("{told}"));
    assert_eq!(posts.split_whitespace().skip(1).take(2).collect::<Vec<_>>(), ["26", "26"]);
    refused(&copies(&server, &keyspace, &data, &there).await, 1, "already holds data");

    server.set("ROOST_SCYLLA_NODES", &keyspace.nodes);
    server.set("ROOST_SCYLLA_KEYSPACE", &keyspace.name);
    server.spawn();
    assert_eq!((view(&ann).await, view(&eve).await), before);
    ann.again().await;
    let refreshed =
        server.post("/auth/refresh", json!({"refresh_token": eve.refresh_token})).await.expect(200);
    let eve =
        Person { token: text(&refreshed, "token"), refresh_token: text(&refreshed, "refresh_token"), ..eve };
    let mut listening = eve.resumes(&cursor).await;
    assert_eq!(listening.expect("resync").await["reason"], "foreign");
    let next = ann.posts("in the cluster").await;
    listening.expect_post(&next).await;
    goes_on(&ann, &room, &pressed, 1).await;

    // And back, into another folder; the keyspace is in use until the server is gone.
    let again = server.folder().join("again");
    let back = format!("sqlite:{}", again.display());
    let before = (view(&ann).await, view(&eve).await);
    refused(&copies(&server, &keyspace, &there, &back).await, 1, "stop it first");
    server.kill();
    done(&copies(&server, &keyspace, &there, &back).await);
    std::fs::copy(server.data_dir().join("signing-key.pem"), again.join("signing-key.pem")).unwrap();
    server.set("ROOST_SCYLLA_NODES", "");
    server.set("ROOST_DATA_DIR", &again.display().to_string());
    server.spawn();
    assert_eq!((view(&ann).await, view(&eve).await), before);
    server.post("/auth/refresh", json!({"refresh_token": eve.refresh_token})).await.expect(200);
    ann.posts("at home again").await;
    goes_on(&ann, &room, &pressed, 2).await;
    server.kill();
    keyspace.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_killed_keeps_servers_out_until_it_was_gone_on_with() {
    let mut server = RealServer::prepare(&[]);
    if !server.stands_alone() {
        return;
    }
    let Some(keyspace) = Keyspace::new().await else { return };
    let author = fill(&server, 1_500).await;
    let (data, there) = (format!("sqlite:{}", server.data_dir().display()), keyspace.place());
    let arguments = ["copy", "--from", &data, "--to", &there, "--scylla-nodes", &keyspace.nodes];
    let mut command = server.command(&arguments);
    let mut copying = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    until("the copy is begun", async || keyspace.is_unfinished().await.then_some(())).await;
    copying.kill().unwrap();
    copying.wait().unwrap();
    assert!(keyspace.is_unfinished().await, "it was killed in the middle");

    server.set("ROOST_SCYLLA_NODES", &keyspace.nodes);
    server.set("ROOST_SCYLLA_KEYSPACE", &keyspace.name);
    refused(&server.runs(&["serve"]), 1, "holds a copy that is not whole");
    done(&copies(&server, &keyspace, &data, &there).await);
    server.spawn();
    let person = server.person("somebody").await;
    let profile = person.get(&format!("/users/{author}")).await.expect(200);
    assert_eq!(profile["posts_count"], 1_500);
    server.kill();
    keyspace.remove().await;
}

/// A database with an author and so many posts.
async fn fill(server: &RealServer, posts: usize) -> UserId {
    std::fs::create_dir_all(server.data_dir()).expect("a database");
    let file = server.data_dir().join("roost.db");
    let store = Store::open(Options { file, events: false, observer: Arc::new(Unobserved), readers: 1 });
    let store = store.expect("a database");
    let (id, created_at) = (UserId::make(), Timestamp::now());
    let username = Username::parse("author").expect("a database");
    let new = NewUser { id, email: None, username, password_hash: None, created_at };
    store.register(new).await.expect("a database");
    let mut newest = None;
    for number in 0..posts {
        let post = PostId::after(newest, created_at);
        newest = Some(post);
        let content = Content::parse(&format!("number {number}")).expect("a database");
        // Nobody waits for each: they are committed together.
        drop(store.append(NewPost { id: post, author: id, content, key: None, created_at, attempt: None }));
    }
    store.close().await.expect("a database");
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_copied_is_told_in_one_line() {
    let server = RealServer::prepare(&[]);
    if !server.stands_alone() {
        return;
    }
    let data = format!("sqlite:{}", server.data_dir().display());
    let run = |from: &str, to: &str| server.runs(&["copy", "--from", from, "--to", to]);
    refused(&run("postgres:x", "scylla:"), 2, "must be sqlite:FOLDER, scylla: or scylla:KEYSPACE");
    refused(&run("scylla:", "scylla:"), 2, "the same store");
    refused(&run(&data, &data), 2, "the same store");
    refused(&run(&data, "scylla:"), 1, "there is no database in it");
    refused(&run("scylla:", &data), 2, "scylla_nodes");
    refused(&run("scylla:Wrong-name", &data), 2, "scylla_nodes");
    fill(&server, 1).await;
    refused(&run(&data, "scylla:"), 2, "scylla_nodes");
}
