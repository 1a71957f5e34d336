//! Simulator: the machines that run in production, pumped by one thread in an order that a seed
//! decides, against real files. Consumers die, fail to start, withhold reports and take them back;
//! shapes come and go in the middle of transactions; the process is killed and started again. An
//! oracle checks each delivery, the flushed LSN at every step (INV1), and at the end that everybody
//! has everything.
//!
//! A failure prints its seed; `FAILED` below keeps those that once found something.
#![allow(clippy::unwrap_used, reason = "a run that cannot go on fails")]

mod consumer;
mod oracle;

use super::builder::Builder;
use super::open::{Assembly, assemble};
use super::publisher::{Publisher, TryPublishError};
use super::threads::{Parts, SyncPart};
use super::{Engine, Inner};
use crate::consumer::Ack;
use crate::control::Event;
use crate::log::{ReadLimits, read_shape};
use crate::run::{Runner, Watch};
use crate::shard::{Message, Pump, Refusal};
use crate::words::{Fragment, Handle, Lsn, Offset, ShapeDefinition};
use consumer::{Spec, World};
use crossbeam_channel::{Receiver, bounded};
use oracle::{Clause, Rng, Transaction, items};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Seeds that once found a fault.
const FAILED: [u64; 4] = [18, 1_698, 1_861, 814_852_777];
/// Steps of one run, and rounds after which everything must be quiet.
const STEPS: usize = 3_000;
const ROUNDS_MAX: usize = 20_000;
const SHARDS: usize = 2;
const RUNNERS: usize = 2;

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
    seed: u64,
    rng: Rng,
    dir: tempfile::TempDir,
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
}

impl Sim {
    fn new(seed: u64) -> Sim {
        let mut rng = Rng::new(seed);
        let transactions = Transaction::stream(&mut rng, 150);
        let world = Arc::new(World::new(transactions, rng.next()));
        // In memory where the machine has such a place: a run is order and bytes, and no waiting.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut sim = Sim {
            seed,
            rng,
            dir,
            world,
            now: Instant::now(),
            life: None,
            shapes: BTreeMap::new(),
            next: 0,
            pending: Vec::new(),
            after: Lsn::ZERO,
            accepted: [Lsn::ZERO; SHARDS],
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
            .directory(self.dir.path())
            .consumers(find);
        let life = Life::start(&builder, self.now);
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

    /// The process is killed, at whatever point it is, and started again.
    fn crash(&mut self) {
        self.world.before_crash();
        self.life = None;
        self.world.all_dead();
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
                self.life().sync(shard);
            }
            65..=89 => {
                let runner = self.rng.below(RUNNERS as u64) as usize;
                self.life().runners[runner].run_one().unwrap();
            }
            90..=93 => self.add(),
            94 => self.remove(),
            95..=96 => {
                self.now += Duration::from_millis(self.rng.below(30));
                let now = self.now;
                self.life().watch.tick(now);
            }
            97 => self.confirm(),
            98 => self.world.report_late(),
            _ if self.rng.below(6) == 0 => self.crash(),
            _ => {}
        }
        self.check();
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
        let shard = (handle.as_u64() % SHARDS as u64) as usize;
        let first = Offset::commit_mark(self.after.max(self.accepted[shard]));
        self.world.add(handle, Spec { clause, ack, inline }, first);
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
                // Unknown: it was condemned just before.
                Known::Removing(answer) if answer.try_recv().is_ok() => *known = Known::Gone,
                _ => {}
            }
        }
        for event in inner.control.events.receiver().try_iter() {
            if let Event::Undeliverable { handle, cause, .. } = event {
                self.world.condemned(handle, &cause);
                self.shapes.insert(handle, Known::Gone);
            }
        }
        self.world.check_flushed(inner.control.flushed.global());
        self.world.check_consumers();
    }

    /// No more deaths: everything that is left to do is done, and everybody has everything.
    fn settle(&mut self) {
        self.world.calm();
        let last = self.world.transactions.last().unwrap().commit;
        for round in 0.. {
            self.publish();
            self.now += Duration::from_millis(1);
            let now = self.now;
            let life = self.life();
            for pump in &mut life.pumps {
                pump.step(now);
            }
            (0..SHARDS).for_each(|shard| life.sync(shard));
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
    fn start(builder: &Builder, now: Instant) -> Life {
        let Assembly { inner, parts } = assemble(builder, now).unwrap();
        let Parts { pumps, syncers, watch, runners, links, .. } = parts;
        let runner = |_| Runner::new(Arc::clone(&inner.pool), Arc::clone(&links));
        let runners = (0..runners).map(runner).collect();
        let publisher = Publisher::new(Arc::clone(&inner));
        Life { inner, publisher, pumps, syncers, watch, runners }
    }

    fn sync(&mut self, shard: usize) {
        let part = &mut self.syncers[shard];
        if let Ok(batch) = part.batches.try_recv() {
            part.syncer.commit(&batch).unwrap();
            part.synced.send(batch).unwrap();
            self.inner.control.waiters.tell(shard, part.syncer.take_news());
        }
    }
}

fn run(seed: u64) {
    let seed_of = Mutex::new(Some(seed));
    let guard = Guard(&seed_of);
    let mut sim = Sim::new(seed);
    for _ in 0..STEPS {
        sim.step();
    }
    sim.settle();
    assert_eq!(sim.seed, seed);
    *guard.0.lock() = None;
}

/// Names the seed when a run panics.
struct Guard<'a>(&'a Mutex<Option<u64>>);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(seed) = *self.0.lock() {
            eprintln!("the simulator failed at seed {seed}: add it to FAILED");
        }
    }
}

#[test]
fn seeds_that_failed_once() {
    FAILED.into_iter().for_each(run);
}

/// `WALFAN_SIM_SEED` and `WALFAN_SIM_RUNS` choose where it begins and how long it goes on.
#[test]
fn many_seeds() {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let first = from_env("WALFAN_SIM_SEED").unwrap_or(1);
    let runs = from_env("WALFAN_SIM_RUNS").unwrap_or(20);
    (first..first + runs).for_each(run);
}
