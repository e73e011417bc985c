//! Pages of timelines in this process, by moka: 60 s at most, 64 MiB in all, the least used going first.
//!
//! A page is good for the very list of places it was made of. What began to be read before its user was
//! forgotten is not kept: the user has changed something since, and must see it.

use crate::model::id::UserId;
use crate::storage::Place;
use crate::storage::volatile::{Asked, CachedPage, PAGE_AGE, PAGES, Read, Reading, Recalled, TimelineCache};
use moka::sync::Cache;
use std::array::from_fn;
use std::future::ready;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Memory for all pages together.
const BYTES: u64 = 64 << 20;
/// Users share so many counts of how often they were forgotten: sharing one costs a page, never a truth.
const EPOCHS: usize = 4096;

/// Kept pages and totals.
pub struct KeptPages {
    users: Cache<UserId, Arc<Kept>>,
    age: Duration,
    epochs: Box<[AtomicU64; EPOCHS]>,
    hashing: RandomState,
    /// The zero of its clock.
    start: Instant,
}

/// What is kept of a user; replaced whole. Times are milliseconds by the cache's clock.
#[derive(Clone, Default)]
struct Kept {
    total: Option<(u64, u64)>,
    pages: Vec<KeptPage>,
}

#[derive(Clone)]
struct KeptPage {
    list: Box<[Place]>,
    page: CachedPage,
    began: u64,
}

impl Default for KeptPages {
    fn default() -> Self {
        Self::new(PAGE_AGE)
    }
}

impl KeptPages {
    /// Pages that may be shown for `age`.
    #[must_use]
    pub fn new(age: Duration) -> Self {
        let users = Cache::builder()
            .max_capacity(BYTES)
            .weigher(|_, kept: &Arc<Kept>| u32::try_from(kept.bytes()).unwrap_or(u32::MAX))
            // Each page's own age decides; this only clears away what nobody asks for.
            .time_to_live(age)
            .build();
        Self {
            users,
            age,
            epochs: Box::new(from_fn(|_| AtomicU64::new(0))),
            hashing: RandomState::new(),
            start: Instant::now(),
        }
    }

    fn recall_now(&self, user: UserId, list: &[Place]) -> Recalled {
        // Before anything is looked at: who forgets meanwhile is noticed when the rest is kept.
        let epoch = self.epoch(user).load(Ordering::SeqCst);
        let began = self.now();
        let reading = Some(Reading { epoch: epoch.into(), began });
        let Some(kept) = self.users.get(&user) else { return Recalled { reading, ..Recalled::default() } };
        let total = kept.total.filter(|(_, since)| self.is_fresh(*since, began)).map(|(total, _)| total);
        let page = kept.pages.iter().find(|kept| *kept.list == *list && self.is_fresh(kept.began, began));
        Recalled { total, page: page.map(|kept| kept.page.clone()), reading }
    }

    fn keep_now(&self, user: UserId, reading: Reading, Read { total, page }: Read) {
        if self.is_forgotten_since(user, reading) {
            return;
        }
        self.users.entry(user).and_upsert_with(|kept| {
            let mut kept = kept.map(|entry| Kept::clone(entry.value())).unwrap_or_default();
            if let Some(total) = total {
                kept.total = Some((total, reading.began));
            }
            if let Some((list, page)) = page {
                kept.put(KeptPage { list: list.into(), page, began: reading.began });
            }
            Arc::new(kept)
        });
        // Forgotten between the two: it is not known whether before or after it was kept.
        if self.is_forgotten_since(user, reading) {
            self.users.invalidate(&user);
        }
    }

    fn is_forgotten_since(&self, user: UserId, reading: Reading) -> bool {
        u128::from(self.epoch(user).load(Ordering::SeqCst)) != reading.epoch
    }

    fn epoch(&self, user: UserId) -> &AtomicU64 {
        let hash = self.hashing.hash_one(user);
        &self.epochs[usize::try_from(hash % EPOCHS as u64).unwrap_or(0)]
    }

    fn is_fresh(&self, since: u64, now: u64) -> bool {
        u128::from(now - since.min(now)) < self.age.as_millis()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl TimelineCache for KeptPages {
    fn recall(&self, user: UserId, list: Vec<Place>) -> Asked<Recalled> {
        Box::pin(ready(self.recall_now(user, &list)))
    }

    fn keep(&self, user: UserId, reading: Reading, read: Read) -> Asked<()> {
        self.keep_now(user, reading, read);
        Box::pin(ready(()))
    }

    fn forget(&self, user: UserId) -> Asked<()> {
        self.epoch(user).fetch_add(1, Ordering::SeqCst);
        self.users.invalidate(&user);
        Box::pin(ready(()))
    }
}

impl Kept {
    fn put(&mut self, page: KeptPage) {
        self.pages.retain(|other| other.list != page.list);
        if self.pages.len() == PAGES {
            self.pages.remove(0);
        }
        self.pages.push(page);
    }

    /// About what it takes: texts, and what each post and page costs beside them.
    fn bytes(&self) -> usize {
        let pages = self.pages.iter().map(|kept| {
            let posts =
                kept.page.posts.iter().map(|view| {
                    size_of_val(view) + view.post.content.as_str().len() + view.author_name.len()
                });
            size_of::<KeptPage>() + size_of_val(&*kept.list) + posts.sum::<usize>()
        });
        size_of::<Self>() + 128 + pages.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::KeptPages;
    use crate::model::cursor::Seq;
    use crate::model::id::{PostId, UserId};
    use crate::model::timestamp::Timestamp;
    use crate::storage::Place;
    use crate::storage::volatile::{CachedPage, Read, Recalled};
    use std::sync::Arc;
    use std::time::Duration;

    // What every cache does is tested with all of them in tests/it/volatile.

    fn read() -> (Vec<Place>, Read) {
        let list = vec![Place { seq: Seq(1), post: PostId::make(), author: UserId::make() }];
        let page = CachedPage { posts: Arc::default(), cached_at: Timestamp::now() };
        (list.clone(), Read { total: Some(1), page: Some((list, page)) })
    }

    #[test]
    fn what_is_too_old_is_not_shown() {
        let (pages, anna) = (KeptPages::new(Duration::ZERO), UserId::make());
        let (list, read) = read();
        let reading = pages.recall_now(anna, &list).reading.unwrap();
        pages.keep_now(anna, reading, read);
        let Recalled { total, page, .. } = pages.recall_now(anna, &list);
        assert_eq!((total, page), (None, None));
    }
}
