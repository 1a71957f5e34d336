//! Consumer of the chaos rounds: writes what it has flushed into the journal and only then reports
//! it. It dies, or wedges, when the plan says so; what it finds out of order it tells at once.

use super::journal::Journal;
use super::plan::{Load, Plan, Role};
use super::said::{Said, say, say_wrong};
use crate::consumer::{KillKind, Prefix, kill, trace};
use crate::workload::mix;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use walfan::{
    Ack, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Factory, Lsn, Offset, Start,
    Started,
};

/// What all consumers of a life share.
#[derive(Debug)]
pub(crate) struct Crowd {
    journal: Journal,
    load: Load,
    seed: u64,
    /// Wedging begins with the first commit beyond this one.
    wedge_after: AtomicU64,
    wedged: AtomicU64,
}

impl Crowd {
    pub(crate) fn new(plan: &Plan, journal: Journal) -> Crowd {
        let load = plan.load().cloned().unwrap_or_default();
        let (wedge_after, wedged) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
        Crowd { journal, load, seed: mix(plan.seed ^ 0xD1E), wedge_after, wedged }
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// From the first commit beyond `lsn` on consumers may wedge.
    pub(crate) fn wedge_after(&self, lsn: Lsn) {
        // Relaxed: one word that nothing else hangs on.
        self.wedge_after.store(lsn.as_u64(), Ordering::Relaxed);
    }

    /// What the engine is told of shape number `shape`.
    pub(crate) fn spec(self: &Arc<Crowd>, shape: u32) -> ConsumerSpec {
        let role = Role::of(shape);
        let ack = if role.acknowledges() { Ack::Consumer } else { Ack::Log };
        let started = AtomicBool::new(false);
        let factory = Arc::new(Maker { crowd: Arc::clone(self), shape, started });
        match role {
            Role::Log => ConsumerSpec::Log,
            Role::Mailbox(_) => ConsumerSpec::Mailbox { factory, ack },
            Role::Inline(_) => ConsumerSpec::Inline { factory, ack },
        }
    }
}

struct Maker {
    crowd: Arc<Crowd>,
    shape: u32,
    /// In this life.
    started: AtomicBool,
}

impl Factory for Maker {
    fn start(&self, start: &Start<'_>) -> Result<Started, ConsumerError> {
        let prefix = self.crowd.journal.read(self.shape)?;
        let own = Offset::commit_mark(prefix.through);
        // Relaxed: incarnations of one shape follow one another.
        if self.started.swap(true, Ordering::Relaxed) && start.resume() < own {
            say_wrong(format!(
                "shape {}: its next consumer is to resume at {}, but {own} was reported",
                self.shape,
                start.resume()
            ));
        }
        // Its own place, and not the engine's, is what a consumer goes on from.
        let resume = own.max(start.first());
        let consumer = Journalled {
            crowd: Arc::clone(&self.crowd),
            shape: self.shape,
            wedges: self.crowd.load.wedge.contains(&self.shape),
            last: resume,
            prefix,
            reports: 0,
        };
        Ok(Started::new(Box::new(consumer), resume))
    }
}

struct Journalled {
    crowd: Arc<Crowd>,
    shape: u32,
    wedges: bool,
    last: Offset,
    prefix: Prefix,
    /// Of this incarnation.
    reports: u64,
}

impl Journalled {
    /// Never returns.
    fn wedge(&self) -> ! {
        let consumers = self.crowd.wedged.fetch_add(1, Ordering::Relaxed) + 1;
        say(&Said::Wedged { consumers });
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Whether this delivery is its last. Who has not reported since it was made lives on: three
    /// deaths in one place would condemn its shape.
    fn dies(&self, offset: Offset) -> bool {
        let deaths = self.crowd.load.deaths;
        let draw = mix(self.crowd.seed ^ trace(offset) ^ u64::from(self.shape));
        self.reports > 0 && deaths > 0 && draw.is_multiple_of(deaths)
    }
}

impl Consumer for Journalled {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        let offset = delivery.offset();
        let wedge_after = self.crowd.wedge_after.load(Ordering::Relaxed);
        if self.wedges && offset.commit.as_u64() > wedge_after {
            self.wedge();
        }
        if offset <= self.last {
            let (shape, last) = (self.shape, self.last);
            say_wrong(format!("shape {shape}: {offset} came after {last}, so twice or unordered"));
        }
        if self.dies(offset) {
            kill(KillKind::Handler);
        }
        self.last = offset;
        if !offset.is_commit_mark() {
            self.prefix.changes += 1;
            self.prefix.traces = self.prefix.traces.wrapping_add(trace(offset));
        }
        if let Some(commit) = delivery.commit() {
            self.last = Offset::commit_mark(commit);
            self.prefix.through = commit;
            self.crowd.journal.write(self.shape, self.prefix)?;
            context.flushed(commit)?;
            self.reports += 1;
        }
        Ok(())
    }
}
