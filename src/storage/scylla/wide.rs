//! Wide authors: those with so many followers that their entries are read from them, not fanned out.
//!
//! It owns `wide_authors`. An author stays in it for as long as an entry that was not fanned out may be shown or
//! missed; what was fanned out before or after is found in both places, and counts once by its stamp. The set
//! is kept for a second, so that a timeline's page does not ask for it; what this process adds is in it at once.

use super::Inner;
use super::cql::{Cql, statements};
use super::sources::Followed;
use super::stamp::{self, column};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::storage::StorageError;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// After so long the set is read again, by the way.
const FRESH: Duration = Duration::from_millis(1_000);
/// After so long whoever needs the set waits for it.
const STALE: Duration = Duration::from_millis(1_800);
/// The one partition there is.
const BUCKET: i32 = 0;

statements! {
    /// What wide authors need.
    Statements {
        all: Read, "SELECT author FROM wide_authors WHERE bucket = ?";
        mark: Write, "INSERT INTO wide_authors (bucket, author, last_wide) VALUES (?, ?, ?) USING TIMESTAMP ? AND TTL ?";
    }
}

/// The wide authors, as they were read last.
pub(super) struct Wide {
    statements: Statements,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    authors: Arc<HashSet<UserId>>,
    read_at: Option<Instant>,
    is_reading: bool,
    /// Counts the authors that this process added: what was read before does not have them.
    added: u64,
}

/// How old the set may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// About a second.
    Lately,
    /// Read now.
    Now,
}

impl Wide {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self, StorageError> {
        Ok(Self { statements: Statements::prepare(cql).await?, kept: Mutex::default() })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The wide authors whom a reader follows.
    pub(super) async fn followed_wide(
        self: &Arc<Self>,
        reader: UserId,
        freshness: Freshness,
    ) -> Result<HashMap<UserId, Followed>, StorageError> {
        let authors = self.wide_authors(freshness).await?;
        self.followed(reader, authors.iter().copied()).await
    }

    /// An author's entry is read from the author, for as long as `ttl` (seconds).
    pub(super) async fn mark_wide(&self, author: UserId, seq: Seq, ttl: i32) -> Result<(), StorageError> {
        let values = (BUCKET, author.0, column(seq), stamp::written_at(seq), ttl);
        self.cql.write(&self.wide.statements.mark, values).await?;
        let mut kept = self.wide.kept();
        kept.added += 1;
        if !kept.authors.contains(&author) {
            Arc::make_mut(&mut kept.authors).insert(author);
        }
        Ok(())
    }

    /// All wide authors.
    pub(super) async fn wide_authors(
        self: &Arc<Self>,
        freshness: Freshness,
    ) -> Result<Arc<HashSet<UserId>>, StorageError> {
        if freshness == Freshness::Lately {
            let mut kept = self.wide.kept();
            let age = kept.read_at.map(|read_at| read_at.elapsed());
            if let Some(age) = age.filter(|age| *age < STALE) {
                if age >= FRESH && !kept.is_reading {
                    kept.is_reading = true;
                    let inner = self.clone();
                    tokio::spawn(async move {
                        let read = inner.read_wide_authors().await;
                        inner.wide.kept().is_reading = false;
                        if let Err(error) = read {
                            tracing::debug!(%error, "wide authors were not read: {error}");
                        }
                    });
                }
                return Ok(kept.authors.clone());
            }
        }
        self.read_wide_authors().await
    }

    async fn read_wide_authors(&self) -> Result<Arc<HashSet<UserId>>, StorageError> {
        let (read_at, added) = (Instant::now(), self.wide.kept().added);
        let rows: Vec<(Uuid,)> = self.cql.rows(&self.wide.statements.all, (BUCKET,)).await?;
        let mut authors: HashSet<UserId> = rows.into_iter().map(|(author,)| UserId(author)).collect();
        let mut kept = self.wide.kept();
        if kept.added != added {
            // Added meanwhile: whether the reading has them is not known.
            authors.extend(kept.authors.iter().copied());
        }
        if kept.read_at.is_none_or(|newest| newest < read_at) {
            kept.authors = Arc::new(authors);
            kept.read_at = Some(read_at);
            return Ok(kept.authors.clone());
        }
        Ok(Arc::new(authors))
    }
}
