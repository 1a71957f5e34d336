//! Claims: what of a shard's log must stay when its old part is thinned: shapes live, the flushed
//! LSN waits, initial rows are being loaded. Shard and syncer say so; who thins asks.

use crate::sync::{AtomicU64, Ordering};
use crate::words::{Lsn, Slot};
use parking_lot::Mutex;
use roaring::RoaringBitmap;

/// See the file's head. The locks are held for a look-up or a copy; a shard takes one for a shape
/// that is to be given initial rows, and for no other.
#[derive(Default)]
pub(crate) struct Claims {
    /// The slots of shapes that live, durably so. Written by the syncer.
    living: Mutex<RoaringBitmap>,
    /// Those whose initial rows are not complete, or whose consumer has not had yet what was logged
    /// until then. Written by the shard, before they live.
    held: Mutex<RoaringBitmap>,
    /// What lies above it is not thinned. Written by the shard.
    owed_above: AtomicU64,
}

impl Claims {
    /// The flushed LSN waits for something above `owed`: that is not thinned (R15).
    pub(crate) fn keep_above(&self, owed: Lsn) {
        // Relaxed: one writer; what is seen late is thinned late.
        self.owed_above.store(owed.as_u64(), Ordering::Relaxed);
    }

    /// What [`Claims::keep_above`] was told last.
    pub(super) fn owed_above(&self) -> Lsn {
        // Relaxed: see there.
        Lsn::new(self.owed_above.load(Ordering::Relaxed))
    }

    /// The initial rows of the shape in `slot` are to come, and what its consumer is to see after
    /// them: until then more of its changes stays.
    pub(crate) fn hold(&self, slot: Slot) {
        self.held.lock().insert(slot.as_u32());
    }

    /// It has had them, or never will.
    pub(crate) fn release(&self, slot: Slot) {
        self.held.lock().remove(slot.as_u32());
    }

    /// The shapes that were found.
    pub(super) fn set_living(&self, living: RoaringBitmap) {
        *self.living.lock() = living;
    }

    /// Shapes came (true) or went, durably.
    pub(super) fn live(&self, lives: &[(u32, bool)]) {
        if lives.is_empty() {
            return;
        }
        let mut living = self.living.lock();
        for &(slot, lives) in lives {
            if lives {
                living.insert(slot)
            } else {
                living.remove(slot)
            };
        }
    }

    /// The slots of the shapes that live, durably so; and of those of which more stays.
    pub(crate) fn shapes(&self) -> (RoaringBitmap, RoaringBitmap) {
        // In this order: who lives and is held is among these.
        let living = self.living.lock().clone();
        (living, self.held.lock().clone())
    }
}
