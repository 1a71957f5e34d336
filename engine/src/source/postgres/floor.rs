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

#[cfg(test)]
mod tests {
    use super::*;

    /// R13: the server is told of nothing above a floor that is durable here.
    #[test]
    fn r13_what_is_told_waits_for_the_floor() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let (engine, _publisher) = Engine::builder().directory(dir.path()).start().unwrap();
            let engine = Arc::new(engine);
            let mut floor = Floor::new(Arc::clone(&engine), Lsn::new(2));
            floor.want(Lsn::new(5));
            assert_eq!((floor.raised(), floor.is_raising()), (Lsn::new(2), true));
            // One raise at a time, and what was told stays told.
            floor.want(Lsn::new(9));
            floor.finished().await.unwrap();
            assert_eq!((floor.raised(), engine.floor()), (Lsn::new(5), Lsn::new(5)));
            floor.want(Lsn::new(4));
            assert!(!floor.is_raising(), "a lower one is covered");
        });
    }
}
