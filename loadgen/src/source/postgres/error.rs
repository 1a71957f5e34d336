//! What keeps a run from using a Postgres server.

use std::io;
use walfan::PostgresError;

/// See the file's head.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PostgresFailure {
    #[error("a Postgres server for this run cannot be started: {0}")]
    Start(io::Error),
    #[error("cannot connect to Postgres: {cause}; check the address given to --source")]
    Connect { cause: String },
    #[error("Postgres refused to {what}: {cause}")]
    Statement { what: &'static str, cause: String },
    #[error("Postgres was asked to {what}, and its answer cannot be read: {answer:?}")]
    Answer { what: &'static str, answer: String },
    #[error(
        "this server has {found} already, of a run that was cut off or is under way; when none is, \
         run: {remedy}"
    )]
    Leftovers { found: String, remedy: String },
    #[error("the engine's Postgres source: {0}")]
    Source(#[from] PostgresError),
    #[error("a thread that writes into Postgres panicked")]
    Panicked,
}
