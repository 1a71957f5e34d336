//! Life: one life of the engine's process, from the hidden subcommand. It opens the directory,
//! publishes from what was confirmed, acts as the source that forgets what is flushed, and tells
//! all of it, until it is killed, asked to end, or has failed.

use super::consumer::Crowd;
use super::journal::Journal;
use super::limits;
use super::plan::{Load, Plan, Task};
use super::publish::Publishing;
use super::said::{Said, say, say_wrong};
use super::settle;
use crate::workload::Workload;
use signal_hook::consts::{SIGTERM, SIGXFSZ};
use std::collections::HashMap;
use std::io::BufRead;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use walfan::{Engine, Event, Handle, Health, Lsn, Publisher, WaitError};

/// How long the flushed LSN is waited for before everything else is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// How long a failed engine is watched.
const AFTERMATH: Duration = Duration::from_millis(50);
/// A source tells its server now and then, not at each move.
const CONFIRM_EVERY: u64 = 5;

/// The engine, and what a life knows of it.
pub(super) struct Alive {
    pub(super) plan: Plan,
    pub(super) engine: Arc<Engine>,
    pub(super) crowd: Arc<Crowd>,
    /// Shape numbers, by handle.
    numbers: HashMap<Handle, u32>,
    terminated: Arc<AtomicBool>,
    flushed: Lsn,
    moves: u64,
    red: bool,
}

/// Lives as standard input says.
pub(crate) fn live() -> ExitCode {
    crate::consumer::silence_kills();
    match begin() {
        Ok(code) => code,
        Err(what) => {
            say_wrong(what);
            ExitCode::FAILURE
        }
    }
}

fn begin() -> Result<ExitCode, String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|error| format!("no plan: {error}"))?;
    let plan: Plan = serde_json::from_str(&line).map_err(|error| format!("no plan: {error}"))?;
    let terminated = signals()?;
    spawn("loadgen-orphan", end_with_parent)?;
    let journal = Journal::open(&plan.journal).map_err(|error| format!("the journal: {error}"))?;
    let crowd = Arc::new(Crowd::new(&plan, journal));
    if let Some(load) = plan.load() {
        limits::before_open(&plan.directory, load).map_err(|error| format!("limits: {error}"))?;
    }
    let (engine, publisher) = match open(&plan, &crowd) {
        Ok(opened) => opened,
        Err(cause) => {
            say(&Said::Refused { cause });
            return Ok(ExitCode::SUCCESS);
        }
    };
    let numbers = (0..).zip(&plan.handles).map(|(shape, handle)| (Handle::new(*handle), shape));
    let (numbers, flushed) = (numbers.collect(), engine.flushed_lsn());
    let engine = Arc::new(engine);
    let alive = Alive { plan, engine, crowd, numbers, terminated, flushed, moves: 0, red: false };
    alive.tell_open();
    match alive.plan.task.clone() {
        Task::Found => alive.found(publisher),
        Task::Load(load) => alive.load(publisher, &load),
        Task::Settle { through, sample } => settle::settle(alive, publisher, through, &sample),
    }
}

/// Set when the process is asked to end. A write beyond the limit of a file's size is an error, and
/// not the end.
fn signals() -> Result<Arc<AtomicBool>, String> {
    let (terminated, ignored) = (Arc::default(), Arc::default());
    let taken = signal_hook::flag::register(SIGTERM, Arc::clone(&terminated))
        .and_then(|_| signal_hook::flag::register(SIGXFSZ, ignored));
    taken.map_err(|error| format!("signals: {error}"))?;
    Ok(terminated)
}

/// Whoever started this process holds its standard input. It is not to outlive them.
fn end_with_parent() {
    let mut line = String::new();
    while std::io::stdin().lock().read_line(&mut line).is_ok_and(|bytes| bytes > 0) {}
    std::process::exit(1);
}

pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>, String> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map_err(|error| format!("the thread {name} could not be started: {error}"))
}

fn open(plan: &Plan, crowd: &Arc<Crowd>) -> Result<(Engine, Publisher), String> {
    let shapes: HashMap<u64, u32> = plan.handles.iter().copied().zip(0..).collect();
    let crowd = Arc::clone(crowd);
    let opened = Engine::builder()
        .shards(plan.shards)
        .runners(plan.runners)
        .directory(&plan.directory)
        .consumer_deadline(Duration::from_millis(plan.deadline_ms))
        .consumers(move |handle, _| match shapes.get(&handle.as_u64()) {
            Some(shape) => crowd.spec(*shape),
            // Of a founding that was cut off.
            None => walfan::ConsumerSpec::Log,
        })
        .start();
    let (engine, publisher) = opened.map_err(|error| error.to_string())?;
    engine.learn(Workload::relation());
    Ok((engine, publisher))
}

impl Alive {
    fn tell_open(&self) {
        let living: Vec<Handle> = self.engine.shapes().into_iter().map(|shape| shape.0).collect();
        let living: std::collections::HashSet<_> = living.into_iter().collect();
        let mut missing: Vec<u32> = Vec::new();
        missing.extend(self.numbers.iter().filter(|(h, _)| !living.contains(h)).map(|(_, n)| n));
        say(&Said::Opened {
            floor: self.engine.floor().as_u64(),
            flushed: self.flushed.as_u64(),
            durable: self.durable(),
            missing,
        });
    }

    /// Of each shard.
    pub(super) fn durable(&self) -> Vec<u64> {
        self.engine.metrics().shards.iter().map(|shard| shard.durable.as_u64()).collect()
    }

    /// The first transaction that a source would send: it sends all that it was not told to forget.
    pub(super) fn first(&self) -> u64 {
        Workload::transactions_through(self.engine.floor())
    }

    fn found(self, publisher: Publisher) -> Result<ExitCode, String> {
        let workload = self.plan.workload();
        let shapes = (0..self.plan.shapes).map(|n| (workload.definition(n), self.crowd.spec(n)));
        let added = self.engine.add_shapes(shapes.collect());
        let handles = added.map_err(|error| format!("adding shapes: {error}"))?;
        say(&Said::Added { handles: handles.iter().map(|handle| handle.as_u64()).collect() });
        drop(publisher);
        self.stop()
    }

    fn load(mut self, publisher: Publisher, load: &Load) -> Result<ExitCode, String> {
        limits::after_open(load).map_err(|error| format!("limits: {error}"))?;
        let publishing = Publishing::start(&self, publisher, load.window)?;
        loop {
            if self.terminated.load(Ordering::Acquire) {
                return self.stop();
            }
            if let Err(cause) = self.look(LOOK) {
                return self.aftermath(cause);
            }
            if publishing.is_done() && self.engine.failure().is_none() {
                return publishing.join().and(Err("publishing has ended".into()));
            }
        }
    }

    /// Waits a little for the flushed LSN, and tells what is new. An error is the engine's.
    pub(super) fn look(&mut self, wait: Duration) -> Result<(), String> {
        let next = Lsn::new(self.flushed.as_u64() + 1);
        let waited = self.engine.wait_flushed(next, wait);
        self.hear();
        let flushed = match waited {
            Ok(flushed) | Err(WaitError::TimedOut { flushed, .. }) => flushed,
            Err(error) => return Err(error.to_string()),
        };
        if flushed < self.flushed {
            say_wrong(format!("the flushed LSN went back from {} to {flushed}", self.flushed));
        }
        if flushed > self.flushed {
            self.flushed = flushed;
            self.moves += 1;
            say(&Said::Flushed { lsn: flushed.as_u64() });
            if self.moves.is_multiple_of(CONFIRM_EVERY) {
                self.confirm()?;
            }
        }
        Ok(())
    }

    /// What is flushed may be forgotten by its source.
    pub(super) fn confirm(&self) -> Result<(), String> {
        let Some(last) = Workload::transactions_through(self.flushed).checked_sub(1) else {
            return Ok(());
        };
        let end = Workload::end_lsn(last);
        self.engine.raise_floor(end).map_err(|error| error.to_string())?;
        say(&Said::Confirmed { lsn: end.as_u64() });
        Ok(())
    }

    /// Events and health.
    fn hear(&mut self) {
        for event in self.engine.events().try_iter() {
            let (Event::Undeliverable { handle, cause, .. }
            | Event::Invalidated { handle, cause, .. }) = event
            else {
                continue;
            };
            match self.numbers.get(&handle) {
                Some(shape) => say(&Said::Gone { shape: *shape, cause }),
                None => say_wrong(format!("shape {handle} is none of ours and is gone: {cause}")),
            }
        }
        let health = self.engine.health();
        let red = matches!(health, Health::Red { .. });
        if let Health::Red { cause } = health
            && !self.red
        {
            say(&Said::Red { cause });
        }
        self.red = red;
    }

    /// The engine has failed: from now on nothing is acknowledged.
    pub(super) fn aftermath(self, cause: String) -> Result<ExitCode, String> {
        thread::sleep(AFTERMATH);
        if self.engine.raise_floor(Lsn::MAX).is_ok() {
            say_wrong("a failed engine has raised its floor".into());
        }
        let stopped = self.engine.shutdown(self.plan.stop());
        if stopped.is_ok() {
            say_wrong(format!("a failed engine ({cause}) was shut down as if nothing were wrong"));
        }
        // Shards end their step: what was durable and reported by then may still count, and the
        // next life must have it.
        say(&Said::Flushed { lsn: self.engine.flushed_lsn().as_u64() });
        say(&Said::Failed { cause });
        Ok(ExitCode::SUCCESS)
    }

    /// Stops in good order.
    pub(super) fn stop(self) -> Result<ExitCode, String> {
        let began = Instant::now();
        let report = self.engine.shutdown(self.plan.stop());
        let report = report.map_err(|error| format!("stopping: {error}"))?;
        let shards = &report.shards;
        say(&Said::Stopped {
            ms: began.elapsed().as_millis() as u64,
            durable: shards.iter().map(|shard| shard.durable.as_u64()).collect(),
            flushed: shards.iter().map(|shard| shard.flushed.as_u64()).collect(),
            owing: shards.iter().map(|shard| shard.owing.len() as u64).sum(),
            wedged: report.wedged,
        });
        // Wedged handlers do not end.
        std::process::exit(0)
    }
}
