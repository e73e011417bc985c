//! `GET /ws`: who may have a socket. Everything that can be refused is refused here, before the upgrade;
//! the handshake itself and what flows afterwards are `live`'s.

use super::address::Address;
use super::caller::{Identity, identify_by, is_from_our_page};
use super::live::{Handshake, HandshakeError};
use super::problem::{Code, Problem};
use super::{Edge, cookies, limits};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CONNECTION, ORIGIN, UPGRADE};
use axum::response::{IntoResponse, Response};

/// Upgrades, or says why not.
pub(super) async fn upgrade(State(edge): State<Edge>, address: Address, request: Request) -> Response {
    match accept(&edge, address, request).await {
        Ok(response) => response,
        Err(problem) => {
            let is_no_upgrade = problem.code() == Code::UpgradeRequired;
            let mut response = problem.into_response();
            if is_no_upgrade {
                // RFC 9110, section 15.5.22: a 426 names the protocol.
                response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            }
            response
        }
    }
}

async fn accept(edge: &Edge, address: Address, request: Request) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let handshake = Handshake::read(&mut parts).map_err(|error| match error {
        HandshakeError::NotAnUpgrade => Problem::new(Code::UpgradeRequired).because(error.to_string()),
        HandshakeError::NoKey => Problem::field("Sec-WebSocket-Key", "is missing"),
    })?;
    let identity = identify_by(edge, handshake.token.clone(), cookies::session(&parts.headers)).await;
    let user = match &identity {
        Identity::Known { caller, .. } => Some(caller.user),
        Identity::Nobody | Identity::Refused(_) => None,
    };
    limits::charge(edge, user, address.0).await?;
    let (caller, by_cookie) = match identity {
        Identity::Known { caller, by_cookie } => (caller, by_cookie),
        Identity::Nobody => return Err(Problem::new(Code::Unauthorized)),
        Identity::Refused(problem) => return Err(problem),
    };
    // A browser lets any page open a socket, and sends the cookie along.
    if by_cookie && parts.headers.contains_key(ORIGIN) && !is_from_our_page(&parts, edge) {
        return Err(Problem::new(Code::ForeignOrigin));
    }
    let cursor = handshake.cursor().map_err(|error| Problem::field("cursor", error.to_string()))?;
    edge.health.ready().map_err(|why| Problem::new(Code::NotReady).because(why))?;
    Ok(handshake.accept(&edge.live, caller, cursor))
}
