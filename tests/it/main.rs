//! The tests of Roost over its real edge: one binary, one file a subject.

mod accounts;
mod arrows;
mod browser;
mod chaos;
mod chat;
mod cluster;
mod compose;
mod crash;
mod delivery;
mod engines;
mod errors;
mod failing_store;
mod full_disk;
mod fuzz;
mod harness;
mod limits;
mod live;
mod origins;
mod posts;
mod redis;
mod rooms;
mod running;
mod social;
mod storage;
mod timeline;
mod tour;
