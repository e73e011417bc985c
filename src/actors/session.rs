//! `Session`: one WebSocket connection: who it is, what it missed, what its client says.
//!
//! It stands in the relays' index *before* it reads what it missed; what relays push meanwhile is held
//! in its [`Outbox`] and follows the replay, less what that contained. So nobody falls between "too
//! early for the live push" and "too late for the replay", and nothing is shown twice.
//!
//! Unlinked: thousands begin and end at once, and linking takes one lock. The connection's socket task
//! owns it; when it ends, by a panic too, its socket closes with 1011 and its place in every table is
//! given up. Its mailbox holds at most one message from the socket, which waits for the answer.

use super::follows::FollowNews;
use super::homes::{Homes, Place};
use super::inboxes::{Feed, Inboxes};
use super::instant::{Instant, Instants};
use super::outbox::Outbox;
use super::relay;
use super::relays::Relays;
use super::replay;
use super::roster::Roster;
use super::seat::Seat;
use super::turns::Turns;
use super::wanted::{Arrivals, Wanted};
use super::watermark::{Start, Watermark};
use crate::model::close::Close;
use crate::model::cursor::{Cursor, Seq};
use crate::model::frame::{ClientFrame, FrameError, ServerFrame};
use crate::model::id::{ConnectionId, UserId};
use crate::model::secret::Secret;
use crate::model::timestamp::Timestamp;
use crate::model::user::Caller;
use crate::storage::volatile::{Presence, Revocations};
use crate::storage::{Entry, Graph, Missed, Posts, StorageError, Timelines, Told};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{sleep, timeout};

/// Frames that were not understood, in a row, after which a connection closes.
const BAD_FRAMES: u32 = 10;

/// How long a session may wait until everything of those whom its user follows reaches this node.
const COVERED_WITHIN: Duration = Duration::from_secs(10);
/// Between two tries where homes moved meanwhile.
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// Checks a newer token; answers whose it is, or in words for its client why it is refused.
pub type Authenticate =
    dyn Fn(Secret) -> Pin<Box<dyn Future<Output = Result<Caller, &'static str>> + Send>> + Send + Sync;

/// What all sessions of a node stand on.
pub struct SessionWorld {
    /// What was missed.
    pub timelines: Arc<dyn Timelines>,
    /// What is not in every timeline yet.
    pub posts: Arc<dyn Posts>,
    /// Who is followed.
    pub graph: Arc<dyn Graph>,
    /// The relays.
    pub relays: Arc<Relays>,
    /// Who is connected.
    pub roster: Arc<Roster>,
    /// Who listens to chats.
    pub inboxes: Arc<Inboxes>,
    /// One at a time for each user.
    pub turns: Arc<Turns>,
    /// What is on its way.
    pub watermark: Arc<Watermark>,
    /// Where authors are at home.
    pub homes: Arc<Homes>,
    /// Follows under way.
    pub follows: Arc<FollowNews>,
    /// Whom this node hears, where other nodes are homes.
    pub wanted: Option<Arc<Wanted>>,
    /// Who others see connected.
    pub presence: Arc<dyn Presence>,
    /// Which logins were ended.
    pub revocations: Arc<dyn Revocations>,
    /// Checks newer tokens.
    pub authenticate: Box<Authenticate>,
    /// Between protocol pings.
    pub heartbeat: Duration,
    /// Without a word from the client.
    pub idle_timeout: Duration,
    /// Connections a user may hold.
    pub connections: usize,
    /// How many may begin at once: thousands come back together, and each reads the store.
    pub beginnings: Semaphore,
    /// Where tests listen.
    pub instants: Instants,
}

/// What a session is told.
pub enum SessionMsg {
    /// Take your place, and send what was missed.
    Begin,
    /// The client sent a frame; answered with when the connection's token now expires.
    Heard(Result<ClientFrame, FrameError>, RpcReplyPort<Timestamp>),
    /// The client sent a ping of the protocol; answered likewise.
    Pinged(RpcReplyPort<Timestamp>),
}

/// The actor.
pub struct Session;

/// What a session is started with.
pub struct SessionArguments {
    /// What it stands on.
    pub world: Arc<SessionWorld>,
    /// Which connection.
    pub connection: ConnectionId,
    /// Whose it is.
    pub caller: Caller,
    /// Where its frames go.
    pub outbox: Arc<Outbox>,
    /// Where it begins.
    pub beginning: Beginning,
}

/// Where a session begins.
pub struct Beginning {
    /// What its client came with.
    pub cursor: Option<Cursor>,
    /// Where it begins without a cursor, taken before the client was answered.
    pub start: Start,
    /// Where its client says that it stands in the chat inbox.
    pub chat_cursor: Option<String>,
    /// Takes the way to that inbox.
    pub feed: oneshot::Sender<Feed>,
}

/// What a session knows: its place in the tables, given up when this is dropped.
pub struct SessionState {
    seat: Seat,
    /// Until it has begun.
    beginning: Option<Box<Beginning>>,
    bad_frames: u32,
}

impl Actor for Session {
    type Msg = SessionMsg;
    type State = SessionState;
    type Arguments = SessionArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<SessionMsg>,
        arguments: SessionArguments,
    ) -> Result<SessionState, ActorProcessingErr> {
        let SessionArguments { world, connection, caller, outbox, beginning } = arguments;
        let seat = Seat::take(world, connection, caller, outbox);
        myself.send_message(SessionMsg::Begin)?;
        Ok(SessionState { seat, beginning: Some(Box::new(beginning)), bad_frames: 0 })
    }

    async fn handle(
        &self,
        _: ActorRef<SessionMsg>,
        message: SessionMsg,
        state: &mut SessionState,
    ) -> Result<(), ActorProcessingErr> {
        // Boxed: what a handler holds across an await would sit in every idle session.
        match message {
            SessionMsg::Begin => {
                if let Some(beginning) = state.beginning.take()
                    && let Err(error) = Box::pin(state.begin(*beginning)).await
                {
                    tracing::warn!(connection_id = %state.seat.connection, %error, "a session could not begin: {error}");
                    state.seat.outbox.close(Close::Internal);
                }
            }
            SessionMsg::Heard(frame, reply) => {
                Box::pin(state.heard(frame)).await;
                let _ = reply.send(state.seat.caller.expires_at);
            }
            SessionMsg::Pinged(reply) => {
                state.seat.is_there();
                let _ = reply.send(state.seat.caller.expires_at);
            }
        }
        Ok(())
    }
}

/// Why a session could not begin; its client comes again.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Relay(#[from] super::relays::RelayGone),
    #[error("a home of those whom its user follows does not answer")]
    NotCovered,
}

impl SessionState {
    async fn begin(&mut self, beginning: Beginning) -> Result<(), BeginError> {
        let Beginning { cursor, start, chat_cursor, feed } = beginning;
        let SessionWorld { timelines, instants, .. } = &*self.seat.world;
        let user = self.seat.caller.user;
        let came_with = Cursor { store: timelines.store_name(), seq: start.mark };
        let mut place = self.seat.world.beginnings.acquire().await;
        let followees = self.enter().await?;
        let mut arrivals = None;
        if let Some(wanted) = &self.seat.world.wanted {
            // Who waits for a home that is moving does not keep others from beginning.
            drop(place);
            let authors: Vec<UserId> = followees.iter().map(|(author, _)| *author).collect();
            let (covered, acquired) = self.cover(wanted, &authors).await?;
            (arrivals, place) = (Some(covered), Ok(acquired));
        }
        instants.pass(Instant::Entered(user)).await;

        // And what is in every timeline after this, is in what is read.
        let unspread = self.seat.world.watermark.unspread_of(&followees);
        let missed = timelines.since(user, cursor.unwrap_or(came_with)).await?;
        let (mut missed, loss) = match missed {
            Missed::Lost(loss) => (timelines.since(user, came_with).await?, Some(loss)),
            entries => (entries, None),
        };
        if let Some(arrivals) = arrivals {
            replay::leave_to_come(&mut missed, &arrivals);
        }
        replay::leave_out_new(&mut missed, &followees);
        // Of an author who was followed lately, what is older than the cursor may never have come here.
        let after = match (&self.seat.world.wanted, loss) {
            (Some(_), _) => Seq::default(),
            (None, None) => cursor.unwrap_or(came_with).seq,
            (None, Some(_)) => came_with.seq,
        };
        self.add_unspread(&mut missed, unspread, after).await?;
        drop(place);
        let (inbox, unusable) = self.seat.world.inboxes.listen(user, chat_cursor.as_deref()).await?;
        instants.pass(Instant::Read(user)).await;

        // Until the replay is whole, its frames carry the cursor that the client came with.
        let promised = match loss {
            None => cursor.unwrap_or(came_with),
            Some(_) => came_with,
        };
        let connected = self.connected(cursor.map(|_| loss.is_none()));
        self.seat.outbox.say(connected.encode_with(Some(promised), Some(inbox.position())));
        if let Some(loss) = loss {
            self.seat.outbox.say(ServerFrame::Resync { reason: loss.reason() }.encode(None));
        }
        if unusable.is_some() {
            self.seat
                .outbox
                .say(ServerFrame::Resync { reason: "chat" }.encode_with(None, Some(inbox.position())));
        }
        // A socket that is gone wants it no more.
        let _ = feed.send(inbox);
        let (mut entries, mut told) = match missed {
            Missed::Entries { entries, told } => (entries, told),
            // More is on its way than can be replayed: the client has been told to read its timeline.
            Missed::Lost(_) => (Vec::new(), Told::up_to(start.mark)),
        };
        if cursor.is_none() {
            entries.retain(|entry| start.is_new(entry.seq));
            // What was on its way then may not be read yet, and be pushed.
            told.also.extend(start.old);
            told.also.sort_unstable();
            told.through = told.through.max(self.old_through(&promised));
        }
        self.replay(&entries, promised, told).await;
        Ok(())
    }

    /// Adds what relays have passed on and the timeline may not show yet.
    async fn add_unspread(
        &self,
        missed: &mut Missed,
        mut unspread: Vec<Seq>,
        after: Seq,
    ) -> Result<(), BeginError> {
        let Missed::Entries { entries, told } = missed else { return Ok(()) };
        unspread.retain(|seq| *seq > after && !told.covers(*seq));
        if unspread.is_empty() {
            return Ok(());
        }
        entries.extend(self.seat.world.posts.entries(unspread.clone()).await?);
        entries.sort_unstable_by_key(|entry| entry.seq);
        told.also.extend(unspread);
        told.also.sort_unstable();
        Ok(())
    }

    /// Waits until everything of these authors reaches this node; answers what has come, with a place among those who
    /// may read.
    async fn cover(
        &self,
        wanted: &Wanted,
        authors: &[UserId],
    ) -> Result<(Arrivals, SemaphorePermit<'_>), BeginError> {
        let covered = async {
            loop {
                if wanted.cover(authors, COVERED_WITHIN).await {
                    // The semaphore is never closed.
                    let Ok(place) = self.seat.world.beginnings.acquire().await else { continue };
                    let is_home = |author| self.seat.world.homes.place(author) == Place::Here;
                    // Before the store is read: what has not come by now comes live, in its turn.
                    if let Some(arrivals) = wanted.arrivals(authors, is_home) {
                        return (arrivals, place);
                    }
                }
                sleep(BETWEEN_TRIES).await;
            }
        };
        timeout(COVERED_WITHIN, covered).await.map_err(|_| BeginError::NotCovered)
    }

    /// Takes its place in the relays' index, with whom its user follows now; answers with whom, and since when.
    async fn enter(&self) -> Result<Vec<(UserId, Seq)>, BeginError> {
        let SessionWorld { graph, relays, turns, follows, instants, .. } = &*self.seat.world;
        let user = self.seat.caller.user;
        instants.pass(Instant::Entering(user)).await;
        loop {
            // One that another node is storing is found either whole or not at all.
            follows.settled(user).await;
            let _turn = turns.of(user).await;
            let began = std::time::Instant::now();
            let mut followees = graph.followees(user).await?;
            followees.push((user, Seq(0)));
            relays.enter(self.seat.connection, &self.seat.outbox, followees.clone()).await?;
            if !follows.expected_since(user, began) {
                return Ok(followees);
            }
        }
    }

    async fn replay(&self, entries: &[Entry], promised: Cursor, told: Told) {
        for entry in entries {
            if !self.seat.outbox.say_when_room(relay::encode(entry, promised)).await {
                return;
            }
            self.seat.world.instants.pass(Instant::Replaying(self.seat.caller.user)).await;
        }
        self.seat.outbox.release(told, self.seat.world.watermark.settled());
    }

    /// Up to where what comes late is old to a connection that came without a cursor.
    fn old_through(&self, began: &Cursor) -> Seq {
        // Alone, what is old is known by name; the numbers of other homes are not in the order of their coming.
        if self.seat.world.wanted.is_some() { began.seq } else { Seq::default() }
    }

    fn connected(&self, resumed: Option<bool>) -> ServerFrame<'static> {
        ServerFrame::Connected {
            connection_id: self.seat.connection,
            user_id: self.seat.caller.user,
            heartbeat_seconds: self.seat.world.heartbeat.as_secs(),
            idle_timeout_seconds: self.seat.world.idle_timeout.as_secs(),
            resumed,
        }
    }

    async fn heard(&mut self, frame: Result<ClientFrame, FrameError>) {
        self.seat.world.instants.pass(Instant::Heard(self.seat.caller.user)).await;
        match frame {
            Ok(ClientFrame::Ping) => {
                self.bad_frames = 0;
                self.seat.is_there();
                self.seat.outbox.say(ServerFrame::Pong {}.encode(None));
            }
            Ok(ClientFrame::Auth(token)) => {
                self.bad_frames = 0;
                self.renew(token).await;
            }
            Err(error) => {
                self.seat.refuse(error.code(), &error.to_string());
                self.bad_frames += 1;
                if self.bad_frames == BAD_FRAMES {
                    self.seat.outbox.close(Close::BadFrames);
                }
            }
        }
    }

    /// The same user's newer token: the connection lives as long as that.
    async fn renew(&mut self, token: Secret) {
        let checked = (self.seat.world.authenticate)(token).await;
        self.seat.renew(checked);
    }
}

impl Drop for SessionState {
    fn drop(&mut self) {
        // The rest of its place goes with its seat.
        self.seat.world.relays.leave(self.seat.connection);
    }
}
