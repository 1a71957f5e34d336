//! Chaos: an engine in a process of its own, on a real disk, is brought down under load again and
//! again, started again, and replayed to from what was confirmed; an oracle that knows the workload
//! only compares every sampled log, every consumer's flushed prefix, and every LSN that was told.
//!
//! A round is drawn from its seed, and the command that repeats one is printed with it. The moment
//! of a kill is drawn too, but where the engine is by then is the machine's.

mod consumer;
mod disk;
mod journal;
mod ledger;
mod life;
mod limits;
mod plan;
mod process;
mod publish;
mod round;
mod said;
mod settle;

pub(crate) use life::live;
pub(crate) use plan::Kind;

use crate::cli::ChaosArgs;
use crate::run::RunError;
use crate::store::Place;
use round::{Round, Tally};
use std::fs;
use std::time::Instant;

/// Runs the rounds; the first violation ends them.
pub(crate) fn run(args: &ChaosArgs) -> Result<(), RunError> {
    let mut place = Place::new(&args.store)?;
    let Some(directory) = place.directory().map(ToOwned::to_owned) else {
        return Err(RunError::NoDirectory);
    };
    let mounts = disk::is_allowed(&directory);
    let full = if mounts { "a small file system" } else { "a limit on a file's size" };
    println!(
        "seed {}, {} rounds, {} shapes, {}; full disk: {full}",
        args.seed, args.rounds, args.shapes, place.filesystem
    );
    let (start, mut sum) = (Instant::now(), Tally::default());
    for seed in (0..args.rounds).map(|round| args.seed.wrapping_add(round)) {
        let kind = args.kind.unwrap_or(Kind::of(seed));
        let (began, own) = (Instant::now(), directory.join(format!("round-{seed}")));
        let made = fs::create_dir_all(&own).map_err(|error| error.to_string());
        let round = made.and_then(|()| Round::new(&own, seed, kind, args.shapes, mounts));
        match round.and_then(Round::run) {
            Ok(tally) => {
                println!("{}", line(seed, kind, &tally, began));
                sum.add(&tally);
            }
            Err(what) => {
                place.keep();
                let repeat = repeat(args, seed, kind);
                let kept = own.display().to_string();
                return Err(RunError::Chaos { seed, kind: kind.name(), what, repeat, kept });
            }
        }
    }
    let Tally { lives, transactions, logs, changes, .. } = sum;
    println!(
        "{} rounds, {lives} lives, {transactions} transactions, {logs} logs of {changes} changes \
         read: nothing lost, nothing twice, no LSN early, in {:.1} s",
        args.rounds,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn line(seed: u64, kind: Kind, tally: &Tally, began: Instant) -> String {
    let Tally { lives, transactions, changes, cause, .. } = tally;
    let seconds = began.elapsed().as_secs_f64();
    let cause = cause.lines().next().unwrap_or_default();
    format!(
        "seed {seed:<8} {:10} {lives:>2} lives {transactions:>7} transactions {changes:>8} changes \
         read {seconds:>5.1} s  {cause}",
        kind.name()
    )
}

/// What has this round again.
fn repeat(args: &ChaosArgs, seed: u64, kind: Kind) -> String {
    format!(
        "loadgen chaos --seed {seed} --rounds 1 --kind {} --shapes {}",
        kind.name(),
        args.shapes
    )
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.lives += other.lives;
        self.transactions += other.transactions;
        self.logs += other.logs;
        self.changes += other.changes;
    }
}
