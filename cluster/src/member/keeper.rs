//! Keeps this node a member: one task that talks to Redis (renews the lease, looks, makes views), and one that draws
//! the conclusions (may it act, is it up, has everybody confirmed), which so never waits for Redis.

use super::decide::{Step, beginning, is_alone, step};
use super::fence::{Renewals, leave, skew};
use super::lease::{Lease, LeaseRecord};
use super::redis::{Look, Store, StoreError};
use super::standing::{Permit, Phase};
use crate::event::{Ended, Event};
use crate::link::handshake::VERSION;
use crate::link::{LinkState, Links};
use crate::node::Node;
use crate::timing::Timing;
use crate::view::{State, View, ViewRecord};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

/// How this node's Redis is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RedisState {
    /// It was not asked yet.
    #[default]
    Unknown,
    /// It answers.
    Answers,
    /// It does not, or not what can be gone by.
    Trouble(String),
}

/// What this node knows of itself.
#[derive(Debug)]
pub struct Own {
    /// What its lease says that it is doing.
    pub state: State,
    /// Whether it was told to drain.
    pub drains: bool,
    /// Whether its clock is too far from Redis'.
    pub is_skewed: bool,
    /// By how much, at least.
    pub skew: Duration,
    /// How Redis is.
    pub redis: RedisState,
    renewals: Renewals,
    looked: Option<Instant>,
    /// Whether it has had its lease.
    was_held: bool,
    /// Since when another start has its lease, who never had it.
    refused_since: Option<Instant>,
    fenced_at: Option<Instant>,
    /// The view of which it was told that all have confirmed it.
    all_confirmed: u64,
}

/// Keeps this node a member.
pub struct Keeper {
    pub me: Node,
    pub address: String,
    pub cluster: String,
    pub timing: Timing,
    pub links: Arc<Links>,
    pub store: Store,
    pub permit: Permit,
    /// The clock on the wall, since 1970.
    pub wall: fn() -> Duration,
    own: Mutex<Own>,
    /// The lease is to be written now.
    poke: Notify,
}

/// The clock on the wall, since 1970.
pub fn wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// What came of a renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease is ours.
    Held,
    /// Another start has it.
    Refused(Lease),
    /// There was no answer.
    Failed(StoreError),
}

impl Keeper {
    pub fn new(
        me: Node,
        address: String,
        cluster: String,
        timing: Timing,
        links: Arc<Links>,
        store: Store,
    ) -> Self {
        let permit = Permit::new(me.clone(), Arc::clone(links.hub()));
        let own = Own {
            state: State::Joining,
            drains: false,
            is_skewed: false,
            skew: Duration::ZERO,
            redis: RedisState::default(),
            renewals: Renewals::default(),
            looked: None,
            was_held: false,
            refused_since: None,
            fenced_at: None,
            all_confirmed: 0,
        };
        let (own, poke) = (Mutex::new(own), Notify::new());
        Self { me, address, cluster, timing, links, store, permit, wall, own, poke }
    }

    /// What it knows of itself; nothing that holds it panics half-way through a change.
    pub fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it drain, or be up again.
    pub fn drain(&self, drains: bool) {
        self.own().drains = drains;
        self.links.hub().changed.notify_one();
    }

    /// Takes or renews the lease.
    pub async fn renew(&self) -> Renewal {
        let state = {
            let mut own = self.own();
            own.renewals.tried = Some(Instant::now());
            own.state
        };
        let record = LeaseRecord {
            boot: self.me.boot,
            address: self.address.clone(),
            state,
            protocol: VERSION,
            cluster: self.cluster.clone(),
        };
        let sent = Instant::now();
        let renewal = match self.store.renew(&record).await {
            Ok(None) => Renewal::Held,
            Ok(Some(other)) => Renewal::Refused(other),
            Err(error) => Renewal::Failed(error),
        };
        let mut own = self.own();
        if renewal == Renewal::Held {
            own.renewals.renewed = Some(sent);
            (own.was_held, own.refused_since) = (true, None);
        }
        drop(own);
        self.links.hub().changed.notify_one();
        renewal
    }

    /// Looks at what is in Redis, and at its clock.
    pub async fn look(&self) -> Result<Look, StoreError> {
        let (sent, sent_at) = ((self.wall)(), Instant::now());
        let look = self.store.look().await?;
        let skew = skew(look.time, sent, sent + sent_at.elapsed());
        let is_skewed = skew > self.timing.skew;
        {
            let mut own = self.own();
            (own.looked, own.skew) = (Some(sent_at), skew);
            if is_skewed != own.is_skewed {
                own.is_skewed = is_skewed;
                let ms = skew.as_millis();
                if is_skewed {
                    tracing::error!(ms, "this clock is {ms} ms from Redis': this node stops acting as home");
                } else {
                    tracing::info!("this clock is near Redis' again");
                }
            }
        }
        self.links.hub().changed.notify_one();
        Ok(look)
    }

    fn note_redis(&self, trouble: Option<String>) {
        let state = trouble.map_or(RedisState::Answers, RedisState::Trouble);
        let mut own = self.own();
        if own.redis == state {
            return;
        }
        match &state {
            RedisState::Trouble(why) => {
                tracing::warn!(why, "the view is frozen, as there are no news of leases: {why}");
            }
            RedisState::Answers | RedisState::Unknown => tracing::info!("Redis answers: leases are renewed"),
        }
        own.redis = state;
    }

    /// Renews, looks and makes views until the name is lost.
    pub async fn keep_lease(self: Arc<Self>) {
        let mut round = Round { woke: Instant::now(), last: Instant::now(), alone_since: None };
        let mut told = State::Joining;
        loop {
            let now = Instant::now();
            if now.duration_since(round.last) > self.timing.silence / 2 {
                // It stood still: what it has not heard meanwhile says nothing of others.
                (round.woke, round.alone_since) = (now, None);
            }
            let (state, tried) = {
                let own = self.own();
                (own.state, own.renewals.tried)
            };
            // Rather too early than too late.
            let early = self.timing.look / 2;
            let is_due = tried.is_none_or(|tried| tried.elapsed() + early >= self.timing.renew);
            if is_due || state != told || !self.own().was_held {
                match self.renew().await {
                    Renewal::Held => told = state,
                    Renewal::Refused(other) if self.ends_by(&other) => return,
                    Renewal::Refused(_) => {}
                    Renewal::Failed(error) => self.note_redis(Some(error.to_string())),
                }
            }
            match self.look().await {
                Ok(look) => {
                    self.note_redis(None);
                    self.follow(&mut round, &look).await;
                }
                Err(error) => {
                    round.alone_since = None;
                    self.note_redis(Some(error.to_string()));
                }
            }
            round.last = Instant::now();
            // Either way it is time.
            let _ = timeout(self.timing.look, self.poke.notified()).await;
        }
    }

    /// Whether another start's lease ends this one.
    fn ends_by(&self, other: &Lease) -> bool {
        let mut own = self.own();
        let since = *own.refused_since.get_or_insert_with(Instant::now);
        // The lease of a former start that died runs out.
        if !own.was_held && since.elapsed() < self.timing.lease + self.timing.look {
            return false;
        }
        drop(own);
        self.permit.end();
        let ended = Ended::NameLost(other.node());
        tracing::error!("this node ends: {ended}");
        self.links.hub().tell(Event::Ended(ended));
        true
    }

    /// Does what follows from a look.
    async fn follow(&self, round: &mut Round, look: &Look) {
        let hub = self.links.hub();
        self.know(look);
        let mut current = hub.view().map(|view| view.record().clone());
        let states = self.links.states();
        let is_silent = |node: &Node| {
            // A former start of this node: there is no link to it, and its name is not its own any more.
            let is_over = node.name == self.me.name && node.boot != self.me.boot;
            is_over
                || states.iter().find(|state| state.node == *node).is_some_and(|state| {
                    state.left || state.heard.max(round.woke).elapsed() >= self.timing.silence
                })
        };
        let mut next = step(&self.me, current.as_ref(), &look.seen, &is_silent);
        if let Step::Adopt(record) = next {
            hub.adopt(record);
            self.know(look);
            current = hub.view().map(|view| view.record().clone());
            next = step(&self.me, current.as_ref(), &look.seen, &is_silent);
        }
        let joins = self.own().state == State::Joining;
        if next == Step::Keep && joins && is_alone(&self.me, current.as_ref(), &look.seen, &is_silent) {
            let since = *round.alone_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= self.timing.alone {
                next = beginning(&self.me, current.as_ref(), &look.seen);
            }
        } else {
            round.alone_since = None;
        }
        if let Step::Write(record, gone) = next {
            self.write(record, &gone, &look.view_text).await;
        }
    }

    async fn write(&self, record: ViewRecord, gone: &[Node], in_place_of: &str) {
        match self.store.write(&record, gone, in_place_of).await {
            Ok(true) => {
                let (number, nodes) = (record.number, said(&record));
                tracing::info!(number, nodes, "view {number}: {nodes}");
                self.links.hub().adopt(record);
            }
            // Another was faster: its view is seen at the next look.
            Ok(false) => self.poke.notify_one(),
            Err(error) => self.note_redis(Some(error.to_string())),
        }
    }

    /// Has links made to everybody there is. While a start of a node is in the view, that is who is meant by the name.
    fn know(&self, look: &Look) {
        let view = self.links.view();
        let members = view.iter().flat_map(|view| view.members());
        let read = look.seen.view.iter().flat_map(|view| &view.members);
        let mut nodes: Vec<(Node, String)> = Vec::new();
        let members = members.map(|m| (m.node.clone(), m.address.clone()));
        let leases = look.seen.leases.iter().map(|l| (l.node(), l.record.address.clone()));
        let read = read.map(|m| (m.node.clone(), m.address.clone()));
        for (node, address) in members.chain(leases).chain(read) {
            if node.name != self.me.name && nodes.iter().all(|(known, _)| known.name != node.name) {
                nodes.push((node, address));
            }
        }
        if let Err(error) = self.links.know(&nodes) {
            tracing::error!(%error, "no links can be made: {error}");
        }
    }

    /// Draws conclusions for ever.
    pub async fn conclude(self: Arc<Self>) {
        loop {
            let until = self.draw();
            let hub = self.links.hub();
            match until {
                Some(until) => tokio::select! {
                    () = hub.changed.notified() => {}
                    () = sleep_until(until) => {}
                },
                None => hub.changed.notified().await,
            }
        }
    }

    /// Draws the conclusions of now; answers when there are others, if nothing changes.
    fn draw(&self) -> Option<Instant> {
        let hub = self.links.hub();
        let view = hub.view()?;
        let states = self.links.states();
        self.be(&view, &states);

        let (renewals, looked, is_skewed) = {
            let own = self.own();
            (own.renewals, own.looked, own.is_skewed)
        };
        let answered = |node: &Node| states.iter().find(|s| s.node == *node).and_then(|s| s.answered);
        let leave = leave(&self.timing, &self.me, &view, renewals, &answered);
        let leave = leave.filter(|leave| !is_skewed && leave.until > Instant::now());
        self.permit.set_until(leave.map(|leave| leave.until));
        if leave.is_none() {
            self.permit.pass(Phase::Acting, Phase::RanOut);
        }
        if self.permit.pass(Phase::RanOut, Phase::Fenced) {
            tracing::warn!("this node is fenced: neither Redis nor all other nodes answer");
            {
                let mut own = self.own();
                (own.fenced_at, own.all_confirmed) = (Some(Instant::now()), 0);
            }
            hub.confirm(0);
            hub.tell(Event::Fenced);
        }
        let fenced_at = self.own().fenced_at;
        if let Some(leave) = leave
            // By its lease alone it does not know whether the view is the newest.
            && (leave.by_answers || looked > fenced_at)
            && self.permit.phase() == Phase::Fenced
        {
            tracing::info!("this node is fenced no more");
            // What was confirmed before is to be confirmed again.
            hub.confirm(0);
            self.permit.pass(Phase::Fenced, Phase::Waiting);
            hub.tell(Event::Unfenced);
        }
        self.permit.begin();
        self.count_confirmed(&view, &states);
        (self.permit.phase() == Phase::Acting).then(|| leave.map(|leave| leave.until)).flatten()
    }

    /// What this node is to be doing, by this view.
    fn be(&self, view: &View, states: &[LinkState]) {
        let mut own = self.own();
        let leaving = own.drains || own.is_skewed;
        let place = if leaving { State::Draining } else { State::Up };
        let is_to_be = match view.member_of(&self.me).map(|member| member.state) {
            None => State::Joining,
            Some(State::Joining) if own.state == State::Joining => {
                let mut makers = view.members().iter().filter(|member| member.state != State::Joining);
                let has_confirmed = |node: &Node| {
                    let state = states.iter().find(|state| state.node == *node);
                    state.is_some_and(|s| s.view == Some(view.id()) && s.confirmed >= view.number())
                };
                if makers.all(|member| has_confirmed(&member.node)) { place } else { State::Joining }
            }
            Some(_) => place,
        };
        if own.state != is_to_be {
            own.state = is_to_be;
            self.poke.notify_one();
        }
    }

    /// Tells, once a view, that all have confirmed it.
    fn count_confirmed(&self, view: &View, states: &[LinkState]) {
        let number = view.number();
        let is_confirmed = |node: &Node| {
            if *node == self.me {
                return self.links.hub().confirmed() >= number;
            }
            let state = states.iter().find(|state| state.node == *node);
            state.is_some_and(|state| state.view == Some(view.id()) && state.confirmed >= number)
        };
        let all = view.members().iter().all(|member| is_confirmed(&member.node));
        let mut own = self.own();
        if all && view.has(&self.me) && own.all_confirmed < number {
            own.all_confirmed = number;
            drop(own);
            self.links.hub().tell(Event::AllConfirmed(number));
        }
    }
}

/// What the task of the lease remembers.
struct Round {
    /// When it was last found that this process had stood still; the start counts.
    woke: Instant,
    last: Instant,
    /// Since when it is alone, without a break.
    alone_since: Option<Instant>,
}

/// A view in one line.
fn said(record: &ViewRecord) -> String {
    let member = |member: &crate::view::Member| match member.state {
        State::Up => member.node.name.to_string(),
        State::Joining => format!("{} (joining)", member.node.name),
        State::Draining => format!("{} (draining)", member.node.name),
    };
    record.members.iter().map(member).collect::<Vec<_>>().join(", ")
}
