//! Finish: verifies a drained run, stops its engine, and puts the outcome together. Figures exist
//! only when nothing was found.

use super::RunError;
use super::load::{Loaded, Rest};
use super::stop::Stopped;
use crate::cli::{Store, VerifyMode};
use crate::config::Config;
use crate::consumer::{KillKind, Misbehaved, Population, STILL_MAX, Storm, Stormed, kinds};
use crate::latency::Latency;
use crate::progress::Progress;
use crate::report::PostgresReport;
use crate::scenario::Scenario;
use crate::source::Closed;
use crate::store::Place;
use crate::verify::{Findings, LogsRead, Oracle, check_consumers, check_logs};
use crate::workload::mix;
use std::sync::Arc;
use std::time::{Duration, Instant};
use walfan::{Engine, Handle, Lsn, Metrics, ShutdownReport};

/// Shapes whose logs are read in full, with `--verify sample`.
const SAMPLE: usize = 1_000;
/// How long a drained engine may take to stop.
const STOP_MAX: Duration = Duration::from_secs(30);

/// A verified run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) loaded: Loaded,
    pub(crate) metrics: Metrics,
    pub(crate) logs: LogsRead,
    pub(crate) durable: bool,
    pub(crate) filesystem: String,
    /// Deliveries that the oracle counted, warm-up included.
    pub(crate) deliveries: u64,
    pub(crate) kills: Vec<(KillKind, u64)>,
    /// From a death to the next incarnation's first report, by kind.
    pub(crate) recovery: Vec<(KillKind, Latency)>,
    pub(crate) delivered: Latency,
    pub(crate) storm: Option<Stormed>,
    pub(crate) mixed: Option<Misbehaved>,
    /// How long the engine took to stop, and how many shapes still owed something then.
    pub(crate) shutdown: Duration,
    pub(crate) owing: u64,
    pub(crate) postgres: Option<PostgresReport>,
}

/// Verifies, stops and puts together.
pub(crate) fn finish(
    config: &Config,
    place: &Place,
    rest: Rest,
    loaded: Loaded,
    progress: &Progress,
) -> Result<Outcome, RunError> {
    let Rest { engine, source, population, mixed, handles, oracle, stopped } = rest;
    if let Some(stopped) = stopped {
        return finish_stopped(
            &stopped,
            (&engine, place),
            (&population, &handles),
            &oracle,
            loaded,
        );
    }
    let metrics = engine.metrics();
    let misbehaved = mixed.as_ref().and_then(|mixed| mixed.seen());
    let durable = engine.is_durable();
    let mut findings = Findings::default();
    check_totals(config, &metrics, &loaded, &oracle, misbehaved, &mut findings);
    mixed.iter().for_each(|mixed| mixed.release());
    let logs = read_logs(config, &engine, &oracle, &handles, progress, &mut findings);
    let last = oracle.history().last();
    check_flushed("before it stopped", engine.flushed_lsn(), last, &mut findings);
    let Closed { publisher, postgres } = source.close(&oracle, progress, &mut findings)?;
    progress.phase("stopping", 1);
    let (shutdown, owing) = stop(engine, publisher, last, &mut findings)?;
    if config.has_consumers() {
        check_population(config, &metrics, &population, &oracle, misbehaved, &mut findings);
    }
    progress.done();
    if !findings.is_empty() {
        let count = loaded.events.len() as u64;
        findings.extend(loaded.events, count);
        return Err(RunError::Verification(findings.to_string()));
    }
    Ok(Outcome {
        durable,
        filesystem: place.filesystem.clone(),
        deliveries: oracle.deliveries(),
        kills: KillKind::ALL.map(|kind| (kind, population.kills.done(kind))).to_vec(),
        recovery: KillKind::ALL.map(|kind| (kind, population.recovery(kind))).into(),
        delivered: population.delivery_latency(),
        storm: population.storm().map(Storm::seen),
        mixed: misbehaved,
        shutdown,
        owing,
        postgres,
        loaded,
        metrics,
        logs,
    })
}

/// Puts together what is known of an engine that was stopped under load.
fn finish_stopped(
    stopped: &Stopped,
    (engine, place): (&Engine, &Place),
    (population, handles): (&Population, &[Handle]),
    oracle: &Oracle,
    loaded: Loaded,
) -> Result<Outcome, RunError> {
    let mut findings = Findings::default();
    stopped.check(population, handles, &mut findings);
    let (complaints, count) = population.complaints();
    findings.extend(complaints, count);
    if !findings.is_empty() {
        return Err(RunError::Verification(findings.to_string()));
    }
    Ok(Outcome {
        durable: engine.is_durable(),
        filesystem: place.filesystem.clone(),
        deliveries: oracle.deliveries(),
        kills: KillKind::ALL.map(|kind| (kind, population.kills.done(kind))).to_vec(),
        recovery: KillKind::ALL.map(|kind| (kind, population.recovery(kind))).into(),
        delivered: population.delivery_latency(),
        storm: None,
        mixed: None,
        shutdown: stopped.took,
        owing: stopped.owing(),
        postgres: None,
        loaded,
        metrics: stopped.metrics.clone(),
        logs: LogsRead::default(),
    })
}

/// What the engine counted, against what was to be.
fn check_totals(
    config: &Config,
    metrics: &Metrics,
    loaded: &Loaded,
    oracle: &Oracle,
    misbehaved: Option<Misbehaved>,
    findings: &mut Findings,
) {
    let deliveries = oracle.deliveries();
    let Some(Misbehaved { shapes, wedged, deaths, slow_handled, .. }) = misbehaved else {
        findings.equal("deliveries logged", metrics.logged, deliveries);
        if config.has_consumers() {
            findings.equal("deliveries handled", loaded.to.kept(), deliveries);
        }
        findings.equal("shapes at the end", metrics.shapes, config.shapes.into());
        findings.equal("shapes undeliverable", metrics.undeliverable, 0);
        findings.equal("shapes invalidated", metrics.invalidated, 0);
        if config.mixed {
            findings.add("no shape misbehaved: give a longer --duration".into());
        }
        return;
    };
    // Those that ended had some before.
    let of_mixed = metrics.logged.saturating_sub(deliveries);
    let most = shapes * oracle.history().changes_through(oracle.history().transactions());
    if metrics.logged < deliveries || !(slow_handled..=most).contains(&of_mixed) {
        findings.add(format!("{} deliveries were logged, of {deliveries}", metrics.logged));
    }
    findings.equal("deliveries handled", loaded.to.kept(), deliveries + slow_handled);
    findings.equal("shapes at the end", metrics.shapes, u64::from(config.shapes) + 1);
    findings.equal("shapes that hung", wedged, 1);
    findings.equal("deaths of the shape that does not start again", deaths, 3);
    findings.equal("shapes undeliverable", metrics.undeliverable, 2);
    findings.equal("shapes invalidated", metrics.invalidated, 1);
    let still_us = loaded.flush.stalled_us_max;
    if still_us > STILL_MAX.as_micros() as u64 {
        findings.add(format!(
            "the flushed LSN stood still for {still_us} us: more than the scenario's {STILL_MAX:?}"
        ));
    }
}

fn check_flushed(when: &str, flushed: Lsn, last: Lsn, findings: &mut Findings) {
    if flushed < last {
        findings
            .add(format!("{when} the flushed LSN was {flushed}, but the last commit is {last}"));
    }
}

/// What consumers counted, after all were dropped.
fn check_population(
    config: &Config,
    metrics: &Metrics,
    population: &Population,
    oracle: &Oracle,
    misbehaved: Option<Misbehaved>,
    findings: &mut Findings,
) {
    let kills = &population.kills;
    let (handled, deaths) = misbehaved.map_or((0, 0), |seen| (seen.slow_handled, seen.deaths));
    let handled = population.handled() + handled;
    findings.equal("handler calls that the engine counted", metrics.handled, handled);
    findings.equal("deaths", metrics.deaths, kills.total() + kills.failed_starts() + deaths);
    let failed_starts = kills.failed_starts();
    findings.equal("factories that panicked", failed_starts, kills.done(KillKind::Factory));
    findings.merge(check_consumers(population, oracle));
    if let Some(Stormed { victims, back, .. }) = population.storm().map(Storm::seen) {
        findings.equal("consumers that came back from the storm", back, victims);
    }
    if config.scenario == Scenario::Crash && config.crash_rate > 0.0 {
        for kind in kinds(config).into_iter().filter(|kind| kills.done(*kind) == 0) {
            let kind = kind.name();
            findings.add(format!(
                "nobody was killed in the way {kind}: give a longer --duration, a higher \
                 --crash-rate or more --shapes"
            ));
        }
    }
}

/// Reads logs back. The memory store keeps only what is not flushed, so there it has no logs to
/// compare.
fn read_logs(
    config: &Config,
    engine: &Engine,
    oracle: &Oracle,
    handles: &[Handle],
    progress: &Progress,
    findings: &mut Findings,
) -> LogsRead {
    if config.store == Store::Memory {
        return LogsRead::default();
    }
    let shapes = chosen(config, handles);
    progress.phase("reading logs back", shapes.len() as u64);
    let tell = |done| progress.advance(done);
    let (read, found) = check_logs(engine, oracle, &shapes, crate::host::cores(), &tell);
    findings.merge(found);
    read
}

/// The shapes to read: a random sample, each of them once, or all.
fn chosen(config: &Config, handles: &[Handle]) -> Vec<(u32, Handle)> {
    let mut all: Vec<(u32, Handle)> = (0..).zip(handles.iter().copied()).collect();
    if config.verify == VerifyMode::All || all.len() <= SAMPLE {
        return all;
    }
    let mut draw = mix(config.seed ^ 0x5A4D);
    for place in 0..SAMPLE {
        draw = mix(draw);
        let other = place + (draw % (all.len() - place) as u64) as usize;
        all.swap(place, other);
    }
    all.truncate(SAMPLE);
    all
}

fn stop(
    engine: Arc<Engine>,
    publisher: walfan::Publisher,
    last: Lsn,
    findings: &mut Findings,
) -> Result<(Duration, u64), RunError> {
    let started = Instant::now();
    let ShutdownReport { shards, .. } = engine.shutdown(STOP_MAX).map_err(RunError::engine)?;
    let took = started.elapsed();
    let owing = shards.iter().map(|shard| shard.owing.len() as u64).sum();
    for (index, shard) in shards.iter().enumerate() {
        check_flushed(&format!("in shard {index}"), shard.flushed, last, findings);
    }
    findings.equal("shapes that still owe", owing, 0);
    drop(publisher);
    drop(engine);
    Ok((took, owing))
}
