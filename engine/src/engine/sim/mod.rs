//! Simulator: the machines that run in production, pumped one at a time in an order that a seed
//! decides, over a disk that loses what was not synced. Consumers die in every way, fail to start,
//! or do so after they were given up, hang in the middle of a delivery, withhold reports, ask for
//! more time, lie and take reports back; shapes come and go in the middle of transactions, and are
//! removed twice; tables are truncated and altered; the source begins again below; writes, syncs,
//! names and openings fail; the process is killed and the power is cut. An oracle checks each
//! delivery, what readers find, the flushed LSN (INV1), what is said of health (INV12), and at the
//! end that everybody has everything.
//!
//! It holds none of the engine's logic. A failure names its seed, which repeats the run as long as
//! the simulator stays as it is.
#![allow(clippy::unwrap_used, reason = "a run that cannot go on fails, and says so")]

mod act;
mod check;
mod consumer;
mod handler;
mod hang;
mod health;
mod life;
mod load;
mod nap;
mod oracle;
mod stop;
#[cfg(test)]
mod tests;
mod thin;

pub use crate::log::Trial as IndexTrial;

use crate::consumer::panic_text;
use crate::log::SimulatedDisk;
use crate::shard::Refusal;
use crate::words::{Fragment, Handle, Lsn, Slot};
use consumer::World;
use crossbeam_channel::Receiver;
use health::Held;
use life::Life;
use load::Load;
use oracle::{Rng, TABLES, Transaction};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thin::Keeps;

/// Steps of one run. A pump or a runner does in one of them what there is.
const STEPS: usize = 300;
/// Transactions of one run.
const TRANSACTIONS: usize = 48;
const SHARDS: usize = 2;
const RUNNERS: usize = 2;

/// What runners have the core fetch before they come to it, to be measured alone: the line of
/// memory around an address, whatever lies there.
pub fn prefetch(address: usize) {
    crate::prefetch::prefetch(address);
}

/// What a run went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Transactions that were published.
    pub transactions: u64,
    /// Shapes that were added.
    pub shapes: u64,
    /// Starts of the process.
    pub lives: u64,
    /// Of these, after a power cut.
    pub power_cuts: u64,
    /// Of these, after a shutdown in good order.
    pub shutdowns: u64,
    /// Times that the source lost its connection, and began again below.
    pub reconnects: u64,
    /// Times that the disk failed.
    pub disk_failures: u64,
    /// Indexes of a log's files that were sealed.
    pub sealed: u64,
    /// Of these, which were spoilt or lost.
    pub spoilt: u64,
    /// Times that a log's old files were thinned.
    pub thinned: u64,
    /// Shapes that were given initial rows.
    pub loaded: u64,
    /// Ends of consumers' incarnations.
    pub deaths: u64,
    /// Factories that were given up because they did not answer.
    pub timed_out: u64,
    /// Handlers that did not return for a while.
    pub naps: u64,
    /// Of these, those whose shape was given up by then.
    pub overslept: u64,
    /// Runners that took the place of one that hung.
    pub replaced: u64,
    /// Looks of the watch after which health was red, and of these, those that named a shape.
    pub red: u64,
    /// See `red`.
    pub named: u64,
    /// Shapes that were given up.
    pub undeliverable: u64,
    /// Shapes that ended because their table was truncated or altered.
    pub invalidated: u64,
    /// Shapes that were refused because their table was altered meanwhile.
    pub refused: u64,
}

/// A run that failed: a fault of the engine, or of the simulator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulator failed at seed {seed}: {cause}; to repeat it: make sim SEED={seed} RUNS=1")]
#[non_exhaustive]
pub struct Failure {
    /// What repeats the run.
    pub seed: u64,
    /// What did not hold.
    pub cause: String,
}

/// Runs the engine's machines on this thread, in an order and with faults that `seed` decides. The
/// same seed has the same run.
///
/// # Errors
/// When something does not hold that must.
pub fn simulate(seed: u64) -> Result<Outcome, Failure> {
    let run = || {
        let mut sim = Sim::new(seed);
        (0..STEPS).for_each(|_| sim.step());
        sim.settle();
        sim.end();
        sim.outcome
    };
    let caught = catch_unwind(AssertUnwindSafe(run));
    caught.map_err(|panic| Failure { seed, cause: panic_text(panic) })
}

type Answer = Receiver<Result<usize, Refusal>>;

/// What the test knows of a shape.
#[derive(Debug)]
enum Known {
    Adding(Answer),
    Live,
    Removing(Answer),
    Gone,
}

struct Sim {
    rng: Rng,
    disk: SimulatedDisk,
    /// Where initial rows lie.
    rows: SimulatedDisk,
    /// What is kept of the logs.
    keeps: Keeps,
    /// What the source was told that it may forget.
    floor: Lsn,
    world: Arc<World>,
    began: Instant,
    now: Instant,
    /// The clock of who thins goes ahead by so much.
    ahead: Duration,
    life: Option<Life>,
    /// Whether the source has said in this life which transactions came in earlier ones, and the
    /// latest of these.
    told: bool,
    earlier: u64,
    shapes: BTreeMap<Handle, Known>,
    /// Who was given which slot of which shard, over all lives.
    given: BTreeMap<(u32, Slot), Handle>,
    loads: BTreeMap<Handle, Load>,
    /// Who asked to remove what was being removed already.
    again: Vec<Answer>,
    /// The next transaction to be published, and its fragments that are left.
    next: usize,
    pending: Vec<Arc<Fragment>>,
    /// The last commit of which something was published, and what each shard had before.
    after: Lsn,
    accepted: [Lsn; SHARDS],
    /// The last commit of which something was published, in any life.
    published: Lsn,
    /// Each table as the source has announced it last.
    versions: [u32; TABLES],
    /// As it was checked last.
    flushed: Lsn,
    /// Whether handlers hang too: in half of the runs, so that the others stay what they were.
    naps: bool,
    held: Held,
    outcome: Outcome,
}

impl Sim {
    fn new(seed: u64) -> Sim {
        let mut rng = Rng::new(seed);
        let transactions = Transaction::stream(&mut rng, TRANSACTIONS);
        let world = Arc::new(World::new(transactions, rng.next(), seed % 2 == 1));
        let (now, keeps) = (Instant::now(), Keeps::random(&mut rng));
        let mut sim = Sim {
            rng,
            disk: SimulatedDisk::new(SHARDS as u32),
            rows: SimulatedDisk::empty(),
            keeps,
            floor: Lsn::ZERO,
            world,
            began: now,
            now,
            ahead: Duration::ZERO,
            life: None,
            told: false,
            earlier: 0,
            shapes: BTreeMap::new(),
            given: BTreeMap::new(),
            loads: BTreeMap::new(),
            again: Vec::new(),
            next: 0,
            pending: Vec::new(),
            after: Lsn::ZERO,
            accepted: [Lsn::ZERO; SHARDS],
            published: Lsn::ZERO,
            versions: [0; TABLES],
            flushed: Lsn::ZERO,
            naps: seed % 2 == 1,
            held: Held::NOT,
            outcome: Outcome::default(),
        };
        sim.open();
        sim
    }

    fn step(&mut self) {
        let shard = self.rng.below(SHARDS as u64) as usize;
        self.disk.set_time(self.since_1970());
        match self.rng.below(122) {
            0..=21 => self.publish(),
            22..=41 => {
                let now = self.now;
                self.life().pumps[shard].step(now);
            }
            42..=54 => self.sync(shard),
            55..=74 => {
                let runner = self.rng.below(RUNNERS as u64) as usize;
                self.run_one(runner);
            }
            75..=81 => self.round(),
            82..=85 => self.seal(shard),
            86..=88 => self.read(),
            89..=91 => self.add(),
            92 => self.remove(),
            93..=94 => self.tick(),
            95 => self.confirm(),
            96..=97 => self.world.report_late(),
            98 => {
                // One of the next operations fails: whichever that is.
                let operations = self.rng.below(12) as usize;
                let disk = if self.rng.below(4) == 0 { &self.rows } else { &self.disk };
                disk.fail_after(Some(operations));
            }
            99..=103 => self.thin(),
            104..=110 => self.load(),
            111..=115 => self.hang(),
            116..=120 => self.hung(),
            _ => match self.rng.below(4) {
                0..=1 => self.crash(),
                2 => self.shut_down(),
                _ => self.reconnect(),
            },
        }
        self.check();
    }

    /// Everybody in turn, as on a machine with nothing else to do.
    fn round(&mut self) {
        self.publish();
        self.now += Duration::from_millis(1);
        let now = self.now;
        for shard in 0..SHARDS {
            self.life().pumps[shard].step(now);
            self.sync(shard);
        }
        for runner in 0..RUNNERS {
            while self.run_one(runner) {}
        }
        self.watch();
    }

    /// Time passes, now and then a lot: a machine was still.
    fn tick(&mut self) {
        let most = if self.rng.below(4) == 0 { 300 } else { 30 };
        self.now += Duration::from_millis(self.rng.below(most));
        self.watch();
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().unwrap()
    }

    /// The process is killed, at whatever point it is, or the power is cut; it is started again.
    fn crash(&mut self) {
        self.held = Held::NOT;
        self.world.before_crash();
        self.count_deaths();
        self.end();
        self.loads.clear();
        self.again.clear();
        self.world.all_dead();
        if self.rng.below(2) == 0 {
            let rng = &mut self.rng;
            self.disk.cut(|end| rng.below(end));
            self.rows.cut(|end| rng.below(end));
            self.outcome.power_cuts += 1;
        }
        if self.rng.below(2) == 0 {
            // What is beside the log only saves work.
            let rng = &mut self.rng;
            self.outcome.spoilt += u64::from(self.disk.spoil_index(|end| rng.below(end)));
        }
        self.open();
        // What an earlier life left owed stands still from here on.
        self.check_health();
        let life = self.life.as_ref().unwrap();
        for (handle, known) in &mut self.shapes {
            let lives = life.inner.control.registry.place(*handle);
            let may_be_gone = self.world.may_be_gone(*handle, self.published);
            *known = match (&known, lives) {
                (Known::Gone, None) | (Known::Adding(_) | Known::Removing(_), None) => Known::Gone,
                (Known::Live, None) if may_be_gone => Known::Gone,
                (Known::Adding(_) | Known::Live | Known::Removing(_), Some(place)) => {
                    self.world.lives(*handle, place.first, &place.initial);
                    Known::Live
                }
                (known, lives) => panic!("shape {handle} was {known:?} and is {lives:?} now"),
            };
            if matches!(known, Known::Gone) {
                self.world.gone(*handle);
            }
        }
        self.check_starts();
    }

    /// The process is gone, and with it every consumer and factory, wherever it lay.
    fn end(&mut self) {
        self.life().naps.clear();
        self.life = None;
        assert_eq!(Arc::strong_count(&self.world), 1, "a consumer or a factory is left behind");
    }

    fn count_deaths(&mut self) {
        let counters = &self.life().inner.control.counters;
        let deaths: u64 = counters.iter().map(|counters| counters.deaths.get()).sum();
        self.outcome.deaths += deaths;
    }

    fn open(&mut self) {
        if self.rng.below(6) == 0 {
            let disk = if self.rng.below(4) == 0 { &self.rows } else { &self.disk };
            disk.fail_after(Some(self.rng.below(8) as usize));
        }
        let opened = Life::start(self);
        self.disk.fail_after(None);
        self.rows.fail_after(None);
        self.outcome.lives += 1;
        self.flushed = Lsn::ZERO;
        let life = opened.unwrap_or_else(|_| {
            // What it left half-done is no obstacle for the next start.
            self.outcome.disk_failures += 1;
            Life::start(self).unwrap()
        });
        let confirmed = life.inner.floor.lock().get();
        self.accepted =
            std::array::from_fn(|shard| life.inner.shards[shard].link.durable_through());
        // The source sends everything that it was not told to forget.
        let transactions = &self.world.transactions;
        self.next = transactions.partition_point(|t| t.end() <= confirmed);
        let before = &transactions[..self.next];
        self.versions = std::array::from_fn(|table| {
            before.iter().rev().find_map(|t| t.version(table)).unwrap_or(0)
        });
        for (table, version) in self.versions.into_iter().enumerate() {
            life.inner.control.registry.learn(oracle::relation(table, version));
        }
        self.life = Some(life);
        self.told = false;
        self.pending.clear();
        self.after = Lsn::ZERO;
    }
}
