//! Where authors, conversations and inboxes are at home, and the way to each from any node.
//!
//! Alone, a node is home to all. In a cluster the view says which node is home to a shard; a node acts as home only of
//! those that it has *begun*, which the [`switchboard`](super::switchboard) sees to, and while the cluster lets it.
//! Whoever asks waits at most 10 s for a home that is moving or does not answer; what may have been done is asked for
//! again by the same request, which is stored once.

use super::authors::{Authors, PATIENCE};
use super::wire::{Answer, Answered, Asked, Asking, Delete, Forward, KeyText, NotHome, Publish, id_bytes};
use crate::model::cursor::Seq;
use crate::model::id::{PostId, UserId};
use crate::model::post::Content;
use crate::model::shard::Shard;
use crate::model::timestamp::Timestamp;
use crate::storage::{Appended, Attempt, Deletion, Entry, EntryChange, IdempotencyKey, StorageError};
use bytes::Bytes;
use roost_cluster::link::CallError;
use roost_cluster::{Cluster, NodeName, State};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

/// How long one try of asking another node may take.
const TRY: Duration = Duration::from_secs(3);
/// Between two tries, where nothing changes.
const PAUSE: Duration = Duration::from_millis(100);

/// Where an author is at home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Here, and this node may act.
    Here,
    /// At that node.
    There(NodeName),
    /// Nowhere just now: its home is moving, or no node may be one.
    Nowhere,
}

/// The homes, as this node knows them.
pub struct Homes {
    authors: Arc<Authors>,
    cluster: Option<Arc<Cluster>>,
    begun: Mutex<Begun>,
    changed: watch::Sender<()>,
}

/// What this node is home to.
struct Begun {
    shards: [bool; Shard::COUNT],
    /// The newest view for which all that it is home to has begun; 0 while something has not.
    view: u64,
    /// Grows with each change that ends something: what was about to begin by an older one does not.
    era: u64,
}

/// What is to be done at an author's home.
enum Order {
    Publish { content: Content, key: Option<IdempotencyKey>, request: Uuid },
    Delete(PostId),
}

/// What came of one try at a home.
enum Tried {
    Answered(Answer),
    /// Nothing was begun.
    Not,
    /// It may have been done.
    Unclear,
}

impl Homes {
    /// Of this node: alone, or in a cluster, where it has begun nothing yet.
    #[must_use]
    pub fn new(authors: Arc<Authors>, cluster: Option<Arc<Cluster>>) -> Self {
        let begun = Begun { shards: [cluster.is_none(); Shard::COUNT], view: 0, era: 0 };
        Self { authors, cluster, begun: Mutex::new(begun), changed: watch::Sender::new(()) }
    }

    /// Where an author is at home.
    #[must_use]
    pub fn place(&self, author: UserId) -> Place {
        self.place_of(Shard::of(author))
    }

    /// Where a shard is at home.
    #[must_use]
    pub fn place_of(&self, shard: Shard) -> Place {
        let Some(cluster) = &self.cluster else { return Place::Here };
        match cluster.home(shard.into()) {
            Some(node) if node != *cluster.me() => Place::There(node.name),
            Some(_) if self.lock().shards[usize::from(shard.0)] && cluster.may_act() => Place::Here,
            _ => Place::Nowhere,
        }
    }

    /// Whether this node acts as a shard's home.
    #[must_use]
    pub fn is_here(&self, shard: Shard) -> bool {
        self.place_of(shard) == Place::Here
    }

    /// Posts, at the author's home. The answer says that it is durable and on its way to every follower.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] where the store, or the author's home, does not answer within 10 s; then the
    /// post may have been stored all the same.
    pub async fn publish(
        &self,
        author: UserId,
        content: Content,
        key: Option<IdempotencyKey>,
    ) -> Result<Appended, StorageError> {
        if self.cluster.is_none() {
            return self.authors.publish(author, content, key, None).await;
        }
        let order = Order::Publish { content, key, request: Uuid::new_v4() };
        let (answer, _) = self.order(author, &order).await?;
        answer.appended().unwrap_or_else(|error| Err(StorageError::Refused(error.to_string())))
    }

    /// Deletes an author's own post, at its home.
    ///
    /// # Errors
    /// As for [`Self::publish`].
    pub async fn delete(&self, author: UserId, id: PostId) -> Result<Deletion, StorageError> {
        if self.cluster.is_none() {
            return self.authors.delete(author, id).await;
        }
        let (answer, is_repeat) = self.order(author, &Order::Delete(id)).await?;
        match answer.deleted() {
            // A try whose answer was lost has deleted it.
            Ok(Ok(Deletion::Missing)) if is_repeat => {
                let change = EntryChange::Deleted { id, author, deleted_at: Timestamp::now() };
                Ok(Deletion::Done(Entry { seq: Seq::default(), change }))
            }
            Ok(outcome) => outcome,
            Err(error) => Err(StorageError::Refused(error.to_string())),
        }
    }

    /// Another node asks this one, as the author's home, to post.
    pub async fn publish_as_home(&self, asked: Publish) -> Option<Answer> {
        let (author, content, key, attempt) = asked.read().ok()?;
        let publish = async { self.authors.publish(author, content, key, Some(attempt)).await.into() };
        Some(self.as_home(Shard::of(author), publish).await)
    }

    /// Another node asks this one, as the author's home, to delete.
    pub async fn delete_as_home(&self, asked: Delete) -> Option<Answer> {
        let (author, id) = asked.read().ok()?;
        let delete = async { self.authors.delete(author, id).await.into() };
        Some(self.as_home(Shard::of(author), delete).await)
    }

    /// How many shards this node is home to and has begun.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().shards.iter().filter(|begun| **begun).count()
    }

    /// The newest view for which all that this node is home to has begun; 0 while something has not.
    #[must_use]
    pub fn begun_view(&self) -> u64 {
        self.lock().view
    }

    /// Waits for the next change of what has begun, or for this long.
    pub async fn changed_within(&self, wait: Duration) {
        let mut changed = self.changed.subscribe();
        // Either way whoever waits looks again.
        let _ = timeout(wait, changed.changed()).await;
    }

    /// By a new view, or because it may not act, this node is home to no more than these: the others end at once.
    /// Answers the era in which they may begin.
    pub(super) fn keep(&self, is_ours: impl Fn(Shard) -> bool) -> u64 {
        let mut begun = self.lock();
        for shard in Shard::all() {
            begun.shards[usize::from(shard.0)] &= is_ours(shard);
        }
        begun.view = 0;
        begun.era += 1;
        let era = begun.era;
        drop(begun);
        self.changed.send_replace(());
        era
    }

    /// The era that is now.
    pub(super) fn era(&self) -> u64 {
        self.lock().era
    }

    /// Those of these shards that have not begun.
    pub(super) fn not_begun(&self, shards: &[Shard]) -> Vec<Shard> {
        let begun = self.lock();
        shards.iter().filter(|shard| !begun.shards[usize::from(shard.0)]).copied().collect()
    }

    /// These have begun, and with them all of this view; unless the era is over.
    pub(super) fn begin(&self, shards: &[Shard], view: u64, era: u64) -> bool {
        let mut begun = self.lock();
        if begun.era != era {
            return false;
        }
        for shard in shards {
            begun.shards[usize::from(shard.0)] = true;
        }
        begun.view = view;
        drop(begun);
        self.changed.send_replace(());
        true
    }

    async fn order(&self, author: UserId, order: &Order) -> Result<(Answer, bool), StorageError> {
        let asking = |is_repeat| order.asking(author, is_repeat);
        let here = |is_repeat| self.act(author, order, is_repeat);
        self.at_home(Shard::of(author), asking, here).await
    }

    /// Has something done at a shard's home: there by asking it, here by `here`; both hear whether a try before may have
    /// done it. Tries until a home has answered; answers also whether a try before may have done it.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] where no home answers within 10 s; then it may have been done all the same.
    pub(super) async fn at_home<F: Future<Output = Answer>>(
        &self,
        shard: Shard,
        asking: impl Fn(bool) -> Asking,
        here: impl Fn(bool) -> F,
    ) -> Result<(Answer, bool), StorageError> {
        let until = Instant::now() + PATIENCE;
        let mut is_repeat = false;
        loop {
            let tried = match self.place_of(shard) {
                Place::Nowhere => Tried::Not,
                Place::Here => {
                    let answer = timeout_at(until, here(is_repeat)).await;
                    answer.map_or(Tried::Unclear, |answer| Tried::of(self.if_home(shard, answer)))
                }
                Place::There(node) => self.ask(&node, asking(is_repeat), until).await,
            };
            match tried {
                Tried::Answered(answer) => return Ok((answer, is_repeat)),
                Tried::Unclear => is_repeat = true,
                Tried::Not => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(StorageError::Unavailable("the home does not answer".to_owned()));
            }
            self.changed_within(PAUSE.min(left)).await;
        }
    }

    /// Another node asks this one, as a shard's home, to do something.
    pub(super) async fn as_home(&self, shard: Shard, done: impl Future<Output = Answer>) -> Answer {
        if self.place_of(shard) != Place::Here {
            return Answer::NotHome(NotHome { is_unclear: false });
        }
        let answer = done.await;
        self.if_home(shard, answer)
    }

    /// What this node did as home counts only if it still is.
    fn if_home(&self, shard: Shard, answer: Answer) -> Answer {
        match self.place_of(shard) {
            Place::Here => answer,
            _ => Answer::NotHome(NotHome { is_unclear: true }),
        }
    }

    async fn ask(&self, node: &NodeName, asking: Asking, until: Instant) -> Tried {
        let Some(cluster) = &self.cluster else { return Tried::Not };
        match ask(cluster, node, asking, until).await {
            Ok(bytes) => Answered::read(bytes).ok().flatten().map_or(Tried::Unclear, Tried::of),
            Err(CallError::NotSent(_)) => Tried::Not,
            Err(CallError::Gone | CallError::Late) => Tried::Unclear,
        }
    }

    /// Does it as the author's home.
    async fn act(&self, author: UserId, order: &Order, is_repeat: bool) -> Answer {
        match order {
            Order::Publish { content, key, request } => {
                let attempt = Some(Attempt { request: *request, is_repeat });
                self.authors.publish(author, content.clone(), key.clone(), attempt).await.into()
            }
            Order::Delete(id) => self.authors.delete(author, *id).await.into(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    fn asking(&self, author: UserId, is_repeat: bool) -> Asking {
        let author = id_bytes(author.0);
        match self {
            Self::Publish { content, key, request } => {
                let key = key
                    .as_ref()
                    .map(|key| KeyText { key: key.key.clone(), body: Bytes::copy_from_slice(&key.body) });
                let content = content.as_str().to_owned();
                Asking::Publish(Publish { author, content, key, request: id_bytes(*request), is_repeat })
            }
            Self::Delete(id) => Asking::Delete(Delete { author, post: id_bytes(id.0) }),
        }
    }
}

/// The cluster's name of a shard: both count from 0.
impl From<Shard> for roost_cluster::Shard {
    fn from(shard: Shard) -> Self {
        Self::new(shard.0)
    }
}

impl Tried {
    fn of(answer: Answer) -> Self {
        match answer {
            Answer::NotHome(NotHome { is_unclear: false }) => Self::Not,
            Answer::NotHome(NotHome { is_unclear: true }) => Self::Unclear,
            answer => Self::Answered(answer),
        }
    }
}

/// Asks a node, through a third one where there is no link to it.
async fn ask(cluster: &Cluster, node: &NodeName, asking: Asking, until: Instant) -> Result<Bytes, CallError> {
    let left = until.saturating_duration_since(Instant::now()).min(TRY);
    let call = Asked::encode_call(asking);
    let Some(third) = way_round(cluster, node) else { return cluster.call(node, &call, left).await };
    let forward = Asked::encode_call(Asking::Forward(Forward { to: node.to_string(), call }));
    cluster.call(&third, &forward, left).await
}

/// A node to which there is a link, where there is none to that one.
fn way_round(cluster: &Cluster, node: &NodeName) -> Option<NodeName> {
    let nodes = cluster.nodes();
    let is_up = |state: &roost_cluster::NodeState| state.link.as_ref().is_some_and(|link| link.is_up);
    if nodes.iter().any(|state| state.node.name == *node && is_up(state)) {
        return None;
    }
    let others = nodes.iter().filter(|state| state.node.name != *node && is_up(state));
    let mut others = others.filter(|state| matches!(state.state, Some(State::Up | State::Draining)));
    others.next().map(|state| state.node.name.clone())
}
