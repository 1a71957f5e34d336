//! The Postgres source against a real Postgres: rows, deaths, restarts, acknowledgements, refusals.

#[path = "../cluster/mod.rs"]
mod cluster;

mod acks;
mod continuity;
mod deaths;
mod refusals;
mod restarts;
mod rows;
mod world;
