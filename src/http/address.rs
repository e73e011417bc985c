//! A client's address: the peer's own, or what trusted proxies say in `Forwarded` or `X-Forwarded-For`.
//!
//! Owns the walk from the peer towards the client, which ends at the first address that is not a
//! trusted proxy's: what stands left of it, anybody may have written. Refuses to choose where both
//! headers are there and disagree, since a proxy that writes one may hand on the other as it came.

use super::Edge;
use super::listener::Peer;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::FORWARDED;
use axum::http::request::Parts;
use ipnet::IpNet;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// More proxies than stand in any sane row; the walk goes no farther.
const MAX_HOPS: usize = 16;

/// The address that a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub IpAddr);

impl FromRequestParts<Edge> for Address {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Infallible> {
        let peer =
            parts.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.addr.ip());
        Ok(Self(client(peer, &parts.headers, &edge.settings.trusted_proxies)))
    }
}

/// The client's address of a request that `peer` handed over.
#[must_use]
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let listed = walk(peer, lines(headers, "x-forwarded-for").map(hop), trusted);
    let forwarded = walk(peer, lines(headers, FORWARDED.as_str()).map(forwarded_for), trusted);
    match (listed, forwarded) {
        (Some(one), Some(other)) if one != other => peer,
        (Some(found), _) | (None, Some(found)) => found,
        (None, None) => peer,
    }
}

/// Walks `hops`, the nearest first; none where there are none.
fn walk(peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut reached = None;
    for hop in hops.take(MAX_HOPS) {
        let Some(hop) = hop else { return Some(reached.unwrap_or(peer)) };
        reached = Some(hop);
        if !is_trusted(hop, trusted) {
            break;
        }
    }
    reached
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// The elements of a header that is a list, over all its lines, last first.
fn lines<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let mut found: Vec<&str> = headers
        .get_all(name)
        .iter()
        // A line that is no text hides who is behind it, as an unknown hop does.
        .map(|line| line.to_str().unwrap_or("unknown"))
        .collect();
    found.reverse();
    found.into_iter().flat_map(|line| line.rsplit(',').map(str::trim))
}

/// One hop of `X-Forwarded-For`: an address, perhaps with a port.
fn hop(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address =
        bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

/// The `for` of one element of `Forwarded` (RFC 7239): `for="[2001:db8::1]:4711";proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| hop(value.trim().trim_matches('"')))?
    })
}

#[cfg(test)]
mod tests {
    use super::client;
    use axum::http::{HeaderMap, HeaderName, HeaderValue};
    use ipnet::IpNet;
    use std::net::IpAddr;

    fn check(peer: &str, headers: &[(&'static str, &str)], expect: &str) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].iter().map(|net| net.parse().unwrap()).collect();
        let found = client(peer.parse().unwrap(), &map, &trusted);
        assert_eq!(found, expect.parse::<IpAddr>().unwrap(), "{peer} {headers:?}");
    }

    #[test]
    fn a_peer_that_is_no_trusted_proxy_speaks_for_itself_alone() {
        check("192.0.2.1", &[("x-forwarded-for", "198.51.100.1")], "192.0.2.1");
        check("192.0.2.1", &[("forwarded", "for=198.51.100.1")], "192.0.2.1");
        check("::ffff:192.0.2.1", &[], "192.0.2.1");
    }

    #[test]
    fn of_a_trusted_proxy_the_rightmost_stranger_counts() {
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &[("x-forwarded-for", "198.51.100.1")], "198.51.100.1");
        check("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, 198.51.100.1, 10.0.0.2")], "198.51.100.1");
        check("::ffff:10.0.0.1", &[("x-forwarded-for", "198.51.100.1:4711")], "198.51.100.1");
        check("fd00::1", &[("x-forwarded-for", "[2001:db8::1]:4711")], "2001:db8::1");
        check("fd00::1", &[("x-forwarded-for", "2001:db8::1")], "2001:db8::1");
        check(
            "10.0.0.1",
            &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.1")],
            "198.51.100.1",
        );
        check("10.0.0.1", &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], "10.0.0.3");
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        check("10.0.0.1", &[("forwarded", "for=198.51.100.1;proto=https;by=10.0.0.1")], "198.51.100.1");
        check("10.0.0.1", &[("forwarded", r#"For="[2001:db8::1]:4711""#)], "2001:db8::1");
        check("10.0.0.1", &[("forwarded", "for=6.6.6.6, for=198.51.100.1, for=10.0.0.9")], "198.51.100.1");
    }

    #[test]
    fn what_is_no_address_ends_the_walk_at_the_last_that_was() {
        check("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, unknown, 10.0.0.2")], "10.0.0.2");
        check("10.0.0.1", &[("forwarded", "for=6.6.6.6, for=_hidden")], "10.0.0.1");
        check("10.0.0.1", &[("x-forwarded-for", "")], "10.0.0.1");
        check("10.0.0.1", &[("x-forwarded-for", ",,,")], "10.0.0.1");
    }

    #[test]
    fn headers_that_disagree_are_not_believed() {
        let both = [("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=6.6.6.6")];
        check("10.0.0.1", &both, "10.0.0.1");
        let same = [("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=198.51.100.1")];
        check("10.0.0.1", &same, "198.51.100.1");
    }
}
