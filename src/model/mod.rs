//! The vocabulary: what everything else speaks of. No I/O, nothing of HTTP, SQL or actors.
//!
//! A value of one of these types has been checked: a `Content` is a post that may be stored, a
//! `Username` a name that may be taken. Parsing is the only way to make one from outside.

pub mod chat;
pub mod close;
pub mod cursor;
pub mod event;
pub mod frame;
pub mod id;
pub mod operation;
pub mod post;
pub mod room;
pub mod secret;
pub mod shard;
pub mod social;
pub mod timestamp;
pub mod user;
