//! Snapshot: the initial rows of shapes, kept apart from the logs: rows and the Postgres snapshot
//! that they were read under flow in, pages of rows flow out, and whether a transaction of the log
//! is in them already. Rows lie in files of bounded size, which are complete or absent after a
//! crash. Which shape is given rows, and who is told, is left to the engine.

mod chunk;
mod door;
mod files;
mod loading;
mod page;
mod pg;

pub use page::{SnapshotPage, SnapshotPosition, SnapshotRow};
pub use pg::{ParsePgSnapshotError, PgSnapshot};

pub(crate) use chunk::{put_snapshot, read_snapshot};
pub(crate) use door::{Door, ReadFailure};
pub(crate) use loading::{LoadFailure, Loading};

use crate::words::Lsn;
use std::sync::Arc;

/// The initial rows of a shape, complete and durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub(crate) shown: Arc<PgSnapshot>,
    pub(crate) taken_at: Lsn,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// The files that hold it, but for their numbers: no two attempts have the same.
    pub(crate) attempt: u64,
    pub(crate) chunks: u32,
}

impl Snapshot {
    /// What of Postgres's transactions the rows show.
    pub fn shown(&self) -> &PgSnapshot {
        &self.shown
    }

    /// Where the WAL ended when they were read: all that they show was committed below.
    pub fn taken_at(&self) -> Lsn {
        self.taken_at
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The bytes of their values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the rows show the transaction `xid`, which commits at `commit`: then it is not
    /// delivered again. From where the rows were read on nothing is in them; so it does not matter
    /// that numbers of transactions come again after 2^32.
    pub(crate) fn hides(&self, commit: Lsn, xid: u32) -> bool {
        commit < self.taken_at && self.shown.shows(xid)
    }
}

/// Whether a shape is given initial rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Initial {
    /// It is not: it begins with its log.
    #[default]
    None,
    /// It is, and they are not complete. Until then its changes are logged and that is all.
    Awaited,
    /// It has them.
    Complete(Arc<Snapshot>),
}

impl Initial {
    pub(crate) fn is_awaited(&self) -> bool {
        *self == Initial::Awaited
    }

    pub(crate) fn complete(&self) -> Option<&Arc<Snapshot>> {
        match self {
            Initial::Complete(snapshot) => Some(snapshot),
            Initial::None | Initial::Awaited => None,
        }
    }
}

#[cfg(test)]
mod tests;
