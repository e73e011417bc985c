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

pub use feed::Feed;

use super::instant::{self, Instants};
use super::seen::Seen;
use super::wanted::Wanted;
use crate::model::chat::{InboxPosition, MessageEvent};
use crate::model::cursor::StoreName;
use crate::model::id::UserId;
use crate::storage::StorageError;
use crate::storage::chats::{Chats, InboxReach, Placement};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep};

/// Events that are kept of an inbox.
const TAIL: usize = 64;
/// Events that a feed gives, or reads, at once.
const PAGE: usize = 64;
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

/// An inbox that somebody listens to.
struct Inbox {
    /// How many; changed under the table's lock.
    listeners: AtomicUsize,
    known: Mutex<Known>,
    bell: Notify,
}

#[derive(Default)]
struct Known {
    /// The newest place that was told of; 0 before the first.
    newest: u64,
    /// All events behind `tail_after` up to there.
    tail: VecDeque<Delivery>,
    tail_after: u64,
    /// How often it was said that the store may know more.
    doubts: u64,
}

/// Where a feed finds what comes next.
enum Next {
    Here(Vec<Delivery>),
    InStore { newest: u64, doubts: u64 },
    Nowhere,
}

/// An event on its way to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What.
    pub event: MessageEvent,
    /// Where it stands in the inbox.
    pub place: u64,
    /// When this node was told, where it was told and did not read it.
    pub told_at: Option<Instant>,
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

impl Inbox {
    fn quiet() -> Arc<Self> {
        Arc::new(Self { listeners: AtomicUsize::new(0), known: Mutex::default(), bell: Notify::new() })
    }

    /// The next event, unless it was told before; `is_next` says whether nothing stands between it and the newest.
    fn push(&self, delivery: Delivery, is_next: impl FnOnce(u64) -> bool) {
        let mut known = self.known();
        if delivery.place <= known.newest {
            // Told before, or read by a feed; or overtaken by a later place, when feeds read the store.
            return;
        }
        if !is_next(known.newest) {
            known.tail.clear();
            known.tail_after = delivery.place - 1;
        }
        known.newest = delivery.place;
        known.tail.push_back(delivery);
        if known.tail.len() > TAIL
            && let Some(oldest) = known.tail.pop_front()
        {
            known.tail_after = oldest.place;
        }
        drop(known);
        self.bell.notify_waiters();
    }

    /// The store has events up to that place; answers the newest that is known.
    fn learn(&self, newest: u64) -> u64 {
        let mut known = self.known();
        if newest <= known.newest {
            return known.newest;
        }
        known.newest = newest;
        known.tail.clear();
        known.tail_after = newest;
        drop(known);
        self.bell.notify_waiters();
        newest
    }

    fn doubt(&self) {
        self.known().doubts += 1;
        self.bell.notify_waiters();
    }

    fn after(&self, place: u64, doubts: u64) -> Next {
        let known = self.known();
        if known.doubts != doubts {
            return Next::InStore { newest: known.newest, doubts: known.doubts };
        }
        if known.newest <= place {
            return Next::Nowhere;
        }
        if place < known.tail_after {
            return Next::InStore { newest: known.newest, doubts };
        }
        // From its end: most listeners have all but the newest.
        let left = known.tail.iter().rev().take_while(|delivery| delivery.place > place).count();
        Next::Here(known.tail.range(known.tail.len() - left..).take(PAGE).copied().collect())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Delivery, Inbox, Next, TAIL};
    use crate::model::chat::MessageEvent;
    use crate::model::id::{ConversationId, MessageId};

    fn delivery(place: u64) -> Delivery {
        let event = MessageEvent { message: MessageId::make(), conversation: ConversationId::make() };
        Delivery { event, place, told_at: None }
    }

    fn push(inbox: &Inbox, place: u64) {
        inbox.push(delivery(place), |newest| place == newest + 1);
    }

    /// The places that one who stands there is given, or `None` where it is sent to the store.
    fn after(inbox: &Inbox, place: u64) -> Option<Vec<u64>> {
        match inbox.after(place, 0) {
            Next::Here(events) => Some(events.iter().map(|delivery| delivery.place).collect()),
            Next::Nowhere => Some(Vec::new()),
            Next::InStore { .. } => None,
        }
    }

    #[test]
    fn what_comes_in_its_turn_is_given_from_here() {
        let inbox = Inbox::quiet();
        inbox.learn(10);
        push(&inbox, 11);
        push(&inbox, 12);
        assert_eq!(after(&inbox, 10), Some(vec![11, 12]));
        assert_eq!(after(&inbox, 12), Some(vec![]));
        assert_eq!(after(&inbox, 9), None, "what came before is in the store");
    }

    #[test]
    fn behind_a_gap_listeners_read_the_store_and_late_or_repeated_events_change_nothing() {
        let inbox = Inbox::quiet();
        inbox.learn(10);
        push(&inbox, 11);
        push(&inbox, 13);
        assert_eq!(after(&inbox, 11), None);
        assert_eq!(after(&inbox, 12), Some(vec![13]));
        push(&inbox, 12);
        push(&inbox, 13);
        assert_eq!(after(&inbox, 11), None);
        assert_eq!(after(&inbox, 12), Some(vec![13]));
        push(&inbox, 14);
        assert_eq!(after(&inbox, 12), Some(vec![13, 14]));
    }

    #[test]
    fn places_of_the_store_s_order_may_leave_some_out_once_an_inbox_is_known() {
        let tell = |inbox: &Inbox, place| inbox.push(delivery(place), |newest| newest > 0);
        let inbox = Inbox::quiet();
        tell(&inbox, 7);
        assert_eq!(after(&inbox, 3), None, "what came before it may be in the store");
        assert_eq!(after(&inbox, 6), Some(vec![7]));
        tell(&inbox, 20);
        tell(&inbox, 25);
        assert_eq!(after(&inbox, 6), Some(vec![7, 20, 25]));
        assert_eq!(after(&inbox, 22), Some(vec![25]));
        inbox.learn(30);
        tell(&inbox, 29);
        tell(&inbox, 44);
        assert_eq!(after(&inbox, 25), None);
        assert_eq!(after(&inbox, 30), Some(vec![44]));
        assert_eq!(after(&inbox, 41), Some(vec![44]));
    }

    #[test]
    fn the_tail_is_short_and_what_another_read_is_known() {
        let inbox = Inbox::quiet();
        let last = 2 * TAIL as u64;
        (1..=last).for_each(|place| push(&inbox, place));
        assert_eq!(after(&inbox, last - TAIL as u64 - 1), None);
        assert_eq!(after(&inbox, last - TAIL as u64).map(|places| places.len()), Some(TAIL));
        inbox.learn(last + 5);
        assert_eq!(after(&inbox, last), None);
        assert_eq!(after(&inbox, last + 5), Some(vec![]));
    }

    #[test]
    fn a_doubt_sends_everybody_to_the_store_once() {
        let inbox = Inbox::quiet();
        inbox.learn(10);
        inbox.doubt();
        let Next::InStore { newest, doubts } = inbox.after(10, 0) else { panic!("it does not doubt") };
        assert_eq!(newest, 10);
        assert!(matches!(inbox.after(10, doubts), Next::Nowhere));
    }
}
