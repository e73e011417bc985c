//! The schema of a keyspace: made, brought up to date, and looked at.
//!
//! Several nodes may do it at once: who changes it holds a claim in the keyspace. A keyspace of a newer
//! version than this program's is refused, untouched.

use super::cql::Cql;
use super::replication::Replication;
use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::policies::load_balancing::{
    LoadBalancingPolicy, NodeIdentifier, SingleTargetLoadBalancingPolicy,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// What a keyspace of this version has.
pub const SCHEMA: &str = include_str!("schema.cql");
/// This version.
pub const VERSION: i64 = 3;
/// The claim of one who changes the schema is given up for dead after so long without renewal.
const LOCK_SECONDS: i32 = 8;
/// It is renewed before the next statement where the last time was so long ago.
const RENEW: Duration = Duration::from_secs(2);
/// How long to wait for another who changes it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a keyspace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It was made by a newer version.
    #[error(
        "keyspace {keyspace} has schema version {found}; this program knows up to {VERSION}: use a newer one"
    )]
    Newer {
        /// Which.
        keyspace: String,
        /// What it has.
        found: i64,
    },
    /// A table is there that is not of this program.
    #[error(
        "keyspace {keyspace} holds tables of something else: give Roost a keyspace of its own (scylla_keyspace)"
    )]
    Foreign {
        /// Which.
        keyspace: String,
    },
    /// Somebody else has been changing it for too long.
    #[error(
        "keyspace {keyspace}: another node has been changing the schema for two minutes; look at its log"
    )]
    Locked {
        /// Which.
        keyspace: String,
    },
    /// It cannot be kept where it is told to be.
    #[error(
        "{replication} is not how this cluster can keep keyspace {keyspace} ({why}): give a number, or its datacenters"
    )]
    Replication {
        /// Which.
        keyspace: String,
        /// What was asked for.
        replication: String,
        /// What the cluster said.
        why: String,
    },
    /// Not enough of those who keep it are there.
    #[error(
        "keyspace {keyspace} needs {required} nodes of those that keep it, and {alive} answer: start the others, \
         or have fewer copies"
    )]
    TooFewNodes {
        /// Which.
        keyspace: String,
        /// How many must answer.
        required: i32,
        /// How many do.
        alive: i32,
    },
    /// The user may not.
    #[error("the user may not use keyspace {keyspace}: {why}")]
    Forbidden {
        /// Which.
        keyspace: String,
        /// What the cluster said.
        why: String,
    },
    /// The cluster said no.
    #[error("keyspace {keyspace}: {why}")]
    Failed {
        /// Which.
        keyspace: String,
        /// What it said.
        why: String,
    },
}

impl SchemaError {
    /// The setting that an operator looks at first.
    #[must_use]
    pub const fn setting(&self) -> &'static str {
        match self {
            Self::Replication { .. } | Self::TooFewNodes { .. } => "scylla_replication",
            Self::Forbidden { .. } => "scylla_user",
            _ => "scylla_keyspace",
        }
    }

    /// Whether it is no use to try again: nobody who makes the same keyspace meanwhile is the reason.
    const fn is_final(&self) -> bool {
        matches!(self, Self::Replication { .. } | Self::TooFewNodes { .. } | Self::Forbidden { .. })
    }
}

/// What a keyspace is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is no such keyspace, or nothing of ours in it.
    Missing,
    /// It has this version.
    Version(i64),
}

/// The statements of the schema, one by one.
pub fn statements() -> impl Iterator<Item = &'static str> {
    SCHEMA.split_inclusive(";\n").filter(|text| {
        text.lines().any(|line| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with("--")
        })
    })
}

/// What the keyspace is now.
pub(super) async fn status(session: &Session, keyspace: &str) -> Result<Status, SchemaError> {
    let tables: Vec<(String,)> = query(
        session,
        keyspace,
        &format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}'"),
    )
    .await?;
    if tables.is_empty() {
        return Ok(Status::Missing);
    }
    if !tables.iter().any(|(name,)| name == "schema_version") {
        return Err(SchemaError::Foreign { keyspace: keyspace.to_owned() });
    }
    let read = format!("SELECT version FROM {keyspace}.schema_version WHERE id = 0");
    let answer = match request(session, &read).await {
        // It is listed before it can be read: another node is making it at this moment.
        Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Invalid, _))) => {
            return Ok(Status::Missing);
        }
        answer => answer.map_err(|error| refused(keyspace, &error))?,
    };
    let found: Vec<(Option<i64>,)> = super::cql::read(answer).map_err(|error| failed(keyspace, &error))?;
    match found.first().and_then(|(version,)| *version) {
        Some(version) if version > VERSION => {
            Err(SchemaError::Newer { keyspace: keyspace.to_owned(), found: version })
        }
        Some(version) => Ok(Status::Version(version)),
        None => Ok(Status::Missing),
    }
}

/// Makes the keyspace and brings it to this version, unless it is there already.
pub(super) async fn apply(
    session: &Session,
    keyspace: &str,
    replication: &Replication,
) -> Result<(), SchemaError> {
    let mut wait = Duration::from_millis(100);
    let until = Instant::now() + PATIENCE;
    loop {
        if status(session, keyspace).await? == Status::Version(VERSION) {
            return Ok(());
        }
        match try_apply(session, keyspace, replication).await {
            Ok(true) => return Ok(()),
            Err(error) if error.is_final() => return Err(error),
            // Another one is at it, or came in between.
            outcome if Instant::now() < until => {
                if let Err(error) = outcome {
                    tracing::info!(%error, "the schema is not there yet: {error}");
                }
            }
            Ok(false) => return Err(SchemaError::Locked { keyspace: keyspace.to_owned() }),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(2));
    }
}

/// One try; answers whether it was this one that did it.
async fn try_apply(
    session: &Session,
    keyspace: &str,
    replication: &Replication,
) -> Result<bool, SchemaError> {
    let run = |text: String| async move { execute(session, keyspace, &text).await };
    let make = format!("CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {}", replication.cql());
    request(session, &make).await.map_err(|error| unkept(keyspace, replication, &error))?;
    run(format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.schema_version (id int PRIMARY KEY, version bigint, holder uuid)"
    ))
    .await?;
    let holder = Uuid::new_v4();
    let claim = format!(
        "UPDATE {keyspace}.schema_version USING TTL {LOCK_SECONDS} SET holder = {holder} WHERE id = 0 IF holder = null"
    );
    if !is_applied(execute(session, keyspace, &claim).await?, keyspace)? {
        return Ok(false);
    }
    let renew = format!(
        "UPDATE {keyspace}.schema_version USING TTL {LOCK_SECONDS} SET holder = {holder} WHERE id = 0 IF holder = {holder}"
    );
    let mut renewed = Instant::now();
    for statement in statements() {
        if renewed.elapsed() > RENEW {
            if !is_applied(execute(session, keyspace, &renew).await?, keyspace)? {
                return Ok(false);
            }
            renewed = Instant::now();
        }
        run(statement.replace("IF NOT EXISTS ", &format!("IF NOT EXISTS {keyspace}."))).await?;
    }
    run(format!(
        "UPDATE {keyspace}.schema_version SET version = {VERSION}, holder = null WHERE id = 0 IF holder = {holder}"
    ))
    .await?;
    Ok(true)
}

async fn execute(
    session: &Session,
    keyspace: &str,
    text: &str,
) -> Result<scylla::response::query_result::QueryResult, SchemaError> {
    request(session, text).await.map_err(|error| refused(keyspace, &error))
}

async fn request(
    session: &Session,
    text: &str,
) -> Result<scylla::response::query_result::QueryResult, ExecutionError> {
    let mut statement = scylla::statement::Statement::new(text);
    // Making twenty tables on a small machine takes its time.
    statement.set_request_timeout(Some(Duration::from_secs(30)));
    statement.set_load_balancing_policy(one_for_all(session));
    session.query_unpaged(statement, ()).await
}

/// The same CQL node for whoever asks: two that make one table at once through two nodes of Apache Cassandra give it
/// two ids, and the cluster does not agree on it any more. One node does one after the other.
fn one_for_all(session: &Session) -> Option<Arc<dyn LoadBalancingPolicy>> {
    let state = session.get_cluster_state();
    let there = state.get_nodes_info().iter().filter(|node| node.is_connected());
    let first = there.min_by_key(|node| node.host_id)?;
    Some(SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(first.clone()), None))
}

/// Why a keyspace was not made.
fn unkept(keyspace: &str, replication: &Replication, error: &ExecutionError) -> SchemaError {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::ConfigError | DbError::Invalid,
            why,
        )) => SchemaError::Replication {
            keyspace: keyspace.to_owned(),
            replication: replication.to_string(),
            why: why.clone(),
        },
        error => refused(keyspace, error),
    }
}

/// Why a statement was not done.
fn refused(keyspace: &str, error: &ExecutionError) -> SchemaError {
    let keyspace = keyspace.to_owned();
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(kind, why)) => match kind {
            DbError::Unavailable { required, alive, .. } => {
                SchemaError::TooFewNodes { keyspace, required: *required, alive: *alive }
            }
            DbError::Unauthorized => SchemaError::Forbidden { keyspace, why: why.clone() },
            _ => failed(&keyspace, error),
        },
        error => failed(&keyspace, error),
    }
}

fn is_applied(
    answer: scylla::response::query_result::QueryResult,
    keyspace: &str,
) -> Result<bool, SchemaError> {
    super::cql::is_applied(answer).map_err(|error| failed(keyspace, &error))
}

async fn query<R>(session: &Session, keyspace: &str, text: &str) -> Result<Vec<R>, SchemaError>
where
    R: for<'frame, 'metadata> scylla::deserialize::row::DeserializeRow<'frame, 'metadata>,
{
    let result = execute(session, keyspace, text).await?;
    super::cql::read(result).map_err(|error| failed(keyspace, &error))
}

fn failed(keyspace: &str, why: &dyn std::fmt::Display) -> SchemaError {
    SchemaError::Failed { keyspace: keyspace.to_owned(), why: why.to_string() }
}

/// The store's name, made with the keyspace.
pub(super) async fn store_name(
    cql: &Cql,
) -> Result<crate::model::cursor::StoreName, crate::storage::StorageError> {
    use super::cql::Use;
    use crate::model::cursor::StoreName;
    let read = cql.prepare(Use::Decide, "SELECT value FROM meta WHERE name = 'store_name'").await?;
    let make = cql
        .prepare(Use::Claim, "INSERT INTO meta (name, value) VALUES ('store_name', ?) IF NOT EXISTS")
        .await?;
    loop {
        let found: Option<(i64,)> = cql.first(&read, ()).await?;
        if let Some((value,)) = found {
            return Ok(StoreName(value as u64));
        }
        // Whoever comes first names it; then it is read.
        cql.decide(&make, (StoreName::make().0 as i64,)).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::statements;

    #[test]
    fn each_statement_of_the_schema_makes_one_table() {
        let all: Vec<_> = statements().collect();
        assert!(all.len() > 20, "{}", all.len());
        assert!(all.iter().all(|text| text.matches("CREATE TABLE IF NOT EXISTS ").count() == 1));
    }
}
