//! Pages: the part of a sealed index that tells what each slot has in which block. A *sparse* page
//! holds the postings of a run of slots, a *dense* one whom sets touch among a group of slots that
//! lie side by side. A slot lies in one page of each kind at most, so that who asks for one slot
//! reads two small pieces of the file, however large it is.

use super::postings::{Found, Posting, Postings};
use super::survey::Surveyed;
use super::wire::{Malformed, Reader, put_number};
use roaring::RoaringBitmap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A sparse page is closed at the next slot when it has passed this many bytes.
const PAGE_BYTES: usize = 4 << 10;
/// The slots of a dense page.
pub(super) const DENSE_SLOTS: u32 = 1 << 10;

/// Pages, each with the first slot or the group that it tells of.
pub(super) struct Pages {
    pub(super) sparse: Vec<(u32, Vec<u8>)>,
    pub(super) dense: Vec<(u32, Vec<u8>)>,
}

/// What one slot has in a segment, by the blocks' numbers in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    blocks: BTreeMap<u32, Found>,
}

impl Own {
    /// It may have anything in any of so many blocks.
    pub(super) fn all(blocks: u32) -> Own {
        Own { blocks: (0..blocks).map(|block| (block, Found::Much)).collect() }
    }

    /// It may have anything in this block.
    pub(super) fn add_much(&mut self, block: u32) {
        self.blocks.insert(block, Found::Much);
    }

    /// The first block from `block` on in which it has something, and what.
    pub(super) fn next(&self, block: u32) -> Option<(u32, &Found)> {
        self.blocks.range(block..).next().map(|(number, found)| (*number, found))
    }
}

/// The pages of a segment's blocks.
pub(super) fn write(blocks: Vec<Surveyed>) -> Pages {
    let mut sets: Vec<(RoaringBitmap, Vec<u32>)> = Vec::new();
    let mut postings = Vec::with_capacity(blocks.len());
    for (number, block) in (0..).zip(blocks) {
        let Some(known) = block.postings else { continue };
        let Postings { postings: own, sets: dense, .. } = known;
        // Blocks one after another mostly touch the same.
        match sets.iter_mut().rev().find(|(set, _)| *set == dense) {
            Some((_, numbers)) => numbers.push(number),
            None => sets.push((dense, vec![number])),
        }
        postings.push((number, own));
    }
    Pages { sparse: sparse_pages(&postings), dense: dense_pages(&sets) }
}

/// A page that is being filled: the slot before, the block before, and the records of that block.
#[derive(Default)]
struct SparsePage {
    first: Option<u32>,
    bytes: Vec<u8>,
    next: u64,
}

impl SparsePage {
    /// Appends what `slot` has: the places, with the number of their block.
    fn put(&mut self, slot: u32, own: &[(u32, u32)]) {
        self.first.get_or_insert(slot);
        let base = if self.bytes.is_empty() { slot.into() } else { self.next };
        put_number(&mut self.bytes, u64::from(slot) - base);
        self.next = u64::from(slot) + 1;
        let blocks = own.chunk_by(|one, next| one.0 == next.0);
        put_number(&mut self.bytes, blocks.clone().count() as u64);
        let mut next_block = 0;
        for places in blocks {
            let block = places.first().map_or(0, |(block, _)| *block);
            put_number(&mut self.bytes, u64::from(block - next_block));
            next_block = block;
            put_number(&mut self.bytes, places.len() as u64);
            let mut next = 0;
            for (_, at) in places {
                put_number(&mut self.bytes, u64::from(at - next));
                next = *at;
            }
        }
    }
}

fn sparse_pages(blocks: &[(u32, Box<[Posting]>)]) -> Vec<(u32, Vec<u8>)> {
    // Each block's are in order already.
    let posting = |index: usize, at: usize| blocks.get(index)?.1.get(at).copied();
    let first = |index| Some(Reverse((posting(index, 0)?.slot, index, 0)));
    let mut heap: BinaryHeap<_> = (0..blocks.len()).filter_map(first).collect();
    let (mut pages, mut page, mut own) = (Vec::new(), SparsePage::default(), Vec::new());
    while let Some(Reverse((slot, index, at))) = heap.pop() {
        let Some((number, postings)) = blocks.get(index) else { continue };
        let rest = postings.get(at..).unwrap_or_default();
        let places = rest.iter().take_while(|posting| posting.slot == slot);
        own.extend(places.map(|posting| (*number, posting.at)));
        let taken = rest.partition_point(|posting| posting.slot == slot);
        if let Some(next) = posting(index, at + taken) {
            heap.push(Reverse((next.slot, index, at + taken)));
        }
        if heap.peek().is_some_and(|Reverse((next, ..))| *next == slot) {
            continue;
        }
        page.put(slot, &own);
        own.clear();
        if page.bytes.len() > PAGE_BYTES || heap.is_empty() {
            let SparsePage { first, bytes, .. } = std::mem::take(&mut page);
            pages.extend(first.map(|first| (first, bytes)));
        }
    }
    pages
}

/// A group's slots as bits.
type Bits = [u64; DENSE_SLOTS as usize / 64];

fn dense_pages(sets: &[(RoaringBitmap, Vec<u32>)]) -> Vec<(u32, Vec<u8>)> {
    let mut groups: BTreeMap<u32, Vec<(Bits, Vec<u32>)>> = BTreeMap::new();
    for (set, blocks) in sets {
        let mut slots = set.iter().peekable();
        while let Some(first) = slots.next() {
            let group = first / DENSE_SLOTS;
            let mut bits = Bits::default();
            let mut add = |slot: u32| {
                let bit = slot % DENSE_SLOTS;
                bits[bit as usize / 64] |= 1 << (bit % 64);
            };
            add(first);
            while let Some(slot) = slots.next_if(|slot| slot / DENSE_SLOTS == group) {
                add(slot);
            }
            let known = groups.entry(group).or_default();
            match known.iter_mut().find(|(other, _)| *other == bits) {
                Some((_, numbers)) => numbers.extend(blocks),
                None => known.push((bits, blocks.clone())),
            }
        }
    }
    let page = |(group, mut parts): (u32, Vec<(Bits, Vec<u32>)>)| {
        let mut page = Vec::new();
        for (bits, blocks) in &mut parts {
            blocks.sort_unstable();
            let slots =
                (0..DENSE_SLOTS).filter(|slot| bits[*slot as usize / 64] >> (slot % 64) & 1 > 0);
            put_bits(&mut page, bits, slots);
            put_runs(&mut page, &runs(blocks.iter().copied()));
        }
        (group, page)
    };
    groups.into_iter().map(page).collect()
}

/// Numbers that rise, as runs of neighbours: first and last.
fn runs(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}

fn put_runs(out: &mut Vec<u8>, runs: &[(u32, u32)]) {
    put_number(out, runs.len() as u64);
    let mut next = 0;
    for (first, last) in runs {
        put_number(out, u64::from(first - next));
        put_number(out, u64::from(last - first));
        next = *last;
    }
}

/// As runs where these are shorter; none says that all bits follow.
fn put_bits(out: &mut Vec<u8>, bits: &Bits, slots: impl Iterator<Item = u32>) {
    let runs = runs(slots);
    // Two bytes a run, or four.
    if runs.len() * 3 < size_of::<Bits>() {
        put_runs(out, &runs);
        return;
    }
    put_number(out, 0);
    bits.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

fn rise(from: u32, by: u64) -> Result<u32, Malformed> {
    let number = u64::from(from).checked_add(by).and_then(|sum| u32::try_from(sum).ok());
    number.ok_or(Malformed("a number in a page passes 32 bits"))
}

/// Reads runs, and tells `each` of them.
fn read_runs(
    reader: &mut Reader<'_>,
    count: usize,
    mut each: impl FnMut(u32, u32) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut next = 0;
    for _ in 0..count {
        let first = rise(next, reader.number()?)?;
        let last = rise(first, reader.number()?)?;
        each(first, last)?;
        next = last;
    }
    Ok(())
}

/// Adds to `own` what the sparse page that begins with slot `first` has for `slot`, in a segment of
/// `blocks` blocks.
pub(super) fn find_sparse(
    page: &[u8],
    first: u32,
    slot: u32,
    blocks: u32,
    own: &mut Own,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(page);
    let mut next = u64::from(first);
    while reader.left() > 0 {
        let number =
            next.checked_add(reader.number()?).ok_or(Malformed("a slot passes 64 bits"))?;
        if number > u64::from(slot) {
            return Ok(());
        }
        let is_own = number == u64::from(slot);
        let mut block = 0;
        for _ in 0..reader.count()? {
            block = known(rise(block, reader.number()?)?, blocks)?;
            let mut places = Vec::new();
            let mut at = 0;
            for _ in 0..reader.count()? {
                at = rise(at, reader.number()?)?;
                if is_own {
                    places.push(at);
                }
            }
            if is_own {
                own.blocks.entry(block).or_insert(Found::Records(places));
            }
        }
        next = number + 1;
    }
    Ok(())
}

fn known(block: u32, blocks: u32) -> Result<u32, Malformed> {
    let wrong = Malformed("a page names a block that there is not");
    if block < blocks { Ok(block) } else { Err(wrong) }
}

/// Adds to `own` what the dense page has for slot `slot` of its group, in a segment of `blocks`
/// blocks.
pub(super) fn find_dense(
    page: &[u8],
    slot: u32,
    blocks: u32,
    own: &mut Own,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(page);
    while reader.left() > 0 {
        let mut is_in = false;
        match reader.count()? {
            0 => {
                let mut bits = reader.take(size_of::<Bits>())?.chunks_exact(8);
                let word = bits.nth(slot as usize / 64).and_then(<[u8]>::first_chunk);
                is_in = word.is_some_and(|word| u64::from_le_bytes(*word) >> (slot % 64) & 1 > 0);
            }
            count => read_runs(&mut reader, count, |first, last| {
                is_in |= (first..=last).contains(&slot);
                Ok(())
            })?,
        }
        let count = reader.count()?;
        read_runs(&mut reader, count, |first, last| {
            known(last, blocks)?;
            if is_in {
                (first..=last).for_each(|block| own.add_much(block));
            }
            Ok(())
        })?;
    }
    Ok(())
}
