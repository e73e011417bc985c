//! Rooms over the real edge: REST, the host's socket, the stream, and what is counted.

mod dying;
mod host;
mod limits;
mod model;
mod page;
mod rest;
mod stream;
