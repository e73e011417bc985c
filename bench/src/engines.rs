//! The engines that a server of a run stands on where it is told of some: a CQL cluster, with Redis or without.
//!
//! It knows what the server keeps where (`src/storage/scylla/schema.cql`; `timeline:{user}` in Redis), reads the same
//! rows through the bare driver, and writes past the API what REST could not bring in reasonable time. The keyspace
//! is a run's own and goes with it.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::stream::{StreamExt, TryStreamExt, iter};
use scylla::DeserializeRow;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::error::{Error, Result, io_error};

/// Writes under way at once: as many as one fan-out of the server.
const AT_ONCE: usize = 128;
/// The first shard of followers that are written past the API where others follow through it, and how many are in each.
const OUT_OF_THE_WAY: i32 = 1_000;
const CROWD_SHARD: u32 = 10_000;
/// For how long a timeline's row is kept, in seconds.
const TTL: i32 = 2_592_000;

/// Where they are.
#[derive(Debug, Clone, clap::Args)]
pub struct Engines {
    /// Lets the server keep everything in this CQL cluster (`host:port`, by comma), in a keyspace that goes after the run.
    #[arg(long, global = true, value_delimiter = ',', value_name = "NODES")]
    pub scylla_nodes: Vec<String>,
    /// Lets the server use this Redis (`host:port`); it is emptied.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub redis: Option<SocketAddr>,
    /// Which of several keyspaces of a run.
    #[arg(skip)]
    pub part: &'static str,
}

impl Engines {
    /// What the server is told of them.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = Vec::new();
        if !self.scylla_nodes.is_empty() {
            environment.push(("ROOST_SCYLLA_NODES", self.scylla_nodes.join(",")));
            environment.push(("ROOST_SCYLLA_KEYSPACE", self.keyspace()));
        }
        if let Some(redis) = self.redis {
            environment.push(("ROOST_REDIS_URL", format!("redis://{redis}")));
        }
        environment
    }

    /// Makes both empty for the next server.
    pub async fn clear(&self) -> Result<()> {
        if !self.scylla_nodes.is_empty() {
            let drop = format!("DROP KEYSPACE IF EXISTS {}", self.keyspace());
            session(&self.scylla_nodes)
                .await?
                .query_unpaged(drop, ())
                .await
                .map_err(cql("dropping a keyspace"))?;
        }
        if let Some(redis) = self.redis {
            Redis::connect(redis).await?.call("FLUSHALL").await?;
        }
        Ok(())
    }

    /// The same engines with a keyspace of its own, for a server beside others of the run.
    pub fn beside(&self, part: &'static str) -> Self {
        Self { part, ..self.clone() }
    }

    fn keyspace(&self) -> String {
        format!("roost_bench_{}{}", std::process::id(), self.part)
    }

    /// What they are called in a report.
    pub fn name(&self) -> &'static str {
        match (self.scylla_nodes.is_empty(), self.redis) {
            (true, None) => "SQLite",
            (true, Some(_)) => "SQLite and Redis",
            (false, None) => "CQL",
            (false, Some(_)) => "CQL and Redis",
        }
    }
}

fn cql<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Refused(format!("{what}: {error}"))
}

async fn session(nodes: &[String]) -> Result<Session> {
    SessionBuilder::new().known_nodes(nodes).build().await.map_err(cql("connecting to the CQL cluster"))
}

/// The server's keyspace, through the bare driver.
#[derive(Debug)]
pub struct Bare {
    session: Session,
    page: PreparedStatement,
    posts: PreparedStatement,
    post_seq: PreparedStatement,
    insert: PreparedStatement,
    entry: PreparedStatement,
    entries: PreparedStatement,
    follower: PreparedStatement,
    followers: PreparedStatement,
}

/// An entry of a timeline, as its row has it.
#[derive(Debug, DeserializeRow)]
struct Entry {
    #[expect(dead_code, reason = "read as the server reads it")]
    seq: i64,
    post: Uuid,
    #[expect(dead_code, reason = "read as the server reads it")]
    author: Uuid,
    #[expect(dead_code, reason = "read as the server reads it")]
    created_at: i64,
}

impl Bare {
    /// Connects and prepares what is asked; the server has made the keyspace.
    pub async fn connect(engines: &Engines) -> Result<Self> {
        let session = session(&engines.scylla_nodes).await?;
        session.use_keyspace(engines.keyspace(), false).await.map_err(cql("using the server's keyspace"))?;
        let prepare = async |text: &str| {
            let mut statement = session.prepare(text).await.map_err(cql("preparing a statement"))?;
            statement.set_is_idempotent(true);
            statement.set_consistency(Consistency::LocalQuorum);
            Ok::<_, Error>(statement)
        };
        Ok(Self {
            page: prepare(
                "SELECT seq, post, author, created_at FROM home_timeline WHERE reader = ? AND day = ? LIMIT 20",
            )
            .await?,
            posts: prepare(
                "SELECT id, author, content, created_at, deleted_at, likes FROM posts WHERE id IN ?",
            )
            .await?,
            post_seq: prepare("SELECT seq FROM posts WHERE id = ?").await?,
            insert: prepare(
                "INSERT INTO home_timeline (reader, day, seq, post, author, created_at) VALUES (?, ?, ?, ?, ?, ?)
                 USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            entry: prepare("SELECT post FROM home_timeline WHERE reader = ? AND day = ? AND seq = ?").await?,
            entries: prepare("SELECT seq FROM home_timeline WHERE reader = ? AND day = ?").await?,
            follower: prepare(
                "INSERT INTO followers_by_place (followee, shard, place, follower) VALUES (?, ?, ?, ?)",
            )
            .await?,
            followers: prepare("UPDATE follow_counts SET followers[?] = ? WHERE user = ?").await?,
            session,
        })
    }

    /// Reads today's newest entries of a reader, then their posts; answers how many.
    pub async fn page(&self, reader: Uuid) -> Result<usize> {
        let rows = self.session.execute_unpaged(&self.page, (reader, today())).await;
        let rows = rows.and_then_rows()?;
        let posts: Vec<Uuid> = rows
            .rows::<Entry>()
            .map_err(cql("an entry"))?
            .map(|row| row.map(|entry| entry.post))
            .collect::<std::result::Result<_, _>>()
            .map_err(cql("an entry"))?;
        let rows = self.session.execute_unpaged(&self.posts, (posts,)).await.and_then_rows()?;
        Ok(rows.rows_num())
    }

    /// Gives an author followers who are nobody's accounts, the newest first in the answer.
    pub async fn add_followers(&self, author: Uuid, count: u32) -> Result<Vec<Uuid>> {
        self.add_shard(author, 0, count).await
    }

    /// Likewise, in shards that no follow of the API comes to, so that its counts and these stand beside each other.
    pub async fn add_crowd(&self, author: Uuid, count: u32, each: impl Fn(u64)) -> Result<()> {
        let mut left = count;
        for shard in OUT_OF_THE_WAY.. {
            if left == 0 {
                break;
            }
            let now = left.min(CROWD_SHARD);
            self.add_shard(author, shard, now).await?;
            each(u64::from(now));
            left -= now;
        }
        Ok(())
    }

    async fn add_shard(&self, author: Uuid, shard: i32, count: u32) -> Result<Vec<Uuid>> {
        let first = stamp(micros());
        let readers: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        let rows = readers.iter().zip(0_i64..).map(|(reader, number)| {
            self.session.execute_unpaged(&self.follower, (author, shard, first - number * 256, *reader))
        });
        iter(rows)
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| ready())
            .await
            .map_err(cql("adding followers"))?;
        let counted = self.session.execute_unpaged(&self.followers, (shard, i64::from(count), author)).await;
        counted.map_err(cql("counting followers"))?;
        Ok(readers)
    }

    /// Inserts an entry for each of them, as a loop around the driver would.
    pub async fn insert(&self, readers: &[Uuid], author: Uuid) -> Result<()> {
        let at = micros();
        let (day, seq, post) = (day(at), stamp(at), Uuid::now_v7());
        let created_at = at as i64 / 1_000;
        let rows = readers.iter().map(|reader| {
            let row = (*reader, day, seq, post, author, created_at, at as i64, TTL);
            self.session.execute_unpaged(&self.insert, row)
        });
        iter(rows).buffer_unordered(AT_ONCE).try_for_each(|_| ready()).await.map_err(cql("inserting"))
    }

    /// How many entries of today a reader's timeline has.
    pub async fn entries(&self, reader: Uuid) -> Result<usize> {
        let rows = self.session.execute_unpaged(&self.entries, (reader, today())).await.and_then_rows()?;
        Ok(rows.rows_num())
    }

    /// The number of a post's entry.
    pub async fn seq(&self, post: Uuid) -> Result<i64> {
        let rows = self.session.execute_unpaged(&self.post_seq, (post,)).await.and_then_rows()?;
        let (seq,) = rows.single_row::<(i64,)>().map_err(cql("a post's number"))?;
        Ok(seq)
    }

    /// Whether a reader's timeline has this entry.
    pub async fn has(&self, reader: Uuid, seq: i64) -> Result<bool> {
        let key = (reader, day((seq >> 8) as u64), seq);
        let rows = self.session.execute_unpaged(&self.entry, key).await.and_then_rows()?;
        Ok(rows.rows_num() == 1)
    }

    /// How many of them have this entry.
    pub async fn count(&self, readers: &[Uuid], seq: i64) -> Result<usize> {
        let found = iter(readers).map(|reader| self.has(*reader, seq)).buffer_unordered(AT_ONCE);
        found.try_fold(0, async |count, has| Ok(count + usize::from(has))).await
    }
}

/// Rows of an answer.
trait Rows {
    fn and_then_rows(self) -> Result<scylla::response::query_result::QueryRowsResult>;
}

impl<E: std::fmt::Display> Rows for std::result::Result<scylla::response::query_result::QueryResult, E> {
    fn and_then_rows(self) -> Result<scylla::response::query_result::QueryRowsResult> {
        self.map_err(cql("reading"))?.into_rows_result().map_err(cql("reading"))
    }
}

async fn ready<E>() -> std::result::Result<(), E> {
    Ok(())
}

fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// A stamp of shard 0.
fn stamp(micros: u64) -> i64 {
    (micros << 8) as i64
}

fn day(micros: u64) -> i32 {
    (micros / 86_400_000_000) as i32
}

fn today() -> i32 {
    day(micros())
}

/// A connection to Redis that sends inline commands (the protocol's own for use by hand), one at a time.
#[derive(Debug)]
pub struct Redis(TcpStream);

impl Redis {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect(address).await.map_err(io_error(format!("connecting to {address}")))?;
        stream.set_nodelay(true).map_err(io_error("no delay"))?;
        Ok(Self(stream))
    }

    /// Sends a command that is answered by one line.
    pub async fn call(&mut self, command: &str) -> Result<()> {
        let failed = |source| Error::Io { what: format!("{command} to Redis"), source };
        self.0.write_all(format!("{command}\r\n").as_bytes()).await.map_err(failed)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n") {
            if self.0.read_buf(&mut answer).await.map_err(failed)? == 0 {
                return Err(Error::Refused("Redis closed the connection".to_owned()));
            }
        }
        if answer.starts_with(b"-") {
            return Err(Error::Refused(format!(
                "{command}: Redis: {}",
                String::from_utf8_lossy(&answer).trim()
            )));
        }
        Ok(())
    }

    /// Forgets the cached pages of a user's timeline.
    pub async fn forget_pages(&mut self, user: Uuid) -> Result<()> {
        self.call(&format!("DEL timeline:{user}")).await
    }
}
