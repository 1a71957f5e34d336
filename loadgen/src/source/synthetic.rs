//! Synthetic source: publishes the workload, in open loop at a rate, or with a window of
//! transactions in flight.

use super::{Closed, Pipe, Source};
use crate::config::Config;
use crate::progress::Progress;
use crate::run::RunError;
use crate::verify::{Findings, Oracle};
use crate::workload::{History, RowWriter, Workload};
use std::sync::Arc;
use std::time::Duration;
use walfan::{Engine, Publisher, WaitError};

/// How long to wait for a window to open before the clock is looked at again.
const WINDOW_WAIT: Duration = Duration::from_millis(20);
/// What a sleep leaves to spinning: a sleeping thread wakes about this late.
const SPIN: Duration = Duration::from_micros(120);

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Synthetic {
    workload: Workload,
    writer: RowWriter,
    window: u64,
    publisher: Option<Publisher>,
}

impl Synthetic {
    pub(crate) fn new(config: &Config) -> Synthetic {
        let workload = config.workload();
        let writer = RowWriter::new(workload.clone(), Workload::relation());
        Synthetic { workload, writer, window: config.window, publisher: None }
    }

    /// Waits until transaction `next` may go; false when the schedule has ended before.
    fn wait(&self, pipe: &Pipe, next: u64, flushed: &mut u64) -> Result<bool, RunError> {
        let clock = pipe.published.clock();
        let Some(intended_us) = pipe.schedule.intended_us(next) else {
            while next >= *flushed + self.window {
                *flushed = wait_flushed(&pipe.engine, next - self.window)?;
                if clock.now_us() >= pipe.schedule.end_us {
                    return Ok(false);
                }
            }
            return Ok(clock.now_us() < pipe.schedule.end_us);
        };
        if intended_us >= pipe.schedule.end_us {
            return Ok(false);
        }
        while let Some(left) = clock.until(intended_us) {
            match left.checked_sub(SPIN) {
                Some(sleep) if !sleep.is_zero() => std::thread::sleep(sleep),
                _ => std::hint::spin_loop(),
            }
        }
        Ok(true)
    }
}

/// Waits a little for transaction number `transaction`, and says how many are flushed.
fn wait_flushed(engine: &Engine, transaction: u64) -> Result<u64, RunError> {
    let flushed = match engine.wait_flushed(Workload::lsn(transaction), WINDOW_WAIT) {
        Ok(flushed) => flushed,
        Err(WaitError::TimedOut { flushed, .. }) => flushed,
        Err(error) => return Err(RunError::Engine(error.to_string())),
    };
    Ok(Workload::transactions_through(flushed))
}

impl Source for Synthetic {
    fn connect(&mut self, engine: &Arc<Engine>, publisher: Publisher) -> Result<(), RunError> {
        engine.learn(Workload::relation());
        self.publisher = Some(publisher);
        Ok(())
    }

    fn run(&mut self, pipe: &Pipe) -> Result<History, RunError> {
        let mut publisher = self.publisher.take().ok_or(RunError::NotConnected)?;
        let mut flushed = 0;
        let mut next = 0;
        while self.wait(pipe, next, &mut flushed)? {
            pipe.published.sends(next);
            self.writer
                .write(next, |fragment| publisher.publish(fragment).map_err(RunError::engine))?;
            next += 1;
            pipe.published.sent(next);
        }
        self.publisher = Some(publisher);
        Ok(History::numbered(&self.workload, next))
    }

    fn close(
        self: Box<Self>,
        _: &Oracle,
        _: &Progress,
        _: &mut Findings,
    ) -> Result<Closed, RunError> {
        let publisher = self.publisher.ok_or(RunError::NotConnected)?;
        Ok(Closed { publisher, postgres: None })
    }
}
