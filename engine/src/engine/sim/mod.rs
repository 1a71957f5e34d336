//! Simulator: the machines that run in production, pumped by one thread in an order that a seed
//! decides, over a disk that loses what was not synced. Consumers die in every way, fail to start,
//! withhold reports, lie and take reports back; shapes come and go in the middle of transactions;
//! writes, syncs, names and openings fail; the process is killed and the power is cut. An oracle
//! checks each delivery, the flushed LSN (INV1), and at the end that everybody has everything.
//!
//! It holds none of the engine's logic. A failure names its seed; `FAILED` below keeps those that
//! once found something.
#![allow(clippy::unwrap_used, reason = "a run that cannot go on fails, and says so")]

mod consumer;
mod oracle;
#[cfg(test)]
mod tests;

use super::builder::Builder;
use super::open::{Assembly, assemble_simulated};
use super::publisher::{Publisher, TryPublishError};
use super::threads::{Parts, SyncPart};
use super::{Engine, Inner, StartError};
use crate::consumer::{Ack, panic_text};
use crate::control::Event;
use crate::log::{ReadLimits, SimulatedDisk, read_shape};
use crate::run::{Runner, Watch};
use crate::shard::{Message, Pump, Refusal};
use crate::words::{Fragment, Handle, Lsn, Offset, ShapeDefinition};
use consumer::{Spec, World};
use crossbeam_channel::{Receiver, bounded};
use oracle::{Clause, Rng, Transaction, items};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Steps of one run, and rounds after which everything must be quiet.
const STEPS: usize = 300;
const ROUNDS_MAX: usize = 20_000;
const SHARDS: usize = 2;
const RUNNERS: usize = 2;

/// Transactions of one run.
const TRANSACTIONS: usize = 48;

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
    /// Times that the disk failed.
    pub disk_failures: u64,
    /// Ends of consumers' incarnations, in the last life.
    pub deaths: u64,
    /// Shapes that were given up.
    pub undeliverable: u64,
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

/// One life of the process.
struct Life {
    inner: Arc<Inner>,
    publisher: Publisher,
    pumps: Vec<Pump>,
    syncers: Vec<SyncPart>,
    watch: Watch,
    runners: Vec<Runner>,
}

struct Sim {
    rng: Rng,
    disk: SimulatedDisk,
    /// What the source was told that it may forget.
    floor: Lsn,
    world: Arc<World>,
    now: Instant,
    life: Option<Life>,
    shapes: BTreeMap<Handle, Known>,
    /// The next transaction to be published, and its fragments that are left.
    next: usize,
    pending: Vec<Arc<Fragment>>,
    /// The last commit of which something was published, and what each shard had before.
    after: Lsn,
    accepted: [Lsn; SHARDS],
    /// As it was checked last.
    flushed: Lsn,
    outcome: Outcome,
}

impl Sim {
    fn new(seed: u64) -> Sim {
        let mut rng = Rng::new(seed);
        let transactions = Transaction::stream(&mut rng, TRANSACTIONS);
        let world = Arc::new(World::new(transactions, rng.next()));
        let mut sim = Sim {
            rng,
            disk: SimulatedDisk::new(SHARDS as u32),
            floor: Lsn::ZERO,
            world,
            now: Instant::now(),
            life: None,
            shapes: BTreeMap::new(),
            next: 0,
            pending: Vec::new(),
            after: Lsn::ZERO,
            accepted: [Lsn::ZERO; SHARDS],
            flushed: Lsn::ZERO,
            outcome: Outcome::default(),
        };
        sim.open();
        sim
    }

    fn open(&mut self) {
        let world = Arc::clone(&self.world);
        let find = move |handle: Handle, _: &ShapeDefinition| world.spec(handle);
        let builder = Engine::builder()
            .shards(SHARDS)
            .runners(RUNNERS)
            .mailbox_places(4)
            .fragment_credits(8)
            // Not memory: the simulated disk stands in for it.
            .directory("simulated")
            .consumers(find);
        if self.rng.below(6) == 0 {
            self.disk.fail_after(Some(self.rng.below(8) as usize));
        }
        let opened = Life::start(&builder, self.now, &self.disk, self.floor);
        self.disk.fail_after(None);
        self.outcome.lives += 1;
        self.flushed = Lsn::ZERO;
        let life = opened.unwrap_or_else(|_| {
            // What it left half-done is no obstacle for the next start.
            self.outcome.disk_failures += 1;
            Life::start(&builder, self.now, &self.disk, self.floor).unwrap()
        });
        life.inner.control.registry.learn(items());
        let confirmed = life.inner.floor.lock().get();
        self.accepted =
            std::array::from_fn(|shard| life.inner.shards[shard].link.durable_through());
        self.life = Some(life);
        // The source sends everything that it was not told to forget.
        let transactions = &self.world.transactions;
        self.next = transactions.partition_point(|t| t.end() <= confirmed);
        self.pending.clear();
        self.after = Lsn::ZERO;
    }

    /// The process is killed, at whatever point it is, or the power is cut; it is started again.
    fn crash(&mut self) {
        self.world.before_crash();
        self.life = None;
        self.world.all_dead();
        if self.rng.below(2) == 0 {
            let rng = &mut self.rng;
            self.disk.cut(|end| rng.below(end));
            self.outcome.power_cuts += 1;
        }
        self.open();
        let life = self.life.as_ref().unwrap();
        for (handle, known) in &mut self.shapes {
            let lives = life.inner.control.registry.place(*handle);
            let condemned = self.world.is_condemned(*handle);
            *known = match (&known, lives) {
                (Known::Gone, None) | (Known::Adding(_) | Known::Removing(_), None) => Known::Gone,
                (Known::Live, None) if condemned => Known::Gone,
                (Known::Adding(_) | Known::Live | Known::Removing(_), Some(place)) => {
                    self.world.lives(*handle, place.first);
                    Known::Live
                }
                (known, lives) => panic!("shape {handle} was {known:?} and is {lives:?} now"),
            };
            if matches!(known, Known::Gone) {
                self.world.gone(*handle);
            }
        }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..=24 => self.publish(),
            25..=49 => {
                let shard = self.rng.below(SHARDS as u64) as usize;
                let now = self.now;
                self.life().pumps[shard].step(now);
            }
            50..=64 => {
                let shard = self.rng.below(SHARDS as u64) as usize;
                self.sync(shard);
            }
            65..=89 => {
                let runner = self.rng.below(RUNNERS as u64) as usize;
                self.life().runners[runner].run_one().unwrap();
            }
            90..=92 => self.add(),
            93 => {
                // One of the next operations fails: whichever that is.
                let operations = self.rng.below(12) as usize;
                self.disk.fail_after(Some(operations));
            }
            94 => self.remove(),
            95..=96 => {
                self.now += Duration::from_millis(self.rng.below(30));
                let now = self.now;
                self.life().watch.tick(now);
            }
            97 => self.confirm(),
            98 => self.world.report_late(),
            _ => self.crash(),
        }
        self.check();
    }

    /// A failure of the disk is final (INV10): the process is started again.
    fn sync(&mut self, shard: usize) {
        let Err(cause) = self.life().sync(shard) else { return };
        self.life().inner.control.poison(&cause);
        self.outcome.disk_failures += 1;
        let now = self.now;
        for pump in &mut self.life().pumps {
            pump.step(now);
        }
        let flushed = self.life().inner.control.flushed.global();
        self.world.check_flushed(flushed);
        self.crash();
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().unwrap()
    }

    fn publish(&mut self) {
        if self.pending.is_empty() {
            let Some(transaction) = self.world.transactions.get(self.next) else { return };
            self.pending = transaction.fragments(self.rng.below(4) as usize + 1);
            self.next += 1;
        }
        let Some(fragment) = self.pending.first().cloned() else { return };
        let commit = fragment.commit_lsn();
        match self.life().publisher.try_publish(fragment) {
            Ok(()) => {
                self.pending.remove(0);
                self.after = self.after.max(commit);
                self.outcome.transactions += u64::from(self.pending.is_empty());
            }
            Err(TryPublishError::Full(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn add(&mut self) {
        if self.shapes.len() > 40 {
            return;
        }
        let clause = Clause::random(&mut self.rng);
        let inner = Arc::clone(&self.life().inner);
        let handle = Handle::new(inner.take_handles(1));
        let ack = if self.rng.below(3) == 0 { Ack::Log } else { Ack::Consumer };
        let inline = self.rng.below(2) == 0;
        let doomed = self.rng.below(16) == 0;
        self.outcome.shapes += 1;
        let shard = (handle.as_u64() % SHARDS as u64) as usize;
        let first = Offset::commit_mark(self.after.max(self.accepted[shard]));
        self.world.add(handle, Spec { clause, ack, inline, doomed }, first);
        let consumer = self.world.spec(handle);
        let shape = inner.prepare(handle, clause.definition(), consumer).unwrap();
        let (reply, answer) = bounded(1);
        inner.send(shard, Message::Add(vec![shape], None, reply)).unwrap();
        self.shapes.insert(handle, Known::Adding(answer));
    }

    fn remove(&mut self) {
        let live: Vec<Handle> =
            self.shapes.iter().filter(|(_, k)| matches!(k, Known::Live)).map(|(h, _)| *h).collect();
        if live.is_empty() {
            return;
        }
        let handle = live[self.rng.below(live.len() as u64) as usize];
        let inner = Arc::clone(&self.life().inner);
        let Some(place) = inner.control.registry.place(handle) else { return };
        let (reply, answer) = bounded(1);
        inner.send(place.shard as usize, Message::Remove(handle, place.slot, reply)).unwrap();
        self.world.gone(handle);
        self.shapes.insert(handle, Known::Removing(answer));
    }

    /// The source is told what is flushed.
    fn confirm(&mut self) {
        let inner = Arc::clone(&self.life().inner);
        let flushed = inner.control.flushed.global();
        if flushed > Lsn::ZERO {
            inner.floor.lock().raise(flushed.next()).unwrap();
            self.floor = flushed.next();
        }
    }

    fn check(&mut self) {
        let inner = Arc::clone(&self.life().inner);
        assert_eq!(inner.control.state.poisoned(), None);
        for known in self.shapes.values_mut() {
            match known {
                Known::Adding(answer) => match answer.try_recv() {
                    Ok(Ok(1)) => *known = Known::Live,
                    Ok(other) => panic!("adding was answered with {other:?}"),
                    Err(_) => {}
                },
                // Unknown is not gone: it was condemned just before, and is not durably so until
                // its event comes.
                Known::Removing(answer) if matches!(answer.try_recv(), Ok(Ok(_))) => {
                    *known = Known::Gone;
                }
                _ => {}
            }
        }
        for event in inner.control.events.receiver().try_iter() {
            if let Event::Undeliverable { handle, cause, .. } = event {
                self.outcome.undeliverable += 1;
                self.world.condemned(handle, &cause);
                self.shapes.insert(handle, Known::Gone);
            }
        }
        let flushed = inner.control.flushed.global();
        assert!(flushed >= self.flushed, "flushed went back from {} to {flushed}", self.flushed);
        if flushed > self.flushed {
            self.flushed = flushed;
            self.world.check_flushed(flushed);
        }
        self.world.check_consumers();
    }

    /// No more deaths: everything that is left to do is done, and everybody has everything.
    fn settle(&mut self) {
        self.world.calm();
        self.disk.fail_after(None);
        let last = self.world.transactions.last().unwrap().commit;
        for round in 0.. {
            self.publish();
            self.now += Duration::from_millis(1);
            let now = self.now;
            let life = self.life();
            for pump in &mut life.pumps {
                pump.step(now);
            }
            (0..SHARDS).for_each(|shard| life.sync(shard).unwrap());
            for runner in &mut life.runners {
                while runner.run_one().unwrap() {}
            }
            life.watch.tick(now);
            self.world.report_late();
            self.check();
            let inner = &self.life.as_ref().unwrap().inner;
            let flushed = inner.control.flushed.global();
            let done = flushed == last && self.world.unfinished(last).is_none();
            if done && self.shapes.values().all(|k| matches!(k, Known::Live | Known::Gone)) {
                break;
            }
            assert!(
                round < ROUNDS_MAX,
                "stuck: flushed {flushed} of {last}, unfinished {:?}, {:?}",
                self.world.unfinished(last),
                self.shapes.values().filter(|k| !matches!(k, Known::Live | Known::Gone)).count(),
            );
        }
        let counters = &self.life.as_ref().unwrap().inner.control.counters;
        self.outcome.deaths = counters.iter().map(|counters| counters.deaths.get()).sum();
        self.check_logs();
    }

    fn check_logs(&mut self) {
        let inner = Arc::clone(&self.life().inner);
        for handle in self.shapes.iter().filter(|(_, k)| matches!(k, Known::Live)).map(|(h, _)| *h)
        {
            let place = inner.control.registry.place(handle).expect("a live shape is registered");
            let log = &inner.shards[place.shard as usize].log;
            let limits = ReadLimits { changes_max: 7, ..ReadLimits::default() };
            let (mut found, mut after) = (Vec::new(), place.first);
            loop {
                let page = read_shape(log, place.slot, after, limits).unwrap();
                found.extend(page.changes.iter().map(|change| change.offset()));
                after = page.through;
                if page.up_to_date {
                    break;
                }
            }
            assert_eq!(found, self.world.expected(handle), "the log of shape {handle}");
        }
    }
}

impl Life {
    fn start(
        builder: &Builder,
        now: Instant,
        disk: &SimulatedDisk,
        floor: Lsn,
    ) -> Result<Life, StartError> {
        let Assembly { inner, parts } = assemble_simulated(builder, now, disk, floor)?;
        let Parts { pumps, syncers, watch, runners, links, .. } = parts;
        let runner = |_| Runner::new(Arc::clone(&inner.pool), Arc::clone(&links));
        let runners = (0..runners).map(runner).collect();
        let publisher = Publisher::new(Arc::clone(&inner));
        Ok(Life { inner, publisher, pumps, syncers, watch, runners })
    }

    fn sync(&mut self, shard: usize) -> Result<(), String> {
        let part = &mut self.syncers[shard];
        if let Ok(batch) = part.batches.try_recv() {
            part.syncer.commit(&batch).map_err(|error| error.to_string())?;
            part.synced.send(batch).unwrap();
            self.inner.control.waiters.tell(shard, part.syncer.take_news());
        }
        Ok(())
    }
}
