//! Mixed: shapes that misbehave all at once beside those of the run, each in its own way: a handler
//! that never returns, a clause that has no answer, a consumer that is slow and a slow reader of
//! its log, and a consumer that dies and does not start again. They are to cost the others nothing
//! but the time that the flushed LSN waits for the first one.

use super::kill::{KillKind, kill};
use crate::watch::Published;
use crate::workload::Workload;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use walfan::{
    Ack, AddError, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Engine, Handle,
    Offset, ReadLimits, ShapeDefinition, Start, Started,
};

/// How long a consumer may be silent, while there are such shapes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3);
/// How long the flushed LSN may stand still: the deadline, and what a run that goes as fast as it
/// can has queued before each consumer, which holds the LSN for a second or two by itself.
pub(crate) const STILL_MAX: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(1);
/// What a delivery takes the slow one, and a page its reader.
const SLOW: Duration = Duration::from_millis(2);
const SLOW_PAGE: Duration = Duration::from_millis(50);
/// Shapes that misbehave; one of them lives to the end.
const SHAPES: u64 = 4;

/// What is seen of them.
#[derive(Debug, Default)]
pub(crate) struct Mixed {
    /// The handler that hangs may return.
    released: AtomicBool,
    began: AtomicBool,
    starts: AtomicU64,
    deaths: AtomicU64,
    /// Changes that the slow one was handed, and its reader found.
    handled: AtomicU64,
    read: AtomicU64,
    wedged: AtomicU64,
}

/// What the report says of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Misbehaved {
    pub(crate) shapes: u64,
    pub(crate) wedged: u64,
    pub(crate) deaths: u64,
    pub(crate) slow_handled: u64,
    pub(crate) slow_read: u64,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Wedged,
    /// Its clause is at fault, not it.
    Poisoned,
    Slow,
    Restart,
}

// Relaxed throughout: each figure stands alone, and is read when nothing moves it any more.
impl Mixed {
    /// Waits for `at_us`, and adds them; then reads the slow one's log, slowly, until the run ends.
    pub(crate) fn run(
        self: &Arc<Mixed>,
        engine: &Engine,
        published: &Published,
        at_us: u64,
    ) -> Result<(), AddError> {
        let clock = published.clock();
        while clock.now_us() < at_us {
            if published.has_ended() {
                return Ok(());
            }
            thread::sleep(TICK);
        }
        let shape = |how: How| {
            let clause = match how {
                // Nothing is divided by zero.
                How::Poisoned => "kind = 'hot' AND 1 / (id - id) = 1",
                _ => "kind = 'hot'",
            };
            let definition = ShapeDefinition::filtered(Workload::table(), clause);
            let mixed = Arc::clone(self);
            let factory = Arc::new(move |start: &Start<'_>| mixed.start(how, start));
            (definition, ConsumerSpec::Mailbox { factory, ack: Ack::Consumer })
        };
        let all = [How::Slow, How::Wedged, How::Poisoned, How::Restart].map(shape);
        let handles = engine.add_shapes(all.into())?;
        self.began.store(true, Ordering::Relaxed);
        if let Some(slow) = handles.first() {
            self.read_slowly(engine, published, *slow);
        }
        Ok(())
    }

    fn read_slowly(&self, engine: &Engine, published: &Published, slow: Handle) {
        let limits = ReadLimits { changes_max: 1, ..ReadLimits::default() };
        let mut at = Offset::ZERO;
        while !published.has_ended() {
            // The memory store keeps no more than it has to.
            let Ok(page) = engine.read(slow, at, limits) else { return };
            self.read.fetch_add(page.changes.len() as u64, Ordering::Relaxed);
            at = page.through;
            thread::sleep(SLOW_PAGE);
        }
    }

    fn start(self: &Arc<Mixed>, how: How, start: &Start<'_>) -> Result<Started, ConsumerError> {
        if matches!(how, How::Restart) && self.starts.fetch_add(1, Ordering::Relaxed) > 0 {
            self.deaths.fetch_add(1, Ordering::Relaxed);
            kill(KillKind::Factory);
        }
        let consumer = Misbehaving { mixed: Arc::clone(self), how };
        Ok(Started::new(Box::new(consumer), start.resume()))
    }

    /// The one that hangs lets go: the run is over.
    pub(crate) fn release(&self) {
        self.released.store(true, Ordering::Relaxed);
    }

    /// What was seen, once they were there.
    pub(crate) fn seen(&self) -> Option<Misbehaved> {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.began.load(Ordering::Relaxed).then(|| Misbehaved {
            shapes: SHAPES,
            wedged: count(&self.wedged),
            deaths: count(&self.deaths),
            slow_handled: count(&self.handled),
            slow_read: count(&self.read),
        })
    }
}

struct Misbehaving {
    mixed: Arc<Mixed>,
    how: How,
}

impl Consumer for Misbehaving {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        match self.how {
            How::Poisoned => return Err("its clause has no answer, and it was handed a row".into()),
            How::Slow => thread::sleep(SLOW),
            How::Wedged => {
                self.mixed.wedged.fetch_add(1, Ordering::Relaxed);
                while !self.mixed.released.load(Ordering::Relaxed) {
                    thread::sleep(SLOW);
                }
                return Err("it was wedged".into());
            }
            How::Restart => {
                self.mixed.deaths.fetch_add(1, Ordering::Relaxed);
                kill(KillKind::Factory);
            }
        }
        if !delivery.offset().is_commit_mark() {
            self.mixed.handled.fetch_add(1, Ordering::Relaxed);
        }
        match delivery.commit() {
            Some(commit) => Ok(context.flushed(commit)?),
            None => Ok(()),
        }
    }
}
