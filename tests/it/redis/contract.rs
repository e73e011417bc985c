//! Every sentence of the traits in `storage/volatile.rs`, in memory and on Redis: one body for both.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing to unwrap has failed, and says where")]

use super::open;
use crate::harness::engines::redis_url;
use crate::harness::until;
use roost::model::cursor::Seq;
use roost::model::id::{ConnectionId, LoginId, PostId, UserId};
use roost::model::post::{Content, Post, PostView};
use roost::model::timestamp::Timestamp;
use roost::storage::Place;
use roost::storage::memory::{Buckets, KeptPages, Nobody, Rates, RevokedLogins};
use roost::storage::redis::Redis;
use roost::storage::volatile::{
    CachedPage, Counted, Limits, PAGES, Presence, Present, Read, Recalled, Revocations, TimelineCache,
};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

const RATES: Rates = Rates {
    requests_per_second: NonZeroU32::new(1),
    request_burst: NonZeroU32::new(20),
    posts_per_minute: NonZeroU32::new(10),
    address_requests_per_second: None,
    logins_per_minute: NonZeroU32::new(5),
    registrations_per_hour: NonZeroU32::new(7),
    presses_per_second: None,
};

/// What a node has.
struct Parts {
    limits: Arc<dyn Limits>,
    revocations: Arc<dyn Revocations>,
    cache: Arc<dyn TimelineCache>,
    presence: Arc<dyn Presence>,
    /// Goes last.
    _redis: Option<Redis>,
}

fn in_memory() -> Parts {
    Parts {
        limits: Arc::new(Buckets::new(RATES)),
        revocations: Arc::new(RevokedLogins::default()),
        cache: Arc::new(KeptPages::default()),
        presence: Arc::new(Nobody),
        _redis: None,
    }
}

async fn on_redis(url: &str) -> Parts {
    let mut redis = open(url).await;
    assert!(redis.state().is_well(), "{:?}", redis.state());
    Parts {
        limits: Arc::new(redis.limits(RATES)),
        revocations: Arc::new(redis.revocations()),
        cache: Arc::new(redis.timeline_cache()),
        presence: Arc::new(redis.presence("a")),
        _redis: Some(redis),
    }
}

macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::in_memory()).await;
            })+
        }

        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(url) = super::redis_url() else { return };
                super::$name(super::on_redis(&url).await).await;
            })+
        }
    };
}

contract! {
    a_bucket_that_was_never_taken_from_is_full_and_a_refusal_takes_nothing,
    each_kind_has_its_own_size_and_each_key_its_own_bucket,
    a_network_of_ipv6_is_one_and_a_mapped_address_is_ipv4,
    what_has_no_limit_is_never_refused,
    a_bucket_fills_again,
    many_at_once_take_no_more_than_there_is,
    an_ended_login_is_known_at_once_and_no_other,
    what_is_learned_is_new_once,
    a_page_is_shown_for_the_very_list_it_was_made_of,
    a_page_comes_back_as_it_was_kept,
    the_count_and_the_page_are_kept_each_for_itself,
    a_user_who_is_forgotten_is_not_shown_what_was_read_before,
    a_user_has_a_few_pages_the_oldest_going_first,
    presence_waits_for_nothing,
}

/// Takes until refused; how many were taken, and how long is to be waited.
async fn drain(limits: &dyn Limits, what: Counted) -> (u32, Duration) {
    for taken in 0..1_000 {
        if let Err(wait) = limits.take(what).await.expect("limits never fail") {
            return (taken, wait);
        }
    }
    panic!("an endless bucket");
}

/// An address of a network that no other test has.
fn somewhere() -> IpAddr {
    let id = uuid::Uuid::new_v4().as_u128();
    IpAddr::V6(((0x2001_0db8_u128 << 96) | (id >> 32 & (u128::MAX >> 32))).into())
}

async fn a_bucket_that_was_never_taken_from_is_full_and_a_refusal_takes_nothing(parts: Parts) {
    let post = Counted::Post(UserId::make());
    let (taken, wait) = drain(&*parts.limits, post).await;
    assert_eq!(taken, 10);
    assert!(wait > Duration::from_secs(3) && wait <= Duration::from_secs(6), "{wait:?}");
    // However often one is refused, the time to wait only gets shorter.
    for _ in 0..20 {
        assert!(parts.limits.take(post).await.unwrap().unwrap_err() <= wait);
    }
}

async fn each_kind_has_its_own_size_and_each_key_its_own_bucket(parts: Parts) {
    let (anna, ben) = (UserId::make(), UserId::make());
    let limits = &*parts.limits;
    // One a second comes back meanwhile.
    assert!((20..=22).contains(&drain(limits, Counted::Request(anna)).await.0));
    assert!((20..=22).contains(&drain(limits, Counted::Request(ben)).await.0));
    assert_eq!(drain(limits, Counted::Post(anna)).await.0, 10);
    let here = somewhere();
    assert_eq!(drain(limits, Counted::Login(here)).await.0, 5);
    assert_eq!(drain(limits, Counted::Registration(here)).await.0, 7);
    assert_eq!(drain(limits, Counted::Login(somewhere())).await.0, 5);
}

async fn a_network_of_ipv6_is_one_and_a_mapped_address_is_ipv4(parts: Parts) {
    let limits = &*parts.limits;
    let IpAddr::V6(one) = somewhere() else { unreachable!("it is IPv6") };
    let neighbour = std::net::Ipv6Addr::from(u128::from(one) ^ 1);
    assert_eq!(drain(limits, Counted::Login(one.into())).await.0, 5);
    assert_eq!(drain(limits, Counted::Login(neighbour.into())).await.0, 0);
    let random = *uuid::Uuid::new_v4().as_bytes();
    let four = std::net::Ipv4Addr::new(10, random[0], random[1], random[2]);
    assert_eq!(drain(limits, Counted::Login(four.to_ipv6_mapped().into())).await.0, 5);
    assert_eq!(drain(limits, Counted::Login(four.into())).await.0, 0);
}

async fn what_has_no_limit_is_never_refused(parts: Parts) {
    let here = somewhere();
    for _ in 0..500 {
        assert!(parts.limits.take(Counted::AddressRequest(here)).await.unwrap().is_ok());
    }
}

async fn a_bucket_fills_again(parts: Parts) {
    let request = Counted::Request(UserId::make());
    let (_, wait) = drain(&*parts.limits, request).await;
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    until("a token is back", async || parts.limits.take(request).await.unwrap().ok()).await;
}

async fn many_at_once_take_no_more_than_there_is(parts: Parts) {
    let post = Counted::Post(UserId::make());
    let takers: Vec<_> = (0..50).map(|_| tokio::spawn(parts.limits.take(post))).collect();
    let mut taken = 0;
    for taker in takers {
        taken += u32::from(taker.await.unwrap().unwrap().is_ok());
    }
    assert_eq!(taken, 10);
}

async fn an_ended_login_is_known_at_once_and_no_other(parts: Parts) {
    let (ended, other) = (LoginId::make(), LoginId::make());
    // Not awaited: known all the same.
    drop(parts.revocations.revoke(ended, Timestamp::now().after(Duration::from_secs(60))));
    assert!(parts.revocations.is_revoked(ended));
    assert!(!parts.revocations.is_revoked(other));
}

async fn what_is_learned_is_new_once(parts: Parts) {
    let (login, later) = (LoginId::make(), Timestamp::now().after(Duration::from_secs(60)));
    assert!(parts.revocations.learn(login, later));
    assert!(!parts.revocations.learn(login, later));
    assert!(parts.revocations.is_revoked(login));
    let revoked = LoginId::make();
    parts.revocations.revoke(revoked, later).await;
    assert!(!parts.revocations.learn(revoked, later));
}

pub fn place(number: u64) -> Place {
    let id = uuid::Uuid::from_u128(u128::from(number));
    Place { seq: Seq(number), post: PostId(id), author: UserId(id) }
}

pub fn page(list: &[Place], text: &str) -> CachedPage {
    let posts = list.iter().map(|place| {
        let post = Post {
            id: place.post,
            author: place.author,
            content: Content::parse(text).expect("a post's text"),
            likes: place.seq.0,
            created_at: Timestamp::from_millis(1_700_000_000_123),
        };
        PostView { post, author_name: "anna".to_owned(), is_liked: true }
    });
    CachedPage { posts: Arc::new(posts.collect()), cached_at: Timestamp::now() }
}

/// Asks, and keeps what is missing.
async fn keep(cache: &dyn TimelineCache, user: UserId, list: &[Place], text: &str) -> CachedPage {
    let reading = cache.recall(user, list.to_vec()).await.reading.expect("the cache is there");
    let page = page(list, text);
    cache.keep(user, reading, Read { total: None, page: Some((list.to_vec(), page.clone())) }).await;
    page
}

async fn a_page_is_shown_for_the_very_list_it_was_made_of(parts: Parts) {
    let (cache, anna) = (&*parts.cache, UserId::make());
    let list = [place(3), place(1)];
    let kept = keep(cache, anna, &list, "kept").await;
    assert_eq!(cache.recall(anna, list.to_vec()).await.page, Some(kept));
    let moved = Place { seq: Seq(4), ..place(3) };
    for other in [&[place(3)][..], &[place(1), place(3)], &[place(4), place(3), place(1)], &[moved, place(1)]]
    {
        assert_eq!(cache.recall(anna, other.to_vec()).await.page, None, "{other:?}");
    }
    assert_eq!(cache.recall(UserId::make(), list.to_vec()).await.page, None);
}

async fn a_page_comes_back_as_it_was_kept(parts: Parts) {
    let four_bytes = "\u{1F600}".repeat(280);
    for text in [four_bytes.as_str(), "\"quoted\": \\ {braces} a:b\nc", "'*3\r\n$3'", "e\u{301}\u{200d}"] {
        let (anna, list) = (UserId::make(), [place(2), place(1)]);
        let kept = keep(&*parts.cache, anna, &list, text).await;
        assert_eq!(parts.cache.recall(anna, list.to_vec()).await.page, Some(kept), "{text:?}");
    }
}

async fn the_count_and_the_page_are_kept_each_for_itself(parts: Parts) {
    let (cache, anna, list) = (&*parts.cache, UserId::make(), vec![place(1)]);
    let Recalled { total, page, reading } = cache.recall(anna, list.clone()).await;
    assert_eq!((total, page), (None, None));
    cache.keep(anna, reading.unwrap(), Read { total: Some(7), page: None }).await;
    let kept = keep(cache, anna, &list, "kept").await;
    let Recalled { total, page, .. } = cache.recall(anna, list).await;
    assert_eq!((total, page), (Some(7), Some(kept)));
}

async fn a_user_who_is_forgotten_is_not_shown_what_was_read_before(parts: Parts) {
    let (cache, anna, list) = (&*parts.cache, UserId::make(), vec![place(1)]);
    let before = cache.recall(anna, list.clone()).await.reading.unwrap();
    let read = Read { total: Some(1), page: Some((list.clone(), page(&list, "before"))) };
    cache.keep(anna, before, read.clone()).await;
    cache.forget(anna).await;
    let Recalled { total, page: shown, .. } = cache.recall(anna, list.clone()).await;
    assert_eq!((total, shown), (None, None));

    // Read before, kept after: the change is not in it.
    cache.keep(anna, before, read.clone()).await;
    let Recalled { total, page: shown, reading } = cache.recall(anna, list.clone()).await;
    assert_eq!((total, shown), (None, None));

    let after = Read { total: Some(2), page: Some((list.clone(), page(&list, "after"))) };
    cache.keep(anna, reading.unwrap(), after.clone()).await;
    cache.keep(anna, before, read).await;
    let Recalled { total, page: shown, .. } = cache.recall(anna, list).await;
    assert_eq!((total, shown), (Some(2), after.page.map(|(_, page)| page)));
}

async fn a_user_has_a_few_pages_the_oldest_going_first(parts: Parts) {
    let (cache, anna) = (&*parts.cache, UserId::make());
    for number in 0..=PAGES as u64 {
        keep(cache, anna, &[place(number)], "kept").await;
    }
    assert_eq!(cache.recall(anna, vec![place(0)]).await.page, None);
    for number in 1..=PAGES as u64 {
        assert!(cache.recall(anna, vec![place(number)]).await.page.is_some(), "{number}");
    }
}

async fn presence_waits_for_nothing(parts: Parts) {
    for _ in 0..1_000 {
        let connection = ConnectionId::make();
        parts.presence.put(Present { connection, user: UserId::make() });
        parts.presence.remove(connection);
    }
}
