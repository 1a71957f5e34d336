//! Progress: how far an incarnation is. Its runner says through where it was handed and fed, its
//! reports say what it has flushed, and its shard reads all three without a lock (R5).

use crate::sync::{AtomicU64, Ordering};
use crate::words::Lsn;

/// See the file's head.
#[derive(Debug)]
pub(super) struct Progress {
    /// Highest commit reported as flushed. Raised by the consumer's side, read by the shard.
    flushed: AtomicU64,
    /// Highest commit handed to the consumer. Written by its runner.
    handed: AtomicU64,
    /// Through which commit the log was fed to it, with or without anything of its own. Written by
    /// its runner.
    fed: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let none = || AtomicU64::new(0);
        Progress { flushed: none(), handed: none(), fed: none() }
    }

    pub(super) fn flushed(&self) -> Lsn {
        // Acquire: pairs with the release in `raise_flushed`; what the consumer did before it
        // reported happened before the shard counts it.
        Lsn::new(self.flushed.load(Ordering::Acquire))
    }

    /// Through where the shape is flushed: who has flushed all that it was handed is so through
    /// where it was fed, rows or not, whichever of the two came last (R5).
    pub(super) fn flushed_through(&self) -> Lsn {
        // Acquire: pairs with the release in `set_fed`; what was handed before is seen below.
        let fed = Lsn::new(self.fed.load(Ordering::Acquire));
        let flushed = self.flushed();
        if flushed >= self.handed() { flushed.max(fed) } else { flushed }
    }

    pub(super) fn set_fed(&self, lsn: Lsn) {
        // Release: pairs with the acquire in `flushed_through`.
        self.fed.store(lsn.as_u64(), Ordering::Release);
    }

    pub(super) fn raise_flushed(&self, lsn: Lsn) {
        // Release: pairs with the acquire in `flushed`. A maximum, because an incarnation may
        // report from several threads and reports are cumulative.
        self.flushed.fetch_max(lsn.as_u64(), Ordering::Release);
    }

    /// `raise_flushed`, where nobody else can report: a consumer without a reporter reports from
    /// its handler, and who runs that has its part.
    pub(super) fn raise_flushed_alone(&self, lsn: Lsn) {
        // Relaxed: whoever wrote it had the part before, and the part's seat orders the two.
        if lsn.as_u64() > self.flushed.load(Ordering::Relaxed) {
            // Release: pairs with the acquire in `flushed`.
            self.flushed.store(lsn.as_u64(), Ordering::Release);
        }
    }

    pub(super) fn handed(&self) -> Lsn {
        // Relaxed: the consumer's own side wrote it before the handler ran; the sweep looks again.
        Lsn::new(self.handed.load(Ordering::Relaxed))
    }

    pub(super) fn set_handed(&self, lsn: Lsn) {
        // Relaxed: one writer; see `handed`. A reporter on another thread learned of the commit
        // from the handler, by whatever means orders the two.
        self.handed.store(lsn.as_u64(), Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::{Arc, model};

    const HANDED: Lsn = Lsn::new(1);
    const FED: Lsn = Lsn::new(5);

    /// A runner hands a commit over and feeds beyond it, or the other way round, the consumer
    /// reports it from a thread of its own, and the shard looks in the middle and after all marks.
    fn hand_and_feed(feeds_first: bool) {
        model::check(move || {
            let progress = Arc::new(Progress::new());
            let runner = {
                let progress = Arc::clone(&progress);
                model::spawn(move || {
                    if feeds_first {
                        progress.set_fed(FED);
                    }
                    progress.set_handed(HANDED);
                    let reporter = {
                        let progress = Arc::clone(&progress);
                        model::spawn(move || progress.raise_flushed(HANDED))
                    };
                    progress.set_fed(FED);
                    reporter.join().unwrap();
                })
            };
            let found = progress.flushed_through();
            let reported = progress.flushed() >= HANDED;
            assert!(found < FED || reported, "flushed through {found} without a report");
            runner.join().unwrap();
            assert_eq!(progress.flushed_through(), FED, "a report or a feed was not seen");
        });
    }

    /// Two threads report at once.
    fn report_twice(raise: impl Fn(&Progress, Lsn) + Send + Sync + Copy + 'static) {
        model::check(move || {
            let progress = Arc::new(Progress::new());
            let other = {
                let progress = Arc::clone(&progress);
                model::spawn(move || raise(&progress, Lsn::new(1)))
            };
            raise(&progress, Lsn::new(2));
            other.join().unwrap();
            assert_eq!(progress.flushed(), Lsn::new(2), "the later one was lost");
        });
    }

    #[test]
    fn loom_of_two_reports_the_later_one_counts() {
        report_twice(Progress::raise_flushed);
    }

    #[test]
    #[should_panic(expected = "the later one was lost")]
    fn loom_where_others_report_a_store_loses_one() {
        report_twice(Progress::raise_flushed_alone);
    }

    #[test]
    fn loom_nobody_is_flushed_through_where_it_was_fed_before_it_has_reported() {
        hand_and_feed(false);
    }

    #[test]
    #[should_panic(expected = "without a report")]
    fn loom_who_is_fed_before_it_is_handed_a_commit_is_flushed_through_it() {
        hand_and_feed(true);
    }
}
