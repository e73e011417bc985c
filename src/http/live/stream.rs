//! `GET /api/chat/stream`: Server-Sent Events (WHATWG HTML, section 9.2), the user's chat inbox as it grows.
//!
//! Refusals come before the answer, as problem+json. The client's own place is in the `id` of what it was sent; what came
//! while nobody listened is told to who comes without one.

use super::deliveries::Deliveries;
use super::sse::{self, Blocks, COMMENT, QUIET};
use super::{query_value, wants};
use crate::actors::inboxes::{Delivery, Feed, Unusable};
use crate::actors::streams::{StreamEnd, StreamSeat};
use crate::http::Edge;
use crate::http::address::Address;
use crate::http::caller::{Identity, identify, is_from_our_page};
use crate::http::headers::RequestId;
use crate::http::limits::charge;
use crate::http::listener::{Lifeline, Peer};
use crate::http::problem::{Code, Problem};
use crate::model::chat::InboxPosition;
use crate::model::id::UserId;
use crate::model::secret::Secret;
use crate::model::timestamp::Timestamp;
use crate::model::user::Caller;
use crate::service::ServiceError;
use axum::extract::{Extension, Request, State};
use axum::http::HeaderMap;
use axum::http::header::ORIGIN;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use std::fmt::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// A client whose connection breaks comes back after so long.
const RETRY: Duration = Duration::from_secs(2);
/// One that was taken over, and comes back all the same, after so long: else a hundred and one would never rest.
const RETRY_TAKEN_OVER: Duration = Duration::from_secs(60);

/// Answers with a stream.
pub(in crate::http) async fn open(
    State(edge): State<Edge>,
    Address(address): Address,
    Extension(request_id): Extension<RequestId>,
    Extension(lifeline): Extension<Lifeline>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = caller(&edge, &parts).await;
    charge(&edge, caller.as_ref().ok().map(|caller| caller.user), address).await?;
    let caller = caller?;
    if !edge.live.node.is_open() {
        return Err(Problem::new(Code::NotReady).because("the node takes no streams now"));
    }
    let node = &edge.live.node;
    let (feed, unusable) = {
        // Thousands come back at once, and each reads the store.
        let _begins = edge.live.world.beginnings.acquire().await;
        let came_with = last_event_id(&parts);
        node.inboxes.listen(caller.user, came_with.as_deref()).await.map_err(ServiceError::from)?
    };
    let seat = node.roster.streams.join(caller.user, caller.login, edge.live.streams);
    // A login may end between the check of its token and its stream's place.
    if edge.live.world.revocations.is_revoked(caller.login) {
        return Err(Problem::new(Code::Unauthorized).because("the token has expired"));
    }
    tracing::debug!(userId = %caller.user, requestId = %request_id.0, ?unusable, "a stream begins");
    let left = caller.expires_at.millis().saturating_sub(Timestamp::now().millis());
    let now = Instant::now();
    let stream = Stream {
        opening: Some(opening(feed.position(), unusable)),
        feed,
        seat,
        user: caller.user,
        request_id: request_id.0,
        deliveries: edge.live.streamed.clone(),
        expires_at: now + Duration::from_millis(u64::try_from(left).unwrap_or(0)),
        comment_at: now + QUIET,
        alarm: Box::pin(sleep_until(now)),
        offered: None,
        is_over: false,
    };
    Ok(sse::answer(&parts, peer, &lifeline, stream))
}

/// Whose stream it is: by `?token=`, which an EventSource that cannot send headers takes, else as for any other call.
async fn caller(edge: &Edge, parts: &Parts) -> Result<Caller, Problem> {
    if let Some(token) = query_value(parts, "token") {
        return Ok(edge.services.account.authenticate(&Secret::new(token)).await?);
    }
    match identify(edge, &parts.headers).await {
        Identity::Nobody => Err(Problem::new(Code::Unauthorized)
            .because("This call needs a token: ?token=, Authorization: Bearer, or the cookie")),
        Identity::Refused(problem) => Err(problem),
        // It is a read, but one that moves the mark of what was written to a live stream.
        Identity::Known { by_cookie: true, .. }
            if is_said_to_be_foreign(&parts.headers) && !is_from_our_page(parts, edge) =>
        {
            Err(Problem::new(Code::ForeignOrigin))
        }
        Identity::Known { caller, .. } => Ok(caller),
    }
}

/// Whether a browser says that another page asks. It says nothing of an origin where its own page reads.
fn is_said_to_be_foreign(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    headers.contains_key(ORIGIN) || site.is_some_and(|site| !matches!(site, "same-origin" | "none"))
}

/// Where its client was. An EventSource that comes back by itself asks for the same URL again and adds the header, which
/// is newer.
fn last_event_id(parts: &Parts) -> Option<String> {
    let header = parts.headers.get("last-event-id");
    let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    wants(header).or_else(|| wants(query_value(parts, "lastEventId")))
}

/// What one stream goes on with; its place in every table is given up when this is dropped.
struct Stream {
    feed: Feed,
    seat: StreamSeat,
    user: UserId,
    request_id: Arc<str>,
    deliveries: Arc<Deliveries>,
    expires_at: Instant,
    /// When a comment is due.
    comment_at: Instant,
    /// Wakes it by the time that one of both is due. Not set anew with each event: it may ring too early, and is set then.
    alarm: Pin<Box<Sleep>>,
    /// What it begins with, until that is said.
    opening: Option<String>,
    /// The place of the newest event that was handed over, until more is asked for.
    offered: Option<u64>,
    is_over: bool,
}

impl Blocks for Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(place) = self.offered.take() {
            self.feed.hand(place);
        }
        if self.is_over {
            self.feed.settle();
            return None;
        }
        let chunk = match self.opening.take() {
            Some(opening) => Bytes::from(opening),
            None => self.more().await,
        };
        self.comment_at = Instant::now() + QUIET;
        Some(chunk)
    }
}

impl Stream {
    async fn more(&mut self) -> Bytes {
        loop {
            tokio::select! {
                biased;
                reason = self.seat.ended() => return self.end(reason),
                () = self.alarm.as_mut() => {
                    let now = Instant::now();
                    if self.expires_at <= now {
                        return self.end(StreamEnd::Expired);
                    }
                    if self.comment_at <= now {
                        return Bytes::from_static(COMMENT);
                    }
                    self.alarm.as_mut().reset(self.comment_at.min(self.expires_at));
                }
                deliveries = self.feed.next() => return self.show(&deliveries),
            }
        }
    }

    fn end(&mut self, reason: StreamEnd) -> Bytes {
        self.is_over = true;
        // Without data no client is told of an event.
        let last = match reason {
            StreamEnd::Expired => "event: expired\ndata: {}\n\n".to_owned(),
            StreamEnd::TakenOver => {
                format!("event: taken_over\nretry: {}\ndata: {{}}\n\n", RETRY_TAKEN_OVER.as_millis())
            }
            StreamEnd::Leaving { after_ms } => {
                format!("event: reconnect\nretry: {after_ms}\ndata: {{\"after_ms\":{after_ms}}}\n\n")
            }
        };
        Bytes::from(last)
    }

    fn show(&mut self, deliveries: &[Delivery]) -> Bytes {
        let mut text = String::with_capacity(192 * deliveries.len());
        for delivery in deliveries {
            self.deliveries.note(&self.request_id, self.user, delivery);
            write_event(&mut text, delivery, self.feed.position_of(delivery.place));
        }
        self.offered = deliveries.last().map(|delivery| delivery.place);
        Bytes::from(text)
    }
}

/// How long to wait before coming back, and where the client stands, so that even one that is cut before the first event
/// resumes from there: a block without data tells nobody anything, and sets the last event id.
fn opening(position: InboxPosition, unusable: Option<Unusable>) -> String {
    let mut text = format!("retry: {}\nid: {position}\n\n", RETRY.as_millis());
    if let Some(unusable) = unusable {
        // Writing to a text cannot fail.
        let _ = write!(text, "event: resync\ndata: {{\"reason\":\"{}\"}}\n\n", unusable.reason());
    }
    text
}

fn write_event(text: &mut String, delivery: &Delivery, position: InboxPosition) {
    let (message, conversation) = (delivery.event.message, delivery.event.conversation);
    // Writing to a text cannot fail.
    let _ = write!(
        text,
        "event: message\nid: {position}\ndata: {{\"messageId\":\"{message}\",\"conversationId\":\"{conversation}\"}}\n\n"
    );
}

#[cfg(test)]
mod tests {
    use super::{is_said_to_be_foreign, last_event_id, opening, write_event};
    use crate::actors::inboxes::{Delivery, Unusable};
    use crate::model::chat::{InboxPosition, MessageEvent};
    use crate::model::cursor::StoreName;
    use crate::model::id::{ConversationId, MessageId, UserId};
    use axum::http::{HeaderMap, HeaderValue, Request};

    #[test]
    fn a_stream_opens_with_where_it_stands_and_an_event_with_where_it_leads() {
        let position = InboxPosition { store: StoreName(1), user: UserId::make(), place: 7 };
        assert_eq!(opening(position, None), format!("retry: 2000\nid: {position}\n\n"));
        let resync = opening(position, Some(Unusable::Expired));
        assert!(resync.ends_with("\n\nevent: resync\ndata: {\"reason\":\"expired\"}\n\n"), "{resync}");
        let event = MessageEvent { message: MessageId::make(), conversation: ConversationId::make() };
        let mut text = String::new();
        write_event(&mut text, &Delivery { event, place: 7, told_at: None }, position);
        let data =
            format!(r#"{{"messageId":"{}","conversationId":"{}"}}"#, event.message, event.conversation);
        assert_eq!(text, format!("event: message\nid: {position}\ndata: {data}\n\n"));
    }

    #[test]
    fn the_header_is_newer_than_the_url_and_an_empty_one_says_nothing() {
        let asked = |header: Option<&str>, query: &str| {
            let mut request = Request::get(format!("/api/chat/stream{query}"));
            if let Some(header) = header {
                request = request.header("last-event-id", header);
            }
            last_event_id(&request.body(()).unwrap().into_parts().0)
        };
        assert_eq!(asked(Some("new"), "?lastEventId=old").as_deref(), Some("new"));
        assert_eq!(asked(Some(""), "?lastEventId=old").as_deref(), Some("old"));
        assert_eq!(asked(None, "?lastEventId="), None);
        assert_eq!(asked(None, ""), None);
    }

    #[test]
    fn a_browsers_own_page_says_nothing_of_an_origin() {
        let check = |pairs: &[(&'static str, &'static str)], expect| {
            let headers: HeaderMap = pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(is_said_to_be_foreign(&headers), expect, "{pairs:?}");
        };
        check(&[], false);
        check(&[("sec-fetch-site", "same-origin")], false);
        check(&[("sec-fetch-site", "none")], false);
        check(&[("sec-fetch-site", "same-site")], true);
        check(&[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")], true);
    }
}
