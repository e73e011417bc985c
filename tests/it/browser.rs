//! A real browser's `EventSource` keeps a conversation: in two tabs, through cuts, a `kill -9` and a node that leaves,
//! every message that was answered is once in each tab's view, in the conversation's order.
//!
//! Somebody listens elsewhere meanwhile, as the same user: what it is told counts as told, so a tab sees what it missed
//! by coming back with its own place, and in no other way.
//!
//! And the page of a room, on a phone.

mod cluster;
mod node;
mod page;
mod room;
mod talk;
