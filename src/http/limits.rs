//! How much one user or one address may ask for.
//!
//! Owns the rule that every request takes exactly one token: of its user where its credentials are good,
//! else of its address. Health and metrics take none, for they must answer when nothing else does; an
//! upgrade of `/ws` or `/ws/rooms` and a stream of chats are charged by their own handlers, which alone know their tokens.

use super::Edge;
use super::address::Address;
use super::caller::{Identity, identify};
use super::problem::Problem;
use crate::model::id::UserId;
use crate::storage::volatile::Counted;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, Ipv6Addr};

/// Finds out who asks, charges for it, and lets the request through with its [`Identity`].
pub async fn admit(State(edge): State<Edge>, address: Address, mut request: Request, next: Next) -> Response {
    if is_free(request.uri().path()) {
        return next.run(request).await;
    }
    let identity = identify(&edge, request.headers()).await;
    let user = match &identity {
        Identity::Known { caller, .. } => Some(caller.user),
        Identity::Nobody | Identity::Refused(_) => None,
    };
    if let Some(user) = user {
        tracing::Span::current().record("user", tracing::field::display(user));
    }
    if let Err(problem) = charge(&edge, user, address.0).await {
        return problem.into_response();
    }
    request.extensions_mut().insert(identity);
    next.run(request).await
}

/// Takes one request's token: of `user` where it is known, else of `address`.
///
/// # Errors
/// 429 where there is none, 503 where the limits do not answer.
pub async fn charge(edge: &Edge, user: Option<UserId>, address: IpAddr) -> Result<(), Problem> {
    match user {
        Some(user) => take(edge, Counted::Request(user), "requests").await,
        None => take(edge, Counted::AddressRequest(bucket(address)), "requests from this address").await,
    }
}

/// Takes one token of an address's logins and refreshes.
///
/// # Errors
/// As [`charge`].
pub async fn charge_login(edge: &Edge, address: Address) -> Result<(), Problem> {
    take(edge, Counted::Login(bucket(address.0)), "logins from this address").await
}

/// Takes one token of an address's registrations.
///
/// # Errors
/// As [`charge`].
pub async fn charge_registration(edge: &Edge, address: Address) -> Result<(), Problem> {
    take(edge, Counted::Registration(bucket(address.0)), "registrations from this address").await
}

async fn take(edge: &Edge, counted: Counted, what: &str) -> Result<(), Problem> {
    match edge.services.limits.take(counted).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(wait)) => Err(Problem::limited(what, wait)),
        Err(error) => Err(crate::service::ServiceError::from(error).into()),
    }
}

fn is_free(path: &str) -> bool {
    matches!(path, "/ws" | "/ws/rooms" | "/api/chat/stream")
        || path.starts_with("/ws/rooms/")
        || path == "/metrics"
        || path == "/health"
        || path.starts_with("/health/")
}

/// An address as it is counted: of IPv6 the /64, which is what one customer is given.
#[must_use]
pub fn bucket(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn addresses_of_one_ipv6_network_share_a_bucket() {
        let check = |address: &str, expect: &str| {
            assert_eq!(bucket(address.parse().unwrap()).to_string(), expect, "{address}");
        };
        check("192.0.2.1", "192.0.2.1");
        check("::ffff:192.0.2.1", "192.0.2.1");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
    }
}
