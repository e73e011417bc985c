//! What a room is told, and how it answers.

use crate::actors::room_guests::HostSeat;
use crate::actors::wire::{AttachedText, Pressing, TurnText};
use crate::model::id::ConnectionId;
use crate::model::room::{Answered, RoomStats};
use crate::storage::StorageError;
use crate::storage::rooms::RoomWrite;
use bytes::Bytes;
use ractor::RpcReplyPort;
use roost_cluster::NodeName;

/// Takes an answer; `None` where the room has ended.
pub type Reply<T> = RpcReplyPort<Option<T>>;

/// What a room is told.
pub enum RoomMsg {
    /// Count this.
    Press(Pressing, Reply<Answered>),
    /// How does it stand?
    Stats(Reply<RoomStats>),
    /// The same, and tell that node from now on for a while.
    Watch(Option<NodeName>, Reply<RoomStats>),
    /// All counts start again, once for each name.
    Reset(Bytes, Reply<()>),
    /// End.
    End(Reply<()>),
    /// End where nobody was there for a day. Answers whether it ends.
    EndIdle(Reply<bool>),
    /// A host is there, or still there; what it has, and whether it said so itself.
    Attach(HostSeat, Option<TurnText>, (u64, bool), Reply<AttachedText>),
    /// The host has the effects up to that number; whether it said so itself.
    Acknowledge(ConnectionId, u64, bool, Reply<()>),
    /// The host is gone.
    Detach(ConnectionId, Reply<()>),
    /// What became of the group.
    Written(Result<RoomWrite, StorageError>),
    /// What became of the end.
    Ended(Result<RoomWrite, StorageError>),
    /// What was put off is stored now.
    Flush,
    /// Whoever looks is told now.
    TellStats,
}

impl RoomMsg {
    /// There is no such room any more.
    pub(super) fn refuse(self) {
        match self {
            Self::Press(_, reply) => refuse(reply),
            Self::Stats(reply) | Self::Watch(_, reply) => refuse(reply),
            Self::Attach(.., reply) => refuse(reply),
            Self::EndIdle(reply) => refuse(reply),
            Self::Reset(_, reply)
            | Self::End(reply)
            | Self::Acknowledge(.., reply)
            | Self::Detach(_, reply) => refuse(reply),
            Self::Written(_) | Self::Ended(_) | Self::Flush | Self::TellStats => {}
        }
    }
}

/// Whoever does not wait any more needs no answer.
pub(super) fn answer<T>(reply: Reply<T>, what: T) {
    let _ = reply.send(Some(what));
}

/// There is no such room any more.
pub(super) fn refuse<T>(reply: Reply<T>) {
    let _ = reply.send(None);
}
