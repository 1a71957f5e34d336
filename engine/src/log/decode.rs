//! Decoder: one block's bytes, from its front, to fragments with their targets. It can stop where
//! the readable part ends and go on from there later. It checks everything and panics on no bytes.

use super::device::ReadAt;
use super::encode::{FIRST_FORM, NEW, NULL_CELL, OLD, TEXT_CELL, UNCHANGED_CELL};
use super::frame::{self, Frame, Kind, Parsed};
use super::json::Lines;
use super::record::{read_fragment_head, read_relation, split_relation};
use super::span::FragmentHead;
use super::store::LogError;
use super::wire::{Malformed, Reader};
use crate::words::{
    Cell, Change, Form, Fragment, FragmentParts, Lsn, Offset, Operation, Relation, Routed, RowSpan,
    SharedSet, Slot, Targets,
};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use roaring::RoaringBitmap;
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;

/// A fragment as the log holds it: only the changes that went to somebody.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) fragment: Arc<Fragment>,
    /// `Routed::change` is an index into this fragment. Set ids name a set inside its block only.
    pub(crate) routed: Arc<[Routed]>,
    /// Changes that somebody read as JSON.
    pub(super) lines: Arc<Lines>,
}

/// How far the log may be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Limit {
    /// The last commit that is durable in the log.
    pub(super) readable: Lsn,
    /// Fragments that start in these bytes are skipped; rising and disjoint.
    pub(super) void: Arc<[Range<u64>]>,
}

impl Limit {
    pub(super) fn is_void(&self, position: u64) -> bool {
        let before = self.void.partition_point(|range| range.end <= position);
        self.void.get(before).is_some_and(|range| range.contains(&position))
    }
}

/// A place in the file whose bytes are not what was written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) position: u64,
    pub(super) reason: Malformed,
}

impl Damage {
    pub(super) fn within(self, log: &dyn ReadAt) -> LogError {
        let (file, position) = log.place(self.position);
        LogError::Damaged { file, position, reason: self.reason.to_string() }
    }
}

/// What one block has said so far.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    relations: Vec<Arc<Relation>>,
    sets: Vec<Arc<RoaringBitmap>>,
}

impl Decoder {
    /// Decodes `bytes`, which start at byte `position` of the file, into `entries`, up to the first
    /// fragment that is not readable yet. Returns how many bytes were taken.
    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        position: u64,
        seed: u32,
        limit: &Limit,
        entries: &mut Vec<Logged>,
    ) -> Result<usize, Damage> {
        let mut taken = 0;
        while taken < bytes.len() {
            let at = position + taken as u64;
            let damage = |reason| Damage { position: at, reason };
            let Parsed::Frame(frame) = frame::parse(&bytes[taken..], seed) else {
                return Err(damage(Malformed("the checksum of a record is wrong")));
            };
            let (next, len) = (self.record(frame, at, limit).map_err(damage)?, frame.len());
            match next {
                Next::Beyond => break,
                Next::Entry(logged) => entries.push(logged),
                Next::Nothing => {}
            }
            taken += len;
        }
        Ok(taken)
    }

    /// Takes the record in `frame`, which starts at byte `at`: a fragment, if it is one to be read.
    pub(super) fn take(
        &mut self,
        frame: Frame<'_>,
        at: u64,
        limit: &Limit,
    ) -> Result<Option<Logged>, Malformed> {
        match self.record(frame, at, limit)? {
            Next::Entry(logged) => Ok(Some(logged)),
            Next::Nothing | Next::Beyond => Ok(None),
        }
    }

    /// The relation that the block knows by `number`.
    pub(super) fn relation(&self, number: u32) -> Result<&Arc<Relation>, Malformed> {
        let relation = self.relations.get(number as usize);
        relation.ok_or(Malformed("a relation is unknown"))
    }

    fn record(&mut self, frame: Frame<'_>, at: u64, limit: &Limit) -> Result<Next, Malformed> {
        match frame.kind()? {
            Kind::Relation => {
                let (number, bytes) = split_relation(frame.payload)?;
                if number as usize != self.relations.len() {
                    return Err(Malformed("relation numbers do not rise by 1"));
                }
                self.relations.push(Arc::new(read_relation(bytes)?));
            }
            Kind::Set => self.set(frame.payload)?,
            Kind::SetDelta => self.delta(frame.payload)?,
            Kind::Fragment if limit.is_void(at) => {}
            Kind::Fragment => return self.fragment(frame.payload, limit.readable),
            Kind::Batch | Kind::AddShape | Kind::RemoveShape | Kind::Invalidate => {}
            Kind::Thinned | Kind::Cut => {
                return Err(Malformed("a block holds a record of a log's front"));
            }
        }
        Ok(Next::Nothing)
    }

    fn set(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (number, slots) = read_set(payload)?;
        if number > self.sets.len() {
            return Err(Malformed("set numbers do not rise by 1"));
        }
        match self.sets.get_mut(number) {
            Some(known) => *known = Arc::new(slots),
            None => self.sets.push(Arc::new(slots)),
        }
        Ok(())
    }

    fn delta(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (number, delta) = read_set(payload)?;
        let known = self.sets.get_mut(number).ok_or(Malformed("a delta's set is unknown"))?;
        *known = Arc::new(&**known ^ delta);
        Ok(())
    }

    fn fragment(&self, payload: &[u8], readable: Lsn) -> Result<Next, Malformed> {
        let mut reader = Reader::new(payload);
        let head = read_fragment_head(&mut reader)?;
        if head.commit > readable {
            return Ok(Next::Beyond);
        }
        // Most of a record is its values.
        let mut fragment = FragmentDecoder::new(self, &head, reader, reader.left())?;
        for index in 0..head.changes {
            fragment.change(index, None)?;
        }
        fragment.finish(&head).map(Next::Entry)
    }

    /// A decoder that knows the relations of a block and none of its sets.
    pub(super) fn with_relations(relations: Vec<Arc<Relation>>) -> Decoder {
        Decoder { relations, sets: Vec::new() }
    }

    /// What the fragment record in `payload` holds for `slot`, which no set that it names has;
    /// `None` if it cannot be read yet.
    pub(super) fn fragment_for(
        &self,
        payload: &[u8],
        readable: Lsn,
        slot: Slot,
    ) -> Result<Option<Logged>, Malformed> {
        let mut reader = Reader::new(payload);
        let head = read_fragment_head(&mut reader)?;
        if head.commit > readable {
            return Ok(None);
        }
        let mut fragment = FragmentDecoder::new(self, &head, reader, 0)?;
        for index in 0..head.changes {
            let (mut ahead, mut is_meant) = (fragment.reader, false);
            let advance = skim_change(&mut ahead, &mut |named| is_meant |= named == slot)?;
            if is_meant {
                fragment.change(index, Some(slot))?;
            } else {
                fragment.advance(index, advance)?;
                fragment.reader = ahead;
            }
        }
        fragment.finish(&head).map(Some)
    }
}

enum Next {
    Nothing,
    Entry(Logged),
    /// A fragment whose commit is not durable.
    Beyond,
}

pub(super) fn read_set(payload: &[u8]) -> Result<(usize, RoaringBitmap), Malformed> {
    let mut reader = Reader::new(payload);
    let number = reader.number_u32()? as usize;
    let mut bytes = reader.rest();
    let slots = RoaringBitmap::deserialize_from(&mut bytes)
        .map_err(|_| Malformed("a set of slots is no roaring bitmap"))?;
    Reader::new(bytes).end()?;
    Ok((number, slots))
}

struct FragmentDecoder<'a> {
    block: &'a Decoder,
    reader: Reader<'a>,
    parts: FragmentParts,
    /// The block's numbers of `parts.relations`.
    relation_numbers: SmallVec<[u32; 4]>,
    routed: Vec<Routed>,
    op: u64,
}

impl<'a> FragmentDecoder<'a> {
    /// With room for so many bytes of values.
    fn new(
        block: &'a Decoder,
        head: &FragmentHead,
        reader: Reader<'a>,
        bytes: usize,
    ) -> Result<FragmentDecoder<'a>, Malformed> {
        let changes = head.changes as usize;
        if changes > reader.left() {
            return Err(Malformed("a fragment's count of changes passes its end"));
        }
        let parts = FragmentParts {
            xid: head.xid,
            commit_lsn: head.commit,
            begin: head.begin,
            end_lsn: head.end_lsn,
            changes: Vec::with_capacity(changes.min(bytes)),
            data: Vec::with_capacity(bytes),
            ..FragmentParts::default()
        };
        let routed = Vec::with_capacity(changes.min(bytes));
        let relation_numbers = SmallVec::new();
        Ok(FragmentDecoder { block, reader, parts, relation_numbers, routed, op: 0 })
    }

    /// Takes the next change; with `only`, as far as it concerns that slot.
    fn change(&mut self, index: u32, only: Option<Slot>) -> Result<(), Malformed> {
        let flags = change_flags(&mut self.reader)?;
        let advance = self.reader.number()?;
        self.advance(index, advance)?;
        let relation = self.relation()?;
        let old = if flags & OLD != 0 { Some(self.row()?) } else { None };
        let new = if flags & NEW != 0 { Some(self.row()?) } else { None };
        let operation = operation(flags);
        let [as_is, as_insert, as_delete] = [Form::AsIs, Form::Insert, Form::Delete]
            .map(|form| flags & FIRST_FORM << form as u8 != 0)
            .map(|named| if named { self.targets(only) } else { Ok(Targets::default()) });
        let (as_is, as_insert, as_delete) = (as_is?, as_insert?, as_delete?);
        let change = self.parts.changes.len() as u32;
        self.parts.changes.push(Change { op: self.op, operation, relation, old, new });
        self.routed.push(Routed { change, as_is, as_insert, as_delete });
        Ok(())
    }

    fn advance(&mut self, index: u32, advance: u64) -> Result<(), Malformed> {
        self.op = self.op.checked_add(advance).ok_or(Malformed("an op index passes 64 bits"))?;
        if index > 0 && advance == 0 {
            return Err(Malformed("op indices do not rise"));
        }
        Ok(())
    }

    /// The index in the fragment of the relation whose number in the block comes next.
    fn relation(&mut self) -> Result<u32, Malformed> {
        let number = self.reader.number_u32()?;
        if let Some(known) = self.relation_numbers.iter().rposition(|&known| known == number) {
            return Ok(known as u32);
        }
        let relation = self.block.relations.get(number as usize);
        let relation = relation.ok_or(Malformed("a change's relation is unknown"))?;
        self.parts.relations.push(Arc::clone(relation));
        self.relation_numbers.push(number);
        Ok(self.relation_numbers.len() as u32 - 1)
    }

    fn row(&mut self) -> Result<RowSpan, Malformed> {
        let len = self.reader.count()?;
        let first = self.parts.cells.len();
        self.parts.cells.reserve(len);
        for _ in 0..len {
            let cell = match self.reader.number()? {
                NULL_CELL => Cell::NULL,
                UNCHANGED_CELL => Cell::UNCHANGED,
                text => self.text(text - TEXT_CELL)?,
            };
            self.parts.cells.push(cell);
        }
        // A record holds 4 GiB at most, and each of these took a byte of it.
        Ok(RowSpan { first: first as u32, len: len as u32 })
    }

    fn text(&mut self, len: u64) -> Result<Cell, Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed("a value passes the record's end"))?;
        let text = self.reader.take(len)?;
        let start = self.parts.data.len();
        if start + len >= Cell::UNCHANGED.len as usize {
            return Err(Malformed("a fragment's values pass 4 GiB"));
        }
        self.parts.data.extend_from_slice(text);
        Ok(Cell { start: start as u32, len: len as u32 })
    }

    /// With `only`, as far as that slot can be meant.
    fn targets(&mut self, only: Option<Slot>) -> Result<Targets, Malformed> {
        let mut targets = Targets::default();
        for _ in 0..self.reader.count()? {
            let number = self.reader.number_u32()?;
            if only.is_some() {
                continue;
            }
            let slots = self.block.sets.get(number as usize);
            let slots = Arc::clone(slots.ok_or(Malformed("a change's set is unknown"))?);
            targets.sets.push(SharedSet { id: number.into(), slots });
        }
        let mut next = 0u64;
        for _ in 0..self.reader.count()? {
            let slot = next.checked_add(self.reader.number()?);
            let slot = slot.and_then(|slot| u32::try_from(slot).ok());
            let slot = slot.ok_or(Malformed("a slot passes 32 bits"))?;
            next = u64::from(slot) + 1;
            if only.is_none_or(|only| only.as_u32() == slot) {
                targets.slots.push(Slot::new(slot));
            }
        }
        Ok(targets)
    }

    fn finish(self, head: &FragmentHead) -> Result<Logged, Malformed> {
        self.reader.end()?;
        if head.changes > 0 && self.op != head.last_op {
            return Err(Malformed("a fragment's last op index is not the one in its head"));
        }
        let fragment = Arc::new(Fragment::from_parts(self.parts));
        Ok(Logged { fragment, routed: self.routed.into(), lines: Arc::default() })
    }
}

fn change_flags(reader: &mut Reader<'_>) -> Result<u8, Malformed> {
    let flags = reader.byte()?;
    if flags >> 7 == 0 { Ok(flags) } else { Err(Malformed("a change has flags that are unknown")) }
}

/// Passes over a fragment record: its head, after `named` was told each slot that a change of it
/// names one by one.
pub(super) fn skim_fragment(
    payload: &[u8],
    mut named: impl FnMut(Slot),
) -> Result<FragmentHead, Malformed> {
    let mut reader = Reader::new(payload);
    let head = read_fragment_head(&mut reader)?;
    for _ in 0..head.changes {
        skim_change(&mut reader, &mut named)?;
    }
    reader.end()?;
    Ok(head)
}

/// Passes over a change: how far it advances the op index. `named` is told each slot that it names
/// one by one.
fn skim_change(reader: &mut Reader<'_>, named: &mut impl FnMut(Slot)) -> Result<u64, Malformed> {
    let flags = change_flags(reader)?;
    let advance = reader.number()?;
    reader.number_u32()?;
    for _ in 0..u8::from(flags & OLD != 0) + u8::from(flags & NEW != 0) {
        for _ in 0..reader.count()? {
            let cell = reader.number()?;
            if let Some(len) = cell.checked_sub(TEXT_CELL) {
                let len = usize::try_from(len);
                reader.take(len.map_err(|_| Malformed("a value passes the record's end"))?)?;
            }
        }
    }
    for _ in 0..((flags / FIRST_FORM) & 7).count_ones() {
        for _ in 0..reader.count()? {
            reader.number_u32()?;
        }
        let mut next = 0u64;
        for _ in 0..reader.count()? {
            let slot = next.checked_add(reader.number()?);
            let slot = slot.and_then(|slot| u32::try_from(slot).ok());
            let slot = slot.ok_or(Malformed("a slot passes 32 bits"))?;
            named(Slot::new(slot));
            next = u64::from(slot) + 1;
        }
    }
    Ok(advance)
}

fn operation(flags: u8) -> Operation {
    match flags & 3 {
        0 => Operation::Insert,
        1 => Operation::Update,
        2 => Operation::Delete,
        _ => Operation::Truncate,
    }
}

/// A run of fragments, immutable and shared by all who read there.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// In stream order, each after the one before.
    pub(crate) entries: Vec<Logged>,
    /// Every logged change after this position, and up to `through`, is in `entries`.
    pub(crate) from: Offset,
    /// Who has taken this chunk is through here.
    pub(crate) through: Offset,
    /// The slots that something in here is delivered to.
    pub(crate) touched: RoaringBitmap,
    /// The bytes of the log that it was decoded from.
    pub(crate) bytes: u64,
}

impl Chunk {
    /// `earlier` with `entries` behind it, or `entries` alone; `None` for nothing.
    pub(super) fn new(
        from: Offset,
        earlier: Option<&Chunk>,
        entries: Vec<Logged>,
        bytes: u64,
    ) -> Option<Chunk> {
        let through = entries.last()?.fragment.last_offset();
        let mut touched = earlier.map(|chunk| chunk.touched.clone()).unwrap_or_default();
        // Many changes share few sets, and a set may be large: each is taken once.
        let mut taken = HashSet::with_hasher(RandomState::default());
        for routed in entries.iter().flat_map(|entry| entry.routed.iter()) {
            for (_, targets) in routed.forms() {
                touched.extend(targets.slots.iter().map(|slot| slot.as_u32()));
                for set in &targets.sets {
                    if taken.insert(Arc::as_ptr(&set.slots)) {
                        touched |= &*set.slots;
                    }
                }
            }
        }
        let (from, entries, bytes) = match earlier {
            Some(chunk) => {
                let entries = [chunk.entries.as_slice(), &entries].concat();
                (chunk.from, entries, chunk.bytes + bytes)
            }
            None => (from, entries, bytes),
        };
        Some(Chunk { entries, from, through, touched, bytes })
    }

    /// The entries that hold something after `after`. The first of them may also hold changes at or
    /// below it.
    pub(crate) fn after(&self, after: Offset) -> &[Logged] {
        let first = self.entries.partition_point(|entry| entry.fragment.last_offset() <= after);
        self.entries.get(first..).unwrap_or_default()
    }
}
