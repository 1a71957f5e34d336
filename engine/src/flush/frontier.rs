//! Frontiers: one atomic frontier a shard and the global LSN, their minimum (R1).
//!
//! Each shard publishes its own frontier, and whoever acknowledges reads the one global LSN. There
//! is no lock and no thread in the middle. It leaves to the trackers what a frontier is, and to the
//! readers whom they tell.

use crate::sync::{AtomicU64, Ordering, fence};
use crate::words::Lsn;
use crossbeam::utils::CachePadded;

/// The frontiers of all shards and their published minimum. Shared by shards and readers.
///
/// Padded, because each frontier is written at its own shard's pace by that shard alone, and read
/// by the others only when they publish; the global LSN is polled by readers at theirs.
#[derive(Debug)]
pub(crate) struct Frontiers {
    /// A shard's last published frontier. Written by that shard, read by all that publish.
    shards: Box<[CachePadded<AtomicU64>]>,
    /// The highest minimum that was seen. Raised by every shard, read by everyone.
    global: CachePadded<AtomicU64>,
}

impl Frontiers {
    /// One frontier a shard, each where it was when the engine was opened. Without shards nothing
    /// is ever flushed.
    pub(crate) fn new(frontiers: impl IntoIterator<Item = Lsn>) -> Frontiers {
        let frontiers: Vec<Lsn> = frontiers.into_iter().collect();
        let global = frontiers.iter().copied().min().unwrap_or(Lsn::ZERO);
        let padded = |lsn: Lsn| CachePadded::new(AtomicU64::new(lsn.as_u64()));
        Frontiers { shards: frontiers.into_iter().map(padded).collect(), global: padded(global) }
    }

    /// Publishes the frontier of `shard`, which only its own thread may do, with frontiers that
    /// rise. The new global LSN, if this call moved it.
    pub(crate) fn publish(&self, shard: usize, frontier: Lsn) -> Option<Lsn> {
        self.publish_with(shard, frontier, || fence(Ordering::SeqCst))
    }

    /// `publish` with the barrier as an argument, so that a model can show what it is for.
    fn publish_with(&self, shard: usize, frontier: Lsn, barrier: impl FnOnce()) -> Option<Lsn> {
        // Release: what this shard made durable is visible to whoever acts on the minimum. Partner:
        // the acquiring loads of the other shards below, then their `fetch_max`.
        self.shards[shard].store(frontier.as_u64(), Ordering::Release);
        // Partner: this same fence in the other shards. Of two that publish at once, the one whose
        // fence comes later loads the other's store, and so the last of all finds the true minimum.
        // Without it both may load old frontiers, and in the silence that follows the global LSN
        // stands below the minimum for ever (R1).
        barrier();
        // Acquire: partner is the releasing store of each shard above.
        let minimum =
            self.shards.iter().map(|other| other.load(Ordering::Acquire)).min().unwrap_or_default();
        // A maximum, because a slower shard may arrive here with an older minimum: the global LSN
        // never goes back. Release: partner is the load in `global`. Acquire: one who finds it
        // moved already goes on after the one who moved it.
        let previous = self.global.fetch_max(minimum, Ordering::AcqRel);
        (previous < minimum).then(|| Lsn::new(minimum))
    }

    /// The last commit LSN at or below which no shard owes anything. Never goes back.
    pub(crate) fn global(&self) -> Lsn {
        // Acquire: partner is the `fetch_max` of `publish_with`.
        Lsn::new(self.global.load(Ordering::Acquire))
    }

    /// The last published frontier of `shard`.
    pub(crate) fn shard(&self, shard: usize) -> Lsn {
        // Acquire: partner is the store of `publish_with`.
        Lsn::new(self.shards[shard].load(Ordering::Acquire))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_global_lsn_is_the_minimum_and_who_moves_it_is_told() {
        let frontiers = Frontiers::new([5, 3].map(Lsn::new));
        assert_eq!(frontiers.global(), Lsn::new(3));
        assert_eq!(frontiers.publish(0, Lsn::new(9)), None);
        assert_eq!(frontiers.publish(1, Lsn::new(7)), Some(Lsn::new(7)));
        assert_eq!(frontiers.publish(1, Lsn::new(12)), Some(Lsn::new(9)));
        assert_eq!((frontiers.global(), frontiers.shard(1)), (Lsn::new(9), Lsn::new(12)));
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::{Arc, model};

    fn publish_at_once(
        shards: usize,
        publish: impl Fn(&Frontiers, usize) + Send + Sync + Copy + 'static,
    ) {
        model::check(move || {
            let frontiers = Arc::new(Frontiers::new(vec![Lsn::new(1); shards]));
            let threads: Vec<_> = (1..shards)
                .map(|shard| {
                    let frontiers = frontiers.clone();
                    model::spawn(move || publish(&frontiers, shard))
                })
                .collect();
            publish(&frontiers, 0);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            // Everyone is silent now: what is not published is never published.
            let minimum = (0..shards).map(|shard| frontiers.shard(shard)).min();
            assert_eq!(Some(frontiers.global()), minimum, "the global LSN is stuck");
        });
    }

    #[test]
    fn loom_shards_that_advance_at_once_and_fall_silent_leave_the_minimum() {
        let publish = |frontiers: &Frontiers, shard: usize| {
            frontiers.publish(shard, Lsn::new(2 + shard as u64));
        };
        publish_at_once(2, publish);
        publish_at_once(3, publish);
    }

    #[test]
    #[should_panic(expected = "the global LSN is stuck")]
    fn loom_without_the_fence_the_global_lsn_is_stuck() {
        publish_at_once(2, |frontiers, shard| {
            frontiers.publish_with(shard, Lsn::new(2 + shard as u64), || ());
        });
    }

    #[test]
    fn loom_the_global_lsn_never_goes_back_and_never_passes_a_shard() {
        model::check(|| {
            let frontiers = Arc::new(Frontiers::new([1, 1].map(Lsn::new)));
            let threads = [0, 1].map(|shard| {
                let frontiers = frontiers.clone();
                model::spawn(move || {
                    let moved = [2, 3].map(|at| frontiers.publish(shard, Lsn::new(at)));
                    moved.into_iter().flatten().collect::<Vec<_>>()
                })
            });
            let first = frontiers.global();
            let shards = [0, 1].map(|shard| frontiers.shard(shard));
            assert!(shards.iter().all(|&shard| first <= shard), "{first} passes {shards:?}");
            assert!(first <= frontiers.global());
            let mut told: Vec<Lsn> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
            told.sort();
            assert_eq!(told.last(), Some(&Lsn::new(3)));
            assert!(told.windows(2).all(|two| two[0] < two[1]), "a move was told twice");
        });
    }
}
