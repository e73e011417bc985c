//! `timeline:{user}`: a hash with the count of a user's timeline and a few of its pages, 60 s at most by the
//! clock of Redis.
//!
//! The hash has an epoch, made when something is first asked of it. To forget a user is to delete the hash; what
//! was begun to be read before finds another epoch, or none, and is not kept, on whatever node that was. A
//! value says its version and the list it was made of: one of another version, or of another list whose
//! name is the same by chance, is a miss.
//!
//! Where a user could not be forgotten, because Redis did not answer, this node does not believe what Redis
//! keeps of it until that has expired.

use super::link::{Does, Link};
use super::script::Script;
use crate::model::cursor::Seq;
use crate::model::id::{PostId, UserId};
use crate::model::post::{Content, Post, PostView};
use crate::model::timestamp::Timestamp;
use crate::storage::Place;
use crate::storage::volatile::{Asked, CachedPage, PAGE_AGE, PAGES, Read, Reading, Recalled, TimelineCache};
use bytes::Bytes;
use fred::interfaces::KeysInterface;
use fred::types::Value;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::array::from_fn;
use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::Semaphore;

/// The version of what is kept.
const VERSION: u32 = 1;
/// Users share so many marks of when they could not be forgotten: sharing one costs a page, never a truth.
const MARKS: usize = 4096;
/// What may be on its way to be kept; more is not kept.
const KEEPING: usize = 1_024;

/// Pages in Redis.
pub struct SharedPages(Arc<Shared>);

struct Shared {
    link: Arc<Link>,
    recall: Script,
    keep: Script,
    keeping: Arc<Semaphore>,
    doubts: Doubts,
}

/// Users who could not be forgotten, and until when that matters.
struct Doubts {
    until: Box<[AtomicU64; MARKS]>,
    hashing: RandomState,
    start: Instant,
}

/// A page as it stands in Redis.
#[derive(Serialize, Deserialize)]
struct StoredPage<'a> {
    version: u32,
    /// When its reading began, by the clock of Redis.
    began: u64,
    cached_at: i64,
    #[serde(borrow)]
    posts: Vec<StoredPost<'a>>,
}

#[derive(Serialize, Deserialize)]
struct StoredPost<'a> {
    seq: u64,
    id: PostId,
    author: UserId,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    content: Cow<'a, str>,
    likes: u64,
    created_at: i64,
    liked: bool,
}

impl SharedPages {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self(Arc::new(Shared {
            link,
            recall: Script::new(include_str!("recall.lua")),
            keep: Script::new(include_str!("keep.lua")),
            keeping: Arc::new(Semaphore::new(KEEPING)),
            doubts: Doubts::new(),
        }))
    }
}

impl TimelineCache for SharedPages {
    fn recall(&self, user: UserId, list: Vec<Place>) -> Asked<Recalled> {
        let shared = self.0.clone();
        Box::pin(async move { shared.recall(user, &list).await.unwrap_or_default() })
    }

    fn keep(&self, user: UserId, reading: Reading, read: Read) -> Asked<()> {
        let shared = self.0.clone();
        let Ok(place) = self.0.keeping.clone().try_acquire_owned() else {
            return Box::pin(std::future::ready(()));
        };
        let keeping = tokio::spawn(async move {
            shared.keep(user, reading, read).await;
            drop(place);
        });
        Box::pin(async move { drop(keeping.await) })
    }

    fn forget(&self, user: UserId) -> Asked<()> {
        let shared = self.0.clone();
        let forgetting = tokio::spawn(async move { shared.forget(user).await });
        Box::pin(async move { drop(forgetting.await) })
    }
}

impl Shared {
    async fn recall(&self, user: UserId, list: &[Place]) -> Option<Recalled> {
        if self.doubts.doubts(user) {
            return None;
        }
        let name = page_name(list);
        let epoch = format!("{:032x}", uuid::Uuid::new_v4().as_u128());
        let arguments = vec![name.into(), epoch.into(), age_millis()];
        let asking = self.recall.run(self.link.client(), key(user), arguments);
        let (epoch, now, total, page): (String, u64, Option<String>, Option<Bytes>) =
            self.link.ask(Does::Read, asking).await.ok()?;
        let began = now;
        let total = total.as_deref().and_then(|total| {
            let (began, total) = total.split_once(' ')?;
            is_fresh(began.parse().ok()?, now).then_some(())?;
            total.parse().ok()
        });
        let page = page.and_then(|page| decode(&page, list, now));
        let epoch = u128::from_str_radix(&epoch, 16).ok();
        Some(Recalled { total, page, reading: epoch.map(|epoch| Reading { epoch, began }) })
    }

    async fn keep(&self, user: UserId, Reading { epoch, began }: Reading, Read { total, page }: Read) {
        let total = total.map(|total| format!("{began} {total}")).unwrap_or_default();
        let page = page.and_then(|(list, page)| Some((page_name(&list), encode(&list, &page, began)?)));
        let (name, page) = page.unwrap_or_default();
        let arguments = vec![
            format!("{epoch:032x}").into(),
            age_millis(),
            total.into(),
            name.into(),
            Value::from(page),
            Value::from(PAGES as u32),
        ];
        let keeping = self.keep.run::<()>(self.link.client(), key(user), arguments);
        // Away: what is not kept is a miss.
        let _ = self.link.ask(Does::Write, keeping).await;
    }

    async fn forget(&self, user: UserId) {
        let forgetting = self.link.client().del::<(), _>(key(user));
        if self.link.ask(Does::Read, forgetting).await.is_err() {
            self.doubts.begin(user);
        }
    }
}

impl Doubts {
    fn new() -> Self {
        Self {
            until: Box::new(from_fn(|_| AtomicU64::new(0))),
            hashing: RandomState::new(),
            start: Instant::now(),
        }
    }

    fn begin(&self, user: UserId) {
        let until = self.now() + age();
        self.mark(user).fetch_max(until, Ordering::SeqCst);
    }

    fn doubts(&self, user: UserId) -> bool {
        self.mark(user).load(Ordering::SeqCst) > self.now()
    }

    fn mark(&self, user: UserId) -> &AtomicU64 {
        let hash = self.hashing.hash_one(user);
        &self.until[usize::try_from(hash % MARKS as u64).unwrap_or(0)]
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn encode(list: &[Place], page: &CachedPage, began: u64) -> Option<String> {
    let posts = list.iter().zip(page.posts.iter()).map(|(place, view)| StoredPost {
        seq: place.seq.0,
        id: view.post.id,
        author: view.post.author,
        name: Cow::Borrowed(&view.author_name),
        content: Cow::Borrowed(view.post.content.as_str()),
        likes: view.post.likes,
        created_at: view.post.created_at.millis(),
        liked: view.is_liked,
    });
    let cached_at = page.cached_at.millis();
    serde_json::to_string(&StoredPage { version: VERSION, began, cached_at, posts: posts.collect() }).ok()
}

/// The page, where it is of this version, of this very list and not too old.
fn decode(stored: &[u8], list: &[Place], now: u64) -> Option<CachedPage> {
    let page: StoredPage<'_> = serde_json::from_slice(stored).ok()?;
    let is_of_list = page.posts.len() == list.len()
        && page.posts.iter().zip(list).all(|(post, place)| post.seq == place.seq.0 && post.id == place.post);
    if page.version != VERSION || !is_of_list || !is_fresh(page.began, now) {
        return None;
    }
    let posts = page.posts.into_iter().map(|post| PostView {
        post: Post {
            id: post.id,
            author: post.author,
            content: Content::stored(post.content.into_owned()),
            likes: post.likes,
            created_at: Timestamp::from_millis(post.created_at),
        },
        author_name: post.name.into_owned(),
        is_liked: post.liked,
    });
    Some(CachedPage { posts: Arc::new(posts.collect()), cached_at: Timestamp::from_millis(page.cached_at) })
}

/// The name of a list's page among a user's few.
fn page_name(list: &[Place]) -> String {
    let mut hash = Sha256::new();
    for Place { seq: Seq(seq), post, .. } in list {
        hash.update(seq.to_be_bytes());
        hash.update(post.0.as_bytes());
    }
    let hash = hash.finalize();
    let short = hash.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    format!("page:{short:016x}")
}

fn is_fresh(began: u64, now: u64) -> bool {
    // A reading from the future is one by a clock that was set back: who knows how old it is.
    now >= began && now - began < age()
}

fn age() -> u64 {
    u64::try_from(PAGE_AGE.as_millis()).unwrap_or(u64::MAX)
}

fn age_millis() -> Value {
    age().to_string().into()
}

fn key(user: UserId) -> String {
    format!("timeline:{user}")
}
