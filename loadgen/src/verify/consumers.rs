//! Consumers against the oracle: what each one reported, joined over its incarnations, is what its
//! shape was to get, whole and once. Sums are compared for every shape; consumers have checked the
//! order themselves.

use super::Findings;
use super::oracle::Oracle;
use crate::consumer::Population;

/// Checks every consumer, after all were dropped.
pub(crate) fn check_consumers(population: &Population, oracle: &Oracle) -> Findings {
    let mut findings = Findings::default();
    for shape in 0..population.shapes() {
        let (share, prefix) = (oracle.share(shape), population.prefix(shape));
        let found = (u64::from(prefix.changes), prefix.traces);
        if found != (share.changes, share.traces) {
            let same = if found.0 == share.changes { "other ones than" } else { "but not" };
            findings.add(format!(
                "shape {shape}: its consumers reported {} changes, {same} the {} that match it: \
                 there is a gap, or one too many",
                found.0, share.changes
            ));
        } else if prefix.changes > 0 && prefix.through < share.last {
            findings.add(format!(
                "shape {shape}: its consumers reported through {}, but its last commit is {}",
                prefix.through, share.last
            ));
        }
    }
    let (complaints, count) = population.complaints();
    findings.extend(complaints, count);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::consumer::{Prefix, trace};
    use crate::scenario::Scenario;
    use crate::workload::{History, Numbering, Workload};
    use walfan::{Lsn, Offset};

    const TRANSACTIONS: u64 = 5;

    /// Two shapes whose consumers have reported everything, but for what `change` does.
    fn findings(change: impl Fn(&mut Prefix)) -> Findings {
        let workload = Workload { scenario: Scenario::Fanout, shapes: 2, seed: 1, changes: 1 };
        let oracle = Oracle::new(History::numbered(&workload, TRANSACTIONS));
        let population = Population::new(2, Clock::start(), false, Numbering::ByLsn);
        for shape in 0..2 {
            let offsets = (0..TRANSACTIONS).map(|n| Offset::new(Workload::lsn(n), 0));
            let traces = offsets.map(trace).fold(0, u64::wrapping_add);
            let through = Workload::lsn(TRANSACTIONS - 1);
            let mut prefix = Prefix { through, changes: TRANSACTIONS as u32, traces };
            if shape == 1 {
                change(&mut prefix);
            }
            population.deposit(shape, prefix, 0, 0);
        }
        check_consumers(&population, &oracle)
    }

    #[test]
    fn a_gap_a_repetition_and_a_foreign_change_are_found() {
        assert!(findings(|_| ()).is_empty());
        let first = trace(Offset::new(Workload::lsn(0), 0));
        let gap = findings(|prefix| {
            prefix.changes -= 1;
            prefix.traces = prefix.traces.wrapping_sub(first);
        });
        let twice = findings(|prefix| {
            prefix.changes += 1;
            prefix.traces = prefix.traces.wrapping_add(first);
        });
        let foreign = trace(Offset::new(Workload::lsn(9), 0));
        let other = findings(|prefix| {
            prefix.traces = prefix.traces.wrapping_sub(first).wrapping_add(foreign);
        });
        let late = findings(|prefix| prefix.through = Lsn::new(1));
        for found in [gap, twice, other, late] {
            assert!(found.to_string().contains("shape 1"), "{found}");
        }
    }

    #[test]
    fn what_a_consumer_complains_of_is_found() {
        let workload = Workload { scenario: Scenario::Fanout, shapes: 1, seed: 1, changes: 1 };
        let population = Population::new(1, Clock::start(), false, Numbering::ByLsn);
        population.complain("out of order".into());
        let oracle = Oracle::new(History::numbered(&workload, 0));
        let found = check_consumers(&population, &oracle);
        assert!(found.to_string().contains("out of order"));
    }
}
