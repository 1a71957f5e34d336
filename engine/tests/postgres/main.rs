//! The Postgres source against a real Postgres: rows, deaths, restarts, acknowledgements, refusals.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../cluster/mod.rs"]
mod cluster;

mod acks;
mod continuity;
mod deaths;
mod refusals;
mod restarts;
mod rows;
mod snapshots;
mod tables;
mod world;
