//! Which rooms are active here, and the way to each: taken at first use, retired when idle.
//!
//! As conversations are ([`super::conversations`]): one is retired only while nobody waits for it, under the same lock under
//! which it is found. One that ends by itself (another home has taken the room, or what became of a group is not known)
//! loses those who wait; they hear [`RoomError::Gone`], and ask again whoever is home then. Of a room that has ended they hear that
//! there is none.

use super::authors::PATIENCE;
use super::room::{Reply, Room, RoomArguments, RoomMsg};
use super::room_outlet::RoomOutlet;
use crate::model::id::RoomId;
use crate::model::room::Rules;
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use crate::storage::rooms::Rooms as RoomStore;
use ractor::{Actor, ActorCell, ActorRef};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

/// How many may wait for one room.
pub(super) const WAITING: usize = 8_192;
/// Viewers are active up to a second longer than the rules say.
const A_SECOND: Duration = Duration::from_secs(1);

/// Why a room did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// There is none.
    #[error("there is no such room")]
    None,
    /// It was ending, or is to be asked elsewhere: nothing was done.
    #[error("the room was not asked")]
    NotAsked,
    /// It ended while it was asked; what was asked may have been done.
    #[error("the room ended while it was asked")]
    Gone,
    /// It cannot be taken, or too many wait.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The node's active rooms.
pub struct Rooms {
    store: Arc<dyn RoomStore>,
    rules: Arc<Rules>,
    outlet: Arc<RoomOutlet>,
    supervisor: OnceLock<ActorCell>,
    active: Mutex<HashMap<RoomId, Active>>,
}

struct Active {
    actor: Arc<OnceCell<ActorRef<RoomMsg>>>,
    waiting: usize,
    used: Instant,
}

/// One who waits for a room; while there is one, the room is not retired.
struct Ticket<'a> {
    rooms: &'a Rooms,
    id: RoomId,
    actor: Arc<OnceCell<ActorRef<RoomMsg>>>,
}

impl Rooms {
    /// None is active yet; `supervise` must be called before the first is used.
    #[must_use]
    pub fn new(store: Arc<dyn RoomStore>, rules: Arc<Rules>, outlet: Arc<RoomOutlet>) -> Self {
        Self { store, rules, outlet, supervisor: OnceLock::new(), active: Mutex::default() }
    }

    /// Whose children rooms are.
    pub fn supervise(&self, supervisor: ActorCell) {
        // There is one supervisor a node; a second call changes nothing.
        let _ = self.supervisor.set(supervisor);
    }

    /// Asks a room something.
    ///
    /// # Errors
    /// [`RoomError::None`]; [`RoomError::NotAsked`]; [`RoomError::Gone`], after which it may have been done; [`RoomError::Storage`] where the room
    /// cannot be taken, does not answer within 10 s (then it may have been done, too), or too many wait for it.
    pub async fn ask<T: Send + 'static>(
        &self,
        id: RoomId,
        message: impl FnOnce(Reply<T>) -> RoomMsg,
    ) -> Result<T, RoomError> {
        let asking = async {
            let ticket = self.ticket(id)?;
            let actor = ticket.actor().await?;
            let (reply, answer) = ractor::concurrency::oneshot();
            if actor.send_message(message(reply.into())).is_err() {
                self.forget(id, &ticket.actor);
                return Err(RoomError::NotAsked);
            }
            match answer.await {
                Ok(answer) => answer.ok_or(RoomError::None),
                Err(_) => {
                    self.forget(id, &ticket.actor);
                    Err(RoomError::Gone)
                }
            }
        };
        match timeout(PATIENCE, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(StorageError::Unavailable("the room did not answer in time".into()).into()),
        }
    }

    /// Retires those that nobody waits for and that had nothing to do for `idle`, and so long that no viewer is active: who is,
    /// only the actor knows.
    pub fn retire(&self, idle: Duration) {
        let idle = idle.max(self.rules.active_window + A_SECOND);
        self.end(|_, active| active.waiting == 0 && active.used.elapsed() >= idle);
    }

    /// This node is no longer home of these: they end, and whoever waits for one is told.
    pub fn end_lost(&self, is_lost: impl Fn(RoomId) -> bool) {
        self.end(|id, _| is_lost(id));
    }

    /// A room ended by a fault of ours: what is asked next of it takes it anew. Answers which.
    pub fn ended(&self, cell: &ActorCell) -> Option<RoomId> {
        let mut all = self.lock();
        let is_it = |active: &Active| active.actor.get().is_some_and(|actor| actor.get_id() == cell.get_id());
        let id = all.iter().find(|(_, active)| is_it(active)).map(|(id, _)| *id)?;
        all.remove(&id);
        Some(id)
    }

    /// How many are active, and how many callers wait for them.
    pub fn count(&self) -> (usize, usize) {
        let all = self.lock();
        (all.len(), all.values().map(|active| active.waiting).sum())
    }

    /// Where rooms are stored.
    #[must_use]
    pub const fn store(&self) -> &Arc<dyn RoomStore> {
        &self.store
    }

    fn end(&self, ends: impl Fn(RoomId, &Active) -> bool) {
        self.lock().retain(|id, active| {
            let stays = !ends(*id, active);
            if !stays && let Some(actor) = active.actor.get() {
                actor.stop(None);
            }
            stays
        });
    }

    fn ticket(&self, id: RoomId) -> Result<Ticket<'_>, StorageError> {
        let mut all = self.lock();
        let active = all.entry(id).or_insert_with(|| Active {
            actor: Arc::default(),
            waiting: 0,
            used: Instant::now(),
        });
        if active.waiting >= WAITING {
            return Err(StorageError::Unavailable("too many wait for this room".into()));
        }
        active.waiting += 1;
        active.used = Instant::now();
        let actor = active.actor.clone();
        Ok(Ticket { rooms: self, id, actor })
    }

    fn forget(&self, id: RoomId, actor: &Arc<OnceCell<ActorRef<RoomMsg>>>) {
        let mut all = self.lock();
        if all.get(&id).is_some_and(|active| Arc::ptr_eq(&active.actor, actor)) {
            all.remove(&id);
        }
    }

    fn has(&self, id: RoomId, actor: &Arc<OnceCell<ActorRef<RoomMsg>>>) -> bool {
        self.lock().get(&id).is_some_and(|active| Arc::ptr_eq(&active.actor, actor))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// The room, taken by whoever comes first.
    async fn actor(&self) -> Result<&ActorRef<RoomMsg>, RoomError> {
        if let Some(actor) = self.actor.get() {
            return Ok(actor);
        }
        // Boxed: it happens once, and every caller would carry it.
        let taken = self.actor.get_or_try_init(|| Box::pin(self.take())).await;
        match taken {
            // While it was taken, this node has lost it: nobody would ever end it.
            Ok(actor) if !self.rooms.has(self.id, &self.actor) => {
                actor.stop(None);
                Err(RoomError::NotAsked)
            }
            Ok(actor) => Ok(actor),
            Err(error) => {
                self.rooms.forget(self.id, &self.actor);
                Err(error)
            }
        }
    }

    async fn take(&self) -> Result<ActorRef<RoomMsg>, RoomError> {
        let Rooms { store, rules, outlet, supervisor, .. } = self.rooms;
        let supervisor = supervisor.get().cloned().ok_or(RoomError::NotAsked)?;
        let taken = store.take_room(self.id, Timestamp::now()).await?.ok_or(RoomError::None)?;
        let (rooms, rules, outlet) = (store.clone(), rules.clone(), outlet.clone());
        let arguments = RoomArguments { rooms, rules, outlet, taken };
        let spawned = Actor::spawn_linked(None, Room, arguments, supervisor).await;
        let unavailable = |error: ractor::SpawnErr| StorageError::Unavailable(error.to_string());
        Ok(spawned.map(|(actor, _)| actor).map_err(unavailable)?)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(active) = self.rooms.lock().get_mut(&self.id)
            && Arc::ptr_eq(&active.actor, &self.actor)
        {
            active.waiting -= 1;
            active.used = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RoomError, Rooms};
    use crate::actors::room::RoomMsg;
    use crate::actors::room::stub::Stub;
    use crate::actors::room_outlet::RoomOutlet;
    use crate::model::id::RoomId;
    use crate::model::room::Rules;
    use crate::storage::rooms::RoomWrite;
    use ractor::{Actor, ActorProcessingErr, ActorRef};
    use std::sync::Arc;

    /// Whose children rooms are.
    struct Parent;

    impl Actor for Parent {
        type Msg = ();
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn of_a_room_that_has_just_ended_nothing_may_have_been_done() {
        let store = Arc::new(Stub::default());
        let outlet = Arc::new(RoomOutlet::new(None, None));
        let rooms = Rooms::new(store.clone(), Arc::new(Rules::default()), outlet);
        let (parent, parents_end) = Actor::spawn(None, Parent, ()).await.unwrap();
        rooms.supervise(parent.get_cell());
        let room = RoomId::make();
        store.ended.send(RoomWrite::Written);
        rooms.ask(room, RoomMsg::End).await.unwrap();
        // It may be ending yet, and then is asked for again.
        let again = rooms.ask(room, RoomMsg::End).await;
        assert!(matches!(again, Err(RoomError::None | RoomError::NotAsked)), "{again:?}");
        assert!(matches!(rooms.ask(room, RoomMsg::End).await, Err(RoomError::None)));
        parent.stop(None);
        parents_end.await.unwrap();
    }
}
