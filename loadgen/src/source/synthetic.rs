//! Synthetic source: publishes the workload, in open loop at a rate, or with a window of
//! transactions in flight.

use super::{Pipe, Source};
use crate::config::Config;
use crate::run::RunError;
use crate::workload::{RowWriter, Workload};
use std::time::Duration;
use walfan::{Engine, Publisher, WaitError};

/// How long to wait for a window to open before the clock is looked at again.
const WINDOW_WAIT: Duration = Duration::from_millis(20);
/// What a sleep leaves to spinning: a sleeping thread wakes about this late.
const SPIN: Duration = Duration::from_micros(120);

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Synthetic {
    writer: RowWriter,
    window: u64,
}

impl Synthetic {
    pub(crate) fn new(config: &Config) -> Synthetic {
        let writer = RowWriter::new(config.workload(), Workload::relation());
        Synthetic { writer, window: config.window }
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
    fn run(self: Box<Self>, mut pipe: Pipe) -> Result<Publisher, RunError> {
        let mut flushed = 0;
        let mut next = 0;
        while self.wait(&pipe, next, &mut flushed)? {
            pipe.published.sends(next);
            self.writer.write(next, |fragment| {
                let sent = pipe.publisher.publish(fragment);
                sent.map_err(|error| RunError::Engine(error.to_string()))
            })?;
            next += 1;
            pipe.published.sent(next);
        }
        Ok(pipe.publisher)
    }
}
