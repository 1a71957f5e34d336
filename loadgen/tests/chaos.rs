//! Chaos in its short form: rounds of every kind, as a user types them, with the real process, disk
//! and signals.

#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a finding")]

use std::process::{Command, Output};

/// Runs `loadgen chaos` with `arguments` on a store beside the sources, which lie on a disk where
/// /tmp may not.
fn chaos(arguments: &[&str]) -> Output {
    let store = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let output = command.arg("chaos").args(arguments).arg("--store").arg(store.path()).output();
    let output = output.unwrap();
    // Each round removes what it has made; on a failure it is kept where the text says, but here.
    if output.status.success() {
        assert_eq!(std::fs::read_dir(store.path()).unwrap().count(), 0);
    }
    output
}

/// Two of every kind, and more kills.
fn rounds(seed: &str) {
    let output = chaos(&["--rounds", "8", "--seed", seed, "--shapes", "64"]);
    let (said, wrong) = (output.stdout, output.stderr);
    let (said, wrong) = (String::from_utf8_lossy(&said), String::from_utf8_lossy(&wrong));
    assert!(output.status.success(), "{said}{wrong}");
    for kind in ["kill", "terminate", "full-disk", "no-handles", "wedged"] {
        assert!(said.lines().any(|line| line.contains(kind)), "{said}");
    }
    assert!(said.contains("nothing lost, nothing twice, no LSN early"), "{said}");
}

#[test]
fn d10_an_engine_that_is_brought_down_in_every_way_loses_and_repeats_nothing() {
    rounds("0");
}

#[test]
fn d10_nor_does_another_one_beside_it() {
    rounds("8");
}

#[test]
fn chaos_needs_a_disk() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let output = command.args(["chaos", "--store", "memory"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("needs a disk"));
}
