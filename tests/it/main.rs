//! The tests of Roost over its real edge: one binary, one file a subject.

#![allow(dead_code)]
mod arrows;
mod crash;
mod delivery;
mod full_disk;
mod harness;
mod live;
mod tour;
