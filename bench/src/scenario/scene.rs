//! Nodes, authors and those who follow them, each with a socket at one of the nodes: the scene of what is measured on
//! a cluster. Who is cut off comes back with its cursor, to a node in turn, as the protocol says.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::audience::Audience;
use crate::board::Board;
use crate::cluster::{Cluster, Plan};
use crate::error::{Error, Result};
use crate::listener::Ended;
use crate::people::{Person, follow, register};
use crate::poster::Doors;
use crate::progress::Progress;
use crate::publisher::{Lane, Published, publish};
use crate::scenario::Settings;
use crate::scenario::online::{AFTERWORK, PATIENCE};
use crate::tally::Tally;
use crate::upgrade::Door;

/// A user may hold so many connections.
const CONNECTIONS_A_USER: usize = 100;
/// Between two tries of a client to come back.
const AGAIN: Duration = Duration::from_millis(200);
/// Clients come back spread over sixteen of these; one whose connection ended before it was greeted after so long.
const JITTER: Duration = Duration::from_millis(20);
const UNGREETED: Duration = Duration::from_secs(2);
/// Between two looks at who is there.
const LOOK: Duration = Duration::from_millis(250);
const SEATED_WITHIN: Duration = Duration::from_secs(30);

/// What the scene is made of.
#[derive(Debug, Clone, Default)]
pub struct Cast {
    /// Tells its keyspace from others of the run.
    pub part: &'static str,
    /// Nodes; one is by itself.
    pub nodes: usize,
    /// Further settings of the nodes.
    pub environment: Vec<(&'static str, String)>,
    /// Authors, whom every user follows.
    pub authors: usize,
    /// Users who follow.
    pub users: usize,
    /// Their sockets, as many at each node.
    pub sockets: usize,
    /// The most posts there will be.
    pub posts: usize,
}

/// The scene.
#[derive(Debug)]
pub struct Scene {
    /// Its nodes.
    pub cluster: Cluster,
    /// Who posts.
    pub authors: Vec<Person>,
    /// Who listens.
    pub audience: Arc<Audience>,
    /// Which post is whose.
    pub board: Arc<Board>,
    /// The nodes that clients are sent to.
    pub doors: Arc<Doors>,
    nodes: usize,
    ends: Option<UnboundedReceiver<Ended>>,
    returning: Option<Returning>,
}

/// The task that brings back who is cut off; it ends with this.
#[derive(Debug)]
struct Returning(JoinHandle<()>);

impl Drop for Returning {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One run on the scene.
#[derive(Debug)]
pub struct Round {
    /// What was sent.
    pub published: Published,
    /// What was heard.
    pub tally: Tally,
    /// Deliveries of answered posts that did not come.
    pub lost: u64,
    /// Processor time of all nodes.
    pub cpu: Duration,
    /// Entries sent from node to node.
    pub frames: u64,
}

impl Scene {
    /// Sets the scene.
    pub async fn set(settings: &Settings, cast: &Cast, progress: &Progress) -> Result<Self> {
        if cast.users == 0 || cast.sockets.div_ceil(cast.users) > CONNECTIONS_A_USER {
            return Err(Error::Refused("a user may hold 100 connections: more users".to_owned()));
        }
        let stage = progress.spinner(&format!("starting {} nodes", cast.nodes));
        let plan = Plan {
            program: &settings.server,
            folder: &settings.out,
            engines: settings.engines.beside(cast.part),
            nodes: cast.nodes,
            environment: cast.environment.clone(),
        };
        let cluster = Cluster::start(plan).await?;
        drop(stage);
        let addresses = cluster.addresses();
        let authors = register(addresses[0], "author", cast.authors, progress).await?;
        let users = register(addresses[0], "follower", cast.users, progress).await?;
        follow(addresses[0], &users, &authors, progress).await?;
        let board = Arc::new(Board::new(cast.posts));
        let mut audience = Audience::new(settings.ears, Arc::clone(&board), true)?;
        let ends = audience.tell_ends();
        for user in users.iter().cycle().take(cast.sockets) {
            audience.add(Door::WebSocket { token: user.token.clone() });
        }
        let scene = Self {
            doors: Arc::new(Doors::new(&addresses)),
            cluster,
            authors,
            audience: Arc::new(audience),
            board,
            nodes: cast.nodes,
            ends: Some(ends),
            returning: None,
        };
        for (node, address) in addresses.into_iter().enumerate() {
            scene.audience.connect_range(scene.seats(node), address, progress).await?;
        }
        let all = |tally: &Tally| tally.connected == cast.sockets as u64;
        scene.audience.wait_for("every connected frame", SEATED_WITHIN, all).await?;
        Ok(scene)
    }

    /// From now on whoever is cut off comes back: after as long as the server asked, else at once.
    pub fn bring_back(&mut self) {
        if let Some(ends) = self.ends.take() {
            let task = bring_back(Arc::clone(&self.audience), ends, Arc::clone(&self.doors));
            self.returning = Some(Returning(tokio::spawn(task)));
        }
    }

    /// The listeners that began at this node.
    pub fn seats(&self, node: usize) -> Range<usize> {
        let all = self.audience.len();
        all * node / self.nodes..all * (node + 1) / self.nodes
    }

    /// Publishes as the first author by some connections to a node, waits for the deliveries, and reads what it cost.
    pub async fn perform(&self, node: usize, lanes: usize, rate: f64, posts: u32) -> Result<Round> {
        let address = self.cluster.addresses()[node % self.nodes];
        let mut lanes: Vec<Lane> = (0..lanes).map(|_| Lane::new(address, &self.authors[0])).collect();
        self.audience.forget();
        let (frames, before) = (self.cluster.frames().await?, self.cluster.usage()?);
        let published = publish(&mut lanes, &self.board, rate, posts).await;
        let listeners = self.audience.len() as u64;
        self.audience.settle(published.answered * listeners, PATIENCE).await;
        sleep(AFTERWORK).await;
        let cpu = self.cluster.usage()?.cpu.saturating_sub(before.cpu);
        Ok(Round {
            lost: self.board.lost(published.numbers.clone(), listeners as u32),
            frames: self.cluster.frames().await? - frames,
            tally: self.audience.tally(),
            published,
            cpu,
        })
    }

    /// Posts of this range that the listeners of this range do not have, but for those who were told to resync: a gap
    /// that nobody spoke of.
    pub fn missing(&self, numbers: Range<u32>, listeners: Range<usize>) -> u64 {
        self.audience.watch(numbers);
        let standings = self.audience.standings();
        let untold = standings[listeners].iter().filter(|standing| !standing.is_told);
        untold.map(|standing| u64::from(standing.missing)).sum()
    }

    /// Listeners that are not connected.
    pub fn away(&self) -> usize {
        self.audience.standings().iter().filter(|standing| !standing.is_connected).count()
    }

    /// Waits until everybody is connected and has all posts of this range or was told to resync, for so long at most;
    /// answers how long it took.
    pub async fn gather(&self, numbers: Range<u32>, patience: Duration) -> Duration {
        let began = Instant::now();
        let all = 0..self.audience.len();
        while began.elapsed() < patience
            && (self.away() > 0 || self.missing(numbers.clone(), all.clone()) > 0)
        {
            sleep(LOOK).await;
        }
        began.elapsed()
    }
}

async fn bring_back(audience: Arc<Audience>, mut ends: UnboundedReceiver<Ended>, doors: Arc<Doors>) {
    let mut coming = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(ended) = ends.recv() => coming.push(come_back(&audience, ended, &doors)),
            Some(()) = coming.next() => {}
            else => return,
        }
    }
}

async fn come_back(audience: &Audience, ended: Ended, doors: &Doors) {
    // At once, not all in one instant; who was let in and not greeted waits longer.
    let unasked = if ended.was_greeted { JITTER * (ended.index % 16) as u32 } else { UNGREETED };
    sleep(ended.after.unwrap_or(unasked)).await;
    while audience.connect(ended.index, doors.next()).await.is_err() {
        sleep(AGAIN).await;
    }
}
