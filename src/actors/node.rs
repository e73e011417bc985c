//! `Node`: the supervision tree of a process, its restart rules and its orderly stop.
//!
//! One a process, unsupervised. A relay that ends is started anew, and every session closed (1011), for
//! the index is gone; a courier is started anew; an author is made again by its next post, a room by its next press, a conversation at
//! once.
//! Its mailbox holds the ends of its children and one tick.

use super::authors::{self, Authors};
use super::chat_homes::{ConversationHomes, InboxHomes};
use super::clustered::{Around, ChatStanding, Clustered};
use super::conversations::Conversations;
use super::courier::{Courier, CourierArguments};
use super::fan_out;
use super::follows::FollowNews;
use super::homes::Homes;
use super::inboxes::Inboxes;
use super::instant::Instants;
use super::relays::Relays;
use super::room_homes::RoomHomes;
use super::room_outlet::RoomOutlet;
use super::rooms::Rooms;
use super::roster::Roster;
use super::turns::Turns;
use super::wanted::Wanted;
use super::watermark::{Start, Watermark};
use crate::events::outlets::Outlets;
use crate::model::close::Close;
use crate::model::room::Rules;
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::chats::Chats;
use crate::storage::rooms::Rooms as RoomStore;
use crate::storage::volatile::GameEvents;
use crate::storage::{EntryClock, EntryObserver, FanOut, Jobs, Posts, StorageError, Timelines, Upkeep};
use crate::telemetry::metric;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use roost_cluster::{Cluster, Events};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Between two looks at what is idle, and at what the metrics show.
const TICK: Duration = Duration::from_secs(5);
/// How long clients that were sent away may take to go.
const FAREWELL: Duration = Duration::from_secs(3);
/// Ticks between two sweeps of what has expired.
const SWEEP_EVERY: u64 = 12;

/// What the tree stands on.
#[derive(Clone)]
pub struct NodeArguments {
    /// Posts.
    pub posts: Arc<dyn Posts>,
    /// What remains to be done.
    pub jobs: Arc<dyn Jobs>,
    /// The store's name.
    pub timelines: Arc<dyn Timelines>,
    /// Conversations and inboxes.
    pub chats: Arc<dyn Chats>,
    /// Rooms.
    pub rooms: Arc<dyn RoomStore>,
    /// By which they count.
    pub rules: Rules,
    /// Who else hears of their effects.
    pub game_events: Option<Arc<dyn GameEvents>>,
    /// What has expired.
    pub upkeep: Arc<dyn Upkeep>,
    /// Timelines, where the store writes them.
    pub fan_out: Option<Arc<dyn FanOut>>,
    /// The clock that numbers entries, where several nodes give them.
    pub clock: Option<Arc<dyn EntryClock>>,
    /// What is on its way; the store's writer has it too.
    pub watermark: Arc<Watermark>,
    /// Where events go, if anywhere.
    pub outlets: Option<Arc<Outlets>>,
    /// Where tests listen.
    pub instants: Instants,
}

/// The tree, as the rest of the program sees it.
pub struct NodeHandle {
    /// Who is connected.
    pub roster: Arc<Roster>,
    /// The relays.
    pub relays: Arc<Relays>,
    /// The active authors.
    pub authors: Arc<Authors>,
    /// One at a time for each user.
    pub turns: Arc<Turns>,
    /// Where authors are at home.
    pub homes: Arc<Homes>,
    /// Follows under way.
    pub follows: Arc<FollowNews>,
    /// Where conversations are at home.
    pub conversations: Arc<ConversationHomes>,
    /// Who listens to chats.
    pub inboxes: Arc<Inboxes>,
    /// Where rooms are at home.
    pub rooms: Arc<RoomHomes>,
    /// What is on its way.
    pub watermark: Arc<Watermark>,
    /// Its place among others, if it is one of several.
    clustered: Option<Clustered>,
    draining: AtomicBool,
    /// End with the tree.
    _fanning_out: Option<JoinSet<()>>,
    _chatting: JoinSet<()>,
    actor: ActorRef<NodeMsg>,
}

/// How many actors of each kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Census {
    /// Always one.
    pub node: usize,
    /// Connections.
    pub session: usize,
    /// Active authors.
    pub author: usize,
    /// Active conversations.
    pub conversation: usize,
    /// Active rooms.
    pub room: usize,
    /// Relays.
    pub relay: usize,
    /// Always one.
    pub courier: usize,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its store cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An actor did not start.
    #[error("an actor did not start: {0}")]
    Spawn(#[from] Box<SpawnErr>),
}

impl NodeHandle {
    /// Starts the tree; what a former run left unfinished is on its way again when it answers.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn start(
        arguments: NodeArguments,
        cluster: Option<(Cluster, Events)>,
    ) -> Result<Arc<Self>, NodeError> {
        let NodeArguments {
            posts,
            jobs,
            timelines,
            chats,
            rooms,
            rules,
            game_events,
            upkeep,
            watermark,
            fan_out,
            clock,
            instants,
            ..
        } = arguments.clone();
        watermark.reset(upkeep.head().await?);
        if cluster.is_none() {
            for (seq, author) in jobs.take_over(Shard::all().collect()).await? {
                watermark.entering(seq, author);
                // Whoever connects to this run comes after it.
                watermark.answered(seq);
            }
            watermark.recover();
        }
        let relays = Arc::new(Relays::new(watermark.clone(), timelines.store_name(), instants.clone()));
        let roster = Arc::new(Roster::default());
        let around = match (cluster, clock) {
            (Some((cluster, events)), Some(clock)) => Some(Around::new(cluster, events, clock)),
            _ => None,
        };
        let around = around.map(|around| around.stand(&arguments, &relays));
        let neighbours = around.as_ref().map(|around| around.neighbours.clone());
        let authors = Arc::new(Authors::new(
            posts,
            relays.clone(),
            neighbours.clone(),
            watermark.clone(),
            instants.clone(),
        ));
        let homes =
            Arc::new(Homes::new(authors.clone(), around.as_ref().map(|around| around.cluster.clone())));
        let wanted = around.as_ref().map(|around| (around.cluster.clone(), around.wanted.clone()));
        let follows = Arc::new(FollowNews::new(relays.clone(), roster.clone(), wanted));
        let heard = around.as_ref().map(|around| around.wanted.clone());
        let inboxes = Arc::new(Inboxes::new(chats.clone(), timelines.store_name(), heard, instants));
        let placements = chats.placements();
        let inbox_homes =
            Arc::new(InboxHomes::new(homes.clone(), chats.clone(), inboxes.clone(), neighbours.clone()));
        let conversations = Arc::new(Conversations::new(chats, inbox_homes.clone()));
        let cluster = around.as_ref().map(|around| around.cluster.clone());
        let outlet = Arc::new(RoomOutlet::new(cluster.clone(), game_events));
        let rooms = Arc::new(Rooms::new(rooms, Arc::new(rules), outlet.clone()));
        let family = Family { arguments, relays, authors, conversations, rooms, roster };
        let (actor, _) = Actor::spawn(None, Node, family.clone()).await.map_err(Box::new)?;
        let Family { relays, authors, conversations, rooms, roster, .. } = family;
        let rooms = Arc::new(RoomHomes::new(homes.clone(), rooms, outlet, cluster));
        let mut chatting = JoinSet::new();
        chatting.spawn(inboxes.clone().keep_noting());
        if let Some(placements) = placements {
            chatting.spawn(inboxes.clone().keep_telling(placements));
        }
        chatting.spawn(rooms.clone().keep_sweeping());
        if around.is_none() {
            let conversations = conversations.clone();
            chatting.spawn(async move { conversations.take_over(Shard::all().collect()).await });
        }
        let conversations = Arc::new(ConversationHomes::new(homes.clone(), conversations));
        let chat = ChatStanding {
            conversations: conversations.clone(),
            inbox_homes,
            inboxes: inboxes.clone(),
            rooms: rooms.clone(),
        };
        let clustered = around.map(|around| around.begin(&homes, &follows, &authors, &roster, &chat));
        Ok(Arc::new(Self {
            roster,
            relays,
            authors,
            turns: Arc::default(),
            homes,
            follows,
            conversations,
            inboxes,
            rooms,
            _chatting: chatting,
            _fanning_out: fan_out.map(|fan_out| fan_out::start(&fan_out, &watermark)),
            watermark,
            clustered,
            draining: AtomicBool::new(false),
            actor,
        }))
    }

    /// Where a connection that comes now, without a cursor, begins.
    #[must_use]
    pub fn beginning(&self) -> Start {
        self.clustered.as_ref().map_or_else(|| self.watermark.start(), Clustered::beginning)
    }

    /// Whom this node hears, where other nodes are homes.
    #[must_use]
    pub fn wanted(&self) -> Option<Arc<Wanted>> {
        self.clustered.as_ref().map(Clustered::wanted)
    }

    /// Its place among others, if it is one of several.
    #[must_use]
    pub const fn clustered(&self) -> Option<&Clustered> {
        self.clustered.as_ref()
    }

    /// Whether clients may come: it is not leaving and, in a cluster, has its place there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.is_draining() && self.clustered.as_ref().is_none_or(Clustered::has_place)
    }

    /// Whether it is leaving.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Takes no more sessions, and sends those that are here away, spread over `span`; at once where
    /// nobody is connected.
    pub async fn drain(&self, span: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        let leaving = async {
            if let Some(clustered) = &self.clustered {
                clustered.drain().await;
            }
        };
        let sending = async {
            tokio::select! {
                () = self.roster.send_away(span) => {}
                () = self.roster.emptied() => {}
            }
        };
        tokio::join!(leaving, sending);
        // Under TLS a close frame is written by the connection's task, which needs a moment.
        let _ = tokio::time::timeout(FAREWELL, self.roster.emptied()).await;
    }

    /// Takes sessions, and homes, again.
    pub fn undrain(&self) {
        self.draining.store(false, Ordering::Relaxed);
        if let Some(clustered) = &self.clustered {
            clustered.undrain();
        }
    }

    /// Ends every actor.
    pub async fn stop(&self) {
        if let Some(clustered) = &self.clustered {
            clustered.stop().await;
        }
        // A tree that does not end in time is ended with the process.
        let _ = self.actor.stop_and_wait(None, Some(Duration::from_secs(5))).await;
        self.inboxes.note().await;
    }

    /// How many actors live.
    #[must_use]
    pub fn census(&self) -> Census {
        Census {
            node: 1,
            session: self.roster.count(),
            author: self.authors.count().0,
            conversation: self.conversations.traffic().active,
            room: self.rooms.count().0,
            relay: self.relays.count(),
            courier: 1,
        }
    }
}

/// What the node's actor is told.
pub enum NodeMsg {
    /// Look around.
    Tick,
}

/// The actor.
pub struct Node;

/// Whom it supervises, and on what they stand.
#[derive(Clone)]
pub struct Family {
    arguments: NodeArguments,
    relays: Arc<Relays>,
    authors: Arc<Authors>,
    conversations: Arc<Conversations>,
    rooms: Arc<Rooms>,
    roster: Arc<Roster>,
}

/// What the node's actor knows.
pub struct NodeState {
    family: Family,
    courier: ActorCell,
    ticks: u64,
}

impl Actor for Node {
    type Msg = NodeMsg;
    type State = NodeState;
    type Arguments = Family;

    async fn pre_start(
        &self,
        myself: ActorRef<NodeMsg>,
        family: Family,
    ) -> Result<NodeState, ActorProcessingErr> {
        family.authors.supervise(myself.get_cell());
        family.conversations.supervise(myself.get_cell());
        family.rooms.supervise(myself.get_cell());
        for seat in 0..family.relays.count() {
            family.relays.start(seat, myself.get_cell()).await?;
        }
        let courier = family.start_courier(myself.get_cell()).await?;
        myself.send_message(NodeMsg::Tick)?;
        Ok(NodeState { family, courier, ticks: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<NodeMsg>,
        NodeMsg::Tick: NodeMsg,
        state: &mut NodeState,
    ) -> Result<(), ActorProcessingErr> {
        state.family.authors.retire(authors::IDLE);
        state.family.conversations.retire(authors::IDLE);
        state.family.rooms.retire(authors::IDLE);
        state.family.show_metrics();
        if state.ticks.is_multiple_of(SWEEP_EVERY) {
            state.family.sweep();
        }
        state.ticks += 1;
        myself.send_after(TICK, || NodeMsg::Tick);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<NodeMsg>,
        event: SupervisionEvent,
        state: &mut NodeState,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, error) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, Some(error)),
            SupervisionEvent::ActorTerminated(cell, ..) => (cell, None),
            _ => return Ok(()),
        };
        let family = &state.family;
        if let Some(seat) = family.relays.seat_of(&cell) {
            tracing::error!(?error, "a relay ended; its sessions come again");
            // First, so that no session hears a mark that forgets what the relay had.
            family.roster.close_all(Close::Internal);
            family.arguments.watermark.drop_carried();
            family.relays.start(seat, myself.get_cell()).await?;
        } else if cell.get_id() == state.courier.get_id() {
            tracing::error!(?error, "the courier ended; another begins");
            state.courier = family.start_courier(myself.get_cell()).await?;
        } else if let Some(error) = error {
            if let Some(room) = family.rooms.ended(&cell) {
                tracing::error!(%room, %error, "a room ended; its next press takes it again: {error}");
                return Ok(());
            }
            match family.conversations.ended(&cell) {
                Some(conversation) => {
                    tracing::error!(%conversation, %error, "a conversation ended; it begins anew: {error}");
                    let conversations = family.conversations.clone();
                    // Where that fails, its next message has it look for what it left.
                    tokio::spawn(async move { conversations.redrive(conversation).await });
                }
                None => {
                    tracing::error!(%error, "an author ended; its next post makes it again: {error}");
                    family.authors.ended(&cell);
                }
            }
        }
        Ok(())
    }
}

impl Family {
    async fn start_courier(&self, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
        let NodeArguments { jobs, watermark, outlets, .. } = self.arguments.clone();
        let arguments = CourierArguments { jobs, authors: self.authors.clone(), watermark, outlets };
        let (actor, _) = Actor::spawn_linked(None, Courier, arguments, supervisor).await?;
        Ok(actor.get_cell())
    }

    fn show_metrics(&self) {
        let (authors, waiting) = self.authors.count();
        let (moving, oldest) = self.arguments.watermark.depth();
        metrics::gauge!(metric::SESSIONS).set(self.roster.count() as f64);
        metrics::gauge!(metric::ACTORS, "kind" => "session").set(self.roster.count() as f64);
        metrics::gauge!(metric::ACTORS, "kind" => "author").set(authors as f64);
        metrics::gauge!(metric::ACTORS, "kind" => "relay").set(self.relays.count() as f64);
        metrics::gauge!(metric::ACTORS, "kind" => "courier").set(1.0);
        let chat = self.conversations.traffic();
        metrics::gauge!(metric::ACTORS, "kind" => "conversation").set(chat.active as f64);
        metrics::gauge!(metric::STREAMS).set(self.roster.streams.count() as f64);
        metrics::gauge!(metric::QUEUE_LENGTH, "queue" => "conversations").set(chat.waiting as f64);
        metrics::gauge!(metric::QUEUE_LENGTH, "queue" => "inboxes").set(chat.unplaced as f64);
        metrics::gauge!(metric::INBOX_LAG_SECONDS).set(chat.oldest.as_secs_f64());
        let (rooms, pressing) = self.rooms.count();
        metrics::gauge!(metric::ACTORS, "kind" => "room").set(rooms as f64);
        metrics::gauge!(metric::QUEUE_LENGTH, "queue" => "rooms").set(pressing as f64);
        metrics::gauge!(metric::QUEUE_LENGTH, "queue" => "authors").set(waiting as f64);
        metrics::gauge!(metric::QUEUE_LENGTH, "queue" => "relays").set(self.relays.waiting() as f64);
        metrics::gauge!(metric::QUEUE_LENGTH, "queue" => "moving").set(moving as f64);
        metrics::gauge!(metric::QUEUE_LENGTH, "queue" => "fan_out")
            .set(self.arguments.watermark.unspread() as f64);
        metrics::gauge!(metric::MOVING_SECONDS).set(oldest.as_secs_f64());
        let jobs = self.arguments.jobs.clone();
        tokio::spawn(async move {
            // A store that cannot be read shows in its own metrics.
            if let Ok(backlog) = jobs.backlog().await {
                metrics::gauge!(metric::JOBS_WAITING, "kind" => "delivery").set(backlog.deliveries as f64);
                metrics::gauge!(metric::JOBS_WAITING, "kind" => "event").set(backlog.events as f64);
                metrics::gauge!(metric::DEAD_LETTERS).set(backlog.dead_letters as f64);
                let age = backlog.oldest.map_or(0, |oldest| Timestamp::now().millis() - oldest.millis());
                metrics::gauge!(metric::JOB_OLDEST_SECONDS).set(age.max(0) as f64 / 1000.0);
            }
        });
    }

    /// Sweeps what has expired, slice by slice, beside everything else.
    fn sweep(&self) {
        let upkeep = self.arguments.upkeep.clone();
        tokio::spawn(async move {
            loop {
                match upkeep.sweep(Timestamp::now()).await {
                    Ok(0) => break,
                    Ok(rows) => tracing::debug!(rows, "swept {rows} expired rows"),
                    Err(error) => {
                        tracing::warn!(%error, "what has expired could not be swept: {error}");
                        break;
                    }
                }
                tokio::task::yield_now().await;
            }
        });
    }
}
