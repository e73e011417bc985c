//! Whom this node wants to hear of: the authors whom its sessions follow, the users to whose inboxes somebody listens
//! here, and which homes know that.
//!
//! Relays say when the first session here follows an author and when the last one stops; one that nobody follows is
//! wanted for a minute more. A home is told at once, and told again whenever it is another one or says that it does not
//! know ([`Interests`](super::interest)). An author is *covered* when everything that it does from now on reaches this
//! node, and whatever may be missing in timelines is known here: its home is this node and has begun, or has
//! acknowledged and begun by the view that is now, or cannot be heard and is read instead ([`super::horizon`]). Bounded
//! by the relays' index.

use super::horizon::Horizon;
use super::watermark::Watermark;
use super::wire::{Answer, Answered, Asked, Asking, Interest, Interested, Telling, Told, Users};
use crate::model::cursor::Seq;
use crate::model::id::UserId;
use crate::model::shard::Shard;
use crate::storage::Entry;
use futures_util::stream::{FuturesUnordered, StreamExt};
use roost_cluster::{Cluster, Node, View};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How long an author is wanted whom nobody here follows any more.
const LINGER: Duration = Duration::from_secs(60);
/// Between two looks at those.
const SWEEP: Duration = Duration::from_secs(10);
/// Authors of one call.
const AT_ONCE: usize = 4_096;
/// Between two tries at a home that did not take what it was told.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a home may take to answer: a link that is silent for so long has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// The authors who are wanted here.
pub struct Wanted {
    cluster: Arc<Cluster>,
    horizon: Arc<Horizon>,
    watermark: Arc<Watermark>,
    state: Mutex<State>,
    /// There is something to tell.
    poke: Notify,
    /// Homes have acknowledged something.
    known: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    authors: HashMap<UserId, Want>,
    /// Those that their home does not know of.
    unknown: HashSet<UserId>,
    /// Which home knows all of a shard.
    shards: HashMap<Shard, Node>,
}

struct Want {
    /// A session here follows the author.
    is_followed: bool,
    /// Somebody here listens to the user's own inbox.
    is_listened: bool,
    /// Since when that is so, or is not.
    since: Instant,
    /// Once its home knows: what is newer than this was sent here, or will be.
    sent_after: Seq,
}

/// What had come to this node, and what was to come, at a moment.
pub struct Arrivals {
    /// Of each author whose entries come live: those that are newer and have not come, will.
    bounds: HashMap<UserId, Seq>,
    /// They have come, and their relay has not taken them.
    coming: HashSet<Seq>,
    /// How many had been passed on.
    passes: u64,
    watermark: Arc<Watermark>,
}

/// What one home is to be told.
#[derive(Default)]
struct Saying {
    authors: Vec<UserId>,
    complete: Vec<Shard>,
}

impl Wanted {
    /// Nobody, yet.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, horizon: Arc<Horizon>, watermark: Arc<Watermark>) -> Self {
        let known = watch::Sender::new(());
        Self { cluster, horizon, watermark, state: Mutex::default(), poke: Notify::new(), known }
    }

    /// A session here follows the author, the first one; or none does any more.
    pub fn follow(&self, author: UserId, is_followed: bool) {
        let mut state = self.lock();
        state.want(author);
        if let Some(want) = state.authors.get_mut(&author) {
            (want.is_followed, want.since) = (is_followed, Instant::now());
        }
        drop(state);
        self.poke.notify_one();
    }

    /// Somebody here listens to this user's inbox, the first one; or nobody does any more.
    pub fn listen(&self, user: UserId, is_listened: bool) {
        let mut state = self.lock();
        state.want(user);
        if let Some(want) = state.authors.get_mut(&user) {
            (want.is_listened, want.since) = (is_listened, Instant::now());
        }
        drop(state);
        self.poke.notify_one();
    }

    /// Waits until these authors are covered, this long at most; answers whether they are.
    pub async fn cover(&self, authors: &[UserId], patience: Duration) -> bool {
        let asked_at = Instant::now();
        let mut left: Vec<UserId> = {
            let mut state = self.lock();
            authors.iter().for_each(|author| state.want(*author));
            authors.to_vec()
        };
        self.poke.notify_one();
        let covered = async {
            let mut known = self.known.subscribe();
            loop {
                known.mark_unchanged();
                self.uncovered(&mut left, asked_at);
                if left.is_empty() {
                    return;
                }
                // A home that moved here, or is read now, is told by nobody.
                let _ = tokio::time::timeout(PAUSE, known.changed()).await;
            }
        };
        tokio::time::timeout(patience, covered).await.is_ok()
    }

    /// Which entries of these authors have come here by now, and which will; `is_home` says of whom this node is the
    /// home and has begun. None where one of them is covered no longer: homes have moved.
    #[must_use]
    pub fn arrivals(&self, authors: &[UserId], is_home: impl Fn(UserId) -> bool) -> Option<Arrivals> {
        // In this order: what is numbered up to the clock is known to the watermark.
        let head = self.horizon.head();
        let state = self.lock();
        let mut heard: HashMap<Node, Option<Seq>> = HashMap::new();
        let mut bounds = HashMap::with_capacity(authors.len());
        for author in authors {
            if is_home(*author) {
                bounds.insert(*author, head);
                continue;
            }
            let home = self.cluster.home(Shard::of(*author).into())?;
            let want = state.authors.get(author).filter(|_| !state.unknown.contains(author));
            let mark = *heard.entry(home.clone()).or_insert_with(|| self.horizon.heard(&home));
            match (want, mark) {
                (Some(want), Some(mark)) if home != *self.cluster.me() => {
                    bounds.insert(*author, want.sent_after.max(mark));
                }
                // What it does is read, not heard.
                _ if self.horizon.is_read(&home) => {}
                _ => return None,
            }
        }
        drop(state);
        // First those that are to come: one that is passed on in between then counts as coming.
        let coming = self.watermark.to_be_shown();
        Some(Arrivals { bounds, coming, passes: self.watermark.passes(), watermark: self.watermark.clone() })
    }

    /// By a new view, homes have moved.
    pub(super) fn look(&self, view: &View) {
        let mut state = self.lock();
        let State { authors, unknown, shards } = &mut *state;
        let moved = |shard: Shard| {
            let home = view.home(shard.into()).map(|member| &member.node);
            home.is_none() || shards.get(&shard) != home
        };
        unknown.extend(authors.keys().filter(|author| moved(Shard::of(**author))));
        shards.retain(|shard, home| view.home((*shard).into()).is_some_and(|member| member.node == *home));
        drop(state);
        self.poke.notify_one();
    }

    /// A home says that it does not know all of these shards.
    pub(super) fn renew(&self, home: &Node, asked: &[u8]) {
        let mut state = self.lock();
        let State { authors, unknown, shards } = &mut *state;
        let asked: HashSet<Shard> = asked
            .iter()
            .map(|shard| Shard(*shard))
            .filter(|shard| shards.get(shard).is_some_and(|known| known == home))
            .collect();
        if asked.is_empty() {
            return;
        }
        shards.retain(|shard, _| !asked.contains(shard));
        unknown.extend(authors.keys().filter(|author| asked.contains(&Shard::of(**author))));
        drop(state);
        self.poke.notify_one();
    }

    /// Tells homes whom this node wants, for ever: each in its own time, for one may be behind a slow link.
    pub(super) async fn keep_telling(self: Arc<Self>) {
        let mut swept = Instant::now();
        let (mut being_told, mut telling) = (HashSet::new(), FuturesUnordered::new());
        loop {
            if swept.elapsed() >= SWEEP {
                self.sweep();
                swept = Instant::now();
            }
            for (home, saying) in self.sayings() {
                if being_told.insert(home.clone()) {
                    telling.push(self.tell_or_pause(home, saying));
                }
            }
            tokio::select! {
                Some(home) = telling.next() => {
                    being_told.remove(&home);
                }
                () = self.poke.notified() => {}
                () = tokio::time::sleep(SWEEP) => {}
            }
        }
    }

    /// Tells one home, which is told again after a pause where it did not take all of it.
    async fn tell_or_pause(&self, home: Node, saying: Saying) -> Node {
        if !self.tell(&home, saying).await {
            tokio::time::sleep(PAUSE).await;
        }
        home
    }

    /// Leaves in `left` those that are not covered.
    fn uncovered(&self, left: &mut Vec<UserId>, asked_at: Instant) {
        let state = self.lock();
        left.retain(|author| {
            let Some(home) = self.cluster.home(Shard::of(*author).into()) else {
                return true;
            };
            let is_known = home == *self.cluster.me() || !state.unknown.contains(author);
            let is_heard = is_known && self.horizon.heard(&home).is_some();
            !is_heard && !self.horizon.was_read_since(&home, asked_at)
        });
    }

    /// What each home is to be told now.
    fn sayings(&self) -> HashMap<Node, Saying> {
        let Some(view) = self.cluster.view() else { return HashMap::new() };
        let me = self.cluster.me();
        let home = |shard: Shard| view.home(shard.into()).map(|member| &member.node);
        let mut state = self.lock();
        let State { unknown, shards, .. } = &mut *state;
        unknown.retain(|author| home(Shard::of(*author)).is_none_or(|home| home != me));
        let mut sayings: HashMap<Node, Saying> = HashMap::new();
        let mut waiting = HashSet::new();
        for author in unknown.iter() {
            let shard = Shard::of(*author);
            let Some(home) = home(shard) else { continue };
            let saying = sayings.entry(home.clone()).or_default();
            if saying.authors.len() < AT_ONCE {
                saying.authors.push(*author);
            } else {
                waiting.insert(shard);
            }
        }
        for shard in Shard::all().filter(|shard| !waiting.contains(shard)) {
            if let Some(home) = home(shard).filter(|home| *home != me && shards.get(&shard) != Some(home)) {
                sayings.entry(home.clone()).or_default().complete.push(shard);
            }
        }
        sayings
    }

    /// Tells one home; answers whether it took all of it.
    async fn tell(&self, home: &Node, saying: Saying) -> bool {
        let interest = Interest {
            authors: Some(Users::of(&saying.authors)),
            complete: saying.complete.iter().map(|shard| shard.0).collect(),
        };
        let call = Asked::encode_call(Asking::Interest(interest));
        let answer = self.cluster.call(&home.name, &call, PATIENCE).await;
        let Ok(Ok(Some(Answer::Interested(answer)))) = answer.map(Answered::read) else { return false };
        let Interested { not_home, seqs, authors, head } = answer;
        for (seq, author) in seqs.into_iter().zip(authors.iter().flat_map(Users::users)) {
            self.watermark.may_be_missing(Seq(seq), author);
        }
        let is_taken = |shard: Shard| !not_home.contains(&shard.0);
        {
            let mut state = self.lock();
            for author in saying.authors.iter().filter(|author| is_taken(Shard::of(**author))) {
                state.unknown.remove(author);
                if let Some(want) = state.authors.get_mut(author) {
                    want.sent_after = Seq(head);
                }
            }
            for shard in saying.complete.iter().filter(|shard| is_taken(**shard)) {
                state.shards.insert(*shard, home.clone());
            }
        }
        self.known.send_replace(());
        not_home.is_empty()
    }

    /// Forgets those whom nobody has followed here for a while.
    fn sweep(&self) {
        let gone: Vec<UserId> = {
            let mut state = self.lock();
            let State { authors, unknown, .. } = &mut *state;
            let is_wanted = |want: &Want| want.is_followed || want.is_listened;
            let is_over = |want: &Want| !is_wanted(want) && want.since.elapsed() > LINGER;
            let gone: Vec<UserId> =
                authors.extract_if(|_, want| is_over(want)).map(|(author, _)| author).collect();
            for author in &gone {
                unknown.remove(author);
            }
            gone
        };
        let mut homes: HashMap<Node, Vec<UserId>> = HashMap::new();
        for author in gone {
            if let Some(home) = self.cluster.home(Shard::of(author).into())
                && home != *self.cluster.me()
            {
                homes.entry(home).or_default().push(author);
            }
        }
        for (home, authors) in homes {
            for some in authors.chunks(AT_ONCE) {
                let frame = Told::encode_frame(Telling::Forget(Users::of(some)));
                // A home that is not told sends what nobody here asks for: that is all.
                let _ = self.cluster.send(&home.name, &frame);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrivals {
    /// Whether an entry that was read since reaches who stood in the relays' index before: it must not be shown out of
    /// its turn.
    #[must_use]
    pub fn will_bring(&self, entry: &Entry) -> bool {
        let (seq, bound) = (entry.seq, self.bounds.get(&entry.author()));
        let has_come = || self.watermark.had_passed(seq, self.passes);
        self.coming.contains(&seq) || bound.is_some_and(|bound| seq > *bound && !has_come())
    }
}

impl State {
    fn want(&mut self, author: UserId) {
        let now = Instant::now();
        let want = self.authors.entry(author).or_insert_with(|| {
            self.unknown.insert(author);
            Want { is_followed: false, is_listened: false, since: now, sent_after: Seq::default() }
        });
        if !want.is_followed && !want.is_listened {
            want.since = now;
        }
    }
}
