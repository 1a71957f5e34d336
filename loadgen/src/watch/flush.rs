//! Flush watch: sees every move of the flushed LSN. From it come the latency from publish to
//! flushed, the lag, and the longest stretch without a move while something published waits.
//!
//! Where LSNs are a server's, moves are only noted while the load runs; what they say comes out
//! when the history of commits is known.

use super::published::Published;
use crate::latency::Latency;
use crate::source::Schedule;
use crate::workload::{Commit, Numbering, Workload, commits_through};
use std::sync::Arc;
use std::time::Duration;
use walfan::{Engine, Lsn, WaitError};

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

/// A move of the flushed LSN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    at_us: u64,
    flushed: Lsn,
}

/// What the watch brings home.
#[derive(Debug)]
pub(crate) enum FlushSeen {
    Report(Box<FlushReport>),
    /// What happened, to be read with the history of commits.
    Moves(Vec<Move>),
}

impl FlushSeen {
    /// The report, where `commits` is what was committed.
    pub(crate) fn report(self, schedule: Schedule, commits: &[Commit]) -> FlushReport {
        let moves = match self {
            FlushSeen::Report(report) => return *report,
            FlushSeen::Moves(moves) => moves,
        };
        let mut tally = Tally::new(schedule, 0);
        for Move { at_us, flushed } in moves {
            let flushed = commits_through(commits, flushed);
            let commit = |number: u64| commits[number as usize];
            let intended = |number| schedule.intended_us(commit(number).transaction);
            tally.look(at_us, flushed, flushed, |number| commit(number).sent_us, intended);
        }
        tally.report
    }
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
    fn new(schedule: Schedule, moved_us: u64) -> Tally {
        Tally { schedule, flushed: 0, moved_us, report: FlushReport::default() }
    }

    /// Takes a look at `now_us`: `count` commits are published, `flushed` are flushed. Commits are
    /// asked by their place: when they were sent, and were to be.
    fn look(
        &mut self,
        now_us: u64,
        count: u64,
        flushed: u64,
        sent_us: impl Fn(u64) -> u64,
        intended_us: impl Fn(u64) -> Option<u64>,
    ) {
        let moved = flushed > self.flushed;
        if moved || count > self.flushed {
            let first_us = sent_us(self.flushed);
            if now_us >= self.schedule.measure_us {
                // What happened before the measurement is not in it.
                let still_since = self.moved_us.max(first_us).max(self.schedule.measure_us);
                let still_us = now_us.saturating_sub(still_since);
                self.report.stalled_us_max = self.report.stalled_us_max.max(still_us);
                let from_us = intended_us(self.flushed).unwrap_or(first_us);
                if from_us >= self.schedule.measure_us {
                    let lag_us = now_us.saturating_sub(from_us);
                    self.report.lag_us_max = self.report.lag_us_max.max(lag_us);
                }
            }
        }
        if moved {
            for commit in self.flushed..flushed {
                let intended_us = intended_us(commit);
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
    pub(crate) numbering: Numbering,
}

impl FlushWatch {
    /// Watches until the run has drained.
    pub(crate) fn run(self) -> FlushSeen {
        match self.numbering {
            Numbering::ByLsn => FlushSeen::Report(Box::new(self.tally())),
            Numbering::InRows => FlushSeen::Moves(self.moves()),
        }
    }

    fn moves(self) -> Vec<Move> {
        let (clock, mut moves) = (self.published.clock(), Vec::new());
        let mut last = self.engine.flushed_lsn();
        loop {
            let ended = self.published.has_ended();
            let flushed = match self.engine.wait_flushed(Lsn::new(last.as_u64() + 1), LOOK) {
                Ok(flushed) => flushed,
                Err(WaitError::TimedOut { flushed, .. }) => flushed,
                // See `tally`.
                Err(_) => return moves,
            };
            if flushed > last {
                moves.push(Move { at_us: clock.now_us(), flushed });
                last = flushed;
            }
            if ended {
                return moves;
            }
        }
    }

    fn tally(self) -> FlushReport {
        let clock = self.published.clock();
        let schedule = self.schedule;
        let mut tally = Tally::new(schedule, clock.now_us());
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
            let sent_us = |n| self.published.sent_us(n);
            tally.look(clock.now_us(), count, flushed, sent_us, |n| schedule.intended_us(n));
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

    fn schedule() -> Schedule {
        Schedule::new(0, 0, 1_000_000, Rate::PerSecond(1_000.0), Scenario::Fanout)
    }

    /// A tally, and what takes a look with it.
    fn look(
        tally: &mut Tally,
        now_us: u64,
        count: u64,
        flushed: u64,
        sent_us: impl Fn(u64) -> u64,
    ) {
        tally.look(now_us, count, flushed, sent_us, |n| schedule().intended_us(n));
    }

    #[test]
    fn silence_is_a_stall_only_while_something_published_waits() {
        let mut tally = Tally::new(schedule(), 0);
        // Nothing is published for 50 ms.
        look(&mut tally, 50_000, 0, 0, |_| 0);
        assert_eq!(tally.report.stalled_us_max, 0);
        // Transaction 0 was published at 50 ms and is flushed at 53.
        look(&mut tally, 53_000, 1, 1, |_| 50_000);
        assert_eq!(tally.report.stalled_us_max, 3_000);
        // Nobody waits again until 90 ms; the next one is still not flushed at 99.
        look(&mut tally, 90_000, 1, 1, |_| unreachable!());
        look(&mut tally, 99_000, 2, 1, |_| 90_000);
        assert_eq!(tally.report.stalled_us_max, 9_000);
    }

    #[test]
    fn latency_and_lag_count_from_the_intended_time_also_when_the_source_is_late() {
        let mut tally = Tally::new(schedule(), 0);
        // Transactions 0 and 1 are due at 0 and 1 ms, but were sent at 20 ms.
        look(&mut tally, 21_000, 2, 2, |_| 20_000);
        let latency = tally.report.latency.summary().unwrap();
        assert_eq!(latency.count, 2);
        assert!(latency.max >= 21_000);
        assert_eq!(tally.report.lag_us_max, 21_000);
        assert_eq!(tally.report.stalled_us_max, 1_000);
    }

    #[test]
    fn moves_are_read_with_the_history_of_commits() {
        // Number 1 was committed before number 0.
        let commit = |lsn, transaction, sent_us| {
            let lsn = Lsn::new(lsn);
            Commit { lsn, transaction, sent_us, changes_before: 0 }
        };
        let commits = [commit(70, 1, 2_000), commit(90, 0, 1_000)];
        let moves = [(4_000, 70), (9_000, 95)];
        let moves = moves.map(|(at_us, lsn)| Move { at_us, flushed: Lsn::new(lsn) });
        let report = FlushSeen::Moves(moves.to_vec()).report(schedule(), &commits);
        let latency = report.latency.summary().unwrap();
        // Due at 1 ms and at 0 ms, flushed at 4 and at 9.
        assert_eq!((latency.count, report.lag_us_max), (2, 9_000));
        assert_eq!(report.stalled_us_max, 5_000);
    }
}
