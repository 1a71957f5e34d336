//! Sealed: the bytes of a segment's index, which lies beside it once it is never written again. A
//! survey flows in and becomes an image; of an image the head, the table and single pages are read
//! back, each under its own checksum. Nothing here is trusted beyond that: who finds something
//! wrong has the index built anew from the segment.

use super::device::ReadAt;
use super::frame::checksum;
use super::header::Identity;
use super::pages::{self, DENSE_SLOTS, Own};
use super::survey::{Carried, Extent, First, Head, Surveyed, Tail};
use super::wire::{Malformed, Reader, put_number, put_offset};
use crate::words::{Offset, Slot};
use std::ops::Range;

const MAGIC: [u8; 8] = *b"walfan-I";
const VERSION: u32 = 2;
/// Whose segment's index it is, and where its sections end.
const HEADER_BYTES: usize = 36 + 4 + 8 + 8 + 8 + 8 + 4;
/// In front of a section or a page, over what follows it.
const CRC_BYTES: usize = 4;

/// What a block has, in the table.
const THROUGH: u8 = 1;
const TAIL: u8 = 2;
/// Nobody can be told what is in it.
const UNKNOWN: u8 = 4;

/// What a head has.
const BATCHES: u8 = 1;
const FIRST: u8 = 2;
const OPENS: u8 = 4;
const COMMITTED: u8 = 8;
const VOID: u8 = 16;
const LAST_COMMIT: u8 = 32;
const OPEN: u8 = 64;
const CARRIED: u8 = 128;

/// Whose index: the log's, the segment's number, and the bytes of the log that its frames take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) identity: Identity,
    pub(super) number: u32,
    pub(super) bytes: Range<u64>,
}

/// One block of a segment, as its sealed index tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableBlock {
    pub(super) position: u64,
    pub(super) len: u64,
    /// The last position in it, or before it in the segment, that can be read: whatever became of
    /// the transaction that is open at the segment's end, and if that was committed.
    pub(super) through: Offset,
    pub(super) through_with_tail: Offset,
    is_unknown: bool,
    /// Where its relations are written, by number.
    pub(super) relations: Box<[u32]>,
}

/// Where a page lies in the file, and the first slot (of a dense one: the group) that it tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PagePlace {
    first: u32,
    at: u32,
    len: u32,
}

/// What is kept of a sealed index that is in use.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) blocks: Box<[TableBlock]>,
    sparse: Box<[PagePlace]>,
    dense: Box<[PagePlace]>,
    /// The last position of the transaction that is open at the segment's end, if that has a part.
    tail: Option<Offset>,
    seed: u32,
    /// The whole file, where it could not be written.
    image: Option<Vec<u8>>,
}

impl Owner {
    fn seed(&self) -> u32 {
        self.identity.seed()
    }

    /// magic, version, shard, shards, directory, number, the segment's bytes, where the table and
    /// the head end, crc32c of these from the seed.
    fn header(&self, table_end: u64, head_end: u64) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..36].copy_from_slice(&self.identity.fields(MAGIC, VERSION));
        header[36..40].copy_from_slice(&self.number.to_le_bytes());
        let numbers = [self.bytes.start, self.bytes.end, table_end, head_end];
        for (place, number) in header[40..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let crc = checksum(&header[..72], self.seed());
        header[72..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Where the table and the head end in a file with this header.
    fn read_header(&self, header: &[u8; HEADER_BYTES]) -> Result<(u64, u64), Malformed> {
        let number = |at: usize| {
            let bytes = header.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let (table_end, head_end) = (number(56), number(64));
        if *header != self.header(table_end, head_end) {
            return Err(Malformed("it is no index, or another segment's"));
        }
        let sections = HEADER_BYTES as u64..=head_end;
        if !sections.contains(&table_end) || head_end > u64::from(u32::MAX) {
            return Err(Malformed("its sections are out of order"));
        }
        Ok((table_end, head_end))
    }
}

/// The whole file of what a survey found in the segment of `owner`.
pub(super) fn image(
    owner: &Owner,
    head: &Head,
    blocks: Vec<Surveyed>,
) -> Result<Vec<u8>, Malformed> {
    let mut table = Vec::new();
    put_number(&mut table, blocks.len() as u64);
    for block in &blocks {
        put_block(&mut table, block);
    }
    let pages = pages::write(blocks);
    for pages in [&pages.sparse, &pages.dense] {
        put_number(&mut table, pages.len() as u64);
        let mut next = 0;
        for (first, page) in pages {
            put_number(&mut table, u64::from(*first) - next);
            put_number(&mut table, page.len() as u64);
            next = u64::from(*first) + 1;
        }
    }
    let head = head_bytes(head, owner.bytes.start);
    let pages = pages.sparse.iter().chain(&pages.dense).map(|(_, page)| &**page);
    let image = assemble(owner, &table, &head, pages);
    match u32::try_from(image.len()) {
        Ok(_) => Ok(image),
        Err(_) => Err(Malformed("its index passes 4 GiB")),
    }
}

/// The whole file of these parts, each under its checksum.
pub(super) fn assemble<'p>(
    owner: &Owner,
    table: &'p [u8],
    head: &'p [u8],
    pages: impl Iterator<Item = &'p [u8]>,
) -> Vec<u8> {
    let table_end = HEADER_BYTES + CRC_BYTES + table.len();
    let head_end = table_end + CRC_BYTES + head.len();
    let mut image = owner.header(table_end as u64, head_end as u64).to_vec();
    for part in [table, head].into_iter().chain(pages) {
        image.extend_from_slice(&checksum(part, owner.seed()).to_le_bytes());
        image.extend_from_slice(part);
    }
    image
}

fn put_block(table: &mut Vec<u8>, block: &Surveyed) {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    put_number(table, block.len);
    let has_through = block.through > Offset::ZERO;
    let unknown = block.postings.is_none();
    table.push(
        flag(has_through, THROUGH) | flag(block.tail.is_some(), TAIL) | flag(unknown, UNKNOWN),
    );
    let through = has_through.then_some(block.through);
    through.into_iter().chain(block.tail).for_each(|offset| put_offset(table, offset));
    let relations = block.postings.as_ref().map_or(&[][..], |postings| &postings.relations);
    put_number(table, relations.len() as u64);
    let mut next = 0;
    for &place in relations {
        put_number(table, u64::from(place - next));
        next = place;
    }
}

fn head_bytes(head: &Head, start: u64) -> Vec<u8> {
    let Head { batches, blocks: _, first, carried, tail, last_commit, through: _, .. } = head;
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let mut out = vec![
        flag(batches.is_some(), BATCHES)
            | flag(first.is_some(), FIRST)
            | flag(first.is_some_and(|first| first.opens), OPENS)
            | flag(*carried == Carried::Committed, COMMITTED)
            | flag(matches!(carried, Carried::Void(_)), VOID)
            | flag(last_commit.is_some(), LAST_COMMIT)
            | flag(tail.is_some(), OPEN)
            | flag(tail.is_some_and(|tail| tail.is_carried), CARRIED),
    ];
    let mut put = |number: u64| put_number(&mut out, number);
    if let Some((first, last)) = batches {
        put(*first);
        put(*last - *first);
    }
    if let Some(first) = first {
        put(first.position - start);
        put(first.commit.as_u64());
    }
    if let Carried::Void(end) = carried {
        put(*end - start);
    }
    if let Some(commit) = last_commit {
        put(commit.as_u64());
    }
    if let Some(tail) = tail {
        put(tail.start - start);
    }
    put(head.void.len() as u64);
    for void in &head.void {
        put(void.start - start);
        put(void.end - void.start);
    }
    put(head.extents.len() as u64);
    let mut block = 0;
    for extent in &head.extents {
        put(u64::from(extent.block - block));
        put(extent.bytes.start - start);
        put(extent.bytes.end - extent.bytes.start);
        block = extent.block;
    }
    out
}

/// Reads what follows a checksum, up to byte `end` of the file.
fn section(
    file: &dyn ReadAt,
    bytes: Range<u64>,
    seed: u32,
    wrong: &'static str,
) -> Result<Vec<u8>, Malformed> {
    let len = bytes.end.saturating_sub(bytes.start);
    let mut section = vec![0; usize::try_from(len).map_err(|_| Malformed(wrong))?];
    file.read_at(&mut section, bytes.start).map_err(|_| Malformed(wrong))?;
    match section.split_first_chunk() {
        Some((crc, covered)) if checksum(covered, seed) == u32::from_le_bytes(*crc) => {
            section.drain(..CRC_BYTES);
            Ok(section)
        }
        _ => Err(Malformed(wrong)),
    }
}

impl Table {
    /// Reads the table of the index in `file`, which has `len` bytes.
    pub(super) fn read(owner: &Owner, file: &dyn ReadAt, len: u64) -> Result<Table, Malformed> {
        let (table_end, head_end) = read_header(owner, file)?;
        let wrong = "the checksum of its table is wrong";
        if head_end > len {
            return Err(Malformed(wrong));
        }
        let bytes = section(file, HEADER_BYTES as u64..table_end, owner.seed(), wrong)?;
        let table = Table::parse(owner, &bytes, head_end)?;
        match table.end(head_end) == len {
            true => Ok(table),
            false => Err(Malformed("it has another length")),
        }
    }

    fn parse(owner: &Owner, bytes: &[u8], head_end: u64) -> Result<Table, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut position = owner.bytes.start;
        let (mut through, mut with_tail, mut tail) = (Offset::ZERO, Offset::ZERO, None);
        let count = reader.count()?;
        let mut blocks = Vec::with_capacity(count);
        for _ in 0..count {
            let len = reader.number()?;
            let flags = reader.byte()?;
            if flags & THROUGH != 0 {
                through = reader.offset()?;
            }
            if flags & TAIL != 0 {
                tail = Some(reader.offset()?);
            }
            with_tail = with_tail.max(through).max(tail.unwrap_or_default());
            let is_unknown = flags & UNKNOWN != 0;
            let relations = read_places(&mut reader)?;
            let (through, through_with_tail) = (through, with_tail);
            blocks.push(TableBlock {
                position,
                len,
                through,
                through_with_tail,
                is_unknown,
                relations,
            });
            position = position.checked_add(len).ok_or(Malformed("a block passes 64 bits"))?;
        }
        if position != owner.bytes.end {
            return Err(Malformed("its blocks are not the segment's bytes"));
        }
        let mut at = head_end;
        let sparse = read_pages(&mut reader, &mut at)?;
        let dense = read_pages(&mut reader, &mut at)?;
        reader.end()?;
        let (blocks, seed) = (blocks.into(), owner.seed());
        Ok(Table { blocks, sparse, dense, tail, seed, image: None })
    }

    /// Where its pages lie, each behind its checksum.
    #[cfg(all(any(test, feature = "testing"), not(loom)))]
    pub(super) fn pages(&self) -> impl Iterator<Item = Range<usize>> {
        let pages = self.sparse.iter().chain(&self.dense);
        pages.map(|page| page.at as usize..page.at as usize + page.len as usize)
    }

    /// How long the pages are that the table in `bytes` tells of, without their checksums.
    #[cfg(all(any(test, feature = "testing"), not(loom)))]
    pub(super) fn page_lens(
        owner: &Owner,
        bytes: &[u8],
        head_end: u64,
    ) -> Result<Vec<usize>, Malformed> {
        let table = Table::parse(owner, bytes, head_end)?;
        Ok(table.pages().map(|page| page.len() - CRC_BYTES).collect())
    }

    /// Keeps the whole file, where it could not be written.
    pub(super) fn with_image(self, image: Vec<u8>) -> Table {
        Table { image: Some(image), ..self }
    }

    /// The whole file, if it is kept.
    pub(super) fn image(&self) -> Option<&[u8]> {
        self.image.as_deref()
    }

    /// Where the file ends.
    fn end(&self, head_end: u64) -> u64 {
        let last = self.dense.last().or(self.sparse.last());
        last.map_or(head_end, |page| u64::from(page.at) + u64::from(page.len))
    }

    /// Whether the transaction that is open at the segment's end was committed, if what can be read
    /// of the segment ends at `through`.
    pub(super) fn has_tail(&self, through: Offset) -> bool {
        self.tail.is_some_and(|tail| tail <= through)
    }

    /// What `slot` has in the segment. What cannot be read of `file` is an error too.
    pub(super) fn find(&self, file: &dyn ReadAt, slot: Slot) -> Result<Own, Malformed> {
        let (slot, blocks) = (slot.as_u32(), self.blocks.len() as u32);
        let mut own = Own::default();
        for (number, _) in self.blocks.iter().enumerate().filter(|(_, block)| block.is_unknown) {
            own.add_much(number as u32);
        }
        let next = self.sparse.partition_point(|page| page.first <= slot);
        if let Some(page) = next.checked_sub(1).and_then(|index| self.sparse.get(index)) {
            pages::find_sparse(&self.page(file, page)?, page.first, slot, blocks, &mut own)?;
        }
        let group = self.dense.binary_search_by_key(&(slot / DENSE_SLOTS), |page| page.first);
        if let Some(page) = group.ok().and_then(|index| self.dense.get(index)) {
            pages::find_dense(&self.page(file, page)?, slot % DENSE_SLOTS, blocks, &mut own)?;
        }
        Ok(own)
    }

    /// Whether all pages are whole.
    pub(super) fn check(&self, file: &dyn ReadAt) -> Result<(), Malformed> {
        let mut pages = self.sparse.iter().chain(&self.dense);
        pages.try_for_each(|page| self.page(file, page).map(drop))
    }

    fn page(&self, file: &dyn ReadAt, page: &PagePlace) -> Result<Vec<u8>, Malformed> {
        let (at, len) = (u64::from(page.at), u64::from(page.len));
        section(file, at..at + len, self.seed, "the checksum of a page is wrong")
    }

    /// The memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let relations: usize = self.blocks.iter().map(|block| size_of_val(&*block.relations)).sum();
        size_of::<Table>()
            + size_of_val(&*self.blocks)
            + relations
            + size_of_val(&*self.sparse)
            + size_of_val(&*self.dense)
            + self.image.as_ref().map_or(0, Vec::len)
    }
}

fn read_header(owner: &Owner, file: &dyn ReadAt) -> Result<(u64, u64), Malformed> {
    let mut header = [0; HEADER_BYTES];
    file.read_at(&mut header, 0).map_err(|_| Malformed("it is too short"))?;
    owner.read_header(&header)
}

fn read_places(reader: &mut Reader<'_>) -> Result<Box<[u32]>, Malformed> {
    let mut next = 0u32;
    let count = reader.count()?;
    let place = |_| {
        next = next.checked_add(reader.number_u32()?).ok_or(Malformed("a place passes 32 bits"))?;
        Ok(next)
    };
    (0..count).map(place).collect()
}

fn read_pages(reader: &mut Reader<'_>, at: &mut u64) -> Result<Box<[PagePlace]>, Malformed> {
    let mut next = 0u64;
    let count = reader.count()?;
    let page = |_| {
        let first = next.checked_add(reader.number()?);
        let len = reader.number()?.checked_add(CRC_BYTES as u64);
        let place = first.zip(len).and_then(|(first, len)| {
            let place = u32::try_from(*at).ok()?;
            *at = at.checked_add(len)?;
            Some((u32::try_from(first).ok()?, place, u32::try_from(len).ok()?))
        });
        let (first, at, len) = place.ok_or(Malformed("a page lies beyond 4 GiB"))?;
        next = u64::from(first) + 1;
        Ok(PagePlace { first, at, len })
    };
    (0..count).map(page).collect()
}

/// Reads what recovery needs, of the index in `file`, which has `len` bytes. The table is read for
/// it too.
pub(super) fn read_head(owner: &Owner, file: &dyn ReadAt, len: u64) -> Result<Head, Malformed> {
    let table = Table::read(owner, file, len)?;
    let (table_end, head_end) = read_header(owner, file)?;
    let wrong = "the checksum of its head is wrong";
    let bytes = section(file, table_end..head_end, owner.seed(), wrong)?;
    parse_head(owner, &table, Reader::new(&bytes))
}

fn parse_head(owner: &Owner, table: &Table, mut reader: Reader<'_>) -> Result<Head, Malformed> {
    let flags = reader.byte()?;
    let has = |flag: u8| flags & flag != 0;
    let Range { start, end } = owner.bytes;
    let place = |reader: &mut Reader<'_>| {
        let place = start.checked_add(reader.number()?).filter(|place| *place <= end);
        place.ok_or(Malformed("it names a place outside its segment"))
    };
    let span = |reader: &mut Reader<'_>| {
        let from = place(reader)?;
        let to = from.checked_add(reader.number()?).filter(|to| *to <= end);
        Ok(from..to.ok_or(Malformed("it names a place outside its segment"))?)
    };
    let mut head = Head { blocks: table.blocks.len() as u32, ..Head::default() };
    if has(BATCHES) {
        let (first, more) = (reader.number()?, reader.number()?);
        let last = first.checked_add(more).ok_or(Malformed("a batch passes 64 bits"))?;
        head.batches = Some((first, last));
    }
    if has(FIRST) {
        let (position, opens) = (place(&mut reader)?, has(OPENS));
        head.first = Some(First { position, opens, commit: reader.lsn()? });
    }
    head.carried = match (has(COMMITTED), has(VOID)) {
        (true, _) => Carried::Committed,
        (_, true) => Carried::Void(place(&mut reader)?),
        _ => Carried::Open,
    };
    head.last_commit = if has(LAST_COMMIT) { Some(reader.lsn()?) } else { None };
    if has(OPEN) {
        let (start, is_carried) = (place(&mut reader)?, has(CARRIED));
        let last = table.tail.ok_or(Malformed("its tail is in no block"))?;
        head.tail = Some(Tail { start, last, is_carried });
    }
    for _ in 0..reader.count()? {
        head.void.push(span(&mut reader)?);
    }
    let mut block = 0u32;
    for _ in 0..reader.count()? {
        let next = block.checked_add(reader.number_u32()?).filter(|next| *next < head.blocks);
        block = next.ok_or(Malformed("it names a block that there is not"))?;
        head.extents.push(Extent { block, bytes: span(&mut reader)? });
    }
    reader.end()?;
    head.through = table.blocks.last().map_or(Offset::ZERO, |block| block.through);
    Ok(head)
}
