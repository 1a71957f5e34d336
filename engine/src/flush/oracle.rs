//! Tracker and `Owed` against an oracle that keeps every single (shape, commit) that is owed.

use super::{Moved, Owed, Tracker};
use crate::words::Lsn;
use proptest::prelude::*;

const SHAPES: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    /// A commit `gap` above the last, routed to the shapes whose bits are set, of `bytes`.
    Commit {
        gap: u64,
        shapes: u8,
        bytes: u64,
    },
    /// A report at `per_mille` of the last commit; above 1000 is past everything sent.
    Report {
        shape: usize,
        per_mille: u64,
    },
    /// A new incarnation resumes there.
    TakeBack {
        shape: usize,
        per_mille: u64,
    },
    /// The shape is removed; what it owed waits for a sync.
    Remove {
        shape: usize,
    },
    /// Everything that removed shapes owed is settled.
    Sync,
    Advance {
        per_mille: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (shape, per_mille) = (0..SHAPES, 0..1200u64);
    prop_oneof![
        6 => (1..9u64, any::<u8>(), 0..50u64)
            .prop_map(|(gap, shapes, bytes)| Step::Commit { gap, shapes, bytes }),
        6 => (shape.clone(), per_mille.clone())
            .prop_map(|(shape, per_mille)| Step::Report { shape, per_mille }),
        1 => (shape.clone(), per_mille.clone())
            .prop_map(|(shape, per_mille)| Step::TakeBack { shape, per_mille }),
        1 => shape.prop_map(|shape| Step::Remove { shape }),
        1 => Just(Step::Sync),
        4 => per_mille.prop_map(|per_mille| Step::Advance { per_mille }),
    ]
}

/// Everything, one by one.
#[derive(Default)]
struct Oracle {
    processed: Vec<(Lsn, u64)>,
    routed: Vec<(usize, Lsn)>,
    owed: Vec<(usize, Lsn)>,
    /// What removed shapes owed until the next sync.
    pending: Vec<(usize, Lsn)>,
    flushed: [Lsn; SHAPES],
    /// The commit with which the shape began to owe, after it last owed nothing.
    since: [Lsn; SHAPES],
}

impl Oracle {
    fn sent(&mut self, shape: usize, commit: Lsn) {
        self.routed.push((shape, commit));
        if self.flushed[shape] >= commit {
            return;
        }
        if !self.owed.iter().any(|owed| owed.0 == shape) {
            self.since[shape] = commit;
        }
        self.owed.push((shape, commit));
    }

    fn report(&mut self, shape: usize, flushed: Lsn) {
        self.flushed[shape] = self.flushed[shape].max(flushed);
        self.owed.retain(|owed| owed.0 != shape || owed.1 > flushed);
    }

    fn take_back(&mut self, shape: usize, resume: Lsn, frontier: Lsn) {
        if resume >= self.flushed[shape] {
            return self.report(shape, resume);
        }
        let complete = resume.max(frontier);
        self.flushed[shape] = resume;
        self.since[shape] = complete.next();
        self.owed.retain(|owed| owed.0 != shape);
        let again = self.routed.iter().filter(|routed| routed.0 == shape && routed.1 > complete);
        self.owed.extend(again);
    }

    /// The last processed commit at or below `bound` and below `root`.
    fn frontier(&self, bound: Lsn, root: Option<Lsn>) -> Lsn {
        let flushed = |at: &Lsn| *at <= bound && root.is_none_or(|root| *at < root);
        self.processed.iter().map(|commit| commit.0).filter(flushed).max().unwrap_or_default()
    }

    fn all_owed(&self) -> impl Iterator<Item = (usize, Lsn)> {
        self.owed.iter().chain(&self.pending).copied()
    }

    /// The oldest commit that really is owed.
    fn oldest(&self) -> Option<Lsn> {
        self.all_owed().map(|owed| owed.1).min()
    }

    /// The oldest lower bound, as late as the scheme may be: right above a shape's last report.
    fn lower_bound(&self) -> Option<Lsn> {
        let from = |shape: usize| self.since[shape].max(self.flushed[shape].next());
        self.all_owed().map(|owed| from(owed.0)).min()
    }

    fn bytes_from(&self, from: Lsn) -> u64 {
        self.processed.iter().filter(|commit| commit.0 >= from).map(|commit| commit.1).sum()
    }
}

struct Run {
    oracle: Oracle,
    tracker: Tracker,
    shapes: [Option<Owed>; SHAPES],
    releases: Vec<Lsn>,
    newest: Lsn,
    frontier: Lsn,
}

impl Run {
    fn new() -> Run {
        Run {
            oracle: Oracle::default(),
            tracker: Tracker::new(Lsn::ZERO),
            shapes: [Some(Owed::new(Lsn::ZERO)); SHAPES],
            releases: Vec::new(),
            newest: Lsn::ZERO,
            frontier: Lsn::ZERO,
        }
    }

    fn at(&self, per_mille: u64) -> Lsn {
        Lsn::new(self.newest.as_u64() * per_mille / 1000)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit { gap, shapes, bytes } => self.commit(gap, shapes, bytes),
            Step::Report { shape, per_mille } => {
                let flushed = self.at(per_mille);
                self.with(shape, |owed| owed.report(flushed));
                if self.shapes[shape].is_some() {
                    self.oracle.report(shape, flushed);
                }
            }
            Step::TakeBack { shape, per_mille } => {
                let (resume, frontier) = (self.at(per_mille), self.frontier);
                self.with(shape, |owed| owed.take_back(resume, frontier));
                if self.shapes[shape].is_some() {
                    self.oracle.take_back(shape, resume, frontier);
                }
            }
            Step::Remove { shape } => {
                if let Some(mut owed) = self.shapes[shape].take() {
                    self.releases.extend(owed.release());
                    let (gone, rest) = self.oracle.owed.iter().partition(|owed| owed.0 == shape);
                    self.oracle.owed = rest;
                    self.oracle.pending.extend::<Vec<_>>(gone);
                }
            }
            Step::Sync => {
                self.releases.drain(..).for_each(|from| self.tracker.settle(from));
                self.oracle.pending.clear();
            }
            Step::Advance { per_mille } => self.advance(self.at(per_mille)),
        }
    }

    fn with(&mut self, shape: usize, step: impl FnOnce(&mut Owed) -> Moved) {
        if let Some(owed) = &mut self.shapes[shape] {
            self.tracker.apply(step(owed));
        }
    }

    fn commit(&mut self, gap: u64, shapes: u8, bytes: u64) {
        self.newest = Lsn::new(self.newest.as_u64() + gap);
        let mut newly = 0;
        for (shape, owed) in self.shapes.iter_mut().enumerate() {
            if let Some(owed) = owed.as_mut().filter(|_| shapes >> shape & 1 == 1) {
                newly += u32::from(owed.sent(self.newest));
                self.oracle.sent(shape, self.newest);
            }
        }
        self.tracker.owe(self.newest, newly);
        self.tracker.processed(self.newest, bytes);
        self.oracle.processed.push((self.newest, bytes));
    }

    fn advance(&mut self, bound: Lsn) {
        let moved = self.tracker.advance(bound);
        let frontier = self.tracker.frontier();
        assert_eq!(moved, (frontier > self.frontier).then_some(frontier), "moved, and only up");
        let exact = self.oracle.frontier(bound, self.oracle.oldest());
        assert!(frontier <= exact.max(self.frontier), "{frontier} is early: {exact}");
        let latest = self.oracle.frontier(bound, self.oracle.lower_bound());
        assert_eq!(frontier, latest.max(self.frontier), "later than the scheme allows");
        self.frontier = frontier;
    }

    fn check(&mut self) {
        assert_eq!(self.tracker.root(), self.oracle.lower_bound());
        let above = self.frontier.next();
        assert_eq!(self.tracker.unflushed_bytes(), self.oracle.bytes_from(above));
        for per_mille in [0, 300, 700, 1000] {
            let from = self.at(per_mille);
            let expected = self.oracle.bytes_from(from.max(above));
            assert_eq!(self.tracker.pinned_bytes(from), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_frontier_is_never_early_and_as_late_as_the_scheme_says(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
            run.check();
        }
        // Whoever is left reports everything, and the last removal is synced: nothing is stuck.
        (0..SHAPES).for_each(|shape| run.step(Step::Report { shape, per_mille: 1000 }));
        run.step(Step::Sync);
        run.step(Step::Advance { per_mille: 1000 });
        prop_assert_eq!(run.frontier, run.newest);
        prop_assert_eq!(run.tracker.root(), None);
    }
}
