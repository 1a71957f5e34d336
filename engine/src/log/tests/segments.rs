//! A log of several files: it is read as one, goes on where it was, and is refused, with the file
//! named and nothing touched, when a file is missing, foreign, misplaced or damaged.

use super::super::device::Storage;
use super::super::header::{HeaderError, Identity};
use super::super::recover::RecoverError;
use super::super::segments::Segments;
use super::super::{Recovered, recover};
use super::disk::{Contents, Disk};
use super::world::{Op, World, op};
use crate::words::Offset;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::sync::Arc;

const IDENTITY: Identity = Identity { directory: 7, shard: 2, shards: 3 };
const FIRST: &str = "shard-002.log";

fn file(number: u32) -> String {
    format!("shard-002-{number:06}.log")
}

fn open(disk: &Disk, segment_bytes: u64) -> Result<Recovered, RecoverError> {
    let segments = Segments::open(Arc::new(disk.clone()), IDENTITY, segment_bytes)?;
    recover(Box::new(segments), &IDENTITY, 300)
}

fn new_disk(identity: &Identity) -> Disk {
    Disk::holding(&[(FIRST.to_owned(), identity.header().to_vec())].into())
}

/// How many files of the log there are.
fn files(disk: &Disk) -> usize {
    disk.contents().keys().filter(|name| name.ends_with(".log")).count()
}

/// A log of six files at least, the last of which is empty, and all that can be read of it. Nothing
/// is sealed.
fn written() -> (Contents, World) {
    let disk = new_disk(&IDENTITY);
    let mut world = World::new(open(&disk, 300).unwrap().parts());
    let mut runner = TestRunner::deterministic();
    while files(&disk) < 6 {
        let op = op().new_tree(&mut runner).unwrap().current();
        world.apply(&op);
    }
    world.sync();
    world.check();
    let mut contents = disk.contents();
    contents.retain(|name, _| name.ends_with(".log"));
    let number = contents.len() as u32;
    let end = world.end();
    contents.insert(file(number), IDENTITY.segment_header(number, end).to_vec());
    (contents, world)
}

#[test]
fn several_files_are_read_as_one_and_gone_on_with() {
    let (contents, world) = written();
    let disk = Disk::holding(&contents);
    let found = open(&disk, 1_000).unwrap();
    assert_eq!((found.cut, &found.shapes), (None, &world.shapes));
    let mut world = world.restarted(found.parts());
    world.check();
    world.send_again();
    let mut runner = TestRunner::deterministic();
    while files(&disk) < contents.len() + 3 {
        world.apply(&op().new_tree(&mut runner).unwrap().current());
    }
    world.sync();
    world.check();
    let world = world.restarted(open(&disk, 1_000).unwrap().parts());
    world.check();
}

/// A process that was killed may have left a file whose name was not synced; what the next process
/// writes to it and syncs is there after a power cut.
#[test]
fn a_file_whose_name_was_not_synced_is_kept_before_anything_is_written_to_it() {
    let disk = new_disk(&IDENTITY);
    let mut world = World::new(open(&disk, 300).unwrap().parts());
    let mut runner = TestRunner::deterministic();
    let mut some = |world: &mut World, disk: &Disk, files_min: usize| {
        while files(disk) < files_min {
            world.apply(&op().new_tree(&mut runner).unwrap().current());
        }
        for _ in 0..20 {
            let op = op().new_tree(&mut runner).unwrap().current();
            // Sealing syncs every name.
            if !matches!(op, Op::Seal) {
                world.apply(&op);
            }
        }
        world.sync();
    };
    some(&mut world, &disk, 2);
    let name = file(files(&disk) as u32);
    let mut begun = disk.create("begun").unwrap();
    begun.append(&IDENTITY.segment_header(files(&disk) as u32, world.end())).unwrap();
    begun.sync().unwrap();
    disk.rename("begun", &name).unwrap();

    let mut world = world.restarted(open(&disk, 1 << 20).unwrap().parts());
    world.send_again();
    some(&mut world, &disk, 0);
    assert!(disk.contents()[&name].len() > IDENTITY.segment_header(0, 0).len());
    for contents in disk.cut(disk.events(), &[], 1) {
        let found = open(&Disk::holding(&contents), 300).unwrap();
        world = world.restarted(found.parts());
        world.check();
    }
}

/// What the beginning of a file that was cut off leaves is nobody's, and the next one takes its
/// place.
#[test]
fn a_file_that_never_got_its_name_is_passed_over() {
    let (mut contents, world) = written();
    let new = format!("{}.new", file(contents.len() as u32));
    contents.insert(new.clone(), b"torn".to_vec());
    let disk = Disk::holding(&contents);
    let mut world = world.restarted(open(&disk, 0).unwrap().parts());
    world.check();
    while disk.contents().contains_key(&new) {
        world.apply(&super::world::Op::AddShape(None));
        world.sync();
    }
    let world = world.restarted(open(&disk, 0).unwrap().parts());
    world.check();
}

/// Opens `contents`, which must be refused because of the file `name` and left as they are.
fn refused(contents: &Contents, name: &str) -> RecoverError {
    let disk = Disk::holding(contents);
    let error = open(&disk, 0).err().expect("it is refused");
    assert_eq!(disk.contents(), *contents);
    assert!(error.to_string().starts_with(name) || error.to_string().contains(name), "{error}");
    error
}

#[test]
fn files_that_are_missing_foreign_misplaced_or_newer_are_refused() {
    let (contents, _) = written();
    let with = |change: &dyn Fn(&mut Contents)| {
        let mut changed = contents.clone();
        change(&mut changed);
        changed
    };
    let missing = with(&|files| drop(files.remove(&file(2))));
    assert!(matches!(refused(&missing, &file(2)), RecoverError::Read { .. }));
    let missing = with(&|files| drop(files.remove(FIRST)));
    assert!(matches!(refused(&missing, FIRST), RecoverError::Read { .. }));
    let header = |error| match error {
        RecoverError::Header { source, .. } => source,
        error => panic!("{error}"),
    };
    let second = contents[&file(2)].clone();
    let swapped = with(&|files| drop(files.insert(file(3), second.clone())));
    assert!(matches!(header(refused(&swapped, &file(3))), HeaderError::Misplaced { .. }));
    // One byte is gone at the end of the file before.
    let shorter = with(&|files| {
        files.get_mut(&file(1)).unwrap().pop();
    });
    assert!(matches!(header(refused(&shorter, &file(2))), HeaderError::Misplaced { .. }));
    let other = Identity { directory: 8, ..IDENTITY };
    let foreign = with(&|files| drop(files.insert(file(2), other.segment_header(2, 5).into())));
    assert!(matches!(header(refused(&foreign, &file(2))), HeaderError::Foreign { .. }));
    let newer = with(&|files| files.get_mut(&file(2)).unwrap()[8] += 1);
    assert!(matches!(header(refused(&newer, &file(2))), HeaderError::Version { .. }));
    let cut = with(&|files| files.get_mut(&file(contents.len() as u32 - 1)).unwrap().truncate(20));
    assert!(matches!(header(refused(&cut, "-")), HeaderError::Magic));
}

/// Where another file follows, this one was whole: nothing in it is a torn tail, also if what
/// follows is empty.
#[test]
fn damage_in_a_file_that_another_one_follows_is_never_cut() {
    let (contents, _) = written();
    let last = file(contents.len() as u32 - 2);
    for name in [FIRST.to_owned(), file(1), last] {
        let len = contents[&name].len();
        for at in (len.saturating_sub(40)..len).step_by(3) {
            let mut damaged = contents.clone();
            damaged.get_mut(&name).unwrap()[at] ^= 4;
            let RecoverError::Damaged { file, position, .. } = refused(&damaged, &name) else {
                panic!("byte {at} of {name}")
            };
            assert!(file == name && position <= at as u64, "{file} {position}");
        }
    }
}

/// What is read later and is not what was written names its file too.
#[test]
fn a_block_that_is_damaged_later_names_its_file() {
    let (contents, world) = written();
    let disk = Disk::holding(&contents);
    let found = open(&disk, 0).unwrap();
    let name = file(contents.len() as u32 - 2);
    disk.damage(&name, contents[&name].len() - 3);
    let world = world.restarted(found.parts());
    let mut at = Offset::ZERO;
    let error = loop {
        match world.log.read(at) {
            Ok(chunk) => at = chunk.expect("the damage comes first").through,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().starts_with(&name), "{error}");
}
