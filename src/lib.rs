//! Roost: an actor-based realtime server for social apps.
//!
//! # Codemap
//!
//! A post comes in through [`http`], is checked in [`model`], goes by [`service`] to its author's actor
//! in [`actors`], which has [`storage`] keep it and hands its frame to the relays, which push it into
//! every follower's outbox. ARCHITECTURE.md tells the same with its invariants.

pub mod cli;
pub mod config;
pub mod data_dir;
pub mod model;
pub mod storage;
pub mod telemetry;
