//! What an embedder writes: a [`Consumer`], and the [`Factory`] that makes its incarnations.

use super::delivery::{Context, Delivery, ReportError};
use super::mailbox::Mailbox;
use crate::snapshot::Snapshot;
use crate::words::{Handle, Lsn, Offset};
use std::fmt;
use std::sync::Arc;

/// What a consumer, or its factory, fails with. Its text is the cause that events name.
pub type ConsumerError = Box<dyn std::error::Error + Send + Sync>;

/// What receives a shape's deliveries.
///
/// One incarnation sees every delivery of its shape after its resume offset, in order and without
/// a gap. It may see again what its predecessor had handled but not reported.
pub trait Consumer: Send {
    /// Handles one change or commit mark.
    ///
    /// A panic, an error and [`Context::exit`] end this incarnation; the engine makes the next one
    /// with the shape's [`Factory`] and replays what was not reported. Three ends in a row without
    /// a report that moves the shape's flushed mark make the shape undeliverable.
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError>;
}

/// Makes the incarnations of a shape's consumer.
///
/// Runs on the engine's runner threads, under a time-out; a panic, an error or a time-out is a
/// failed attempt and counts like a death (R9).
pub trait Factory: Send + Sync {
    /// Makes the next incarnation and says where it resumes.
    fn start(&self, start: &Start<'_>) -> Result<Started, ConsumerError>;
}

impl<F> Factory for F
where
    F: Fn(&Start<'_>) -> Result<Started, ConsumerError> + Send + Sync,
{
    fn start(&self, start: &Start<'_>) -> Result<Started, ConsumerError> {
        self(start)
    }
}

/// What a factory is told.
#[derive(Debug)]
pub struct Start<'a> {
    mailbox: &'a Arc<Mailbox>,
    first: Offset,
    last_reported: Option<Lsn>,
}

impl<'a> Start<'a> {
    pub(crate) fn new(
        mailbox: &'a Arc<Mailbox>,
        first: Offset,
        last_reported: Option<Lsn>,
    ) -> Start<'a> {
        Start { mailbox, first, last_reported }
    }

    /// The shape.
    pub fn handle(&self) -> Handle {
        self.mailbox.name().handle
    }

    /// Everything after this offset is the shape's.
    pub fn first(&self) -> Offset {
        self.first
    }

    /// The last commit that an incarnation of this consumer reported as flushed since the engine
    /// was opened, if one did.
    pub fn last_reported(&self) -> Option<Lsn> {
        self.last_reported
    }

    /// Where to resume if nothing better is known: after the last reported commit, else at the
    /// shape's first offset.
    pub fn resume(&self) -> Offset {
        self.last_reported.map_or(self.first, |lsn| Offset::commit_mark(lsn).max(self.first))
    }

    /// The shape's initial rows, which come before everything after [`Start::first`], if it was
    /// added to be given some: they are complete, and read with
    /// [`Engine::read_snapshot`](crate::Engine::read_snapshot). What they show is not delivered.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.mailbox.snapshot().map(|snapshot| &**snapshot)
    }

    /// The number of this incarnation; rises with each restart.
    pub fn incarnation(&self) -> u64 {
        self.mailbox.name().incarnation
    }

    /// Reports for this incarnation from any thread, also outside its handler.
    pub fn reporter(&self) -> Reporter {
        self.mailbox.set_reporter();
        Reporter { mailbox: Arc::clone(self.mailbox) }
    }
}

/// What a factory answers with.
pub struct Started {
    pub(crate) consumer: Box<dyn Consumer>,
    pub(crate) resume: Offset,
}

impl Started {
    /// `consumer` has everything through `resume` (durably, where it owns its acknowledgement) and
    /// goes on after it. A resume offset is a report (R9): one above the last report moves the
    /// flushed mark, one below takes it back. One below where the shape's log begins by now
    /// invalidates the shape.
    pub fn new(consumer: Box<dyn Consumer>, resume: Offset) -> Started {
        Started { consumer, resume }
    }
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("resume", &self.resume).finish_non_exhaustive()
    }
}

/// Reports what one incarnation has flushed, from any thread.
#[derive(Clone, Debug)]
pub struct Reporter {
    mailbox: Arc<Mailbox>,
}

impl Reporter {
    /// Reports that everything through the commit at `lsn` is flushed. Reports are cumulative.
    pub fn flushed(&self, lsn: Lsn) -> Result<(), ReportError> {
        self.mailbox.report(lsn)?;
        self.mailbox.mark_dirty();
        self.mailbox.link().wake.notify();
        Ok(())
    }

    /// Where the report lies, for who tests what happens when a mark or a note is lost.
    #[cfg(all(any(test, feature = "testing"), not(loom)))]
    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }
}

/// Whether the flushed LSN waits for a consumer. Consumers report in both modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ack {
    /// The shape's log is durable; the consumer may trail.
    #[default]
    Log,
    /// The LSN waits for the consumer's report, until its deadline or its byte bound.
    Consumer,
}

/// What receives a shape's deliveries beside its log, and where it runs.
#[derive(Clone, Default)]
pub enum ConsumerSpec {
    /// Nothing: the built-in shape log is the consumer.
    #[default]
    Log,
    /// Behind a bounded channel of its own, run by the pool of runner threads.
    Mailbox {
        /// Makes the incarnations.
        factory: Arc<dyn Factory>,
        /// Whether the flushed LSN waits for it.
        ack: Ack,
    },
    /// On the shard's own thread. Contract: it must not block; a handler that does stops its whole
    /// shard.
    Inline {
        /// Makes the incarnations.
        factory: Arc<dyn Factory>,
        /// Whether the flushed LSN waits for it.
        ack: Ack,
    },
}

impl fmt::Debug for ConsumerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConsumerSpec::Log => f.write_str("Log"),
            ConsumerSpec::Mailbox { ack, .. } => write!(f, "Mailbox {{ ack: {ack:?} }}"),
            ConsumerSpec::Inline { ack, .. } => write!(f, "Inline {{ ack: {ack:?} }}"),
        }
    }
}
