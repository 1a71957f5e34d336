//! Publish: the thread that sends a life's transactions, with a window of those that are not
//! flushed. The main thread watches.

use super::life::{Alive, spawn};
use super::said::{Said, say};
use crate::workload::{RowWriter, Workload};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use walfan::{Engine, Fragment, FragmentError, PublishError, Publisher, WaitError};

/// How long a window is waited for in one go.
const WAIT: Duration = Duration::from_millis(20);
/// Of so many transactions one is told.
const TELL_EVERY: u64 = 32;

/// See the file's head.
pub(super) struct Publishing {
    thread: JoinHandle<Result<Publisher, Broken>>,
}

/// Why publishing has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Wait(#[from] WaitError),
    #[error(transparent)]
    Fragment(#[from] FragmentError),
}

impl Publishing {
    /// Publishes for as long as the engine takes it.
    pub(super) fn start(
        alive: &Alive,
        publisher: Publisher,
        window: u64,
    ) -> Result<Publishing, String> {
        Publishing::through(alive, publisher, window, u64::MAX)
    }

    /// Publishes the transactions below `end`.
    pub(super) fn through(
        alive: &Alive,
        mut publisher: Publisher,
        window: u64,
        end: u64,
    ) -> Result<Publishing, String> {
        let (engine, first) = (Arc::clone(&alive.engine), alive.first());
        let workload = alive.plan.workload();
        let wedge_after = Workload::lsn(first + window.min(16));
        alive.crowd.wedge_after(wedge_after);
        let thread = spawn("loadgen-source", move || {
            let writer = RowWriter::new(workload, Workload::relation());
            for transaction in first..end {
                await_window(&engine, transaction, window)?;
                writer.write(transaction, |fragment: Fragment| -> Result<(), Broken> {
                    Ok(publisher.publish(fragment)?)
                })?;
                let transactions = transaction + 1;
                if transactions.is_multiple_of(TELL_EVERY) || transactions == end {
                    say(&Said::Published { transactions });
                }
            }
            Ok(publisher)
        })?;
        Ok(Publishing { thread })
    }

    pub(super) fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// The publisher, when all is published.
    pub(super) fn join(self) -> Result<Publisher, String> {
        let joined = self.thread.join().map_err(|_| "the publishing thread panicked".to_owned())?;
        joined.map_err(|error| format!("publishing: {error}"))
    }
}

fn await_window(engine: &Engine, transaction: u64, window: u64) -> Result<(), WaitError> {
    let Some(oldest) = transaction.checked_sub(window) else { return Ok(()) };
    loop {
        match engine.wait_flushed(Workload::lsn(oldest), WAIT) {
            Ok(_) => return Ok(()),
            Err(WaitError::TimedOut { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}
