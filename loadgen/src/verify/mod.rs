//! Verify: after every run, what the engine did against what the oracle says. The oracle knows the
//! workload only. What is wrong comes back as sentences; a run with one of them has no figures.

mod consumers;
mod logs;
mod oracle;

pub(crate) use consumers::check_consumers;
pub(crate) use logs::{LogsRead, check_logs};
pub(crate) use oracle::Oracle;

/// Sentences that are kept; more are counted.
const KEPT_MAX: usize = 20;

/// What is wrong with a run.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    kept: Vec<String>,
    count: u64,
}

impl Findings {
    pub(crate) fn add(&mut self, finding: String) {
        self.count += 1;
        if self.kept.len() < KEPT_MAX {
            self.kept.push(finding);
        }
    }

    /// Adds a finding unless the two numbers are equal.
    pub(crate) fn equal(&mut self, what: &str, found: u64, expected: u64) {
        if found != expected {
            self.add(format!("{what}: {found}, but the oracle says {expected}"));
        }
    }

    /// Adds `more`, of which only the first are spelled out.
    pub(crate) fn merge(&mut self, more: Findings) {
        self.count += more.count - more.kept.len() as u64;
        more.kept.into_iter().for_each(|finding| self.add(finding));
    }

    /// Adds sentences that were kept elsewhere, of `count`.
    pub(crate) fn extend(&mut self, kept: Vec<String>, count: u64) {
        self.merge(Findings { kept, count });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl std::fmt::Display for Findings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for finding in &self.kept {
            writeln!(f, "  {finding}")?;
        }
        let more = self.count - self.kept.len() as u64;
        if more > 0 { writeln!(f, "  and {more} more") } else { Ok(()) }
    }
}
