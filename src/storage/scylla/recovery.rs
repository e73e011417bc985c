//! What was left half-way: by a former run, by the former home of a shard, by a node that died. Finished or void.
//!
//! An entry whose place was given is shown, and is on its way again. One whose place was not given never gets it:
//! its author's version is passed over by a lightweight transaction, so that one still under way cannot. What is not
//! an entry anybody may be at: it is finished at once where there is one node alone, else once it is a minute old; and
//! then again one that is still under way elsewhere is kept from going on (each kind's own file says how).

use super::Inner;
use super::cql::{Decision, statements};
use super::home::Left;
use super::jobs::Job;
use super::lane::{Author, RECENT};
use super::stamp::column;
use super::told::AT_ONCE;
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::storage::StorageError;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::BTreeMap;
use std::sync::Arc;

statements! {
    /// What recovery sends.
    Statements {
        shown: Read, "SELECT seq FROM posts WHERE id = ?";
    }
}

impl Inner {
    /// Decides what was left in shards whose home this node becomes: entries at once. What else may be under way
    /// elsewhere is left for later.
    pub(super) async fn recover(self: &Arc<Self>, left: &[Left]) -> Result<(), StorageError> {
        let (mut authors, mut others) = (BTreeMap::<UserId, Vec<(Seq, Job)>>::new(), Vec::new());
        for (seq, job) in left.iter().flat_map(|left| &left.jobs) {
            match job {
                Job::Post { author, .. } | Job::Delete { author, .. } if !self.is_on_its_way(*seq) => {
                    authors.entry(*author).or_default().push((*seq, job.clone()));
                }
                job if !job.is_entry() && !self.has_others() && !self.jobs.is_own(*seq) => {
                    others.push((*seq, job.clone()));
                }
                _ => {}
            }
        }
        if !authors.is_empty() || !others.is_empty() {
            tracing::info!(
                authors = authors.len(),
                others = others.len(),
                "finishing what a former run left"
            );
        }
        let entries = iter(authors).map(|(author, jobs)| {
            let inner = self.clone();
            async move { inner.redo_entries(author, jobs).await }
        });
        entries.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        let others = iter(others).map(|(seq, job)| {
            let inner = self.clone();
            async move { inner.redo(seq, job).await }
        });
        others.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    /// Finishes these jobs, which nobody seems to be at, as far as the cluster answers; answers the entries that are on
    /// their way by that. What is not finished is found again.
    pub(super) async fn finish_left(self: &Arc<Self>, left: Vec<(Seq, Job)>) -> Vec<(Seq, UserId)> {
        let (mut authors, mut others) = (BTreeMap::<UserId, Vec<(Seq, Job)>>::new(), Vec::new());
        for (seq, job) in left {
            match &job {
                Job::Post { author, .. } | Job::Delete { author, .. } => {
                    authors.entry(*author).or_default().push((seq, job));
                }
                _ => others.push((seq, job)),
            }
        }
        let entries = iter(authors).map(|(author, jobs)| {
            let inner = self.clone();
            async move {
                let opened = inner.redo_entries(author, jobs).await.unwrap_or_else(|error| {
                    tracing::warn!(%author, %error, "entries of {author} are left half-way: {error}");
                    Vec::new()
                });
                // It may have been passed over.
                inner.lanes.reread(|id| id == author);
                opened
            }
        });
        let opened: Vec<Vec<(Seq, UserId)>> = entries.buffer_unordered(AT_ONCE).collect().await;
        let others = iter(others).map(|(seq, job)| {
            let inner = self.clone();
            async move {
                if let Err(error) = inner.redo(seq, job).await {
                    tracing::warn!(%error, "a change is left half-way: {error}");
                }
            }
        });
        others.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        opened.into_iter().flatten().collect()
    }

    /// An author's entries, in their order: shown and on their way, or void. Answers the former.
    async fn redo_entries(
        self: &Arc<Self>,
        author: UserId,
        mut jobs: Vec<(Seq, Job)>,
    ) -> Result<Vec<(Seq, UserId)>, StorageError> {
        jobs.sort_unstable_by_key(|(seq, _)| *seq);
        let mut opened = Vec::new();
        for (seq, job) in jobs {
            if self.has_place(author, seq, &job).await? {
                self.show_entries(&[(seq, job)]).await?;
                self.open_entries([(seq, author)]);
                opened.push((seq, author));
            } else {
                self.end_job(seq);
            }
        }
        Ok(opened)
    }

    /// Whether an entry was given its place; if not, it never will be.
    async fn has_place(&self, id: UserId, seq: Seq, job: &Job) -> Result<bool, StorageError> {
        let (Job::Post { version, .. } | Job::Delete { version, .. }) = job else { return Ok(false) };
        loop {
            let author = self.author(id).await?;
            let reached = author.version.unwrap_or(0);
            if author.recent.contains(&column(seq)) {
                return Ok(true);
            }
            if reached >= version + RECENT as i64 {
                return self.is_shown(seq, job).await;
            }
            if reached >= *version {
                return Ok(false);
            }
            let passed = Author { version: Some(*version), ..author.clone() };
            if self.set_author(id, &author, &passed).await? == Decision::Applied {
                return Ok(false);
            }
        }
    }

    /// An entry so old that its author's row no longer remembers it: it was shown before the next took its place.
    pub(super) async fn is_shown(&self, seq: Seq, job: &Job) -> Result<bool, StorageError> {
        match job {
            Job::Post { id, .. } => {
                let row: Option<(Option<i64>,)> = self.cql.first(&self.recovery.shown, (id.0,)).await?;
                // The same id may have been tried again, under another number.
                Ok(row == Some((Some(column(seq)),)))
            }
            job => self.is_deletion_shown(seq, job).await,
        }
    }

    /// Finishes what was not an entry; each kind's own file says how.
    pub(super) async fn redo(self: &Arc<Self>, seq: Seq, job: Job) -> Result<(), StorageError> {
        match &job {
            Job::Follow { .. } => self.redo_follow(seq, &job).await?,
            Job::Like { .. } => self.redo_like(seq, &job).await?,
            Job::Register { .. } => self.redo_register(seq, &job).await?,
            Job::Rename { .. } => self.redo_rename(seq, &job).await?,
            Job::Post { .. } | Job::Delete { .. } => {}
        }
        self.end_job(seq);
        Ok(())
    }
}
