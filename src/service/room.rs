//! Rooms: made, pressed in, looked at, ended. What a press counts is its room's business ([`crate::actors::room`]).
//!
//! Anybody who has a room's id may read it and press. What of a room never changes is remembered for a while; whether it is
//! still there, its home says with each press.

use super::ServiceError;
use crate::actors::room_homes::{RoomHomes, WatchError};
use crate::actors::room_watch::{WatchBounds, Watching};
use crate::actors::wire::Pressing;
use crate::model::id::RoomId;
use crate::model::room::{Answered, EventTypes, PressId, Room, RoomStats, Rules, Viewer};
use crate::model::timestamp::Timestamp;
use crate::model::user::Caller;
use crate::storage::rooms::{NewRoom, Rooms as RoomStore};
use crate::storage::volatile::{Counted, Limits};
use crate::telemetry::metric;
use moka::sync::Cache;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Rooms that are remembered, and how long.
const REMEMBERED: u64 = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// Of one's rooms so many are listed, the newest.
const LISTED: usize = 100;
/// When it is worth asking for a stream again where too many are open.
const STREAM_RETRY: Duration = Duration::from_secs(10);

const NO_ROOM: ServiceError = ServiceError::NotFound("there is no such room");

/// What can be done with rooms.
pub struct Rooms {
    store: Arc<dyn RoomStore>,
    homes: Arc<RoomHomes>,
    limits: Arc<dyn Limits>,
    rules: Rules,
    watch_bounds: WatchBounds,
    known: Cache<RoomId, Arc<Room>>,
}

/// A press, as somebody asks for it.
#[derive(Clone, Debug)]
pub struct Press {
    /// What is pressed.
    pub event_type: String,
    /// Who presses.
    pub viewer: Viewer,
    /// Names it, where the viewer wants to send it again.
    pub id: Option<PressId>,
}

impl Rooms {
    /// On these parts.
    #[must_use]
    pub fn new(
        store: Arc<dyn RoomStore>,
        homes: Arc<RoomHomes>,
        limits: Arc<dyn Limits>,
        rules: Rules,
        watch_bounds: WatchBounds,
    ) -> Self {
        let known = Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBERED_FOR).build();
        Self { store, homes, limits, rules, watch_bounds, known }
    }

    /// Makes a room; where it is not said what can be pressed there, what the settings say.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn make(&self, caller: &Caller, event_types: Option<EventTypes>) -> Result<Room, ServiceError> {
        let new = NewRoom {
            id: RoomId::make(),
            owner: caller.user,
            created_at: Timestamp::now(),
            event_types: event_types.unwrap_or_else(|| self.rules.event_types.clone()),
        };
        self.store.make_room(new.clone()).await?;
        let NewRoom { id, owner, created_at, event_types } = new;
        Ok(Room { id, owner, created_at, event_types })
    }

    /// The caller's rooms, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn mine(&self, caller: &Caller) -> Result<Vec<Room>, ServiceError> {
        Ok(self.store.rooms_of(caller.user, LISTED).await?)
    }

    /// A room, and how it stands.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn stats(&self, id: RoomId) -> Result<(Arc<Room>, RoomStats), ServiceError> {
        let room = self.room(id).await?;
        match self.homes.stats(id).await? {
            Some(stats) => Ok((room, stats)),
            None => Err(self.forget(id)),
        }
    }

    /// The caller's own room.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` where it is another's; `Unavailable`.
    pub async fn own(&self, caller: &Caller, id: RoomId) -> Result<Arc<Room>, ServiceError> {
        let room = self.room(id).await?;
        match room.owner == caller.user {
            true => Ok(room),
            false => Err(ServiceError::Forbidden("the room is another user's")),
        }
    }

    /// The same, asked of the store: one that has ended is none, though it is remembered.
    ///
    /// # Errors
    /// As [`Self::own`].
    pub async fn own_anew(&self, caller: &Caller, id: RoomId) -> Result<Arc<Room>, ServiceError> {
        self.forget(id);
        self.own(caller, id).await
    }

    /// Presses. A press of an id that was taken lately is answered as it was then.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` where the room has no such event type; `Limited`; `Unavailable`, after which it may have been
    /// counted, and the same id tells.
    pub async fn press(&self, id: RoomId, press: Press) -> Result<(Arc<Room>, Answered), ServiceError> {
        let room = self.room(id).await?;
        let Some(event_type) = room.event_types.place(&press.event_type) else {
            let known: Vec<&str> = room.event_types.all().iter().map(|known| known.name.as_str()).collect();
            let rule = format!("must be one that this room has: {}", known.join(", "));
            return Err(ServiceError::invalid("event_type", rule));
        };
        let viewer = press.viewer.key();
        if let Err(retry_after) = self.limits.take(Counted::Press(id, viewer)).await? {
            return Err(ServiceError::Limited { retry_after, what: "presses" });
        }
        // One that came without a name gets one, for the way to its home; it is nobody else's.
        let named = press.id.or_else(|| PressId::parse(&Uuid::new_v4().to_string()).ok());
        let key = named.map(|named| press.viewer.press_key(&named)).ok_or(NO_ROOM)?;
        match self.homes.press(id, Pressing { event_type, viewer, key }).await? {
            Some(answered) => {
                metrics::counter!(metric::PRESSES).increment(1);
                Ok((room, answered))
            }
            None => Err(self.forget(id)),
        }
    }

    /// All counts of the caller's room start again.
    ///
    /// # Errors
    /// As [`Self::own`].
    pub async fn reset(&self, caller: &Caller, id: RoomId) -> Result<(), ServiceError> {
        self.own(caller, id).await?;
        if self.homes.reset(id).await? { Ok(()) } else { Err(self.forget(id)) }
    }

    /// Ends the caller's room.
    ///
    /// # Errors
    /// As [`Self::own`].
    pub async fn end(&self, caller: &Caller, id: RoomId) -> Result<(), ServiceError> {
        self.own(caller, id).await?;
        let was_there = self.homes.end(id).await?;
        let gone = self.forget(id);
        if was_there { Ok(()) } else { Err(gone) }
    }

    /// Looks at a room from now on.
    ///
    /// # Errors
    /// `NotFound`; `Limited` where too many do; `Unavailable`.
    pub async fn watch(&self, id: RoomId, address: IpAddr) -> Result<(Arc<Room>, Watching), ServiceError> {
        let room = self.room(id).await?;
        match self.homes.watch(id, address, self.watch_bounds).await {
            Ok(watching) => Ok((room, watching)),
            Err(WatchError::None) => Err(self.forget(id)),
            Err(WatchError::Storage(error)) => Err(error.into()),
            Err(WatchError::Full(_)) => {
                Err(ServiceError::Limited { retry_after: STREAM_RETRY, what: "streams of this room" })
            }
        }
    }

    async fn room(&self, id: RoomId) -> Result<Arc<Room>, ServiceError> {
        if let Some(room) = self.known.get(&id) {
            return Ok(room);
        }
        let room = Arc::new(self.store.room(id).await?.ok_or(NO_ROOM)?);
        self.known.insert(id, room.clone());
        Ok(room)
    }

    /// A room that was remembered has ended, or may have.
    fn forget(&self, id: RoomId) -> ServiceError {
        self.known.invalidate(&id);
        NO_ROOM
    }
}
