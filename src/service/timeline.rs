//! Reading one's timeline.
//!
//! The list of places comes from the store every time, so that no page shows a deleted post or hides a
//! new one; the posts at those places come from the cache, if it has them for that very list.

use super::ServiceError;
use crate::model::cursor::{PageCursor, Seq};
use crate::model::id::UserId;
use crate::model::post::PostView;
use crate::model::timestamp::Timestamp;
use crate::model::user::Caller;
use crate::storage::volatile::{CachedPage, Read, Recalled, TimelineCache};
use crate::storage::{Place, TIMELINE_ENTRIES, TimelineFrom, Timelines};
use futures_util::future::try_join;
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
        let mut list = match limit {
            0 => Vec::new(),
            _ => self.timelines.list(caller.user, from, (limit + 1).min(left)).await?,
        };
        let more = list.len() > limit;
        list.truncate(limit);
        let next = match list.last() {
            Some(last) if more => Some(PageCursor { before: last.seq.0, shown: (shown + list.len()) as u64 }),
            _ => None,
        };
        let Shown { total, posts, cached_at } = self.shown(caller.user, list).await?;
        Ok(TimelinePage { posts, total, next, cached_at })
    }

    /// The posts of a list and the count, of the cache where it has them.
    async fn shown(&self, user: UserId, list: Vec<Place>) -> Result<Shown, ServiceError> {
        let Recalled { total, page, reading } = self.cache.recall(user, list.clone()).await;
        let read_at = Timestamp::now();
        let total_read = async {
            match total {
                Some(total) => Ok(total),
                None => self.timelines.total(user).await,
            }
        };
        let posts_read = async {
            match &page {
                Some(page) => Ok(page.posts.clone()),
                None if list.is_empty() => Ok(Arc::default()),
                None => self.timelines.show(user, list.clone()).await.map(Arc::new),
            }
        };
        let (now_total, posts) = try_join(total_read, posts_read).await?;
        let cached_at = page.as_ref().map(|page| page.cached_at);
        // A post that was deleted between the two reads makes a page that is good for no list.
        let is_whole = !list.is_empty() && posts.len() == list.len();
        let read = Read {
            total: total.is_none().then_some(now_total),
            page: (page.is_none() && is_whole)
                .then(|| (list, CachedPage { posts: posts.clone(), cached_at: read_at })),
        };
        if let Some(reading) = reading
            && (read.total.is_some() || read.page.is_some())
        {
            // Begun, and not waited for: nobody's answer hangs on it.
            drop(self.cache.keep(user, reading, read));
        }
        Ok(Shown { total: now_total, posts, cached_at })
    }
}

/// What a part shows.
struct Shown {
    total: u64,
    posts: Arc<Vec<PostView>>,
    cached_at: Option<Timestamp>,
}
