//! Floor: raises the engine's acknowledgement floor (R13) on a thread where a slow disk holds up
//! nobody: the timer that sends status updates goes on with what is durable (INV6).

use super::error::PostgresError;
use crate::engine::Engine;
use crate::words::Lsn;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The floor, as far as this source has raised it.
pub(super) struct Floor {
    engine: Arc<Engine>,
    raised: Lsn,
    raising: Option<JoinHandle<Result<Lsn, PostgresError>>>,
}

impl Floor {
    /// `raised` is durable already, or was acknowledged by somebody else.
    pub(super) fn new(engine: Arc<Engine>, raised: Lsn) -> Floor {
        Floor { engine, raised, raising: None }
    }

    /// What the server may be told.
    pub(super) fn raised(&self) -> Lsn {
        self.raised
    }

    /// Whether a raise is under way.
    pub(super) fn is_raising(&self) -> bool {
        self.raising.is_some()
    }

    /// Starts to raise the floor to `lsn`, unless it is there or a raise is under way.
    pub(super) fn want(&mut self, lsn: Lsn) {
        if lsn <= self.raised || self.is_raising() {
            return;
        }
        let engine = Arc::clone(&self.engine);
        let raise = move || match engine.raise_floor(lsn) {
            Ok(()) => Ok(lsn),
            Err(error) => Err(PostgresError::Engine { cause: error.to_string() }),
        };
        self.raising = Some(tokio::task::spawn_blocking(raise));
    }

    /// Waits for the raise under way. Nothing is lost when the wait is given up.
    pub(super) async fn finished(&mut self) -> Result<(), PostgresError> {
        let Some(raising) = &mut self.raising else { return Ok(()) };
        let outcome = raising.await;
        self.raising = None;
        let thread = |error: tokio::task::JoinError| PostgresError::Thread {
            cause: format!("raising the floor: {error}"),
        };
        self.raised = outcome.map_err(thread)??;
        Ok(())
    }
}
