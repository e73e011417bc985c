//! `GET /ws/rooms` and `GET /ws/rooms/{room_id}`: the socket of a room's host, and its task.
//!
//! It says at the room's home that its host is there, and puts the room's effects into the outbox in order of `seq`, while there
//! is room. What the host has, it tells the home: of a host that acknowledges, what it acknowledged; of one that never does,
//! what was written *and* has been answered a ping behind it, or written when the client ended the connection in order. So a
//! host that does not read loses nothing, though its system took the bytes: it is closed with 4008 where the outbox does not
//! empty for `STALL`, and is sent those effects again when it is back.

use super::line::{Line, reason_of};
use super::progress::Progress;
use super::pulse::{Due, Pulse};
use super::wire::{Upgrade, Wrote};
use super::{Handshake, Live, caller, switching};
use crate::actors::hosts::{HostEnd, HostFeed, HostNews};
use crate::actors::outbox::Outbox;
use crate::actors::room_homes::{Hosting, RoomHomes};
use crate::actors::session::SessionWorld;
use crate::http::Edge;
use crate::http::address::Address;
use crate::http::limits::charge;
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
use crate::model::timestamp::Timestamp;
use crate::model::user::Caller;
use crate::storage::volatile::Present;
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
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};

/// Frames that were not understood, in a row, after which a connection closes.
const BAD_FRAMES: u32 = 10;
/// How long the outbox of a host may be half full, before the host is too slow.
const STALL: Duration = Duration::from_secs(10);
/// How long a closing connection may take to read what it was sent.
const CLOSING: Duration = Duration::from_secs(5);
/// Pings that follow each other faster say nothing new.
const BETWEEN_PRESENT: Duration = Duration::from_secs(1);

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
    let handshake = Handshake::read(&mut parts)?;
    let caller = caller(&edge, &handshake, &parts).await;
    charge(&edge, caller.as_ref().ok().map(|caller| caller.user), address).await?;
    let caller = caller?;
    if !edge.live.node.is_open() {
        return Err(Problem::new(Code::NotReady).because("the node takes no connections now"));
    }
    let room = match room {
        Some(id) => edge.services.rooms.own(&caller, id).await?,
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

/// A connection's place in the tables, given up when this is dropped.
struct Seat {
    world: Arc<SessionWorld>,
    connection: ConnectionId,
    caller: Caller,
    outbox: Arc<Outbox>,
    /// When it was last said that it is there.
    present_at: Timestamp,
}

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
        let seat = Seat::take(world, caller, line.outbox.clone());
        let progress = Progress::new();
        Self {
            line,
            seat,
            rooms: live.node.rooms.clone(),
            room,
            pulse,
            bad_frames: 0,
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
    /// there that another has taken its place.
    fn is_there(&mut self) -> bool {
        if let Some(message) = self.line.frames.next().now_or_never()
            && let Some(gone) = self.read(message)
        {
            self.line.outbox.close(gone);
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
                message = self.line.frames.next(), if self.renewal.is_none() && !closing => {
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
                    None => match self.pulse.due() {
                        Due::Ping => self.line.outbox.say(frame::ping()),
                        Due::Close(reason) => self.line.outbox.close(reason),
                        Due::Nothing => {}
                    }
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
                self.refuse(error.code(), &error.to_string());
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
        match checked {
            Ok(caller) if caller.user == self.seat.caller.user => {
                self.pulse.expire_at(caller.expires_at);
                self.seat.renew(caller);
                let expires_at = caller.expires_at;
                self.line.outbox.say(ServerFrame::Authenticated { expires_at }.encode(None));
            }
            Ok(_) => self.refuse("unauthorized", "the token is another user's"),
            Err(detail) => self.refuse("unauthorized", detail),
        }
    }

    fn refuse(&self, code: &'static str, detail: &str) {
        self.line.outbox.say(ServerFrame::Error { code, detail }.encode(None));
    }
}

impl Seat {
    fn take(world: Arc<SessionWorld>, caller: Caller, outbox: Arc<Outbox>) -> Self {
        let connection = ConnectionId::make();
        world.roster.join(caller.user, caller.login, connection, outbox.clone(), world.connections);
        let seat = Self { world, connection, caller, outbox, present_at: Timestamp::now() };
        seat.world.presence.put(Present { connection, user: caller.user });
        seat.close_if_ended();
        seat
    }

    fn renew(&mut self, caller: Caller) {
        self.world.roster.renew(caller.user, self.connection, caller.login);
        self.caller = caller;
        self.close_if_ended();
    }

    /// A login may end between the check of its token and its place in the roster.
    fn close_if_ended(&self) {
        if self.world.revocations.is_revoked(self.caller.login) {
            self.outbox.close(Close::Unauthorized);
        }
    }

    /// The client says that it is there.
    fn is_there(&mut self) {
        let now = Timestamp::now();
        if now >= self.present_at.after(BETWEEN_PRESENT) {
            self.present_at = now;
            self.world.presence.put(Present { connection: self.connection, user: self.caller.user });
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Does nothing where the connection is closing for another reason.
        self.outbox.close(Close::Internal);
        self.world.presence.remove(self.connection);
        self.world.roster.leave(self.caller.user, self.connection);
    }
}

async fn answered(renewal: &mut Option<Renewal>) -> Result<Caller, &'static str> {
    match renewal {
        Some(renewal) => renewal.await,
        None => std::future::pending().await,
    }
}

async fn next(attachment: &mut Option<Attachment>) -> HostNews {
    match attachment {
        Some(attachment) => attachment.feed.next().await,
        None => std::future::pending().await,
    }
}
