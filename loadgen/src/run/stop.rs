//! Stop: the engine is stopped in the middle of the load. Whatever it has accepted is flushed by
//! then, or the shape that has not flushed it is named.

use super::RunError;
use crate::consumer::Population;
use crate::verify::Findings;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use walfan::{Engine, Handle, Lsn, Metrics, ShutdownReport};

/// How long it may take.
const STOP_MAX: Duration = Duration::from_secs(5);

/// How the engine stopped under load.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// As they were before.
    pub(crate) metrics: Metrics,
    pub(crate) took: Duration,
    report: ShutdownReport,
}

/// Stops the engine, whatever goes on.
pub(super) fn stop_loaded(engine: &Engine) -> Result<Stopped, RunError> {
    let metrics = engine.metrics();
    let started = Instant::now();
    let report = engine.shutdown(STOP_MAX).map_err(RunError::engine)?;
    Ok(Stopped { metrics, took: started.elapsed(), report })
}

impl Stopped {
    /// Shapes that owed something then.
    pub(super) fn owing(&self) -> u64 {
        self.report.shards.iter().map(|shard| shard.owing.len() as u64).sum()
    }

    /// Compares what it said with what its consumers have reported, every one of which was to get
    /// every change.
    pub(super) fn check(
        &self,
        population: &Population,
        handles: &[Handle],
        findings: &mut Findings,
    ) {
        let Stopped { took, report, .. } = self;
        if *took > STOP_MAX {
            findings.add(format!("the engine took {took:?} to stop: more than {STOP_MAX:?}"));
        }
        for thread in &report.wedged {
            findings.add(format!("{thread} was left behind"));
        }
        let shards = || report.shards.iter();
        let owing: HashSet<Handle> = shards().flat_map(|shard| shard.owing.clone()).collect();
        let flushed = shards().map(|shard| shard.flushed).min().unwrap_or(Lsn::ZERO);
        let durable = shards().map(|shard| shard.durable);
        let first = durable.clone().min().unwrap_or(Lsn::ZERO);
        let last = durable.max().unwrap_or(Lsn::ZERO);
        for (shape, handle) in (0..).zip(handles) {
            let through = population.prefix(shape).through;
            let owes = owing.contains(handle);
            if through < flushed {
                findings.add(format!(
                    "shape {shape}: reported through {through}, and {flushed} was flushed"
                ));
            } else if through < first && !owes {
                findings.add(format!(
                    "shape {shape}: reported through {through} of {first}, and is not said to owe"
                ));
            } else if through >= last && owes {
                findings.add(format!("shape {shape}: reported all, and is said to owe"));
            }
        }
    }
}
