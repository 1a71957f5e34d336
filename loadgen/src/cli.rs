//! The command line: what a user types. Turns into a [`crate::config::Config`]; nothing else of
//! the binary looks at it.

use crate::chaos::Kind;
use crate::scenario::Scenario;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Loads walfan, kills its consumers, and checks every delivery against an oracle.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lists the scenarios.
    List,
    /// Runs a scenario, verifies it, and reports.
    Run(Box<RunArgs>),
    /// Brings an engine in a process of its own down under load, again and again, starts it again
    /// and checks that nothing is lost, repeated or acknowledged early.
    Chaos(ChaosArgs),
    /// One life of that process; its plan comes on standard input.
    #[command(hide = true)]
    ChaosLife,
}

#[derive(Debug, Args)]
pub(crate) struct ChaosArgs {
    /// How many rounds; each has a few lives.
    #[arg(long, default_value_t = 100)]
    pub(crate) rounds: u64,
    /// Seed of the first round; the next ones have those that follow.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Only rounds of this kind; the default goes through all of them.
    #[arg(long, value_enum)]
    pub(crate) kind: Option<Kind>,
    /// Shapes, most of them with a consumer.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(64..=65_536))]
    pub(crate) shapes: u32,
    /// A directory on a disk, in which a fresh one is made and removed again.
    #[arg(long, default_value = "target/loadgen-store")]
    pub(crate) store: Store,
}

/// Where a shape's consumer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Consumers {
    /// Behind a channel of its own, on the pool of runners.
    Mailbox,
    /// On the shard's thread.
    Inline,
    /// The built-in shape log only.
    Log,
}

/// Whether the flushed LSN waits for consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AckMode {
    /// For every consumer's report.
    Consumer,
    /// For the shape log only.
    Log,
}

/// How many shapes' logs are read back in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VerifyMode {
    /// 1,000 random ones.
    Sample,
    /// Every one.
    All,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The scenario; `loadgen list` describes them.
    #[arg(value_enum)]
    pub(crate) scenario: Scenario,
    /// Shapes, each with a definition of its own.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) shapes: u32,
    /// Shards (default: cores).
    #[arg(long, value_parser = parse_places)]
    pub(crate) shards: Option<usize>,
    /// Runner threads (default: cores).
    #[arg(long, value_parser = parse_places)]
    pub(crate) runners: Option<usize>,
    /// Transactions a second, in open loop, or `max`.
    #[arg(long, default_value = "max")]
    pub(crate) rate: Rate,
    /// Transactions in flight (published, not flushed) at rate max. The default fits the scenario;
    /// on a Postgres there may always be one more than connections write.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) window: Option<u64>,
    /// How long to measure, as 20s, 500ms or 2m.
    #[arg(long, default_value = "20s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// How long to run before measuring.
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    pub(crate) warmup: Duration,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Fraction of the consumers killed per second (default: 0.01 in crash, else 0).
    #[arg(long, value_parser = parse_fraction)]
    pub(crate) crash_rate: Option<f64>,
    /// Fraction of the consumers killed at once, when a quarter of the duration has passed. Nobody
    /// is killed besides.
    #[arg(long, value_parser = parse_fraction)]
    pub(crate) storm: Option<f64>,
    /// Beside them four shapes misbehave, all at once, when a quarter of the duration has passed: a
    /// handler hangs, a clause has no answer, a consumer and a reader are slow, and one consumer
    /// dies at each start. What they may cost is checked.
    #[arg(long)]
    pub(crate) mixed: bool,
    /// The engine is stopped in the middle of the load, when three quarters of the duration have
    /// passed. Everything that it has accepted must be flushed by then, or named as owed.
    #[arg(long, conflicts_with_all = ["mixed", "storm"])]
    pub(crate) stop: bool,
    /// Where consumers run.
    #[arg(long, value_enum, default_value = "mailbox")]
    pub(crate) consumers: Consumers,
    /// What the flushed LSN waits for.
    #[arg(long, value_enum, default_value = "consumer")]
    pub(crate) ack: AckMode,
    /// A directory on a disk, in which a fresh one is made and removed again, or `memory`.
    #[arg(long, default_value = "target/loadgen-store")]
    pub(crate) store: Store,
    /// `synthetic`; a server as `postgres://user@host/database`; or `postgres`, which starts a
    /// server for this run alone.
    #[arg(long, default_value = "synthetic")]
    pub(crate) source: SourceArg,
    /// How many shapes' logs are read back in full.
    #[arg(long, value_enum, default_value = "sample")]
    pub(crate) verify: VerifyMode,
    /// A directory for the report, as JSON and as a page, named by date, scenario and commit.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// A file for the JSON alone; `-` is standard output.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Changes of a transaction.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) changes: u32,
    /// Places of a consumer's mailbox.
    #[arg(long, default_value_t = 16, value_parser = parse_places)]
    pub(crate) mailbox_places: usize,
}

/// Transactions a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// As fast as the window allows.
    Max,
    /// In open loop.
    PerSecond(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        if text == "max" {
            return Ok(Rate::Max);
        }
        let rate = text.parse::<f64>().ok().filter(|rate| (0.001..=1e7).contains(rate));
        rate.map(Rate::PerSecond)
            .ok_or_else(|| format!("{text:?} is no rate: give transactions a second, or max"))
    }
}

/// Where the shape log lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// In memory: nothing is durable.
    Memory,
    /// In a directory.
    Directory(PathBuf),
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Store, String> {
        match text {
            "" => Err("give a directory, or memory".into()),
            "memory" => Ok(Store::Memory),
            directory => Ok(Store::Directory(directory.into())),
        }
    }
}

/// Where the changes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceArg {
    /// Loadgen makes them.
    Synthetic,
    /// The WAL of the server at this address, or of one that is started for the run.
    Postgres(Option<String>),
}

impl FromStr for SourceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<SourceArg, String> {
        match text {
            "synthetic" => return Ok(SourceArg::Synthetic),
            "postgres" => return Ok(SourceArg::Postgres(None)),
            _ => {}
        }
        let url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        url.then(|| SourceArg::Postgres(Some(text.to_owned()))).ok_or_else(|| {
            format!("{text:?} is no source: give synthetic, postgres, or a postgres:// address")
        })
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        _ => return Err(format!("{text:?} is no duration: give 20s, 500ms or 2m")),
    };
    let seconds = number.parse::<f64>().map(|number| number * scale);
    let seconds = seconds.ok().filter(|seconds| *seconds <= 86_400.0);
    let seconds = seconds.ok_or_else(|| format!("{text:?} is no duration of up to a day"))?;
    Ok(Duration::from_secs_f64(seconds))
}

fn parse_fraction(text: &str) -> Result<f64, String> {
    let fraction = text.parse::<f64>().ok().filter(|fraction| (0.0..=1.0).contains(fraction));
    fraction.ok_or_else(|| format!("{text:?} is no fraction from 0 to 1"))
}

fn parse_places(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| (1..=65_536).contains(number));
    number.ok_or_else(|| format!("{text:?} is no number from 1 to 65536"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_its_defaults_are_those_of_the_main_job() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["loadgen", "run", "crash"]);
        let Command::Run(args) = cli.command else { panic!("not a run") };
        assert_eq!((args.scenario, args.shapes, args.changes), (Scenario::Crash, 300_000, 1));
        assert_eq!((args.consumers, args.ack), (Consumers::Mailbox, AckMode::Consumer));
        assert!(matches!(args.store, Store::Directory(_)));
        assert_eq!(args.source, SourceArg::Synthetic);
    }

    #[test]
    fn what_is_no_rate_duration_fraction_or_source_is_refused() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("250".parse(), Ok(Rate::PerSecond(250.0)));
        for text in ["0", "-1", "fast", "NaN", "inf"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "s", "-1s", "3h", "1.2.3s", "999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["-0.1", "1.1", "NaN", "x"] {
            assert!(parse_fraction(text).is_err(), "{text}");
        }
        assert!("mysql://x".parse::<SourceArg>().is_err());
        assert_eq!("postgres".parse(), Ok(SourceArg::Postgres(None)));
        let address = "postgresql://h/d";
        assert_eq!(address.parse(), Ok(SourceArg::Postgres(Some(address.into()))));
        assert!("".parse::<Store>().is_err());
    }
}
