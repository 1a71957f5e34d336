//! Small runs of the binary on a real Postgres: on one that it starts by itself, and on one that is
//! given to it, whose connection breaks meanwhile; and runs that must fail, and then show no figure
//! and leave nothing behind.

#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a finding")]

#[path = "../../engine/tests/cluster/mod.rs"]
mod cluster;

use cluster::Cluster;
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// So long nothing in a test takes; what takes longer has failed.
const LONG: Duration = Duration::from_secs(120);

/// A run of the binary on a fresh store beside the sources, which lie on a disk where /tmp may not.
struct Run {
    child: Child,
    _store: TempDir,
}

impl Run {
    fn start(arguments: &[&str], temporary: Option<&TempDir>) -> Run {
        let store = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.arg("run").args(arguments).args(["--warmup", "100ms", "--json", "-", "--store"]);
        command.arg(store.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(temporary) = temporary {
            command.env("TMPDIR", temporary.path());
        }
        Run { child: command.spawn().unwrap(), _store: store }
    }

    fn output(self) -> Output {
        self.child.wait_with_output().unwrap()
    }

    /// The report of a run that has to succeed.
    fn report(self) -> Value {
        let output = self.output();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["verified"], true);
        assert_eq!(report["config"]["source"], "postgres");
        let postgres = &report["postgres"];
        assert_eq!(postgres["connections"], 4);
        let position = |name: &str| lsn(postgres[name].as_str().unwrap());
        assert!(position("confirmed") >= position("wal_end"), "{postgres}");
        assert!(position("wal_end") > position("slot_start"), "{postgres}");
        assert!(postgres["retained_bytes"].as_u64().is_some());
        report
    }

    /// What a run says that has to fail its verification.
    fn failure(self) -> String {
        let output = self.output();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert_eq!(text(&output.stdout), "");
        assert!(!error.contains("deliveries/s"), "{error}");
        error
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lsn(text: &str) -> u64 {
    let (high, low) = text.split_once('/').unwrap();
    let hex = |digits| u64::from_str_radix(digits, 16).unwrap();
    hex(high) << 32 | hex(low)
}

/// The cluster's address, as one gives it to loadgen.
fn address(cluster: &Cluster) -> String {
    let conninfo = cluster.conninfo();
    let host = conninfo.split(' ').find_map(|part| part.strip_prefix("host=")).unwrap();
    format!("postgres://postgres@/postgres?host={host}")
}

/// Waits until the run writes.
fn wait_for_rows(cluster: &Cluster) {
    let start = Instant::now();
    let rows = "SELECT count(*) > 0 FROM loadgen.items";
    while cluster.sql(rows).ok().as_deref() != Some("t") {
        assert!(start.elapsed() < LONG, "no rows come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How much of a run is left on the server.
fn left(cluster: &Cluster) -> String {
    let counts = "SELECT (SELECT count(*) FROM pg_replication_slots) \
        + (SELECT count(*) FROM pg_publication) \
        + (SELECT count(*) FROM pg_namespace WHERE nspname = 'loadgen')";
    cluster.sql(counts).unwrap()
}

#[test]
fn crash_on_a_server_of_its_own_confirms_all_that_was_written() {
    // The server's user has to reach what lies in it.
    let readable = Permissions::from_mode(0o755);
    let temporary = tempfile::Builder::new().permissions(readable).tempdir().unwrap();
    let arguments = ["crash", "--source", "postgres", "--shapes", "500", "--duration", "3s"];
    let more = ["--crash-rate", "0.5", "--verify", "all"];
    let report = Run::start(&[&arguments[..], &more].concat(), Some(&temporary)).report();
    let faults = &report["faults"];
    for kind in ["handler", "factory", "mid_transaction", "queued_unreported"] {
        assert!(faults["by_kind"][kind].as_u64().unwrap() > 0, "{faults}");
    }
    assert_eq!(faults["undeliverable"], 0);
    assert_eq!(report["verification"]["logs_read"], 500);
    assert_eq!(report["postgres"]["throwaway"], true);
    assert_eq!(report["postgres"]["clauses_checked"], 100);
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "the server's directory");
}

#[test]
fn a_given_server_is_left_as_it_was_and_may_break_the_connection() {
    let cluster = Cluster::start(&[]).unwrap();
    let address = address(&cluster);
    for scenario in ["scatter", "disjoint"] {
        let arguments = [scenario, "--source", &address, "--shapes", "200", "--duration", "2s"];
        let run = Run::start(&[&arguments[..], &["--verify", "all"]].concat(), None);
        wait_for_rows(&cluster);
        cluster
            .sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
            .unwrap();
        let report = run.report();
        assert!(report["postgres"]["streams"].as_u64().unwrap() >= 2, "{}", report["postgres"]);
        assert_eq!(report["verification"]["logs_read"], 200);
        assert!(!report["command"].as_str().unwrap().contains("host="), "an address is shown");
        assert_eq!(left(&cluster), "0");
    }
    let arguments = ["fanout", "--source", &address, "--shapes", "100", "--rate", "100"];
    let report = Run::start(&[&arguments[..], &["--duration", "1s"]].concat(), None).report();
    let latency = &report["latency_us"];
    assert!(latency["publish_to_flushed"]["count"].as_u64().unwrap() >= 90, "{latency}");
    assert!(latency["publish_to_delivered"]["count"].as_u64().unwrap() >= 9_000, "{latency}");
}

#[test]
fn what_others_do_to_the_table_fails_the_run() {
    let cluster = Cluster::start(&[]).unwrap();
    let address = address(&cluster);
    let arguments = ["fanout", "--source", &address, "--shapes", "50", "--duration", "5s"];
    for (statement, finding) in [
        ("INSERT INTO loadgen.items VALUES (1, 'hot', 0, '0', 'x')", "not one that loadgen sent"),
        // One that is there, whichever was written first.
        (
            "DELETE FROM loadgen.items WHERE id = (SELECT min(id) FROM loadgen.items)",
            "loadgen never does",
        ),
    ] {
        let run = Run::start(&arguments, None);
        wait_for_rows(&cluster);
        std::thread::sleep(Duration::from_millis(200));
        cluster.sql(statement).unwrap();
        let error = run.failure();
        assert!(error.contains("failed its verification") && error.contains(finding), "{error}");
        assert_eq!(left(&cluster), "0");
    }
}

#[test]
fn what_is_on_the_server_already_is_not_touched() {
    let cluster = Cluster::start(&[]).unwrap();
    cluster.sql("CREATE SCHEMA loadgen; CREATE TABLE loadgen.items (mine int)").unwrap();
    let arguments = ["fanout", "--source", &address(&cluster), "--shapes", "1"];
    let error = Run::start(&arguments, None).failure();
    assert!(error.contains("a schema loadgen") && error.contains("DROP SCHEMA"), "{error}");
    assert_eq!(cluster.sql("SELECT count(mine) FROM loadgen.items").unwrap(), "0");
    let nowhere = ["fanout", "--source", "postgres://nobody@/nowhere?host=/nowhere"];
    let error = Run::start(&nowhere, None).failure();
    assert!(error.contains("cannot connect"), "{error}");
}
