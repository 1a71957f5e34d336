//! One shape's log, page by page, equals a list of what its slot was delivered.

use super::super::{
    BLOCK_BYTES_MAX, Encoder, Log, Page, ReadLimits, Syncer, in_memory, read_shape,
};
use super::file::{Folder, reopen};
use super::world::{Seen, World, op, show};
use crate::words::{
    Column, Fragment, Lsn, Offset, Relation, Routed, RowRef, Slot, TableName, Targets,
    TransactionBuilder, Value,
};
use crossbeam_channel::{TryRecvError, bounded};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const LIMITS: [ReadLimits; 4] = [
    ReadLimits { changes_max: usize::MAX, bytes_max: usize::MAX },
    ReadLimits { changes_max: 3, bytes_max: usize::MAX },
    ReadLimits { changes_max: usize::MAX, bytes_max: 90 },
    ReadLimits { changes_max: 0, bytes_max: 0 },
];

fn text_bytes(row: Option<RowRef<'_>>) -> usize {
    let text = |value| if let Value::Text(text) = value { text.len() } else { 0 };
    row.map_or(0, |row| row.values().map(text).sum())
}

fn page_bytes(page: &Page) -> usize {
    page.changes.iter().map(|c| text_bytes(c.old_row()) + text_bytes(c.new_row())).sum()
}

/// Reads `slot` from `after` to the end and compares each page. The log is smaller than what one
/// call looks at, so that a page ends only where the log ends or it is full.
fn check_from(world: &World, slot: Slot, expected: &[&Seen], after: Offset, limits: ReadLimits) {
    let mut at = after;
    loop {
        let page = read_shape(&world.log, slot, at, limits).unwrap();
        let mut rest = expected.iter().filter(|seen| seen.offset > at);
        for change in &page.changes {
            let seen = rest.next().expect("nothing else was delivered");
            let (old, new) = (change.old_row(), change.new_row());
            let shown = show(change.operation(), &old, &new, change.relation(), change.xid());
            assert_eq!((change.offset(), shown), (seen.offset, seen.shown.clone()));
            assert_eq!(change.commit_lsn(), seen.offset.commit);
            let next = rest.clone().next();
            let last = next.is_none_or(|next| next.offset.commit != seen.offset.commit);
            assert_eq!(change.is_last(), last, "{}", seen.offset);
        }
        let (len, bytes) = (page.changes.len(), page_bytes(&page));
        assert!(len <= 1 || len <= limits.changes_max && bytes <= limits.bytes_max);
        if page.up_to_date {
            assert!(rest.next().is_none() && page.through >= at);
            assert!(page.through >= Offset::commit_mark(world.durable_through));
            assert_eq!(page.ends_inside(), None);
            break;
        }
        let last = page.changes.last().expect("at least one change is always given");
        assert!(page.through >= last.offset() && page.through > at);
        let left_out = rest.next().expect("there is more");
        assert!(left_out.offset > page.through);
        let inside = left_out.offset.commit == last.commit_lsn();
        assert_eq!(page.ends_inside(), inside.then(|| last.commit_lsn()));
        let one_more = ReadLimits { changes_max: len + 1, bytes_max: usize::MAX };
        let longer = read_shape(&world.log, slot, at, one_more).unwrap();
        assert_eq!(longer.changes.len(), len + 1);
        assert!(len + 1 > limits.changes_max || page_bytes(&longer) > limits.bytes_max);
        at = page.through;
    }
}

pub(super) fn check_pages(world: &World) {
    let mut by_slot: BTreeMap<Slot, Vec<&Seen>> = BTreeMap::new();
    for seen in &world.durable {
        if let Some(slot) = seen.slot {
            by_slot.entry(slot).or_default().push(seen);
        }
    }
    let mut offsets: Vec<_> = world.durable.iter().map(|seen| seen.offset).collect();
    offsets.dedup();
    let start = world.log.start();
    offsets.retain(|&offset| offset >= start);
    let end = Offset::commit_mark(Lsn::new(world.lsn + 100));
    offsets.extend([start, end]);
    // The busiest, the quietest, and one that nothing was ever delivered to.
    let mut slots: Vec<_> = by_slot.iter().map(|(slot, seen)| (seen.len(), *slot)).collect();
    slots.sort();
    let ends = slots.iter().take(2).chain(slots.iter().rev().take(2)).map(|(_, slot)| *slot);
    for slot in ends.chain([Slot::new(100_000)]) {
        let expected = by_slot.get(&slot).map_or(&[][..], Vec::as_slice);
        for &after in &offsets {
            for limits in LIMITS {
                check_from(world, slot, expected, after, limits);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_page_from_every_position_is_what_the_slot_was_delivered(
        ops in prop::collection::vec(op(), 1..60), block_bytes in 0usize..3000, file: bool,
    ) {
        let folder = Folder::new();
        let parts =
            if file { reopen(&folder, block_bytes).parts() } else { in_memory(block_bytes) };
        let mut world = World::new(parts);
        for (index, op) in ops.iter().enumerate() {
            world.apply(op);
            if index % 12 == 0 {
                check_pages(&world);
            }
        }
        world.sync();
        check_pages(&world);
        world.log.trim(Lsn::new(world.lsn / 2 + 50));
        check_pages(&world);
    }
}

fn table() -> Arc<Relation> {
    let columns = vec![Column::new("n", 20, true), Column::new("body", 25, false)];
    Arc::new(Relation::new(1, TableName::new("public", "items"), columns))
}

fn log_to(encoder: &mut Encoder, fragment: &Fragment, slots: &[&[u32]]) {
    let targets = |slots: &[u32]| Targets {
        slots: slots.iter().map(|&slot| Slot::new(slot)).collect(),
        ..Targets::default()
    };
    let routed = slots.iter().enumerate().map(|(change, slots)| Routed {
        change: change as u32,
        as_is: targets(slots),
        ..Routed::default()
    });
    encoder.fragment(fragment, &routed.collect::<Vec<_>>()).unwrap();
}

/// After a reopen nothing is known of the blocks until somebody has decoded them.
#[test]
fn a_quiet_shape_s_reader_is_let_go_in_a_large_log() {
    let (mut encoder, mut syncer, log) = in_memory(BLOCK_BYTES_MAX);
    let (table, body) = (table(), vec![b'x'; 1 << 16]);
    let commit = |encoder: &mut Encoder, syncer: &mut Syncer, lsn: u64, slot: u32| {
        let mut transaction = TransactionBuilder::new(1, Lsn::new(lsn));
        transaction.insert(&table, [Value::Null, Value::Text(&body)]).unwrap();
        log_to(encoder, &transaction.commit(Lsn::new(lsn + 1)), &[&too_many(slot)]);
        syncer.commit(&encoder.take(Vec::new())).unwrap();
    };
    for lsn in 1..=130 {
        commit(&mut encoder, &mut syncer, 10 * lsn, if lsn == 75 { 9 } else { 1 });
    }
    // Twice: what is known of the blocks since the first time changes the number of pages alone.
    for pages_expected in [5, 1] {
        let (mut at, mut found) = (Offset::ZERO, Vec::new());
        let mut pages = 0;
        loop {
            let page = read_shape(&log, Slot::new(9), at, ReadLimits::default()).unwrap();
            found.extend(page.changes.iter().map(|change| change.offset()));
            pages += 1;
            assert!(page.through > at);
            at = page.through;
            if page.up_to_date {
                break;
            }
        }
        assert_eq!(found, [Offset::new(Lsn::new(750), 0)]);
        assert_eq!(at, Offset::commit_mark(Lsn::new(1300)));
        assert_eq!(pages, pages_expected, "16 MiB and a bit");
    }
    commit(&mut encoder, &mut syncer, 2000, 9);
    let page = read_shape(&log, Slot::new(9), Offset::new(Lsn::new(1300), 0), LIMITS[0]).unwrap();
    assert!(page.up_to_date && page.changes.len() == 1);
}

/// `slot`, and so many others that nothing is known of a block before it was decoded.
fn too_many(slot: u32) -> Vec<u32> {
    [slot].into_iter().chain(1_000..67_000).collect()
}

/// A page ends where it has looked at enough, but not before it knows of its last change whether
/// that is the last of its transaction.
#[test]
fn a_page_that_has_looked_at_enough_knows_whether_its_transaction_goes_on() {
    let (table, body) = (table(), vec![b'x'; 1 << 19]);
    for goes_on in [false, true] {
        let (mut encoder, mut syncer, log) = in_memory(BLOCK_BYTES_MAX);
        let mut large = TransactionBuilder::new(1, Lsn::new(10));
        for part in 0..=20 {
            large.insert(&table, [Value::Null, Value::Text(&body)]).unwrap();
            let own = part == 0 || part == 20 && goes_on;
            log_to(&mut encoder, &large.cut(), &[&too_many(if own { 9 } else { 1 })]);
            syncer.commit(&encoder.take(Vec::new())).unwrap();
        }
        log_to(&mut encoder, &large.commit(Lsn::new(11)), &[]);
        syncer.commit(&encoder.take(Vec::new())).unwrap();
        let page = read_shape(&log, Slot::new(9), Offset::ZERO, ReadLimits::default()).unwrap();
        let last: Vec<_> = page.changes.iter().map(|change| change.is_last()).collect();
        assert_eq!(last, [!goes_on]);
        assert_eq!(page.ends_inside(), goes_on.then_some(Lsn::new(10)));
        let rest = read_shape(&log, Slot::new(9), page.through, ReadLimits::default()).unwrap();
        let last: Vec<_> = rest.changes.iter().map(|change| change.is_last()).collect();
        assert_eq!(last, [true; 1][..usize::from(goes_on)]);
        assert!(rest.up_to_date);
    }
}

/// What was known of a block while a part of it could not be read is not believed afterwards.
#[test]
fn a_transaction_that_commits_late_is_found_in_blocks_that_were_read_before() {
    let (mut encoder, mut syncer, log) = in_memory(0);
    let table = table();
    let mut sync = |encoder: &mut Encoder| syncer.commit(&encoder.take(Vec::new())).unwrap();
    let mut first = TransactionBuilder::new(1, Lsn::new(10));
    first.insert(&table, [Value::Null, Value::Null]).unwrap();
    log_to(&mut encoder, &first.commit(Lsn::new(11)), &[&[1]]);
    let mut large = TransactionBuilder::new(2, Lsn::new(20));
    let mut logged = 0;
    for _ in 0..3 {
        large.insert(&table, [Value::Null, Value::Null]).unwrap();
        log_to(&mut encoder, &large.cut(), &[&[2]]);
        sync(&mut encoder);
        logged += 1;
        if logged == 1 {
            // The first block is not closed yet: what is known of it would not be kept.
            continue;
        }
        let page = read_shape(&log, Slot::new(2), Offset::ZERO, LIMITS[0]).unwrap();
        assert!(page.up_to_date && page.changes.is_empty());
        assert_eq!(page.through, Offset::commit_mark(Lsn::new(10)));
    }
    log_to(&mut encoder, &large.commit(Lsn::new(21)), &[]);
    sync(&mut encoder);
    let page = read_shape(&log, Slot::new(2), Offset::ZERO, LIMITS[0]).unwrap();
    assert_eq!((page.changes.len(), page.up_to_date), (logged, true));
    assert_eq!(page.through, Offset::commit_mark(Lsn::new(20)));
}

const TRANSACTIONS: u64 = 1_500;
const SLOTS: u64 = 3;

/// Logs transactions of several fragments, in batches that end anywhere. Change `n` goes to slot
/// `n % SLOTS` and to slot `SLOTS`. Before a batch is synced, its last commit is laid in `allowed`.
fn write(encoder: &mut Encoder, allowed: &Mutex<Lsn>, mut commit: impl FnMut(&mut Encoder)) -> u64 {
    let (table, mut number) = (table(), 0);
    for index in 1..=TRANSACTIONS {
        let lsn = Lsn::new(index * 10);
        let mut transaction = TransactionBuilder::new(index as u32, lsn);
        for part in 0..index % 4 {
            let mut slots = Vec::new();
            for _ in 0..=part {
                let text = number.to_string();
                transaction.insert(&table, [Value::Text(text.as_bytes()), Value::Null]).unwrap();
                slots.push([(number % SLOTS) as u32, SLOTS as u32]);
                number += 1;
            }
            let slots: Vec<_> = slots.iter().map(<[u32; 2]>::as_slice).collect();
            log_to(encoder, &transaction.cut(), &slots);
            if number % 5 == 0 {
                commit(encoder);
            }
        }
        let last = transaction.commit(Lsn::new(index * 10 + 1));
        *allowed.lock() = lsn;
        log_to(encoder, &last, &[]);
        if index % 3 == 0 || index == TRANSACTIONS {
            commit(encoder);
        }
    }
    number
}

/// Reads `slot` until `finished` says that nothing more is written and everything was read.
fn follow(log: &Log, slot: u64, allowed: &Mutex<Lsn>, finished: impl Fn() -> bool) -> Vec<u64> {
    let (mut at, mut numbers) = (Offset::ZERO, Vec::new());
    let limits = ReadLimits { changes_max: 1 + slot as usize * 7, ..ReadLimits::default() };
    loop {
        let last = finished();
        let page = read_shape(log, Slot::new(slot as u32), at, limits).unwrap();
        let allowed = *allowed.lock();
        for change in &page.changes {
            assert!(change.offset() > at && change.offset() <= page.through);
            assert!(change.commit_lsn() <= allowed, "{} of {allowed}", change.offset());
            let Some(Value::Text(number)) = change.new_row().unwrap().get(0) else { panic!() };
            numbers.push(std::str::from_utf8(number).unwrap().parse().unwrap());
            at = change.offset();
        }
        assert!(page.through >= at);
        at = page.through;
        if page.up_to_date && last {
            return numbers;
        }
    }
}

#[test]
fn readers_beside_a_writer_see_no_gap_no_repeat_and_nothing_uncommitted() {
    let (mut encoder, mut syncer, log) = in_memory(2_000);
    let allowed = &Mutex::new(Lsn::ZERO);
    let log = &log;
    // Disconnected when the writer is through, or has panicked.
    let (writes, written) = bounded::<()>(0);
    let written = &written;
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let _writes = writes;
            write(&mut encoder, allowed, |encoder| {
                syncer.commit(&encoder.take(Vec::new())).unwrap();
            })
        });
        let finished = || written.try_recv() == Err(TryRecvError::Disconnected);
        let read = |slot| move || follow(log, slot, allowed, finished);
        let readers = [0, 1, 2, SLOTS].map(|slot| (slot, scope.spawn(read(slot))));
        let count = writer.join().unwrap();
        for (slot, reader) in readers {
            let own = |number: &u64| slot == SLOTS || number % SLOTS == slot;
            let expected: Vec<_> = (0..count).filter(own).collect();
            assert_eq!(reader.join().unwrap(), expected, "slot {slot}");
        }
    });
}
