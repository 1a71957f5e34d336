//! Small runs of the binary, as a user types them: each scenario with the real engine on a real
//! store, verified in full; and runs that must fail, and then show no figure.

#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a finding")]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// Runs `loadgen run` with `arguments` on a fresh store beside the sources, which lie on a disk
/// where /tmp may not.
fn loadgen(arguments: &[&str]) -> Output {
    let store = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let store = store.path().to_str().unwrap().to_owned();
    let common = ["--warmup", "100ms", "--json", "-", "--store", &store];
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.arg("run").args(arguments).args(common).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The report of a run that has to succeed.
fn report(arguments: &[&str]) -> Value {
    let output = loadgen(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], 1);
    assert_eq!(report["verified"], true);
    assert!(report["throughput"]["deliveries_per_s"].as_f64().unwrap() > 0.0);
    report
}

#[test]
fn every_scenario_runs_and_verifies_itself() {
    for scenario in ["fanout", "scatter", "disjoint"] {
        let small = ["--shapes", "300", "--duration", "300ms", "--verify", "all"];
        let report = report(&[&[scenario][..], &small].concat());
        assert_eq!(report["scenario"], scenario);
        assert_eq!(report["verification"]["logs_read"], 300);
        assert_eq!(report["verification"]["consumers_checked"], 300);
        assert_eq!(report["faults"]["killed"], 0);
        assert!(report["latency_us"]["publish_to_flushed"].is_null(), "at rate max");
        assert_eq!(report["baseline"].is_null(), scenario != "fanout");
    }
}

#[test]
fn crash_kills_in_every_way_and_loses_nothing() {
    for consumers in ["mailbox", "inline"] {
        let arguments = ["crash", "--shapes", "2000", "--duration", "2s", "--crash-rate", "0.5"];
        let report = report(&[&arguments[..], &["--consumers", consumers]].concat());
        let faults = &report["faults"];
        for kind in ["handler", "factory", "mid_transaction", "queued_unreported"] {
            assert!(faults["by_kind"][kind].as_u64().unwrap() > 0, "{consumers}: {faults}");
        }
        assert_eq!(faults["restarted"], faults["killed"]);
        assert_eq!(faults["undeliverable"], 0);
        assert!(faults["recovery_us"]["p50"].as_u64().unwrap() > 0);
    }
}

#[test]
fn all_who_are_killed_at_once_come_back() {
    for consumers in ["mailbox", "inline"] {
        let arguments = ["fanout", "--shapes", "2000", "--duration", "2s", "--rate", "50"];
        let storm = ["--storm", "0.5", "--consumers", consumers];
        let report = report(&[&arguments[..], &storm].concat());
        let (faults, storm) = (&report["faults"], &report["faults"]["storm"]);
        assert!((900..1_100).contains(&faults["killed"].as_u64().unwrap()), "{faults}");
        assert_eq!(faults["killed"], storm["killed"]);
        assert_eq!(faults["undeliverable"], 0);
        assert!(storm["all_back_ms"].as_f64().unwrap() > 0.0, "{storm}");
        assert!(storm["others_pause_us"]["count"].as_u64().unwrap() > 0, "{storm}");
    }
}

/// Each of them costs its own shape and nothing else, and the flushed LSN waits for no more than a
/// deadline.
#[test]
fn shapes_that_misbehave_at_once_cost_the_others_nothing() {
    let arguments = ["fanout", "--shapes", "2000", "--duration", "2s", "--rate", "50", "--mixed"];
    let report = report(&arguments);
    let faults = &report["faults"];
    assert_eq!((faults["undeliverable"].as_u64(), faults["killed"].as_u64()), (Some(2), Some(0)));
    assert_eq!(faults["mixed"]["shapes"], 4);
    assert!(faults["mixed"]["slow_handled"].as_u64().unwrap() > 0, "{faults}");
    assert!(faults["mixed"]["slow_read"].as_u64().unwrap() > 0, "{faults}");
    let refused = loadgen(&["disjoint", "--mixed"]);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("--mixed"), "{}", text(&refused.stderr));
}

/// Consumers die, so that some owe something: they are named, and nobody else is.
#[test]
fn an_engine_that_is_stopped_under_load_says_who_owes() {
    let arguments = ["crash", "--shapes", "2000", "--duration", "2s", "--crash-rate", "0.5"];
    let report = report(&[&arguments[..], &["--stop"]].concat());
    let faults = &report["faults"];
    assert!(faults["shutdown_ms"].as_f64().unwrap() > 0.0, "{faults}");
    assert!(faults["owing_at_shutdown"].as_u64().unwrap() <= 2_000, "{faults}");
}

#[test]
fn an_open_loop_reports_latencies() {
    let arguments = ["fanout", "--shapes", "100", "--duration", "500ms", "--rate", "200"];
    let latency = &report(&arguments)["latency_us"];
    assert!(latency["publish_to_flushed"]["count"].as_u64().unwrap() >= 90);
    assert!(latency["publish_to_delivered"]["count"].as_u64().unwrap() >= 9_000);
}

#[test]
fn figures_of_the_log_have_mailbox_figures_beside_them() {
    let arguments = ["scatter", "--shapes", "100", "--duration", "200ms", "--consumers", "log"];
    let report = report(&arguments);
    assert_eq!(report["throughput"]["deliveries"], "logged");
    assert_eq!(report["mailbox"]["throughput"]["deliveries"], "handled");
    assert_eq!(report["mailbox"]["config"]["consumers"], "mailbox");
}

#[test]
fn consumers_that_only_trail_are_verified_too() {
    let arguments = ["crash", "--shapes", "1000", "--duration", "2s", "--crash-rate", "0.5"];
    let report = report(&[&arguments[..], &["--ack", "log"]].concat());
    assert_eq!(report["verification"]["consumers_checked"], 1_000);
}

#[test]
fn a_run_that_fails_its_verification_shows_no_figure() {
    // Nobody is killed so seldom in so short a time, and crash promises kills of each kind.
    let arguments = ["crash", "--shapes", "50", "--duration", "200ms", "--crash-rate", "0.0001"];
    let output = loadgen(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    let error = text(&output.stderr);
    assert!(error.contains("failed its verification") && error.contains("mid_transaction"));
    assert!(!error.contains("deliveries/s"), "{error}");
}

#[test]
fn what_cannot_run_says_why() {
    let refused = |arguments: &[&str], reason: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        let output = command.arg("run").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let error = text(&output.stderr);
        assert!(error.contains(reason), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty());
    };
    refused(&["crash", "--consumers", "log"], "nobody to kill");
    #[cfg(not(feature = "postgres"))]
    {
        let store = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let store = store.path().to_str().unwrap();
        refused(&["fanout", "--source", "postgres", "--store", store], "--features postgres");
    }
    if Path::new("/dev/shm").is_dir() {
        refused(&["fanout", "--shapes", "1", "--store", "/dev/shm/loadgen-test"], "not durable");
    }
}

#[test]
fn reports_are_written_under_names_that_sort() {
    let out = tempfile::tempdir().unwrap();
    let directory = out.path().to_str().unwrap();
    report(&["disjoint", "--shapes", "50", "--duration", "200ms", "--out", directory]);
    let entries = std::fs::read_dir(out.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].contains("disjoint") && names[0].ends_with(".html"), "{names:?}");
    let page = std::fs::read_to_string(out.path().join(&names[0])).unwrap();
    assert!(page.contains("<svg") && page.contains("deliveries handled / s"));
    // Nothing is fetched from anywhere.
    assert!(!page.contains("src=") && !page.contains("@import"));
}
