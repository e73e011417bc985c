//! What an operator sees of the cluster and does to it: this node's part, and the other nodes' by asking them over the
//! links. Owns the wish that this node be drained, which whoever runs the node follows ([`Membership::drains`]); refuses
//! to know what a drain is. Not an actor: it keeps no state but that wish, and nothing waits for it.
//!
//! A node that does not answer in time is reported by what is known of it here.

use super::roster::Roster;
use super::wire::{Answer, Answered, Asked, Asking};
use crate::model::id::UserId;
use crate::model::operation::{
    LinkReport, NodeList, NodeReport, NodeState, OwnReport, Place, SocketCount, Subject,
};
use crate::model::shard::Shard;
use futures_util::future::join_all;
use roost_cluster::{Cluster, NoRandom, NodeName, NodeState as Known, OperatorCall, RedisState, State, View};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long another node may take to say something of itself: an operator is waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// What operators may have asked over the cluster port and nobody has begun to answer.
const QUESTIONS: usize = 16;

/// The cluster, as this node's operators see it.
pub struct Membership {
    cluster: Arc<Cluster>,
    roster: Arc<Roster>,
    role: &'static str,
    drains: watch::Sender<bool>,
    questions: OnceLock<mpsc::Sender<OperatorCall>>,
}

/// Why another node did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// No such node is known.
    #[error("there is no node {0:?}")]
    NoSuchNode(String),
    /// It was not asked, or did not answer: it may have done it or not.
    #[error("the node {node} did not answer: {why}")]
    Silent {
        /// Which.
        node: String,
        /// Why not.
        why: String,
    },
}

/// What nodes ask of each other for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wish {
    Report,
    Drain,
    Undrain,
    Sockets(UserId),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Report(OwnReport),
    Sockets(usize),
    Done,
    /// What was asked is of a later version than this node.
    Unknown,
}

impl Membership {
    /// Of this node, which serves what `role` says.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, roster: Arc<Roster>, role: &'static str) -> Self {
        Self { cluster, roster, role, drains: watch::Sender::new(false), questions: OnceLock::new() }
    }

    /// Of a node that is alone.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub fn alone(name: NodeName, roster: Arc<Roster>, role: &'static str) -> Result<Self, NoRandom> {
        // Nothing happens to it that anybody would have to hear of.
        let (cluster, _events) = Cluster::alone(name)?;
        if let Some(view) = cluster.view() {
            cluster.confirm(view.number());
        }
        Ok(Self::new(Arc::new(cluster), roster, role))
    }

    /// Whether operators want this node drained, now and from then on.
    #[must_use]
    pub fn drains(&self) -> watch::Receiver<bool> {
        self.drains.subscribe()
    }

    /// What operators ask over the cluster port, for whoever answers them; once and for all. One that finds too many
    /// waiting gets no answer.
    #[must_use]
    pub fn questions(&self) -> mpsc::Receiver<OperatorCall> {
        let (ask, asked) = mpsc::channel(QUESTIONS);
        // Of two who would answer, the first does.
        let _ = self.questions.set(ask);
        asked
    }

    /// An operator asks something over the cluster port.
    pub(super) fn hear(&self, question: OperatorCall) {
        if let Some(ask) = self.questions.get() {
            // Dropped, it is told that there is no answer.
            let _ = ask.try_send(question);
        }
    }

    /// All nodes that are known here, each with what it says of itself.
    pub async fn nodes(&self) -> NodeList {
        let view = self.cluster.view();
        let reports = self.cluster.nodes().into_iter().map(|known| self.report(known, view.as_ref()));
        let nodes = join_all(reports).await;
        NodeList { view: view.as_ref().map(View::number), nodes }
    }

    /// One of them; `None` where none is called so.
    pub async fn node(&self, name: &str) -> Option<NodeReport> {
        let view = self.cluster.view();
        let known = self.cluster.nodes().into_iter().find(|known| known.node.name.as_str() == name)?;
        Some(self.report(known, view.as_ref()).await)
    }

    /// Nodes, other than this one of them, that are homes.
    #[must_use]
    pub fn homes_beside(&self, name: &str) -> usize {
        let view = self.cluster.view();
        let members = view.iter().flat_map(View::members);
        members.filter(|member| member.state == State::Up && member.node.name.as_str() != name).count()
    }

    /// Has a node give up its homes and send its clients away; it stays in the cluster. It answers when the node has
    /// heard of it.
    ///
    /// # Errors
    /// Where it was not heard of.
    pub async fn drain(&self, name: &str) -> Result<(), Unreached> {
        self.ask_by_name(name, Wish::Drain).await.map(drop)
    }

    /// Has it take homes and clients again.
    ///
    /// # Errors
    /// Where it was not heard of.
    pub async fn undrain(&self, name: &str) -> Result<(), Unreached> {
        self.ask_by_name(name, Wish::Undrain).await.map(drop)
    }

    /// Where something is.
    pub async fn place(&self, subject: Subject) -> Place {
        let shard = subject.shard();
        let sockets = match subject {
            Subject::User(user) => self.sockets(user).await,
            Subject::Author(_) | Subject::Room(_) => Vec::new(),
        };
        Place {
            kind: subject.kind().to_owned(),
            id: subject.to_string(),
            shard: shard.0,
            home: self.cluster.home(shard.into()).map(|node| node.name.to_string()),
            sockets,
        }
    }

    /// Answers what another node asks for its operator.
    #[must_use]
    pub fn answer(&self, request: &[u8]) -> Vec<u8> {
        let reply = serde_json::from_slice(request).map_or(Reply::Unknown, |wish| self.fulfil(wish));
        // Numbers and texts always have a JSON form.
        serde_json::to_vec(&reply).unwrap_or_default()
    }

    fn fulfil(&self, wish: Wish) -> Reply {
        match wish {
            Wish::Report => Reply::Report(self.own()),
            Wish::Sockets(user) => Reply::Sockets(self.roster.connections(user).len()),
            Wish::Drain | Wish::Undrain => {
                let drains = wish == Wish::Drain;
                let changed =
                    self.drains.send_if_modified(|current| std::mem::replace(current, drains) != drains);
                if changed {
                    let what = if drains { "drained" } else { "drained no longer" };
                    tracing::info!(drains, "an operator wants this node to be {what}");
                }
                Reply::Done
            }
        }
    }

    async fn sockets(&self, user: UserId) -> Vec<SocketCount> {
        let counts = self.cluster.nodes().into_iter().map(async |known| {
            let sockets = match self.ask(&known.node.name, Wish::Sockets(user)).await {
                Ok(Reply::Sockets(sockets)) => Some(sockets),
                _ => None,
            };
            SocketCount { node: known.node.name.to_string(), sockets }
        });
        join_all(counts).await
    }

    async fn report(&self, known: Known, view: Option<&View>) -> NodeReport {
        let own = match self.ask(&known.node.name, Wish::Report).await {
            Ok(Reply::Report(own)) => Some(own),
            _ => None,
        };
        let is_home = |shard: &Shard| {
            let home = view.and_then(|view| view.home((*shard).into()));
            home.is_some_and(|member| member.node == known.node)
        };
        NodeReport {
            name: known.node.name.to_string(),
            boot: known.node.boot.to_string(),
            state: state(known.state),
            is_here: known.link.is_none(),
            homes: Shard::all().filter(is_home).count(),
            address: known.address,
            link: known.link.map(|link| LinkReport {
                is_up: link.is_up,
                since_seconds: link.since.elapsed().as_secs_f64(),
                heard_seconds: link.heard.elapsed().as_secs_f64(),
                view: link.view.map(|view| view.number),
                confirmed: link.confirmed,
                held_bytes: link.held,
            }),
            own,
        }
    }

    fn own(&self) -> OwnReport {
        OwnReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: self.role.to_owned(),
            view: self.cluster.view().as_ref().map(View::number),
            is_draining: *self.drains.borrow(),
            may_act: self.cluster.may_act(),
            sockets: self.roster.count(),
            redis: match self.cluster.redis() {
                Some(RedisState::Trouble(why)) => Some(why),
                Some(RedisState::Unknown) => Some("it was not asked yet".to_owned()),
                Some(RedisState::Answers) | None => None,
            },
        }
    }

    async fn ask_by_name(&self, name: &str, wish: Wish) -> Result<Reply, Unreached> {
        let none = || Unreached::NoSuchNode(name.to_owned());
        let known = self.cluster.nodes().into_iter().find(|known| known.node.name.as_str() == name);
        self.ask(&known.ok_or_else(none)?.node.name, wish).await
    }

    /// Asks a node, this one too.
    async fn ask(&self, node: &NodeName, wish: Wish) -> Result<Reply, Unreached> {
        if *node == self.cluster.me().name {
            return Ok(self.fulfil(wish));
        }
        let silent = |why: String| Unreached::Silent { node: node.to_string(), why };
        let request = serde_json::to_vec(&wish).map_err(|error| silent(error.to_string()))?;
        let call = Asked::encode_call(Asking::Operate(request.into()));
        let answer = self.cluster.call(node, &call, PATIENCE).await;
        let answer = answer.map_err(|error| silent(error.to_string()))?;
        let later =
            || silent("it is of another version, which does not know that, or is just starting".to_owned());
        let Ok(Some(Answer::Operated(told))) = Answered::read(answer) else { return Err(later()) };
        match serde_json::from_slice(&told) {
            Ok(Reply::Unknown) | Err(_) => Err(later()),
            Ok(reply) => Ok(reply),
        }
    }
}

const fn state(known: Option<State>) -> NodeState {
    match known {
        Some(State::Joining) => NodeState::Joining,
        Some(State::Up) => NodeState::Up,
        Some(State::Draining) => NodeState::Draining,
        None => NodeState::Out,
    }
}

#[cfg(test)]
mod tests {
    use super::{Membership, Reply, Unreached, Wish};
    use crate::model::close::Close;
    use crate::model::id::{ConnectionId, LoginId, UserId};
    use crate::model::operation::{NodeState, Subject};
    use crate::model::shard::Shard;
    use roost_cluster::NodeName;
    use std::sync::Arc;

    fn alone() -> Membership {
        Membership::alone(NodeName::parse("one").unwrap(), Arc::default(), "all").unwrap()
    }

    #[tokio::test]
    async fn a_node_that_is_alone_is_one_node_and_home_to_all() {
        let membership = alone();
        let list = membership.nodes().await;
        assert_eq!(list.view, Some(1));
        let [node] = list.nodes.as_slice() else { panic!("{list:?}") };
        assert_eq!((node.name.as_str(), node.state, node.homes), ("one", NodeState::Up, Shard::COUNT));
        assert!(node.is_here && node.link.is_none() && node.own.as_ref().unwrap().may_act);
        assert_eq!(membership.node("one").await.as_ref(), Some(node));
        assert_eq!(membership.node("two").await, None);
        assert_eq!(membership.homes_beside("one"), 0);
        let author = Subject::Author(UserId::make());
        let place = membership.place(author).await;
        assert_eq!((place.home.as_deref(), place.shard), (Some("one"), author.shard().0));
        assert!(place.sockets.is_empty());
    }

    #[tokio::test]
    async fn a_drain_is_a_wish_that_is_heard_once() {
        let membership = alone();
        let mut drains = membership.drains();
        assert!(!*drains.borrow_and_update());
        membership.drain("one").await.unwrap();
        assert!(*drains.borrow_and_update());
        membership.drain("one").await.unwrap();
        assert!(!drains.has_changed().unwrap(), "it was drained already");
        assert!(membership.own().is_draining);
        membership.undrain("one").await.unwrap();
        assert!(!*drains.borrow_and_update());
        assert_eq!(membership.drain("two").await, Err(Unreached::NoSuchNode("two".to_owned())));
    }

    #[tokio::test]
    async fn what_another_node_asks_is_answered_and_what_is_not_known_is_said_to_be_so() {
        let membership = alone();
        let user = UserId::make();
        let asked = |wish: &Wish| {
            let answer = membership.answer(&serde_json::to_vec(wish).unwrap());
            serde_json::from_slice::<Reply>(&answer).unwrap()
        };
        assert_eq!(asked(&Wish::Sockets(user)), Reply::Sockets(0));
        let outbox = crate::actors::outbox::Outbox::new(None, 1_000);
        membership.roster.join(user, LoginId::make(), ConnectionId::make(), Arc::new(outbox), 1);
        assert_eq!(asked(&Wish::Sockets(user)), Reply::Sockets(1));
        membership.roster.close_all(Close::Leaving);
        assert!(matches!(asked(&Wish::Report), Reply::Report(own) if own.role == "all"));
        assert_eq!(asked(&Wish::Drain), Reply::Done);
        assert!(*membership.drains().borrow());
        for later in [&b"\"later\""[..], b"", b"{}", b"\xff"] {
            assert_eq!(membership.answer(later), b"\"unknown\"");
        }
    }
}
