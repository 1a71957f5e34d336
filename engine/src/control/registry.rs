//! Registry: which shapes live, by handle, and which tables are known. Shards write it when a
//! record is durable; callers of the engine read it. No delivery comes near it.

use super::shape::Shape;
use super::waiters::Waiters;
use crate::snapshot::{Initial, Snapshot};
use crate::words::{Handle, Relation, TableName};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use parking_lot::RwLock;
use std::hash::BuildHasher;
use std::ops::Deref;
use std::sync::Arc;

/// A living shape, to who asks for it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) shape: Arc<Shape>,
    pub(crate) initial: Initial,
}

impl Deref for Place {
    type Target = Shape;

    fn deref(&self) -> &Shape {
        &self.shape
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Registry {
    /// Who waits for a shape is told when it goes.
    waiters: Arc<Waiters>,
    living: RwLock<Living>,
    relations: RwLock<HashMap<TableName, Known, RandomState>>,
}

/// The living shapes. A pointer each, since they lie in a table that is half empty at times.
#[derive(Debug, Default)]
struct Living {
    /// By handle.
    shapes: HashTable<Arc<Shape>>,
    hashes: RandomState,
    /// Of those that have initial rows, or await them.
    initial: HashMap<Handle, Initial, RandomState>,
}

impl Living {
    fn enter(&mut self, place: Place) {
        let Living { shapes, hashes, initial } = self;
        let Place { shape, initial: has } = place;
        if has != Initial::None {
            initial.insert(shape.handle, has);
        }
        let hash = |shape: &Arc<Shape>| hashes.hash_one(shape.handle);
        shapes.insert_unique(hash(&shape), shape, hash);
    }

    fn leave(&mut self, handle: Handle) -> Option<Arc<Shape>> {
        self.initial.remove(&handle);
        let found = self.shapes.find_entry(self.hashes.hash_one(handle), |s| s.handle == handle);
        found.ok().map(|entry| entry.remove().0)
    }

    fn get(&self, handle: Handle) -> Option<&Arc<Shape>> {
        self.shapes.find(self.hashes.hash_one(handle), |shape| shape.handle == handle)
    }

    fn place(&self, shape: &Arc<Shape>) -> Place {
        let initial = self.initial.get(&shape.handle).cloned().unwrap_or_default();
        Place { shape: Arc::clone(shape), initial }
    }
}

/// A table as it was announced last.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) relation: Arc<Relation>,
    /// The stream has shown that it is not so, and has not shown since that it is.
    pub(crate) outdated: bool,
}

impl Registry {
    pub(super) fn new(waiters: Arc<Waiters>) -> Registry {
        Registry { waiters, living: Default::default(), relations: Default::default() }
    }

    /// Shapes begin to live. No handle comes twice.
    pub(crate) fn enter(&self, shapes: impl IntoIterator<Item = Place>) {
        let mut living = self.living.write();
        shapes.into_iter().for_each(|place| living.enter(place));
    }

    pub(crate) fn leave(&self, handle: Handle) {
        let left = self.living.write().leave(handle);
        if let Some(shape) = left {
            self.waiters.gone(shape.shard.into(), shape.slot);
        }
    }

    /// The shape's initial rows are complete.
    pub(crate) fn give_snapshot(&self, handle: Handle, snapshot: Arc<Snapshot>) {
        let mut living = self.living.write();
        let Some(shape) = living.get(handle).cloned() else { return };
        living.initial.insert(handle, Initial::Complete(snapshot));
        // Who waited could not read.
        self.waiters.gone(shape.shard.into(), shape.slot);
    }

    pub(crate) fn place(&self, handle: Handle) -> Option<Place> {
        let living = self.living.read();
        living.get(handle).map(|shape| living.place(shape))
    }

    /// All living shapes, by handle.
    pub(crate) fn all(&self) -> Vec<Arc<Shape>> {
        let mut all: Vec<_> = self.living.read().shapes.iter().cloned().collect();
        all.sort_unstable_by_key(|shape| shape.handle);
        all
    }

    pub(crate) fn learn(&self, relation: Arc<Relation>) {
        let known = Known { relation: Arc::clone(&relation), outdated: false };
        self.relations.write().insert(relation.table.clone(), known);
    }

    /// The stream has shown that the table is not as `relation` says, or (not `outdated`) that it
    /// is. An announcement that came since stands. False: there is one.
    pub(crate) fn mark(&self, relation: &Arc<Relation>, outdated: bool) -> bool {
        let mut relations = self.relations.write();
        let known = relations.get_mut(&relation.table);
        let known = known.filter(|known| Arc::ptr_eq(&known.relation, relation));
        known.map(|known| known.outdated = outdated).is_some()
    }

    pub(crate) fn relation(&self, table: &TableName) -> Option<Known> {
        self.relations.read().get(table).cloned()
    }
}
