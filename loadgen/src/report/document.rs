//! Document: the report's figures under their fixed names, version 1. What is not known is null,
//! never zero.

use crate::baseline::Baseline;
use crate::cli::SourceArg;
use crate::config::Config;
use crate::consumer::{STILL_MAX, Stormed};
use crate::host::{Host, Revision};
use crate::latency::{Latency, Summary};
use crate::memory;
use crate::run::Outcome;
use serde::Serialize;
use std::collections::BTreeMap;

const SCHEMA: u32 = 1;
const MIB: f64 = 1_048_576.0;

/// See the file's head.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) scenario: &'static str,
    pub(crate) command: String,
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) dirty: bool,
    pub(crate) host: Host,
    pub(crate) config: Config,
    pub(crate) seed: u64,
    pub(crate) verified: bool,
    pub(crate) verification: Verification,
    pub(crate) store: StoreReport,
    /// Adding the shapes, until all their consumers ran.
    pub(crate) setup_s: f64,
    pub(crate) throughput: Throughput,
    pub(crate) latency_us: Latencies,
    pub(crate) flush: Flush,
    pub(crate) faults: Faults,
    pub(crate) memory: Memory,
    pub(crate) log: Log,
    /// Where the changes came from a server.
    pub(crate) postgres: Option<PostgresReport>,
    /// Bare crossbeam on the same machine, of `fanout --consumers mailbox`.
    pub(crate) baseline: Option<Baseline>,
    /// The mailbox run on the same store that stands beside one of `--consumers log`.
    pub(crate) mailbox: Option<Box<Report>>,
}

/// What the oracle looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verification {
    pub(crate) transactions: u64,
    /// Warm-up included.
    pub(crate) deliveries: u64,
    pub(crate) consumers_checked: u64,
    pub(crate) logs_read: u64,
    pub(crate) log_changes_read: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct StoreReport {
    pub(crate) durable: bool,
    pub(crate) filesystem: String,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Throughput {
    pub(crate) txns_per_s: f64,
    pub(crate) changes_per_s: f64,
    pub(crate) deliveries_per_s: f64,
    /// `handled` by consumers, each delivery once, or `logged` as members of sets.
    pub(crate) deliveries: &'static str,
    /// What was measured, draining included.
    pub(crate) seconds: f64,
}

/// Null at rate max, where there is no intended send time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latencies {
    pub(crate) publish_to_flushed: Option<Summary>,
    pub(crate) publish_to_delivered: Option<Summary>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Flush {
    pub(crate) lag_ms_max: f64,
    pub(crate) stalled_ms_max: f64,
    pub(crate) hiccup_ms_max: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Faults {
    pub(crate) killed: u64,
    pub(crate) restarted: u64,
    pub(crate) retried: u64,
    pub(crate) undeliverable: u64,
    pub(crate) by_kind: BTreeMap<&'static str, u64>,
    /// From a death to the next incarnation's first report.
    pub(crate) recovery_us: Option<Recovery>,
    pub(crate) recovery_us_by_kind: BTreeMap<&'static str, Recovery>,
    /// Handler calls for changes that a predecessor had handled and not reported.
    pub(crate) repeated: u64,
    /// Where consumers were killed at once.
    pub(crate) storm: Option<StormReport>,
    /// Where some shapes misbehaved.
    pub(crate) mixed: Option<MixedReport>,
    pub(crate) overflows: u64,
    /// How long the engine took to stop: everything was flushed, or with `--stop` under load.
    pub(crate) shutdown_ms: f64,
    /// Shapes that still owed something when it had stopped.
    pub(crate) owing_at_shutdown: u64,
}

/// Beside these, `undeliverable` and `flush` say what they cost.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MixedReport {
    pub(crate) shapes: u64,
    /// What the flushed LSN might stand still for.
    pub(crate) still_ms_bound: f64,
    /// Changes that the slow consumer handled, and that the slow reader found.
    pub(crate) slow_handled: u64,
    pub(crate) slow_read: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct StormReport {
    pub(crate) killed: u64,
    /// From the blow to the first report of the last one that came back.
    pub(crate) all_back_ms: f64,
    /// The longest time in which something was due to those who were not killed and none of them
    /// was handed anything. Of a sample of them, as in what follows.
    pub(crate) others_still_ms: f64,
    /// The same of one of them at a time.
    pub(crate) others_pause_us: Option<Summary>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Recovery {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Memory {
    /// Drained, before verification.
    pub(crate) rss_mib: f64,
    /// The process's highest so far, verification included.
    pub(crate) rss_mib_max: f64,
    /// While idle, without loadgen's own. Null for a second run of one process, which lives in
    /// memory that the first one has left behind, and for one on a server, whose connections would
    /// be in it.
    pub(crate) bytes_per_shape: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Log {
    /// During the measurement.
    pub(crate) bytes_written: u64,
    /// A logged delivery.
    pub(crate) bytes_per_delivery: f64,
    /// Deliveries that readers took a second, reading sampled shapes in full.
    pub(crate) read_back_per_s: Option<f64>,
}

/// The server's side of a run. LSNs are texts, as Postgres writes them.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "made by that source"))]
pub(crate) struct PostgresReport {
    pub(crate) server_version: String,
    /// Whether it was started for this run, and so without fsync.
    pub(crate) throwaway: bool,
    /// The slot's `confirmed_flush_lsn` before the first transaction.
    pub(crate) slot_start: String,
    /// The slot's `confirmed_flush_lsn` when the run was over.
    pub(crate) confirmed: String,
    /// The end of the WAL when the last transaction was written.
    pub(crate) wal_end: String,
    /// WAL between the first two.
    pub(crate) confirmed_bytes: u64,
    /// WAL that the server still kept for the slot when the run was over.
    pub(crate) retained_bytes: u64,
    /// The most WAL beyond the slot's `confirmed_flush_lsn` that was seen during the run.
    pub(crate) unconfirmed_bytes_max: u64,
    /// Different positions of the slot that were seen.
    pub(crate) slot_moves: u64,
    /// Connections that wrote.
    pub(crate) connections: u32,
    /// Replication connections of the engine's source: more than one if one broke.
    pub(crate) streams: u64,
    /// Shapes whose clause the server itself was asked for.
    pub(crate) clauses_checked: u64,
}

impl Report {
    /// The report of `outcome`.
    pub(crate) fn new(
        config: &Config,
        outcome: &Outcome,
        command: &str,
        revision: &Revision,
        date: &str,
    ) -> Report {
        Report {
            schema: SCHEMA,
            scenario: config.scenario.name(),
            command: command.to_owned(),
            date: date.to_owned(),
            commit: revision.commit.clone(),
            dirty: revision.dirty,
            host: Host::new(),
            config: config.clone(),
            seed: config.seed,
            // An outcome exists only when the verification found nothing.
            verified: true,
            verification: verification(config, outcome),
            store: StoreReport { durable: outcome.durable, filesystem: outcome.filesystem.clone() },
            setup_s: outcome.loaded.setup_s,
            throughput: throughput(config, outcome),
            latency_us: Latencies {
                publish_to_flushed: outcome.loaded.flush.latency.summary(),
                publish_to_delivered: outcome.delivered.summary(),
            },
            flush: flush(outcome),
            faults: faults(outcome),
            memory: Memory {
                rss_mib: outcome.loaded.resident_bytes as f64 / MIB,
                rss_mib_max: memory::peak_bytes() as f64 / MIB,
                bytes_per_shape: (config.source == SourceArg::Synthetic)
                    .then_some(outcome.loaded.bytes_per_shape),
            },
            log: log(outcome),
            postgres: outcome.postgres.clone(),
            baseline: None,
            mailbox: None,
        }
    }
}

fn verification(config: &Config, outcome: &Outcome) -> Verification {
    Verification {
        transactions: outcome.loaded.transactions,
        deliveries: outcome.deliveries,
        consumers_checked: if config.has_consumers() { config.shapes.into() } else { 0 },
        logs_read: outcome.logs.shapes,
        log_changes_read: outcome.logs.changes,
    }
}

fn throughput(config: &Config, outcome: &Outcome) -> Throughput {
    let (from, to) = (&outcome.loaded.from, &outcome.loaded.to);
    let seconds = to.at_us.saturating_sub(from.at_us).max(1) as f64 / 1e6;
    let (what, deliveries) = if config.has_consumers() {
        ("handled", to.kept().saturating_sub(from.kept()))
    } else {
        ("logged", to.logged - from.logged)
    };
    Throughput {
        txns_per_s: (to.flushed - from.flushed) as f64 / seconds,
        changes_per_s: outcome.loaded.changes as f64 / seconds,
        deliveries_per_s: deliveries as f64 / seconds,
        deliveries: what,
        seconds,
    }
}

fn flush(outcome: &Outcome) -> Flush {
    let ms = |us: u64| us as f64 / 1e3;
    Flush {
        lag_ms_max: ms(outcome.loaded.flush.lag_us_max),
        stalled_ms_max: ms(outcome.loaded.flush.stalled_us_max),
        hiccup_ms_max: ms(outcome.loaded.hiccup_us_max),
    }
}

fn faults(outcome: &Outcome) -> Faults {
    let metrics = &outcome.metrics;
    let mut all = Latency::default();
    outcome.recovery.iter().for_each(|(_, recovery)| all.add(recovery));
    let by_kind = outcome.recovery.iter();
    let by_kind = by_kind.filter_map(|(kind, times)| Some((kind.name(), recovery(times)?)));
    Faults {
        killed: outcome.kills.iter().map(|(_, count)| count).sum(),
        restarted: metrics.restarts,
        retried: metrics.retries,
        undeliverable: metrics.undeliverable,
        by_kind: outcome.kills.iter().map(|(kind, count)| (kind.name(), *count)).collect(),
        recovery_us: recovery(&all),
        recovery_us_by_kind: by_kind.collect(),
        repeated: outcome.loaded.to.lost,
        storm: outcome.storm.as_ref().map(storm),
        mixed: outcome.mixed.map(|mixed| MixedReport {
            shapes: mixed.shapes,
            still_ms_bound: STILL_MAX.as_secs_f64() * 1e3,
            slow_handled: mixed.slow_handled,
            slow_read: mixed.slow_read,
        }),
        overflows: metrics.overflows,
        shutdown_ms: outcome.shutdown.as_secs_f64() * 1e3,
        owing_at_shutdown: outcome.owing,
    }
}

fn storm(storm: &Stormed) -> StormReport {
    StormReport {
        killed: storm.victims,
        all_back_ms: storm.all_back_us as f64 / 1e3,
        others_still_ms: storm.others_still_us as f64 / 1e3,
        others_pause_us: storm.pauses.summary(),
    }
}

fn recovery(times: &Latency) -> Option<Recovery> {
    times.summary().map(|times| Recovery { p50: times.p50, p99: times.p99, max: times.max })
}

fn log(outcome: &Outcome) -> Log {
    let (from, to) = (&outcome.loaded.from, &outcome.loaded.to);
    let bytes_written = to.log_bytes - from.log_bytes;
    let logged = (to.logged - from.logged).max(1);
    let logs = &outcome.logs;
    let read = logs.shapes > 0;
    Log {
        bytes_written,
        bytes_per_delivery: bytes_written as f64 / logged as f64,
        read_back_per_s: read.then(|| logs.changes as f64 / logs.seconds.max(1e-6)),
    }
}
