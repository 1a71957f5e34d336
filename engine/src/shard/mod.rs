//! Shard: the machine that owns a slice of the shapes: it routes each fragment against its own
//! index, hands the deliveries to consumers, fills the log, and keeps what is owed. Messages,
//! marks and synced batches flow in; mail, batches and a frontier flow out. It blocks on nothing
//! and is handed the time; the thread that pumps it is started by the engine.

mod batch;
mod commit;
mod death;
mod fanout;
mod initial;
mod lifecycle;
mod message;
mod notes;
mod open;
mod pump;
mod slots;
mod stop;
mod stream;
mod tables;
mod wakes;
mod wave;
mod whole;
mod xids;

pub(crate) use message::{
    ADDED_MAX, Entering, Given, Gone, Message, Placed, Prepared, Refusal, Reply,
};
pub(crate) use open::{Limits, Opening, frontier};
pub(crate) use pump::{Inbox, Pump};
pub(crate) use stop::ShardEnd;

use crate::consumer::{Ack, Hands, Mailbox, Pulse, ShardLink};
use crate::control::{Control, Counters};
use crate::flush::{Moved, Tracker};
use crate::log::{Encoder, Log};
use crate::report::Dirty;
use crate::route::Router;
use crate::run::Pool;
use crate::words::{Lsn, Slot};
use commit::GroupCommit;
use crossbeam_channel::Sender;
use death::Pacing;
use lifecycle::Leavers;
use roaring::RoaringBitmap;
use slots::Slots;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use stop::Stopping;
use stream::Stream;
use tables::Tables;
use wakes::Wakes;
use wave::Wave;
use whole::Held;

/// What a shard shares with the rest of its engine.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) control: Arc<Control>,
    pub(crate) pool: Arc<Pool>,
    /// Each new mailbox, for the watch.
    pub(crate) watched: Sender<Weak<Mailbox>>,
    /// Each shape whose end is durable, once, for who clears up after it; `None` without a
    /// directory. Bounded by the shapes that there were: a shard does not wait for the disk.
    pub(crate) gone: Option<Sender<Gone>>,
}

/// See the file's head.
pub(crate) struct Shard {
    number: usize,
    limits: Limits,
    control: Arc<Control>,
    pool: Arc<Pool>,
    watched: Sender<Weak<Mailbox>>,
    gone: Option<Sender<Gone>>,
    link: Arc<ShardLink>,
    log: Arc<Log>,
    encoder: Encoder,
    router: Router,
    tables: Tables,
    slots: Slots,
    /// The lowest slot that was never given out (R8).
    next_slot: u32,
    /// Slots whose shape has a consumer.
    attended: RoaringBitmap,
    dirty: Dirty,
    /// What consumers owe: by `Ack` the flushed LSN waits for the first, and the memory store keeps
    /// what the second one has (R14).
    owed: Trackers,
    stream: Stream,
    commit: GroupCommit,
    pacing: Pacing,
    /// Mailboxes of shapes that are gone, until their part is dropped (R12).
    leaving: Leavers,
    wakes: Wakes,
    hands: Hands,
    wave: Wave,
    held: Held,
    /// A buffer that is kept: what was marked.
    marked: Vec<Slot>,
    /// Shapes that were given their initial rows and whose consumers have not had all yet that was
    /// logged before. Bounded by the shapes.
    trailing: VecDeque<Slot>,
    /// Where the sweep over all slots goes on.
    swept: usize,
    stopping: Option<Stopping>,
}

/// One tracker for each [`crate::consumer::Ack`].
pub(crate) struct Trackers {
    /// `Ack::Consumer`: its frontier is the shard's.
    consumers: Tracker,
    /// `Ack::Log`: what its consumers still want from the log.
    trail: Tracker,
}

impl Trackers {
    fn of(&mut self, ack: Ack) -> &mut Tracker {
        match ack {
            Ack::Consumer => &mut self.consumers,
            Ack::Log => &mut self.trail,
        }
    }

    fn apply(&mut self, ack: Ack, moved: Moved) {
        if moved != Moved::Nothing {
            self.of(ack).apply(moved);
        }
    }

    fn processed(&mut self, commit: Lsn, bytes: u64) {
        self.consumers.processed(commit, bytes);
        self.trail.processed(commit, bytes);
    }
}

impl Shard {
    fn counters(&self) -> &Counters {
        &self.control.counters[self.number]
    }

    /// What the shard's thread shows while it runs handlers itself.
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.hands.pulse
    }
}
