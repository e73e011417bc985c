//! Who is at a room beside those who press: its host, and the nodes where somebody looks at it. Known to the room's home alone,
//! and only while they say again that they are there; whether its hosts acknowledge is stored.

use super::wire::TurnText;
use crate::model::id::ConnectionId;
use roost_cluster::NodeName;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// A host that was not heard of for so long is gone.
const HOST_AGE: Duration = Duration::from_secs(20);
/// A node that has not asked again for so long does not look any more.
const WATCH_AGE: Duration = Duration::from_secs(20);
/// Between two tellings of how the room stands.
const BETWEEN_STATS: Duration = Duration::from_millis(250);

/// What is remembered of what came lately.
const REMEMBERED: usize = 64;

/// Where a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSeat {
    /// Its connection.
    pub connection: ConnectionId,
    /// The node, where that is not the only one.
    pub node: Option<NodeName>,
}

/// A room's host and lookers.
#[derive(Default)]
pub struct Guests {
    host: Option<Host>,
    /// How many hosts have come.
    hosts: u64,
    acknowledges: bool,
    /// Connections whose time is over: what was said of one may come late.
    gone: Newest<ConnectionId>,
    watchers: HashMap<Option<NodeName>, Instant>,
    told_at: Option<Instant>,
    is_telling_due: bool,
}

/// The newest of what came, each once.
pub struct Newest<T>(VecDeque<T>);

struct Host {
    seat: HostSeat,
    turn: TurnText,
    seen: Instant,
}

/// What came of a host's word that it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its turn; none where another came later.
    pub turn: Option<TurnText>,
    /// Whose place it took.
    pub former: Option<HostSeat>,
}

/// Whether those who look are to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Now.
    Now,
    /// After so long, and nothing before.
    After(Duration),
    /// Nobody looks, or it is to be told soon.
    Not,
}

impl Guests {
    /// Of a room that was taken just now; nobody is known to be there.
    #[must_use]
    pub fn new(acknowledges: bool) -> Self {
        Self { acknowledges, ..Self::default() }
    }

    /// A host is there, or still there; its turn is none when it comes. Of two the one whose turn is later stays: turns are
    /// ordered by how often the room was taken when they were given, hence over all its homes.
    pub fn attach(&mut self, seat: HostSeat, turn: Option<TurnText>, epoch: u64) -> Attached {
        if self.gone.has(&seat.connection) {
            return Attached { turn: None, former: None };
        }
        let own = self.host.as_ref().map(|host| host.turn);
        let is_known = self.host.as_ref().is_some_and(|host| host.seat.connection == seat.connection);
        let turn = match (turn, own) {
            // Its first answer was lost.
            (None, Some(own)) if is_known => own,
            (None, _) => {
                self.hosts += 1;
                TurnText { epoch, number: self.hosts }
            }
            (Some(turn), _) => turn,
        };
        if own.is_some_and(|own| own > turn) {
            return Attached { turn: None, former: None };
        }
        let former = self.host.replace(Host { seat, turn, seen: Instant::now() });
        let former = former.filter(|_| !is_known).map(|host| host.seat);
        if let Some(former) = &former {
            self.gone.note(former.connection);
        }
        Attached { turn: Some(turn), former }
    }

    /// A host has gone; answers whether it was the one that is there.
    pub fn detach(&mut self, connection: ConnectionId) -> bool {
        self.gone.note(connection);
        self.host.take_if(|host| host.seat.connection == connection).is_some()
    }

    /// The host has said itself what it has. Of one whose time is over that says nothing. Answers whether it is the first that
    /// does.
    pub fn acknowledged(&mut self, connection: ConnectionId) -> bool {
        let is_first = !self.acknowledges && self.seat().is_some_and(|seat| seat.connection == connection);
        self.acknowledges |= is_first;
        is_first
    }

    /// Whether a host ever has.
    #[must_use]
    pub const fn acknowledges(&self) -> bool {
        self.acknowledges
    }

    /// The host's place.
    #[must_use]
    pub fn seat(&self) -> Option<&HostSeat> {
        self.host.as_ref().map(|host| &host.seat)
    }

    /// Whether a host is there.
    #[must_use]
    pub fn has_host(&self) -> bool {
        self.host.as_ref().is_some_and(|host| host.seen.elapsed() < HOST_AGE)
    }

    /// Somebody looks at that node.
    pub fn watch(&mut self, node: Option<NodeName>) {
        self.watchers.insert(node, Instant::now());
    }

    /// The nodes where somebody looks.
    pub fn watchers(&self) -> impl Iterator<Item = &Option<NodeName>> {
        self.watchers.keys()
    }

    /// How the room stands has changed, or may have.
    pub fn changed(&mut self) -> Telling {
        self.watchers.retain(|_, since| since.elapsed() < WATCH_AGE);
        if self.watchers.is_empty() || self.is_telling_due {
            return Telling::Not;
        }
        let left = self.told_at.map_or(Duration::ZERO, |told| BETWEEN_STATS.saturating_sub(told.elapsed()));
        if left.is_zero() {
            self.told_at = Some(Instant::now());
            return Telling::Now;
        }
        self.is_telling_due = true;
        Telling::After(left)
    }

    /// The time of [`Telling::After`] is over.
    pub fn telling_is_due(&mut self) {
        self.is_telling_due = false;
    }
}

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: PartialEq> Newest<T> {
    /// It came; answers whether it had not.
    pub fn note(&mut self, what: T) -> bool {
        if self.has(&what) {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(what);
        true
    }

    fn has(&self, what: &T) -> bool {
        self.0.contains(what)
    }
}

#[cfg(test)]
mod tests {
    use super::{BETWEEN_STATS, Guests, HOST_AGE, HostSeat, Newest, REMEMBERED, Telling, WATCH_AGE};
    use crate::model::id::ConnectionId;
    use tokio::time::advance;

    fn seat() -> HostSeat {
        HostSeat { connection: ConnectionId::make(), node: None }
    }

    #[tokio::test(start_paused = true)]
    async fn the_host_that_came_last_stays_whichever_home_says_so() {
        let (mut first_home, mut second_home) = (Guests::default(), Guests::default());
        let (older, newer) = (seat(), seat());
        let turn = first_home.attach(older.clone(), None, 7).turn;
        // Its answer was lost, and it comes again.
        assert_eq!(first_home.attach(older.clone(), None, 7).turn, turn);
        let taken = first_home.attach(newer.clone(), None, 7);
        assert_eq!(taken.former, Some(older.clone()));
        assert_eq!(first_home.attach(older.clone(), turn, 7).turn, None);
        // The room moves, and the older one is the first to say that it is there.
        assert_eq!(second_home.attach(older.clone(), turn, 8).turn, turn);
        let attached = second_home.attach(newer.clone(), taken.turn, 8);
        assert_eq!((attached.turn, attached.former), (taken.turn, Some(older.clone())));
        assert_eq!(second_home.attach(older, turn, 8).turn, None);
        // One that comes at the new home comes later than all before.
        assert_eq!(second_home.attach(seat(), None, 8).former, Some(newer));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_said_late_of_a_host_that_has_gone_takes_nobodys_place() {
        let (mut guests, older, newer) = (Guests::default(), seat(), seat());
        guests.attach(older.clone(), None, 1);
        guests.attach(newer.clone(), None, 1);
        let late = guests.attach(older, None, 1);
        assert_eq!((late.turn, late.former, guests.seat()), (None, None, Some(&newer)));
        guests.detach(newer.connection);
        assert_eq!((guests.attach(newer, None, 1).turn, guests.seat()), (None, None));
    }

    #[test]
    fn of_what_came_the_newest_is_remembered() {
        let mut newest = Newest::default();
        assert!((0..=REMEMBERED).all(|number| newest.note(number)));
        assert!(!newest.note(1) && newest.note(0) && newest.note(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_is_not_heard_of_is_gone_and_only_the_hosts_own_word_counts() {
        let (mut guests, host) = (Guests::default(), seat());
        guests.attach(host.clone(), None, 1);
        assert!(!guests.acknowledged(ConnectionId::make()));
        assert!(guests.has_host() && !guests.acknowledges());
        assert!(guests.acknowledged(host.connection) && !guests.acknowledged(host.connection));
        assert!(guests.acknowledges() && Guests::new(true).acknowledges());
        advance(HOST_AGE).await;
        assert!(!guests.has_host() && guests.seat() == Some(&host));
        assert!(!guests.detach(ConnectionId::make()));
        assert!(guests.detach(host.connection) && !guests.detach(host.connection));
        assert_eq!(guests.seat(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_looks_is_told_four_times_a_second_at_most() {
        let mut guests = Guests::default();
        assert_eq!(guests.changed(), Telling::Not);
        guests.watch(None);
        assert_eq!((guests.changed(), guests.changed()), (Telling::Now, Telling::After(BETWEEN_STATS)));
        assert_eq!(guests.changed(), Telling::Not);
        advance(BETWEEN_STATS).await;
        guests.telling_is_due();
        assert_eq!(guests.changed(), Telling::Now);
        advance(WATCH_AGE).await;
        assert_eq!((guests.changed(), guests.watchers().count()), (Telling::Not, 0));
    }
}
