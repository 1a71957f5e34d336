//! Ledger: what the lives of one round have told so far, and what may therefore never be told any
//! more. It outlives every one of them, and asks the oracle, never the engine.

use super::journal::Journal;
use super::plan::{Plan, Role};
use super::said::Said;
use crate::consumer::{Prefix, trace};
use crate::verify::Oracle;
use crate::workload::{History, Workload};
use std::collections::BTreeSet;
use walfan::Lsn;

/// Shapes whose journal is compared after each life; at the end all are.
const LOOKED_AT: u32 = 48;

/// See the file's head. A violation is a sentence.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Whether each transaction matches every shape.
    matches_all: bool,
    /// The highest ever told, by any life.
    pub(super) flushed: u64,
    pub(super) confirmed: u64,
    pub(super) published: u64,
    /// What was durable in each shard when a life stopped in good order.
    stopped: Vec<u64>,
    /// Shapes that a life has told to be gone, that may be, and that must be at the next start.
    pub(super) gone: BTreeSet<u32>,
    pub(super) may_go: BTreeSet<u32>,
    passed: BTreeSet<u32>,
    /// Of the life that is heard.
    pub(super) life: Heard,
}

/// What the present life has told.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) opened: bool,
    /// Through which transaction, counted from the first one of all.
    pub(super) published: u64,
    pub(super) flushed: u64,
    pub(super) wedged: u64,
    pub(super) handles: Option<Vec<u64>>,
    pub(super) red: Option<String>,
    pub(super) refused: Option<String>,
    pub(super) failed: Option<String>,
    pub(super) stopped: Option<Stopped>,
    pub(super) settled: Option<(u64, u64, u64)>,
}

/// A stop in good order.
#[derive(Debug)]
pub(super) struct Stopped {
    pub(super) ms: u64,
    pub(super) flushed: Vec<u64>,
    pub(super) owing: u64,
    pub(super) wedged: Vec<String>,
}

impl Ledger {
    pub(super) fn new(plan: &Plan) -> Ledger {
        Ledger { matches_all: plan.scenario.matches_all(), ..Ledger::default() }
    }

    /// A new life begins.
    pub(super) fn begin(&mut self) {
        self.life = Heard::default();
    }

    /// Takes down what was said; an error is a violation.
    pub(super) fn take(&mut self, said: Said) -> Result<(), String> {
        match said {
            Said::Opened { floor, flushed, durable, missing } => {
                self.opened(floor, flushed, &durable, &missing)?;
            }
            Said::Refused { cause } => self.life.refused = Some(cause),
            Said::Added { handles } => self.life.handles = Some(handles),
            Said::Published { transactions } => {
                self.life.published = transactions;
                self.published = self.published.max(transactions);
            }
            Said::Flushed { lsn } => {
                if lsn < self.life.flushed {
                    let before = Lsn::new(self.life.flushed);
                    return Err(format!("flushed went back from {before} to {}", Lsn::new(lsn)));
                }
                self.life.flushed = lsn;
                self.flushed = self.flushed.max(lsn);
            }
            Said::Confirmed { lsn } => self.confirmed = self.confirmed.max(lsn),
            Said::Gone { shape, cause } => {
                if !self.may_go.contains(&shape) {
                    return Err(format!("shape {shape}, that did no wrong, is gone: {cause}"));
                }
                self.gone.insert(shape);
            }
            Said::Wedged { consumers } => self.life.wedged = self.life.wedged.max(consumers),
            Said::Red { cause } => self.life.red = Some(cause),
            Said::Failed { cause } => self.life.failed = Some(cause),
            Said::Wrong { what } => return Err(what),
            Said::Stopped { ms, durable, flushed, owing, wedged } => {
                self.stopped = durable;
                self.life.stopped = Some(Stopped { ms, flushed, owing, wedged });
            }
            Said::Settled { transactions, logs, changes } => {
                self.life.settled = Some((transactions, logs, changes));
            }
        }
        Ok(())
    }

    /// What a start finds, against all that was told before.
    fn opened(
        &mut self,
        floor: u64,
        flushed: u64,
        durable: &[u64],
        missing: &[u32],
    ) -> Result<(), String> {
        let text = |lsn| Lsn::new(lsn);
        if floor < self.confirmed {
            let (floor, told) = (text(floor), text(self.confirmed));
            return Err(format!("the floor is {floor}, but {told} was confirmed"));
        }
        let through = |lsn| Workload::transactions_through(Lsn::new(lsn));
        if through(flushed) < through(self.confirmed) {
            let (flushed, told) = (text(flushed), text(self.confirmed));
            return Err(format!("it starts with {flushed} flushed, but {told} was confirmed"));
        }
        for (shard, durable) in durable.iter().enumerate() {
            let told = self.flushed.max(self.stopped.get(shard).copied().unwrap_or(0));
            // Where a transaction may match nothing, a shard need not have it.
            if self.matches_all && *durable < told {
                let (durable, told) = (text(*durable), text(told));
                return Err(format!("shard {shard} has {durable}, but {told} was durable there"));
            }
        }
        if let Some(shape) = missing.iter().find(|shape| !self.may_go.contains(shape)) {
            return Err(format!("shape {shape} was not found again"));
        }
        if let Some(shape) = self.gone.iter().find(|shape| !missing.contains(shape)) {
            return Err(format!("shape {shape} was told to be gone, and is there again"));
        }
        if let Some(shape) = self.passed.iter().find(|shape| !missing.contains(shape)) {
            return Err(format!("shape {shape} was passed over, and is not invalidated (INV1)"));
        }
        self.gone.extend(missing);
        self.life.opened = true;
        self.life.flushed = flushed;
        Ok(())
    }

    /// The journal after a life, against what that life and those before have told (INV1): of a
    /// few shapes, or of all. `draw` chooses.
    pub(super) fn check_journal(
        &mut self,
        plan: &Plan,
        draw: u64,
        all: bool,
    ) -> Result<(), String> {
        let journal = Journal::open(&plan.journal).map_err(|error| error.to_string())?;
        let (step, first) = if all || plan.shapes <= LOOKED_AT {
            (1, 0)
        } else {
            let step = plan.shapes.div_ceil(LOOKED_AT);
            (step, (draw % u64::from(step)) as u32)
        };
        let mut prefixes = Vec::new();
        for shape in (first..plan.shapes).step_by(step as usize) {
            prefixes.push((shape, journal.read(shape).map_err(|error| error.to_string())?));
        }
        let highest = prefixes.iter().map(|(_, prefix)| prefix.through).max().unwrap_or_default();
        let end = Workload::transactions_through(highest.max(Lsn::new(self.flushed)));
        let oracle = Oracle::new(History::numbered(&plan.workload(), end));
        for (shape, prefix) in prefixes {
            self.check_prefix(&oracle, shape, prefix)?;
        }
        Ok(())
    }

    fn check_prefix(&mut self, oracle: &Oracle, shape: u32, prefix: Prefix) -> Result<(), String> {
        let (mut changes, mut traces) = (0, 0_u64);
        let mut walk = oracle.walk(shape);
        while let Some(expected) = walk.next(oracle) {
            let commit = expected.offset.commit;
            if commit <= prefix.through {
                changes += 1;
                traces = traces.wrapping_add(trace(expected.offset));
                continue;
            }
            let through = prefix.through;
            let passed = commit.as_u64() <= self.flushed && Role::of(shape).acknowledges();
            if passed && self.may_go.contains(&shape) {
                self.passed.insert(shape);
            } else if passed {
                let flushed = Lsn::new(self.flushed);
                return Err(format!(
                    "flushed is {flushed}, but shape {shape} has reported {through} and owes \
                     {commit} (INV1)"
                ));
            }
            break;
        }
        if (prefix.changes, prefix.traces) != (changes, traces) {
            return Err(format!(
                "shape {shape}: its consumers flushed {} changes through {}, and not the {changes} \
                 that match it: there is a gap, or one too many",
                prefix.changes, prefix.through
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::plan::Task;
    use crate::scenario::Scenario;
    use std::path::Path;
    use walfan::Offset;

    const SHAPES: u32 = 8;

    fn plan(directory: &Path) -> Plan {
        let journal = directory.join("journal");
        Journal::make(&journal, SHAPES).unwrap();
        Plan {
            directory: directory.to_owned(),
            journal,
            scenario: Scenario::Fanout,
            shapes: SHAPES,
            seed: 1,
            changes: 1,
            shards: 1,
            runners: 1,
            deadline_ms: 1,
            stop_ms: 1,
            handles: Vec::new(),
            task: Task::Found,
        }
    }

    fn lsn(transaction: u64) -> u64 {
        Workload::lsn(transaction).as_u64()
    }

    fn opened(floor: u64, flushed: u64, durable: u64, missing: &[u32]) -> Said {
        Said::Opened { floor, flushed, durable: vec![durable], missing: missing.to_vec() }
    }

    /// What a ledger makes of a start after a life that flushed through transaction 9, confirmed
    /// through 5, and gave up shape 1.
    fn after_a_life(start: Said) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::new(&plan(dir.path()));
        ledger.may_go.insert(1);
        ledger.begin();
        let gone = Said::Gone { shape: 1, cause: "wedged".into() };
        let confirmed = Workload::end_lsn(5).as_u64();
        let said = [opened(0, 0, 0, &[]), Said::Flushed { lsn: lsn(9) }, gone];
        said.into_iter().for_each(|said| ledger.take(said).unwrap());
        ledger.take(Said::Confirmed { lsn: confirmed }).unwrap();
        ledger.begin();
        ledger.take(start)
    }

    #[test]
    fn a_start_that_takes_back_what_was_told_is_a_violation() {
        let floor = Workload::end_lsn(5).as_u64();
        assert_eq!(after_a_life(opened(floor, lsn(5), lsn(9), &[1])), Ok(()));
        for (wrong, says) in [
            (opened(floor - 1, lsn(5), lsn(9), &[1]), "was confirmed"),
            (opened(floor, lsn(4), lsn(9), &[1]), "was confirmed"),
            (opened(floor, lsn(5), lsn(8), &[1]), "was durable"),
            (opened(floor, lsn(5), lsn(9), &[]), "is there again"),
            (opened(floor, lsn(5), lsn(9), &[1, 2]), "was not found again"),
        ] {
            let violation = after_a_life(wrong).unwrap_err();
            assert!(violation.contains(says), "{violation}");
        }
    }

    #[test]
    fn what_a_life_may_not_say_is_a_violation() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::new(&plan(dir.path()));
        ledger.take(Said::Flushed { lsn: lsn(3) }).unwrap();
        let back = ledger.take(Said::Flushed { lsn: lsn(2) }).unwrap_err();
        assert!(back.contains("went back"), "{back}");
        let gone = ledger.take(Said::Gone { shape: 4, cause: "no reason".into() }).unwrap_err();
        assert!(gone.contains("did no wrong"), "{gone}");
        let wrong = ledger.take(Said::Wrong { what: "twice".into() });
        assert_eq!(wrong, Err("twice".into()));
    }

    /// The journal after a life that flushed through transaction 2, where all have flushed so far,
    /// but for what `change` does to one shape.
    fn journal_with(shape: u32, change: impl Fn(&mut Prefix)) -> Result<BTreeSet<u32>, String> {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(dir.path());
        let journal = Journal::open(&plan.journal).unwrap();
        for number in 0..SHAPES {
            let offsets = (0..3).map(|n| Offset::new(Workload::lsn(n), 0));
            let traces = offsets.map(trace).fold(0, u64::wrapping_add);
            let mut prefix = Prefix { through: Workload::lsn(2), changes: 3, traces };
            if number == shape {
                change(&mut prefix);
            }
            journal.write(number, prefix).unwrap();
        }
        let mut ledger = Ledger::new(&plan);
        ledger.may_go.insert(2);
        ledger.take(Said::Flushed { lsn: lsn(2) }).unwrap();
        ledger.check_journal(&plan, 0, true).map(|()| ledger.passed)
    }

    #[test]
    fn a_gap_and_an_lsn_that_ran_ahead_are_found_in_the_journal() {
        let last = trace(Offset::new(Workload::lsn(2), 0));
        let owes = |prefix: &mut Prefix| {
            prefix.through = Workload::lsn(1);
            prefix.changes -= 1;
            prefix.traces = prefix.traces.wrapping_sub(last);
        };
        assert_eq!(journal_with(1, |_| ()), Ok(BTreeSet::new()));
        let early = journal_with(1, owes).unwrap_err();
        assert!(early.contains("INV1"), "{early}");
        // Nobody waits for this one, and that one may be given up: then it has to be gone.
        assert_eq!(journal_with(4, owes), Ok(BTreeSet::new()));
        assert_eq!(journal_with(2, owes), Ok(BTreeSet::from([2])));
        let gap = journal_with(4, |prefix| prefix.changes -= 1).unwrap_err();
        assert!(gap.contains("a gap"), "{gap}");
    }
}
