//! Source: where a run's transactions come from. It owns the publisher, writes until the schedule
//! ends, tells the others what is out, and knows in the end what was committed.
//!
//! [`open`] is the one place that knows which sources there are.

#[cfg(feature = "postgres")]
mod postgres;
mod schedule;
mod synthetic;

#[cfg(feature = "postgres")]
pub(crate) use postgres::PostgresFailure;
pub(crate) use schedule::Schedule;

use crate::cli::SourceArg;
use crate::config::Config;
use crate::progress::Progress;
use crate::report::PostgresReport;
use crate::run::RunError;
use crate::verify::{Findings, Oracle};
use crate::watch::Published;
use crate::workload::History;
use std::sync::Arc;
use walfan::{Engine, Publisher};

/// What a source is given for its run.
pub(crate) struct Pipe {
    pub(crate) engine: Arc<Engine>,
    pub(crate) schedule: Schedule,
    pub(crate) published: Arc<Published>,
}

/// What a source leaves behind.
pub(crate) struct Closed {
    pub(crate) publisher: Publisher,
    /// Where the changes came from a server.
    pub(crate) postgres: Option<PostgresReport>,
}

/// Brings a run's transactions into an engine.
pub(crate) trait Source: Send {
    /// Takes the publisher and makes the scenario's table known to the engine. Comes before the
    /// shapes.
    fn connect(&mut self, engine: &Arc<Engine>, publisher: Publisher) -> Result<(), RunError>;

    /// Writes transactions until the schedule ends, or an error, and says what was committed. Runs
    /// on a thread of its own. The publisher stays alive, because dropping it may end the engine's
    /// stream before the run has drained.
    fn run(&mut self, pipe: &Pipe) -> Result<History, RunError>;

    /// Checks its own side of a drained run, and gives the publisher back.
    fn close(
        self: Box<Self>,
        oracle: &Oracle,
        progress: &Progress,
        findings: &mut Findings,
    ) -> Result<Closed, RunError>;
}

/// The source that the command line named.
pub(crate) fn open(config: &Config, progress: &Progress) -> Result<Box<dyn Source>, RunError> {
    match &config.source {
        SourceArg::Synthetic => Ok(Box::new(synthetic::Synthetic::new(config))),
        #[cfg(feature = "postgres")]
        SourceArg::Postgres(address) => {
            progress.phase("starting Postgres", 1);
            Ok(Box::new(postgres::Postgres::open(config, address.as_deref())?))
        }
        #[cfg(not(feature = "postgres"))]
        SourceArg::Postgres(_) => {
            progress.done();
            Err(RunError::NoPostgres)
        }
    }
}
