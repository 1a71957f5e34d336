//! Registry: which shapes live, by handle, and which tables are known. Shards write it when a
//! record is durable; callers of the engine read it. No delivery comes near it.

use super::waiters::Waiters;
use crate::consumer::Ack;
use crate::snapshot::{Initial, Snapshot};
use crate::words::{Handle, Offset, Relation, ShapeDefinition, Slot, TableName, View};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;

/// Where a shape lives.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) shard: u32,
    pub(crate) slot: Slot,
    /// Everything after it is the shape's.
    pub(crate) first: Offset,
    pub(crate) definition: Arc<ShapeDefinition>,
    pub(crate) view: View,
    /// Whether the flushed LSN waits for its consumer, or for its log alone.
    pub(crate) ack: Ack,
    /// Its table as it was when it was added.
    pub(crate) relation: Arc<Relation>,
    pub(crate) initial: Initial,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Registry {
    /// Who waits for a shape is told when it goes.
    waiters: Arc<Waiters>,
    shapes: RwLock<HashMap<Handle, Place, RandomState>>,
    relations: RwLock<HashMap<TableName, Known, RandomState>>,
}

/// A table as it was announced last.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) relation: Arc<Relation>,
    /// The stream has shown that it is not so any more.
    pub(crate) outdated: bool,
}

impl Registry {
    pub(super) fn new(waiters: Arc<Waiters>) -> Registry {
        Registry { waiters, shapes: Default::default(), relations: Default::default() }
    }

    pub(crate) fn enter(&self, shapes: impl IntoIterator<Item = (Handle, Place)>) {
        self.shapes.write().extend(shapes);
    }

    pub(crate) fn leave(&self, handle: Handle) {
        let left = self.shapes.write().remove(&handle);
        if let Some(place) = left {
            self.waiters.gone(place.shard, place.slot);
        }
    }

    /// The shape's initial rows are complete.
    pub(crate) fn give_snapshot(&self, handle: Handle, snapshot: Arc<Snapshot>) {
        if let Some(place) = self.shapes.write().get_mut(&handle) {
            place.initial = Initial::Complete(snapshot);
            // Who waited could not read.
            self.waiters.gone(place.shard, place.slot);
        }
    }

    pub(crate) fn place(&self, handle: Handle) -> Option<Place> {
        self.shapes.read().get(&handle).cloned()
    }

    /// All living shapes, by handle.
    pub(crate) fn all(&self) -> Vec<(Handle, Place)> {
        let mut all: Vec<_> =
            self.shapes.read().iter().map(|(handle, place)| (*handle, place.clone())).collect();
        all.sort_unstable_by_key(|(handle, _)| *handle);
        all
    }

    pub(crate) fn learn(&self, relation: Arc<Relation>) {
        let known = Known { relation: Arc::clone(&relation), outdated: false };
        self.relations.write().insert(relation.table.clone(), known);
    }

    /// The stream has shown that the table is not as `relation` says. An announcement that came
    /// since stands.
    pub(crate) fn outdate(&self, relation: &Arc<Relation>) {
        if let Some(known) = self.relations.write().get_mut(&relation.table) {
            known.outdated |= Arc::ptr_eq(&known.relation, relation);
        }
    }

    pub(crate) fn relation(&self, table: &TableName) -> Option<Known> {
        self.relations.read().get(table).cloned()
    }
}
