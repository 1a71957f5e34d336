//! Flush watch: sees every move of the flushed LSN. From it come the latency from publish to
//! flushed, the lag, and the longest stretch without a move while something published waits.

use super::published::Published;
use crate::latency::Latency;
use crate::source::Schedule;
use crate::workload::Workload;
use std::sync::Arc;
use std::time::Duration;
use walfan::{Engine, WaitError};

/// How long it waits for a move before it looks at the clock.
const LOOK: Duration = Duration::from_millis(2);

/// What the watch has seen.
#[derive(Debug, Default)]
pub(crate) struct FlushReport {
    /// From the intended send time; empty at rate max.
    pub(crate) latency: Latency,
    /// The greatest age of a transaction that was published and not flushed.
    pub(crate) lag_us_max: u64,
    /// The longest stretch without a move while something published was not flushed.
    pub(crate) stalled_us_max: u64,
}

/// The arithmetic of the watch, without its thread.
#[derive(Debug)]
struct Tally {
    schedule: Schedule,
    /// Transactions flushed, so the number of the first that is not.
    flushed: u64,
    moved_us: u64,
    report: FlushReport,
}

impl Tally {
    /// Takes a look at `now_us`: `count` transactions are published, `flushed` are flushed.
    fn look(&mut self, now_us: u64, count: u64, flushed: u64, sent_us: impl Fn(u64) -> u64) {
        let moved = flushed > self.flushed;
        if moved || count > self.flushed {
            let first_us = sent_us(self.flushed);
            if now_us >= self.schedule.measure_us {
                // What happened before the measurement is not in it.
                let still_since = self.moved_us.max(first_us).max(self.schedule.measure_us);
                let still_us = now_us.saturating_sub(still_since);
                self.report.stalled_us_max = self.report.stalled_us_max.max(still_us);
                let from_us = self.schedule.intended_us(self.flushed).unwrap_or(first_us);
                if from_us >= self.schedule.measure_us {
                    let lag_us = now_us.saturating_sub(from_us);
                    self.report.lag_us_max = self.report.lag_us_max.max(lag_us);
                }
            }
        }
        if moved {
            for transaction in self.flushed..flushed {
                let intended_us = self.schedule.intended_us(transaction);
                if let Some(from_us) = intended_us.filter(|us| *us >= self.schedule.measure_us) {
                    self.report.latency.record(now_us.saturating_sub(from_us));
                }
            }
            self.flushed = flushed;
            self.moved_us = now_us;
        }
    }
}

/// See the file's head.
pub(crate) struct FlushWatch {
    pub(crate) engine: Arc<Engine>,
    pub(crate) published: Arc<Published>,
    pub(crate) schedule: Schedule,
}

impl FlushWatch {
    /// Watches until the run has drained.
    pub(crate) fn run(self) -> FlushReport {
        let clock = self.published.clock();
        let moved_us = clock.now_us();
        let report = FlushReport::default();
        let mut tally = Tally { schedule: self.schedule, flushed: 0, moved_us, report };
        loop {
            let ended = self.published.has_ended();
            let flushed = match self.engine.wait_flushed(Workload::lsn(tally.flushed), LOOK) {
                Ok(flushed) => flushed,
                Err(WaitError::TimedOut { flushed, .. }) => flushed,
                // Who drains the run hears of it too, and says so.
                Err(_) => return tally.report,
            };
            let flushed = Workload::transactions_through(flushed);
            let count = self.published.count();
            tally.look(clock.now_us(), count, flushed, |n| self.published.sent_us(n));
            if ended {
                return tally.report;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Rate;
    use crate::scenario::Scenario;

    fn tally() -> Tally {
        let rate = Rate::PerSecond(1_000.0);
        let schedule = Schedule::new(0, 0, 1_000_000, rate, Scenario::Fanout);
        Tally { schedule, flushed: 0, moved_us: 0, report: FlushReport::default() }
    }

    #[test]
    fn silence_is_a_stall_only_while_something_published_waits() {
        let mut tally = tally();
        // Nothing is published for 50 ms.
        tally.look(50_000, 0, 0, |_| 0);
        assert_eq!(tally.report.stalled_us_max, 0);
        // Transaction 0 was published at 50 ms and is flushed at 53.
        tally.look(53_000, 1, 1, |_| 50_000);
        assert_eq!(tally.report.stalled_us_max, 3_000);
        // Nobody waits again until 90 ms; the next one is still not flushed at 99.
        tally.look(90_000, 1, 1, |_| unreachable!());
        tally.look(99_000, 2, 1, |_| 90_000);
        assert_eq!(tally.report.stalled_us_max, 9_000);
    }

    #[test]
    fn latency_and_lag_count_from_the_intended_time_also_when_the_source_is_late() {
        let mut tally = tally();
        // Transactions 0 and 1 are due at 0 and 1 ms, but were sent at 20 ms.
        tally.look(21_000, 2, 2, |_| 20_000);
        let latency = tally.report.latency.summary().unwrap();
        assert_eq!(latency.count, 2);
        assert!(latency.max >= 21_000);
        assert_eq!(tally.report.lag_us_max, 21_000);
        assert_eq!(tally.report.stalled_us_max, 1_000);
    }
}
