//! Limits that all nodes share: a bucket for each of those counted, in Redis and by its clock, taken from by
//! one script. Where Redis does not answer, this node's own buckets decide; they are charged for what Redis
//! granted here, so that they are not full when it goes.

use super::link::{Does, Link};
use super::script::Script;
use crate::storage::Pending;
use crate::storage::memory::limits::network;
use crate::storage::memory::{Buckets, Rates};
use crate::storage::volatile::{Counted, Limits};
use fred::types::Value;
use std::sync::Arc;
use std::time::Duration;

/// Buckets in Redis.
pub struct SharedBuckets(Arc<Shared>);

struct Shared {
    link: Arc<Link>,
    rates: Rates,
    own: Buckets,
    script: Script,
}

impl SharedBuckets {
    pub(super) fn new(link: Arc<Link>, rates: Rates, own: Buckets) -> Self {
        let script = Script::new(include_str!("limit.lua"));
        Self(Arc::new(Shared { link, rates, own, script }))
    }
}

impl Limits for SharedBuckets {
    fn take(&self, what: Counted) -> Pending<Result<(), Duration>> {
        let shared = self.0.clone();
        Box::pin(async move { Ok(shared.take(what).await) })
    }
}

impl Shared {
    async fn take(&self, what: Counted) -> Result<(), Duration> {
        let Some(quota) = self.rates.quota(what) else { return Ok(()) };
        let micros = quota.replenish_interval().as_secs_f64() * 1e6;
        let arguments = vec![Value::from(micros), Value::from(quota.burst_size().get())];
        let taken = self.script.run::<u64>(self.link.client(), key(what), arguments);
        match self.link.ask(Does::Write, taken).await {
            Ok(0) => {
                let _ = self.own.try_take(what);
                Ok(())
            }
            Ok(wait) => Err(Duration::from_micros(wait)),
            Err(_) => self.own.try_take(what),
        }
    }
}

fn key(what: Counted) -> String {
    match what {
        Counted::Request(user) => format!("roost:limit:request:{user}"),
        Counted::Post(user) => format!("roost:limit:post:{user}"),
        Counted::AddressRequest(address) => format!("roost:limit:address:{}", network(address)),
        Counted::Login(address) => format!("roost:limit:login:{}", network(address)),
        Counted::Press(room, viewer) => format!("roost:limit:press:{room}:{:016x}", viewer.0),
        Counted::Registration(address) => format!("roost:limit:registration:{}", network(address)),
    }
}
