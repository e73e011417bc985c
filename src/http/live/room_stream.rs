//! `GET /api/rooms/{room_id}/stream`: Server-Sent Events, how a room stands whenever that changed, four times a second at most.
//!
//! Needs no token. A client that reads slowly is shown what is newest when it has read. Streams are bounded by room and by address. Each event is whole; who comes back needs no place.

use super::sse::{self, Blocks, COMMENT, QUIET};
use crate::actors::room_watch::{Seen, Watching};
use crate::actors::streams::{StreamEnd, StreamSeat};
use crate::http::Edge;
use crate::http::address::Address;
use crate::http::limits::bucket;
use crate::http::listener::{Lifeline, Peer};
use crate::http::path::RoomPath;
use crate::http::problem::{Code, Problem};
use crate::http::rooms::StatsShown;
use crate::model::id::{LoginId, UserId};
use crate::model::room::{Room, RoomStats};
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Between two events.
const BETWEEN: Duration = Duration::from_millis(250);
/// A client whose connection breaks comes back after so long.
const OPENING: &str = "retry: 2000\n\n";

/// Answers with a stream.
pub(in crate::http) async fn open(
    State(edge): State<Edge>,
    Address(address): Address,
    Extension(lifeline): Extension<Lifeline>,
    Extension(peer): Extension<Peer>,
    RoomPath(id): RoomPath,
    request: Request,
) -> Result<Response, Problem> {
    if !edge.live.node.is_open() {
        return Err(Problem::new(Code::NotReady).because("the node takes no streams now"));
    }
    let (room, watching) = edge.services.rooms.watch(id, bucket(address)).await?;
    // Nobody's stream: it ends with the node alone.
    let seat = edge.live.node.roster.streams.join(UserId::make(), LoginId::make(), 1);
    let now = Instant::now();
    let stream = Stream {
        room,
        watching,
        seat,
        opening: Some(OPENING),
        shown: None,
        next_at: now,
        comment_at: now + QUIET,
        is_over: false,
    };
    Ok(sse::answer(&request.into_parts().0, peer, &lifeline, stream))
}

/// What one stream goes on with; its place in every table is given up when this is dropped.
struct Stream {
    room: Arc<Room>,
    watching: Watching,
    seat: StreamSeat,
    opening: Option<&'static str>,
    shown: Option<Arc<RoomStats>>,
    /// When the next event may be sent.
    next_at: Instant,
    /// When a comment is due.
    comment_at: Instant,
    is_over: bool,
}

impl Blocks for Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let chunk = match self.opening.take() {
            Some(opening) => Bytes::from_static(opening.as_bytes()),
            None => self.more().await,
        };
        self.comment_at = Instant::now() + QUIET;
        Some(chunk)
    }
}

impl Stream {
    async fn more(&mut self) -> Bytes {
        loop {
            let (may, comment_at) = (self.next_at, self.comment_at);
            tokio::select! {
                biased;
                reason = self.seat.ended() => return self.end(reason),
                () = sleep_until(comment_at) => return Bytes::from_static(COMMENT),
                () = changed(&mut self.watching, self.shown.is_some(), may) => {
                    if let Some(chunk) = self.show() {
                        return chunk;
                    }
                }
            }
        }
    }

    /// How the room stands now, if that is not what was shown last.
    fn show(&mut self) -> Option<Bytes> {
        match self.watching.now() {
            Seen::Stats(stats) if self.shown.as_ref().is_none_or(|shown| !shown.is_as(&stats)) => {
                // Text and numbers alone: nothing that could fail to serialise.
                let data = serde_json::to_string(&StatsShown::of(&self.room, &stats)).unwrap_or_default();
                self.shown = Some(stats);
                self.next_at = Instant::now() + BETWEEN;
                Some(format!("event: stats\ndata: {data}\n\n").into())
            }
            Seen::Ended => {
                self.is_over = true;
                Some(Bytes::from_static(b"event: ended\ndata: {}\n\n"))
            }
            Seen::Nothing | Seen::Stats(_) => None,
        }
    }

    fn end(&mut self, reason: StreamEnd) -> Bytes {
        self.is_over = true;
        let after_ms = match reason {
            StreamEnd::Leaving { after_ms } => after_ms,
            // Of a stream that is nobody's, neither comes.
            StreamEnd::Expired | StreamEnd::TakenOver => 1_000,
        };
        format!("event: reconnect\nretry: {after_ms}\ndata: {{\"after_ms\":{after_ms}}}\n\n").into()
    }
}

/// Waits until there is something to show, and it may be.
async fn changed(watching: &mut Watching, is_shown: bool, may: Instant) {
    // In this order: what is noticed is shown.
    sleep_until(may).await;
    if is_shown {
        watching.changed().await;
    }
}
