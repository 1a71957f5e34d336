//! World: a shard that logs random fragments to random targets, beside a list of everything that a
//! reader must get, which shares no code with the log.

use super::super::decode::Logged;
use super::super::{Batch, Encoder, Log, RecoveredShape, Syncer};
use crate::words::{
    Column, Form, Fragment, Handle, Lsn, Offset, Operation, Relation, Routed, RowRef,
    ShapeDefinition, SharedSet, Slot, TableName, Targets, TransactionBuilder, Value,
};
use proptest::prelude::*;
use roaring::RoaringBitmap;
use std::fmt;
use std::sync::Arc;

/// One change: its relation, operation and values, and as what it goes to which sets and slots.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    relation: usize,
    operation: u8,
    values: (Option<Vec<u8>>, Option<Vec<u8>>),
    targets: [(u8, Vec<u32>); 3],
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Fragment(Vec<Spec>),
    Commit(Vec<Spec>),
    Passed,
    /// Puts slots into a set or takes them out.
    Toggle(usize, Vec<u32>),
    Alter(usize),
    AddShape(Option<String>),
    EndShape(usize, Option<String>),
    Sync,
    /// Seals what can be sealed. A disk that fails does so to the next batch too.
    Seal,
}

pub(super) fn spec() -> impl Strategy<Value = Spec> {
    let value = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    let targets = || (0u8..8, prop::collection::vec(0u32..400, 0..3));
    let targets = (targets(), targets(), targets());
    (0usize..3, 0u8..4, (value(), value()), targets).prop_map(
        |(relation, operation, values, (a, b, c))| {
            // Most changes have one form, and some go nowhere.
            let sets = |mask: u8, (sets, slots): (u8, Vec<u32>)| (sets & mask, slots);
            Spec { relation, operation, values, targets: [sets(3, a), sets(4, b), sets(0, c)] }
        },
    )
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let specs = || prop::collection::vec(spec(), 0..5);
    prop_oneof![
        3 => specs().prop_map(Op::Fragment),
        4 => specs().prop_map(Op::Commit),
        1 => Just(Op::Passed),
        2 => (0usize..3, prop::collection::vec(0u32..70_000, 1..30))
            .prop_map(|(set, slots)| Op::Toggle(set, slots)),
        1 => (0usize..3).prop_map(Op::Alter),
        1 => prop::option::of(".{0,9}").prop_map(Op::AddShape),
        1 => (0usize..9, prop::option::of(".{0,9}")).prop_map(|(i, cause)| Op::EndShape(i, cause)),
        3 => Just(Op::Sync),
        1 => Just(Op::Seal),
    ]
}

/// What a reader gets: a change for a slot, or a commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub(super) offset: Offset,
    pub(super) slot: Option<Slot>,
    /// As it happened.
    what: Arc<str>,
    /// As the slot's shape sees it.
    pub(super) shown: Arc<str>,
    /// What a quota counts it for.
    pub(super) weight: u64,
}

pub(super) struct World {
    pub(super) encoder: Encoder,
    pub(super) syncer: Syncer,
    pub(super) log: Arc<Log>,
    sets: Vec<SharedSet>,
    relations: Vec<Arc<Relation>>,
    pub(super) lsn: u64,
    transaction: Option<TransactionBuilder>,
    /// The fragments so far of the open transaction.
    sent: Vec<Vec<Spec>>,
    logged_open: bool,
    open: Vec<Seen>,
    committed: Vec<Seen>,
    pub(super) committed_through: Lsn,
    /// What a reader must get.
    pub(super) durable: Vec<Seen>,
    /// How many of these were asked for as news.
    told: usize,
    pub(super) durable_through: Lsn,
    pub(super) next_slot: u32,
    /// The last slot and the last handle that were given out.
    pub(super) given: Option<(Slot, Handle)>,
    /// The living shapes, those of unsynced batches too.
    pub(super) shapes: Vec<RecoveredShape>,
    spare: Vec<u8>,
}

fn relation(oid: u32, alteration: usize) -> Arc<Relation> {
    let column = |n| Column::new(&format!("c{n}"), 25, n == 0);
    let name = TableName::new("public", &format!("t{alteration}"));
    Arc::new(Relation::new(oid, name, vec![column(0), column(1)]))
}

impl World {
    pub(super) fn new((encoder, syncer, log): (Encoder, Syncer, Arc<Log>)) -> World {
        let set = |id| SharedSet { id, slots: Arc::new(RoaringBitmap::new()) };
        World {
            encoder,
            syncer,
            log,
            sets: (0..3).map(set).collect(),
            relations: (0..3).map(|oid| relation(oid, 0)).collect(),
            lsn: 100,
            transaction: None,
            sent: Vec::new(),
            logged_open: false,
            open: Vec::new(),
            committed: Vec::new(),
            committed_through: Lsn::ZERO,
            durable: Vec::new(),
            told: 0,
            durable_through: Lsn::ZERO,
            next_slot: 0,
            given: None,
            shapes: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// The same shard after a restart: what was not durable is gone.
    pub(super) fn restarted(self, parts: (Encoder, Syncer, Arc<Log>)) -> World {
        let (encoder, syncer, log) = parts;
        let durable_through = log.durable_commit();
        World {
            encoder,
            syncer,
            log,
            transaction: None,
            logged_open: false,
            open: Vec::new(),
            committed: Vec::new(),
            durable_through,
            committed_through: durable_through,
            ..self
        }
    }

    /// The source sends the transaction that was open at the crash again, from its beginning.
    pub(super) fn send_again(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        if !sent.is_empty() {
            self.lsn -= 10;
        }
        sent.iter().for_each(|specs| self.fragment(specs, false));
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Fragment(specs) => self.fragment(specs, false),
            Op::Commit(specs) => self.fragment(specs, true),
            Op::Passed if self.transaction.is_none() => {
                self.lsn += 10;
                let commit = TransactionBuilder::new(1, Lsn::new(self.lsn));
                let nothing = commit.commit(Lsn::new(self.lsn + 1));
                self.encoder.fragment(&nothing, &[]).unwrap();
                self.committed_through = Lsn::new(self.lsn);
            }
            Op::Passed => {}
            Op::Toggle(set, slots) => {
                let delta: RoaringBitmap = slots.iter().copied().collect();
                let set = &mut self.sets[*set];
                set.slots = Arc::new(&*set.slots ^ delta);
            }
            Op::Alter(index) => {
                let (oid, name) = (*index as u32, self.lsn as usize % 2);
                self.relations[*index] = relation(oid, name);
            }
            Op::AddShape(clause) => self.add_shape(clause.as_deref()),
            Op::EndShape(index, cause) if *index < self.shapes.len() => {
                let RecoveredShape { slot, handle, .. } = self.shapes.remove(*index);
                let at = Offset::new(Lsn::new(self.lsn), 3);
                match cause {
                    Some(cause) => self.encoder.invalidate(slot, handle, at, cause).unwrap(),
                    None => self.encoder.remove_shape(slot, handle, at).unwrap(),
                }
            }
            Op::EndShape(..) => {}
            Op::Sync => self.sync(),
            Op::Seal => while let Ok(true) = self.log.seal() {},
        }
    }

    fn add_shape(&mut self, clause: Option<&str>) {
        let (slot, handle) = (Slot::new(self.next_slot), Handle::new(1 << 40 | self.lsn));
        self.next_slot += 1 + self.lsn as u32 % 3;
        self.given = Some((slot, handle));
        let first = Offset::commit_mark(Lsn::new(self.lsn));
        let table = TableName::new("public", "t");
        let where_clause = clause.map(Into::into);
        let definition = ShapeDefinition { where_clause, ..ShapeDefinition::table(table) };
        let relation = Arc::clone(&self.relations[self.next_slot as usize % 3]);
        let awaits_snapshot = slot.as_u32() % 2 == 1;
        let told = (&definition, awaits_snapshot);
        self.encoder.add_shape(slot, handle, first, &relation, told).unwrap();
        self.shapes.push(RecoveredShape {
            slot,
            handle,
            first,
            relation,
            definition,
            awaits_snapshot,
        });
    }

    fn fragment(&mut self, specs: &[Spec], commit: bool) {
        let mut builder = self.transaction.take().unwrap_or_else(|| {
            self.lsn += 10;
            TransactionBuilder::new(self.lsn as u32, Lsn::new(self.lsn))
        });
        self.sent.push(specs.to_vec());
        for spec in specs {
            let relation = &self.relations[spec.relation];
            spec.put(&mut builder, relation);
        }
        let (fragment, rest) = if commit {
            (builder.commit(Lsn::new(self.lsn + 3)), None)
        } else {
            (builder.cut(), Some(builder))
        };
        self.transaction = rest;
        let routed: Vec<_> =
            specs.iter().enumerate().filter_map(|(index, spec)| self.route(index, spec)).collect();
        self.encoder.fragment(&fragment, &routed).unwrap();
        for routed in &routed {
            see(&mut self.open, &fragment, routed);
        }
        self.logged_open |= !routed.is_empty();
        if commit {
            self.sent.clear();
            let commit = Lsn::new(self.lsn);
            if std::mem::take(&mut self.logged_open) {
                see_commit(&mut self.open, &fragment);
            }
            self.committed.append(&mut self.open);
            self.committed_through = commit;
        }
    }

    fn route(&self, index: usize, spec: &Spec) -> Option<Routed> {
        // The three are disjoint: what would meet an earlier one is left out.
        let mut taken = RoaringBitmap::new();
        let mut targets = |(mask, slots): &(u8, Vec<u32>)| {
            let sets = self.sets.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
            let sets = sets.map(|(_, set)| set.clone());
            let sets: Vec<_> = sets.filter(|set| set.slots.is_disjoint(&taken)).collect();
            sets.iter().for_each(|set| taken |= &*set.slots);
            let mut slots = slots.clone();
            slots.retain(|&slot| taken.insert(slot));
            slots.sort_unstable();
            Targets { sets: sets.into(), slots: slots.into_iter().map(Slot::new).collect() }
        };
        let [as_is, as_insert, as_delete] = spec.targets.each_ref().map(&mut targets);
        let routed = Routed { change: index as u32, as_is, as_insert, as_delete };
        (!routed.is_empty()).then_some(routed)
    }

    /// A transaction of one row for `slots`, durable at once.
    pub(super) fn deliver(&mut self, commit: u64, slots: &[u32]) {
        self.log_row(commit, slots);
        let batch = self.take();
        self.syncer.commit(&batch).unwrap();
    }

    /// The same without a sync: it comes with the next one.
    pub(super) fn log_row(&mut self, commit: u64, slots: &[u32]) {
        let mut builder = TransactionBuilder::new(1, Lsn::new(commit));
        builder.insert(&self.relations[0], [Value::Text(&[b'x'; 50]), Value::Null]).unwrap();
        let slots = slots.iter().copied().map(Slot::new).collect();
        let as_is = Targets { slots, ..Targets::default() };
        let routed = Routed { as_is, ..Routed::default() };
        self.encoder.fragment(&builder.commit(Lsn::new(commit + 1)), &[routed]).unwrap();
    }

    /// The slots that got something with the last sync.
    pub(super) fn take_newly_durable(&mut self) -> RoaringBitmap {
        let new = self.durable.iter().skip(std::mem::replace(&mut self.told, self.durable.len()));
        new.filter_map(|seen| seen.slot).map(Slot::as_u32).collect()
    }

    /// Whether a transaction is open of which something was logged.
    pub(super) fn is_inside(&self) -> bool {
        self.logged_open
    }

    /// Takes the filled batch and makes it durable.
    pub(super) fn sync(&mut self) {
        let batch = self.take();
        self.syncer.commit(&batch).unwrap();
        self.synced();
        self.spare = batch.into_buffer();
    }

    pub(super) fn take(&mut self) -> Batch {
        self.encoder.take(std::mem::take(&mut self.spare))
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> u64 {
        self.syncer.end()
    }

    /// What was taken so far is durable.
    pub(super) fn synced(&mut self) {
        self.durable.append(&mut self.committed);
        self.durable_through = self.committed_through;
    }

    /// What a reader gets that starts at `after`, chunk by chunk.
    pub(super) fn read(&self, after: Offset) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut at = after;
        while let Some(chunk) = self.log.read(at).unwrap() {
            assert!(chunk.from <= at && at < chunk.through, "{} {at}", chunk.from);
            let mut touched = RoaringBitmap::new();
            chunk.entries.iter().for_each(|entry| touch(&mut touched, entry));
            assert_eq!(chunk.touched, touched);
            chunk.after(at).iter().for_each(|entry| see_entry(&mut seen, entry, at));
            assert!(self.log.locate(at).is_some());
            at = chunk.through;
        }
        assert_eq!(self.log.locate(at), None);
        seen
    }

    /// Reads from every position that there is, and compares.
    pub(super) fn check(&self) {
        assert_eq!(self.log.durable_commit(), self.durable_through);
        let start = self.log.start();
        let mut offsets: Vec<_> = self.durable.iter().map(|seen| seen.offset).collect();
        offsets.dedup();
        offsets.push(start);
        // Latest first and then earliest first: the cache grows in both ways.
        for after in offsets.iter().rev().chain(&offsets).filter(|after| **after >= start) {
            let expected: Vec<_> =
                self.durable.iter().filter(|seen| seen.offset > *after).cloned().collect();
            assert_eq!(self.read(*after), expected, "after {after}");
        }
    }
}

impl Op {
    /// The same, but what is filled stays in the batch.
    pub(super) fn unless_sync(&self) -> &Op {
        if matches!(self, Op::Sync) { &Op::Passed } else { self }
    }
}

impl Spec {
    fn put(&self, builder: &mut TransactionBuilder, relation: &Arc<Relation>) {
        let first = self.values.0.as_deref().map_or(Value::Null, Value::Text);
        let second = self.values.1.as_deref().map_or(Value::Unchanged, Value::Text);
        match self.operation {
            0 => builder.insert(relation, [first, second]).unwrap(),
            1 => builder.update(relation, [second, first], [first, second]).unwrap(),
            2 => builder.delete(relation, [first, second]).unwrap(),
            _ => builder.truncate(relation),
        }
    }
}

fn see(seen: &mut Vec<Seen>, fragment: &Fragment, routed: &Routed) {
    let start = seen.len();
    let change = fragment.get(routed.change as usize).unwrap();
    let (relation, xid) = (change.relation(), fragment.xid());
    for (form, targets) in routed.forms() {
        let what: Arc<str> = format!("{form:?} {change:?} {relation:?}").into();
        let (old, new) = (change.old_row(), change.new_row());
        let values = [old, new].into_iter().flatten().flat_map(|row| row.values());
        let text = |value| if let Value::Text(text) = value { text.len() as u64 } else { 0 };
        let weight = 16 + values.map(text).sum::<u64>();
        let shown = match form {
            Form::AsIs => show(change.operation(), &old, &new, relation, xid),
            Form::Insert => show(Operation::Insert, &NO_ROW, &entering(old, new), relation, xid),
            Form::Delete => show(Operation::Delete, &old, &NO_ROW, relation, xid),
        };
        targets.for_each(|slot| {
            let (what, shown) = (what.clone(), shown.clone());
            let (offset, slot) = (change.offset(), Some(slot));
            seen.push(Seen { offset, slot, what, shown, weight });
        });
    }
    seen[start..].sort();
}

fn see_commit(seen: &mut Vec<Seen>, fragment: &Fragment) {
    let what: Arc<str> = format!("{:?} {}", fragment.end_lsn(), fragment.xid()).into();
    let offset = Offset::commit_mark(fragment.commit_lsn());
    seen.push(Seen { offset, slot: None, shown: what.clone(), what, weight: 0 });
}

const NO_ROW: Option<RowRef<'_>> = None;

/// A row that a shape sees for the first time: with the values that its update left as they were.
fn entering<'a>(old: Option<RowRef<'a>>, new: Option<RowRef<'a>>) -> Option<Vec<Value<'a>>> {
    let value = |(index, value)| match value {
        Value::Unchanged => old.and_then(|old| old.get(index)).unwrap_or(value),
        value => value,
    };
    Some(new?.values().enumerate().map(value).collect())
}

/// What a shape is shown of a change.
pub(super) fn show(
    operation: Operation,
    old: &dyn fmt::Debug,
    new: &dyn fmt::Debug,
    relation: &Relation,
    xid: u32,
) -> Arc<str> {
    format!("{xid} {operation} {old:?} {new:?} {relation:?}").into()
}

fn see_entry(seen: &mut Vec<Seen>, entry: &Logged, after: Offset) {
    for routed in entry.routed.iter() {
        let change = entry.fragment.get(routed.change as usize).unwrap();
        if change.offset() > after {
            see(seen, &entry.fragment, routed);
        }
    }
    if entry.fragment.commits() {
        see_commit(seen, &entry.fragment);
    }
}

fn touch(touched: &mut RoaringBitmap, entry: &Logged) {
    for routed in entry.routed.iter() {
        for (_, targets) in routed.forms() as [(Form, &Targets); 3] {
            targets.for_each(|slot| {
                touched.insert(slot.as_u32());
            });
        }
    }
}
