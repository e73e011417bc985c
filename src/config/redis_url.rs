//! Where Redis is: an address that may hold a password, so it prints as `***`.

use crate::model::secret::Secret;
use std::fmt;
use std::str::FromStr;

/// Schemes of one server, of a cluster and of a server that sentinels know; with `s`, over TLS.
const ONE: [&str; 2] = ["redis", "rediss"];
const CLUSTER: [&str; 2] = ["redis-cluster", "rediss-cluster"];
const SENTINEL: [&str; 2] = ["redis-sentinel", "rediss-sentinel"];

/// An address of Redis whose shape was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(Secret);

impl RedisUrl {
    /// The whole address.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.0
    }
}

impl FromStr for RedisUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let url = reqwest::Url::parse(text).map_err(|_| ())?;
        let scheme = url.scheme();
        let known = [ONE, CLUSTER, SENTINEL].concat().contains(&scheme);
        let named = url.host_str().is_some_and(|host| !host.is_empty());
        let database = url.path().trim_start_matches('/');
        // A cluster has no databases to choose from.
        let database = database.is_empty() || (!CLUSTER.contains(&scheme) && database.parse::<u8>().is_ok());
        let service = url.query_pairs().any(|(key, value)| key == "sentinelServiceName" && !value.is_empty());
        let service = service || !SENTINEL.contains(&scheme);
        let mut nodes = url.query_pairs().filter(|(key, _)| key == "node");
        let has_port = |node: &str| node.split_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let nodes = nodes.all(|(_, node)| has_port(&node));
        if known && named && database && service && nodes { Ok(Self(Secret::new(text))) } else { Err(()) }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::RedisUrl;

    #[test]
    fn each_kind_of_address_is_taken_and_no_other() {
        for good in [
            "redis://127.0.0.1",
            "rediss://roost:p%40ss@redis.internal:6380/2",
            "redis://[::1]:6379",
            "redis-cluster://a:7001?node=b:7002&node=c:7003",
            "redis-sentinel://u:p@a:26379/1?sentinelServiceName=main&node=b:26379",
        ] {
            assert!(good.parse::<RedisUrl>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:6379",
            "http://127.0.0.1:6379",
            "redis://",
            "redis://a:99999",
            "redis://a/x",
            "redis://a/1/2",
            "redis-cluster://a:7001/1",
            "redis-cluster://a:7001?node=b",
            "redis-sentinel://a:26379",
        ] {
            assert!(bad.parse::<RedisUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn it_is_never_printed() {
        let url: RedisUrl = "redis://:hunter2@a".parse().unwrap();
        assert_eq!(format!("{url:?}"), "***");
    }
}
