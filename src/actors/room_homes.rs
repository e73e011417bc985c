//! The way to where a room is at home: the one place through which presses, hosts and viewers go there.
//!
//! A room's home counts its presses. What may have been done by a home that does not answer is asked for again, 10 s long: a
//! press by its key, which is counted once; all else may be done twice. A host's node says every few seconds that the host is
//! there, and hears which effect is the newest; a node where somebody looks asks how the room stands. So a home that moved
//! knows both soon, and what was not told is found.

use super::authors::PATIENCE;
use super::homes::Homes;
use super::hosts::{HostEnd, HostFeed, HostLine, Hosts};
use super::room::RoomMsg;
use super::room_guests::HostSeat;
use super::room_outlet::RoomOutlet;
use super::room_sweep;
use super::room_watch::{WatchBounds, WatchFull, Watches, Watching};
use super::rooms::{RoomError, Rooms};
use super::wire::{
    AcknowledgeText, Answer, Asking, AttachText, AttachedText, ConnectionText, EndText, Garbled, NodeText,
    NotHome, Nothing, PressText, Pressing, ResetText, RoomAsking, RoomText, StatsText, Telling, TurnText,
    connection_of, id_bytes, room_bytes, room_of,
};
use crate::model::id::{ConnectionId, RoomId};
use crate::model::room::{Answered, RoomStats};
use crate::model::shard::Shard;
use crate::storage::StorageError;
use roost_cluster::{Cluster, NodeName};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Between two words to the home that a host is there, and two questions how a room stands.
const REFRESH: Duration = Duration::from_secs(5);
/// Between two tries where a home does not answer.
const PAUSE: Duration = Duration::from_millis(250);
/// What a host has that has just come.
const NOTHING: (u64, bool) = (0, false);

/// Where rooms are at home.
pub struct RoomHomes {
    homes: Arc<Homes>,
    rooms: Arc<Rooms>,
    outlet: Arc<RoomOutlet>,
    cluster: Option<Arc<Cluster>>,
}

/// A host that is there: its turn among those of the room, and what it has.
pub struct Hosting {
    homes: Arc<RoomHomes>,
    room: RoomId,
    connection: ConnectionId,
    turn: TurnText,
    /// Whether a host of this room has acknowledged.
    pub acknowledges: bool,
    /// The effect behind which it begins.
    pub sent: u64,
}

/// Why nobody can look.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Too many do.
    #[error("too many streams")]
    Full(WatchFull),
    /// There is no such room.
    #[error("there is no such room")]
    None,
    /// Its home does not answer.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl RoomHomes {
    /// Of this node.
    #[must_use]
    pub fn new(
        homes: Arc<Homes>,
        rooms: Arc<Rooms>,
        outlet: Arc<RoomOutlet>,
        cluster: Option<Arc<Cluster>>,
    ) -> Self {
        Self { homes, rooms, outlet, cluster }
    }

    /// How many rooms are active here, and how many callers wait for them.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        self.rooms.count()
    }

    /// Retires rooms that had nothing to do for so long, and where no viewer is active.
    pub fn retire(&self, idle: Duration) {
        self.rooms.retire(idle);
    }

    /// Counts a press, at the room's home; `None` where there is no such room. The answer says that it is durable.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] where the store, or the room's home, does not answer within 10 s; then it may have been
    /// counted all the same, and one of the same key tells.
    pub async fn press(&self, room: RoomId, press: Pressing) -> Result<Option<Answered>, StorageError> {
        let asking = |_| Asking::Press(PressText::of(room, &press));
        let here = |_| self.press_here(room, press);
        let (answer, _) = self.homes.at_home(Shard::of_room(room), asking, here).await?;
        understood(answer.pressed())
    }

    /// How a room stands; `None` where there is none.
    ///
    /// # Errors
    /// As [`Self::press`].
    pub async fn stats(&self, room: RoomId) -> Result<Option<RoomStats>, StorageError> {
        let (answer, _) = self.ask(room, RoomAsking::Stats(Nothing {})).await?;
        understood(answer.stats())
    }

    /// All counts of a room start again; answers whether there is one.
    ///
    /// # Errors
    /// As [`Self::press`].
    pub async fn reset(&self, room: RoomId) -> Result<bool, StorageError> {
        let (answer, _) =
            self.ask(room, RoomAsking::Reset(ResetText { request: id_bytes(Uuid::new_v4()) })).await?;
        understood(answer.done())
    }

    /// Ends a room; answers whether there was one.
    ///
    /// # Errors
    /// As [`Self::press`].
    pub async fn end(&self, room: RoomId) -> Result<bool, StorageError> {
        let (answer, is_repeat) = self.ask(room, RoomAsking::End(EndText { if_idle: false })).await?;
        // A try whose answer was lost has ended it.
        understood(answer.done()).map(|was_there| was_there || is_repeat)
    }

    /// A host is connected here; an older one is told to go, wherever it is. `None` where there is no such room. What it is to
    /// be sent comes by `feed`.
    ///
    /// # Errors
    /// As [`Self::press`].
    pub async fn host(
        self: &Arc<Self>,
        room: RoomId,
        connection: ConnectionId,
    ) -> Result<Option<(Hosting, HostFeed)>, StorageError> {
        // Before its home knows of it: what it is told from then on finds its place.
        let feed = self.hosts().enter(self.rooms.store().clone(), room, connection);
        let Some(attached) = self.attach(room, connection, None, NOTHING).await? else { return Ok(None) };
        let AttachedText { turn, sent, newest, acknowledges } = attached;
        feed.line().is_told(newest, sent);
        if turn.is_none() {
            feed.line().end(HostEnd::TakenOver);
        }
        let turn = turn.unwrap_or_default();
        let hosting = Hosting { homes: self.clone(), room, connection, turn, acknowledges, sent };
        Ok(Some((hosting, feed)))
    }

    /// One more looks at a room.
    ///
    /// # Errors
    /// Where too many do, there is no such room, or its home does not answer.
    pub async fn watch(
        self: &Arc<Self>,
        room: RoomId,
        address: IpAddr,
        bounds: WatchBounds,
    ) -> Result<Watching, WatchError> {
        let (watching, first) = self.watches().join(room, address, bounds).map_err(WatchError::Full)?;
        if let Some(number) = first {
            // Whatever comes of this one: others may look meanwhile.
            tokio::spawn(self.clone().keep_looking(room, number));
        }
        let stats = self.look(room).await?.ok_or(WatchError::None)?;
        self.watches().tell(room, stats);
        Ok(watching)
    }

    /// Another node asks this one, as the room's home, to count a press.
    pub(super) async fn press_as_home(&self, asked: &PressText) -> Option<Answer> {
        let (room, press) = asked.read().ok()?;
        Some(self.homes.as_home(Shard::of_room(room), self.press_here(room, press)).await)
    }

    /// Another node asks this one, as the room's home, something else.
    pub(super) async fn answer_as_home(&self, asked: RoomText) -> Option<Answer> {
        let (room, what) = (room_of(&asked.room).ok()?, asked.what?);
        Some(self.homes.as_home(Shard::of_room(room), self.answer_here(room, what)).await)
    }

    /// A home tells this node something.
    ///
    /// # Errors
    /// Where it makes no sense.
    pub(super) fn hear(&self, told: Telling) -> Result<(), Garbled> {
        match told {
            Telling::Effects(text) => {
                let (room, effects) = text.read()?;
                self.hosts().push(room, &effects);
            }
            Telling::HostOver(text) => {
                let (room, connection) = text.read()?;
                let end = if text.is_ended { HostEnd::RoomEnded } else { HostEnd::TakenOver };
                self.hosts().end(room, connection, end);
            }
            Telling::Stats(text) => {
                let (room, stats) = text.read()?;
                self.watches().tell(room, stats);
            }
            Telling::Entry(_) | Telling::Forget(_) | Telling::Placed(_) => {}
        }
        Ok(())
    }

    /// This node is home to no more than these shards.
    pub(super) fn keep(&self, is_ours: impl Fn(Shard) -> bool) {
        self.rooms.end_lost(|id| !is_ours(Shard::of_room(id)));
    }

    /// Ends rooms of this node's shards where nobody was for a day, now and then, for ever.
    pub(super) async fn keep_sweeping(self: Arc<Self>) {
        loop {
            sleep(room_sweep::BETWEEN).await;
            let ours = || Shard::all().filter(|shard| self.homes.is_here(*shard)).collect();
            room_sweep::sweep(self.rooms.store().as_ref(), ours, |room| self.clone().end_idle(room)).await;
        }
    }

    /// Ends a room where nobody was for a day; answers whether.
    async fn end_idle(self: Arc<Self>, room: RoomId) -> Result<bool, StorageError> {
        let (answer, _) = self.ask(room, RoomAsking::End(EndText { if_idle: true })).await?;
        understood(answer.ended_idle())
    }

    /// Hosts that are connected here.
    #[must_use]
    pub fn hosts(&self) -> &Arc<Hosts> {
        &self.outlet.hosts
    }

    fn watches(&self) -> &Arc<Watches> {
        &self.outlet.watches
    }

    async fn ask(&self, room: RoomId, what: RoomAsking) -> Result<(Answer, bool), StorageError> {
        let asking = |_| Asking::Room(RoomText { room: room_bytes(room), what: Some(what.clone()) });
        let here = |_| self.answer_here(room, what.clone());
        self.homes.at_home(Shard::of_room(room), asking, here).await
    }

    async fn attach(
        &self,
        room: RoomId,
        connection: ConnectionId,
        turn: Option<TurnText>,
        (has, by_host): (u64, bool),
    ) -> Result<Option<AttachedText>, StorageError> {
        let node = self.name();
        let attach = AttachText { connection: id_bytes(connection.0), node, turn, has, by_host };
        let (answer, _) = self.ask(room, RoomAsking::Attach(attach)).await?;
        understood(answer.attached())
    }

    async fn look(&self, room: RoomId) -> Result<Option<RoomStats>, StorageError> {
        let (answer, _) = self.ask(room, RoomAsking::Watch(NodeText { name: self.name() })).await?;
        understood(answer.stats())
    }

    /// Asks how a room stands as long as somebody looks.
    async fn keep_looking(self: Arc<Self>, room: RoomId, number: u64) {
        let watches = self.watches();
        loop {
            self.homes.changed_within(REFRESH).await;
            if !watches.is_kept_by(room, number) {
                return;
            }
            match self.look(room).await {
                Ok(Some(stats)) => watches.tell(room, stats),
                Ok(None) => return watches.end(room),
                Err(error) => tracing::debug!(%room, %error, "how room {room} stands is not known: {error}"),
            }
            // Homes change often at once.
            sleep(PAUSE).await;
        }
    }

    async fn press_here(&self, room: RoomId, press: Pressing) -> Answer {
        let pressed = self.rooms.ask(room, |reply| RoomMsg::Press(press, reply)).await;
        pressed.map_or_else(Answer::from, Answer::from)
    }

    /// Does it as the room's home.
    async fn answer_here(&self, room: RoomId, what: RoomAsking) -> Answer {
        let done = |(): ()| Answer::Done(Nothing {});
        let stats = |stats: RoomStats| Answer::Stats(StatsText::of(room, stats));
        let rooms = &self.rooms;
        let answered = match what {
            RoomAsking::Stats(_) => rooms.ask(room, RoomMsg::Stats).await.map(stats),
            RoomAsking::Watch(NodeText { name }) => {
                rooms.ask(room, |reply| RoomMsg::Watch(node_of(&name), reply)).await.map(stats)
            }
            RoomAsking::Reset(ResetText { request }) => {
                rooms.ask(room, |reply| RoomMsg::Reset(request, reply)).await.map(done)
            }
            RoomAsking::End(EndText { if_idle: false }) => rooms.ask(room, RoomMsg::End).await.map(done),
            RoomAsking::End(EndText { if_idle: true }) => {
                let ended = |ended| if ended { done(()) } else { Answer::NotIdle(Nothing {}) };
                rooms.ask(room, RoomMsg::EndIdle).await.map(ended)
            }
            RoomAsking::Attach(AttachText { connection, node, turn, has, by_host }) => {
                let Ok(connection) = connection_of(&connection) else { return garbled() };
                let seat = HostSeat { connection, node: node_of(&node) };
                let attach = |reply| RoomMsg::Attach(seat, turn, (has, by_host), reply);
                rooms.ask(room, attach).await.map(Answer::Attached)
            }
            RoomAsking::Acknowledge(AcknowledgeText { connection, seq, by_host }) => {
                let Ok(connection) = connection_of(&connection) else { return garbled() };
                let acknowledge = |reply| RoomMsg::Acknowledge(connection, seq, by_host, reply);
                rooms.ask(room, acknowledge).await.map(done)
            }
            RoomAsking::Detach(ConnectionText { connection }) => {
                let Ok(connection) = connection_of(&connection) else { return garbled() };
                rooms.ask(room, |reply| RoomMsg::Detach(connection, reply)).await.map(done)
            }
        };
        answered.unwrap_or_else(Answer::from)
    }

    /// This node's name; empty where it is the only one.
    fn name(&self) -> String {
        self.cluster.as_ref().map(|cluster| cluster.me().name.to_string()).unwrap_or_default()
    }
}

impl Hosting {
    /// Says every few seconds that the host is there, and what it has, until it is dropped; never ends.
    pub async fn keep(&self, line: &HostLine, has: watch::Receiver<(u64, bool)>) {
        loop {
            self.homes.homes.changed_within(REFRESH).await;
            let now = *has.borrow();
            match self.homes.attach(self.room, self.connection, Some(self.turn), now).await {
                Ok(Some(AttachedText { turn: None, .. })) => line.end(HostEnd::TakenOver),
                Ok(Some(attached)) => line.is_told(attached.newest, attached.sent),
                Ok(None) => line.end(HostEnd::RoomEnded),
                Err(error) => {
                    let room = self.room;
                    tracing::debug!(%room, %error, "the home of room {room} does not answer: {error}");
                }
            }
            // Homes change often at once.
            sleep(PAUSE).await;
        }
    }

    /// The host has the effects up to that number; whether it said so itself. Tries for a while.
    pub async fn acknowledge(&self, seq: u64, by_host: bool) {
        let text = AcknowledgeText { connection: id_bytes(self.connection.0), seq, by_host };
        let until = Instant::now() + PATIENCE * 3;
        while let Err(error) = self.homes.ask(self.room, RoomAsking::Acknowledge(text.clone())).await {
            if Instant::now() >= until {
                let room = self.room;
                tracing::warn!(%room, %error, "what the host of room {room} has is not noted: {error}");
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// The host has gone, and had the effects up to a number, if that is news; whether it said so itself. Goes on by itself.
    pub fn leave(self: Arc<Self>, had: Option<(u64, bool)>) {
        tokio::spawn(async move {
            if let Some((seq, by_host)) = had {
                self.acknowledge(seq, by_host).await;
            }
            let detach = ConnectionText { connection: id_bytes(self.connection.0) };
            // Its home finds out by its silence.
            let _ = self.homes.ask(self.room, RoomAsking::Detach(detach)).await;
        });
    }
}

impl From<RoomError> for Answer {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::None => Self::NoRoom(Nothing {}),
            // Whoever asked asks again whoever is home then.
            RoomError::NotAsked => Self::NotHome(NotHome { is_unclear: false }),
            RoomError::Gone => Self::NotHome(NotHome { is_unclear: true }),
            RoomError::Storage(error) => error.into(),
        }
    }
}

fn garbled() -> Answer {
    StorageError::Refused(Garbled.to_string()).into()
}

fn node_of(name: &str) -> Option<NodeName> {
    NodeName::parse(name).ok()
}

fn understood<T>(answer: Result<Result<T, StorageError>, Garbled>) -> Result<T, StorageError> {
    answer.unwrap_or_else(|error| Err(StorageError::Refused(error.to_string())))
}
