//! Follows, as sockets hear of them: on every node where the follower is connected, before its request is answered.
//!
//! Before a follow is stored, relays keep the followee's entries for the follower's connections, and the followee's home
//! knows that this node is interested; once it is known after which entry the follow sees, what was kept and is newer
//! goes out. Other nodes are asked to do the same. A node that does not answer in time, or cannot hear the home in time,
//! has those connections begin anew (1011): they resume, and read the follow from the store. So do they where the node
//! that stores it falls silent, and where the follower asks again and it is found stored.
//!
//! A session that begins meanwhile waits until the follow is settled ([`FollowNews::settled`]). What is expected for other
//! nodes is forgotten after 20 s.

use super::relays::{ExpectedFollow, RelayGone, Relays};
use super::roster::Roster;
use super::wanted::Wanted;
use super::wire::{Answer, Answered, Asked, Asking, FollowText, Nothing, Users, id_bytes, user_of};
use crate::model::close::Close;
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::timestamp::Timestamp;
use futures_util::future::join_all;
use moka::sync::Cache;
use roost_cluster::{Cluster, Node, NodeName, State};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long all nodes may take before a follow is stored, and again after it.
const PATIENCE: Duration = Duration::from_millis(125);
/// How long it takes to store a follow.
const STORED: Duration = Duration::from_secs(10);
/// How long a node expects a follow that another one is storing: longer than that may take.
const HELD: Duration = Duration::from_secs(20);
/// A follow that began so long ago is known to every connection.
const YOUNG: Duration = Duration::from_secs(600);
/// Young follows that are remembered to be known to every connection.
const KNOWN: u64 = 100_000;
/// Between two tries to tell a node that connections there are to begin anew, and how long it is tried.
const BETWEEN_TRIES: Duration = Duration::from_millis(250);
const TRIED: Duration = YOUNG;

/// Follows under way on this node and on others.
pub struct FollowNews {
    relays: Arc<Relays>,
    roster: Arc<Roster>,
    cluster: Option<(Arc<Cluster>, Arc<Wanted>)>,
    numbers: AtomicU64,
    /// Those that other nodes are storing, or stored lately, by follower: each session that begins looks for its own.
    held: Mutex<HashMap<UserId, HashMap<HeldKey, Held>>>,
    /// One of them was settled.
    settled: watch::Sender<()>,
    /// Young follows that every connection of their followers knows of, by follower and followee.
    known: Cache<(UserId, UserId), ()>,
}

/// Which node stores it, and its number there.
type HeldKey = (Node, u64);

struct Held {
    since: Instant,
    /// What relays keep, and whether the followee is covered, where the follower is connected here.
    expected: Option<(ExpectedFollow, bool)>,
    is_settled: bool,
}

/// How another node's connections came to know of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// They were told, if there are any.
    Told,
    /// They begin anew.
    Closed,
}

/// A follow that is about to be stored; dropped, it was not.
pub struct Expecting {
    news: Arc<FollowNews>,
    number: u64,
    follower: UserId,
    followee: UserId,
    /// Here: what relays keep, and whether the followee is covered.
    here: Option<(ExpectedFollow, bool)>,
    /// Other nodes, and whether each has said that it expects the follow.
    elsewhere: Vec<(NodeName, bool)>,
    is_settled: bool,
}

impl FollowNews {
    /// Of a node alone, or of one of a cluster.
    #[must_use]
    pub fn new(
        relays: Arc<Relays>,
        roster: Arc<Roster>,
        cluster: Option<(Arc<Cluster>, Arc<Wanted>)>,
    ) -> Self {
        let (numbers, held, settled) = (AtomicU64::new(0), Mutex::default(), watch::Sender::new(()));
        let known = Cache::builder().max_capacity(KNOWN).time_to_live(YOUNG).build();
        Self { relays, roster, cluster, numbers, held, settled, known }
    }

    /// Waits until no follow of this user is being stored by another node, or those are too old.
    pub async fn settled(&self, follower: UserId) {
        let settled = async {
            let mut changed = self.settled.subscribe();
            while self.any(follower, |held| !held.is_settled) {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        // Nodes that end do not say so.
        let _ = timeout(STORED, settled).await;
    }

    /// Whether another node has begun to store a follow of this user since then.
    #[must_use]
    pub fn expected_since(&self, follower: UserId, since: Instant) -> bool {
        self.any(follower, |held| held.since >= since)
    }

    /// A follow is about to be stored.
    ///
    /// # Errors
    /// Where a relay of this node is gone.
    pub async fn expect(
        self: &Arc<Self>,
        follower: UserId,
        followee: UserId,
    ) -> Result<Expecting, RelayGone> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut expecting = Expecting {
            news: self.clone(),
            number,
            follower,
            followee,
            here: None,
            elsewhere: Vec::new(),
            is_settled: false,
        };
        let text = expecting.text(None);
        let asking = |_: &NodeName| Asking::Expect(text.clone());
        let (here, elsewhere) = tokio::join!(self.expect_here(follower, followee), self.ask_all(asking));
        let expects = elsewhere.into_iter().map(|(node, heard)| (node, heard.is_some()));
        (expecting.here, expecting.elsewhere) = (here?, expects.collect());
        Ok(expecting)
    }

    /// A follow has ended: nothing more of the followee goes to the follower's connections.
    pub async fn unfollow(&self, follower: UserId, followee: UserId) {
        let text = FollowText {
            number: 0,
            follower: id_bytes(follower.0),
            followee: id_bytes(followee.0),
            since: None,
        };
        let asking = |_: &NodeName| Asking::Unfollow(text.clone());
        let (_, elsewhere) = tokio::join!(self.unfollow_here(follower, followee), self.ask_all(asking));
        for (node, answer) in elsewhere {
            if answer.is_none() {
                self.have_reread(&node, follower);
            }
        }
    }

    /// Another node is about to store a follow.
    pub(super) async fn expect_for(self: &Arc<Self>, node: &Node, text: &FollowText) -> Option<Answer> {
        let (follower, followee) = (user_of(&text.follower).ok()?, user_of(&text.followee).ok()?);
        let key = (node.clone(), text.number);
        let one = Held { since: Instant::now(), expected: None, is_settled: false };
        self.lock().entry(follower).or_default().insert(key.clone(), one);
        tokio::spawn(self.clone().give_up(follower, key.clone()));
        let expected = self.expect_here(follower, followee).await.ok()?;
        // Where it was settled meanwhile, connections begin anew.
        let mut all = self.lock();
        let held = all.get_mut(&follower).and_then(|held| held.get_mut(&key));
        if let Some(held) = held.filter(|held| !held.is_settled) {
            held.expected = expected;
        }
        drop(all);
        Some(Answer::Done(Nothing {}))
    }

    /// Another node has stored a follow, or has not.
    pub(super) async fn settle_for(&self, node: &Node, text: &FollowText) -> Option<Answer> {
        let follower = user_of(&text.follower).ok()?;
        let expected = {
            let mut all = self.lock();
            let held = all.get_mut(&follower).and_then(|held| held.get_mut(&(node.clone(), text.number)));
            held.and_then(|held| {
                held.is_settled = true;
                held.expected.take()
            })
        };
        let answer = match (expected, text.since) {
            (Some((expected, true)), Some(since)) => {
                // A relay that is gone has every session begin anew.
                let _ = expected.settle(Seq(since)).await;
                Answer::Done(Nothing {})
            }
            (_, None) => Answer::Done(Nothing {}),
            (None, Some(_)) if self.roster.connections(follower).is_empty() => Answer::Done(Nothing {}),
            // Who came meanwhile, or could not be sure to hear of the followee, reads the follow.
            (_, Some(_)) => {
                self.roster.close_user(follower, Close::Internal);
                Answer::Closed(Nothing {})
            }
        };
        self.settled.send_replace(());
        Some(answer)
    }

    /// What another node has not settled by then: it may have stored it and died.
    async fn give_up(self: Arc<Self>, follower: UserId, key: HeldKey) {
        tokio::time::sleep(HELD).await;
        let one = {
            let mut all = self.lock();
            let Some(held) = all.get_mut(&follower) else { return };
            let one = held.remove(&key);
            if held.is_empty() {
                all.remove(&follower);
            }
            one
        };
        if one.is_some_and(|one| !one.is_settled) {
            self.roster.close_user(follower, Close::Internal);
        }
    }

    /// On another node a follow has ended.
    pub(super) async fn unfollow_for(&self, text: &FollowText) -> Option<Answer> {
        let (follower, followee) = (user_of(&text.follower).ok()?, user_of(&text.followee).ok()?);
        self.unfollow_here(follower, followee).await;
        Some(Answer::Done(Nothing {}))
    }

    /// Has the relays here expect it, where the follower is connected; answers also whether the followee is covered.
    async fn expect_here(
        &self,
        follower: UserId,
        followee: UserId,
    ) -> Result<Option<(ExpectedFollow, bool)>, RelayGone> {
        let connections = self.roster.connections(follower);
        if connections.is_empty() {
            // Nobody to push to: the next session reads the follow from the store.
            return Ok(None);
        }
        let expected = self.relays.expect(followee, connections).await?;
        let is_covered = match &self.cluster {
            Some((_, wanted)) => wanted.cover(&[followee], PATIENCE).await,
            None => true,
        };
        Ok(Some((expected, is_covered)))
    }

    async fn unfollow_here(&self, follower: UserId, followee: UserId) {
        // Where a relay is gone, every session begins anew and reads the store.
        let _ = self.relays.unfollow(followee, self.roster.connections(follower)).await;
    }

    /// Asks all other nodes that may have sockets; answers what each that did it in time said.
    async fn ask_all(&self, asking: impl Fn(&NodeName) -> Asking) -> Vec<(NodeName, Option<Heard>)> {
        let Some((cluster, _)) = &self.cluster else { return Vec::new() };
        let Some(view) = cluster.view() else { return Vec::new() };
        let others = view
            .members()
            .iter()
            .filter(|member| member.node != *cluster.me() && member.state != State::Joining);
        let calls =
            others.map(|member| (member.node.name.clone(), Asked::encode_call(asking(&member.node.name))));
        let asked = calls.map(|(name, call)| async move {
            // A relay may be waiting for the home.
            let answer = cluster.call(&name, &call, PATIENCE * 2).await;
            let said = match answer.map(Answered::read) {
                Ok(Ok(Some(Answer::Done(_)))) => Some(Heard::Told),
                Ok(Ok(Some(Answer::Closed(_)))) => Some(Heard::Closed),
                _ => None,
            };
            (name, said)
        });
        join_all(asked).await
    }

    /// That node has the user's connections begin anew, as soon as it hears; one that starts anew has none.
    fn have_reread(&self, node: &NodeName, user: UserId) {
        let Some((cluster, _)) = &self.cluster else { return };
        let (cluster, node) = (cluster.clone(), node.clone());
        let call = Asked::encode_call(Asking::Reread(Users::of(&[user])));
        tokio::spawn(async move {
            let until = Instant::now() + TRIED;
            while Instant::now() < until {
                let answer = cluster.call(&node, &call, STORED).await;
                if matches!(answer.map(Answered::read), Ok(Ok(_))) {
                    break;
                }
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
        });
    }

    fn any(&self, follower: UserId, is_so: impl Fn(&Held) -> bool) -> bool {
        self.lock().get(&follower).is_some_and(|held| held.values().any(is_so))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, HashMap<HeldKey, Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expecting {
    /// The follow was stored, and sees what comes after `since`: whatever comes reaches the follower. Answers whether
    /// every connection that it has was told; else some begin anew, now or once they hear.
    pub async fn settle(mut self, since: Seq) -> bool {
        self.is_settled = true;
        let here = self.here.take();
        let settle_here = async {
            match here {
                // A relay that is gone has every session begin anew, and those read the follow.
                Some((expected, true)) => expected.settle(since).await.is_ok(),
                Some((_, false)) => {
                    self.news.roster.close_user(self.follower, Close::Internal);
                    false
                }
                None => true,
            }
        };
        // One that has not said in time that it expects the follow may have begun to keep entries too late: what it has
        // kept must not go out before the connections have read the others.
        let is_late = |node: &NodeName| self.elsewhere.iter().any(|(name, expects)| name == node && !expects);
        let settle = |node: &NodeName| Asking::Settle(self.text((!is_late(node)).then_some(since)));
        let late = self.elsewhere.iter().filter(|(_, expects)| !expects);
        late.for_each(|(node, _)| self.news.have_reread(node, self.follower));
        let (told_here, heard) = tokio::join!(settle_here, self.news.ask_all(settle));
        let has_heard = |node: &NodeName| heard.iter().any(|(name, heard)| name == node && heard.is_some());
        for (node, _) in self.elsewhere.iter().filter(|(node, expects)| *expects && !has_heard(node)) {
            self.news.have_reread(node, self.follower);
        }
        self.news.known.insert((self.follower, self.followee), ());
        let expected = self.elsewhere.iter().all(|(node, expects)| *expects && has_heard(node));
        told_here && expected && heard.iter().all(|(_, heard)| *heard == Some(Heard::Told))
    }

    /// The follow was there, since then. Whoever stored it may have died before the follower's connections knew of it.
    pub fn is_stored(&self, since: Timestamp) {
        let FollowNews { known, cluster, roster, .. } = &*self.news;
        let pair = (self.follower, self.followee);
        if cluster.is_none() || since.after(YOUNG) < Timestamp::now() || known.contains_key(&pair) {
            return;
        }
        known.insert(pair, ());
        roster.close_user(self.follower, Close::Internal);
        self.elsewhere.iter().for_each(|(node, _)| self.news.have_reread(node, self.follower));
    }

    fn text(&self, since: Option<Seq>) -> FollowText {
        FollowText {
            number: self.number,
            follower: id_bytes(self.follower.0),
            followee: id_bytes(self.followee.0),
            since: since.map(|since| since.0),
        }
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        if !self.is_settled && !self.elsewhere.is_empty() {
            let (news, text) = (self.news.clone(), self.text(None));
            // One that is not told forgets it by itself.
            tokio::spawn(async move { news.ask_all(|_| Asking::Settle(text.clone())).await });
        }
    }
}
