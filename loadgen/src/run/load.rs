//! Load: the threads of a running load, and the drain at its end. The main thread takes a look at
//! the run ten times a second, for the bar and the chart.

use super::RunError;
use super::setup::Setup;
use super::stop::{Stopped, stop_loaded};
use crate::cli::Consumers;
use crate::config::Config;
use crate::consumer::{Killer, Mixed, Population, strike};
use crate::memory;
use crate::progress::Progress;
use crate::source::{Pipe, Schedule, Source};
use crate::verify::Oracle;
use crate::watch::{FlushReport, FlushSeen, FlushWatch, HiccupWatch, Point, Published, Sampler};
use crate::workload::History;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use walfan::{AddError, Engine, Event, Handle, WaitError};

const LOOK: Duration = Duration::from_millis(100);
/// How long a drain may go without the slightest progress.
const STILL_MAX: Duration = Duration::from_secs(60);
/// From set-up to the first transaction.
const LEAD: Duration = Duration::from_millis(50);
/// Events that are repeated when the run fails.
const EVENTS_KEPT: usize = 10;

/// The engine after the load, drained.
pub(crate) struct Rest {
    pub(crate) engine: Arc<Engine>,
    pub(crate) source: Box<dyn Source>,
    pub(crate) population: Arc<Population>,
    pub(crate) mixed: Option<Arc<Mixed>>,
    pub(crate) handles: Vec<Handle>,
    pub(crate) oracle: Oracle,
    /// It was stopped before it was drained.
    pub(crate) stopped: Option<Stopped>,
}

/// What was seen of the load.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) schedule: Schedule,
    /// Transactions that were committed.
    pub(crate) transactions: u64,
    /// Changes that were flushed between `from` and `to`.
    pub(crate) changes: u64,
    /// At the end of the warm-up, and drained.
    pub(crate) from: Point,
    pub(crate) to: Point,
    pub(crate) points: Vec<Point>,
    pub(crate) flush: FlushReport,
    pub(crate) hiccup_us_max: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) bytes_per_shape: f64,
    pub(crate) setup_s: f64,
    /// Events that no good run has.
    pub(crate) events: Vec<String>,
}

/// Loads the engine and drains it.
pub(crate) fn load(
    config: &Config,
    setup: Setup,
    mut source: Box<dyn Source>,
    progress: &Progress,
) -> Result<(Rest, Loaded), RunError> {
    let clock = setup.clock;
    let us = |duration: Duration| duration.as_micros() as u64;
    let start_us = clock.now_us() + us(LEAD);
    let (warmup_us, duration_us) = (us(config.warmup), us(config.duration));
    let schedule = Schedule::new(start_us, warmup_us, duration_us, config.rate, config.scenario);
    setup.population.begin(schedule);
    let published = Arc::new(Published::new(clock));
    let threads = Threads::start(config, &setup, schedule, &published)?;
    let pipe =
        Pipe { engine: Arc::clone(&setup.engine), schedule, published: Arc::clone(&published) };
    let source = spawn("loadgen-source", move || {
        let history = source.run(&pipe);
        (source, history)
    })?;
    let mut watched = Watched::new(config, &setup, schedule, &published);
    let stop_us = schedule.measure_us + (schedule.end_us - schedule.measure_us) / 4 * 3;
    let is_due = || config.stop && clock.now_us() >= stop_us;
    watched.watch(config, progress, || source.is_finished() || is_due());
    let stopped = config.stop.then(|| stop_loaded(&setup.engine)).transpose();
    // The watchers end with the run, however it ends.
    let drained = join(source, "loadgen-source").and_then(|(source, history)| {
        if config.stop {
            // It has met the end of the engine: of what it had sent by then.
            let history = History::numbered(&config.workload(), published.count());
            let to = watched.points.last().copied().unwrap_or_default();
            return Ok((source, Oracle::new(history), to));
        }
        let oracle = Oracle::new(history?);
        let to = watched.drain(config, &oracle, progress)?;
        Ok((source, oracle, to))
    });
    let resident_bytes = memory::resident_bytes();
    published.end();
    let (flush, hiccup_us_max) = threads.join()?;
    let (source, oracle, drained) = drained?;
    let stopped = stopped?;
    let to = watched.settle(config, &oracle, drained);
    let Setup { engine, population, mixed, handles, bytes_per_shape, setup_s, .. } = setup;
    let (from, history) = (watched.from(), oracle.history());
    let loaded = Loaded {
        schedule,
        transactions: history.transactions(),
        changes: history.changes_through(to.flushed) - history.changes_through(from.flushed),
        from,
        to,
        points: watched.points,
        flush: flush.report(schedule, history.as_recorded().unwrap_or_default()),
        hiccup_us_max,
        resident_bytes,
        bytes_per_shape,
        setup_s,
        events: watched.events,
    };
    Ok((Rest { engine, source, population, mixed, handles, oracle, stopped }, loaded))
}

/// The threads beside the source.
struct Threads {
    flush: JoinHandle<FlushSeen>,
    hiccup: JoinHandle<u64>,
    killer: Option<JoinHandle<()>>,
    storm: Option<JoinHandle<()>>,
    mixed: Option<JoinHandle<Result<(), AddError>>>,
}

impl Threads {
    fn start(
        config: &Config,
        setup: &Setup,
        schedule: Schedule,
        published: &Arc<Published>,
    ) -> Result<Threads, RunError> {
        let engine = || Arc::clone(&setup.engine);
        let flush = FlushWatch {
            engine: engine(),
            published: Arc::clone(published),
            schedule,
            numbering: config.numbering(),
        };
        let hiccup =
            HiccupWatch { published: Arc::clone(published), measure_us: schedule.measure_us };
        let killer = (config.crash_rate > 0.0).then(|| {
            let population = Arc::clone(&setup.population);
            let times = (schedule.measure_us, schedule.end_us);
            Killer::new(engine(), Arc::clone(published), population, config, times)
        });
        let at_us = schedule.measure_us + (schedule.end_us - schedule.measure_us) / 4;
        let storm = config.storm.map(|_| {
            let (population, published) = (Arc::clone(&setup.population), Arc::clone(published));
            spawn("loadgen-storm", move || strike(&population, &published, at_us))
        });
        let mixed = setup.mixed.clone().map(|mixed| {
            let (engine, published) = (engine(), Arc::clone(published));
            spawn("loadgen-mixed", move || mixed.run(&engine, &published, at_us))
        });
        Ok(Threads {
            storm: storm.transpose()?,
            mixed: mixed.transpose()?,
            flush: spawn("loadgen-flushed", move || flush.run())?,
            hiccup: spawn("loadgen-hiccup", move || hiccup.run())?,
            killer: killer
                .map(|killer| spawn("loadgen-killer", move || killer.run()))
                .transpose()?,
        })
    }

    fn join(self) -> Result<(FlushSeen, u64), RunError> {
        if let Some(killer) = self.killer {
            join(killer, "loadgen-killer")?;
        }
        if let Some(storm) = self.storm {
            join(storm, "loadgen-storm")?;
        }
        if let Some(mixed) = self.mixed {
            join(mixed, "loadgen-mixed")?.map_err(RunError::engine)?;
        }
        Ok((join(self.flush, "loadgen-flushed")?, join(self.hiccup, "loadgen-hiccup")?))
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, RunError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(RunError::Thread)
}

fn join<T>(thread: JoinHandle<T>, name: &'static str) -> Result<T, RunError> {
    thread.join().map_err(|_| RunError::Panicked(name))
}

/// What the main thread sees.
struct Watched {
    sampler: Sampler,
    schedule: Schedule,
    mixed: Option<Arc<Mixed>>,
    points: Vec<Point>,
    events: Vec<String>,
}

impl Watched {
    fn new(
        config: &Config,
        setup: &Setup,
        schedule: Schedule,
        published: &Arc<Published>,
    ) -> Watched {
        let sampler = Sampler {
            engine: Arc::clone(&setup.engine),
            published: Arc::clone(published),
            population: Arc::clone(&setup.population),
            numbering: config.numbering(),
        };
        let mixed = setup.mixed.clone();
        Watched { sampler, schedule, mixed, points: Vec::new(), events: Vec::new() }
    }

    /// Looks until `done`, and exactly once at the end of the warm-up.
    fn watch(&mut self, config: &Config, progress: &Progress, done: impl Fn() -> bool) {
        let clock = self.sampler.published.clock();
        let total_ms = (config.warmup + config.duration).as_millis() as u64;
        progress.phase(config.scenario.name(), total_ms);
        let begin_us = self.schedule.measure_us - config.warmup.as_micros() as u64;
        while !done() {
            let before_measure = clock.until(self.schedule.measure_us);
            thread::sleep(before_measure.map_or(LOOK, |left| left.min(LOOK)));
            let point = self.look();
            progress.at(point.at_us.saturating_sub(begin_us) / 1_000);
            progress.tell(&self.line());
        }
    }

    fn look(&mut self) -> Point {
        let point = self.sampler.look();
        self.points.push(point);
        for event in self.sampler.engine.events().try_iter() {
            self.hear(&event);
        }
        point
    }

    /// Keeps what no good run has.
    fn hear(&mut self, event: &Event) {
        let text = match event {
            Event::Undeliverable { handle, offset, cause } => {
                format!("shape {handle} is undeliverable at {offset}: {cause}")
            }
            Event::Invalidated { handle, offset, cause } => {
                format!("shape {handle} is invalidated at {offset}: {cause}")
            }
            Event::Poisoned { cause } => format!("the engine has failed: {cause}"),
            _ => return,
        };
        if self.events.len() < EVENTS_KEPT {
            self.events.push(text);
        }
    }

    /// The last second in a line.
    fn line(&self) -> String {
        let Some(now) = self.points.last() else { return String::new() };
        let second_ago = self.points.iter().rev().take(11).next_back().unwrap_or(now);
        let seconds = now.at_us.saturating_sub(second_ago.at_us).max(1) as f64 / 1e6;
        let handled = (now.handled - second_ago.handled) as f64 / seconds / 1e6;
        let logged = (now.logged - second_ago.logged) as f64 / seconds / 1e6;
        let (published, lag_ms) = (now.published, now.lag_us / 1_000);
        let killed = now.killed;
        format!(
            "{published} txns, {handled:.1} M handled/s, {logged:.1} M logged/s, oldest {lag_ms} \
             ms, {killed} killed"
        )
    }

    /// At the end of the warm-up.
    fn from(&self) -> Point {
        let measured = self.points.iter().find(|point| point.at_us >= self.schedule.measure_us);
        measured.or(self.points.last()).copied().unwrap_or_default()
    }

    /// What was seen, in the light of what was committed. `drained` was the look at the end; it
    /// comes back with the time of the first look that saw the same, because a source may take its
    /// time to say what was committed.
    fn settle(&mut self, config: &Config, oracle: &Oracle, mut drained: Point) -> Point {
        let Some(commits) = oracle.history().as_recorded() else { return drained };
        self.points.iter_mut().for_each(|point| point.settle(commits));
        drained.settle(commits);
        let all = |point: &&Point| {
            point.flushed >= drained.flushed && handled_all(config, oracle, 0, point)
        };
        drained.at_us = self.points.iter().find(all).map_or(drained.at_us, |point| point.at_us);
        drained
    }

    /// Waits until all that was published is flushed, and handled where there are consumers.
    fn drain(
        &mut self,
        config: &Config,
        oracle: &Oracle,
        progress: &Progress,
    ) -> Result<Point, RunError> {
        let published = oracle.history().transactions();
        if published == 0 {
            return Err(RunError::Nothing);
        }
        let last = oracle.history().last();
        progress.phase("draining", published);
        let mut before = Point::default();
        let mut moved = Instant::now();
        loop {
            let waited = self.sampler.engine.wait_flushed(last, LOOK);
            // Where the last one is flushed, this is all of it.
            let others = self.mixed.as_ref().and_then(|mixed| mixed.seen());
            let others = others.map_or(0, |others| others.slow_handled);
            let point = self.look();
            progress.at(point.flushed);
            progress.tell(&self.line());
            match waited {
                Ok(_) if handled_all(config, oracle, others, &point) => return Ok(point),
                // All is flushed; with `Ack::Log` consumers may trail.
                Ok(_) => thread::sleep(Duration::from_millis(1)),
                Err(WaitError::TimedOut { .. }) => {}
                Err(error) => return Err(RunError::engine(error)),
            }
            if (point.flushed, point.kept()) != (before.flushed, before.kept()) {
                (before, moved) = (point, Instant::now());
            }
            if moved.elapsed() > STILL_MAX {
                return Err(self.stuck(&point, published, oracle.deliveries()));
            }
        }
    }

    fn stuck(&self, point: &Point, published: u64, deliveries: u64) -> RunError {
        let metrics = self.sampler.engine.metrics();
        let population = &self.sampler.population;
        let (flushed, handled) = (point.flushed, point.kept());
        let mut what = format!(
            "draining: {flushed} of {published} transactions were flushed and {handled} of \
             {deliveries} deliveries handled; {} consumers lag, {} shapes are undeliverable; there \
             were {} kills and {} panics of factories, the engine saw {} deaths and {} restarts, \
             and {} consumers were made; shards: {:?}; health: {:?}",
            metrics.lagging,
            metrics.undeliverable,
            population.kills.total(),
            population.kills.failed_starts(),
            metrics.deaths,
            metrics.restarts,
            population.started(),
            metrics.shards,
            self.sampler.engine.health()
        );
        for event in &self.events {
            what.push_str("\n  ");
            what.push_str(event);
        }
        RunError::Stuck { what, waited_s: STILL_MAX.as_secs() }
    }
}

/// Whether everything is handled, where there are consumers; `others` by such as the oracle does
/// not know.
fn handled_all(config: &Config, oracle: &Oracle, others: u64, point: &Point) -> bool {
    config.consumers == Consumers::Log || point.kept() >= oracle.deliveries() + others
}
