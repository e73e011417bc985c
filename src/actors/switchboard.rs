//! What this node hears of the cluster, and what follows: views, links, frames and calls of other nodes.
//!
//! One task reads the events, in order; frames go to the relays before the next event is read, so that a node that is
//! behind takes no more than it can carry. What takes long when homes move (letting go, taking over) is a second task's,
//! one step after the other, so that frames flow meanwhile. Other calls are answered each in a task of its own; a node
//! sends as many at once as its link's window holds.

use super::authors::Authors;
use super::chat_homes::{ConversationHomes, InboxHomes};
use super::follows::FollowNews;
use super::homes::Homes;
use super::horizon::Horizon;
use super::inbox_watch::InboxWatch;
use super::inboxes::Inboxes;
use super::membership::Membership;
use super::neighbours::Neighbours;
use super::room_homes::RoomHomes;
use super::roster::Roster;
use super::wanted::Wanted;
use super::watermark::Watermark;
use super::wire::{
    Answer, Answered, Asked, Asking, Forward, Interest, Interested, Nothing, Telling, Told, Users,
};
use crate::model::close::Close;
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::shard::Shard;
use crate::storage::{EntryObserver, Jobs};
use roost_cluster::{Call, Cluster, Ended, Event, Events, Frame, Node, NodeName, State, View};
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between two tries to take shards over.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a call that is passed on may take.
const FORWARDED: Duration = Duration::from_secs(3);

/// What a node of a cluster stands on.
pub struct Switchboard {
    /// Its place in it.
    pub cluster: Arc<Cluster>,
    /// What it is home to.
    pub homes: Arc<Homes>,
    /// What it has heard.
    pub horizon: Arc<Horizon>,
    /// Whom it wants to hear.
    pub wanted: Arc<Wanted>,
    /// Whom it tells.
    pub neighbours: Arc<Neighbours>,
    /// Follows under way.
    pub follows: Arc<FollowNews>,
    /// Its active authors.
    pub authors: Arc<Authors>,
    /// Where conversations are at home.
    pub conversations: Arc<ConversationHomes>,
    /// Where inboxes are at home.
    pub inbox_homes: Arc<InboxHomes>,
    /// Who listens to inboxes here.
    pub inboxes: Arc<Inboxes>,
    /// Where rooms are at home.
    pub rooms: Arc<RoomHomes>,
    /// Has them read what they may not be told.
    pub inbox_watch: Arc<InboxWatch>,
    /// Who is connected.
    pub roster: Arc<Roster>,
    /// What is on its way.
    pub watermark: Arc<Watermark>,
    /// What remains to be done.
    pub jobs: Arc<dyn Jobs>,
    /// What operators ask of it, once somebody answers that.
    pub membership: Arc<OnceLock<Arc<Membership>>>,
    /// Why the cluster ended for this node, once it has.
    pub ended: watch::Sender<Option<Ended>>,
}

/// What takes long when homes move.
enum Step {
    /// This node keeps no more than these; then the view is confirmed.
    Keep(HashSet<Shard>, u64),
    /// It keeps nothing, for it may not act.
    Stop,
    /// It may act again when it has confirmed the view.
    Confirm,
    /// All nodes have confirmed the view: what is gained by it begins, unless the era is over by then.
    Begin(u64, u64),
}

impl Switchboard {
    /// Reads what there is to hear, until the cluster has stopped.
    pub async fn run(self: Arc<Self>, mut events: Events) {
        let (steps, queue) = mpsc::unbounded_channel();
        let moving = tokio::spawn(self.clone().walk(queue));
        let _ends_with_this = AbortOnDrop(moving);
        while let Some(event) = events.next().await {
            match event {
                Event::View(view) => {
                    let ours = self.look(&view);
                    let _ = steps.send(Step::Keep(ours, view.number()));
                }
                Event::AllConfirmed(view) => drop(steps.send(Step::Begin(view, self.homes.era()))),
                Event::Fenced => {
                    self.homes.keep(|_| false);
                    self.authors.end(|_| true);
                    self.conversations.keep(|_| false);
                    self.rooms.keep(|_| false);
                    self.horizon.stop();
                    let _ = steps.send(Step::Stop);
                }
                Event::Unfenced => drop(steps.send(Step::Confirm)),
                Event::Up(node) => self.horizon.link(&node, true),
                Event::Down(node) => self.horizon.link(&node, false),
                Event::Gap(node) => self.missed(&node),
                Event::Frame(frame) => self.hear(frame).await,
                Event::Call(call) => self.take(call),
                // Before anybody answers, it is told that there is no answer.
                Event::Operator(call) => {
                    if let Some(membership) = self.membership.get() {
                        membership.hear(call);
                    }
                }
                Event::Ended(why) => {
                    tracing::error!("this node ends: {why}");
                    self.ended.send_replace(Some(why));
                }
            }
        }
    }

    /// A new view: what this node loses by it ends now. Answers what it is home to.
    fn look(&self, view: &View) -> HashSet<Shard> {
        let me = self.cluster.me();
        let ours: HashSet<Shard> = Shard::all()
            .filter(|shard| view.home((*shard).into()).is_some_and(|home| home.node == *me))
            .collect();
        let was_there = self.horizon.was_home(me);
        self.horizon.look(view);
        self.homes.keep(|shard| ours.contains(&shard));
        self.authors.end(|author| !ours.contains(&Shard::of(author)));
        self.conversations.keep(|shard| ours.contains(&shard));
        self.rooms.keep(|shard| ours.contains(&shard));
        self.neighbours.look(view);
        self.wanted.look(view);
        self.inbox_watch.homes_moved();
        if was_there && !view.has(me) {
            tracing::warn!(
                view = view.number(),
                "this node was left out of the view: its clients begin anew"
            );
            self.roster.close_all(Close::Internal);
        }
        ours
    }

    /// Frames of a node are missing: whoever is connected here reads the store again.
    fn missed(&self, node: &Node) {
        if self.horizon.was_home(node) && self.roster.count() > 0 {
            tracing::warn!(%node, "frames of node {node} are missing: clients begin anew");
            self.roster.close_all(Close::Internal);
        }
        self.inbox_watch.missed();
    }

    async fn hear(&self, frame: Frame) {
        let Ok(told) = Told::read(frame.bytes) else {
            tracing::warn!(from = %frame.from, "a frame of {} makes no sense", frame.from);
            return;
        };
        match told {
            Some(Telling::Entry(entry)) => match entry.try_into() {
                Ok(entry) => self.horizon.receive(entry).await,
                Err(error) => tracing::warn!(from = %frame.from, %error, "{error}"),
            },
            Some(Telling::Forget(users)) => {
                self.neighbours.interests().forget(&frame.from, users.users());
            }
            Some(Telling::Placed(placed)) => match placed.read() {
                Ok((user, place, event)) => self.inboxes.push(user, place, event),
                Err(error) => tracing::warn!(from = %frame.from, %error, "{error}"),
            },
            Some(told @ (Telling::Effects(_) | Telling::HostOver(_) | Telling::Stats(_))) => {
                if let Err(error) = self.rooms.hear(told) {
                    tracing::warn!(from = %frame.from, %error, "{error}");
                }
            }
            // A later version's.
            None => {}
        }
    }

    fn take(self: &Arc<Self>, call: Call) {
        let Ok(asked) = Asked::read(call.bytes.clone()) else {
            tracing::warn!(from = %call.from, "a call of {} makes no sense", call.from);
            return;
        };
        match asked {
            // In their place among the frames.
            Some(Asking::Mark(mark)) => {
                // In this order: whoever finds that the home was heard must know what it has forgotten.
                self.wanted.renew(&call.from, &mark.wanted);
                self.horizon.note(&call.from, &mark);
                let from = call.from.name.clone();
                self.watermark.spread_elsewhere(Seq(mark.spread), |author| self.is_home_of(&from, author));
                answer(call, Some(Answer::Done(Nothing {})));
            }
            Some(Asking::Interest(interest)) => {
                let told = self.note_interest(&call.from, &interest);
                answer(call, Some(told));
            }
            asked => {
                let this = self.clone();
                tokio::spawn(async move {
                    let told = this.answer_to(&call, asked).await;
                    answer(call, told);
                });
            }
        }
    }

    async fn answer_to(&self, call: &Call, asked: Option<Asking>) -> Option<Answer> {
        match asked? {
            Asking::Publish(publish) => self.homes.publish_as_home(publish).await,
            Asking::Delete(delete) => self.homes.delete_as_home(delete).await,
            Asking::Expect(follow) => self.follows.expect_for(&call.from, &follow).await,
            Asking::Settle(follow) => self.follows.settle_for(&call.from, &follow).await,
            Asking::Unfollow(follow) => self.follows.unfollow_for(&follow).await,
            Asking::Reread(users) => {
                users.users().for_each(|user| self.roster.close_user(user, Close::Internal));
                Some(Answer::Done(Nothing {}))
            }
            Asking::Send(send) => self.conversations.send_as_home(send).await,
            Asking::Place(place) => self.inbox_homes.place_as_home(&place).await,
            Asking::Press(press) => self.rooms.press_as_home(&press).await,
            Asking::Room(asked) => self.rooms.answer_as_home(asked).await,
            Asking::Forward(forward) => self.forward(forward).await,
            Asking::Operate(wish) => {
                let told = self.membership.get()?.answer(&wish);
                Some(Answer::Operated(told.into()))
            }
            Asking::Mark(_) | Asking::Interest(_) => None,
        }
    }

    async fn forward(&self, Forward { to, call }: Forward) -> Option<Answer> {
        let to = NodeName::parse(&to).ok()?;
        let answered = self.cluster.call(&to, &call, FORWARDED).await.ok()?;
        Answered::read(answered).ok().flatten()
    }

    fn note_interest(&self, node: &Node, Interest { authors, complete }: &Interest) -> Answer {
        let is_ours = |shard: Shard| self.cluster.is_home(shard.into());
        let authors: HashSet<UserId> = authors.iter().flat_map(Users::users).collect();
        let asked = authors.iter().map(|author| Shard::of(*author));
        let asked: HashSet<Shard> = asked.chain(complete.iter().map(|shard| Shard(*shard))).collect();
        // One that was taken over and has not begun does not know what is on its way.
        let all: Vec<Shard> = asked.into_iter().collect();
        let mut not_home: HashSet<Shard> = self.homes.not_begun(&all).into_iter().collect();
        not_home.extend(all.into_iter().filter(|shard| !is_ours(*shard)));
        let taken: HashSet<UserId> =
            authors.into_iter().filter(|author| !not_home.contains(&Shard::of(*author))).collect();
        let complete: Vec<Shard> =
            complete.iter().map(|shard| Shard(*shard)).filter(|shard| !not_home.contains(shard)).collect();
        // In this order: what is sent before it is known is among those that may be missing.
        self.neighbours.interests().add(node, taken.iter().copied(), &complete);
        let head = self.horizon.head().0;
        let missing = self.watermark.unspread_by(|author| taken.contains(&author));
        let (seqs, authors): (Vec<u64>, Vec<UserId>) =
            missing.into_iter().map(|(seq, author)| (seq.0, author)).unzip();
        let not_home = not_home.into_iter().map(|shard| shard.0).collect();
        Answer::Interested(Interested { not_home, seqs, authors: Some(Users::of(&authors)), head })
    }

    fn is_home_of(&self, node: &NodeName, author: UserId) -> bool {
        let home = self.cluster.home(Shard::of(author).into());
        home.is_some_and(|home| home.name == *node)
    }

    /// Takes the steps that take long, one after the other.
    async fn walk(self: Arc<Self>, mut steps: mpsc::UnboundedReceiver<Step>) {
        let mut held: HashSet<Shard> = HashSet::new();
        while let Some(step) = steps.recv().await {
            match step {
                Step::Keep(ours, view) => {
                    self.let_go(&mut held, &ours).await;
                    self.cluster.confirm(view);
                }
                Step::Stop => self.let_go(&mut held, &HashSet::new()).await,
                Step::Confirm => {
                    if let Some(view) = self.cluster.view() {
                        self.cluster.confirm(view.number());
                    }
                }
                Step::Begin(view, era) => self.begin(&mut held, view, era).await,
            }
        }
    }

    async fn let_go(&self, held: &mut HashSet<Shard>, ours: &HashSet<Shard>) {
        let lost: Vec<Shard> = held.extract_if(|shard| !ours.contains(shard)).collect();
        if !lost.is_empty() {
            tracing::info!(shards = lost.len(), "{} shards leave this node", lost.len());
            if let Err(error) = self.jobs.let_go(lost).await {
                tracing::warn!(%error, "shards were left with writes under way: {error}");
            }
        }
        self.watermark.let_go(|author| !ours.contains(&Shard::of(author)));
    }

    /// Begins what this node gains by a view.
    async fn begin(&self, held: &mut HashSet<Shard>, number: u64, era: u64) {
        if self.homes.era() != era {
            return;
        }
        let is_now = |view: &View| view.number() == number;
        let Some(view) = self.cluster.view().filter(is_now) else { return };
        let me = self.cluster.me();
        let is_up = view.member_of(me).is_some_and(|member| member.state == State::Up);
        let ours: Vec<Shard> =
            Shard::all().filter(|shard| is_up && self.cluster.is_home((*shard).into())).collect();
        let gained = self.homes.not_begun(&ours);
        held.extend(&gained);
        let undelivered = loop {
            if gained.is_empty() {
                break Vec::new();
            }
            match self.jobs.take_over(gained.clone()).await {
                Ok(undelivered) => break undelivered,
                Err(error) => tracing::warn!(%error, "shards cannot be taken over yet: {error}"),
            }
            if self.homes.era() != era {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        };
        for (seq, author) in &undelivered {
            self.watermark.entering(*seq, *author);
        }
        self.watermark.recover();
        self.watermark.begin_home(&undelivered, |author| gained.contains(&Shard::of(author)));
        if self.homes.begin(&gained, number, era) {
            self.horizon.begin(number);
            self.neighbours.hurry();
            let (conversations, shards) = (self.conversations.clone(), gained.clone());
            tokio::spawn(async move { conversations.take_over(shards).await });
            let (shards, entries) = (gained.len(), undelivered.len());
            tracing::info!(
                view = number,
                shards,
                entries,
                "{shards} shards begin here, with {entries} entries on their way"
            );
        }
    }
}

fn answer(call: Call, what: Option<Answer>) {
    // Where it cannot be sent, whoever asked asks again.
    let _ = call.answer(&Answered::encode_answer(what));
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
