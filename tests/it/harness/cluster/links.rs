//! The links of a cluster: where each node listens, and a proxy on the way from each to each other.

use super::NAMES;
use crate::harness::engines::lasting_port;
use crate::harness::fault_proxy::{FaultProxy, Mode};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// All of them, by who dials whom. Either may have dialled the one link that two nodes have.
pub struct Links {
    addresses: Vec<String>,
    proxies: BTreeMap<(usize, usize), FaultProxy>,
}

impl Links {
    pub async fn between(count: usize) -> Self {
        let on_loopback = || format!("127.0.0.1:{}", lasting_port(&[Ipv4Addr::LOCALHOST]));
        let addresses: Vec<_> = (0..count).map(|_| on_loopback()).collect();
        let mut proxies = BTreeMap::new();
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                proxies.insert((from, to), FaultProxy::to(&addresses[to]).await);
            }
        }
        Self { addresses, proxies }
    }

    /// Where a node listens for the others.
    pub fn address(&self, node: usize) -> String {
        self.addresses[node].clone()
    }

    /// Where a node finds the others.
    pub fn routes_of(&self, node: usize) -> String {
        let ways = self.proxies.iter().filter(|((from, _), _)| *from == node);
        let routes: Vec<_> =
            ways.map(|((_, to), proxy)| format!("{}={}", NAMES[*to], proxy.address())).collect();
        routes.join(",")
    }

    pub async fn set(&self, from: usize, to: usize, mode: Mode) {
        self.proxies[&(from, to)].set(mode).await;
    }

    pub async fn set_both(&self, one: usize, other: usize, mode: Mode) {
        self.set(one, other, mode).await;
        self.set(other, one, mode).await;
    }

    pub async fn heal(&self) {
        for proxy in self.proxies.values() {
            proxy.set(Mode::Pass).await;
        }
    }
}
