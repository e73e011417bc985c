//! `GET /ws/rooms` and `GET /ws/rooms/{room_id}`: the socket of a room's host, and its task.
//!
//! It says at the room's home that its host is there, and puts the room's effects into the outbox in order of `seq`, while there
//! is room. What the host has, it tells the home: of a host that acknowledges, what it acknowledged; of one that never does,
//! what was written *and* has been answered a ping behind it, or written when the client ended the connection in order. So a
//! host that does not read loses nothing, though its system took the bytes: it is closed with 4008 where the outbox does not
//! empty for `STALL`, and is sent those effects again when it is back.

use super::line::{CLOSING, Line, reason_of};
use super::progress::Progress;
use super::pulse::Pulse;
use super::wire::{Reading, Upgrade, Wrote};
use super::{Handshake, Live, admit, switching};
use crate::actors::hosts::{HostEnd, HostFeed, HostNews};
use crate::actors::room_homes::{Hosting, RoomHomes};
use crate::actors::seat::Seat;
use crate::http::Edge;
use crate::http::address::Address;
use crate::http::listener::{Peer, Slot};
use crate::http::path::RoomPath;
use crate::http::problem::{Code, Problem};
use crate::http::rooms::WebBase;
use crate::model::close::Close;
use crate::model::frame::{self, FrameError, ServerFrame};
use crate::model::id::{ConnectionId, RoomId};
use crate::model::room::frames::{HostFrame, HostFrameError, game_event, room_created};
use crate::model::room::{Effect, Room};
use crate::model::secret::Secret;
use crate::model::user::Caller;
use crate::telemetry::metric;
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::{FutureExt, StreamExt};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};

/// Frames that were not understood, in a row, after which a connection closes.
const BAD_FRAMES: u32 = 10;
/// How long the outbox of a host may be half full, before the host is too slow.
const STALL: Duration = Duration::from_secs(10);
/// Messages that are kept of what the client says before it is attached.
const EARLY: usize = 16;

/// Makes a room, and is its host.
pub(in crate::http) async fn make(
    State(edge): State<Edge>,
    address: Address,
    request: Request,
) -> Result<Response, Problem> {
    open(edge, address, request, None).await
}

/// Takes a room up again as its host.
pub(in crate::http) async fn take_up(
    State(edge): State<Edge>,
    address: Address,
    RoomPath(room): RoomPath,
    request: Request,
) -> Result<Response, Problem> {
    open(edge, address, request, Some(room)).await
}

async fn open(
    edge: Edge,
    Address(address): Address,
    request: Request,
    room: Option<RoomId>,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let (handshake, caller) = admit(&edge, &mut parts, address).await?;
    if !edge.live.node.is_open() {
        return Err(Problem::new(Code::NotReady).because("the node takes no connections now"));
    }
    let room = match room {
        Some(id) => edge.services.rooms.own_anew(&caller, id).await?,
        None => Arc::new(edge.services.rooms.make(&caller, None).await?),
    };
    let is_tls = parts.extensions.get::<Peer>().is_some_and(|peer| peer.tls);
    let web_url = WebBase::by(&edge, &parts.headers, is_tls).of(room.id);
    let slot = parts.extensions.remove::<Slot>();
    let Handshake { upgrade, accept, bearer_protocol, .. } = handshake;
    tokio::spawn(async move {
        if let Some(upgrade) = upgrade.await.ok().and_then(Upgrade::of) {
            HostSocket::open(&edge.live, upgrade, caller, room).await.run(&web_url).await;
        }
        // Held until here: the connection counts among those that are open.
        drop(slot);
    });
    Ok(switching(accept, bearer_protocol))
}

/// One host's connection.
struct HostSocket {
    line: Line,
    seat: Seat,
    rooms: Arc<RoomHomes>,
    room: Arc<Room>,
    pulse: Pulse,
    bad_frames: u32,
    /// What the client said before it was attached.
    early: VecDeque<Message>,
    /// A newer token that is being checked.
    renewal: Option<Renewal>,
    /// Effects that did not go into the outbox yet, in order.
    waiting: VecDeque<Effect>,
    /// What the host has been given and has.
    progress: Progress,
    /// Since when the outbox is half full.
    full_since: Option<Instant>,
    /// When a closing connection is dropped.
    dropped_at: Option<Instant>,
}

type Renewal = Pin<Box<dyn Future<Output = Result<Caller, &'static str>> + Send>>;

/// The room's side of a connection.
struct Attachment {
    hosting: Arc<Hosting>,
    feed: HostFeed,
    /// Says at the home that the host is there, and what it has; ends with this.
    _telling: JoinSet<()>,
}

impl HostSocket {
    async fn open(live: &Live, upgrade: Upgrade, caller: Caller, room: Arc<Room>) -> Self {
        let line = Line::open(upgrade, live.bounds).await;
        let world = live.world.clone();
        let pulse = Pulse::new(world.heartbeat, world.idle_timeout, caller.expires_at);
        let seat = Seat::take(world, ConnectionId::make(), caller, line.outbox.clone());
        let progress = Progress::new();
        Self {
            line,
            seat,
            rooms: live.node.rooms.clone(),
            room,
            pulse,
            bad_frames: 0,
            early: VecDeque::new(),
            renewal: None,
            waiting: VecDeque::new(),
            progress,
            full_since: None,
            dropped_at: None,
        }
    }

    /// Serves the connection until its end.
    async fn run(mut self, web_url: &str) {
        // Boxed: what attaching needs would sit in every idle connection.
        let mut attachment = if self.is_there() { Box::pin(self.attach()).await } else { None };
        if attachment.is_some() {
            self.line.outbox.say(room_created(self.room.id, web_url));
            self.line.frames.get_mut().release();
        }
        let reason = self.serve(&mut attachment).await;
        metrics::counter!(metric::CLOSES, "reason" => reason.reason()).increment(1);
        // Whatever the outbox is told from now on goes nowhere.
        self.line.outbox.close(reason);
        if let Some(Attachment { hosting, feed, _telling }) = attachment {
            drop((feed, _telling));
            let (has, by_host) = self.progress.has();
            let is_news = has > hosting.sent;
            hosting.leave(is_news.then_some((has, by_host)));
        }
        self.line.end().await;
    }

    /// Whether the client has not gone by now. One that gave up a node that hung may be connected elsewhere: it must not be told
    /// there that another has taken its place. What it said is answered behind the first frame.
    fn is_there(&mut self) -> bool {
        self.line.frames.get_mut().hold();
        while self.early.len() < EARLY
            && let Some(message) = self.line.frames.next().now_or_never()
        {
            match message {
                Some(Ok(message)) if !message.is_close() => self.early.push_back(message),
                end => {
                    if let Some(gone) = self.read(end) {
                        self.line.outbox.close(gone);
                    }
                    break;
                }
            }
        }
        self.line.outbox.closing().is_none()
    }

    /// Says at the room's home that its host is there.
    async fn attach(&mut self) -> Option<Attachment> {
        let attached = self.rooms.host(self.room.id, self.seat.connection).await;
        let (hosting, feed) = match attached {
            Ok(Some(attached)) => attached,
            Ok(None) => {
                self.line.outbox.close(Close::Normal);
                return None;
            }
            Err(error) => {
                let room = self.room.id;
                tracing::warn!(%room, %error, "the host of room {room} cannot begin: {error}");
                self.line.outbox.close(Close::Internal);
                return None;
            }
        };
        self.progress.begin_behind(hosting.sent, hosting.acknowledges);
        let (hosting, line) = (Arc::new(hosting), feed.line().clone());
        let mut telling = JoinSet::new();
        let (keeper, has) = (hosting.clone(), self.progress.subscribe());
        telling.spawn(async move { keeper.keep(&line, has).await });
        let (teller, mut has) = (hosting.clone(), self.progress.subscribe());
        telling.spawn(async move {
            while has.changed().await.is_ok() {
                let (seq, by_host) = *has.borrow_and_update();
                teller.acknowledge(seq, by_host).await;
            }
        });
        Some(Attachment { hosting, feed, _telling: telling })
    }

    async fn serve(&mut self, attachment: &mut Option<Attachment>) -> Close {
        loop {
            let closing = self.line.outbox.closing().is_some();
            if closing && self.dropped_at.is_none() {
                self.dropped_at = Some(Instant::now() + CLOSING);
            }
            self.tell_waiting();
            let has_room = self.line.outbox.has_room();
            self.full_since = if has_room { None } else { self.full_since.or_else(|| Some(Instant::now())) };
            let stalled_at = self.full_since.map(|since| since + STALL);
            let due = self.dropped_at.unwrap_or_else(|| {
                let dues = [stalled_at, self.progress.ping_at()].into_iter().flatten();
                dues.fold(self.pulse.next(), Instant::min)
            });
            tokio::select! {
                message = said(&mut self.early, &mut self.line.frames), if self.renewal.is_none() && !closing => {
                    if let Some(gone) = self.read(message) {
                        return self.line.outbox.closing().unwrap_or(gone);
                    }
                }
                renewed = answered(&mut self.renewal) => {
                    self.renewal = None;
                    self.renew(renewed);
                }
                news = next(attachment), if has_room && !closing => self.hear_of(news),
                wrote = self.line.writing.step(&self.line.outbox) => match wrote {
                    Wrote::Some => {}
                    Wrote::Closed(reason) => {
                        self.line.linger().await;
                        return reason;
                    }
                    Wrote::Broken => return self.line.outbox.closing().unwrap_or(Close::Normal),
                },
                () = sleep_until(due) => match self.line.outbox.closing() {
                    Some(reason) if self.dropped_at.is_some_and(|at| at <= Instant::now()) => return reason,
                    Some(_) => {}
                    None if stalled_at.is_some_and(|stalled| stalled <= Instant::now()) => {
                        self.line.outbox.close(Close::TooSlow);
                    }
                    None => self.pulse.beat(&self.line.outbox),
                }
            }
        }
    }

    /// Takes what was read; answers with a reason where the connection is over.
    fn read(&mut self, message: Option<Result<Message, Error>>) -> Option<Close> {
        if matches!(
            message,
            None | Some(
                Ok(Message::Close(_)) | Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))
            )
        ) {
            self.ended_in_order();
        }
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                let Some(reason) = reason_of(&error) else { return Some(Close::Normal) };
                self.line.outbox.close(reason);
                return None;
            }
            None => return Some(Close::Normal),
        };
        if matches!(message, Message::Text(_) | Message::Ping(_)) {
            self.pulse.heard();
            self.seat.is_there();
        }
        let counts = !matches!(message, Message::Pong(_) | Message::Close(_));
        if counts && self.line.is_too_fast() {
            self.line.outbox.close(Close::TooFast);
            return None;
        }
        match message {
            Message::Text(text) => self.hear(HostFrame::parse(&text)),
            Message::Binary(_) => self.hear(Err(FrameError::Binary.into())),
            Message::Pong(payload) => {
                self.pulse.answered();
                self.progress.ponged(payload.as_ref().try_into().map(u64::from_be_bytes).ok());
            }
            Message::Close(_) => self.line.outbox.close(Close::Normal),
            // A ping is answered by the library.
            Message::Ping(_) | Message::Frame(_) => {}
        }
        None
    }

    fn hear(&mut self, frame: Result<HostFrame, HostFrameError>) {
        match frame {
            Ok(frame) => {
                self.bad_frames = 0;
                match frame {
                    HostFrame::Ping => self.line.outbox.say(ServerFrame::Pong {}.encode(None)),
                    HostFrame::Auth(token) => self.check(token),
                    HostFrame::Ack(seq) => self.progress.acknowledged(seq),
                }
            }
            Err(error) => {
                self.seat.refuse(error.code(), &error.to_string());
                self.bad_frames += 1;
                if self.bad_frames == BAD_FRAMES {
                    self.line.outbox.close(Close::BadFrames);
                }
            }
        }
    }

    fn hear_of(&mut self, news: HostNews) {
        match news {
            HostNews::Effects(effects) => self.waiting.extend(effects),
            HostNews::End(HostEnd::TakenOver) => self.line.outbox.close(Close::TakenOver),
            HostNews::End(HostEnd::RoomEnded) => self.line.outbox.close(Close::Normal),
        }
    }

    /// Effects go into the outbox while there is room, and behind them a ping for a host that does not say itself what it has.
    fn tell_waiting(&mut self) {
        while self.line.outbox.has_room()
            && let Some(effect) = self.waiting.pop_front()
        {
            self.tell_effect(&effect);
        }
        self.ping_behind();
    }

    fn tell_effect(&mut self, effect: &Effect) {
        if let Some(event_type) = self.room.event_types.at(effect.event_type) {
            let event = game_event(self.room.id, &event_type.name, effect);
            self.line.outbox.say(frame::text(event.as_bytes()));
        }
        self.progress.tell(effect.seq);
    }

    fn ping_behind(&mut self) {
        if let Some(seq) = self.progress.ping_due(Instant::now()) {
            self.line.outbox.say(frame::ping_with(seq.to_be_bytes()));
        }
    }

    /// The client ended the connection, having read what it was sent.
    fn ended_in_order(&mut self) {
        if self.line.outbox.closing().is_none() && self.line.outbox.is_written() {
            self.progress.written();
        }
    }

    fn check(&mut self, token: Secret) {
        self.renewal = Some((self.seat.world.authenticate)(token));
    }

    /// The same user's newer token: the connection lives as long as that.
    fn renew(&mut self, checked: Result<Caller, &'static str>) {
        if self.seat.renew(checked) {
            self.pulse.expire_at(self.seat.caller.expires_at);
        }
    }
}

async fn answered(renewal: &mut Option<Renewal>) -> Result<Caller, &'static str> {
    match renewal {
        Some(renewal) => renewal.await,
        None => std::future::pending().await,
    }
}

/// What the client says next. May be dropped at any await.
async fn said(
    early: &mut VecDeque<Message>,
    frames: &mut WebSocketStream<Reading>,
) -> Option<Result<Message, Error>> {
    match early.pop_front() {
        Some(message) => Some(Ok(message)),
        None => frames.next().await,
    }
}

async fn next(attachment: &mut Option<Attachment>) -> HostNews {
    match attachment {
        Some(attachment) => attachment.feed.next().await,
        None => std::future::pending().await,
    }
}
