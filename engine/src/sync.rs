//! The one seam for atomics: the standard library's, or loom's when a model is checked.
//!
//! Nothing else in the engine imports `std::sync::atomic`, so every protocol that is built on these
//! can be run under loom (`RUSTFLAGS="--cfg loom"`, tests named `loom_*`). `Arc` is always the
//! standard one: what it orders by itself no protocol of ours relies on.

pub(crate) use std::sync::Arc;

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

/// What the models use beside the atomics.
#[cfg(all(test, loom))]
pub(crate) mod model {
    pub(crate) use loom::thread::spawn;

    /// Forced switches between threads in one execution. Known bugs of this kind show at 2; the
    /// models that fail on purpose, each without its fence, prove that the bound lets them.
    const PREEMPTIONS_MAX: usize = 3;

    /// Runs `body` in every interleaving and under every outcome that the orderings allow.
    pub(crate) fn check(body: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound.get_or_insert(PREEMPTIONS_MAX);
        builder.check(body);
    }
}

/// A place for one boxed value, handed over whole between threads.
///
/// `put` releases and `take` acquires, as one read-modify-write each; std has no such cell, and
/// under loom a mutex stands in, which orders at least as much.
pub(crate) struct TakeCell<T> {
    #[cfg(not(loom))]
    place: crossbeam::atomic::AtomicCell<Option<Box<T>>>,
    #[cfg(loom)]
    place: loom::sync::Mutex<Option<Box<T>>>,
}

impl<T> TakeCell<T> {
    pub(crate) fn empty() -> TakeCell<T> {
        #[cfg(not(loom))]
        const {
            assert!(crossbeam::atomic::AtomicCell::<Option<Box<T>>>::is_lock_free())
        };
        TakeCell { place: Default::default() }
    }

    /// Takes what lies there.
    pub(crate) fn take(&self) -> Option<Box<T>> {
        self.swap(None)
    }

    /// Lays `value` down and hands back what lay there.
    pub(crate) fn replace(&self, value: Box<T>) -> Option<Box<T>> {
        self.swap(Some(value))
    }

    #[cfg(not(loom))]
    fn swap(&self, value: Option<Box<T>>) -> Option<Box<T>> {
        self.place.swap(value)
    }

    #[cfg(loom)]
    fn swap(&self, value: Option<Box<T>>) -> Option<Box<T>> {
        std::mem::replace(&mut *self.place.lock().unwrap(), value)
    }
}

impl<T> std::fmt::Debug for TakeCell<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TakeCell").finish_non_exhaustive()
    }
}
