//! Recovery: one pass over a shard's segments when it is opened. What is sealed beside a segment
//! tells what is in it and where its shapes' comings and goings lie; where that cannot be read, and
//! of the last segment, the segment itself is read, which is what counts. It cuts a torn tail,
//! refuses damage and foreign files without touching them, passes over what a crash left of an open
//! transaction, and tells which shapes live.

use super::decode::Damage;
use super::device::{Device, ReadAt};
use super::encode::{Encoder, Resume};
use super::frame::{Frame, Kind};
use super::header::{HEADER_BYTES, HeaderError, Identity};
use super::index::Index;
use super::postings::Postings;
use super::record::{
    Lifecycle, read_add, read_invalidate, read_relation, read_remove, split_relation,
};
use super::scan::{Scanner, Step};
use super::segments::Row;
use super::shelf::{Shelf, build};
use super::span::Tracker;
use super::store::{Log, Syncer};
use super::survey::{Carried, Extent, First, Flaw, Head, Survey, Tail};
use super::thinned::{Cuts, Front};
use super::wire::Malformed;
use crate::words::{Handle, Lsn, Offset, Relation, ShapeDefinition, Slot};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Why a shard's file cannot be opened. The file is as it was, except after `Cut` and `Sync`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RecoverError {
    /// It cannot be read.
    #[error("{file}: reading failed: {source}; see to the disk, then restart")]
    Read { file: String, source: io::Error },
    /// It is not the file of this shard.
    #[error("{file}: {source}; open the directory that it belongs to, or put the right file there")]
    Header { file: String, source: HeaderError },
    /// Bytes that were durable are not what was written.
    #[error(
        "{file}: damaged at byte {position}: {reason}; nothing was changed; restore the directory \
         from a copy, or start with an empty one"
    )]
    Damaged { file: String, position: u64, reason: String },
    /// The torn tail cannot be cut.
    #[error(
        "{file}: cutting the torn tail at byte {position} failed: {source}; see to the disk, then \
         restart"
    )]
    Cut { file: String, position: u64, source: io::Error },
    /// What was found cannot be made durable.
    #[error("{file}: sync failed: {source}; see to the disk, then restart")]
    Sync { file: String, source: io::Error },
}

/// A shape that lives according to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecoveredShape {
    pub(crate) slot: Slot,
    pub(crate) handle: Handle,
    /// Everything after it is the shape's.
    pub(crate) first: Offset,
    /// Its table as it was when the shape was added. Equal ones share one pointer.
    pub(crate) relation: Arc<Relation>,
    pub(crate) definition: ShapeDefinition,
    /// Whether it is to be given initial rows, or was.
    pub(crate) awaits_snapshot: bool,
}

/// A shard's log as it was found, and the parts that go on with it.
pub(crate) struct Recovered {
    /// The living shapes, by rising slot.
    pub(crate) shapes: Vec<RecoveredShape>,
    /// The lowest slot that was never given out (R8).
    pub(crate) next_slot: Slot,
    /// The highest handle that was ever given out in this shard.
    pub(crate) max_handle: Option<Handle>,
    /// The last commit in the log.
    pub(crate) last_commit: Lsn,
    /// The bytes of a torn tail that were cut off, if there was one.
    pub(crate) cut: Option<u64>,
    pub(crate) encoder: Encoder,
    pub(crate) syncer: Syncer,
    pub(crate) log: Arc<Log>,
}

/// Reads the log on `device` and makes it ready. New blocks are closed when they pass
/// `block_bytes_max`.
pub(crate) fn recover(
    mut device: Box<dyn Device>,
    identity: &Identity,
    block_bytes_max: usize,
) -> Result<Recovered, RecoverError> {
    let reader = device.reader();
    let file = reader.name().to_owned();
    let read = |source| RecoverError::Read { file: file.clone(), source };
    check_header(&*device, identity)?;
    let seed = identity.seed();
    let damaged = |position, reason| {
        let (file, position) = reader.place(position);
        RecoverError::Damaged { file, position, reason }
    };
    let flawed = |flaw| match flaw {
        Flaw::Read(source) => read(source),
        Flaw::Damaged(damage) => damaged(damage.position, damage.reason.to_string()),
    };
    let mut pass = Pass::new(&*reader, seed);
    let row = device.row();
    let start = match &row {
        Some(row) => pass.front(row).and_then(|start| pass.sealed(row, start)),
        None => Ok(HEADER_BYTES as u64),
    };
    let mut scanner = Scanner::new(&*reader, seed, start.map_err(flawed)?, device.len());
    let survey = Survey::scan(&mut scanner).map_err(flawed)?;
    let (end, is_torn) = (survey.end, survey.is_torn);
    pass.last(survey).map_err(flawed)?;
    let cut = if is_torn { Some(device.len() - end) } else { None };
    if is_torn {
        // A batch is written only after the one before it was synced, so what lies before a whole
        // batch was durable once, and a wrong byte in it is no torn write.
        if let Some((at, seq)) = scanner.find_batch_above(pass.seq).map_err(read)? {
            let reason =
                format!("no record here, but batch {seq} behind it, at byte {at}, is whole");
            return Err(damaged(end, reason));
        }
        let cut = device.truncate(end);
        cut.map_err(|source| {
            let (file, position) = reader.place(end);
            RecoverError::Cut { file, position, source }
        })?;
    }
    // A process that was killed may have written what it never synced; from here on it counts.
    let synced = device.sync();
    synced.map_err(|source| RecoverError::Sync { file: file.clone(), source })?;
    device.tidy();
    let recovered = pass.finish(device, block_bytes_max, cut);
    if let Some(bytes) = recovered.cut {
        tracing::info!(file, position = end, bytes, "a torn tail was cut off");
    }
    Ok(recovered)
}

fn check_header(device: &dyn Device, identity: &Identity) -> Result<(), RecoverError> {
    let reader = device.reader();
    let file = reader.name().to_owned();
    let mut header = [0; HEADER_BYTES];
    // A header is synced before its directory is complete: a short one is not a torn one.
    if device.len() < HEADER_BYTES as u64 {
        return Err(RecoverError::Header { file, source: HeaderError::Magic });
    }
    if let Err(source) = reader.read_at(&mut header, 0) {
        return Err(RecoverError::Read { file, source });
    }
    identity.check(&header).map_err(|source| RecoverError::Header { file, source })
}

/// What one pass over the segments gathers.
struct Pass<'a> {
    reader: &'a dyn ReadAt,
    seed: u32,
    /// The number of the last batch.
    seq: u64,
    /// The transaction that is open where the last segment ends.
    tracker: Tracker,
    void: Vec<Range<u64>>,
    index: Index,
    /// What the blocks that `index` keeps have for whom, by number.
    postings: Vec<(u64, Postings)>,
    /// Segments without an index that could be read.
    missing: BTreeSet<u32>,
    relations: Relations,
    shapes: BTreeMap<Slot, RecoveredShape>,
    next_slot: u32,
    max_handle: Option<Handle>,
}

impl<'a> Pass<'a> {
    fn new(reader: &'a dyn ReadAt, seed: u32) -> Pass<'a> {
        let (seq, next_slot, max_handle) = (0, 0, None);
        let (tracker, void, postings) = Default::default();
        let (missing, relations, shapes) = Default::default();
        let mut index = Index::default();
        index.make_room();
        Pass {
            reader,
            seed,
            seq,
            tracker,
            void,
            index,
            postings,
            missing,
            relations,
            shapes,
            next_slot,
            max_handle,
        }
    }

    /// Takes the first file, if it was thinned; the byte at which the frames behind it begin.
    fn front(&mut self, row: &Row) -> Result<u64, Flaw> {
        let Some((thinned, len)) = row.front() else { return Ok(HEADER_BYTES as u64) };
        let Front { starts, bytes } = Front::read(self.reader, self.seed, &thinned, len)?;
        let mut scanner = Scanner::new(self.reader, self.seed, bytes.start, bytes.end);
        let survey = Survey::scan(&mut scanner)?;
        if survey.is_torn {
            let reason = Malformed("no record here, in a file that was thinned");
            return Err(Flaw::Damaged(Damage { position: survey.end, reason }));
        }
        let Survey { head, index, postings, .. } = survey;
        let records = self.records(&head)?;
        self.segment(bytes, &head, records)?;
        // Its batches are numbered by themselves, and what was last given out may be gone.
        self.seq = thinned.seq;
        self.next_slot = self.next_slot.max(thinned.next_slot);
        self.max_handle = self.max_handle.max(thinned.max_handle);
        self.index.found_thinned(&thinned, index, Cuts::new(&starts));
        let known = (0..).zip(postings);
        self.postings = known.filter_map(|(number, known)| Some((number, known?))).collect();
        Ok(thinned.next)
    }

    /// Takes all segments behind that but the last, from their indexes where these can be read; the
    /// byte at which the last one's frames begin. The first of all begins at byte `start`.
    fn sealed(&mut self, row: &Row, mut start: u64) -> Result<u64, Flaw> {
        for number in row.whole() {
            let Some(owner) = row.owner(number) else { break };
            let (mut head, mut is_found) = Shelf::head(row, &owner)?;
            let mut records = self.records(&head);
            if is_found && records.is_err() {
                // The index names other places than the segment's. The segment counts.
                (head, is_found) = (build(row, &owner)?.0, false);
                records = self.records(&head);
            }
            if !is_found {
                self.missing.insert(number);
            }
            self.segment(owner.bytes.clone(), &head, records?)?;
            self.index.join(owner.bytes.clone(), &head, None);
            start = owner.bytes.end;
        }
        Ok(start)
    }

    /// Takes the last segment.
    fn last(&mut self, survey: Survey) -> Result<(), Flaw> {
        let Survey { head, index, postings, end, .. } = survey;
        let start = index.blocks().next().map_or(end, |(position, ..)| position);
        let records = self.records(&head)?;
        self.segment(start..end, &head, records)?;
        let first = self.index.next();
        self.index.join(start..end, &head, Some(index));
        let known = (first..).zip(postings);
        self.postings.extend(known.filter_map(|(number, known)| Some((number, known?))));
        Ok(())
    }

    /// Takes the segment that lies in `bytes`, with its lifecycle `records`.
    fn segment(
        &mut self,
        bytes: Range<u64>,
        head: &Head,
        records: Vec<Record>,
    ) -> Result<(), Flaw> {
        let damaged = |position, reason| Flaw::Damaged(Damage { position, reason });
        if let Some((first, last)) = head.batches {
            if Some(first) != self.seq.checked_add(1) {
                let reason = Malformed("the numbers of batches do not rise by 1");
                return Err(damaged(bytes.start, reason));
            }
            self.seq = last;
        }
        if let Some(First { position, opens: false, commit }) = head.first
            && self.tracker.open_commit() != Some(commit)
        {
            let reason = Malformed("a fragment goes on with a transaction that is not open");
            return Err(damaged(position, reason));
        }
        match head.carried {
            Carried::Open => {}
            Carried::Committed => self.tracker.committed(),
            Carried::Void(end) => self.tracker.abandon(end),
        }
        self.void.extend(self.tracker.take().void);
        self.void.extend(head.void.iter().cloned());
        if let Some(Tail { start, last, is_carried: false }) = head.tail {
            self.tracker.carry(last.commit, start);
        }
        for (position, record) in records {
            self.record(record).map_err(|reason| damaged(position, reason))?;
        }
        Ok(())
    }

    /// Reads the lifecycle records of a segment, with the relations that they name.
    fn records(&self, head: &Head) -> Result<Vec<Record>, Flaw> {
        let (mut records, mut block) = (Vec::new(), None);
        for Extent { block: number, bytes } in &head.extents {
            if block.replace(number) != Some(number) {
                records.push((bytes.start, Found::Block));
            }
            let mut scanner = Scanner::new(self.reader, self.seed, bytes.start, bytes.end);
            loop {
                let (position, frame) = match scanner.next().map_err(Flaw::Read)? {
                    Step::End => break,
                    Step::Frame(position, frame) => (position, frame),
                    Step::Bad => {
                        let reason = Malformed("the checksum of a record is wrong");
                        let position = scanner.position();
                        return Err(Flaw::Damaged(Damage { position, reason }));
                    }
                };
                let found = Found::read(frame);
                let found = found.map_err(|reason| Flaw::Damaged(Damage { position, reason }))?;
                records.push((position, found));
            }
        }
        Ok(records)
    }

    fn record(&mut self, found: Found) -> Result<(), Malformed> {
        match found {
            Found::Block => self.relations.in_block.clear(),
            Found::Relation(payload) => self.relations.record(&payload)?,
            Found::Lifecycle(record) => self.lifecycle(record)?,
        }
        Ok(())
    }

    fn lifecycle(&mut self, record: Lifecycle) -> Result<(), Malformed> {
        match record {
            Lifecycle::Add { slot, handle, first, relation, definition, awaits_snapshot } => {
                let relation = self.relations.in_block.get(relation as usize);
                let relation = relation.ok_or(Malformed("a shape's relation is unknown"))?.clone();
                if slot.as_u32() < self.next_slot {
                    return Err(Malformed("a slot is given out again"));
                }
                self.next_slot = slot.as_u32().saturating_add(1);
                self.max_handle = self.max_handle.max(Some(handle));
                let shape =
                    RecoveredShape { slot, handle, first, relation, definition, awaits_snapshot };
                self.shapes.insert(slot, shape);
            }
            // Ending a shape twice is legal: removal can be retried (INV5).
            Lifecycle::Remove { slot, handle, .. } | Lifecycle::Invalidate { slot, handle, .. } => {
                if self.shapes.get(&slot).is_some_and(|shape| shape.handle == handle) {
                    self.shapes.remove(&slot);
                }
            }
        }
        Ok(())
    }

    fn finish(
        mut self,
        device: Box<dyn Device>,
        block_bytes: usize,
        cut: Option<u64>,
    ) -> Recovered {
        let position = device.len();
        // The source sends an open transaction again, from its beginning.
        self.tracker.abandon(position);
        self.index.abandon();
        self.void.extend(self.tracker.take().void);
        self.index.set_void(merged(self.void));
        let (last_commit, seed) = (self.index.readable(), self.seed);
        // It takes longer than anything lasts to get there, but a file may claim it.
        let next_seq = self.seq.saturating_add(1);
        let missing = self.missing;
        let shelf = device.row().map(|row| Shelf::new(row, missing));
        let log = Log::new(device.reader(), seed, self.index, last_commit, shelf);
        self.postings.into_iter().for_each(|(number, known)| log.know(number, known));
        log.claims().set_living(self.shapes.keys().map(|slot| slot.as_u32()).collect());
        let resume = Resume { seed, position, next_seq, through: last_commit, block_bytes };
        Recovered {
            shapes: self.shapes.into_values().collect(),
            next_slot: Slot::new(self.next_slot),
            max_handle: self.max_handle,
            last_commit,
            cut,
            encoder: Encoder::new(resume),
            syncer: Syncer::new(device, Arc::clone(&log), next_seq),
            log,
        }
    }
}

/// The same bytes, rising and disjoint. What a transaction left in several segments each says.
fn merged(mut void: Vec<Range<u64>>) -> Arc<[Range<u64>]> {
    void.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in void {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged.into()
}

/// What recovery looks at of a segment, and where it lies.
type Record = (u64, Found);

enum Found {
    /// What follows lies in another block.
    Block,
    /// A relation's payload.
    Relation(Box<[u8]>),
    Lifecycle(Lifecycle),
}

impl Found {
    fn read(frame: Frame<'_>) -> Result<Found, Malformed> {
        match frame.kind()? {
            Kind::Relation => Ok(Found::Relation(frame.payload.into())),
            Kind::AddShape => read_add(frame.payload).map(Found::Lifecycle),
            Kind::RemoveShape => read_remove(frame.payload).map(Found::Lifecycle),
            Kind::Invalidate => read_invalidate(frame.payload).map(Found::Lifecycle),
            _ => Err(Malformed("a record is of another kind than was noted")),
        }
    }
}

/// The relations that the log names.
#[derive(Default)]
struct Relations {
    /// By the number that the block being read gives them.
    in_block: Vec<Arc<Relation>>,
    /// By their bytes: every block names the same few again, and each is read and held once.
    known: HashMap<Box<[u8]>, Arc<Relation>, RandomState>,
}

impl Relations {
    fn record(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (number, bytes) = split_relation(payload)?;
        if number as usize != self.in_block.len() {
            return Err(Malformed("relation numbers do not rise by 1"));
        }
        let relation = match self.known.get(bytes) {
            Some(known) => Arc::clone(known),
            None => {
                let relation = Arc::new(read_relation(bytes)?);
                self.known.insert(bytes.into(), Arc::clone(&relation));
                relation
            }
        };
        self.in_block.push(relation);
        Ok(())
    }
}
