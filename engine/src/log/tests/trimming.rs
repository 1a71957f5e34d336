//! Dropping the front of a log in memory: what is dropped gives its memory back, what is open or
//! being read stays whole.

use super::super::device::{Device, MemoryDevice, ReadAt};
use super::super::store::on_empty;
use super::super::{Chunk, Encoder, Log, LogError, ReadLimits, Syncer, in_memory, read_shape};
use crate::words::{
    Column, Fragment, Lsn, Offset, Relation, Routed, Slot, TableName, Targets, TransactionBuilder,
    Value,
};
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use std::sync::{Arc, Weak};

struct Writer {
    encoder: Encoder,
    syncer: Syncer,
    table: Arc<Relation>,
    slot: Slot,
    /// The bytes written so far.
    end: u64,
}

impl Writer {
    fn new(encoder: Encoder, syncer: Syncer) -> Writer {
        let columns = vec![Column::new("body", 25, false)];
        let table = Arc::new(Relation::new(1, TableName::new("public", "items"), columns));
        Writer { encoder, syncer, table, slot: Slot::new(0), end: 0 }
    }

    /// One change of 100 bytes more.
    fn insert(&self, transaction: &mut TransactionBuilder) {
        transaction.insert(&self.table, [Value::Text(&[b'x'; 100])]).unwrap();
    }

    fn log(&mut self, fragment: &Fragment) {
        let slots = [self.slot].into_iter().collect();
        let as_is = Targets { slots, ..Targets::default() };
        let routed = Routed { as_is, ..Routed::default() };
        let routed = if fragment.is_empty() { &[][..] } else { &[routed] };
        self.encoder.fragment(fragment, routed).unwrap();
        let batch = self.encoder.take(Vec::new());
        self.syncer.commit(&batch).unwrap();
        self.end += batch.len() as u64;
    }

    /// A transaction of one change, in a batch of its own.
    fn commit(&mut self, lsn: u64) {
        let mut transaction = TransactionBuilder::new(lsn as u32, Lsn::new(lsn));
        self.insert(&mut transaction);
        self.log(&transaction.commit(Lsn::new(lsn + 1)));
    }
}

/// How many bytes below `end` can be read, which must be the last ones.
fn held(bytes: &dyn ReadAt, end: u64) -> u64 {
    let holds = |position| bytes.read_at(&mut [0], position).is_ok();
    let first = (0..end).find(|&position| holds(position)).unwrap_or(end);
    assert!((first..end).all(holds));
    end - first
}

fn read_all(log: &Log) -> Vec<Weak<Chunk>> {
    let (mut at, mut chunks) = (log.start(), Vec::new());
    while let Some(chunk) = log.read(at).unwrap() {
        at = chunk.through;
        chunks.push(Arc::downgrade(&chunk));
    }
    chunks
}

#[test]
fn what_is_dropped_gives_its_memory_back_once_no_reader_holds_it() {
    let device = MemoryDevice::default();
    let bytes = device.reader();
    let (encoder, syncer, log) = on_empty(Box::new(device), 500);
    let mut writer = Writer::new(encoder, syncer);
    (1..=24).for_each(|n| writer.commit(10 * n));
    let end = writer.end;
    assert_eq!((log.bytes(), held(&*bytes, end)), (end, end));
    let chunks = read_all(&log);
    assert!(chunks.len() > 4);
    let reader = log.read(Offset::ZERO).unwrap().unwrap();
    let left = log.trim(Lsn::new(200));
    assert!(left > 0 && left < end / 3, "{left} of {end}");
    assert_eq!((left, held(&*bytes, end)), (log.bytes(), left));
    // The reader's chunk is the first, and goes with the reader.
    let alive = |chunks: &[Weak<_>]| chunks.iter().filter(|c| c.strong_count() > 0).count();
    assert_eq!(reader.entries[0].fragment.commit_lsn(), Lsn::new(10));
    let with_reader = alive(&chunks);
    drop(reader);
    assert_eq!(alive(&chunks), with_reader - 1);
    assert_eq!(alive(&chunks), read_all(&log).len());
    // All but the last block, which is still written to.
    log.trim(Lsn::MAX);
    assert_eq!((log.bytes(), read_all(&log).len()), (held(&*bytes, end), 1));
}

#[test]
fn an_open_transaction_keeps_all_that_follows_its_beginning() {
    let device = MemoryDevice::default();
    let bytes = device.reader();
    let (encoder, syncer, log) = on_empty(Box::new(device), 500);
    let mut writer = Writer::new(encoder, syncer);
    (1..=10).for_each(|n| writer.commit(10 * n));
    let mut large = TransactionBuilder::new(1, Lsn::new(200));
    for _ in 0..20 {
        writer.insert(&mut large);
        writer.log(&large.cut());
    }
    let open_bytes = 20 * 100;
    let left = log.trim(Lsn::MAX);
    assert!(left > open_bytes, "{left}");
    writer.log(&large.commit(Lsn::new(201)));
    let page = read_shape(&log, writer.slot, log.start(), ReadLimits::default()).unwrap();
    let large = page.changes.iter().filter(|change| change.commit_lsn() == Lsn::new(200));
    assert_eq!(large.count(), 20);
    let left = log.trim(Lsn::MAX);
    assert!(left < 1_000 && log.start().commit == Lsn::new(200), "{left}");
    assert_eq!(held(&*bytes, writer.end), left);
}

/// Transactions are 10 apart: a reader misses none, except those that it was told it missed.
fn follow(log: &Log, written: &Receiver<()>) -> (u64, u64) {
    let (mut at, mut seen, mut behind) = (Offset::commit_mark(Lsn::ZERO), 0, 0);
    loop {
        let last = written.try_recv() == Err(TryRecvError::Disconnected);
        match log.read(at) {
            Ok(Some(chunk)) => {
                for entry in chunk.after(at) {
                    let commit = entry.fragment.commit_lsn();
                    assert_eq!(commit.as_u64(), at.commit.as_u64() + 10);
                    at = Offset::commit_mark(commit);
                    seen += 1;
                }
            }
            Ok(None) if last => return (at.commit.as_u64(), seen + behind),
            Ok(None) => std::thread::yield_now(),
            Err(LogError::BelowStart { after, start }) => {
                assert!(after == at && start > at);
                behind += (start.commit.as_u64() - at.commit.as_u64()) / 10;
                at = start;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn readers_beside_one_who_trims_miss_nothing_that_they_are_not_told_of() {
    const LAST: u64 = 4_000;
    let (encoder, syncer, log) = in_memory(700);
    let mut writer = Writer::new(encoder, syncer);
    let log = &log;
    // Disconnected when the writer is through, or has panicked.
    let (writes, written) = bounded::<()>(0);
    let written = &written;
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let _writes = writes;
            (1..=LAST).for_each(|n| {
                writer.commit(10 * n);
                log.trim(Lsn::new(10 * n.saturating_sub(n % 50)));
            });
        });
        let readers = [(); 3].map(|()| scope.spawn(|| follow(log, written)));
        writer.join().unwrap();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), (10 * LAST, LAST));
        }
    });
}
