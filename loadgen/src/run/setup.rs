//! Set-up: the engine, its shapes and their consumers, and what they cost in memory while idle.

use super::RunError;
use crate::cli::{AckMode, Consumers};
use crate::clock::Clock;
use crate::config::Config;
use crate::consumer::{CountingFactory, DEADLINE, Mixed, Population};
use crate::memory;
use crate::progress::Progress;
use crate::scenario::Scenario;
use crate::source::Source;
use crate::store::Place;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use walfan::{Ack, ConsumerSpec, Engine, Factory, Handle, Publisher};

/// Shapes that are added at once: what is in passing stays small beside what stays.
const ADDED_AT_ONCE: u32 = 10_000;
/// How long all consumers may take to start.
const START_MAX: Duration = Duration::from_secs(120);
/// Of the memory store: enough for the widest window of the defaults.
const MEMORY_STORE_BYTES: u64 = 1 << 30;

/// A running engine, with all its shapes.
pub(crate) struct Setup {
    pub(crate) engine: Arc<Engine>,
    pub(crate) population: Arc<Population>,
    /// Those that misbehave, if there are any.
    pub(crate) mixed: Option<Arc<Mixed>>,
    /// By shape number.
    pub(crate) handles: Vec<Handle>,
    pub(crate) clock: Clock,
    pub(crate) bytes_per_shape: f64,
    /// How long adding the shapes took, until all their consumers ran.
    pub(crate) setup_s: f64,
}

/// Starts the engine in `place`, connects it to `source` and adds the shapes.
pub(crate) fn set_up(
    config: &Config,
    place: &Place,
    source: &mut dyn Source,
    progress: &Progress,
) -> Result<Setup, RunError> {
    let clock = Clock::start();
    let all_timed = config.scenario == Scenario::Disjoint;
    let mut population = Population::new(config.shapes, clock, all_timed, config.numbering());
    if let Some(fraction) = config.storm {
        population = population.with_storm(fraction, config.seed);
    }
    let population = Arc::new(population);
    let mut handles = Vec::with_capacity(config.shapes as usize);
    let before = memory::anonymous_bytes();
    let (engine, publisher) = start_engine(config, place)?;
    let engine = Arc::new(engine);
    source.connect(&engine, publisher)?;
    let started = Instant::now();
    progress.phase("adding shapes", config.shapes.into());
    let workload = config.workload();
    for first in (0..config.shapes).step_by(ADDED_AT_ONCE as usize) {
        let last = config.shapes.min(first + ADDED_AT_ONCE);
        let shapes = (first..last)
            .map(|shape| (workload.definition(shape), consumer_spec(config, &population, shape)));
        handles.extend(engine.add_shapes(shapes.collect()).map_err(RunError::engine)?);
        progress.at(last.into());
    }
    await_consumers(config, &engine, &population, progress)?;
    let setup_s = started.elapsed().as_secs_f64();
    memory::give_back();
    let own = if config.has_consumers() { CountingFactory::own_bytes() } else { 0 };
    let own = own + size_of::<Handle>() as u64;
    let taken = memory::anonymous_bytes().saturating_sub(before) as f64;
    let bytes_per_shape = (taken / f64::from(config.shapes) - own as f64).max(0.0);
    let mixed = config.mixed.then(Arc::default);
    Ok(Setup { engine, population, mixed, handles, clock, bytes_per_shape, setup_s })
}

fn start_engine(config: &Config, place: &Place) -> Result<(Engine, Publisher), RunError> {
    let builder = Engine::builder()
        .shards(config.shards)
        .runners(config.runners)
        .mailbox_places(config.mailbox_places)
        .memory_bytes_max(MEMORY_STORE_BYTES);
    let builder = if config.mixed { builder.consumer_deadline(DEADLINE) } else { builder };
    let builder = match place.directory() {
        Some(directory) => builder.directory(directory),
        None => builder,
    };
    builder.start().map_err(RunError::engine)
}

fn consumer_spec(config: &Config, population: &Arc<Population>, shape: u32) -> ConsumerSpec {
    let ack = match config.ack {
        AckMode::Consumer => Ack::Consumer,
        AckMode::Log => Ack::Log,
    };
    let factory =
        || -> Arc<dyn Factory> { Arc::new(CountingFactory::new(Arc::clone(population), shape)) };
    match config.consumers {
        Consumers::Log => ConsumerSpec::Log,
        Consumers::Mailbox => ConsumerSpec::Mailbox { factory: factory(), ack },
        Consumers::Inline => ConsumerSpec::Inline { factory: factory(), ack },
    }
}

/// Waits until every consumer runs.
fn await_consumers(
    config: &Config,
    engine: &Engine,
    population: &Population,
    progress: &Progress,
) -> Result<(), RunError> {
    if !config.has_consumers() {
        return Ok(());
    }
    progress.phase("starting consumers", config.shapes.into());
    let start = Instant::now();
    loop {
        let started = population.started();
        progress.at(started);
        if started >= u64::from(config.shapes) && engine.metrics().lagging == 0 {
            return Ok(());
        }
        if let Some(failure) = engine.failure() {
            return Err(RunError::engine(failure));
        }
        if start.elapsed() > START_MAX {
            let what = format!("{started} of {} consumers had started", config.shapes);
            return Err(RunError::Stuck { what, waited_s: START_MAX.as_secs() });
        }
        thread::sleep(Duration::from_millis(5));
    }
}
