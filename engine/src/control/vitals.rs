//! Vitals: what the watch finds wrong with the engine's own threads, for who asks how it is.

use crate::sync::{AtomicU64, Ordering};
use crate::words::{Handle, Lsn};
use crossbeam::sync::{Parker, Unparker};
use parking_lot::Mutex;
use std::fmt;
use std::time::{Duration, Instant};

/// No sync is under way.
const NONE: u64 = 0;

/// Who holds the flushed LSN while it stands still: of the consumers that it waits for in the shard
/// that is furthest behind, the one that is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its shape.
    pub handle: Handle,
    /// Its incarnation.
    pub incarnation: u64,
    /// Its shard.
    pub shard: usize,
    /// The last commit that it was handed.
    pub handed: Lsn,
    /// The last commit that it has reported as flushed.
    pub flushed: Lsn,
    /// For how long the flushed LSN has stood still.
    pub age: Duration,
    /// Whose turn it is.
    pub state: HolderState,
}

/// Whose turn it is to move a flushed LSN that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HolderState {
    /// The consumer's: it has what it was handed, and has not reported it.
    Silent,
    /// The engine's: the consumer waits for a runner, for what it lacks from the log, or for the
    /// rest of a transaction.
    Waiting,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holder { handle, incarnation, handed, flushed, state, .. } = self;
        let state = match state {
            HolderState::Silent => "is silent",
            HolderState::Waiting => "waits for the engine",
        };
        write!(
            f,
            "shape {handle} (incarnation {incarnation}) was handed {handed}, has flushed {flushed} \
             and {state}"
        )
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Vitals {
    start: Instant,
    /// When each shard's sync began, in milliseconds after the start, plus one. Written by the
    /// thread that syncs, read by the watch.
    syncs: Box<[AtomicU64]>,
    /// What is wrong, as the watch saw it last.
    red: Mutex<Option<String>>,
    /// Who holds the flushed LSN, as the watch saw it last.
    holder: Mutex<Option<Holder>>,
    /// Where the watch rests.
    parker: Mutex<Option<Parker>>,
    unparker: Unparker,
}

impl Vitals {
    pub(crate) fn new(shards: usize, start: Instant) -> Vitals {
        let parker = Parker::new();
        Vitals {
            start,
            syncs: (0..shards).map(|_| AtomicU64::new(NONE)).collect(),
            red: Mutex::new(None),
            holder: Mutex::new(None),
            unparker: parker.unparker().clone(),
            parker: Mutex::new(Some(parker)),
        }
    }

    pub(crate) fn sync_began(&self, shard: usize, now: Instant) {
        let ms = u64::try_from(now.duration_since(self.start).as_millis()).unwrap_or(u64::MAX - 1);
        // Relaxed: a statistic that the watch compares with the clock.
        self.syncs[shard].store(ms + 1, Ordering::Relaxed);
    }

    pub(crate) fn sync_ended(&self, shard: usize) {
        // Relaxed: see `sync_began`.
        self.syncs[shard].store(NONE, Ordering::Relaxed);
    }

    /// The longest sync that is under way: its shard, and for how long.
    pub(crate) fn longest_sync(&self, now: Instant) -> Option<(usize, Duration)> {
        let since = |(shard, began): (usize, &AtomicU64)| {
            // Relaxed: see `sync_began`.
            let ms = began.load(Ordering::Relaxed).checked_sub(1)?;
            let began = self.start + Duration::from_millis(ms);
            Some((shard, now.saturating_duration_since(began)))
        };
        self.syncs.iter().enumerate().filter_map(since).max_by_key(|(_, time)| *time)
    }

    pub(crate) fn set_red(&self, cause: Option<String>) {
        let mut red = self.red.lock();
        if let (Some(cause), None) = (&cause, &*red) {
            tracing::warn!(cause, "health is red");
        }
        *red = cause;
    }

    pub(crate) fn red(&self) -> Option<String> {
        self.red.lock().clone()
    }

    pub(crate) fn set_holder(&self, holder: Option<Holder>) {
        *self.holder.lock() = holder;
    }

    pub(crate) fn holder(&self) -> Option<Holder> {
        self.holder.lock().clone()
    }

    /// The watch's rest. It waits for nobody, and is woken at the engine's end.
    pub(crate) fn rest(&self, time: Duration) {
        // The watch alone takes it, so it is there.
        let parker = self.parker.lock().take();
        if let Some(parker) = parker {
            parker.park_timeout(time);
            *self.parker.lock() = Some(parker);
        }
    }

    /// Wakes the watch.
    pub(crate) fn wake(&self) {
        self.unparker.unpark();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// INV12: a sync that hangs is not hidden by one of another shard that does not.
    #[test]
    fn inv12_the_longest_sync_is_found_whichever_shard_it_is_of() {
        let start = Instant::now();
        let vitals = Vitals::new(3, start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(vitals.longest_sync(at(9)), None);
        for (shard, began) in [5, 2, 4].into_iter().enumerate() {
            vitals.sync_began(shard, at(began));
        }
        assert_eq!(vitals.longest_sync(at(12)), Some((1, Duration::from_secs(10))));
        vitals.sync_ended(1);
        assert_eq!(vitals.longest_sync(at(12)), Some((2, Duration::from_secs(8))));
    }
}
