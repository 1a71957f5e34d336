//! Load: shapes are given initial rows in the middle of everything, under snapshots that show any
//! of the last transactions and not the others. The oracle knows of each transaction whether it is
//! shown, and reads no snapshot.

use super::oracle::Rng;
use super::{Known, Sim};
use crate::control::Place;
use crate::engine::snapshots::SnapshotError;
use crate::log::ReadLimits;
use crate::shard::Refusal;
use crate::snapshot::{Loading, PgSnapshot, Snapshot, SnapshotPosition};
use crate::words::{Handle, Lsn, Value};
use crossbeam_channel::Receiver;
use std::sync::Arc;

/// A snapshot, and which of the run's transactions it shows.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) snapshot: Arc<PgSnapshot>,
    pub(super) taken_at: Lsn,
    pub(super) shows: Arc<[bool]>,
}

impl Shown {
    /// Taken when some of the transactions were committed, and of the last of these some not seen.
    fn random(rng: &mut Rng, transactions: &[(Lsn, u64)], after: usize) -> Shown {
        let left = (transactions.len() - after) as u64;
        let committed = after + rng.below(left.min(12) + 1) as usize;
        let is_shown = |rng: &mut Rng, index: usize| {
            index < committed && (index + 4 < committed || rng.below(3) > 0)
        };
        let shows: Arc<[bool]> = (0..transactions.len()).map(|i| is_shown(rng, i)).collect();
        let xids = |shown: bool| {
            let all = transactions.iter().zip(shows.iter());
            all.filter(move |(_, is)| **is == shown).map(|((_, xid), _)| *xid)
        };
        // Where it shows nothing it is still one of these days: numbers are compared modulo 2^32.
        let next = xids(true).max().map(|last| last + 1).or(xids(false).min());
        let xmax = next.unwrap_or(1) + rng.below(3);
        let mut running: Vec<u64> = xids(false).filter(|xid| *xid < xmax).collect();
        running.sort_unstable();
        let xmin = running.first().copied().unwrap_or(xmax);
        // Where the WAL ended: beyond all that is shown.
        let last = committed.checked_sub(1).and_then(|last| transactions.get(last));
        let taken_at = last.map_or(Lsn::new(1), |(commit, _)| commit.next());
        let snapshot = Arc::new(PgSnapshot::new(xmin, xmax, running).unwrap());
        Shown { snapshot, taken_at, shows }
    }
}

/// How far the loading of a shape's rows is.
pub(super) enum Load {
    Asked(Place, Receiver<Result<usize, Refusal>>, Shown),
    Filling(Loading, Shown, u64),
    Given(Receiver<Result<usize, Refusal>>, Arc<Snapshot>),
}

impl Sim {
    /// One step of a loader: of one that is at work, or of a new one.
    pub(super) fn load(&mut self) {
        let live = self.shapes.iter().filter(|(_, known)| matches!(known, Known::Live));
        let live = live
            .map(|(handle, _)| *handle)
            .filter(|handle| self.loads.contains_key(handle) || self.world.awaits(*handle));
        let awaiting: Vec<Handle> = live.collect();
        let place = self.rng.below(awaiting.len().max(1) as u64) as usize;
        let Some(&handle) = awaiting.get(place) else { return };
        let next = match self.loads.remove(&handle) {
            None => self.begin_load(handle),
            Some(Load::Asked(place, answer, shown)) => self.answered(handle, place, answer, shown),
            Some(Load::Filling(loading, shown, rows)) => self.fill(handle, loading, shown, rows),
            Some(Load::Given(answer, snapshot)) => self.given(handle, answer, snapshot),
        };
        next.into_iter().for_each(|load| drop(self.loads.insert(handle, load)));
    }

    fn begin_load(&mut self, handle: Handle) -> Option<Load> {
        let transactions = &self.world.transactions;
        let xids: Vec<_> = transactions.iter().map(|t| (t.commit, t.xid)).collect();
        // Postgres is as far as the stream, at least.
        let after = transactions.partition_point(|t| t.commit <= self.published);
        let shown = Shown::random(&mut self.rng, &xids, after);
        let inner = Arc::clone(&self.life().inner);
        match inner.ask_of_snapshot(handle, &shown.snapshot, shown.taken_at) {
            Ok((place, answer)) => Some(Load::Asked(place, answer, shown)),
            Err(SnapshotError::TooOld { first, taken_at, .. }) => {
                assert!(taken_at <= first.commit, "{handle}");
                None
            }
            // It has ended, and its event is on its way.
            Err(SnapshotError::Unknown { .. }) => None,
            Err(error) => panic!("{handle}: {error}"),
        }
    }

    fn answered(
        &mut self,
        handle: Handle,
        place: Place,
        answer: Receiver<Result<usize, Refusal>>,
        shown: Shown,
    ) -> Option<Load> {
        let answered = match answer.try_recv() {
            Err(_) => return Some(Load::Asked(place, answer, shown)),
            Ok(answered) => answered,
        };
        let before = self.world.transactions.iter().zip(shown.shows.iter());
        let before = before.filter(|(t, _)| t.commit <= place.first.commit);
        let mut unshown = before.filter(|(_, is)| !**is).map(|(t, _)| t.commit);
        match answered {
            Err(Refusal::Untold) => {
                assert!(self.outcome.lives > 1, "{handle}: there was no life before");
                return None;
            }
            Err(Refusal::Unshown(_)) => {
                let is_earlier = self.earlier >= shown.snapshot.xmin();
                assert!(is_earlier || unshown.next().is_some(), "{handle} was refused for nothing");
                return None;
            }
            answered => answered.unwrap(),
        };
        assert_eq!(unshown.next(), None, "{handle} has lost something");
        let inner = Arc::clone(&self.life().inner);
        let door = inner.door.as_ref().unwrap();
        let taken = (Arc::clone(&shown.snapshot), shown.taken_at);
        let loading = door.begin(handle, Arc::clone(&place.relation), taken).unwrap();
        Some(Load::Filling(loading, shown, self.rng.below(12)))
    }

    fn fill(
        &mut self,
        handle: Handle,
        mut loading: Loading,
        shown: Shown,
        rows: u64,
    ) -> Option<Load> {
        let inner = Arc::clone(&self.life().inner);
        let door = inner.door.as_ref().unwrap();
        let mut written = Ok(None);
        if let Some(left) = rows.checked_sub(1) {
            let text = left.to_string();
            let full = loading.push([Value::Text(text.as_bytes()); 3]).unwrap();
            written = if full { loading.write().map(|()| None) } else { Ok(None) };
        } else {
            self.world.tries(handle, &shown);
            written = written.and_then(|_: Option<Snapshot>| loading.finish().map(Some));
        }
        let given = match written {
            Ok(None) => return Some(Load::Filling(loading, shown, rows - 1)),
            Ok(Some(snapshot)) => {
                let snapshot = Arc::new(snapshot);
                self.world.complete(handle, &shown);
                Some((inner.tell_of_snapshot(handle, &snapshot), snapshot))
            }
            Err(_) => {
                self.outcome.disk_failures += 1;
                loading.abandon();
                None
            }
        };
        match given {
            Some((Ok(answer), snapshot)) => Some(Load::Given(answer, snapshot)),
            Some((Err(SnapshotError::Unknown { .. }), _)) | None => {
                door.end(handle);
                None
            }
            Some((Err(error), _)) => panic!("{handle}: {error}"),
        }
    }

    fn given(
        &mut self,
        handle: Handle,
        answer: Receiver<Result<usize, Refusal>>,
        snapshot: Arc<Snapshot>,
    ) -> Option<Load> {
        let inner = Arc::clone(&self.life().inner);
        match answer.try_recv() {
            Err(_) => return Some(Load::Given(answer, snapshot)),
            Ok(Ok(_)) => {
                self.outcome.loaded += 1;
                let shard = (handle.as_u64() % super::SHARDS as u64) as usize;
                self.world.waits_from(handle, inner.control.flushed.shard(shard));
            }
            Ok(Err(refusal)) => assert!(matches!(refusal, Refusal::Unknown), "{refusal:?}"),
        }
        inner.door.as_ref().unwrap().end(handle);
        None
    }

    /// The rows of a shape that has all of them.
    pub(super) fn check_rows(&self, handle: Handle, place: &Place) {
        let Some(snapshot) = place.initial.complete() else { return };
        let inner = &self.life.as_ref().unwrap().inner;
        let door = inner.door.as_ref().unwrap();
        let limits = ReadLimits { changes_max: 3, ..ReadLimits::default() };
        let (mut at, mut left) = (SnapshotPosition::START, snapshot.rows());
        loop {
            let about = (&place.relation, &place.view);
            let page = door.read((handle, snapshot), about, at, limits).unwrap();
            for row in &page.rows {
                left -= 1;
                assert_eq!(row.row().get(0), Some(Value::Text(left.to_string().as_bytes())));
            }
            if page.is_last {
                break;
            }
            at = page.next;
        }
        assert_eq!(left, 0, "{handle}");
    }
}
