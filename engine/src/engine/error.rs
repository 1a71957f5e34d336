//! What can go wrong at the façade: one enum an operation, each variant with what to do.

use crate::control::Failure;
use crate::log::OpenError;
use crate::predicate::WhereError;
use crate::snapshot::SnapshotPosition;
use crate::words::{ColumnsError, Handle, Lsn, Offset, TableName};
use std::io;

/// An engine that cannot be started. Nothing in its directory was changed, except that a torn tail
/// may be cut.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of its range.
    #[error("{setting} is {found}, but must be {allowed}: set another value")]
    Setting {
        /// The builder's method.
        setting: &'static str,
        /// What was set.
        found: u64,
        /// What it may be.
        allowed: &'static str,
    },
    /// The directory cannot be opened.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// A shard's log cannot be read; the text names the file and what to do.
    #[error("shard {shard}: {cause}")]
    Log {
        /// The shard.
        shard: usize,
        /// What is wrong, where, and what to do.
        cause: String,
    },
    /// The catalog cannot be read or written.
    #[error("the catalog: {cause}")]
    Catalog {
        /// What is wrong, where, and what to do.
        cause: String,
    },
    /// The shapes' initial rows cannot be listed or read.
    #[error("the shapes' initial rows: {cause}")]
    Snapshots {
        /// What is wrong, where, and what to do.
        cause: String,
    },
    /// The acknowledgement floor cannot be read.
    #[error("the acknowledgement floor: {cause}")]
    Floor {
        /// What is wrong, where, and what to do.
        cause: String,
    },
    /// A shape of the directory does not compile any more.
    #[error(
        "shape {handle} of the directory is not understood: {source}; use the walfan that made it"
    )]
    Shape {
        /// The shape.
        handle: Handle,
        /// What is wrong with its definition.
        source: DefinitionError,
    },
    /// A thread cannot be started.
    #[error("starting thread {name} failed: {source}; raise the limit of threads")]
    Thread {
        /// Its name.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// What is wrong with a shape's definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// The WHERE clause is refused.
    #[error(transparent)]
    Where(#[from] WhereError),
    /// The list of columns is refused.
    #[error(transparent)]
    Columns(#[from] ColumnsError),
}

/// Shapes that were not added; none of the call's shapes exists.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// Nobody has announced the table.
    #[error("table {table} is unknown: announce it with Engine::learn before its shapes")]
    UnknownTable {
        /// The table.
        table: TableName,
    },
    /// The WHERE clause is refused.
    #[error("the shape {definition} is refused: {source}")]
    Where {
        /// The shape, as text.
        definition: String,
        /// What is wrong, and where.
        source: WhereError,
    },
    /// The list of columns is refused.
    #[error("the shape {definition} is refused: {source}")]
    Columns {
        /// The shape, as text.
        definition: String,
        /// What is wrong, and where.
        source: ColumnsError,
    },
    /// Where the stream is, the table is not as it was announced last: not any more, not yet, or it
    /// was announced anew while the shape was added.
    #[error(
        "table {table} was altered: add the shape again, and if the stream has no change of the \
         table in the form in which it was announced, announce it again with Engine::learn before"
    )]
    Altered {
        /// The table.
        table: TableName,
    },
    /// The shape's log alone would acknowledge, and it is only memory (R14).
    #[error(
        "the shape {definition} acknowledges when its log is durable, but the engine has only \
         memory and its source forgets what is acknowledged: start the engine with a directory, or \
         give the shape a consumer with Ack::Consumer"
    )]
    NotDurable {
        /// The shape, as text.
        definition: String,
    },
    /// Initial rows are kept in a directory, and the engine has only memory.
    #[error(
        "the shape {definition} is to be given initial rows, but the engine has only memory: start \
         it with a directory"
    )]
    NoDirectory {
        /// The shape, as text.
        definition: String,
    },
    /// A shard has given out all its slots.
    #[error("a shard has given out all of its 2^32 slots: start with a new directory")]
    SlotsExhausted,
    /// The engine has failed or stopped.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A shape that was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// There is no such shape: never was, removed, or invalidated.
    #[error("there is no shape {handle}: it was removed or invalidated, or never was")]
    Unknown {
        /// The handle.
        handle: Handle,
    },
    /// The engine has failed or stopped.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A position that was not flushed in time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// Time is up.
    #[error("flushed through {flushed}, and not through {lsn}, in the time given")]
    TimedOut {
        /// What was waited for.
        lsn: Lsn,
        /// Through where everything is flushed.
        flushed: Lsn,
    },
    /// The engine has failed or stopped.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A floor that was not raised, or whose server was not kept: the LSN must not be told to the
/// source, and nothing of that server published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FloorRaiseError {
    /// It cannot be made durable. The engine is poisoned.
    #[error("the acknowledgement floor cannot be made durable: {source}; see to the disk, restart")]
    Io {
        /// The system's reason.
        source: io::Error,
    },
    /// The engine has failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A shape's log that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such shape: its reader starts over with another one.
    #[error("there is no shape {handle}: it was removed or invalidated, start over with a new one")]
    Unknown {
        /// The handle.
        handle: Handle,
    },
    /// The log no longer holds what follows the offset.
    #[error("{after} was asked for, but the log holds only what follows {start}: start over")]
    BelowStart {
        /// What was asked for.
        after: Offset,
        /// Where the log begins.
        start: Offset,
    },
    /// The shape was added to be given initial rows, and they are not complete: what its log holds
    /// is not told from what they will hold.
    #[error("the initial rows of shape {handle} are not complete: read when they are")]
    SnapshotIncomplete {
        /// The handle.
        handle: Handle,
    },
    /// The shape has no initial rows: it begins with its log.
    #[error("shape {handle} was not added to be given initial rows: read its log")]
    NoSnapshot {
        /// The handle.
        handle: Handle,
    },
    /// There is no such row among the initial ones.
    #[error("shape {handle} has no initial row at {position:?}: go on where a page ended")]
    BeyondSnapshot {
        /// The handle.
        handle: Handle,
        /// What was asked for.
        position: SnapshotPosition,
    },
    /// The log, or the initial rows, cannot be read; the text names the file and what to do.
    #[error("{cause}")]
    Log {
        /// What is wrong, where, and what to do.
        cause: String,
    },
    /// There is nothing more, and nothing more will come: the engine has failed or stopped.
    #[error(transparent)]
    Failed(#[from] Failure),
}
