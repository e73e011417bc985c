//! `Room`: counts one room's presses, at its home.
//!
//! It has taken the room, so that nobody else writes it, and counts each press as it comes. While a group is being written,
//! presses gather to the next; whoever pressed is answered once the group with the press is durable, and the host is told of
//! an effect then. A press that came before (by its key) is answered as it was then, and no sooner than that is durable.
//! Where another home has taken the room, or what became of a group is not known, it answers nothing more and ends: whoever
//! asked asks again, of the room that is taken anew.
//!
//! One an active room, made by [`super::rooms::Rooms`] and supervised by the `Node`; retired when idle. What waits for it is
//! bounded there. Of a group and what gathers it holds `GROUP_PRESSES` each; later presses wait uncounted, and are not counted where
//! whoever pressed has gone by then.

mod message;
#[cfg(test)]
pub(super) mod stub;
#[cfg(test)]
mod tests;

pub use message::{Reply, RoomMsg};

use self::message::{answer, refuse};
use super::room_guests::{Attached, Guests, HostSeat, Newest, Telling};
use super::room_outlet::RoomOutlet;
use super::room_waiting::Waiting;
use super::wire::{AttachedText, Pressing, TurnText};
use crate::model::id::ConnectionId;
use crate::model::room::{
    ActiveViewers, Answered, Counts, Crowd, Effect, IDLE_AGE, Press, RecentPresses, Room as RoomFacts,
    RoomStats, Rules,
};
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use crate::storage::rooms::{Group, Hold, RoomWrite, Rooms, TakenRoom};
use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Presses of one group: with as many effects it stays below what a CQL server takes as one batch.
const GROUP_PRESSES: usize = 512;
/// What need not be stored at once (how far the host is, that it is there) waits so long for presses to go with.
const LAZY: Duration = Duration::from_millis(500);
/// How far apart it is stored that a host is there.
const BETWEEN_ACTIVE: Duration = Duration::from_secs(600);
/// A room ends where nobody was there for so long by what is stored, which may be so late of a host that went without a word.
pub const IDLE: Duration = IDLE_AGE.saturating_add(BETWEEN_ACTIVE);

/// The actor.
pub struct Room;

/// What a room is started with.
pub struct RoomArguments {
    /// Where it is stored.
    pub rooms: Arc<dyn Rooms>,
    /// By which it counts.
    pub rules: Arc<Rules>,
    /// Where its effects go.
    pub outlet: Arc<RoomOutlet>,
    /// The room as it was taken.
    pub taken: TakenRoom,
}

/// What a room knows.
pub struct RoomState {
    rooms: Arc<dyn Rooms>,
    rules: Arc<Rules>,
    outlet: Arc<RoomOutlet>,
    room: RoomFacts,
    hold: Hold,
    counts: Counts,
    viewers: ActiveViewers,
    /// What viewers' times are counted from, by a clock that does not leap.
    began: Instant,
    recent: RecentPresses,
    sent: u64,
    active_at: Timestamp,
    /// The newest effect that is stored.
    newest: u64,
    gathering: Gathered,
    writing: Option<Gathered>,
    /// Presses that are not counted, for the next group is full.
    queue: Waiting<Pressing, Answered>,
    ending: Option<Ending>,
    is_flush_due: bool,
    guests: Guests,
    /// Names of resets that were done: a try that comes late is none.
    resets: Newest<Bytes>,
    is_over: bool,
    /// It is over because the room has ended.
    has_ended: bool,
}

/// What is changed at once, and who waits for it.
#[derive(Default)]
struct Gathered {
    presses: Vec<Press>,
    effects: Vec<Effect>,
    answers: Waiting<Answered, Answered>,
    done: Waiting<(), ()>,
    /// Something else is to be stored.
    is_due: bool,
}

/// The room is to end.
#[derive(Default)]
struct Ending {
    replies: Waiting<(), ()>,
    idle_replies: Waiting<(), bool>,
    is_under_way: bool,
}

impl Actor for Room {
    type Msg = RoomMsg;
    type State = RoomState;
    type Arguments = RoomArguments;

    async fn pre_start(
        &self,
        _: ActorRef<RoomMsg>,
        arguments: RoomArguments,
    ) -> Result<RoomState, ActorProcessingErr> {
        Ok(RoomState::new(arguments))
    }

    async fn handle(
        &self,
        myself: ActorRef<RoomMsg>,
        message: RoomMsg,
        state: &mut RoomState,
    ) -> Result<(), ActorProcessingErr> {
        if state.is_over {
            // Whoever waits hears that there is no such room, or by the loss of the answer that it is to ask again.
            if state.has_ended {
                message.refuse();
            }
            return Ok(());
        }
        state.hear(message, &myself);
        state.go_on(&myself);
        if state.is_over {
            state.drop_all();
            // What has come by now is still heard, and nothing more comes.
            myself.drain()?;
        }
        Ok(())
    }
}

impl RoomState {
    fn new(RoomArguments { rooms, rules, outlet, taken }: RoomArguments) -> Self {
        let mut recent = RecentPresses::default();
        for group in taken.recent {
            group.presses.into_iter().for_each(|press| recent.add(press, group.version, group.at));
        }
        Self {
            rooms,
            viewers: ActiveViewers::new(rules.active_window),
            began: Instant::now(),
            rules,
            outlet,
            hold: taken.hold,
            newest: taken.counts.next_seq.saturating_sub(1),
            counts: taken.counts,
            recent,
            sent: taken.sent,
            active_at: taken.active_at,
            room: taken.room,
            gathering: Gathered::default(),
            writing: None,
            queue: Waiting::default(),
            ending: None,
            is_flush_due: false,
            guests: Guests::new(taken.acknowledges),
            resets: Newest::default(),
            is_over: false,
            has_ended: false,
        }
    }

    fn hear(&mut self, message: RoomMsg, myself: &ActorRef<RoomMsg>) {
        match message {
            RoomMsg::Press(press, reply) => {
                // In order: what waits uncounted comes first.
                if self.queue.is_empty() { self.press(press, reply) } else { self.queue.push(press, reply) }
            }
            RoomMsg::Stats(reply) => answer(reply, self.stats()),
            RoomMsg::Watch(node, reply) => {
                self.guests.watch(node);
                answer(reply, self.stats());
            }
            RoomMsg::Reset(request, reply) => {
                if self.resets.note(request) {
                    self.counts.reset();
                }
                self.gathering.done.push((), reply);
            }
            RoomMsg::EndIdle(reply) if !self.is_idle() => answer(reply, false),
            RoomMsg::EndIdle(reply) => self.ending.get_or_insert_default().idle_replies.push((), reply),
            RoomMsg::End(reply) => self.ending.get_or_insert_default().replies.push((), reply),
            RoomMsg::Attach(seat, turn, (has, by_host), reply) => {
                let connection = seat.connection;
                let attached = self.attach(seat, turn);
                self.touch(BETWEEN_ACTIVE, myself);
                self.acknowledge(connection, has, by_host, myself);
                answer(reply, attached);
            }
            RoomMsg::Acknowledge(connection, seq, by_host, reply) => {
                self.acknowledge(connection, seq, by_host, myself);
                answer(reply, ());
            }
            RoomMsg::Detach(connection, reply) => {
                if self.guests.detach(connection) {
                    self.touch(Duration::ZERO, myself);
                }
                answer(reply, ());
            }
            RoomMsg::Written(outcome) => self.written(outcome, myself),
            RoomMsg::Ended(outcome) => self.ended(outcome),
            RoomMsg::Flush => self.is_flush_due = false,
            RoomMsg::TellStats => {
                self.guests.telling_is_due();
                self.tell_stats(myself);
            }
        }
    }

    /// Counts a press, unless it was counted before, or the room is about to end, or the next group is full.
    fn press(&mut self, press: Pressing, reply: Reply<Answered>) {
        let now = Timestamp::now();
        if let Some(answered) = self.recent.answered(press.key, now) {
            // It may be of a group that is not written yet.
            if !self.gathering.presses.is_empty() {
                self.gathering.answers.push(answered, reply);
            } else if let Some(writing) = &mut self.writing {
                writing.answers.push(answered, reply);
            } else {
                answer(reply, answered);
            }
            return;
        }
        if self.ending.is_some() || self.gathering.presses.len() >= GROUP_PRESSES {
            self.queue.push(press, reply);
            return;
        }
        let since = self.began.elapsed();
        let before = self.viewers.active(since);
        let with = self.viewers.pressed(press.viewer, since);
        let crowd = Crowd { before, with };
        let counted = self.counts.press(&self.rules, &self.room.event_types, press.event_type, crowd);
        // Whoever knows the room asks for none that it has not.
        let Some((answered, effect)) = counted else { return refuse(reply) };
        let press = Press { key: press.key, answered };
        let version = self.hold.version + if self.writing.is_some() { 2 } else { 1 };
        self.recent.add(press, version, now);
        self.active_at = self.active_at.max(now);
        self.gathering.presses.push(press);
        self.gathering.effects.extend(effect);
        self.gathering.answers.push(answered, reply);
    }

    /// Writes what has gathered, or the end, where nothing is being written.
    fn go_on(&mut self, myself: &ActorRef<RoomMsg>) {
        if self.writing.is_some()
            || self.is_over
            || self.ending.as_ref().is_some_and(|ending| ending.is_under_way)
        {
            return;
        }
        let is_urgent = !self.gathering.presses.is_empty() || !self.gathering.done.is_empty();
        if is_urgent || (self.gathering.is_due && (!self.is_flush_due || self.ending.is_some())) {
            self.write(myself);
        } else if let Some(ending) = &mut self.ending {
            ending.is_under_way = true;
            let (pending, myself) = (self.rooms.end_room(self.room.id, self.hold), myself.clone());
            tokio::spawn(async move {
                // An actor that is gone needs no word.
                let _ = myself.send_message(RoomMsg::Ended(pending.await));
            });
        }
    }

    fn write(&mut self, myself: &ActorRef<RoomMsg>) {
        let gathered = std::mem::take(&mut self.gathering);
        let now = Timestamp::now();
        let group = Group {
            counts: self.counts.clone(),
            effects: gathered.effects.clone(),
            sent: self.sent,
            acknowledges: self.guests.acknowledges(),
            presses_from: self.recent.from_version().unwrap_or(self.hold.next().version),
            presses: gathered.presses.clone(),
            at: now,
            active_at: self.active_at,
        };
        self.writing = Some(gathered);
        let (pending, myself) = (self.rooms.write_room(self.room.id, self.hold, group), myself.clone());
        tokio::spawn(async move {
            // As above.
            let _ = myself.send_message(RoomMsg::Written(pending.await));
        });
    }

    fn written(&mut self, outcome: Result<RoomWrite, StorageError>, myself: &ActorRef<RoomMsg>) {
        if !self.is_done(outcome) {
            return;
        }
        let Some(written) = self.writing.take() else { return };
        self.hold = self.hold.next();
        if let Some(last) = written.effects.last() {
            self.newest = last.seq;
            self.outlet.tell_effects(&self.room, self.guests.seat(), &written.effects);
        }
        written.answers.answer(Some);
        written.done.answer(Some);
        while self.ending.is_none()
            && self.gathering.presses.len() < GROUP_PRESSES
            && let Some((press, reply)) = self.queue.pop()
        {
            self.press(press, reply);
        }
        self.tell_stats(myself);
    }

    fn ended(&mut self, outcome: Result<RoomWrite, StorageError>) {
        if !self.is_done(outcome) {
            return;
        }
        let Ending { replies, idle_replies, .. } = self.ending.take().unwrap_or_default();
        replies.answer(Some);
        idle_replies.answer(|()| Some(true));
        // What came behind the end finds no room.
        std::mem::take(&mut self.queue).answer(|_| None);
        std::mem::take(&mut self.gathering).done.answer(|()| None);
        if let Some(host) = self.guests.seat() {
            self.outlet.end_host(self.room.id, host, true);
        }
        self.outlet.end_watching(self.room.id);
        (self.is_over, self.has_ended) = (true, true);
    }

    /// Whether it was done. Where not, or where that is not known, this room answers nothing any more.
    fn is_done(&mut self, outcome: Result<RoomWrite, StorageError>) -> bool {
        match outcome {
            Ok(RoomWrite::Written) => return true,
            Ok(RoomWrite::Superseded) => {
                tracing::info!(room = %self.room.id, "room {} is another's now", self.room.id);
            }
            Err(error) => {
                let room = self.room.id;
                tracing::warn!(%room, %error, "what became of presses of room {room} is not known: {error}");
            }
        }
        self.is_over = true;
        false
    }

    fn attach(&mut self, seat: HostSeat, turn: Option<TurnText>) -> AttachedText {
        let Attached { turn, former } = self.guests.attach(seat, turn, self.hold.epoch);
        if let Some(former) = former {
            self.outlet.end_host(self.room.id, &former, false);
        }
        AttachedText { turn, sent: self.sent, newest: self.newest, acknowledges: self.guests.acknowledges() }
    }

    fn acknowledge(&mut self, connection: ConnectionId, seq: u64, by_host: bool, myself: &ActorRef<RoomMsg>) {
        if by_host && self.guests.acknowledged(connection) {
            // At once: a home that does not know takes what was written for what the host has.
            (self.gathering.is_due, self.is_flush_due) = (true, false);
        }
        // What a host had whose time is over, it had.
        let seq = seq.min(self.newest);
        if seq > self.sent {
            self.sent = seq;
            self.store_soon(myself);
        }
    }

    /// A host is there; that is stored unless it was so short a time ago.
    fn touch(&mut self, between: Duration, myself: &ActorRef<RoomMsg>) {
        let now = Timestamp::now();
        if now >= self.active_at.after(between) {
            self.active_at = now;
            self.store_soon(myself);
        }
    }

    fn store_soon(&mut self, myself: &ActorRef<RoomMsg>) {
        if !self.gathering.is_due {
            self.gathering.is_due = true;
            self.is_flush_due = true;
            myself.send_after(LAZY, || RoomMsg::Flush);
        }
    }

    fn is_idle(&self) -> bool {
        !self.guests.has_host() && self.active_at < Timestamp::now().before(IDLE)
    }

    fn stats(&mut self) -> RoomStats {
        let at = Timestamp::now();
        let viewers = self.viewers.active(self.began.elapsed());
        let required = |base| self.rules.required(base, viewers);
        RoomStats {
            at,
            host_connected: self.guests.has_host(),
            viewers,
            required: self.room.event_types.all().iter().map(|of| required(of.base)).collect(),
            counts: self.counts.counts.clone(),
        }
    }

    /// Tells whoever looks, unless that was just done; then it is done in time.
    fn tell_stats(&mut self, myself: &ActorRef<RoomMsg>) {
        match self.guests.changed() {
            Telling::Now => {
                let stats = self.stats();
                self.outlet.tell_stats(self.room.id, self.guests.watchers(), stats);
            }
            Telling::After(left) => drop(myself.send_after(left, || RoomMsg::TellStats)),
            Telling::Not => {}
        }
    }

    /// Whoever waits hears by the loss of the answer that it is to ask again.
    fn drop_all(&mut self) {
        self.gathering = Gathered::default();
        self.writing = None;
        self.queue = Waiting::default();
        self.ending = None;
    }
}
