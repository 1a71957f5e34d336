//! Shelf: the sealed indexes of one log. A segment's number and a slot flow in, what the slot has
//! in the segment flows out. An index that is missing or wrong is built anew from its segment and
//! written again; one that cannot be written is used from memory.

use super::cache::Recent;
use super::decode::Damage;
use super::device::ReadAt;
use super::index::{SealedView, View};
use super::pages::Own;
use super::records::Scratch;
use super::scan::Scanner;
use super::sealed::{self, Owner, Table, TableBlock, read_head};
use super::segments::Row;
use super::store::LogError;
use super::survey::{Flaw, Head, Survey};
use super::wire::Malformed;
use crate::words::{Offset, Slot};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// So many bytes of tables are kept: those of some hundred segments, 10 GB and more. One that is
/// larger is kept alone.
const TABLES_BYTES_MAX: usize = 4 << 20;

/// Why a segment could not be sealed. Nothing is lost: its index is in memory, or is built when it
/// is asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error("{file}: writing failed: {source}; it is tried again with the next segment")]
    Write { file: String, source: io::Error },
    #[error(transparent)]
    Segment(#[from] LogError),
}

pub(super) struct Shelf {
    row: Arc<Row>,
    tables: Mutex<Recent<Arc<Table>>>,
    /// Whoever writes an index holds it.
    writing: Mutex<()>,
    /// Segments of which recovery found no index.
    missing: Mutex<BTreeSet<u32>>,
}

/// What a reader knows of the segment that it is in.
#[derive(Default)]
pub(super) struct Trail {
    known: Option<(u32, Arc<Table>, Own)>,
    pub(super) scratch: Scratch,
}

/// Bytes in memory.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl ReadAt for Bytes<'_> {
    fn name(&self) -> &str {
        "memory"
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        let from = usize::try_from(position).ok().and_then(|from| self.0.get(from..));
        let held = from.and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(held.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn release(&self, _position: u64) -> bool {
        false
    }
}

/// Builds the index of the segment of `owner` from what `log` holds there: its whole file, and what
/// recovery needs of it. It depends on these bytes alone.
pub(super) fn build(log: &dyn ReadAt, owner: &Owner) -> Result<(Head, Vec<u8>), Flaw> {
    let seed = owner.identity.seed();
    let mut scanner = Scanner::new(log, seed, owner.bytes.start, owner.bytes.end);
    let survey = Survey::scan(&mut scanner)?;
    if survey.is_torn {
        let reason = Malformed("no record here, but another file of the log follows");
        return Err(Flaw::Damaged(Damage { position: survey.end, reason }));
    }
    let (head, blocks) = survey.into_blocks();
    let image = sealed::image(owner, &head, blocks);
    Ok((head, image.map_err(|error| Flaw::Read(io::Error::other(error)))?))
}

impl Shelf {
    pub(super) fn new(row: Arc<Row>, missing: BTreeSet<u32>) -> Shelf {
        let tables = Mutex::new(Recent::new(TABLES_BYTES_MAX));
        Shelf { row, tables, writing: Mutex::default(), missing: Mutex::new(missing) }
    }

    /// The block of `segment` that holds what follows `after`.
    pub(super) fn view(&self, segment: &SealedView, after: Offset) -> Result<View, LogError> {
        let table = self.table(segment.segment)?;
        let number = segment.first_after(&table, after);
        segment.view(&table, number).ok_or_else(|| self.unlike(segment))
    }

    /// What `slot` has in `segment`, kept in `trail` for as long as it is asked for the same; and
    /// what its records are read with.
    pub(super) fn find<'a>(
        &self,
        segment: u32,
        slot: Slot,
        trail: &'a mut Trail,
    ) -> Result<(&'a Table, &'a Own, &'a mut Scratch), LogError> {
        let Trail { known, scratch } = trail;
        let (_, table, own) = match known.take_if(|known| known.0 == segment) {
            Some(same) => known.insert(same),
            None => {
                let (table, own) = self.look_up(segment, slot)?;
                known.insert((segment, table, own))
            }
        };
        Ok((table, own, scratch))
    }

    fn look_up(&self, number: u32, slot: Slot) -> Result<(Arc<Table>, Own), LogError> {
        let table = self.table(number)?;
        if let Ok(own) = self.find_in(number, &table, slot) {
            return Ok((table, own));
        }
        // A page is damaged.
        let table = self.keep(number, self.restore(number)?);
        let own = self.find_in(number, &table, slot);
        let own = own.unwrap_or_else(|_| Own::all(table.blocks.len() as u32));
        Ok((table, own))
    }

    fn find_in(&self, number: u32, table: &Table, slot: Slot) -> Result<Own, Malformed> {
        match table.image() {
            Some(image) => table.find(&Bytes(image), slot),
            None => table.find(&*self.file(number)?.0, slot),
        }
    }

    fn file(&self, number: u32) -> Result<(Arc<dyn ReadAt>, u64), Malformed> {
        self.row.index(number).map_err(|_| Malformed("it cannot be opened"))
    }

    fn table(&self, number: u32) -> Result<Arc<Table>, LogError> {
        if let Some(table) = self.tables.lock().get(number) {
            return Ok(table);
        }
        let owner = self.owner(number)?;
        let found = self.file(number).and_then(|(file, len)| Table::read(&owner, &*file, len));
        let table = found.or_else(|_| self.restore(number))?;
        Ok(self.keep(number, table))
    }

    fn keep(&self, number: u32, table: Table) -> Arc<Table> {
        let (bytes, table) = (table.bytes(), Arc::new(table));
        self.tables.lock().put(number, Arc::clone(&table), bytes);
        table
    }

    /// Whose index it is. Of a segment that was thinned while somebody was on the way to it there
    /// is none any more: who gets that error looks again.
    fn owner(&self, number: u32) -> Result<Owner, LogError> {
        self.row.owner(number).ok_or_else(|| {
            let (file, source) = (self.row.index_path(number), io::ErrorKind::NotFound.into());
            LogError::Read { file, position: 0, source }
        })
    }

    /// Where the blocks of segment `number` lie, and how long they are.
    pub(super) fn blocks(&self, number: u32) -> Result<Vec<(u64, u64)>, LogError> {
        let table = self.table(number)?;
        Ok(table.blocks.iter().map(|block| (block.position, block.len)).collect())
    }

    /// Builds an index that is missing or wrong, and writes it.
    fn restore(&self, number: u32) -> Result<Table, LogError> {
        let _one = self.writing.lock();
        let owner = self.owner(number)?;
        // Another one may have been first.
        let whole = self.file(number).and_then(|(file, len)| {
            let table = Table::read(&owner, &*file, len)?;
            table.check(&*file)?;
            read_head(&owner, &*file, len).map(|_| table)
        });
        if let Ok(table) = whole {
            return Ok(table);
        }
        let (_, image) = self.build(&owner)?;
        let table = Table::read(&owner, &Bytes(&image), image.len() as u64);
        let table = table.expect("what was just made can be read");
        let file = self.row.index_path(number);
        match self.row.write_index(number, &image) {
            Ok(()) => {
                tracing::info!(file, "an index was missing or damaged, and was built anew");
                Ok(table)
            }
            Err(error) => {
                tracing::warn!(file, %error, "an index is built anew, but cannot be written");
                Ok(table.with_image(image))
            }
        }
    }

    fn build(&self, owner: &Owner) -> Result<(Head, Vec<u8>), LogError> {
        build(&*self.row, owner).map_err(|flaw| match flaw {
            Flaw::Read(source) => {
                let (file, position) = self.row.place(owner.bytes.start);
                LogError::Read { file, position, source }
            }
            Flaw::Damaged(damage) => damage.within(&*self.row),
        })
    }

    /// What recovery needs of segment `number`, and whether that is from its sealed index.
    pub(super) fn head(row: &Row, owner: &Owner) -> Result<(Head, bool), Flaw> {
        let file = row.index(owner.number).map_err(|_| Malformed("it cannot be opened"));
        match file.and_then(|(file, len)| read_head(owner, &*file, len)) {
            Ok(head) => Ok((head, true)),
            Err(_) => build(row, owner).map(|(head, _)| (head, false)),
        }
    }

    /// Builds and writes an index that recovery found missing. False: there is none.
    pub(super) fn restore_missing(&self) -> Result<bool, LogError> {
        let Some(number) = self.missing.lock().pop_first() else { return Ok(false) };
        if self.row.owner(number).is_none() {
            // It was thinned since.
            return Ok(true);
        }
        self.restore(number).map(|_| true)
    }

    /// Builds and writes the index of segment `number`; where the segment begins.
    pub(super) fn seal(&self, number: u32) -> Result<u64, SealError> {
        let _one = self.writing.lock();
        let owner = self.owner(number)?;
        let (_, image) = self.build(&owner)?;
        let written = self.row.write_index(number, &image);
        let file = || self.row.index_path(number);
        written.map_err(|source| SealError::Write { file: file(), source })?;
        Ok(owner.bytes.start)
    }

    /// The index of `segment` is not that of the segment as it was when it was sealed.
    pub(super) fn unlike(&self, segment: &SealedView) -> LogError {
        let owner = match self.owner(segment.segment) {
            Ok(owner) => owner,
            Err(gone) => return gone,
        };
        let position = owner.bytes.start;
        let reason = Malformed("the segment does not hold what it held when it was sealed");
        Damage { position, reason }.within(&*self.row)
    }
}

impl SealedView {
    fn through_of(&self, block: &TableBlock, has_tail: bool) -> Offset {
        let through = if has_tail { block.through_with_tail } else { block.through };
        through.max(self.from)
    }

    /// The number in the segment of the first block that holds something after `after`.
    pub(super) fn first_after(&self, table: &Table, after: Offset) -> u32 {
        let has_tail = table.has_tail(self.through);
        let through = |block: &TableBlock| self.through_of(block, has_tail);
        table.blocks.partition_point(|block| through(block) <= after) as u32
    }

    /// Block `number` of the segment.
    pub(super) fn view(&self, table: &Table, number: u32) -> Option<View> {
        let has_tail = table.has_tail(self.through);
        let block = table.blocks.get(number as usize)?;
        let before = number.checked_sub(1).and_then(|before| table.blocks.get(before as usize));
        Some(View {
            number: self.block + u64::from(number),
            position: block.position,
            len: block.len,
            from: before.map_or(self.from, |before| self.through_of(before, has_tail)),
            through: self.through_of(block, has_tail),
            closed: true,
            is_sealed: true,
            limit: self.limit.clone(),
        })
    }
}
