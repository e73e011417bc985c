//! Posts that come again because nobody knows what became of the first try: found among the author's newest entries,
//! by the request that their jobs name.
//!
//! It owns no table. What a former home left is decided before a new home takes a post (`recovery`), so what has its
//! place by then is all that can be found.

use super::Inner;
use super::jobs::Job;
use super::lane::{Author, RECENT};
use super::stamp::{self, column, from_column};
use crate::model::cursor::Seq;
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::{Attempt, EntryChange, KeyUse, NewPost, StorageError};
use futures_util::future::try_join_all;
use std::time::Duration;

/// The first try was made within this, by whichever node's clock.
const WITHIN: Duration = Duration::from_secs(120);

impl Inner {
    /// What an earlier try of the same request has stored, where there may have been one.
    pub(super) async fn stored_before(
        &self,
        author: &Author,
        post: &NewPost,
    ) -> Result<Option<KeyUse>, StorageError> {
        let Some(Attempt { request, is_repeat: true }) = post.attempt else { return Ok(None) };
        let oldest = stamp::at(Timestamp::now().before(WITHIN));
        let recent: Vec<Seq> =
            author.recent.iter().map(|seq| from_column(*seq)).filter(|seq| *seq >= oldest).collect();
        let is_that = |job: &Job| matches!(job, Job::Post { author, request: Some(of), .. } if *of == request && *author == post.author);
        let jobs = try_join_all(recent.iter().map(|seq| self.job(*seq))).await?;
        let mut found = recent.iter().zip(jobs).find_map(|(seq, job)| Some((*seq, job.filter(is_that)?)));
        if found.is_none() && recent.len() == RECENT {
            // More than the row remembers.
            let jobs = self.jobs_behind(&[Shard::of(post.author)], oldest).await?;
            for (seq, job) in jobs.into_iter().filter(|(_, job)| is_that(job)) {
                if author.recent.contains(&column(seq)) || self.is_shown(seq, &job).await? {
                    found = Some((seq, job));
                }
            }
        }
        let entry = found.and_then(|(seq, job)| job.entry(seq));
        Ok(entry.and_then(|entry| match entry.change {
            EntryChange::Posted { post: stored, .. } => {
                let body = post.key.as_ref().map_or([0; 32], |key| key.body);
                Some(KeyUse { body, post: stored })
            }
            EntryChange::Deleted { .. } => None,
        }))
    }
}
