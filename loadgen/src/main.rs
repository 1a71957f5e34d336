//! The `loadgen` binary: loads walfan with synthetic transactions or with those of a real Postgres,
//! kills consumers for real, checks every run against an oracle, and reports.
//!
//! The command line becomes a config; a run makes an outcome from it, or fails; an outcome becomes
//! a report. It uses walfan as any embedder would, by its public API.

mod baseline;
mod chaos;
mod cli;
mod clock;
mod config;
mod consumer;
mod host;
mod latency;
mod memory;
mod progress;
mod report;
mod run;
mod scenario;
mod source;
mod store;
mod verify;
mod watch;
mod workload;

use baseline::Baseline;
use clap::Parser;
use cli::{Cli, Command, Consumers, RunArgs};
use config::Config;
use host::Revision;
use progress::Progress;
use report::Report;
use run::RunError;
use scenario::Scenario;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the baseline runs.
const BASELINE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::List => {
            list();
            ExitCode::SUCCESS
        }
        Command::Run(args) => ended(run(&args)),
        Command::Chaos(args) => ended(chaos::run(&args)),
        Command::ChaosLife => chaos::live(),
    }
}

fn ended(result: Result<(), RunError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    for scenario in Scenario::ALL {
        println!("{:9} {}", scenario.name(), scenario.what());
        println!("{:9} each shape: {}", "", scenario.definition());
    }
}

fn run(args: &RunArgs) -> Result<(), RunError> {
    consumer::silence_kills();
    let config = Config::new(args, host::cores());
    let command = command();
    let (revision, date) = (Revision::new(), clock::utc_now());
    let progress = Progress::new();
    let outcome = run::run(&config, &progress)?;
    let mut report = Report::new(&config, &outcome, &command, &revision, &date);
    if config.consumers == Consumers::Log {
        let config = config.with_mailboxes();
        let outcome = run::run(&config, &progress)?;
        let mut mailbox = Report::new(&config, &outcome, &command, &revision, &date);
        mailbox.memory.bytes_per_shape = None;
        report.mailbox = Some(Box::new(mailbox));
    }
    if config.scenario == Scenario::Fanout && config.consumers == Consumers::Mailbox {
        report.baseline = Some(baseline(&config, &report));
    }
    show(args, &report);
    if let Some(path) = &args.json {
        report::write_json(&report, path)?;
    }
    if let Some(directory) = &args.out {
        let paths = report::write_results(&report, &outcome, &revision, directory)?;
        for path in paths {
            eprintln!("wrote {}", path.display());
        }
    }
    Ok(())
}

/// Prints the table: on standard error where standard output is for the JSON.
fn show(args: &RunArgs, report: &Report) {
    let mut text = report::table(report);
    if let Some(mailbox) = &report.mailbox {
        text.push_str("\nbeside it, on the same store, with mailboxes:\n");
        text.push_str(&report::table(mailbox));
    }
    if args.json.as_deref() == Some(Path::new("-")) {
        eprintln!("{text}");
    } else {
        println!("{text}");
    }
}

/// What was typed, but for where the binary lies and for a server's address, which may hold a
/// password.
fn command() -> String {
    let shown = |argument: String| match argument.split_once("://") {
        Some((before, _)) => format!("{before}://..."),
        None => argument,
    };
    let arguments = std::env::args().skip(1).map(shown);
    std::iter::once("loadgen".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn baseline(config: &Config, report: &Report) -> Baseline {
    let (channels, places) = (config.shapes, config.mailbox_places);
    let duration = BASELINE.min(config.duration);
    let bare = baseline::crossbeam_deliveries_per_s(channels, places, duration);
    let ratio = report.throughput.deliveries_per_s / bare.max(1.0);
    Baseline { crossbeam_deliveries_per_s: bare, ratio }
}
