//! The number of a node among those that use a keyspace at a time: what makes its stamps its own (`stamp`).
//!
//! It owns the rows `stamps-N` of `node_claims`, which last [`KEPT_SECONDS`] and are renewed; the number of a node
//! that ended is free after that. The lone node of a keyspace needs none: it is 0.

use super::Inner;
use super::cql::{Cql, Decision, Use};
use super::stamp::STEP;
use crate::storage::StorageError;
use scylla::statement::prepared::PreparedStatement;
use std::sync::Weak;
use std::time::Duration;
use uuid::Uuid;

/// For so long a number is a node's after the node renewed it last.
const KEPT_SECONDS: i32 = 120;
/// Between two renewals.
const RENEW: Duration = Duration::from_secs(20);

/// A number that is this process's own while it renews it.
pub(super) struct Number {
    value: u64,
    boot: Uuid,
    statements: Statements,
}

struct Statements {
    read: PreparedStatement,
    write: PreparedStatement,
}

impl Number {
    /// Takes one that is free.
    pub(super) async fn take(cql: &Cql) -> Result<Self, StorageError> {
        let write =
            format!("UPDATE node_claims USING TTL {KEPT_SECONDS} SET boot = ? WHERE name = ? IF boot = ?");
        let statements = Statements {
            read: cql.prepare(Use::Decide, "SELECT boot FROM node_claims WHERE name = ?").await?,
            write: cql.prepare(Use::Claim, &write).await?,
        };
        let mut number = Self { value: 0, boot: Uuid::new_v4(), statements };
        number.take_another(cql).await?;
        Ok(number)
    }

    pub(super) const fn value(&self) -> u64 {
        self.value
    }

    async fn take_another(&mut self, cql: &Cql) -> Result<(), StorageError> {
        // By chance: nodes that start at once seldom meet.
        let first = Uuid::new_v4().as_u64_pair().1;
        for step in 0..STEP - 1 {
            let value = 1 + first.wrapping_add(step) % (STEP - 1);
            if self.hold(cql, value, None).await? {
                self.value = value;
                return Ok(());
            }
        }
        let why = format!("{} nodes use the keyspace, or did two minutes ago: as many as can", STEP - 1);
        Err(StorageError::Unavailable(why))
    }

    /// Writes it down as this process's own where it is `now`'s; answers whether it is.
    async fn hold(&self, cql: &Cql, value: u64, now: Option<Uuid>) -> Result<bool, StorageError> {
        let name = format!("stamps-{value}");
        match cql.decide(&self.statements.write, (self.boot, &name, now)).await? {
            Decision::Applied => Ok(true),
            Decision::Refused | Decision::Unknown => {
                let row: Option<(Option<Uuid>,)> = cql.first(&self.statements.read, (&name,)).await?;
                Ok(row == Some((Some(self.boot),)))
            }
        }
    }

    /// Renews it for as long as the store is open.
    pub(super) async fn keep(mut self, store: Weak<Inner>) {
        loop {
            tokio::time::sleep(RENEW).await;
            let Some(inner) = store.upgrade() else { return };
            let renewed = async {
                let is_ours = self.hold(&inner.cql, self.value, Some(self.boot)).await?
                    || self.hold(&inner.cql, self.value, None).await?;
                if !is_ours {
                    self.take_another(&inner.cql).await?;
                    tracing::warn!("another node has this one's number for stamps: it has a new one");
                    inner.clock.renumber(self.value);
                }
                Ok::<_, StorageError>(())
            };
            if let Err(error) = renewed.await {
                tracing::debug!(%error, "the number for stamps was not renewed: {error}");
            }
        }
    }
}
