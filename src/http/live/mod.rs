//! `GET /ws`: the upgrade. What flows afterwards is [`socket`]'s and the session's. Beside it [`stream`], which carries
//! chats alone, over plain HTTP; for rooms [`host`], at `/ws/rooms`, and [`room_stream`].
//!
//! A token comes as `?token=`, as `Authorization: Bearer` or as the subprotocol pair `bearer, {jwt}`. All
//! refusals come before the upgrade, as problem+json.

pub mod deliveries;
pub mod host;
pub mod inbox;
pub mod line;
pub mod progress;
pub mod pulse;
pub mod room_stream;
pub mod socket;
mod sse;
pub mod stream;
pub mod wire;

use self::deliveries::Deliveries;
use self::inbox::Inbox;
use self::socket::{Bounds, Socket};
use self::wire::Upgrade;
use super::Edge;
use super::address::Address;
use super::caller::is_from_our_page;
use super::cookies;
use super::headers::RequestId;
use super::limits::charge;
use super::listener::Slot;
use super::problem::{Code, Problem};
use crate::actors::node::NodeHandle;
use crate::actors::session::{Beginning, SessionArguments, SessionWorld};
use crate::model::cursor::{Cursor, CursorError};
use crate::model::id::ConnectionId;
use crate::model::secret::Secret;
use crate::model::user::Caller;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::header::{
    AUTHORIZATION, CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The subprotocol that is followed by a token.
const BEARER: &str = "bearer";

/// What live connections stand on.
pub struct Live {
    /// The actors.
    pub node: Arc<NodeHandle>,
    /// What every session stands on.
    pub world: Arc<SessionWorld>,
    /// The bounds of each.
    pub bounds: Bounds,
    /// Chat streams that a user may hold.
    pub streams: usize,
    /// Chat events that streams were given.
    pub streamed: Arc<Deliveries>,
    /// Chat events that sockets were given.
    pub on_sockets: Arc<Deliveries>,
}

/// Why a request for `/ws` is not an upgrade that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// No upgrade was asked for, or one of another version of the protocol.
    #[error("this path speaks WebSocket: ask for an upgrade (RFC 6455, version 13) over HTTP/1.1")]
    NotAnUpgrade,
    /// Without `Sec-WebSocket-Key`.
    #[error("the header Sec-WebSocket-Key is missing")]
    NoKey,
}

/// An upgrade that was asked for by the rules, and what it came with.
struct Handshake {
    upgrade: OnUpgrade,
    accept: String,
    bearer_protocol: bool,
    /// Wherever it stood; none where a cookie is to speak.
    token: Option<Secret>,
    cursor: Option<String>,
    chat_cursor: Option<String>,
}

/// Answers `GET /ws`.
pub(super) async fn upgrade(
    State(edge): State<Edge>,
    Address(address): Address,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let (handshake, caller) = admit(&edge, &mut parts, address).await?;
    let cursor = handshake.cursor().map_err(|error| Problem::field("cursor", error.to_string()))?;
    if !edge.live.node.is_open() {
        return Err(Problem::new(Code::NotReady).because("the node takes no connections now"));
    }
    let slot = parts.extensions.remove::<Slot>();
    Ok(handshake.accept(&edge.live, caller, cursor, request_id, slot))
}

/// Who asks for an upgrade, and which; it is charged to the caller, or to the address where nobody is known.
async fn admit(edge: &Edge, parts: &mut Parts, address: IpAddr) -> Result<(Handshake, Caller), Problem> {
    let handshake = Handshake::read(parts)?;
    let caller = caller(edge, &handshake, parts).await;
    charge(edge, caller.as_ref().ok().map(|caller| caller.user), address).await?;
    Ok((handshake, caller?))
}

/// Whose upgrade it is: by its token, else by the cookie, which a page of ours must have sent.
async fn caller(edge: &Edge, handshake: &Handshake, parts: &Parts) -> Result<Caller, Problem> {
    let account = &edge.services.account;
    if let Some(token) = &handshake.token {
        return Ok(account.authenticate(token).await?);
    }
    let cookie = cookies::session(&parts.headers).ok_or_else(|| Problem::new(Code::Unauthorized))?;
    if !is_from_our_page(parts, edge) {
        return Err(Problem::new(Code::ForeignOrigin));
    }
    Ok(account.authenticate_cookie(&cookie).await?)
}

impl From<HandshakeError> for Problem {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::NotAnUpgrade => Self::new(Code::UpgradeRequired).because(error.to_string()),
            HandshakeError::NoKey => Self::field("sec-websocket-key", "is missing"),
        }
    }
}

impl Handshake {
    /// Reads a request for an upgrade.
    fn read(parts: &mut Parts) -> Result<Self, HandshakeError> {
        let headers = &parts.headers;
        let asked = parts.method == Method::GET
            && parts.version == Version::HTTP_11
            && has_word(headers, &CONNECTION, "upgrade")
            && has_word(headers, &UPGRADE, "websocket")
            && has_word(headers, &SEC_WEBSOCKET_VERSION, "13");
        if !asked {
            return Err(HandshakeError::NotAnUpgrade);
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(HandshakeError::NoKey)?;
        let accept = derive_accept_key(key.as_bytes());
        let from_protocol = protocol_token(headers);
        let bearer_protocol = from_protocol.is_some();
        let token = query_value(parts, "token").or_else(|| header_token(headers)).or(from_protocol);
        let cursor = query_value(parts, "cursor");
        let chat_cursor = wants(query_value(parts, "chat_cursor"));
        let upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(HandshakeError::NotAnUpgrade)?;
        Ok(Self { upgrade, accept, bearer_protocol, token: token.map(Secret::new), cursor, chat_cursor })
    }

    /// The cursor to resume from, if one came along.
    fn cursor(&self) -> Result<Option<Cursor>, CursorError> {
        self.cursor.as_deref().map(str::parse).transpose()
    }

    /// Upgrades for a caller whose token was checked: answers 101, and the connection lives on.
    fn accept(
        self,
        live: &Live,
        caller: Caller,
        cursor: Option<Cursor>,
        request_id: RequestId,
        slot: Option<Slot>,
    ) -> Response {
        // From here on the client counts as connected, so before it can know.
        let start = live.node.beginning();
        let (world, bounds, deliveries) = (live.world.clone(), live.bounds, live.on_sockets.clone());
        let (upgrade, chat_cursor) = (self.upgrade, self.chat_cursor);
        tokio::spawn(async move {
            // Boxed: what beginning needs would sit in every idle connection.
            let socket = Box::pin(async move {
                let upgrade = upgrade.await.ok().and_then(Upgrade::of)?;
                let connection = ConnectionId::make();
                let (feed, inbox) = oneshot::channel();
                let inbox = Inbox::awaited(inbox, request_id.0, deliveries);
                let beginning = Beginning { cursor, start, chat_cursor, feed };
                let arguments = |outbox| SessionArguments { world, connection, caller, outbox, beginning };
                Socket::open(upgrade, bounds, inbox, arguments).await
            });
            if let Some(mut socket) = socket.await {
                socket.run().await;
            }
            // Held until here: the connection counts among those that are open.
            drop(slot);
        });
        switching(self.accept, self.bearer_protocol)
    }
}

/// The answer to an upgrade.
fn switching(accept: String, bearer_protocol: bool) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if bearer_protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BEARER));
    }
    response
}

/// Whether a comma-separated header has a word, regardless of case.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    words(headers, name).any(|found| found.eq_ignore_ascii_case(word))
}

fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn header_token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// The word behind `bearer` among the subprotocols.
fn protocol_token(headers: &HeaderMap) -> Option<String> {
    let mut words = words(headers, &SEC_WEBSOCKET_PROTOCOL);
    words.by_ref().find(|word| *word == BEARER)?;
    words.next().map(str::to_owned)
}

fn query_value(parts: &Parts, name: &str) -> Option<String> {
    let query = parts.uri.query()?;
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// A text that says something.
fn wants(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Handshake, HandshakeError, protocol_token};
    use axum::http::{HeaderMap, HeaderValue, Request};

    fn read(request: Request<()>) -> Option<HandshakeError> {
        Handshake::read(&mut request.into_parts().0).err()
    }

    #[test]
    fn what_asks_for_no_upgrade_is_told_so() {
        assert_eq!(read(Request::new(())), Some(HandshakeError::NotAnUpgrade));
        let asked = |version: &str| {
            Request::builder()
                .header("connection", "keep-alive, Upgrade")
                .header("upgrade", "WebSocket")
                .header("sec-websocket-version", version)
                .body(())
                .unwrap()
        };
        assert_eq!(read(asked("13")), Some(HandshakeError::NoKey));
        assert_eq!(read(asked("8")), Some(HandshakeError::NotAnUpgrade));
    }

    #[test]
    fn a_token_stands_behind_bearer_among_the_subprotocols() {
        let mut headers = HeaderMap::new();
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("bearer, a.b.c"));
        assert_eq!(protocol_token(&headers).as_deref(), Some("a.b.c"));
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
        assert_eq!(protocol_token(&headers), None);
    }
}
