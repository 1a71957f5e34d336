//! Source: where a run's transactions come from. It owns the publisher, publishes until the
//! schedule ends, and tells the others what is out.
//!
//! [`open`] is the one place that knows which sources there are.

mod schedule;
mod synthetic;

pub(crate) use schedule::Schedule;

use crate::cli::SourceArg;
use crate::config::Config;
use crate::run::RunError;
use crate::watch::Published;
use std::sync::Arc;
use walfan::{Engine, Publisher};

/// What a source is given.
pub(crate) struct Pipe {
    pub(crate) engine: Arc<Engine>,
    pub(crate) publisher: Publisher,
    pub(crate) schedule: Schedule,
    pub(crate) published: Arc<Published>,
}

/// Publishes a run's transactions, on a thread of its own.
pub(crate) trait Source: Send {
    /// Runs until the schedule ends, or an error. The publisher comes back alive, because dropping
    /// it may end the engine's stream before the run has drained.
    fn run(self: Box<Self>, pipe: Pipe) -> Result<Publisher, RunError>;
}

/// The source that the command line named.
pub(crate) fn open(config: &Config) -> Result<Box<dyn Source>, RunError> {
    match &config.source {
        SourceArg::Synthetic => Ok(Box::new(synthetic::Synthetic::new(config))),
        SourceArg::Postgres(_) => Err(RunError::NoPostgres),
    }
}
