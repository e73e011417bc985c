//! The rows of a CQL cluster: what they hold after many changes of the same things at once, after answers were lost,
//! and after a run that ended in the middle. Users and posts are written as rows; whatever is counted is counted anew.

mod changes;
mod follows;

use crate::harness::engines::cql_nodes;
use crate::harness::fault_proxy::FaultProxy;
use roost::model::cursor::Seq;
use roost::model::id::{FollowId, PostId, UserId};
use roost::model::social::Follow;
use roost::model::timestamp::Timestamp;
use roost::storage::scylla::{Access, Nodes, Options, Replication, Store};
use roost::storage::{EntryObserver, Page};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

struct Nobody;

impl EntryObserver for Nobody {
    fn entering(&self, _: Seq, _: UserId) {}
    fn withdrawn(&self, _: Seq) {}
}

/// A keyspace of a test's own, and the way to its rows past any proxy.
pub struct Ground {
    pub access: Access,
    rows: Session,
}

impl Ground {
    pub async fn lay() -> Option<Self> {
        let nodes = cql_nodes()?;
        let keyspace = format!("rows_{}", Uuid::new_v4().simple());
        let access = Access {
            nodes: nodes.clone(),
            keyspace: keyspace.clone(),
            replication: Replication::default(),
            user: None,
            ca: None,
            translate: HashMap::new(),
        };
        access.apply().await.unwrap();
        let rows =
            SessionBuilder::new().known_nodes(&nodes).use_keyspace(keyspace, false).build().await.unwrap();
        Some(Self { access, rows })
    }

    pub async fn open(&self) -> Store {
        open(self.access.clone()).await
    }

    /// The store as a node among several uses it.
    pub async fn open_one_of_many(&self) -> Store {
        open_as(self.access.clone(), Nodes::Many).await
    }

    /// The store behind a proxy.
    pub async fn open_behind(&self, proxy: &FaultProxy) -> Store {
        let node: SocketAddr = self.access.nodes[0].parse().unwrap();
        let mut access = self.access.clone();
        access.nodes = vec![proxy.address().to_string()];
        // The driver asks for the address that it was given, too.
        access.translate = HashMap::from([(node, proxy.address()), (proxy.address(), proxy.address())]);
        open(access).await
    }

    pub async fn all<R>(&self, query: &str) -> Vec<R>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let found = self.rows.query_unpaged(query, ()).await.unwrap().into_rows_result().unwrap();
        found.rows::<R>().unwrap().map(Result::unwrap).collect()
    }

    pub async fn run(&self, statement: &str) {
        self.rows.query_unpaged(statement, ()).await.unwrap();
    }

    pub async fn users(&self, count: usize) -> Vec<UserId> {
        let mut users = Vec::new();
        for number in 0..count {
            let user = UserId::make();
            self.run(&format!(
                "INSERT INTO users (id, username) VALUES ({user}, 'user-{number}') IF NOT EXISTS"
            ))
            .await;
            users.push(user);
        }
        users
    }

    pub async fn post(&self, author: UserId) -> PostId {
        let post = PostId::make();
        self.run(&format!(
            "INSERT INTO posts (id, author, content, created_at, seq) VALUES ({post}, {author}, 'a', 1, 1)"
        ))
        .await;
        post
    }

    /// Waits until every job that was begun is done.
    pub async fn settled(&self) {
        let settled = async {
            loop {
                let jobs: Vec<(Option<bool>,)> = self.all("SELECT done FROM jobs").await;
                if jobs.iter().all(|(done,)| *done == Some(true)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(90), settled).await.expect("some job is never done");
    }

    pub async fn end(self) {
        self.run(&format!("DROP KEYSPACE {}", self.access.keyspace)).await;
    }
}

async fn open(access: Access) -> Store {
    open_as(access, Nodes::One).await
}

async fn open_as(access: Access, nodes: Nodes) -> Store {
    let options =
        Options { access, events: true, observer: Arc::new(Nobody), wide_author_followers: 10_000, nodes };
    Store::open(options).await.unwrap()
}

fn a_follow(follower: UserId, followee: UserId) -> Follow {
    Follow { id: FollowId::make(), follower, followee, created_at: Timestamp::now() }
}

const fn first(limit: usize) -> Page {
    Page { before: None, limit }
}
