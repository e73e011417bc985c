//! Several nodes on one keyspace: each a store of its own, as processes on other machines have it.

mod chats;
mod claims;
mod homes;
mod inboxes;
mod left;
mod resumes;
mod tries;

use super::{Keyspace, RUNTIME, session};
use crate::harness::engines::cql_nodes;
use crate::storage::fixture::stored;
use crate::storage::observed::Observed;
use roost::model::cursor::Seq;
use roost::model::id::{PostId, UserId};
use roost::model::post::Content;
use roost::model::shard::Shard;
use roost::model::timestamp::Timestamp;
use roost::model::user::Username;
use roost::storage::scylla::{Nodes, Store};
use roost::storage::{Accounts, Attempt, Entry, FanOut, NewPost, NewUser, Posts, Registration};
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::serialize::row::SerializeRow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// A keyspace that several nodes use, and the way to its rows.
struct Field {
    keyspace: Keyspace,
    rows: Session,
}

/// Runs a test in a keyspace of its own.
fn run<F: Future<Output = ()>>(test: impl FnOnce(Field) -> F) {
    let Some(nodes) = cql_nodes() else { return };
    RUNTIME.block_on(async {
        let mut keyspace = Keyspace::new(&nodes);
        keyspace.node_count = Nodes::Many;
        keyspace.access.apply().await.unwrap();
        let rows = session(&nodes).await;
        rows.use_keyspace(keyspace.access.keyspace.clone(), false).await.unwrap();
        test(Field { keyspace, rows }).await;
    });
}

impl Field {
    async fn node(&self) -> Store {
        self.keyspace.open(Arc::new(Observed::default())).await
    }

    async fn execute(&self, text: &str, values: impl SerializeRow) {
        self.rows.query_unpaged(text, values).await.unwrap();
    }

    async fn all<R>(&self, text: &str, values: impl SerializeRow) -> Vec<R>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let found = self.rows.query_unpaged(text, values).await.unwrap().into_rows_result().unwrap();
        found.rows::<R>().unwrap().map(Result::unwrap).collect()
    }

    /// A job as a node left it.
    async fn leave_job(&self, seq: Seq, body: serde_json::Value) {
        let (shard, minute, seq) = key(seq);
        self.execute("INSERT INTO minutes (kind, shard, minute) VALUES ('jobs', ?, ?)", (shard, minute))
            .await;
        let text = "INSERT INTO jobs (shard, minute, seq, body) VALUES (?, ?, ?, ?)";
        self.execute(text, (shard, minute, seq, body.to_string())).await;
    }

    /// The job of a post that is its author's entry number `version`.
    async fn leave_post(&self, seq: Seq, author: UserId, version: i64) -> PostId {
        let id = PostId::make();
        let created_at = Timestamp::now().millis();
        let body = serde_json::json!({
            "kind": "post", "id": id, "author": author, "author_name": "anna", "content": "left",
            "created_at": created_at, "version": version, "key": null,
        });
        self.leave_job(seq, body).await;
        id
    }

    /// Its place, as its author's first entry.
    async fn place_post(&self, seq: Seq, id: PostId, author: UserId) {
        let placed = "UPDATE authors SET version = 1, newest = ?, newest_seq = ?, posts = 1, recent = ? \
                      WHERE id = ? IF version = null";
        let (_, _, seq) = key(seq);
        self.execute(placed, (id.0, seq, vec![seq], author.0)).await;
    }

    async fn is_done(&self, seq: Seq) -> bool {
        let text = "SELECT done FROM jobs WHERE shard = ? AND minute = ? AND seq = ?";
        let rows: Vec<(Option<bool>,)> = self.all(text, key(seq)).await;
        rows == [(Some(true),)]
    }

    async fn until_done(&self, seq: Seq) {
        let done = async || self.is_done(seq).await.then_some(());
        crate::harness::until("the job is marked done", done).await;
    }
}

/// Where a job's row is.
fn key(seq: Seq) -> (i32, i32, i64) {
    ((seq.0 & 0xff) as i32, (seq.0 >> 8).div_euclid(60_000_000) as i32, seq.0 as i64)
}

/// A stamp of a user's shard that was given so long ago.
fn stamp(user: UserId, ago: Duration) -> Seq {
    let micros = Timestamp::now().before(ago).millis().unsigned_abs() * 1_000;
    Seq((micros << 8) | u64::from(Shard::of(user).0))
}

fn all() -> Vec<Shard> {
    Shard::all().collect()
}

async fn user(node: &Store, name: &str) -> UserId {
    let new = NewUser {
        id: UserId::make(),
        email: None,
        username: Username::parse(name).unwrap(),
        password_hash: None,
        created_at: Timestamp::now(),
    };
    let Registration::Made(user) = node.register(new).await.unwrap() else { panic!("{name} is taken") };
    user.id
}

fn draft(author: UserId, text: &str) -> NewPost {
    NewPost {
        id: PostId::make(),
        author,
        content: Content::parse(text).unwrap(),
        key: None,
        created_at: Timestamp::now(),
        attempt: None,
    }
}

fn try_of(request: Uuid, is_repeat: bool) -> Option<Attempt> {
    Some(Attempt { request, is_repeat })
}

/// Posts, and fans it out.
async fn post(node: &Store, author: UserId, text: &str) -> (Seq, PostId) {
    let draft = draft(author, text);
    let id = draft.id;
    let seq = stored(node.append(draft).await.unwrap()).seq;
    node.fan_out(seq).await.unwrap();
    (seq, id)
}

fn places(entries: &[Entry]) -> Vec<Seq> {
    entries.iter().map(|entry| entry.seq).collect()
}

#[test]
fn nodes_that_open_an_empty_keyspace_at_once_have_the_same_store_and_no_stamp_twice() {
    let Some(cql) = cql_nodes() else { return };
    RUNTIME.block_on(async {
        use roost::storage::Timelines;
        let mut keyspace = Keyspace::new(&cql);
        keyspace.node_count = Nodes::Many;
        let nodes =
            futures_util::future::join_all((0..4).map(|_| keyspace.open(Arc::new(Observed::default()))));
        let nodes = nodes.await;
        assert!(nodes.iter().all(|node| node.store_name() == nodes[0].store_name()));
        let mut numbers = BTreeSet::new();
        for (number, node) in nodes.iter().enumerate() {
            let author = user(node, &format!("user-{number}")).await;
            let (seq, _) = post(node, author, "text").await;
            let (again, _) = post(node, author, "text").await;
            assert_eq!((seq.0 >> 8) % 64, (again.0 >> 8) % 64, "a node has one number");
            numbers.insert((seq.0 >> 8) % 64);
        }
        assert_eq!(numbers.len(), nodes.len());
        assert!(!numbers.contains(&0), "0 is the lone node's");
    });
}
