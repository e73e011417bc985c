//! All live state.
//!
//! ```text
//! Node                 one a process: starts, supervises, restarts, drains
//! ├── Relay × 4        by author: who follows whom here; pushes frames into outboxes
//! ├── Author × n       by author, while active: ids, order, durability, hand-over to its relay
//! ├── Conversation × n by conversation, while active: the order of its messages, their way into inboxes
//! ├── Room × n         by room, while active: counts its presses, has its effects sent to its host
//! └── Courier          redrives what did not finish, marks what did, sends events
//!
//! Session × n          one a connection, unlinked; owned by its socket's task
//! ```
//!
//! What outlives an actor stands beside the tree: [`watermark`] (what is on its way), [`roster`] (who is
//! connected), [`outbox`] (what a connection is still to be sent), the relays' queues, the workers that
//! [`fan_out`] entries into timelines where the store writes those, [`inboxes`] (who listens to chats), [`streams`], [`hosts`]
//! (of rooms, and what each is to be sent) and [`room_watch`] (who looks at rooms).
//!
//! In a cluster ([`clustered`]) there are beside it, each a table and at most one task:
//!
//! ```text
//! switchboard      hears views, links, frames and calls (wire) and has the others do what follows
//! ├── homes        where an author is at home, and the way there
//! ├── interest     which nodes are to hear of an author that is at home here
//! ├── neighbours   tells them, and how far this home has come
//! ├── wanted       whom sessions here follow, and which homes know that
//! ├── horizon      how far all homes have come; reads those that cannot be heard
//! └── follows      follows, as sockets on all nodes hear of them
//! ```

pub mod author;
pub mod authors;
pub mod chat_homes;
pub mod clustered;
pub mod conversation;
pub mod conversations;
pub mod courier;
pub mod fan_out;
pub mod follows;
pub mod homes;
pub mod horizon;
pub mod hosts;
pub mod inbox_watch;
pub mod inboxes;
pub mod index;
pub mod instant;
pub mod interest;
pub mod membership;
pub mod neighbours;
pub mod node;
pub mod outbox;
pub mod placing;
pub mod relay;
pub mod relays;
pub mod remote;
mod replay;
pub mod room;
pub mod room_guests;
pub mod room_homes;
pub mod room_outlet;
mod room_sweep;
mod room_waiting;
pub mod room_watch;
pub mod rooms;
pub mod roster;
pub mod seat;
pub mod seen;
pub mod session;
pub mod streams;
pub mod switchboard;
pub mod turns;
pub mod wanted;
pub mod watermark;
pub mod wire;
