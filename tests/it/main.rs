//! The tests of Roost over its real edge: one binary, one file a subject.

#![allow(dead_code)]
mod delivery;
mod harness;
mod live;
mod storage;
