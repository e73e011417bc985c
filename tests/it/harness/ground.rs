//! What a test's server stands on: its data folder alone, or, where `ROOST_TEST_ENGINES` says `shared`, a
//! keyspace and a database of Redis of its own beside it. `tests/run` runs what clients rely on with both.

use super::engines::{cql_nodes, redis_url};
use roost::config::Config;
use scylla::client::session_builder::SessionBuilder;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use uuid::Uuid;

/// Redis has so many databases; the first is others'.
const DATABASES: usize = 16;

/// A keyspace and a database of one server's own; the keyspace goes with it.
pub struct Ground {
    keyspace: Keyspace,
    redis: String,
}

/// A keyspace of somebody's own on the shared CQL servers; dropped, it is removed there.
pub struct Keyspace {
    nodes: Vec<String>,
    name: String,
}

impl Ground {
    /// Whether servers stand on shared engines.
    pub fn is_shared() -> bool {
        match std::env::var("ROOST_TEST_ENGINES").as_deref() {
            Ok("shared") => true,
            Ok("") | Err(_) => false,
            Ok(other) => panic!("ROOST_TEST_ENGINES is shared or nothing, not {other}"),
        }
    }

    /// A new one, where servers stand on shared engines.
    pub fn here() -> Option<Self> {
        if !Self::is_shared() {
            return None;
        }
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = 1 + NEXT.fetch_add(1, Ordering::Relaxed) % (DATABASES - 1);
        let (nodes, redis) = (cql_nodes()?, redis_url()?);
        empty(&redis, number);
        Some(Self {
            keyspace: Keyspace::on(nodes),
            redis: format!("{}/{number}", redis.trim_end_matches('/')),
        })
    }

    /// As settings of a server in this process.
    pub fn settle(&self, config: &mut Config) {
        config.scylla_nodes =
            self.keyspace.nodes.iter().map(|node| node.parse().expect("host:port")).collect();
        config.scylla_keyspace = self.keyspace.name.parse().expect("a keyspace's name");
        config.redis_url = Some(self.redis.parse().expect("a Redis"));
    }

    /// As variables of a process.
    pub fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("ROOST_SCYLLA_NODES", self.keyspace.nodes.join(",")),
            ("ROOST_SCYLLA_KEYSPACE", self.keyspace.name.clone()),
            ("ROOST_REDIS_URL", self.redis.clone()),
        ]
    }
}

impl Keyspace {
    /// One that nobody else has; whoever uses it first makes it.
    pub fn on(nodes: Vec<String>) -> Self {
        Self { nodes, name: format!("t{}", Uuid::new_v4().simple()) }
    }

    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        let (nodes, keyspace) = (self.nodes.clone(), self.name.clone());
        // A runtime of its own: the test's may be ending. What is not dropped in time goes with the engine.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                if let Ok(session) = SessionBuilder::new().known_nodes(&nodes).build().await {
                    let _ = session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {keyspace}"), ()).await;
                }
            });
        });
    }
}

/// Empties a database of Redis.
fn empty(url: &str, database: usize) {
    let address = url.trim_start_matches("redis://").trim_end_matches('/');
    let mut redis = TcpStream::connect(address).expect("Redis answers");
    redis.write_all(format!("SELECT {database}\r\nFLUSHDB\r\nQUIT\r\n").as_bytes()).expect("Redis listens");
    let mut said = String::new();
    redis.read_to_string(&mut said).expect("Redis answers");
    assert_eq!(said, "+OK\r\n+OK\r\n+OK\r\n");
}
