//! Config: a run's settings with every default resolved, as the report repeats them.

use crate::cli::{AckMode, Consumers, Rate, RunArgs, SourceArg, Store, VerifyMode};
use crate::scenario::Scenario;
use crate::workload::{Numbering, Workload};
use serde::{Serialize, Serializer};
use std::time::Duration;

/// Transactions in flight at rate max where each one keeps the engine busy for long: below the
/// places of a mailbox, so that a window alone overflows none.
const WINDOW_FANOUT: u64 = 8;
/// The same for inline consumers, which have no mailbox to overflow: two waves.
const WINDOW_INLINE: u64 = 16;
/// Where each one is cheap: many, so that one sync covers many.
const WINDOW_CHEAP: u64 = 4_096;

/// See the file's head. Serialised without what is a run's own place in the world (paths).
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Config {
    #[serde(skip)]
    pub(crate) scenario: Scenario,
    pub(crate) shapes: u32,
    pub(crate) shards: usize,
    pub(crate) runners: usize,
    #[serde(serialize_with = "rate")]
    pub(crate) rate: Rate,
    /// Used at rate max only.
    pub(crate) window: u64,
    #[serde(rename = "duration_s", serialize_with = "seconds")]
    pub(crate) duration: Duration,
    #[serde(rename = "warmup_s", serialize_with = "seconds")]
    pub(crate) warmup: Duration,
    #[serde(skip)]
    pub(crate) seed: u64,
    pub(crate) crash_rate: f64,
    /// The fraction that is killed at once, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) storm: Option<f64>,
    /// Whether some shapes misbehave.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) mixed: bool,
    /// Whether the engine is stopped under load.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) stop: bool,
    pub(crate) consumers: Consumers,
    pub(crate) ack: AckMode,
    #[serde(serialize_with = "store")]
    pub(crate) store: Store,
    #[serde(serialize_with = "source")]
    pub(crate) source: SourceArg,
    pub(crate) verify: VerifyMode,
    #[serde(rename = "changes_per_transaction")]
    pub(crate) changes: u32,
    pub(crate) mailbox_places: usize,
}

impl Config {
    /// Resolves what the command line left open.
    pub(crate) fn new(args: &RunArgs, cores: usize) -> Config {
        let crash_rate = args.crash_rate.unwrap_or(args.scenario.crash_rate());
        let window = match (args.scenario, args.consumers) {
            // The flushed LSN stands still for a while, and the load goes on.
            _ if args.mixed => WINDOW_CHEAP,
            (Scenario::Disjoint, _) | (_, Consumers::Log) => WINDOW_CHEAP,
            (_, Consumers::Inline) => WINDOW_INLINE,
            (_, Consumers::Mailbox) => WINDOW_FANOUT,
        };
        let has_consumers = args.consumers != Consumers::Log;
        Config {
            scenario: args.scenario,
            shapes: args.shapes,
            shards: args.shards.unwrap_or(cores),
            runners: args.runners.unwrap_or(cores),
            rate: args.rate,
            window: args.window.unwrap_or(window),
            duration: args.duration,
            warmup: args.warmup,
            seed: args.seed,
            // The built-in log has no consumer that could be killed, and in a storm who comes back
            // is counted once.
            crash_rate: if has_consumers && args.storm.is_none() { crash_rate } else { 0.0 },
            storm: args.storm.filter(|_| has_consumers),
            mixed: args.mixed,
            stop: args.stop,
            consumers: args.consumers,
            ack: args.ack,
            store: args.store.clone(),
            source: args.source.clone(),
            verify: args.verify,
            changes: args.changes,
            mailbox_places: args.mailbox_places,
        }
    }

    /// The same store and workload with mailbox consumers at rate max: what stands beside figures
    /// of the built-in log.
    pub(crate) fn with_mailboxes(&self) -> Config {
        let cheap = self.scenario == Scenario::Disjoint;
        Config {
            consumers: Consumers::Mailbox,
            rate: Rate::Max,
            window: if cheap { WINDOW_CHEAP } else { WINDOW_FANOUT },
            ..self.clone()
        }
    }

    /// Whether shapes have consumers beside their log.
    pub(crate) fn has_consumers(&self) -> bool {
        self.consumers != Consumers::Log
    }

    /// How a transaction is known again.
    pub(crate) fn numbering(&self) -> Numbering {
        match self.source {
            SourceArg::Synthetic => Numbering::ByLsn,
            SourceArg::Postgres(_) => Numbering::InRows,
        }
    }

    pub(crate) fn workload(&self) -> Workload {
        Workload {
            scenario: self.scenario,
            shapes: self.shapes,
            seed: self.seed,
            changes: self.changes,
        }
    }
}

fn rate<S: Serializer>(rate: &Rate, serializer: S) -> Result<S::Ok, S::Error> {
    match rate {
        Rate::Max => serializer.serialize_str("max"),
        Rate::PerSecond(rate) => serializer.serialize_f64(*rate),
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn store<S: Serializer>(store: &Store, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *store == Store::Memory { "memory" } else { "directory" })
}

/// Without the address, which may hold a password.
fn source<S: Serializer>(source: &SourceArg, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *source == SourceArg::Synthetic { "synthetic" } else { "postgres" })
}
