//! The node's relays as others see them: which one has an author, and how it is told.

use super::instant::Instants;
use super::outbox::Outbox;
use super::relay::{Inflow, Relay, RelayArguments, RelayMsg};
use super::wanted::Wanted;
use super::watermark::Watermark;
use crate::model::cursor::{Seq, StoreName};
use crate::model::id::{ConnectionId, UserId};
use crate::storage::Entry;
use ractor::{Actor, ActorCell, ActorRef, RpcReplyPort, SpawnErr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

/// One writer alone lengthens the tail; more than cores would not shorten it.
const RELAYS: usize = 4;
/// A relay answers within a round; one that does not is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often, and with which pauses, one who enters asks for a relay that ended.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// A relay did not answer: it ended, or is about to.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a relay does not answer")]
pub struct RelayGone;

/// The node's relays.
pub struct Relays {
    seats: Vec<Seat>,
    watermark: Arc<Watermark>,
    store: StoreName,
    instants: Instants,
    follows: AtomicU64,
    wanted: OnceLock<Arc<Wanted>>,
}

struct Seat {
    inflow: Arc<Inflow>,
    /// The one that works now. A std lock: nothing awaits under it.
    actor: RwLock<Option<ActorRef<RelayMsg>>>,
}

/// A follow that relays keep entries for until it is settled; one that is dropped counts as not stored.
pub struct ExpectedFollow {
    relays: Arc<Relays>,
    author: UserId,
    follow: u64,
    settled: bool,
}

impl Relays {
    /// Seats for relays; [`Self::start`] fills them.
    #[must_use]
    pub fn new(watermark: Arc<Watermark>, store: StoreName, instants: Instants) -> Self {
        let seats = (0..RELAYS).map(|_| Seat { inflow: Arc::default(), actor: RwLock::new(None) }).collect();
        Self { seats, watermark, store, instants, follows: AtomicU64::new(0), wanted: OnceLock::new() }
    }

    /// Who is told from now on whom sessions here follow; before the first relay starts.
    pub fn tell(&self, wanted: Arc<Wanted>) {
        // There is one a node; a second call changes nothing.
        let _ = self.wanted.set(wanted);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seats.len()
    }

    /// Starts the relay of a seat, under its supervisor.
    ///
    /// # Errors
    /// What the actor runtime says.
    pub async fn start(&self, seat: usize, supervisor: ActorCell) -> Result<(), SpawnErr> {
        let arguments = RelayArguments {
            inflow: self.seats[seat].inflow.clone(),
            watermark: self.watermark.clone(),
            wanted: self.wanted.get().cloned(),
            store: self.store,
            instants: self.instants.clone(),
        };
        let (actor, _) = Actor::spawn_linked(None, Relay, arguments, supervisor).await?;
        *self.seats[seat].actor.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
        Ok(())
    }

    /// The seat of an actor, if it is one of these.
    pub fn seat_of(&self, cell: &ActorCell) -> Option<usize> {
        self.seats.iter().position(|seat| seat.actor().is_some_and(|actor| actor.get_id() == cell.get_id()))
    }

    /// Entries that wait to be carried.
    pub fn waiting(&self) -> usize {
        self.seats.iter().map(|seat| seat.inflow.waiting()).sum()
    }

    /// Hands an entry over, waiting for room. From here on it reaches every follower that is here, even
    /// if its author ends; should the relay end first, the entry waits for the next one.
    pub async fn carry(&self, entry: Entry) {
        let seat = self.seat(entry.author());
        let Some(room) = seat.inflow.room().await else { return };
        // Brought again while it waited here: once is enough.
        if !self.watermark.queue(entry.seq) {
            return;
        }
        seat.inflow.put(entry, room);
        if seat.inflow.calls() {
            // A relay that is gone finds the entry when it is started anew.
            let _ = seat.send(RelayMsg::Carry);
        }
    }

    /// A connection begins to get what these authors do. `followees`: each with the entry after which
    /// the follow began.
    ///
    /// # Errors
    /// Where a relay is gone; the connection cannot go on.
    pub async fn enter(
        &self,
        connection: ConnectionId,
        outbox: &Arc<Outbox>,
        followees: Vec<(UserId, Seq)>,
    ) -> Result<(), RelayGone> {
        let mut shares = vec![Vec::new(); self.seats.len()];
        for followee in followees {
            shares[self.seat_number(followee.0)].push(followee);
        }
        for (seat, followees) in self.seats.iter().zip(shares) {
            let enter = || {
                let (outbox, followees) = (outbox.clone(), followees.clone());
                |entered| RelayMsg::Enter { connection, outbox, followees, entered }
            };
            let mut tries = 0;
            while let Err(gone) = seat.ask(enter()).await {
                // One that ended is started anew in a moment; those whom it had are closed, who comes now waits.
                tries += 1;
                if tries == TRIES {
                    return Err(gone);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// A connection is gone.
    pub fn leave(&self, connection: ConnectionId) {
        for seat in &self.seats {
            // A relay that is gone has forgotten it already.
            let _ = seat.send(RelayMsg::Leave(connection));
        }
    }

    /// A follow is about to be stored: from now on the author's entries are kept for the follower's
    /// connections, until [`ExpectedFollow::settle`].
    ///
    /// # Errors
    /// Where the relay is gone.
    pub async fn expect(
        self: &Arc<Self>,
        author: UserId,
        connections: Vec<ConnectionId>,
    ) -> Result<ExpectedFollow, RelayGone> {
        let follow = self.follows.fetch_add(1, Ordering::Relaxed);
        let expected = ExpectedFollow { relays: self.clone(), author, follow, settled: false };
        let ask = |expecting| RelayMsg::Expect { follow, author, connections, expecting };
        self.seat(author).ask(ask).await?;
        Ok(expected)
    }

    /// These connections get nothing more of the author.
    ///
    /// # Errors
    /// Where the relay is gone.
    pub async fn unfollow(&self, author: UserId, connections: Vec<ConnectionId>) -> Result<(), RelayGone> {
        self.seat(author).ask(|done| RelayMsg::Unfollow { author, connections, done }).await
    }

    fn seat(&self, author: UserId) -> &Seat {
        &self.seats[self.seat_number(author)]
    }

    fn seat_number(&self, author: UserId) -> usize {
        // The last bytes of a UUID are by chance, in version 4 and 7 alike.
        usize::from(author.0.as_bytes()[15]) % self.seats.len()
    }
}

impl ExpectedFollow {
    /// The follow was stored after entry `since`: what was kept and is newer goes out, and whatever
    /// comes reaches the follower.
    ///
    /// # Errors
    /// Where the relay is gone, and with it every session's place.
    pub async fn settle(mut self, since: Seq) -> Result<(), RelayGone> {
        self.settled = true;
        let follow = self.follow;
        self.relays
            .seat(self.author)
            .ask(|settled| RelayMsg::Settle { follow, since: Some(since), settled })
            .await
    }
}

impl Drop for ExpectedFollow {
    fn drop(&mut self) {
        if !self.settled {
            let (settled, _) = ractor::concurrency::oneshot();
            let message = RelayMsg::Settle { follow: self.follow, since: None, settled: settled.into() };
            let _ = self.relays.seat(self.author).send(message);
        }
    }
}

impl Seat {
    fn actor(&self) -> Option<ActorRef<RelayMsg>> {
        self.actor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn send(&self, message: RelayMsg) -> Result<(), RelayGone> {
        let actor = self.actor().ok_or(RelayGone)?;
        actor.send_message(message).map_err(|_| RelayGone)
    }

    async fn ask(&self, message: impl FnOnce(RpcReplyPort<()>) -> RelayMsg) -> Result<(), RelayGone> {
        let (reply, answer) = ractor::concurrency::oneshot();
        self.send(message(reply.into()))?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(RelayGone),
        }
    }
}
