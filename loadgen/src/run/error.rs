//! What a run fails with.

#[cfg(feature = "postgres")]
use crate::source::PostgresFailure;
use crate::store::StoreError;
use std::io;
use std::path::PathBuf;
use walfan::FragmentError;

/// See the file's head.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RunError {
    #[cfg(not(feature = "postgres"))]
    #[error(
        "this loadgen has no Postgres source: build it with `--features postgres`, or give \
         --source synthetic"
    )]
    NoPostgres,
    #[error(
        "crash has nobody to kill with --consumers log: give --consumers mailbox or inline, or run \
         fanout"
    )]
    NothingToKill,
    #[error(
        "--mixed and --stop go by shapes that all changes match: give fanout or crash, --consumers \
         mailbox, --ack consumer and --source synthetic"
    )]
    NotForAll,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a transaction could not be built: {0}")]
    Fragment(#[from] FragmentError),
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] PostgresFailure),
    #[error("the source was not connected to an engine")]
    NotConnected,
    #[error("the engine: {0}")]
    Engine(String),
    #[error("{waited_s} s passed without progress while {what}")]
    Stuck { what: String, waited_s: u64 },
    #[error("nothing was published: give a longer --duration or a higher --rate")]
    Nothing,
    #[error("a thread of loadgen could not be started: {0}")]
    Thread(io::Error),
    #[error("the thread {0} panicked")]
    Panicked(&'static str),
    #[error("cannot write {path}: {error}")]
    Write { path: PathBuf, error: io::Error },
    #[error("the report could not be made: {0}")]
    Report(String),
    #[error("chaos needs a disk: give --store a directory")]
    NoDirectory,
    #[error(
        "violation in the round with seed {seed} ({kind}): {what}\n  what it left behind: \
         {kept}\n  to repeat it: {repeat}"
    )]
    Chaos { seed: u64, kind: &'static str, what: String, repeat: String, kept: String },
    #[error("the run failed its verification, so there are no figures:\n{0}")]
    Verification(String),
}

impl RunError {
    /// The engine said `error`.
    pub(crate) fn engine(error: impl std::fmt::Display) -> RunError {
        RunError::Engine(error.to_string())
    }
}
