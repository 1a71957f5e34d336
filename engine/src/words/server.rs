//! Server: whose write-ahead log it is (INV11).

use std::fmt;
use std::num::NonZeroU32;

/// A database cluster, and the line of its history that it is on. An LSN names a position only
/// together with these: another cluster's is another log, and a server that was promoted or
/// restored may have left a part of it behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerId {
    /// Postgres's system identifier: drawn when the cluster is made, the same in all its copies.
    pub system: u64,
    /// The timeline; a promotion and a restore to a point in time begin a new one.
    pub timeline: NonZeroU32,
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "system {}, timeline {}", self.system, self.timeline)
    }
}
