//! A node as one of several: what it stands on beside its tree, and the tasks that keep it there.

use super::authors::Authors;
use super::chat_homes::{ConversationHomes, InboxHomes};
use super::follows::FollowNews;
use super::homes::Homes;
use super::horizon::Horizon;
use super::inbox_watch::InboxWatch;
use super::inboxes::Inboxes;
use super::membership::Membership;
use super::neighbours::Neighbours;
use super::node::NodeArguments;
use super::relays::Relays;
use super::room_homes::RoomHomes;
use super::roster::Roster;
use super::switchboard::Switchboard;
use super::wanted::Wanted;
use super::watermark::Start;
use crate::storage::EntryClock;
use crate::telemetry::metric;
use roost_cluster::{Cluster, Ended, Events, State};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long homes may take to move away from a node that leaves.
const LEAVING: Duration = Duration::from_secs(15);
/// Between two looks whether they have.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at what the metrics show.
const SHOW: Duration = Duration::from_secs(1);

/// The cluster, before anything here stands in it.
pub(super) struct Around {
    cluster: Arc<Cluster>,
    events: Events,
    clock: Arc<dyn EntryClock>,
}

/// What the tree needs of the cluster, before the tree is there.
pub(super) struct Standing {
    pub(super) cluster: Arc<Cluster>,
    pub(super) neighbours: Arc<Neighbours>,
    pub(super) wanted: Arc<Wanted>,
    horizon: Arc<Horizon>,
    arguments: NodeArguments,
    events: Events,
}

/// What of chat and rooms hears of the cluster.
pub(super) struct ChatStanding {
    pub(super) rooms: Arc<RoomHomes>,
    pub(super) conversations: Arc<ConversationHomes>,
    pub(super) inbox_homes: Arc<InboxHomes>,
    pub(super) inboxes: Arc<Inboxes>,
}

/// How this node stands in the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// The number of its view; 0 while it has none.
    pub view: u64,
    /// `joining`, `up`, `draining`, or `out` while it is not in the view.
    pub state: &'static str,
    /// Shards that it is home to and has begun.
    pub homes: usize,
}

/// A node's place among others.
pub struct Clustered {
    cluster: Arc<Cluster>,
    homes: Arc<Homes>,
    horizon: Arc<Horizon>,
    wanted: Arc<Wanted>,
    membership: Arc<OnceLock<Arc<Membership>>>,
    ended: watch::Receiver<Option<Ended>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Around {
    pub(super) fn new(cluster: Cluster, events: Events, clock: Arc<dyn EntryClock>) -> Self {
        Self { cluster: Arc::new(cluster), events, clock }
    }

    /// What stands between the cluster and the tree.
    pub(super) fn stand(self, arguments: &NodeArguments, relays: &Arc<Relays>) -> Standing {
        let Self { cluster, events, clock } = self;
        let NodeArguments { jobs, watermark, .. } = arguments;
        let neighbours = Neighbours::new(cluster.clone(), clock.clone(), watermark.clone());
        let horizon = Horizon::new(cluster.clone(), clock, jobs.clone(), watermark.clone(), relays.clone());
        let horizon = Arc::new(horizon);
        let wanted = Arc::new(Wanted::new(cluster.clone(), horizon.clone(), watermark.clone()));
        relays.tell(wanted.clone());
        let neighbours = Arc::new(neighbours);
        Standing { cluster, neighbours, wanted, horizon, arguments: arguments.clone(), events }
    }
}

impl Standing {
    /// Begins to hear and to tell.
    pub(super) fn begin(
        self,
        homes: &Arc<Homes>,
        follows: &Arc<FollowNews>,
        authors: &Arc<Authors>,
        roster: &Arc<Roster>,
        chat: &ChatStanding,
    ) -> Clustered {
        let Self { cluster, neighbours, wanted, horizon, arguments, events } = self;
        let (to_end, ended) = watch::channel(None);
        let membership: Arc<OnceLock<_>> = Arc::default();
        let watch = InboxWatch::new(cluster.clone(), horizon.clone(), wanted.clone(), chat.inboxes.clone());
        let inbox_watch = Arc::new(watch);
        let switchboard = Arc::new(Switchboard {
            cluster: cluster.clone(),
            homes: homes.clone(),
            horizon: horizon.clone(),
            wanted: wanted.clone(),
            neighbours: neighbours.clone(),
            follows: follows.clone(),
            authors: authors.clone(),
            conversations: chat.conversations.clone(),
            inbox_homes: chat.inbox_homes.clone(),
            inboxes: chat.inboxes.clone(),
            rooms: chat.rooms.clone(),
            inbox_watch: inbox_watch.clone(),
            roster: roster.clone(),
            watermark: arguments.watermark,
            jobs: arguments.jobs,
            membership: membership.clone(),
            ended: to_end,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(switchboard.run(events));
        tasks.spawn(neighbours.clone().keep_marking(homes.clone()));
        tasks.spawn(horizon.clone().keep_reading());
        tasks.spawn(wanted.clone().keep_telling());
        tasks.spawn(inbox_watch.keep_rereading());
        tasks.spawn(show(cluster.clone(), homes.clone(), horizon.clone(), neighbours));
        let tasks = Mutex::new(tasks);
        Clustered { cluster, homes: homes.clone(), horizon, wanted, membership, ended, tasks }
    }
}

impl Clustered {
    /// The cluster.
    #[must_use]
    pub const fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// From now on operators of other nodes are answered by this, once and for all.
    pub fn answer_operators(&self, membership: Arc<Membership>) {
        // Whoever is the first stays.
        let _ = self.membership.set(membership);
    }

    /// Where a connection that comes now, without a cursor, begins.
    #[must_use]
    pub fn beginning(&self) -> Start {
        self.horizon.start()
    }

    /// Whom this node hears.
    #[must_use]
    pub fn wanted(&self) -> Arc<Wanted> {
        self.wanted.clone()
    }

    /// How this node stands.
    #[must_use]
    pub fn own(&self) -> Own {
        let view = self.cluster.view();
        let member = view.as_ref().and_then(|view| view.member_of(self.cluster.me()));
        let state = match member.map(|member| member.state) {
            None => "out",
            Some(State::Joining) => "joining",
            Some(State::Up) => "up",
            Some(State::Draining) => "draining",
        };
        Own { view: view.as_ref().map_or(0, |view| view.number()), state, homes: self.homes.count() }
    }

    /// Whether this node is up in the view, and has heard of all homes since it came.
    #[must_use]
    pub fn has_place(&self) -> bool {
        self.own().state == "up" && self.horizon.is_open()
    }

    /// Gives its homes up; answers when others have them, or nobody else is there, or after a while.
    pub async fn drain(&self) {
        self.cluster.drain();
        let gone = async {
            while !self.is_gone() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if timeout(LEAVING, gone).await.is_err() {
            tracing::warn!("homes have not moved away in time: others take them over when this node is gone");
        }
    }

    /// Takes homes again.
    pub fn undrain(&self) {
        self.cluster.undrain();
    }

    /// Waits until the cluster has ended for this node, and answers why.
    pub async fn ended(&self) -> Option<Ended> {
        let mut ended = self.ended.clone();
        let why = ended.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone())
    }

    /// Leaves the cluster.
    pub async fn stop(&self) {
        self.cluster.stop().await;
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Whether this node has no homes any more, and those who have them have begun.
    fn is_gone(&self) -> bool {
        let Some(view) = self.cluster.view() else { return true };
        let Some(member) = view.member_of(self.cluster.me()) else { return true };
        let is_left = member.state != State::Up && self.homes.count() == 0;
        is_left && self.horizon.have_all_begun()
    }
}

async fn show(cluster: Arc<Cluster>, homes: Arc<Homes>, horizon: Arc<Horizon>, neighbours: Arc<Neighbours>) {
    loop {
        tokio::time::sleep(SHOW).await;
        let view = cluster.view().map_or(0, |view| view.number());
        metrics::gauge!(metric::CLUSTER_VIEW).set(view as f64);
        metrics::gauge!(metric::CLUSTER_HOMES).set(homes.count() as f64);
        metrics::gauge!(metric::MARK_LAG_SECONDS).set(horizon.lag().as_secs_f64());
        metrics::gauge!(metric::QUEUE_LENGTH, "queue" => "unheard").set(neighbours.unheard() as f64);
    }
}
