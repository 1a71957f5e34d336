//! Schedule: when each transaction is to be sent. In open loop that is a pure function of its
//! number, so that a source which falls behind is late against it and every latency shows it.

use crate::cli::Rate;
use crate::scenario::Scenario;

/// In the crash scenario the first transactions of each stretch of this many come at once, so that
/// mailboxes hold more than one message also at low rates.
const BURST_EVERY: u64 = 16;
/// How many come at once.
const BURST: u64 = 4;

/// See the file's head. Times are microseconds of the run's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start_us: u64,
    /// From when on is measured.
    pub(crate) measure_us: u64,
    /// When the last transaction is sent.
    pub(crate) end_us: u64,
    interval_us: Option<f64>,
    bursts: bool,
}

impl Schedule {
    /// A schedule that starts at `start_us`.
    pub(crate) fn new(
        start_us: u64,
        warmup_us: u64,
        duration_us: u64,
        rate: Rate,
        scenario: Scenario,
    ) -> Schedule {
        let measure_us = start_us + warmup_us;
        let interval_us = match rate {
            Rate::Max => None,
            Rate::PerSecond(rate) => Some(1e6 / rate),
        };
        Schedule {
            start_us,
            measure_us,
            end_us: measure_us + duration_us,
            interval_us,
            bursts: scenario == Scenario::Crash,
        }
    }

    /// When transaction number `transaction` is to be sent; `None` at rate max.
    pub(crate) fn intended_us(&self, transaction: u64) -> Option<u64> {
        let interval_us = self.interval_us?;
        let place = transaction % BURST_EVERY;
        let together = if self.bursts && place < BURST { place } else { 0 };
        Some(self.start_us + ((transaction - together) as f64 * interval_us) as u64)
    }

    /// Whether latencies count from intended send times.
    pub(crate) fn is_open_loop(&self) -> bool {
        self.interval_us.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_keeps_its_rate_whether_it_comes_in_bursts_or_not() {
        let rate = Rate::PerSecond(1_000.0);
        let even = Schedule::new(500, 0, 1, rate, Scenario::Fanout);
        let bursts = Schedule::new(500, 0, 1, rate, Scenario::Crash);
        assert_eq!(even.intended_us(0), Some(500));
        assert_eq!(even.intended_us(19), Some(19_500));
        let times: Vec<_> = (16..22).filter_map(|n| bursts.intended_us(n)).collect();
        assert_eq!(times, [16_500, 16_500, 16_500, 16_500, 20_500, 21_500]);
        let max = Schedule::new(500, 0, 1, Rate::Max, Scenario::Crash);
        assert_eq!(max.intended_us(3), None);
    }
}
