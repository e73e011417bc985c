//! Pages of timelines in this process, by moka: 60 s at most, 64 MiB in all, the least used going first.
//!
//! A page is good for the very list of places it was made of. What began to be read before its user was
//! forgotten is not kept: the user has changed something since, and must see it.

use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use crate::storage::Place;
use crate::storage::volatile::{CachedPage, TimelineCache};
use moka::sync::Cache;
use std::array::from_fn;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How long a page may be shown.
const AGE: Duration = Duration::from_secs(60);
/// Memory for all pages together.
const BYTES: u64 = 64 << 20;
/// Pages kept of one user.
const PAGES: usize = 4;
/// Users share so many marks of when they were forgotten: sharing one costs a page, never a truth.
const MARKS: usize = 4096;

/// Kept pages and totals.
pub struct KeptPages {
    users: Cache<UserId, Arc<Kept>>,
    age: Duration,
    forgotten: Box<[AtomicI64; MARKS]>,
    hashing: RandomState,
}

/// What is kept of a user; replaced whole.
#[derive(Clone, Default)]
struct Kept {
    total: Option<(u64, Instant)>,
    pages: Vec<KeptPage>,
}

#[derive(Clone)]
struct KeptPage {
    list: Box<[Place]>,
    page: CachedPage,
    kept_at: Instant,
}

impl Default for KeptPages {
    fn default() -> Self {
        Self::new(AGE)
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
            forgotten: Box::new(from_fn(|_| AtomicI64::new(i64::MIN))),
            hashing: RandomState::new(),
        }
    }

    /// Changes what is kept of a user by something that began to be read at `read_at`.
    fn keep(&self, user: UserId, read_at: Timestamp, change: impl FnOnce(&mut Kept)) {
        if self.is_forgotten_since(user, read_at) {
            return;
        }
        self.users.entry(user).and_upsert_with(|kept| {
            let mut kept = kept.map(|entry| Kept::clone(entry.value())).unwrap_or_default();
            change(&mut kept);
            Arc::new(kept)
        });
        // Forgotten between the two: it is not known whether before or after it was kept.
        if self.is_forgotten_since(user, read_at) {
            self.users.invalidate(&user);
        }
    }

    fn is_forgotten_since(&self, user: UserId, read_at: Timestamp) -> bool {
        self.mark(user).load(Ordering::SeqCst) >= read_at.millis()
    }

    fn mark(&self, user: UserId) -> &AtomicI64 {
        let hash = self.hashing.hash_one(user);
        &self.forgotten[usize::try_from(hash % MARKS as u64).unwrap_or(0)]
    }

    fn is_fresh(&self, kept_at: Instant) -> bool {
        kept_at.elapsed() < self.age
    }
}

impl TimelineCache for KeptPages {
    fn page(&self, user: UserId, list: &[Place]) -> Option<CachedPage> {
        let kept = self.users.get(&user)?;
        let found = kept.pages.iter().find(|kept| *kept.list == *list && self.is_fresh(kept.kept_at))?;
        Some(found.page.clone())
    }

    fn keep_page(&self, user: UserId, list: &[Place], page: CachedPage) {
        let read_at = page.cached_at;
        let page = KeptPage { list: list.into(), page, kept_at: Instant::now() };
        self.keep(user, read_at, |kept| {
            kept.pages.retain(|other| other.list != page.list);
            if kept.pages.len() == PAGES {
                kept.pages.remove(0);
            }
            kept.pages.push(page);
        });
    }

    fn total(&self, user: UserId) -> Option<u64> {
        let (total, kept_at) = self.users.get(&user)?.total?;
        self.is_fresh(kept_at).then_some(total)
    }

    fn keep_total(&self, user: UserId, total: u64, read_at: Timestamp) {
        let kept_at = Instant::now();
        self.keep(user, read_at, |kept| kept.total = Some((total, kept_at)));
    }

    fn forget(&self, user: UserId) {
        self.mark(user).fetch_max(Timestamp::now().millis(), Ordering::SeqCst);
        self.users.invalidate(&user);
    }
}

impl Kept {
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
    use super::{KeptPages, PAGES};
    use crate::model::cursor::Seq;
    use crate::model::id::{PostId, UserId};
    use crate::model::post::{Content, Post, PostView};
    use crate::model::timestamp::Timestamp;
    use crate::storage::Place;
    use crate::storage::volatile::{CachedPage, TimelineCache};
    use std::sync::Arc;
    use std::time::Duration;

    fn at(number: u64) -> Place {
        let id = uuid::Uuid::from_u128(u128::from(number));
        Place { seq: Seq(number), post: PostId(id), author: UserId(id) }
    }

    fn page(text: &str, cached_at: Timestamp) -> CachedPage {
        let post = Post {
            id: PostId::make(),
            author: UserId::make(),
            content: Content::parse(text).unwrap(),
            likes: 0,
            created_at: cached_at,
        };
        let view = PostView { post, author_name: "anna".to_owned(), is_liked: false };
        CachedPage { posts: Arc::new(vec![view]), cached_at }
    }

    fn text(page: Option<CachedPage>) -> Option<String> {
        page.map(|page| page.posts[0].post.content.as_str().to_owned())
    }

    #[test]
    fn a_page_is_shown_for_the_very_list_it_was_made_of() {
        let (pages, anna) = (KeptPages::default(), UserId::make());
        pages.keep_page(anna, &[at(3), at(1)], page("kept", Timestamp::now()));
        assert_eq!(text(pages.page(anna, &[at(3), at(1)])), Some("kept".to_owned()));
        for other in [&[at(3)][..], &[at(1), at(3)], &[at(4), at(3), at(1)], &[]] {
            assert_eq!(text(pages.page(anna, other)), None, "{other:?}");
        }
        assert_eq!(text(pages.page(UserId::make(), &[at(3), at(1)])), None);
    }

    #[test]
    fn what_is_too_old_is_not_shown() {
        let (pages, anna) = (KeptPages::new(Duration::ZERO), UserId::make());
        pages.keep_page(anna, &[at(1)], page("old", Timestamp::now()));
        pages.keep_total(anna, 1, Timestamp::now());
        assert_eq!(text(pages.page(anna, &[at(1)])), None);
        assert_eq!(pages.total(anna), None);
    }

    #[test]
    fn a_user_who_is_forgotten_is_not_shown_what_was_read_before() {
        let (pages, anna) = (KeptPages::default(), UserId::make());
        let before = Timestamp::now();
        pages.keep_page(anna, &[at(1)], page("before", before));
        pages.keep_total(anna, 1, before);
        pages.forget(anna);
        assert_eq!(text(pages.page(anna, &[at(1)])), None);
        assert_eq!(pages.total(anna), None);

        // Read before, kept after: the change is not in it.
        pages.keep_page(anna, &[at(1)], page("before", before));
        pages.keep_total(anna, 1, before);
        assert_eq!(text(pages.page(anna, &[at(1)])), None);
        assert_eq!(pages.total(anna), None);

        let after = Timestamp::now().after(Duration::from_millis(1));
        pages.keep_page(anna, &[at(1)], page("after", after));
        pages.keep_total(anna, 2, after);
        assert_eq!(text(pages.page(anna, &[at(1)])), Some("after".to_owned()));
        assert_eq!(pages.total(anna), Some(2));
    }

    #[test]
    fn a_user_has_a_few_pages_the_oldest_going_first() {
        let (pages, anna) = (KeptPages::default(), UserId::make());
        for number in 0..=PAGES as u64 {
            pages.keep_page(anna, &[at(number)], page("kept", Timestamp::now()));
        }
        assert!(pages.page(anna, &[at(0)]).is_none());
        assert!((1..=PAGES as u64).all(|number| pages.page(anna, &[at(number)]).is_some()));
    }
}
