//! Open: a shard from what its log recovered, and the limits that it keeps.

use super::commit::GroupCommit;
use super::death::Pacing;
use super::lifecycle::Leavers;
use super::message::Entering;
use super::slots::Slots;
use super::stream::Stream;
use super::tables::Tables;
use super::wakes::Wakes;
use super::wave::Wave;
use super::whole::Held;
use super::{Shard, Surroundings, Trackers};
use crate::consumer::{Ack, Hands, Pulse, ShardLink};
use crate::flush::{Owed, Tracker};
use crate::log::{Batch, Encoder, Log};
use crate::report::Dirty;
use crate::route::Router;
use crate::words::{Lsn, Slot};
use crossbeam_channel::Sender;
use roaring::RoaringBitmap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// What a shard keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Places in a consumer's mailbox.
    pub(crate) mailbox_places: usize,
    /// What one `Ack::Consumer` shape may pin, in bytes of commits.
    pub(crate) consumer_bytes_max: u64,
    /// What the memory store of this shard may hold; `None` for a store on disk.
    pub(crate) memory_bytes_max: Option<u64>,
    /// How many consumers this shard restarts a second, beyond each one's first restart.
    pub(crate) restarts_per_second: u32,
}

/// What a shard is opened with.
pub(crate) struct Opening {
    pub(crate) number: usize,
    pub(crate) limits: Limits,
    pub(crate) surroundings: Surroundings,
    pub(crate) link: Arc<ShardLink>,
    pub(crate) dirty: Dirty,
    pub(crate) log: Arc<Log>,
    pub(crate) encoder: Encoder,
    /// To the thread that syncs; it takes one batch at a time.
    pub(crate) to_sync: Sender<Batch>,
    /// Those that the log holds.
    pub(crate) shapes: Vec<Entering>,
    pub(crate) next_slot: Slot,
    /// The last commit in the log.
    pub(crate) last_commit: Lsn,
    /// Every commit at or below it was confirmed (R13).
    pub(crate) confirmed: Lsn,
}

/// Where a shard's frontier stands before anything happens.
///
/// A consumer that owns its acknowledgement owes everything above the floor until its factory has
/// answered.
pub(crate) fn frontier(shapes: &[Entering], last_commit: Lsn, confirmed: Lsn) -> Lsn {
    let waits = |Entering { consumer, initial, .. }: &Entering| {
        let waits = consumer.has_factory() && consumer.ack() == Ack::Consumer;
        waits && !initial.is_awaited()
    };
    if shapes.iter().any(waits) { confirmed } else { last_commit.max(confirmed) }
}

impl Shard {
    /// A shard that goes on where its log ends. Its consumers' factories are queued.
    pub(crate) fn open(opening: Opening, now: Instant) -> Shard {
        // At or below it, everything is durable here, or was confirmed and is nobody's concern.
        let accepted = opening.last_commit.max(opening.confirmed);
        let frontier = frontier(&opening.shapes, opening.last_commit, opening.confirmed);
        let shards = opening.surroundings.control.counters.len();
        let pulse = Arc::new(Pulse::default());
        let Opening { number, limits, surroundings, link, dirty, log, encoder, .. } = opening;
        let Surroundings { control, pool, watched, gone } = surroundings;
        let mut shard = Shard {
            number,
            limits,
            control,
            pool,
            watched,
            gone,
            link,
            log,
            encoder,
            router: Router::default(),
            tables: Tables::default(),
            slots: Slots::default(),
            next_slot: opening.next_slot.as_u32(),
            attended: RoaringBitmap::new(),
            dirty,
            owed: Trackers::new(frontier, accepted),
            // Who came is not in the log where nothing of it went to anybody.
            stream: Stream::new(accepted, opening.next_slot > Slot::new(0)),
            commit: GroupCommit::new(opening.to_sync, accepted),
            pacing: Pacing::new(limits.restarts_per_second, now),
            trailing: VecDeque::new(),
            leaving: Leavers::default(),
            wakes: Wakes::default(),
            hands: Hands::new(shards, pulse),
            wave: Wave::default(),
            held: Held::default(),
            marked: Vec::new(),
            swept: 0,
            stopping: None,
        };
        shard.log.claims().keep_above(frontier);
        // Nobody waits for it yet.
        let _awaited = shard.link.set_durable_through(accepted);
        for entering in opening.shapes {
            shard.reopen(entering, frontier);
        }
        // Before its first step: what an earlier life left owed is seen from the start (INV12).
        let commits = shard.owed.consumers.unflushed_commits();
        shard.counters().unflushed_commits.set(commits);
        shard
    }

    fn reopen(&mut self, entering: Entering, frontier: Lsn) {
        let (ack, first) = (entering.shape.ack, entering.shape.first);
        let has_consumer = entering.consumer.has_factory();
        if entering.initial.complete().is_some() && has_consumer {
            let owed = self.owed_since_first(ack, first);
            return self.enter_given(owed, entering);
        }
        if entering.initial.is_awaited() {
            return self.enter_slot(Owed::new(first.complete_through()), entering);
        }
        // What was confirmed its consumer has flushed, if the LSN waited for it.
        let confirmed = if ack == Ack::Consumer { frontier } else { Lsn::ZERO };
        let since = first.complete_through().max(confirmed);
        let mut owed = Owed::new(since);
        let last = self.stream.processed;
        if has_consumer && owed.sent(last) {
            // From the first position above what is confirmed; the factory's answer settles it.
            owed.from = since.next();
            self.owed.of(ack).owe(owed.from, 1);
        }
        self.enter_slot(owed, entering);
    }
}

impl Trackers {
    /// Everything at or below `frontier` is flushed, and the commits through `processed` are
    /// waited for by who owes them.
    fn new(frontier: Lsn, processed: Lsn) -> Trackers {
        let mut trackers =
            Trackers { consumers: Tracker::new(frontier), trail: Tracker::new(frontier) };
        trackers.processed(processed, 0);
        trackers
    }
}
