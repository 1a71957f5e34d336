//! Message: what comes into a shard through its channel, in stream order.

use crate::consumer::{ConsumerSpec, Foreign};
use crate::control::{Definition, Place, Shape};
use crate::predicate::Predicate;
use crate::snapshot::{Initial, PgSnapshot, Snapshot};
use crate::words::{Fragment, Handle, Offset, Relation, ShapeDefinition, Slot, TableName, View};
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::time::Instant;

/// A shape that was checked and compiled, ready to be added.
pub(crate) struct Prepared {
    pub(crate) handle: Handle,
    pub(crate) definition: Arc<ShapeDefinition>,
    /// What it was compiled against.
    pub(crate) relation: Arc<Relation>,
    pub(crate) predicate: Predicate,
    pub(crate) view: View,
    pub(crate) consumer: Foreign<ConsumerSpec>,
    pub(crate) initial: Initial,
}

impl Prepared {
    /// Gives it its place: everything after `first` is its own.
    pub(crate) fn placed(self, shard: usize, slot: Slot, first: Offset) -> Entering {
        let Prepared { handle, definition, relation, predicate, view, consumer, initial } = self;
        // There are 256 shards at most.
        let (shard, ack) = (shard as u16, consumer.ack());
        let definition = Definition::new(&definition, &relation);
        let shape =
            Shape { handle, shard, slot, first, relation, predicate, view, ack, definition };
        Entering { shape: Arc::new(shape), consumer, initial }
    }
}

/// A shape that has a slot, on its way there.
pub(crate) struct Entering {
    pub(crate) shape: Arc<Shape>,
    pub(crate) consumer: Foreign<ConsumerSpec>,
    pub(crate) initial: Initial,
}

impl Entering {
    /// What is told to who asks from outside of its shard.
    pub(crate) fn place(&self) -> Place {
        Place { shape: Arc::clone(&self.shape), initial: self.initial.clone() }
    }
}

/// Why a shard did not do what it was asked; everything is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The table was altered between the shape's compilation and its place in the stream.
    Altered(TableName),
    /// The shard has given out all 2^32 slots.
    Slots,
    /// The shape is not here: removed or invalidated meanwhile.
    Unknown,
    /// The engine stops.
    Stopping,
    /// A transaction that is none of the shape's, because it came before it, is not in its initial
    /// rows either.
    Unshown(u32),
    /// Nobody has said which transactions came before the directory was opened.
    Untold,
}

/// Where shapes that are being added were put; told before their records are durable.
#[derive(Debug)]
pub(crate) struct Placed {
    /// The first one's; the others follow it.
    pub(crate) slot: Slot,
    /// Everything after it is theirs.
    pub(crate) first: Offset,
}

/// A shape whose end is durable.
#[derive(Debug)]
pub(crate) struct Gone {
    pub(crate) handle: Handle,
    /// The initial rows that it had.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
}

/// Initial rows for a shape.
pub(crate) struct Given {
    pub(crate) handle: Handle,
    pub(crate) slot: Slot,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) reply: Reply,
}

/// Sent when what was asked is durable: the number of shapes that it concerned.
pub(crate) type Reply = Sender<Result<usize, Refusal>>;

/// Shapes in one `Add`: so many that a message costs little, so few that the stream flows on.
pub(crate) const ADDED_MAX: usize = 1_024;

/// See the file's head.
pub(crate) enum Message {
    Fragment(Arc<Fragment>),
    /// At most [`ADDED_MAX`] shapes; all or none of them.
    Add(Vec<Prepared>, Option<Sender<Placed>>, Reply),
    Remove(Handle, Slot, Reply),
    InvalidateAll(Arc<str>, Reply),
    /// Whether all that came before the offset is in rows that were read under the snapshot.
    CheckSnapshot(Offset, Arc<PgSnapshot>, Reply),
    /// A shape's initial rows are complete and durable.
    Snapshot(Given),
    /// Transactions through this one may have committed before what is sent.
    EarlierXids(u32),
    /// The last message. What is owed then may be flushed until the deadline.
    Stop(Instant),
}
