//! Reading one's timeline.
//!
//! The list of places comes from the store every time, so that no page shows a deleted post or hides a
//! new one; the posts at those places come from the cache, if it has them for that very list.

use super::ServiceError;
use crate::model::cursor::{PageCursor, Seq};
use crate::model::post::PostView;
use crate::model::timestamp::Timestamp;
use crate::model::user::Caller;
use crate::storage::volatile::{CachedPage, TimelineCache};
use crate::storage::{Place, TIMELINE_ENTRIES, TimelineFrom, Timelines};
use std::sync::Arc;

/// What can be read.
pub struct Timeline {
    timelines: Arc<dyn Timelines>,
    cache: Arc<dyn TimelineCache>,
}

/// Which part of the timeline.
#[derive(Clone, Copy, Debug)]
pub struct TimelineRequest {
    /// Posts at most.
    pub limit: usize,
    /// Where it begins.
    pub from: From,
}

/// Where a part of the timeline begins.
#[derive(Clone, Copy, Debug)]
pub enum From {
    /// At the newest.
    Start,
    /// Where a former page ended.
    Cursor(PageCursor),
    /// Behind so many.
    Offset(usize),
}

/// A part of the timeline.
#[derive(Clone, Debug)]
pub struct TimelinePage {
    /// The posts, newest first.
    pub posts: Arc<Vec<PostView>>,
    /// How many the timeline has.
    pub total: u64,
    /// Where the next part begins, if there is one.
    pub next: Option<PageCursor>,
    /// When the posts were read, if that was not now.
    pub cached_at: Option<Timestamp>,
}

impl Timeline {
    /// On these parts.
    #[must_use]
    pub fn new(timelines: Arc<dyn Timelines>, cache: Arc<dyn TimelineCache>) -> Self {
        Self { timelines, cache }
    }

    /// A part of one's own timeline.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn page(
        &self,
        caller: &Caller,
        request: TimelineRequest,
    ) -> Result<TimelinePage, ServiceError> {
        let (from, shown) = match request.from {
            From::Start => (TimelineFrom::Offset(0), 0),
            From::Offset(offset) => (TimelineFrom::Offset(offset), offset),
            From::Cursor(cursor) => {
                let shown = usize::try_from(cursor.shown).unwrap_or(TIMELINE_ENTRIES);
                (TimelineFrom::Before(Seq(cursor.before)), shown)
            }
        };
        // A timeline ends behind its newest 800, whatever the store still has.
        let left = TIMELINE_ENTRIES.saturating_sub(shown);
        let limit = request.limit.min(left);
        let list = async {
            match limit {
                0 => Ok(Vec::new()),
                _ => Ok(self.timelines.list(caller.user, from, (limit + 1).min(left)).await?),
            }
        };
        let (mut list, total) = tokio::try_join!(list, self.total(caller))?;
        let more = list.len() > limit;
        list.truncate(limit);
        let next = match list.last() {
            Some(last) if more => Some(PageCursor { before: last.seq.0, shown: (shown + list.len()) as u64 }),
            _ => None,
        };
        let (posts, cached_at) = self.posts(caller, list).await?;
        Ok(TimelinePage { posts, total, next, cached_at })
    }

    async fn posts(
        &self,
        caller: &Caller,
        list: Vec<Place>,
    ) -> Result<(Arc<Vec<PostView>>, Option<Timestamp>), ServiceError> {
        if list.is_empty() {
            return Ok((Arc::default(), None));
        }
        if let Some(CachedPage { posts, cached_at }) = self.cache.page(caller.user, &list) {
            return Ok((posts, Some(cached_at)));
        }
        let read_at = Timestamp::now();
        let posts = Arc::new(self.timelines.show(caller.user, list.clone()).await?);
        // One that was deleted between the two reads makes a page that is good for no list.
        if posts.len() == list.len() {
            self.cache.keep_page(caller.user, &list, CachedPage { posts: posts.clone(), cached_at: read_at });
        }
        Ok((posts, None))
    }

    async fn total(&self, caller: &Caller) -> Result<u64, ServiceError> {
        if let Some(total) = self.cache.total(caller.user) {
            return Ok(total);
        }
        let read_at = Timestamp::now();
        let total = self.timelines.total(caller.user).await?;
        self.cache.keep_total(caller.user, total, read_at);
        Ok(total)
    }
}
