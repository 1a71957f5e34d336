//! Mailbox: what one incarnation of a consumer shares with its shard, its runner, the feeder and
//! the sweep. Every word in it has one meaning, and each incarnation has a mailbox of its own, so a
//! late word of an older one cannot be mistaken for its successor's (R6).

use super::delivery::ReportError;
use super::gap::Gap;
use super::link::ShardLink;
use super::mail::{Mail, fetch_channel};
use super::part::{Feed, Part};
use super::progress::Progress;
use super::seat::Seat;
use crate::prefetch::{LINE, prefetch};
use crate::report::DirtyPage;
use crate::snapshot::Snapshot;
use crate::sync::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, TakeCell};
use crate::words::{Handle, Lsn, Offset, Slot, View};
use crossbeam_channel::Sender;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whose mailbox it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MailboxName {
    pub(crate) handle: Handle,
    pub(crate) slot: Slot,
    pub(crate) incarnation: u64,
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shape {} (incarnation {})", self.handle, self.incarnation)
    }
}

/// What a runner or the feeder tells the shard. One at a time: each later one supersedes an
/// earlier one that the shard has not read, because each says where the consumer is now.
#[derive(Debug)]
pub(crate) enum Note {
    /// The factory has made the consumer, which resumes after this offset; its part is parked.
    Started(Offset),
    /// The factory panicked or failed.
    NotStarted(String),
    /// The handler panicked, failed or asked to exit, at this offset. The consumer is dropped.
    Died(Offset, String),
    /// The feeder has handed over all that is readable, through this offset (R4).
    Caught(Offset),
    /// The runner has switched to the mailbox.
    Joined,
    /// Mail referred to a fragment that is no longer recent.
    Lost,
    /// The log no longer holds what the consumer needs, which begins after this offset.
    Behind(Offset),
    /// An inline consumer has drained its mailbox and can be taken back.
    Drained,
    /// The part of a closed mailbox is dropped (R12).
    Gone,
}

/// What the watchdog found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Verdict {
    None = 0,
    /// It lives and owes, and its deadline has passed.
    Expired = 1,
    /// Its factory has run for longer than its time-out.
    StartTimedOut = 2,
}

/// See the file's head.
pub(crate) struct Mailbox {
    name: MailboxName,
    view: View,
    /// The initial rows of its shape, if it was given any.
    snapshot: Option<Arc<Snapshot>>,
    link: Arc<ShardLink>,
    page: Arc<DirtyPage>,
    seat: Seat<Part>,
    lane: TakeCell<Feed>,
    note: TakeCell<Note>,
    /// A note lies in the cell. For the sweep, which cannot look into it.
    unread: AtomicBool,
    progress: Progress,
    /// The shard stopped sending; what is in the channel is a gapless run.
    gap: Gap,
    /// The shape is done with this incarnation: drop the part. Set by the shard.
    closed: AtomicBool,
    /// Its factory took a reporter. Set before anybody has the part, or the reporter.
    reporter: AtomicBool,
    /// Its factory has answered. Set by the runner, read by the watch.
    started: AtomicBool,
    /// The part waits for the feeder or the shard, not for its own consumer. Written by the runner.
    waits: AtomicBool,
    verdict: AtomicU8,
    /// Milliseconds of lease that the consumer asked for and the sweep has not granted yet.
    lease_ms: AtomicU64,
    /// Of one that came with a restart.
    moved: Option<Moved>,
}

/// What a run looks at beside the mailbox. First mailboxes were made in order, and a core that sees
/// them being read in order reads on by itself. One that came with a restart lies anywhere, as all
/// that belongs to it, and each look would wait for memory alone; who comes to many has the core
/// fetch all of it before, so that they wait together.
#[derive(Debug)]
struct Moved {
    channel: Sender<Mail>,
    /// Where part and consumer lie; 0 before they are made.
    part: AtomicUsize,
    consumer: AtomicUsize,
}

impl Mailbox {
    pub(crate) fn new(
        (name, view, snapshot): (MailboxName, View, Option<Arc<Snapshot>>),
        link: Arc<ShardLink>,
        page: Arc<DirtyPage>,
    ) -> Mailbox {
        Mailbox {
            name,
            view,
            snapshot,
            link,
            page,
            seat: Seat::empty(),
            lane: TakeCell::empty(),
            note: TakeCell::empty(),
            unread: AtomicBool::new(false),
            progress: Progress::new(),
            gap: Gap::none(),
            closed: AtomicBool::new(false),
            reporter: AtomicBool::new(false),
            started: AtomicBool::new(false),
            waits: AtomicBool::new(true),
            verdict: AtomicU8::new(Verdict::None as u8),
            lease_ms: AtomicU64::new(0),
            moved: None,
        }
    }

    /// Says that it came with a restart, and which channel is its own.
    pub(crate) fn set_moved(&mut self, channel: Sender<Mail>) {
        let nowhere = || AtomicUsize::new(0);
        self.moved = Some(Moved { channel, part: nowhere(), consumer: nowhere() });
    }

    /// Says where the part lies that is about to be parked.
    pub(crate) fn show_part(&self, part: &Part) {
        if let Some(moved) = &self.moved {
            // Relaxed, as the loads in `fetch_run`: hints.
            moved.part.store(std::ptr::from_ref(part).addr(), Ordering::Relaxed);
            moved.consumer.store(part.consumer_address(), Ordering::Relaxed);
        }
    }

    /// Reads what a run of its part looks at, if that lies anywhere. See [`Moved`]. The sum has no
    /// meaning; it keeps the reads.
    pub(crate) fn fetch_run(&self) -> usize {
        let Some(moved) = &self.moved else { return 0 };
        // Nobody but who has the part may look into it, or into its consumer.
        prefetch(moved.part.load(Ordering::Relaxed));
        let consumer = moved.consumer.load(Ordering::Relaxed);
        prefetch(consumer);
        prefetch(consumer.wrapping_add(LINE));
        self.fetch_word() + usize::from(self.is_closed()) + fetch_channel(&moved.channel)
    }

    /// Reads what a wake looks at.
    pub(crate) fn fetch_word(&self) -> usize {
        usize::from(self.seat.is_queued())
    }

    pub(crate) fn name(&self) -> MailboxName {
        self.name
    }

    /// What its shape is told of a change.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    pub(crate) fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.snapshot.as_ref()
    }

    pub(crate) fn link(&self) -> &Arc<ShardLink> {
        &self.link
    }

    pub(crate) fn seat(&self) -> &Seat<Part> {
        &self.seat
    }

    pub(crate) fn lane(&self) -> &TakeCell<Feed> {
        &self.lane
    }

    /// Sets the bit that makes the shard look here. The caller wakes the shard.
    pub(crate) fn mark_dirty(&self) {
        // Whether this mark is the first is of no use here: every caller wakes, if only later.
        let _first = self.page.mark(self.name.slot);
    }

    /// Leaves a note and marks. The caller wakes the shard.
    pub(crate) fn leave(&self, note: Note) {
        drop(self.note.replace(Box::new(note)));
        // Relaxed: a hint for the sweep, which marks again what a lost mark would hide.
        self.unread.store(true, Ordering::Relaxed);
        self.mark_dirty();
    }

    pub(crate) fn take_note(&self) -> Option<Note> {
        // Relaxed: see `leave`.
        self.unread.store(false, Ordering::Relaxed);
        self.note.take().map(|note| *note)
    }

    pub(crate) fn has_note(&self) -> bool {
        // Relaxed: see `leave`.
        self.unread.load(Ordering::Relaxed)
    }

    /// What was reported as flushed.
    pub(crate) fn flushed(&self) -> Lsn {
        self.progress.flushed()
    }

    /// Through where the shape is flushed, with what it was fed and had nothing of.
    pub(crate) fn flushed_through(&self) -> Lsn {
        self.progress.flushed_through()
    }

    /// The caller marks, also if there is no report yet: with the report's own mark, the later of
    /// the two looks sees both.
    pub(crate) fn set_fed(&self, lsn: Lsn) {
        self.progress.set_fed(lsn);
    }

    /// A report by the consumer's runner, or through its reporter.
    pub(crate) fn raise_flushed(&self, lsn: Lsn) {
        if self.has_reporter() {
            self.progress.raise_flushed(lsn);
        } else {
            self.progress.raise_flushed_alone(lsn);
        }
    }

    pub(crate) fn handed(&self) -> Lsn {
        self.progress.handed()
    }

    pub(crate) fn set_handed(&self, lsn: Lsn) {
        self.progress.set_handed(lsn);
    }

    /// Takes a report that was made outside the handler.
    pub(crate) fn report(&self, lsn: Lsn) -> Result<(), ReportError> {
        let handed = self.handed();
        if lsn > handed {
            return Err(ReportError::past(self, lsn, handed));
        }
        self.raise_flushed(lsn);
        Ok(())
    }

    pub(crate) fn has_reporter(&self) -> bool {
        // Relaxed: who asks has run the factory, or had the part or the reporter from who did.
        self.reporter.load(Ordering::Relaxed)
    }

    pub(crate) fn set_reporter(&self) {
        // Relaxed: see `has_reporter`.
        self.reporter.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_gap(&self) -> bool {
        self.gap.is_there()
    }

    pub(crate) fn set_gap(&self, gap: bool) {
        self.gap.set(gap);
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Acquire: pairs with the release in `close`.
        self.closed.load(Ordering::Acquire)
    }

    /// Ends the incarnation. The caller wakes the part, whose runner drops it.
    pub(crate) fn close(&self) {
        // Release: pairs with the acquire in `is_closed`.
        self.closed.store(true, Ordering::Release);
    }

    /// Whether the consumer waits for the engine: for a runner, for the feeder, for its lane.
    pub(crate) fn waits_for_us(&self) -> bool {
        // Relaxed: the sweep looks again.
        self.seat.is_queued() || self.waits.load(Ordering::Relaxed)
    }

    pub(crate) fn is_started(&self) -> bool {
        // Relaxed: the watch looks again.
        self.started.load(Ordering::Relaxed)
    }

    pub(crate) fn set_started(&self) {
        // Relaxed: see `is_started`.
        self.started.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_waits(&self, waits: bool) {
        // Relaxed: see `waits_for_us`.
        self.waits.store(waits, Ordering::Relaxed);
    }

    pub(crate) fn verdict(&self) -> Verdict {
        // Relaxed: it comes with a dirty bit, which orders it.
        match self.verdict.load(Ordering::Relaxed) {
            1 => Verdict::Expired,
            2 => Verdict::StartTimedOut,
            _ => Verdict::None,
        }
    }

    /// Condemns the consumer and marks. The caller wakes the shard.
    pub(crate) fn condemn(&self, verdict: Verdict) {
        // Relaxed: see `verdict`.
        self.verdict.store(verdict as u8, Ordering::Relaxed);
        self.mark_dirty();
    }

    /// Takes a verdict back that came too late.
    pub(crate) fn pardon(&self) {
        // Relaxed: the watch looks again.
        self.verdict.store(Verdict::None as u8, Ordering::Relaxed);
    }

    pub(crate) fn extend_lease(&self, lease: Duration) {
        let ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        // Relaxed: the sweep grants it at its next look.
        self.lease_ms.fetch_max(ms, Ordering::Relaxed);
    }

    /// The lease that was asked for and is not granted yet.
    pub(crate) fn lease(&self) -> Duration {
        // Relaxed: see `extend_lease`.
        Duration::from_millis(self.lease_ms.load(Ordering::Relaxed))
    }

    /// Takes the lease that was asked for.
    pub(crate) fn take_lease(&self) -> Duration {
        // Relaxed: see `extend_lease`.
        Duration::from_millis(self.lease_ms.swap(0, Ordering::Relaxed))
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("name", &self.name)
            .field("flushed", &self.flushed())
            .field("handed", &self.handed())
            .field("gap", &self.has_gap())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
