//! After a crash or damage: what was durable is there, what was torn is cut, and what is wrong is
//! refused and left alone.

use super::super::decode::{Decoder, Limit};
use super::super::frame::{self, Kind};
use super::super::header::HEADER_BYTES;
use super::super::recover::RecoverError;
use super::file::{Folder, reopen};
use super::world::{Op, World, op};
use crate::words::{Lsn, Slot};
use proptest::prelude::*;
use std::sync::Arc;

const BLOCK_BYTES: usize = 700;

fn ops(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Each life ends where it ends, often inside a transaction, which is then sent again.
    #[test]
    fn many_lives_read_as_one(lives in prop::collection::vec(ops(1..30), 1..5)) {
        let folder = Folder::new();
        let mut world = World::new(reopen(&folder, BLOCK_BYTES).parts());
        for life in &lives {
            life.iter().for_each(|op| world.apply(op));
            world.sync();
            world.check();
            let found = reopen(&folder, BLOCK_BYTES);
            prop_assert_eq!(found.cut, None);
            prop_assert_eq!(found.last_commit, found.log.durable_commit());
            prop_assert!(found.last_commit <= world.durable_through);
            prop_assert_eq!(&found.shapes, &world.shapes);
            prop_assert!(found.next_slot.as_u32() <= world.next_slot);
            world = world.restarted(found.parts());
            world.check();
            world.send_again();
        }
        world.sync();
        world.check();
        let world = world.restarted(reopen(&folder, BLOCK_BYTES).parts());
        world.check();
    }

    #[test]
    fn a_torn_last_batch_is_cut_at_every_byte(
        first in ops(1..30), last in ops(1..10),
    ) {
        let folder = Folder::new();
        let mut world = World::new(reopen(&folder, BLOCK_BYTES).parts());
        first.iter().for_each(|op| world.apply(op));
        world.sync();
        let (synced, durable) = (folder.bytes().len(), world.durable.len());
        last.iter().for_each(|op| world.apply(op.unless_sync()));
        world.sync();
        let bytes = folder.bytes();
        for len in synced..bytes.len() {
            folder.overwrite(&bytes[..len]);
            let found = reopen(&folder, BLOCK_BYTES);
            let kept = folder.bytes();
            prop_assert!(kept.len() >= synced && bytes.starts_with(&kept));
            prop_assert_eq!(found.cut.unwrap_or(0), (len - kept.len()) as u64);
            let read = World::new(found.parts()).read(crate::words::Offset::ZERO);
            prop_assert!(read.len() >= durable && world.durable.starts_with(&read));
        }
        // A wrong byte in the last batch is a torn write too.
        for at in (synced..bytes.len()).step_by(7) {
            let mut torn = bytes.clone();
            torn[at] ^= 0x40;
            folder.overwrite(&torn);
            let found = reopen(&folder, BLOCK_BYTES);
            prop_assert!(found.cut.is_some());
            prop_assert!(folder.bytes().len() >= synced);
        }
    }

    #[test]
    fn damage_in_front_of_the_last_batch_is_an_error_and_nothing_is_cut(
        first in ops(5..30), at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let folder = Folder::new();
        let mut world = World::new(reopen(&folder, BLOCK_BYTES).parts());
        first.iter().for_each(|op| world.apply(op));
        world.sync();
        let synced = folder.bytes().len();
        world.apply(&Op::AddShape(None));
        world.sync();
        prop_assume!(synced > HEADER_BYTES);
        let mut damaged = folder.bytes();
        let at = HEADER_BYTES + at.index(synced - HEADER_BYTES);
        damaged[at] ^= 1 << bit;
        folder.overwrite(&damaged);
        match folder.recover(BLOCK_BYTES).err() {
            Some(RecoverError::Damaged { file, position, .. }) => {
                prop_assert!(file.ends_with("shard-000.log"));
                prop_assert!(position <= at as u64 && position + 5000 > at as u64);
            }
            other => panic!("byte {at}: {other:?}"),
        }
        prop_assert_eq!(folder.bytes(), damaged);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(
        ops in ops(1..30),
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut world = World::new(super::super::in_memory(usize::MAX));
        ops.iter().for_each(|op| world.apply(op.unless_sync()));
        let mut bytes = world.take().bytes;
        prop_assume!(!bytes.is_empty());
        let frames = frames(&bytes);
        for (index, byte) in wrong {
            // The checksum is made right again, so that what is behind it is reached.
            let (start, len) = frames[index.index(frames.len())];
            let at = start + frame::HEAD_BYTES - 1 + index.index(len - frame::HEAD_BYTES + 1);
            bytes[at] = byte;
            let crc = frame::checksum(&bytes[start + 4..start + len], 0);
            bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        }
        let limit = Limit { readable: Lsn::MAX, ..Limit::default() };
        let mut entries = Vec::new();
        let _ = Decoder::default().decode(&bytes, 0, 0, &limit, &mut entries);
        for entry in &entries {
            // Whatever was taken can be walked.
            let _ = format!("{:?}", entry.fragment.changes().collect::<Vec<_>>());
        }
        // And so for who reads one record for one slot.
        let relations = entries.iter().flat_map(|entry| entry.fragment.changes());
        let relations = relations.map(|change| Arc::clone(change.relation())).collect();
        let decoder = Decoder::with_relations(relations);
        for (start, len) in frames {
            let payload = &bytes[start + frame::HEAD_BYTES..start + len];
            let found = decoder.fragment_for(payload, Lsn::MAX, Slot::new(len as u32 % 400));
            let _ = found.map(|entry| format!("{entry:?}"));
        }
    }

    #[test]
    fn random_records_do_not_make_it_panic(kind in 1u8..12, payload: Vec<u8>, tail: Vec<u8>) {
        let mut bytes = Vec::new();
        let start = frame::open(&mut bytes);
        bytes.extend_from_slice(&payload);
        frame::close(&mut bytes, start, Kind::Fragment, 0).unwrap();
        bytes[8] = kind;
        let crc = frame::checksum(&bytes[4..], 0);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&tail);
        let limit = Limit { readable: Lsn::MAX, ..Limit::default() };
        let _ = Decoder::default().decode(&bytes, 0, 0, &limit, &mut Vec::new());
    }
}

/// Where each frame starts, and its length.
fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(len) = frame::frame_len(&bytes[at..]) {
        frames.push((at, len as usize));
        at += len as usize;
    }
    frames
}

#[test]
fn the_file_of_another_directory_or_a_cut_header_is_refused() {
    let (folder, other) = (Folder::new(), Folder::new());
    let mut world = World::new(reopen(&other, BLOCK_BYTES).parts());
    world.apply(&Op::AddShape(None));
    world.sync();
    for bytes in [other.bytes(), folder.bytes()[..20].to_vec(), Vec::new()] {
        folder.overwrite(&bytes);
        let error = folder.recover(BLOCK_BYTES).err();
        assert!(matches!(error, Some(RecoverError::Header { .. })), "{error:?}");
        assert_eq!(folder.bytes(), bytes);
    }
}

/// A row may hold a piece of a log: not even a whole batch of another file passes for one of ours.
#[test]
fn a_batch_of_another_file_behind_the_torn_tail_is_not_taken_for_ours() {
    let (folder, other) = (Folder::new(), Folder::new());
    for folder in [&folder, &other] {
        let mut world = World::new(reopen(folder, BLOCK_BYTES).parts());
        for _ in 0..3 {
            world.apply(&Op::AddShape(None));
            world.sync();
        }
    }
    let whole = folder.bytes();
    folder.overwrite(&[&whole[..], b"torn", &other.bytes()[HEADER_BYTES..]].concat());
    assert!(reopen(&folder, BLOCK_BYTES).cut.is_some());
    assert_eq!(folder.bytes(), whole);
}
