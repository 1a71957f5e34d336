//! Act: what a run does to the engine from outside: it publishes, adds and removes shapes, reads,
//! lets it seal and sync, and tells the source what is flushed.

use super::super::publisher::TryPublishError;
use super::consumer::Spec;
use super::oracle::Wanted;
use super::{Known, SHARDS, Sim};
use crate::log::{LogError, ReadLimits, read_shape};
use crate::shard::{Message, Prepared};
use crate::snapshot::Initial;
use crate::words::{Fragment, Handle, Lsn, Offset};
use crossbeam_channel::bounded;
use std::sync::Arc;

/// Shapes of a run.
const SHAPES_MAX: usize = 40;

impl Sim {
    pub(super) fn publish(&mut self) {
        if self.pending.is_empty() {
            let Some(transaction) = self.world.transactions.get(self.next) else { return };
            self.pending = transaction.fragments(self.rng.below(4) as usize + 1);
            self.next += 1;
        }
        let Some(fragment) = self.pending.first().cloned() else { return };
        self.tell_earlier();
        self.announce(&fragment);
        let commit = fragment.commit_lsn();
        match self.life().publisher.try_publish(fragment) {
            Ok(()) => {
                self.pending.remove(0);
                self.after = self.after.max(commit);
                self.published = self.published.max(commit);
                self.outcome.transactions += u64::from(self.pending.is_empty());
            }
            Err(TryPublishError::Full(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// The source begins again below, with what it was not told to forget (R2). It may leave a
    /// transaction half-way, to which it comes again.
    pub(super) fn reconnect(&mut self) {
        let transactions = &self.world.transactions;
        self.next = transactions.partition_point(|t| t.end() <= self.floor);
        self.pending.clear();
        self.outcome.reconnects += 1;
    }

    /// The source says which transactions came before, as it connects.
    pub(super) fn tell_earlier(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            let transactions = self.world.transactions.iter();
            let came = transactions.clone().take_while(|t| t.commit <= self.published);
            let first = transactions.map(|t| t.xid).min().unwrap();
            self.earlier = came.map(|t| t.xid).max().unwrap_or(first - 1);
            let earlier = self.earlier as u32;
            self.life().inner.note_earlier_xids(earlier).unwrap();
        }
    }

    /// The source announces tables before their first change, and not again.
    fn announce(&mut self, fragment: &Fragment) {
        if fragment.commit_lsn() < self.after {
            return;
        }
        let inner = Arc::clone(&self.life().inner);
        for relation in fragment.relations() {
            let known = inner.control.registry.relation(&relation.table);
            if known.is_none_or(|known| known.relation.columns != relation.columns) {
                inner.control.registry.learn(Arc::clone(relation));
                let note = relation.columns.last().unwrap().name.strip_prefix("note_").unwrap();
                self.versions[relation.oid as usize - 16_384] = note.parse().unwrap();
            }
        }
    }

    pub(super) fn add(&mut self) {
        if self.shapes.len() > SHAPES_MAX {
            return;
        }
        let wanted = Wanted::random(&mut self.rng);
        let spec = Spec::random(&mut self.rng, wanted, self.versions[wanted.table]);
        let inner = Arc::clone(&self.life().inner);
        let handle = Handle::new(inner.take_handles(1));
        let is_given = self.given.values().any(|given| *given == handle);
        assert!(!is_given, "{handle} is given out again");
        self.outcome.shapes += 1;
        let shard = (handle.as_u64() % SHARDS as u64) as usize;
        let first = Offset::commit_mark(self.after.max(self.accepted[shard]));
        self.world.add(handle, spec, first);
        let consumer = self.world.spec(handle);
        // Tables are announced before their changes, and those in an older form lie beside them.
        let shape = inner.prepare(handle, wanted.definition(), consumer).unwrap();
        let initial = if spec.awaits { Initial::Awaited } else { Initial::None };
        let shape = Prepared { initial, ..shape };
        let (reply, answer) = bounded(1);
        inner.send(shard, Message::Add(vec![shape], None, reply)).unwrap();
        self.shapes.insert(handle, Known::Adding(answer));
    }

    /// One that lives as far as the run knows.
    fn any_shape(&mut self) -> Option<Handle> {
        let live = self.shapes.iter().filter(|(_, known)| matches!(known, Known::Live));
        let live: Vec<Handle> = live.map(|(handle, _)| *handle).collect();
        let place = self.rng.below(live.len().max(1) as u64) as usize;
        live.get(place).copied()
    }

    pub(super) fn remove(&mut self) {
        let Some(handle) = self.any_shape() else { return };
        let inner = Arc::clone(&self.life().inner);
        let Some(place) = inner.control.registry.place(handle) else { return };
        let (reply, answer) = bounded(1);
        inner.send(place.shard as usize, Message::Remove(handle, place.slot, reply)).unwrap();
        if self.rng.below(3) == 0 {
            // Somebody else has the same in mind.
            let (reply, answer) = bounded(1);
            inner.send(place.shard as usize, Message::Remove(handle, place.slot, reply)).unwrap();
            self.again.push(answer);
        }
        self.world.gone(handle);
        self.shapes.insert(handle, Known::Removing(answer));
    }

    /// The source is told what is flushed.
    pub(super) fn confirm(&mut self) {
        let inner = Arc::clone(&self.life().inner);
        let flushed = inner.control.flushed.global();
        if flushed > Lsn::ZERO {
            inner.floor.lock().raise(flushed.next()).unwrap();
            self.floor = flushed.next();
        }
    }

    pub(super) fn sync(&mut self, shard: usize) {
        if self.naps && self.is_slow(shard) {
            return;
        }
        if let Err(cause) = self.life().sync(shard) {
            self.fail(&cause);
        }
    }

    /// Whether the runner did something.
    pub(super) fn run_one(&mut self, runner: usize) -> bool {
        let runners = &mut self.life().runners;
        // All may hang, until others take their place.
        let Some(place) = runner.checked_rem(runners.len()) else { return false };
        match runners[place].run_one() {
            Ok(ran) => ran,
            Err(error) => {
                self.fail(&error.to_string());
                false
            }
        }
    }

    /// A failure of the disk is final (INV10): the process is started again.
    pub(super) fn fail(&mut self, cause: &str) {
        self.life().inner.control.poison(cause);
        self.outcome.disk_failures += 1;
        let now = self.now;
        for pump in &mut self.life().pumps {
            pump.step(now);
        }
        self.check_flushed();
        self.crash();
    }

    /// All that is whole; what fails is tried again.
    pub(super) fn seal(&mut self, shard: usize) {
        let inner = Arc::clone(&self.life().inner);
        loop {
            match inner.shards[shard].log.seal() {
                Ok(true) => self.outcome.sealed += 1,
                Ok(false) => return,
                Err(_) => {
                    self.outcome.disk_failures += 1;
                    return;
                }
            }
        }
    }

    /// Reads a page of a shape, from anywhere.
    pub(super) fn read(&mut self) {
        let Some(handle) = self.any_shape() else { return };
        let inner = Arc::clone(&self.life().inner);
        let Some(place) = inner.control.registry.place(handle) else { return };
        let (expected, start) = self.world.expected(handle);
        let from = self.rng.below(expected.len() as u64 + 1) as usize;
        let after = from.checked_sub(1).and_then(|index| expected.get(index));
        let after = after.map_or(place.first, |(offset, _)| *offset);
        let log = &inner.shards[place.shard as usize].log;
        let changes_max = self.rng.below(9) as usize;
        let limits = ReadLimits { changes_max, ..ReadLimits::default() };
        let page = match read_shape(log, place.slot, after, limits) {
            Ok(page) => page,
            Err(LogError::BelowStart { start: told, .. }) => {
                assert!(after < start && told == start, "{handle} after {after}: {told}, {start}");
                return;
            }
            // The operation that fails may be its own.
            Err(_) => {
                self.outcome.disk_failures += 1;
                return;
            }
        };
        assert!(after >= start, "{handle} was read from {after}, and begins after {start}");
        let found = page.changes.iter().map(|change| (change.offset(), change.operation()));
        let found: Vec<_> = found.collect();
        let durable = log.durable_commit();
        let held = expected[from..].iter().take_while(|(offset, _)| *offset <= page.through);
        let held: Vec<_> = held.copied().collect();
        assert_eq!(found, held, "{handle} after {after} through {}", page.through);
        let last = found.last().map_or(Lsn::ZERO, |(offset, _)| offset.commit);
        assert!(last <= durable, "{handle}: {last} is readable, and {durable} durable");
    }
}
