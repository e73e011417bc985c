//! Limits as token buckets in this process, by governor: one for each user or address that lately took
//! a token. A bucket that is full again is forgotten, so memory goes with who comes, not with who came.

use crate::model::id::{RoomId, UserId};
use crate::model::room::ViewerKey;
use crate::storage::Pending;
use crate::storage::volatile::{Counted, Limits};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Takes after which full buckets are looked for, where there are fewer buckets than that.
const TAKES_BETWEEN_SWEEPS: usize = 1024;

/// How often what is limited may happen; none is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Requests of a user.
    pub requests_per_second: Option<NonZeroU32>,
    /// Requests that a user may make at once, after a pause.
    pub request_burst: Option<NonZeroU32>,
    /// Posts of a user.
    pub posts_per_minute: Option<NonZeroU32>,
    /// Requests without a token, by address.
    pub address_requests_per_second: Option<NonZeroU32>,
    /// Logins and refreshes, by address.
    pub logins_per_minute: Option<NonZeroU32>,
    /// Registrations, by address.
    pub registrations_per_hour: Option<NonZeroU32>,
    /// Presses of a viewer, in a room.
    pub presses_per_second: Option<NonZeroU32>,
}

impl Rates {
    /// The bucket of one of those counted: its size, and how fast it fills; none where there is no limit.
    #[must_use]
    pub fn quota(&self, what: Counted) -> Option<Quota> {
        match what {
            Counted::Request(_) => self.requests_per_second.map(|rate| {
                let burst = self.request_burst.unwrap_or(rate);
                Quota::per_second(rate).allow_burst(burst)
            }),
            Counted::Post(_) => self.posts_per_minute.map(Quota::per_minute),
            Counted::AddressRequest(_) => self.address_requests_per_second.map(Quota::per_second),
            Counted::Login(_) => self.logins_per_minute.map(Quota::per_minute),
            Counted::Registration(_) => self.registrations_per_hour.map(Quota::per_hour),
            Counted::Press(..) => self.presses_per_second.map(Quota::per_second),
        }
    }
}

/// A bucket for each of those counted.
pub struct Buckets<C: Clock = DefaultClock> {
    requests: Option<Keyed<UserId, C>>,
    posts: Option<Keyed<UserId, C>>,
    address_requests: Option<Keyed<IpAddr, C>>,
    logins: Option<Keyed<IpAddr, C>>,
    registrations: Option<Keyed<IpAddr, C>>,
    presses: Option<Keyed<(RoomId, ViewerKey), C>>,
}

impl Buckets {
    /// Full buckets.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self::by_clock(rates, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Buckets<C> {
    fn by_clock(rates: Rates, clock: C) -> Self {
        // Whose bucket it is does not change its size.
        let (user, address) = (UserId(uuid::Uuid::nil()), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let press = Counted::Press(RoomId::of_bytes([0; 16]), ViewerKey(0));
        let quota = |what| rates.quota(what);
        Self {
            requests: keyed(quota(Counted::Request(user)), &clock),
            posts: keyed(quota(Counted::Post(user)), &clock),
            address_requests: keyed(quota(Counted::AddressRequest(address)), &clock),
            logins: keyed(quota(Counted::Login(address)), &clock),
            registrations: keyed(quota(Counted::Registration(address)), &clock),
            presses: keyed(quota(press), &clock),
        }
    }

    /// Takes one token, or answers how long it is until there is one.
    pub(in crate::storage) fn try_take(&self, what: Counted) -> Result<(), Duration> {
        match what {
            Counted::Request(user) => take_from(self.requests.as_ref(), &user),
            Counted::Post(user) => take_from(self.posts.as_ref(), &user),
            Counted::AddressRequest(address) => take_from(self.address_requests.as_ref(), &network(address)),
            Counted::Login(address) => take_from(self.logins.as_ref(), &network(address)),
            Counted::Registration(address) => take_from(self.registrations.as_ref(), &network(address)),
            Counted::Press(room, viewer) => take_from(self.presses.as_ref(), &(room, viewer)),
        }
    }
}

impl<C: Clock + Clone + Send + Sync> Limits for Buckets<C>
where
    C::Instant: Send + Sync,
{
    fn take(&self, what: Counted) -> Pending<Result<(), Duration>> {
        Box::pin(std::future::ready(Ok(self.try_take(what))))
    }
}

/// Who has many addresses, as everybody on IPv6 has, is one /64 all the same.
pub(in crate::storage) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
        address => address,
    }
}

/// The buckets of one kind.
struct Keyed<K: Hash + Eq + Clone, C: Clock> {
    buckets: RateLimiter<K, DashMapStateStore<K>, C, NoOpMiddleware<C::Instant>>,
    until_sweep: AtomicUsize,
}

fn keyed<K: Hash + Eq + Clone, C: Clock + Clone>(quota: Option<Quota>, clock: &C) -> Option<Keyed<K, C>> {
    quota.map(|quota| Keyed {
        buckets: RateLimiter::dashmap_with_clock(quota, clock.clone()),
        until_sweep: AtomicUsize::new(TAKES_BETWEEN_SWEEPS),
    })
}

fn take_from<K: Hash + Eq + Clone, C: Clock>(kind: Option<&Keyed<K, C>>, key: &K) -> Result<(), Duration> {
    let Some(kind) = kind else { return Ok(()) };
    kind.sweep_now_and_then();
    kind.buckets.check_key(key).map_err(|refused| refused.wait_time_from(kind.buckets.clock().now()))
}

impl<K: Hash + Eq + Clone, C: Clock> Keyed<K, C> {
    /// As many takes lie between two sweeps as there are buckets: a sweep costs each take a step.
    fn sweep_now_and_then(&self) {
        // Only who takes it from 1 to 0 sweeps; who comes meanwhile wraps around, and that is set right.
        if self.until_sweep.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.buckets.retain_recent();
            let next = self.buckets.len().max(TAKES_BETWEEN_SWEEPS);
            self.until_sweep.store(next, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Buckets, Rates};
    use crate::model::id::UserId;
    use crate::storage::volatile::Counted;
    use governor::clock::FakeRelativeClock;
    use std::net::IpAddr;
    use std::num::NonZeroU32;
    use std::time::Duration;

    const RATES: Rates = Rates {
        requests_per_second: NonZeroU32::new(100),
        request_burst: NonZeroU32::new(200),
        posts_per_minute: NonZeroU32::new(10),
        address_requests_per_second: NonZeroU32::new(100),
        logins_per_minute: NonZeroU32::new(20),
        registrations_per_hour: NonZeroU32::new(100),
        presses_per_second: NonZeroU32::new(10),
    };

    fn buckets(rates: Rates) -> (Buckets<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Buckets::by_clock(rates, clock.clone()), clock)
    }

    /// Takes until refused; how many were taken, and how long is to be waited.
    fn drain(buckets: &Buckets<FakeRelativeClock>, what: Counted) -> (u32, Duration) {
        for taken in 0.. {
            if let Err(wait) = buckets.try_take(what) {
                return (taken, wait);
            }
        }
        unreachable!("an endless bucket")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ten_posts_at_once_and_then_one_every_six_seconds() {
        let (buckets, clock) = buckets(RATES);
        let post = Counted::Post(UserId::make());
        let (taken, wait) = drain(&buckets, post);
        assert_eq!(taken, 10);
        assert!(wait > Duration::from_millis(5_900) && wait <= Duration::from_secs(6), "{wait:?}");
        clock.advance(Duration::from_millis(5_900));
        assert!(buckets.try_take(post).is_err());
        clock.advance(Duration::from_millis(100));
        assert_eq!(drain(&buckets, post).0, 1);
    }

    #[test]
    fn each_kind_has_its_own_size_and_each_key_its_own_bucket() {
        let (buckets, _) = buckets(RATES);
        let (anna, ben) = (UserId::make(), UserId::make());
        let here = address("192.0.2.1");
        assert_eq!(drain(&buckets, Counted::Request(anna)).0, 200);
        assert_eq!(drain(&buckets, Counted::Request(ben)).0, 200);
        assert_eq!(drain(&buckets, Counted::Post(anna)).0, 10);
        assert_eq!(drain(&buckets, Counted::AddressRequest(here)).0, 100);
        assert_eq!(drain(&buckets, Counted::Login(here)).0, 20);
        assert_eq!(drain(&buckets, Counted::Registration(here)).0, 100);
        assert_eq!(drain(&buckets, Counted::Login(address("192.0.2.2"))).0, 20);
    }

    #[test]
    fn a_network_of_ipv6_is_one_and_a_mapped_address_is_ipv4() {
        let (buckets, _) = buckets(RATES);
        assert_eq!(drain(&buckets, Counted::Login(address("2001:db8::1"))).0, 20);
        assert_eq!(drain(&buckets, Counted::Login(address("2001:db8::ffff:1"))).0, 0);
        assert_eq!(drain(&buckets, Counted::Login(address("2001:db8:0:1::1"))).0, 20);
        assert_eq!(drain(&buckets, Counted::Login(address("::ffff:192.0.2.1"))).0, 20);
        assert_eq!(drain(&buckets, Counted::Login(address("192.0.2.1"))).0, 0);
    }

    #[test]
    fn what_has_no_limit_is_never_refused() {
        let none = Rates { requests_per_second: None, posts_per_minute: None, ..RATES };
        let (buckets, _) = buckets(none);
        let user = UserId::make();
        assert!((0..10_000).all(|_| buckets.try_take(Counted::Post(user)).is_ok()));
        assert!((0..10_000).all(|_| buckets.try_take(Counted::Request(user)).is_ok()));
    }

    #[test]
    fn buckets_that_are_full_again_are_forgotten() {
        let (buckets, clock) = buckets(RATES);
        for _ in 0..50 {
            for _ in 0..1_000 {
                assert!(buckets.try_take(Counted::Request(UserId::make())).is_ok());
            }
            clock.advance(Duration::from_secs(10));
        }
        let kept = buckets.requests.as_ref().unwrap().buckets.len();
        assert!(kept <= 4_000, "{kept} of 50,000 are kept");
    }
}
