//! Trial: any bytes in the place of a sealed index, for the fuzz target and the tests. A log of
//! some files is written once; then one of its indexes is replaced, and the log is opened and read.
//!
//! What does not have the right checksums is no index: the same shapes come back, each reader gets
//! the same, and the right index is written again. What has them and says something else was made
//! by somebody, or here: then nothing is promised but that it ends, and nobody panics.

use super::files::index_name;
use super::header::{HEADER_BYTES, SEGMENT_HEADER_BYTES};
use super::sealed::{Owner, Table, assemble, read_head};
use super::shelf::Bytes;
use super::simulated::{SimulatedDisk, identity};
use super::{LogError, ReadLimits, RecoverError, Recovered, read_shape};
use crate::words::{
    Column, Handle, Lsn, Offset, Relation, Routed, ShapeDefinition, SharedSet, Slot, TableName,
    TransactionBuilder, Value,
};
use roaring::RoaringBitmap;
use std::ops::Range;
use std::sync::Arc;

const SHAPES: u32 = 40;
const TRANSACTIONS: u64 = 30;
/// No shape's log has so many pages, even if each says that there is more.
const PAGES_MAX: usize = 200;

/// How bytes become an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// They are the file.
    Whole,
    /// They are its sections, and get the checksums that belong to them.
    Sections,
    /// They say which bytes of the right file are others: 2 bytes where, 1 how.
    Edits,
    /// The same, and the file gets the checksums that belong to it then.
    SealedEdits,
}

impl Way {
    const ALL: [Way; 4] = [Way::Whole, Way::Sections, Way::Edits, Way::SealedEdits];
}

/// A log, and what becomes of it with any bytes in the place of an index.
pub struct Trial {
    disk: SimulatedDisk,
    /// The right indexes, each with whose it is.
    indexes: Vec<(Owner, Vec<u8>)>,
    /// What each slot has.
    logs: Vec<Vec<Offset>>,
}

impl Trial {
    /// Writes the log.
    #[allow(clippy::new_without_default, reason = "it is no value, but some work")]
    pub fn new() -> Trial {
        let disk = SimulatedDisk::new(1);
        let (mut found, _) = disk.recover(0, 1, None).expect("a new disk is opened");
        write(&mut found);
        while found.log.seal().expect("a whole segment is sealed") {}
        let logs = read_all(&found).expect("what was written is read");
        let mut trial = Trial { disk, indexes: Vec::new(), logs };
        while let Some(bytes) = trial.disk.contents(&index_name(0, trial.indexes.len() as u32)) {
            let owner = trial.owner(trial.indexes.len() as u32);
            trial.indexes.push((owner, bytes));
        }
        trial
    }

    fn owner(&self, number: u32) -> Owner {
        let len = |number| {
            let file = self.disk.contents(&super::files::file_name(0, number));
            file.map_or(0, |file| file.len() as u64)
        };
        let mut start = HEADER_BYTES as u64;
        let mut end = len(0);
        for next in 1..=number {
            (start, end) = (end, end + len(next) - SEGMENT_HEADER_BYTES as u64);
        }
        Owner { identity: identity(0, 1), number, bytes: start..end }
    }

    /// Puts what `input` says in the place of an index, and looks what comes of it. Its first byte
    /// says how the others become an index, and whose.
    ///
    /// # Panics
    /// When something is lost or another one's, when a wrong index stays, or on a fault.
    pub fn run(&self, input: &[u8]) {
        let Some((&first, bytes)) = input.split_first() else { return };
        let way = Way::ALL[usize::from(first) % Way::ALL.len()];
        let chosen = usize::from(first) / Way::ALL.len() % self.indexes.len();
        let (owner, right) = &self.indexes[chosen];
        let image = image(way, owner, right, bytes);
        let name = index_name(0, owner.number);
        let disk = self.disk.copy();
        disk.overwrite(&name, &image);
        let is_index = is_index(owner, &image);
        assert!(is_index || image != *right, "the right index is none");
        let outcome = open_and_read(&disk);
        let has_checksums = matches!(way, Way::Sections | Way::SealedEdits);
        if (is_index || has_checksums) && image != *right {
            // Each section is taken by its own checksum. One that is right over other content says
            // what was never written: that is found, or is not, and takes nothing down.
            return;
        }
        let (shapes, logs) = outcome.expect("a log without an index is opened and read");
        assert_eq!(shapes, SHAPES as usize);
        assert!(logs == self.logs, "a shape's log is another: {way:?}");
        assert!(disk.contents(&name).as_ref() == Some(right), "the index was not built anew");
    }
}

/// Whether all of its checksums are right, and what they cover can be read.
fn is_index(owner: &Owner, image: &[u8]) -> bool {
    let (file, len) = (Bytes(image), image.len() as u64);
    let table = Table::read(owner, &file, len);
    let checked = table.and_then(|table| table.check(&file));
    checked.and_then(|()| read_head(owner, &file, len)).is_ok()
}

fn image(way: Way, owner: &Owner, right: &[u8], bytes: &[u8]) -> Vec<u8> {
    match way {
        Way::Whole => bytes.to_vec(),
        Way::Edits => edited(right, bytes),
        Way::Sections => {
            let Some((&[table, head], rest)) = bytes.split_first_chunk() else {
                return Vec::new();
            };
            let (table, rest) = rest.split_at(usize::from(table).min(rest.len()));
            let (head, pages) = rest.split_at(usize::from(head).min(rest.len()));
            sealed(owner, table, head, pages)
        }
        Way::SealedEdits => {
            let edited = edited(right, bytes);
            // Where the sections of the right file lie; its pages follow, to the end.
            let at = |from: usize| {
                let bytes = right.get(from..).and_then(<[u8]>::first_chunk::<8>);
                u64::from_le_bytes(*bytes.expect("an index has a header")) as usize
            };
            let (table_end, head_end) = (at(56), at(64));
            let part = |range: Range<usize>| edited.get(range.start + 4..range.end);
            let (table, head) = (part(76..table_end), part(table_end..head_end));
            let mut pages = Vec::new();
            // Without their checksums.
            for page in Table::read(owner, &Bytes(right), right.len() as u64)
                .expect("the right index is read")
                .pages()
            {
                pages.extend_from_slice(part(page).unwrap_or_default());
            }
            sealed(owner, table.unwrap_or_default(), head.unwrap_or_default(), &pages)
        }
    }
}

fn edited(right: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut image = right.to_vec();
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % image.len();
        image[at] ^= edit[2];
    }
    image
}

/// An index of these sections, whose pages are as long as its table says.
fn sealed(owner: &Owner, table: &[u8], head: &[u8], pages: &[u8]) -> Vec<u8> {
    let empty = assemble(owner, table, head, std::iter::empty());
    let lens = Table::page_lens(owner, table, empty.len() as u64).unwrap_or_default();
    let mut left = pages;
    let pages = lens.into_iter().map(|len| {
        let (page, rest) = left.split_at(len.min(left.len()));
        left = rest;
        page
    });
    assemble(owner, table, head, pages)
}

/// Shapes, and transactions that go to one of them, to some and to all.
fn write(found: &mut Recovered) {
    let columns = vec![Column::new("id", 20, true), Column::new("kind", 25, false)];
    let relation = Arc::new(Relation::new(1, TableName::new("public", "items"), columns));
    let commit = |found: &mut Recovered| {
        let batch = found.encoder.take(Vec::new());
        found.syncer.commit(&batch).expect("memory takes it");
    };
    for slot in 0..SHAPES {
        let clause = format!("id = {slot}");
        let definition = ShapeDefinition::filtered(relation.table.clone(), &clause);
        let (slot, handle) = (Slot::new(slot), Handle::new(slot.into()));
        let told = (&definition, false);
        let added = found.encoder.add_shape(slot, handle, Offset::ZERO, &relation, told);
        added.expect("a shape fits a record");
        if slot.as_u32() % 16 == 0 {
            commit(found);
        }
    }
    let all = Arc::new(RoaringBitmap::from_iter(0..SHAPES));
    for number in 1..=TRANSACTIONS {
        let id = number.to_string();
        let mut transaction = TransactionBuilder::new(number as u32, Lsn::new(10 * number));
        let mut routed = Vec::new();
        for change in 0..number % 3 + 1 {
            let row = [Value::Text(id.as_bytes()), Value::Text(b"hot")];
            transaction.insert(&relation, row).expect("a row has the table's columns");
            let mut to = Routed { change: change as u32, ..Routed::default() };
            match (number + change) % 4 {
                0 => to.as_is.sets.push(SharedSet { id: 1, slots: Arc::clone(&all) }),
                1 => to.as_is.slots.push(Slot::new(number as u32 % SHAPES)),
                _ => to.as_is.slots.extend([3, 7, 35].map(Slot::new)),
            }
            routed.push(to);
        }
        let fragment = transaction.commit(Lsn::new(10 * number + 1));
        found.encoder.fragment(&fragment, &routed).expect("a fragment fits a record");
        commit(found);
    }
}

/// The shapes, and what each slot has. Reads as much as a right log would take; then seals what is
/// to be sealed.
fn open_and_read(disk: &SimulatedDisk) -> Result<(usize, Vec<Vec<Offset>>), TrialError> {
    let (found, _) = disk.recover(0, 1, None)?;
    let logs = read_all(&found)?;
    while found.log.seal().map_err(|_| TrialError)? {}
    Ok((found.shapes.len(), logs))
}

/// What the log said is of no interest here.
#[derive(Debug)]
struct TrialError;

impl From<RecoverError> for TrialError {
    fn from(_: RecoverError) -> TrialError {
        TrialError
    }
}

impl From<LogError> for TrialError {
    fn from(_: LogError) -> TrialError {
        TrialError
    }
}

fn read_all(found: &Recovered) -> Result<Vec<Vec<Offset>>, LogError> {
    (0..SHAPES).map(|slot| read(found, Slot::new(slot))).collect()
}

fn read(found: &Recovered, slot: Slot) -> Result<Vec<Offset>, LogError> {
    let (mut offsets, mut after) = (Vec::new(), Offset::ZERO);
    for _ in 0..PAGES_MAX {
        let page = read_shape(&found.log, slot, after, ReadLimits::default())?;
        offsets.extend(page.changes.iter().map(|change| change.offset()));
        after = page.through;
        if page.up_to_date {
            break;
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    thread_local! {
        static TRIAL: Trial = Trial::new();
    }

    #[test]
    fn the_log_has_indexes_with_pages_of_both_kinds_and_its_right_ones_are_taken() {
        TRIAL.with(|trial| {
            assert!(trial.indexes.len() > 5, "{}", trial.indexes.len());
            for number in 0..trial.indexes.len() as u8 {
                for way in [2, 3] {
                    trial.run(&[number * 4 + way]);
                }
            }
        });
    }

    /// Bytes in which counts and lengths are small, as those of an index are, and any others.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![3 => 0..4_u8, 1 => any::<u8>()];
        prop::collection::vec(byte, 0..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_in_the_place_of_an_index_are_built_anew_or_refused(
            first: u8,
            bytes in bytes(),
        ) {
            TRIAL.with(|trial| trial.run(&[&[first][..], &bytes].concat()));
        }
    }
}
