//! A directory is made whole, is taken only when it is ours, and is otherwise left as it was.

use super::super::{BLOCK_BYTES_MAX, recover};
use super::*;
use crate::words::Lsn;
use std::collections::BTreeMap;

fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

/// Opens a directory that must be refused, and checks that nothing in it changed.
fn refused(path: &Path, shards: u32) -> OpenError {
    let before = contents(path);
    let error = Directory::open(path, shards).unwrap_err();
    assert_eq!(contents(path), before);
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    error
}

fn made(shards: u32) -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b");
    drop(Directory::open(&path, shards).unwrap());
    (parent, path)
}

#[test]
fn it_is_made_once_and_found_again() {
    let (_parent, path) = made(3);
    let made = Directory::open(&path, 3).unwrap().identity(2);
    assert_eq!(Directory::open(&path, 3).unwrap().identity(2), made);
    let directory = Directory::open(&path, 3).unwrap();
    directory.floor().unwrap().raise(Lsn::new(5)).unwrap();
    assert_eq!(directory.floor().unwrap().get(), Lsn::new(5));
    for shard in 0..3 {
        let device = Box::new(directory.shard_device(shard).unwrap());
        let identity = directory.identity(shard);
        assert_eq!(recover(device, &identity, BLOCK_BYTES_MAX).unwrap().last_commit, Lsn::ZERO);
    }
    assert!(directory.shard_device(3).is_err());
}

#[test]
fn a_second_opener_is_refused_until_the_first_is_gone() {
    let (_parent, path) = made(1);
    let first = Directory::open(&path, 1).unwrap();
    assert!(matches!(refused(&path, 1), OpenError::InUse { .. }));
    drop(first);
    Directory::open(&path, 1).unwrap();
}

#[test]
fn another_number_of_shards_is_refused() {
    let (_parent, path) = made(2);
    let error = refused(&path, 3);
    assert!(matches!(error, OpenError::Shards { found: 2, expected: 3, .. }), "{error}");
}

#[test]
fn another_version_and_a_damaged_meta_file_are_refused() {
    let (_parent, path) = made(1);
    let meta = path.join(META);
    let good = fs::read(&meta).unwrap();
    for at in 0..META_BYTES {
        let mut bytes = good.clone();
        bytes[at] ^= 2;
        fs::write(&meta, bytes).unwrap();
        let error = refused(&path, 1);
        let expected = match at {
            0..8 => matches!(error, OpenError::Foreign { .. }),
            8..12 => matches!(error, OpenError::Version { expected: VERSION, .. }),
            _ => matches!(error, OpenError::DamagedMeta { .. }),
        };
        assert!(expected, "byte {at}: {error}");
        fs::write(&meta, &good[..at]).unwrap();
        let error = refused(&path, 1);
        let known = matches!(error, OpenError::Foreign { .. } | OpenError::DamagedMeta { .. });
        assert!(known, "cut at {at}: {error}");
    }
}

#[test]
fn a_foreign_directory_is_refused_and_left_alone() {
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("thesis.txt"), b"precious").unwrap();
    assert!(matches!(refused(foreign.path(), 1), OpenError::Foreign { .. }));
    // Ours once, but the meta file is gone while there is data.
    let (_parent, path) = made(1);
    fs::remove_file(path.join(META)).unwrap();
    let raised = Floor::open(&path.join(FLOOR), floor_seed(0));
    assert!(raised.is_err());
    let log = path.join("shard-000.log");
    let header = fs::read(&log).unwrap();
    fs::write(&log, [header.as_slice(), b"data"].concat()).unwrap();
    assert!(matches!(refused(&path, 1), OpenError::Foreign { .. }));
    fs::write(&log, header).unwrap();
    let floor = path.join(FLOOR);
    let fresh = fs::read(&floor).unwrap();
    let mut risen = fresh.clone();
    risen[8] = 1;
    fs::write(&floor, risen).unwrap();
    assert!(matches!(refused(&path, 1), OpenError::Foreign { .. }));
}

#[test]
fn a_creation_that_was_cut_off_is_begun_again() {
    let (_parent, path) = made(2);
    let files = contents(&path);
    fs::remove_file(path.join(META)).unwrap();
    for (name, bytes) in files.iter().filter(|(name, _)| *name != META) {
        for len in [0, bytes.len() / 2, bytes.len()] {
            fs::write(path.join(name), &bytes[..len]).unwrap();
            fs::write(path.join(META_NEW), &files[META][..20]).unwrap();
            drop(Directory::open(&path, 2).unwrap());
            assert!(!path.join(META_NEW).exists());
            fs::remove_file(path.join(META)).unwrap();
        }
    }
    assert!(matches!(Directory::open(Path::new("/dev/null/x"), 1), Err(OpenError::Io { .. })));
}
