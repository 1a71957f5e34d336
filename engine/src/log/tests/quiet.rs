//! A shape that has little in a busy log: its reader reads its own records and not the blocks that
//! they lie in, and gets what it would have got from these.

use super::super::device::{Device, MemoryDevice, ReadAt};
use super::super::postings::Found;
use super::super::records::{self, Scratch};
use super::super::store::on_empty;
use super::super::{Encoder, Log, ReadLimits, Syncer, in_memory, read_shape};
use crate::sync::{AtomicU64, Ordering};
use crate::words::{
    Column, Lsn, Offset, Relation, Routed, SharedSet, Slot, TableName, Targets, TransactionBuilder,
    Value,
};
use roaring::RoaringBitmap;
use std::io;
use std::sync::Arc;

/// Counts what is read of it.
#[derive(Default)]
struct Counting {
    device: MemoryDevice,
    read: Arc<AtomicU64>,
}

struct CountingBytes {
    bytes: Arc<dyn ReadAt>,
    read: Arc<AtomicU64>,
}

impl Device for Counting {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.device.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.device.sync()
    }

    fn len(&self) -> u64 {
        self.device.len()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.device.truncate(len)
    }

    fn reader(&self) -> Arc<dyn ReadAt> {
        Arc::new(CountingBytes { bytes: self.device.reader(), read: Arc::clone(&self.read) })
    }
}

impl ReadAt for CountingBytes {
    fn name(&self) -> &str {
        self.bytes.name()
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        self.read.fetch_add(into.len() as u64, Ordering::Relaxed);
        self.bytes.read_at(into, position)
    }

    fn release(&self, position: u64) -> bool {
        self.bytes.release(position)
    }
}

pub(super) const BLOCK_BYTES: usize = 64 << 10;
pub(super) const QUIET: u32 = 7;
const RARE: u32 = 8;

pub(super) struct Writer {
    encoder: Encoder,
    syncer: Syncer,
    table: Arc<Relation>,
    busy: SharedSet,
    rare: SharedSet,
    pub(super) lsn: u64,
}

impl Writer {
    pub(super) fn new(encoder: Encoder, syncer: Syncer) -> Writer {
        let columns = vec![Column::new("n", 20, true), Column::new("body", 25, false)];
        let table = Arc::new(Relation::new(1, TableName::new("public", "items"), columns));
        let set = |id, slots: &[u32]| {
            let slots = RoaringBitmap::from_iter(slots.iter().copied());
            SharedSet { id, slots: Arc::new(slots) }
        };
        let (busy, rare) = (set(1, &[1, 2, 3]), set(2, &[RARE]));
        Writer { encoder, syncer, table, busy, rare, lsn: 0 }
    }

    /// A transaction of three changes, of which the second goes to `slots` too. Its commit LSN.
    pub(super) fn commit(&mut self, slots: &[u32], rare: bool) -> Lsn {
        self.lsn += 10;
        let mut transaction = TransactionBuilder::new(1, Lsn::new(self.lsn));
        let number = self.lsn.to_string();
        for _ in 0..3 {
            let row = [Value::Text(number.as_bytes()), Value::Text(&[b'x'; 90])];
            transaction.insert(&self.table, row).unwrap();
        }
        let fragment = transaction.commit(Lsn::new(self.lsn + 1));
        let routed = [0, 1, 2].map(|change| {
            let mut sets = vec![self.busy.clone()];
            sets.extend((rare && change == 1).then(|| self.rare.clone()));
            let slots = if change == 1 { slots } else { &[20 + change] };
            let slots = slots.iter().copied().map(Slot::new).collect();
            let as_is = Targets { sets: sets.into(), slots };
            Routed { change, as_is, ..Routed::default() }
        });
        self.encoder.fragment(&fragment, &routed).unwrap();
        self.syncer.commit(&self.encoder.take(Vec::new())).unwrap();
        Lsn::new(self.lsn)
    }
}

/// All offsets of `slot`, and how many bytes were read to get them.
pub(super) fn read_all(log: &Log, read: &AtomicU64, slot: u32) -> (Vec<Offset>, u64) {
    let before = read.load(Ordering::Relaxed);
    let (mut offsets, mut at) = (Vec::new(), Offset::ZERO);
    loop {
        let page = read_shape(log, Slot::new(slot), at, ReadLimits::default()).unwrap();
        for change in &page.changes {
            let Some(Value::Text(number)) = change.new_row().unwrap().get(0) else { panic!() };
            assert_eq!(number, change.commit_lsn().as_u64().to_string().as_bytes());
            assert_eq!(change.relation().table.name.as_ref(), "items");
            assert!(change.is_last());
            offsets.push(change.offset());
        }
        at = page.through;
        if page.up_to_date {
            return (offsets, read.load(Ordering::Relaxed) - before);
        }
    }
}

#[test]
fn a_quiet_shape_s_reader_reads_its_own_records() {
    let device = Counting::default();
    let read = Arc::clone(&device.read);
    let (encoder, syncer, log) = on_empty(Box::new(device), BLOCK_BYTES);
    let mut writer = Writer::new(encoder, syncer);
    let (mut quiet, mut rare) = (Vec::new(), Vec::new());
    while log.bytes() < 40 * BLOCK_BYTES as u64 {
        let number = writer.lsn / 10;
        let own: &[u32] = if number % 1_000 == 500 { &[QUIET, 300] } else { &[300] };
        let is_rare = number % 2_000 == 700;
        let offset = Offset::new(writer.commit(own, is_rare), 2);
        quiet.extend((own.len() > 1).then_some(offset));
        rare.extend(is_rare.then_some(offset));
    }
    assert!(quiet.len() > 5 && rare.len() > 2);
    let block = BLOCK_BYTES as u64 + 1_000;
    // The open block, and for each of its records that and the table's.
    let (offsets, bytes) = read_all(&log, &read, QUIET);
    assert_eq!(offsets, quiet);
    assert!(bytes <= block + quiet.len() as u64 * 2 * 4_096, "{bytes}");
    // Nobody's: nothing but the open block, which is decoded by now.
    assert_eq!(read_all(&log, &read, 50), (Vec::new(), 0));
    // Who has something by a set: the blocks in which the set is written, and no others.
    let (offsets, bytes) = read_all(&log, &read, RARE);
    assert_eq!(offsets, rare);
    assert!(bytes <= block * rare.len() as u64, "{bytes}");
    // Who is in everything.
    let (all, _) = read_all(&log, &read, 300);
    assert_eq!(all.len() as u64, writer.lsn / 10);
}

/// Sends a part of a transaction that goes to `slot`; its last one, if it `commits`.
fn part(encoder: &mut Encoder, lsn: u64, slot: u32, commits: bool) {
    let table = Arc::new(Relation::new(1, TableName::new("public", "t"), Vec::new()));
    let mut transaction = TransactionBuilder::new(1, Lsn::new(lsn));
    transaction.insert(&table, []).unwrap();
    let end = Lsn::new(lsn + 1);
    let fragment = if commits { transaction.commit(end) } else { transaction.cut() };
    let slots = [Slot::new(slot)].into_iter().collect();
    let as_is = Targets { slots, ..Targets::default() };
    encoder.fragment(&fragment, &[Routed { as_is, ..Routed::default() }]).unwrap();
}

fn commits_of(log: &Log, slot: u32) -> Vec<u64> {
    let page = read_shape(log, Slot::new(slot), Offset::ZERO, ReadLimits::default()).unwrap();
    assert!(page.up_to_date);
    page.changes.iter().map(|change| change.commit_lsn().as_u64()).collect()
}

/// What was begun and never committed is nobody's, also where its records are known one by one.
#[test]
fn records_of_a_void_transaction_are_passed_over() {
    let (mut encoder, mut syncer, log) = in_memory(200);
    for lsn in (10..200).step_by(10) {
        // Every third is never committed: another one begins, so that it is over.
        part(&mut encoder, lsn, QUIET, lsn % 30 != 0);
        syncer.commit(&encoder.take(Vec::new())).unwrap();
    }
    let committed: Vec<_> = (10..200).step_by(10).filter(|lsn| lsn % 30 != 0).collect();
    assert_eq!(commits_of(&log, QUIET), committed);
}

/// A reader that looked a block up before the rest of it came reads as far as it was then.
#[test]
fn records_that_came_after_the_look_up_are_left_for_the_next_one() {
    let (mut encoder, mut syncer, log) = in_memory(100);
    let mut commit = |lsn| {
        part(&mut encoder, lsn, QUIET, true);
        syncer.commit(&encoder.take(Vec::new())).unwrap();
    };
    commit(10);
    let view = log.view(Offset::ZERO).unwrap().unwrap();
    (2..9).for_each(|number| commit(10 * number));
    let (postings, found) = log.cache().find(&view, Slot::new(QUIET));
    let (Some(postings), Found::Records(places)) = (postings, found) else { panic!() };
    assert!(places.len() > 1);
    let relations = &postings.relations;
    let mut scratch = Scratch::default();
    let slot = Slot::new(QUIET);
    let chunk = records::read(&log, &view, relations, slot, &places, &mut scratch).unwrap();
    assert_eq!((chunk.entries.len(), chunk.through), (1, view.through));
    assert_eq!(commits_of(&log, QUIET), (1..9).map(|number| 10 * number).collect::<Vec<_>>());
}
