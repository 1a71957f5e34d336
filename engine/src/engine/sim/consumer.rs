//! Consumers of the simulator, as their shapes' owners know them: what each has seen and said over
//! all its incarnations, and whether that is what the oracle says. While the run is not calm they
//! die, fail to start, withhold reports, lie and take reports back.

use super::handler::Simulated;
use super::load::Shown;
use super::nap::{Nap, Naps};
use super::oracle::{Rng, Transaction, Wanted};
use crate::consumer::{Ack, ConsumerError, ConsumerSpec, Reporter, Start, Started};
use crate::snapshot::Initial;
use crate::words::{Handle, Lsn, Offset, Operation};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;

/// Deaths without progress that condemn a shape.
const DEATHS_MAX: u32 = 3;

/// Where a shape's consumer runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Runs {
    /// It has none: its log alone.
    Nowhere,
    Mailbox,
    Inline,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    pub(super) wanted: Wanted,
    /// The table as it was when the shape was compiled.
    pub(super) version: u32,
    pub(super) ack: Ack,
    pub(super) runs: Runs,
    /// It dies at each delivery, until the run is calm.
    pub(super) doomed: bool,
    /// It reports what it is handed at once: no deadline can pass.
    pub(super) prompt: bool,
    /// It is to be given initial rows.
    pub(super) awaits: bool,
}

impl Spec {
    pub(super) fn random(rng: &mut Rng, wanted: Wanted, version: u32) -> Spec {
        let runs = match rng.below(8) {
            0 => Runs::Nowhere,
            1..=3 => Runs::Mailbox,
            _ => Runs::Inline,
        };
        let log = rng.below(3) == 0 || runs == Runs::Nowhere;
        let ack = if log { Ack::Log } else { Ack::Consumer };
        let (doomed, prompt) = (rng.below(10) == 0, rng.below(2) == 0);
        let awaits = rng.below(5) == 0;
        Spec { wanted, version, ack, runs, doomed, prompt, awaits }
    }
}

/// What a shape's consumer has seen and said, over all its incarnations.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) spec: Spec,
    first: Offset,
    /// Where its table was truncated, or is another one.
    end: Option<Offset>,
    /// Everything of its log through here is cut off.
    start: Offset,
    /// Snapshots that may be complete, and the one that is.
    tried: Vec<Shown>,
    rows: Option<Shown>,
    /// The flushed LSN has passed this much without its consumer.
    passed: Lsn,
    /// The flushed LSN, as high as it was since the shape was added.
    flushed: Lsn,
    /// It is not served any more, or not in this life of the process.
    gone: bool,
    pub(super) alive: bool,
    was_alive: bool,
    doomed: bool,
    pub(super) at: Offset,
    /// The last report, and the highest one ever.
    pub(super) reported: Lsn,
    pub(super) reported_max: Lsn,
    pub(super) deaths: u32,
    /// Factories of incarnations through this one were given up. What one of them makes after
    /// that is a stray.
    pub(super) given_up: u64,
    pub(super) strays: u32,
    /// It has asked for more time since its last report.
    pub(super) deferred: bool,
    pub(super) naps: Naps,
    /// What a dead incarnation reported before its successor started.
    last_words: Lsn,
    /// Of the living incarnation, and of a dead one.
    pub(super) reporter: Option<Reporter>,
    pub(super) zombie: Option<Reporter>,
}

/// See the file's head.
pub(super) struct World {
    pub(super) transactions: Vec<Transaction>,
    pub(super) shapes: Mutex<BTreeMap<Handle, Seen>>,
    /// Chance, and whether there are still deaths.
    chance: Mutex<(Rng, bool)>,
    /// The next handler that is called hangs.
    pub(super) nap: Mutex<Option<Nap>>,
    /// Who asks for more time is given some.
    pub(super) leases_end: bool,
    /// What consumers found wrong. A panic of theirs would be a death like any other.
    faults: Mutex<Vec<String>>,
}

impl World {
    pub(super) fn new(transactions: Vec<Transaction>, seed: u64, leases_end: bool) -> World {
        let chance = Mutex::new((Rng::new(seed), true));
        let (shapes, nap, faults) = (Mutex::default(), Mutex::default(), Mutex::default());
        World { transactions, shapes, chance, nap, leases_end, faults }
    }

    pub(super) fn add(&self, handle: Handle, spec: Spec, first: Offset) {
        let Spec { wanted, version, .. } = spec;
        let end = self.after(first).iter().find_map(|t| t.end_of(wanted.table, version));
        let seen = Seen {
            spec,
            first,
            end,
            start: Offset::ZERO,
            tried: Vec::new(),
            rows: None,
            passed: Lsn::ZERO,
            flushed: first.commit,
            gone: false,
            alive: false,
            was_alive: false,
            doomed: false,
            at: Offset::ZERO,
            reported: first.commit,
            reported_max: first.commit,
            deaths: 0,
            given_up: 0,
            strays: 0,
            deferred: false,
            naps: Naps::default(),
            last_words: Lsn::ZERO,
            reporter: None,
            zombie: None,
        };
        self.shapes.lock().insert(handle, seen);
    }

    /// The shape is there after a restart.
    pub(super) fn lives(&self, handle: Handle, first: Offset, initial: &Initial) {
        self.with(handle, |seen| {
            assert_eq!(seen.first, first, "{handle}");
            match initial {
                Initial::None => assert!(!seen.spec.awaits, "{handle}"),
                Initial::Awaited => assert!(seen.awaits(), "{handle} had its rows: {seen:?}"),
                Initial::Complete(found) => {
                    let is_it = |tried: &&Shown| {
                        (&tried.snapshot, tried.taken_at) == (&found.shown, found.taken_at)
                    };
                    let shown = seen.tried.iter().find(is_it).expect("rows that were loaded");
                    let again = seen.rows.as_ref().is_none_or(|rows| is_it(&rows));
                    assert!(again, "{handle} has other rows: {seen:?}");
                    seen.passed = if seen.rows.is_none() { Lsn::MAX } else { seen.passed };
                    seen.rows = Some(shown.clone());
                }
            }
            // INV1: its end was durable before that was passed.
            assert!(!seen.ends_through(seen.flushed), "{handle} lives on: {seen:?}");
            seen.gone = false;
        });
    }

    pub(super) fn gone(&self, handle: Handle) {
        self.with(handle, |seen| seen.gone = true);
    }

    /// The process is gone, and every consumer with it.
    pub(super) fn all_dead(&self) {
        for seen in self.shapes.lock().values_mut() {
            // Dropping it at the end of the process counted as one.
            let deaths = seen.deaths - u32::from(std::mem::take(&mut seen.was_alive));
            let overslept = std::mem::take(&mut seen.naps).overslept;
            seen.doomed = deaths >= DEATHS_MAX || !seen.spec.prompt || overslept;
            (seen.alive, seen.deaths, seen.given_up) = (false, 0, 0);
            (seen.reporter, seen.zombie) = (None, None);
        }
    }

    /// Whether it may have ended: the process may have died before it said so.
    pub(super) fn may_be_gone(&self, handle: Handle, published: Lsn) -> bool {
        let ends = |seen: &mut Seen| seen.ends_through(published) || seen.is_cut_off();
        self.with(handle, |seen| seen.gone || seen.doomed || ends(seen))
    }

    /// The process is about to be killed.
    pub(super) fn before_crash(&self) {
        self.shapes.lock().values_mut().for_each(|seen| seen.was_alive = seen.alive);
    }

    pub(super) fn condemned(&self, handle: Handle, cause: &str) {
        self.with(handle, |seen| {
            let late = cause.contains("did not report within its deadline");
            let slow = !seen.spec.prompt || seen.naps.overslept;
            let just = (late && slow && !seen.deferred) || seen.deaths >= DEATHS_MAX;
            assert!(just, "{handle} was condemned for nothing: {cause}: {seen:?}");
            seen.gone = true;
        });
    }

    pub(super) fn invalidated(&self, handle: Handle, cause: &str, published: Lsn) {
        self.with(handle, |seen| {
            let cut_off = cause.contains("but the log begins after") && seen.is_cut_off();
            let just = seen.ends_through(published) || cut_off;
            assert!(just, "{handle} was invalidated for nothing: {cause}: {seen:?}");
            seen.gone = true;
        });
    }

    /// Its table was announced anew between its compilation and its place in the stream.
    pub(super) fn refused(&self, handle: Handle, versions: &[u32]) {
        self.with(handle, |seen| {
            let Spec { wanted, version, .. } = seen.spec;
            let just = versions[wanted.table] != version;
            assert!(just, "{handle} was refused for nothing: {seen:?}");
            seen.gone = true;
        });
    }

    pub(super) fn calm(&self) {
        self.chance.lock().1 = false;
    }

    /// Reports from outside the handlers: some of what was withheld, what was never handed over,
    /// and of the dead, who are to be ignored (R6).
    pub(super) fn report_late(&self) {
        for (handle, seen) in self.shapes.lock().iter_mut() {
            if self.strikes(4) {
                continue;
            }
            let through = seen.at.complete_through();
            if let Some(zombie) = &seen.zombie {
                // Until its shard has noticed the death that counts, and later nobody listens.
                if zombie.flushed(through).is_ok() && !seen.alive {
                    seen.last_words = through;
                    seen.reported_max = seen.reported_max.max(through);
                }
            }
            let Some(reporter) = &seen.reporter else { continue };
            // Who hangs may be inside of what comes next.
            if !seen.naps.hangs && self.strikes(4) {
                let refused = reporter.flushed(through.next()).is_err();
                self.must(refused, || format!("{handle}: took a lie from outside: {seen:?}"));
            }
            if through <= seen.reported {
                continue;
            }
            // Sometimes the mark is lost that tells the shard to look: also of the last report.
            let told = match self.draw(3) {
                0 => reporter.mailbox().report(through),
                _ => reporter.flushed(through),
            };
            if told.is_ok() {
                (seen.reported, seen.deaths, seen.deferred) = (through, 0, false);
                seen.reported_max = seen.reported_max.max(through);
            }
        }
    }

    pub(super) fn must(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.faults.lock().push(what());
        }
    }

    pub(super) fn check_consumers(&self) {
        let faults = self.faults.lock();
        assert!(faults.is_empty(), "{faults:#?}");
    }

    /// INV1: what is flushed was reported by everyone whom the flushed LSN waits for, or its shape
    /// has ended.
    pub(super) fn check_flushed(&self, flushed: Lsn) {
        for (handle, seen) in self.shapes.lock().iter_mut() {
            seen.flushed = seen.flushed.max(flushed);
            let waits = seen.spec.ack == Ack::Consumer && !seen.awaits();
            if seen.gone || !waits || seen.ends_through(flushed) {
                continue;
            }
            let owed = self.told(seen).take_while(|(o, _)| o.commit <= flushed).last();
            let through = seen.reported_max.max(seen.passed);
            let covered = owed.is_none_or(|(offset, _)| offset.commit <= through);
            assert!(covered, "flushed {flushed}, but {handle} has not reported it: {seen:?}");
        }
    }

    /// Shapes of a shard that has stopped owe nothing through `durable`, or are `owing`.
    pub(super) fn check_owing(
        &self,
        durable: Lsn,
        owing: &[Handle],
        is_here: impl Fn(Handle) -> bool,
    ) {
        for (handle, seen) in self.shapes.lock().iter() {
            let waits = seen.spec.ack == Ack::Consumer && seen.spec.runs != Runs::Nowhere;
            let ended = seen.gone || seen.ends_through(durable);
            if ended || !waits || seen.awaits() || !is_here(*handle) {
                continue;
            }
            let last = self.told(seen).take_while(|(o, _)| o.commit <= durable).last();
            let through = seen.reported_max.max(seen.passed);
            let flushed = last.is_none_or(|(last, _)| last.commit <= through);
            assert!(flushed || owing.contains(handle), "{handle} owes, and is not named: {seen:?}");
        }
    }

    /// A consumer that has not handled everything through `last`, or a shape that should be gone.
    pub(super) fn unfinished(&self, last: Lsn) -> Option<String> {
        let shapes = self.shapes.lock();
        let unfinished = shapes.iter().find(|(_, seen)| {
            let end = self.told(seen).take_while(|(offset, _)| offset.commit <= last).last();
            let is_behind = end.is_some_and(|(end, _)| seen.at < end || !seen.alive);
            let runs = seen.spec.runs != Runs::Nowhere;
            let lacks = seen.awaits() || (runs && is_behind);
            seen.strays > 0 || (!seen.gone && (seen.ends_through(last) || lacks))
        });
        unfinished.map(|(handle, seen)| format!("{handle}: {seen:?}"))
    }

    /// Everything that belongs in the shape's log, and where that begins by now.
    pub(super) fn expected(&self, handle: Handle) -> (Vec<(Offset, Operation)>, Offset) {
        self.with(handle, |seen| (self.offsets(seen).collect(), seen.start))
    }

    /// The log of a shape begins after `start`, and is durable through `durable`. What is cut off
    /// of it is more than its quota, with what was left of it then (R15).
    pub(super) fn begins_after(&self, handle: Handle, start: Offset, durable: Lsn, quota: u64) {
        self.with(handle, |seen| {
            if start == seen.start {
                return;
            }
            let held = self.offsets(seen).map(|(offset, _)| offset);
            let held = held.filter(|offset| *offset > seen.start && offset.commit <= durable);
            let held: Vec<Offset> = held.collect();
            assert!(held.contains(&start), "{handle} begins after {start}: {seen:?}");
            let weight = |offset: &Offset| {
                let place = self.transactions.binary_search_by_key(&offset.commit, |t| t.commit);
                self.transactions[place.unwrap()].weight(*offset)
            };
            let held: u64 = held.iter().map(weight).sum();
            assert!(held > quota, "{handle} was cut at {held} bytes: {seen:?}");
            // It may have been cut before its rows were complete at the earliest.
            assert!(!seen.awaits(), "{handle} was cut while its rows were loaded: {seen:?}");
            let owes = seen.spec.ack == Ack::Consumer && seen.spec.runs != Runs::Nowhere;
            // Also of what the flushed LSN had passed when its rows came.
            let told = self.told(seen).take_while(|(offset, _)| *offset <= start).last();
            let may_be_cut = told.is_none_or(|(told, _)| told.commit <= seen.reported_max);
            assert!(!owes || may_be_cut, "{handle} has lost what it owes at {start}: {seen:?}");
            seen.start = start;
        });
    }

    /// Whether its initial rows are not complete.
    pub(super) fn awaits(&self, handle: Handle) -> bool {
        self.with(handle, |seen| seen.awaits())
    }

    /// Rows are about to be complete that show this.
    pub(super) fn tries(&self, handle: Handle, shown: &Shown) {
        self.with(handle, |seen| seen.tried.push(shown.clone()));
    }

    /// They are, and will be whatever happens.
    pub(super) fn complete(&self, handle: Handle, shown: &Shown) {
        self.with(handle, |seen| (seen.rows, seen.passed) = (Some(shown.clone()), Lsn::MAX));
    }

    /// The flushed LSN was here, and waits for its consumer by now.
    pub(super) fn waits_from(&self, handle: Handle, passed: Lsn) {
        self.with(handle, |seen| seen.passed = passed);
    }

    /// What the shape is to see next.
    pub(super) fn next(&self, seen: &Seen) -> Option<(Offset, Operation)> {
        self.told(seen).find(|(offset, _)| *offset > seen.at)
    }

    /// What its consumer is told: what its initial rows do not show.
    pub(super) fn told<'a>(
        &'a self,
        seen: &Seen,
    ) -> impl Iterator<Item = (Offset, Operation)> + use<'a> {
        let rows = seen.rows.as_ref().map(|rows| Arc::clone(&rows.shows));
        self.offsets(seen).filter(move |(offset, _)| {
            let shows = |shows: &Arc<[bool]>| {
                let place = self.transactions.binary_search_by_key(&offset.commit, |t| t.commit);
                shows[place.unwrap()]
            };
            !rows.as_ref().is_some_and(shows)
        })
    }

    fn after(&self, first: Offset) -> &[Transaction] {
        &self.transactions[self.transactions.partition_point(|t| t.commit <= first.commit)..]
    }

    fn offsets<'a>(&'a self, seen: &Seen) -> impl Iterator<Item = (Offset, Operation)> + use<'a> {
        let (wanted, end) = (seen.spec.wanted, seen.end);
        let all = self.after(seen.first).iter().flat_map(move |t| t.seen_by(wanted));
        all.take_while(move |(offset, _)| end.is_none_or(|end| *offset < end))
    }

    pub(super) fn with<T>(&self, handle: Handle, f: impl FnOnce(&mut Seen) -> T) -> T {
        f(self.shapes.lock().get_mut(&handle).expect("only shapes that were added are asked for"))
    }

    pub(super) fn draw(&self, end: u64) -> u64 {
        self.chance.lock().0.below(end)
    }

    /// One in `n`, while there are deaths.
    pub(super) fn strikes(&self, n: u64) -> bool {
        let mut chance = self.chance.lock();
        chance.1 && chance.0.below(n) == 0
    }

    pub(super) fn spec(self: &Arc<World>, handle: Handle) -> ConsumerSpec {
        let Spec { ack, runs, .. } = self.with(handle, |seen| seen.spec);
        let world = Arc::clone(self);
        let factory = Arc::new(move |start: &Start<'_>| world.start(start));
        match runs {
            Runs::Nowhere => ConsumerSpec::Log,
            Runs::Inline => ConsumerSpec::Inline { factory, ack },
            Runs::Mailbox => ConsumerSpec::Mailbox { factory, ack },
        }
    }

    fn start(self: &Arc<World>, start: &Start<'_>) -> Result<Started, ConsumerError> {
        let handle = start.handle();
        let fails = self.strikes(10);
        let takes_back = self.strikes(12);
        let takes_reporter = !self.strikes(2);
        self.with(handle, |seen| {
            if start.incarnation() <= seen.given_up {
                return self.start_late(handle, fails, seen);
            }
            self.must(!seen.alive, || format!("{handle}: the predecessor is not dropped (R6)"));
            self.must(start.first() == seen.first, || format!("{handle}: {start:?} {seen:?}"));
            if fails {
                seen.deaths += 1;
                return match self.strikes(2) {
                    true => resume_unwind(Box::new("panics at its start")),
                    false => Err("fails to start".into()),
                };
            }
            // It may be told of more than it reported, where there is nothing of its own.
            let told = start.last_reported().unwrap_or(Lsn::ZERO);
            let said = seen.reported.max(std::mem::take(&mut seen.last_words));
            let has_rows = start.snapshot().is_some();
            self.must(has_rows == seen.rows.is_some(), || format!("{handle}: {start:?} {seen:?}"));
            let unreported = self.told(seen).find(|(offset, _)| offset.commit > said);
            self.must(unreported.is_none_or(|(offset, _)| offset.commit > told), || {
                format!("{handle} was told of {told}: {seen:?}")
            });
            let mut resume = start.resume().max(Offset::commit_mark(seen.reported)).max(seen.first);
            if takes_back && seen.spec.ack == Ack::Log {
                // Its state is lost: it begins again.
                resume = seen.first;
            }
            (seen.at, seen.reported, seen.alive) = (resume, resume.commit, true);
            seen.reporter = takes_reporter.then(|| start.reporter());
            let consumer = Simulated::new(Arc::clone(self), handle);
            Ok(Started::new(Box::new(consumer), resume))
        })
    }
}

impl Seen {
    /// Whether it is to be given initial rows that are not complete.
    fn awaits(&self) -> bool {
        self.spec.awaits && self.rows.is_none()
    }

    /// Whether what it needs may be cut off: the flushed LSN does not wait for it, or has not
    /// always done so, or its rows show what was cut beyond its last report (`begins_after` sees
    /// to that), which a later life of the process cannot know (R9).
    fn is_cut_off(&self) -> bool {
        let was_owed = self.passed.next()..=self.reported;
        let is_owed = self.spec.ack == Ack::Consumer && was_owed.contains(&self.start.commit);
        self.spec.runs != Runs::Nowhere && self.start > self.first && !is_owed
    }

    /// Whether it has ended with what was committed through `lsn`.
    fn ends_through(&self, lsn: Lsn) -> bool {
        self.end.is_some_and(|end| end.commit <= lsn)
    }
}
