//! What an operator is told of a cluster's nodes, and where something is at home: plain values, as they go over the
//! operators' socket and from node to node. A node of a later version may tell more; what is new is passed over.

use super::id::{RoomId, UserId};
use super::shard::Shard;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// All nodes that one of them knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeList {
    /// The number of the view that it goes by; `None` until there is one.
    pub view: Option<u64>,
    /// They, in order of their names.
    pub nodes: Vec<NodeReport>,
}

/// A node, as another one sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// What it is called.
    pub name: String,
    /// Which start of it, as 16 hex digits.
    pub boot: String,
    /// What the view says of it.
    pub state: NodeState,
    /// Whether it is the one that tells this.
    pub is_here: bool,
    /// Where its link is taken, as `host:port`; empty for a node that is alone.
    pub address: String,
    /// The shards that are at home there.
    pub homes: usize,
    /// The link to it; `None` for the one that tells this.
    pub link: Option<LinkReport>,
    /// What it says of itself; `None` where it did not answer in time.
    pub own: Option<OwnReport>,
}

/// What the view says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It has no homes yet.
    Joining,
    /// It has homes.
    Up,
    /// It has no homes any more.
    Draining,
    /// It is not in the view.
    Out,
}

/// The link to a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkReport {
    /// Whether there is a connection.
    pub is_up: bool,
    /// Since when there is one, or none.
    pub since_seconds: f64,
    /// When something was last heard of it.
    pub heard_seconds: f64,
    /// The number of the view that it goes by.
    pub view: Option<u64>,
    /// The number of the view that it has confirmed, 0 for none.
    pub confirmed: u64,
    /// The bytes that wait for it, or for its acknowledgement.
    pub held_bytes: usize,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnReport {
    /// Its version.
    pub version: String,
    /// What it serves.
    pub role: String,
    /// The number of the view that it goes by.
    pub view: Option<u64>,
    /// Whether an operator drains it.
    pub is_draining: bool,
    /// Whether it may act as home now.
    pub may_act: bool,
    /// WebSockets that are open there.
    pub sockets: usize,
    /// What is wrong with Redis, as the cluster sees it; `None` where nothing is, or none is needed.
    pub redis: Option<String>,
}

/// Something that is somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An author: its home orders its posts.
    Author(UserId),
    /// A user: its sockets are where it connected.
    User(UserId),
    /// A room: its home counts.
    Room(RoomId),
}

impl Subject {
    /// Reads its kind and its id.
    ///
    /// # Errors
    /// In words, where they are none.
    pub fn parse(kind: &str, id: &str) -> Result<Self, String> {
        let user = || UserId::from_str(id).map_err(|_| format!("{id:?} is no user's id (a UUID)"));
        match kind {
            "author" => Ok(Self::Author(user()?)),
            "user" => Ok(Self::User(user()?)),
            "room" => RoomId::from_str(id)
                .map(Self::Room)
                .map_err(|_| format!("{id:?} is no room's id (a ULID of 26 characters)")),
            _ => Err(format!("{kind:?} is neither author nor user nor room")),
        }
    }

    /// Author, user or room.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Author(_) => "author",
            Self::User(_) => "user",
            Self::Room(_) => "room",
        }
    }

    /// The shard that it belongs to.
    #[must_use]
    pub fn shard(&self) -> Shard {
        match self {
            Self::Author(user) | Self::User(user) => Shard::of(*user),
            Self::Room(room) => Shard::of_room(*room),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Author(user) | Self::User(user) => user.fmt(f),
            Self::Room(room) => room.fmt(f),
        }
    }
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// `author`, `user` or `room`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its shard.
    pub shard: u8,
    /// The node that is its home; `None` while no node is up.
    pub home: Option<String>,
    /// For a user, its sockets on each node; empty for the others.
    pub sockets: Vec<SocketCount>,
}

/// A user's sockets on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketCount {
    /// Which node.
    pub node: String,
    /// How many; `None` where it did not answer in time.
    pub sockets: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::Subject;

    #[test]
    fn a_subject_has_the_kind_that_its_id_fits() {
        let user = "01980000-0000-7000-8000-000000000001";
        assert_eq!(Subject::parse("author", user).unwrap().kind(), "author");
        assert_eq!(Subject::parse("user", user).unwrap().to_string(), user);
        let room = Subject::parse("room", "01arz3ndektsv4rrffq69g5fav").unwrap();
        assert_eq!(room.to_string(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        for (kind, id) in [("author", "ada"), ("room", user), ("rooms", user)] {
            assert!(Subject::parse(kind, id).is_err(), "{kind} {id}");
        }
    }
}
