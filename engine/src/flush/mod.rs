//! Flush tracking: from what each shape still owes to the one LSN that travels upstream.
//!
//! [`Owed`] is a shape's three words, [`Tracker`] a shard's sum of them, [`Frontiers`] the minimum
//! over the shards. Nothing here knows of consumers, logs, threads or time.

mod frontier;
mod owed;
mod positions;
mod tracker;

pub(crate) use frontier::Frontiers;
pub(crate) use owed::{Moved, Owed};
pub(crate) use tracker::Tracker;

#[cfg(all(test, not(loom)))]
mod oracle;
