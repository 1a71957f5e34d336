//! Shapes come back from the log alone, each with its table.

use super::super::RecoveredShape;
use super::super::frame::{self, BatchHead, Kind};
use super::super::record::{put_add, put_relation};
use super::super::recover::RecoverError;
use super::file::{Folder, reopen};
use super::world::World;
use crate::words::{Column, Handle, Offset, Relation, ShapeDefinition, Slot, TableName};
use std::sync::Arc;

fn relation(oid: u32) -> Arc<Relation> {
    let columns = vec![Column::new("id", 20, true), Column::new("kind", 25, false)];
    Arc::new(Relation::new(oid, TableName::new("public", "items"), columns))
}

fn shape(slot: u32, relation: Arc<Relation>) -> RecoveredShape {
    let clause = format!("kind = 'hot' OR id = {slot}");
    RecoveredShape {
        slot: Slot::new(slot),
        handle: Handle::new(slot.into()),
        first: Offset::ZERO,
        definition: ShapeDefinition::filtered(relation.table.clone(), &clause),
        relation,
        awaits_snapshot: false,
    }
}

fn add(world: &mut World, shape: &RecoveredShape) {
    let RecoveredShape { slot, handle, first, relation, definition, .. } = shape;
    world.encoder.add_shape(*slot, *handle, *first, relation, (definition, false)).unwrap();
}

#[test]
fn shapes_of_one_table_share_it_over_blocks_and_lives() {
    let folder = Folder::new();
    let mut expected = Vec::new();
    for life in 0..3 {
        let mut world = World::new(reopen(&folder, 400).parts());
        for slot in life * 30..(life + 1) * 30 {
            // A pointer of its own each, as after reconnects.
            expected.push(shape(slot, relation(slot % 2)));
            add(&mut world, expected.last().unwrap());
            world.sync();
        }
    }
    let found = reopen(&folder, 400);
    assert_eq!(found.shapes, expected);
    let (even, odd) = (&found.shapes[0].relation, &found.shapes[1].relation);
    for pair in found.shapes.chunks(2) {
        assert!(Arc::ptr_eq(&pair[0].relation, even) && Arc::ptr_eq(&pair[1].relation, odd));
    }
    assert_eq!((Arc::strong_count(even), Arc::strong_count(odd)), (45, 45));
}

#[test]
fn a_table_is_written_once_a_block() {
    let folder = Folder::new();
    let mut world = World::new(reopen(&folder, usize::MAX).parts());
    let table = relation(1);
    add(&mut world, &shape(100, Arc::clone(&table)));
    world.sync();
    let with_table = folder.bytes().len();
    add(&mut world, &shape(101, relation(1)));
    world.sync();
    let mut named = Vec::new();
    put_relation(&mut named, 0, &table);
    let rest = folder.bytes().split_off(with_table);
    assert!(!rest.windows(named.len() - 1).any(|bytes| bytes == &named[1..]));
    assert!(folder.bytes().windows(named.len()).any(|bytes| bytes == named));
}

/// Appends a frame to a file's `bytes`.
fn put(folder: &Folder, bytes: &mut Vec<u8>, kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = frame::open(bytes);
    fill(bytes);
    frame::close(bytes, start, kind, folder.seed()).unwrap();
}

#[test]
fn a_shape_whose_table_its_block_does_not_name_is_damage() {
    let named = |number| move |out: &mut Vec<u8>| put_relation(out, number, &relation(1));
    let added = |slot, number| {
        move |out: &mut Vec<u8>| {
            let RecoveredShape { slot, handle, first, definition, .. } = shape(slot, relation(1));
            put_add(out, (slot, handle), first, number, (&definition, false));
        }
    };
    let folder = Folder::new();
    let mut whole = folder.bytes();
    whole.extend(BatchHead { seq: 1, new_block: true }.frame(folder.seed()));
    put(&folder, &mut whole, Kind::Relation, named(0));
    put(&folder, &mut whole, Kind::AddShape, added(0, 0));
    let next = |new_block| {
        let mut bytes = whole.clone();
        bytes.extend(BatchHead { seq: 2, new_block }.frame(folder.seed()));
        bytes
    };
    let mut same_block = next(false);
    put(&folder, &mut same_block, Kind::AddShape, added(1, 0));
    let mut beyond = next(false);
    put(&folder, &mut beyond, Kind::AddShape, added(1, 1));
    let mut other_block = next(true);
    put(&folder, &mut other_block, Kind::AddShape, added(1, 0));
    let mut number_left_out = next(true);
    put(&folder, &mut number_left_out, Kind::Relation, named(1));
    put(&folder, &mut number_left_out, Kind::AddShape, added(1, 1));
    let mut not_utf8 = next(true);
    put(&folder, &mut not_utf8, Kind::Relation, |out| out.extend([0, 1, 1, 0xFF, 0, 0]));
    put(&folder, &mut not_utf8, Kind::AddShape, added(1, 0));

    folder.overwrite(&same_block);
    assert_eq!(reopen(&folder, 400).shapes.len(), 2);
    for (bytes, expected) in [
        (beyond, "a shape's relation is unknown"),
        (other_block, "a shape's relation is unknown"),
        (number_left_out, "relation numbers do not rise by 1"),
        (not_utf8, "a name is not UTF-8"),
    ] {
        folder.overwrite(&bytes);
        match folder.recover(400).err() {
            Some(RecoverError::Damaged { reason, .. }) => assert_eq!(reason, expected),
            other => panic!("{expected}: {other:?}"),
        }
        assert_eq!(folder.bytes(), bytes);
    }
}

/// INV5: a removal that was cut off half-way is done again, and says so again.
#[test]
fn inv5_a_shape_may_end_twice() {
    let folder = Folder::new();
    let mut world = World::new(reopen(&folder, usize::MAX).parts());
    let table = relation(1);
    for slot in 0..3 {
        add(&mut world, &shape(slot, Arc::clone(&table)));
    }
    let (slot, handle) = (Slot::new(1), Handle::new(1));
    for _ in 0..2 {
        world.encoder.remove_shape(slot, handle, Offset::ZERO).unwrap();
        world.sync();
        world.encoder.invalidate(slot, handle, Offset::ZERO, "once more").unwrap();
        world.sync();
    }
    drop(world);
    let found = reopen(&folder, usize::MAX);
    assert_eq!(found.shapes, [shape(0, Arc::clone(&table)), shape(2, table)]);
}
