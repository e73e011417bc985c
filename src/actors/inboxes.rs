//! What is listening here to users' chat inboxes, and how far each inbox reaches.
//!
//! A table beside the tree. Of a user with listeners it keeps the newest place that it was told of and a short tail of
//! events that end there; a user whom nobody listens to costs one look-up. What is told in its turn is given from the
//! tail; after a gap listeners read the store from where they are. So the table may forget, and be told late or twice, and
//! a [`Feed`] gives each event once, in order, and none is missed: it stands in the table *before* it reads the store.
//! Nothing polls: a feed waits for its inbox's bell.
//!
//! What is a gap depends on the store. Where homes place events, inboxes number their own, and a number that is left out was
//! missed, or another conversation was faster. Where appends place them, the store tells of each in its order, and nothing
//! is left out but where it says so.
//!
//! Beside it [`Seen`] notes how far inboxes were written.

mod feed;
mod inbox;

pub use feed::Feed;
pub use inbox::Delivery;

use super::instant::{self, Instants};
use super::seen::Seen;
use super::wanted::Wanted;
use crate::model::chat::{InboxPosition, MessageEvent};
use crate::model::cursor::StoreName;
use crate::model::id::UserId;
use crate::storage::StorageError;
use crate::storage::chats::{Chats, InboxReach, Placement};
use inbox::Inbox;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep};

/// Between two times that marks are stored.
const NOTING: Duration = Duration::from_secs(1);
/// A write without an answer is done by then, or never; until then listeners read the store again so often.
const DOUBT: Duration = Duration::from_secs(15);
const DOUBT_READS: Duration = Duration::from_secs(3);

/// How long a listener waits until its inbox's home tells this node; then it begins with what the store has.
const COVERED_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks whether anybody still waits for that.
const COVERED_LATER: Duration = Duration::from_secs(10);

/// The inboxes that somebody listens to here. Its mutexes are std ones: nothing awaits under them.
pub struct Inboxes {
    chats: Arc<dyn Chats>,
    store: StoreName,
    /// Whom this node hears, where other nodes are homes.
    wanted: Option<Arc<Wanted>>,
    instants: Instants,
    users: Mutex<HashMap<UserId, Arc<Inbox>>>,
    /// How far inboxes were written to live streams.
    seen: Seen,
    /// Until when a write may yet be done that nobody will tell of.
    doubted: Mutex<Option<Instant>>,
}

/// Why a listener does not begin after the position that its client came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is no position.
    Malformed,
    /// It is one of another store or of another user.
    Foreign,
    /// The inbox does not reach so far.
    Future,
    /// What follows it is no longer kept.
    Expired,
}

impl Unusable {
    /// The reason in `resync`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Foreign => "foreign",
            Self::Future => "future",
            Self::Expired => "expired",
        }
    }
}

impl Inboxes {
    /// Nobody listens yet.
    #[must_use]
    pub fn new(
        chats: Arc<dyn Chats>,
        store: StoreName,
        wanted: Option<Arc<Wanted>>,
        instants: Instants,
    ) -> Self {
        let seen = Seen::new(chats.clone());
        Self { chats, store, wanted, instants, users: Mutex::default(), seen, doubted: Mutex::default() }
    }

    /// Begins to listen: after the position that the client came with, else after what was written last to any live
    /// stream of the user. Answers also why that position was of no use, if it was not.
    ///
    /// # Errors
    /// Where the store does not say how far the inbox reaches.
    pub async fn listen(
        self: &Arc<Self>,
        user: UserId,
        came_with: Option<&str>,
    ) -> Result<(Feed, Option<Unusable>), StorageError> {
        // Before the store is read: what is placed from now on rings.
        let mut feed = self.enter(user);
        if let Some(wanted) = &self.wanted
            && !wanted.cover(&[user], COVERED_WITHIN).await
        {
            tokio::spawn(self.clone().reread_once_covered(wanted.clone(), user));
        }
        let reach = self.chats.reach(user).await?;
        self.instants.pass(instant::Instant::InboxRead(user)).await;
        let newest = feed.learn(reach.newest);
        let reach = InboxReach { newest, ..reach };
        let position = came_with.map(|text| self.read_position(user, text, reach));
        let (place, unusable) = match position {
            Some(Ok(place)) => (place, None),
            Some(Err(unusable)) => (self.seen(user, reach), Some(unusable)),
            None => (self.seen(user, reach), None),
        };
        feed.begin_behind(place);
        Ok((feed, unusable))
    }

    /// What the inbox's home places before it tells this node is read as soon as it does.
    async fn reread_once_covered(self: Arc<Self>, wanted: Arc<Wanted>, user: UserId) {
        while self.of(user).is_some() {
            if wanted.cover(&[user], COVERED_LATER).await {
                return self.reread(user);
            }
        }
    }

    /// An event has its place in an inbox that numbers its own: whoever listens here is told.
    pub fn push(&self, user: UserId, place: u64, event: MessageEvent) {
        if let Some(inbox) = self.of(user) {
            let delivery = Delivery { event, place, told_at: Some(Instant::now()) };
            inbox.push(delivery, |newest| place == newest + 1);
        }
    }

    /// Tells whoever listens here of what appends place, as long as the store does. To be called before anybody listens.
    pub async fn keep_telling(self: Arc<Self>, mut placements: Receiver<Placement>) {
        let mut has_missed = false;
        loop {
            match placements.recv().await {
                Ok(placement) => {
                    if has_missed {
                        self.skip_to(placement.place - 1);
                    }
                    has_missed = false;
                    self.tell(&placement);
                }
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "{missed} messages are read from the store by whoever listens");
                    has_missed = true;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// What the store has up to there was not told.
    fn skip_to(&self, place: u64) {
        for inbox in self.all() {
            inbox.learn(place);
        }
    }

    fn tell(&self, Placement { participants, place, event }: &Placement) {
        let delivery = Delivery { event: *event, place: *place, told_at: Some(Instant::now()) };
        let users = lock(&self.users);
        let listened: Vec<_> = participants.iter().filter_map(|user| users.get(user).cloned()).collect();
        drop(users);
        // Once an inbox is known to reach somewhere, everything behind that is told.
        listened.iter().for_each(|inbox| inbox.push(delivery, |newest| newest > 0));
    }

    /// What is pushed to a user may have missed this node: its listeners ask the store.
    pub fn reread(&self, user: UserId) {
        if let Some(inbox) = self.of(user) {
            inbox.doubt();
        }
    }

    /// The same of all users.
    pub fn reread_all(&self) {
        self.all().iter().for_each(|inbox| inbox.doubt());
    }

    /// To whose inboxes somebody listens here.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        lock(&self.users).keys().copied().collect()
    }

    /// A write was not answered: it may be done, or be done yet, and nobody will tell. For a while listeners ask the
    /// store now and then.
    pub fn doubt(&self) {
        *lock(&self.doubted) = Some(Instant::now() + DOUBT);
    }

    /// Stores what was written, once a second, and has listeners ask the store where a write was not answered. Never
    /// ends.
    pub async fn keep_noting(self: Arc<Self>) {
        let mut reread_at = Instant::now();
        loop {
            sleep(NOTING).await;
            self.seen.mark_outlived();
            self.seen.store().await;
            let now = Instant::now();
            if reread_at <= now && self.is_doubted(now) {
                reread_at = now + DOUBT_READS;
                self.reread_all();
            }
        }
    }

    /// Stores what was written; what the store does not take waits for the next time.
    pub async fn note(&self) {
        self.seen.store().await;
    }

    fn is_doubted(&self, now: Instant) -> bool {
        let mut doubted = lock(&self.doubted);
        let was = doubted.is_some();
        // Once more when the time is over.
        doubted.take_if(|until| *until <= now);
        was
    }

    /// Up to where all was written to some live stream.
    fn seen(&self, user: UserId, reach: InboxReach) -> u64 {
        reach.seen.max(self.seen.mark(user)).max(reach.gone).min(reach.newest)
    }

    fn read_position(&self, user: UserId, text: &str, reach: InboxReach) -> Result<u64, Unusable> {
        let position: InboxPosition = text.parse().map_err(|_| Unusable::Malformed)?;
        match position.place {
            _ if position.store != self.store || position.user != user => Err(Unusable::Foreign),
            place if place > reach.newest => Err(Unusable::Future),
            place if place < reach.gone => Err(Unusable::Expired),
            place => Ok(place),
        }
    }

    fn enter(self: &Arc<Self>, user: UserId) -> Feed {
        let mut users = lock(&self.users);
        let inbox = users.entry(user).or_insert_with(Inbox::quiet).clone();
        if inbox.listeners.fetch_add(1, Ordering::Relaxed) == 0 {
            self.tell_listened(user, true);
        }
        drop(users);
        Feed::new(self.clone(), inbox, user)
    }

    /// Under the table's lock: who comes and who goes is told in order.
    fn tell_listened(&self, user: UserId, is_listened: bool) {
        if let Some(wanted) = &self.wanted {
            wanted.listen(user, is_listened);
        }
    }

    fn all(&self) -> Vec<Arc<Inbox>> {
        lock(&self.users).values().cloned().collect()
    }

    fn of(&self, user: UserId) -> Option<Arc<Inbox>> {
        lock(&self.users).get(&user).cloned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
