//! Threads: the one place where the engine starts them. Each pumps a machine that knows nothing of
//! threads, hands it the time, and poisons the engine if the machine panics (R16).

use super::Inner;
use super::error::StartError;
use super::keeper::Keeper;
use super::retain::Retainer;
use super::stop::{ShardReport, ShutdownReport};
use crate::consumer::{ShardLink, panic_text};
use crate::control::{Control, Phase};
use crate::log::{Batch, Directory, Log, Syncer};
use crate::run::{Pool, Runner, Watch};
use crate::shard::{Pump, ShardEnd};
use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is given to threads that end by themselves, beyond the deadline of a shutdown.
const GRACE: Duration = Duration::from_secs(2);
/// How often a thread that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// How often it is looked whether something is to be thinned. Files are closed more rarely.
const RETAIN_LOOK: Duration = Duration::from_millis(200);

/// An engine's threads.
pub(super) struct Threads {
    shards: Vec<JoinHandle<Option<ShardEnd>>>,
    syncers: Vec<JoinHandle<Option<()>>>,
    watch: JoinHandle<Option<()>>,
    waker: JoinHandle<Option<()>>,
    sealer: Option<JoinHandle<Option<()>>>,
    keeper: Option<JoinHandle<Option<()>>>,
    retainer: Option<JoinHandle<Option<()>>>,
    /// Runners may be replaced (R10): the watch adds to them.
    runners: Arc<Mutex<Vec<JoinHandle<Option<()>>>>>,
}

/// What is started beside the shards' pumps.
pub(super) struct Parts {
    pub(super) pumps: Vec<Pump>,
    pub(super) syncers: Vec<SyncPart>,
    pub(super) watch: Watch,
    /// With a directory only, as the keeper.
    pub(super) sealer: Option<SealPart>,
    pub(super) keeper: Option<Keeper>,
    pub(super) runners: usize,
    pub(super) links: Arc<[Arc<ShardLink>]>,
    /// `None`: everything is kept.
    pub(super) retainer: Option<Retainer>,
}

/// One shard's syncing thread.
pub(super) struct SyncPart {
    pub(super) syncer: Syncer,
    pub(super) batches: Receiver<Batch>,
    pub(super) synced: Sender<Batch>,
    pub(super) link: Arc<ShardLink>,
    pub(super) to_seal: Sender<()>,
    /// Nobody else opens the directory while this may write to it: also when it is left behind.
    pub(super) directory: Option<Arc<Directory>>,
}

/// The thread that seals the indexes of all shards' segments, one after another: reading a segment
/// again takes a tenth of a second, which neither a shard nor its syncing thread has.
pub(super) struct SealPart {
    pub(super) logs: Vec<Arc<Log>>,
    /// Something is to be sealed; it has one place. It is closed when the last syncing thread ends.
    pub(super) wanted: Receiver<()>,
    /// Nobody else opens the directory while this may write to it.
    pub(super) _directory: Arc<Directory>,
}

/// Starts all threads.
pub(super) fn start(
    control: &Arc<Control>,
    pool: &Arc<Pool>,
    parts: Parts,
) -> Result<Threads, StartError> {
    let Parts { pumps, syncers, watch, sealer, keeper, retainer, runners, links } = parts;
    let starter = Starter { control: Arc::clone(control), pool: Arc::clone(pool), links };
    let kept = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..runners {
        kept.lock().push(starter.runner()?);
    }
    let syncers = syncers.into_iter().enumerate().map(|(number, part)| {
        let state = Arc::clone(control);
        starter.spawn(format!("walfan-sync-{number:02}"), move || sync(&state, part))
    });
    let syncers = syncers.collect::<Result<_, _>>()?;
    let shards = pumps.into_iter().enumerate().map(|(number, pump)| {
        let state = Arc::clone(control);
        starter.spawn(format!("walfan-shard-{number:02}"), move || pump_shard(&state, pump))
    });
    let shards = shards.collect::<Result<_, _>>()?;
    let (replacer, keep) = (starter.clone(), Arc::clone(&kept));
    let watch = starter.spawn("walfan-watch".into(), move || {
        watch_all(&replacer, watch, &keep);
    })?;
    let waking = Arc::clone(control);
    let waker = starter.spawn("walfan-wake".into(), move || wake_waiters(&waking))?;
    let sealing = Arc::clone(control);
    let seal = |part| starter.spawn("walfan-seal".into(), move || seal_all(&sealing, &part));
    let sealer = sealer.map(seal).transpose()?;
    let keeping = Arc::clone(control);
    let keeper = keeper
        .map(|keeper| starter.spawn("walfan-keeper".into(), move || clear_up(&keeping, &keeper)));
    let keeper = keeper.transpose()?;
    let retaining = Arc::clone(control);
    let retainer = retainer.map(|retainer| {
        starter.spawn("walfan-retain".into(), move || retain(&retaining, retainer))
    });
    let retainer = retainer.transpose()?;
    Ok(Threads { shards, syncers, watch, waker, sealer, keeper, retainer, runners: kept })
}

/// Starts threads that poison the engine when they panic.
#[derive(Clone)]
struct Starter {
    control: Arc<Control>,
    pool: Arc<Pool>,
    links: Arc<[Arc<ShardLink>]>,
}

impl Starter {
    fn spawn<T: Send + 'static>(
        &self,
        name: String,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Option<T>>, StartError> {
        let control = Arc::clone(&self.control);
        let guarded = move || {
            let result = catch_unwind(AssertUnwindSafe(body));
            let failed = |panic| {
                let name = thread::current().name().unwrap_or("a thread").to_owned();
                control.poison(&format!("{name} {}", panic_text(panic)));
            };
            result.map_err(failed).ok()
        };
        let spawned = thread::Builder::new().name(name.clone()).spawn(guarded);
        spawned.map_err(|source| {
            // Those that were started before end by themselves.
            self.control.poison(&format!("starting thread {name} failed: {source}"));
            StartError::Thread { name, source }
        })
    }

    fn runner(&self) -> Result<JoinHandle<Option<()>>, StartError> {
        let runner = Runner::new(Arc::clone(&self.pool), Arc::clone(&self.links));
        let name = format!("walfan-run-{:02}", runner.shared().number());
        let control = Arc::clone(&self.control);
        self.spawn(name, move || run(&control, runner))
    }
}

fn pump_shard(control: &Control, mut pump: Pump) -> ShardEnd {
    loop {
        let now = Instant::now();
        let worked = pump.step(now);
        if pump.is_done(now) || control.state.poisoned().is_some() {
            return pump.finish();
        }
        if worked {
            pump.keep_pace();
        } else {
            pump.sleep();
        }
    }
}

fn sync(control: &Control, mut part: SyncPart) {
    for batch in &part.batches {
        control.vitals.sync_began(part.link.shard, Instant::now());
        let result = part.syncer.commit(&batch);
        control.vitals.sync_ended(part.link.shard);
        if let Err(error) = result {
            control.poison(&error.to_string());
            part.link.wake.notify();
            return;
        }
        // A shard that is gone wants no answer.
        drop(part.synced.send(batch));
        part.link.wake.notify();
        control.waiters.tell(part.link.shard, part.syncer.take_news());
        if part.syncer.take_to_seal() {
            // A full channel says it already.
            let _ = part.to_seal.try_send(());
        }
    }
}

/// First what earlier processes left.
fn seal_all(control: &Control, part: &SealPart) {
    loop {
        part.logs.iter().for_each(|log| seal(control, log));
        if part.wanted.recv().is_err() {
            return;
        }
    }
}

fn seal(control: &Control, log: &Log) {
    while control.state.check().is_ok() {
        match log.seal() {
            Ok(true) => {}
            Ok(false) => return,
            // Nothing is lost by it: the index is built again when it is asked for.
            Err(error) => {
                tracing::warn!(%error, "a segment's index was not sealed");
                return;
            }
        }
    }
}

fn run(control: &Control, mut runner: Runner) {
    let shared = Arc::clone(runner.shared());
    while !shared.is_replaced() {
        // Before it looks: what the shards have left by their end is found then.
        let ended = control.state.phase() == Phase::Ended;
        let worked = match control.state.poisoned() {
            None => runner.run_one(),
            Some(_) => Ok(runner.clear_one()),
        };
        match worked {
            Ok(true) => {}
            Ok(false) if ended => return,
            Ok(false) => runner.rest(),
            Err(error) => control.poison(&error.to_string()),
        }
    }
}

fn clear_up(control: &Control, keeper: &Keeper) {
    loop {
        match keeper.step() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return control.poison(&error.to_string()),
        }
    }
}

fn wake_waiters(control: &Control) {
    loop {
        // Before it looks: who registers later finds the end by itself.
        let ended = control.state.phase() == Phase::Ended;
        control.waiters.step(control.state.check().is_err());
        if ended {
            return;
        }
        control.waiters.rest();
    }
}

/// A stopping or failed engine keeps its logs as they are.
fn retain(control: &Control, mut retainer: Retainer) {
    while control.state.check().is_ok() {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if !retainer.step(Instant::now(), since_1970) {
            thread::park_timeout(RETAIN_LOOK);
        }
    }
}

fn watch_all(starter: &Starter, mut watch: Watch, keep: &Mutex<Vec<JoinHandle<Option<()>>>>) {
    while starter.control.state.phase() != Phase::Ended {
        let replacements = watch.tick(Instant::now());
        for _ in 0..replacements {
            // Poisoned: the watch goes on until the engine is shut down.
            let Ok(runner) = starter.runner() else { break };
            let mut kept = keep.lock();
            kept.retain(|runner| !runner.is_finished());
            kept.push(runner);
        }
        starter.control.vitals.rest(watch.interval());
    }
}

impl Threads {
    /// Waits for all threads to end, until `deadline` and a little more; where the shards ended.
    pub(super) fn join(self, inner: &Inner, deadline: Instant) -> ShutdownReport {
        let until = deadline + GRACE;
        let mut report = ShutdownReport::default();
        for shard in self.shards {
            if let Some(end) = join_until(shard, until, &mut report.wedged).flatten() {
                let ShardEnd { durable, flushed, owing } = end;
                report.shards.push(ShardReport { durable, flushed, owing });
            }
        }
        inner.control.state.advance(Phase::Ended);
        inner.control.wake_all();
        inner.control.vitals.wake();
        inner.pool.ring_all();
        if let Some(retainer) = self.retainer {
            retainer.thread().unpark();
            join_until(retainer, until, &mut report.wedged);
        }
        for syncer in self.syncers {
            join_until(syncer, until, &mut report.wedged);
        }
        for kept in [self.sealer, self.keeper].into_iter().flatten() {
            join_until(kept, until, &mut report.wedged);
        }
        join_until(self.watch, until, &mut report.wedged);
        join_until(self.waker, until, &mut report.wedged);
        let runners = std::mem::take(&mut *self.runners.lock());
        for runner in runners {
            join_until(runner, until, &mut report.wedged);
        }
        report
    }
}

/// Joins a thread, or leaves it behind and notes its name.
fn join_until<T>(handle: JoinHandle<T>, until: Instant, wedged: &mut Vec<String>) -> Option<T> {
    while !handle.is_finished() {
        if Instant::now() >= until {
            wedged.push(handle.thread().name().unwrap_or("a thread").to_owned());
            return None;
        }
        thread::sleep(LOOK);
    }
    handle.join().ok()
}
