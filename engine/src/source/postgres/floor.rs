//! Floor: raises the engine's acknowledgement floor (R13) on a thread where a slow disk holds up
//! nobody: the timer that sends status updates goes on with what is durable (INV6).

use super::error::PostgresError;
use crate::engine::{Engine, FloorRaiseError, RaisedFloor};
use crate::words::Lsn;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// A raise that is under way.
type Raising = JoinHandle<Result<RaisedFloor, PostgresError>>;

/// The floor, as far as this source has raised it.
pub(super) struct Floor {
    engine: Arc<Engine>,
    raised: RaisedFloor,
    raising: Option<Raising>,
}

impl Floor {
    /// Raises the floor to `lsn`, of which the server knows, before anything else is told.
    pub(super) async fn raised_to(lsn: Lsn, engine: Arc<Engine>) -> Result<Floor, PostgresError> {
        let raised = outcome(&mut raise(&engine, lsn)).await?;
        Ok(Floor { engine, raised, raising: None })
    }

    /// What the server may be told.
    pub(super) fn raised(&self) -> RaisedFloor {
        self.raised
    }

    /// Whether a raise is under way.
    pub(super) fn is_raising(&self) -> bool {
        self.raising.is_some()
    }

    /// Starts to raise the floor to `lsn`, unless it is there or a raise is under way.
    pub(super) fn want(&mut self, lsn: Lsn) {
        if lsn > self.raised.lsn() && !self.is_raising() {
            self.raising = Some(raise(&self.engine, lsn));
        }
    }

    /// Waits for the raise under way. Nothing is lost when the wait is given up.
    pub(super) async fn finished(&mut self) -> Result<(), PostgresError> {
        let Some(raising) = &mut self.raising else { return Ok(()) };
        let outcome = outcome(raising).await;
        self.raising = None;
        self.raised = outcome?;
        Ok(())
    }
}

fn raise(engine: &Arc<Engine>, lsn: Lsn) -> Raising {
    let engine = Arc::clone(engine);
    let failed = |error: FloorRaiseError| PostgresError::Engine { cause: error.to_string() };
    tokio::task::spawn_blocking(move || engine.raise_floor(lsn).map_err(failed))
}

async fn outcome(raising: &mut Raising) -> Result<RaisedFloor, PostgresError> {
    let thread = |error| PostgresError::Thread { cause: format!("raising the floor: {error}") };
    raising.await.map_err(thread)?
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
            let mut floor = Floor::raised_to(Lsn::new(2), Arc::clone(&engine)).await.unwrap();
            assert_eq!((floor.raised().lsn(), engine.floor()), (Lsn::new(2), Lsn::new(2)));
            floor.want(Lsn::new(5));
            assert_eq!((floor.raised().lsn(), floor.is_raising()), (Lsn::new(2), true));
            // One raise at a time, and what was told stays told.
            floor.want(Lsn::new(9));
            floor.finished().await.unwrap();
            assert_eq!((floor.raised().lsn(), engine.floor()), (Lsn::new(5), Lsn::new(5)));
            floor.want(Lsn::new(4));
            assert!(!floor.is_raising(), "a lower one is covered");
        });
    }
}
