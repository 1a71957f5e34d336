//! Runs of the simulator: the seeds that once found a fault, and a thousand others.

use super::{Outcome, simulate};
use std::thread;

/// Seeds that once found a fault.
const FAILED: [u64; 3] = [18, 950, 814_852_777];
/// One thread a core of a small machine.
const THREADS: u64 = 2;

#[test]
fn seeds_that_failed_once() {
    for seed in FAILED {
        simulate(seed).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn a_seed_has_one_run() {
    assert_eq!(simulate(5), simulate(5));
}

/// `WALFAN_SIM_SEED` and `WALFAN_SIM_RUNS` choose where it begins and how long it goes on.
#[test]
fn many_seeds() {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let first: u64 = from_env("WALFAN_SIM_SEED").unwrap_or(1);
    let runs: u64 = from_env("WALFAN_SIM_RUNS").unwrap_or(1_000);
    let part = |thread: u64| {
        let mut sum = Outcome::default();
        for seed in (first..first + runs).filter(|seed| seed % THREADS == thread) {
            let outcome = simulate(seed).unwrap_or_else(|failure| panic!("{failure}"));
            sum.lives += outcome.lives;
            sum.power_cuts += outcome.power_cuts;
            sum.disk_failures += outcome.disk_failures;
            sum.undeliverable += outcome.undeliverable;
        }
        sum
    };
    let sums: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || part(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!("seeds {first} to {}: {sums:?}", first + runs - 1);
    if runs >= 1_000 {
        // Each kind of fault came up, often.
        for sum in sums {
            assert!(sum.power_cuts > 100 && sum.disk_failures > 100 && sum.undeliverable > 0);
        }
    }
}
