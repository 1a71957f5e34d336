//! Catalog: what it says of the shapes and what the logs say are made the same at each opening,
//! whichever of the two a crash has left behind (R3).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use support::*;
use walfan::{ConsumerSpec, Engine, Event, Handle, Publisher, StartError};

const FILE: &str = "catalog.redb";

fn open(dir: &Path) -> (Engine, Publisher) {
    let (engine, publisher) = small().directory(dir).start().unwrap();
    engine.learn(items());
    (engine, publisher)
}

fn add(engine: &Engine, count: usize) -> Vec<Handle> {
    let shapes = (0..count).map(|id| (shape(&format!("id = {id}")), ConsumerSpec::Log));
    engine.add_shapes(shapes.collect()).unwrap()
}

fn living(engine: &Engine) -> Vec<Handle> {
    engine.shapes().into_iter().map(|(handle, _)| handle).collect()
}

/// The handles that a catalog has, whose engine is gone or was killed.
fn entered(dir: &Path) -> Vec<Handle> {
    let copy = tempfile::tempdir().unwrap();
    fs::copy(dir.join(FILE), copy.path().join(FILE)).unwrap();
    let database = Database::open(copy.path().join(FILE)).unwrap();
    let shapes = TableDefinition::<'_, u64, &[u8]>::new("shapes");
    let shapes = database.begin_read().unwrap().open_table(shapes).unwrap();
    shapes.iter().unwrap().map(|row| Handle::new(row.unwrap().0.value())).collect()
}

/// What a kill leaves, now: the files as they are.
fn killed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    copy
}

/// Opens the directory, and closes it again: what lives, and what the catalog then has.
fn reconciled(dir: &Path) -> Vec<Handle> {
    let (engine, publisher) = open(dir);
    let living = living(&engine);
    assert_eq!(entered(dir), living);
    drop((engine, publisher));
    living
}

#[test]
fn a_handle_that_was_handed_out_is_in_the_catalog_and_one_that_is_gone_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher) = open(dir.path());
    let first = add(&engine, 5);
    assert_eq!(entered(killed(dir.path()).path()), first);
    engine.remove_shape(first[2]).unwrap();
    let lone = engine.add_shape(shape("id = 7"), ConsumerSpec::Log).unwrap();
    assert!(entered(killed(dir.path()).path()).contains(&lone));
    // A truncate ends the others.
    let items = items();
    let mut transaction = walfan::TransactionBuilder::new(1, walfan::Lsn::new(10));
    transaction.truncate(&items);
    publisher.publish(transaction.commit(walfan::Lsn::new(11))).unwrap();
    wait_for(&engine, |event| matches!(event, Event::Invalidated { .. }));
    engine.wait_flushed(walfan::Lsn::new(10), LONG).unwrap();
    let last = add(&engine, 1);
    engine.shutdown(LONG).unwrap();
    drop((engine, publisher));
    assert_eq!(entered(dir.path()), last);
    assert_eq!(reconciled(dir.path()), last);
}

#[test]
fn d15_whichever_of_catalog_and_log_is_behind_they_are_made_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, publisher) = open(dir.path());
    let stay = add(&engine, 10);
    let gone = add(&engine, 4);
    let before = killed(dir.path());
    gone.iter().for_each(|handle| engine.remove_shape(*handle).unwrap());
    let came = add(&engine, 6);
    engine.shutdown(LONG).unwrap();
    drop((engine, publisher));
    let after = killed(dir.path());
    let put = |from: &Path, to: &Path, logs: bool| {
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            if (name == FILE) != logs {
                fs::copy(from.join(&name), to.join(&name)).unwrap();
            }
        }
    };
    // The catalog of before, and the logs of after: the logs count.
    let logs_ahead = killed(after.path());
    put(before.path(), logs_ahead.path(), false);
    assert_eq!(entered(logs_ahead.path()), [&stay[..], &gone].concat());
    assert_eq!(reconciled(logs_ahead.path()), [&stay[..], &came].concat());
    // And the other way round: what is in no log never came to be.
    let catalog_ahead = killed(before.path());
    put(after.path(), catalog_ahead.path(), false);
    assert_eq!(entered(catalog_ahead.path()), [&stay[..], &came].concat());
    assert_eq!(reconciled(catalog_ahead.path()), [&stay[..], &gone].concat());
    // Handles that the catalog alone knows of are not given out again.
    let (engine, publisher) = open(catalog_ahead.path());
    assert!(add(&engine, 1)[0] > came[5]);
    drop((engine, publisher));
}

#[test]
fn d14_a_catalog_that_is_missing_or_damaged_is_made_anew_and_nothing_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, publisher) = open(dir.path());
    let all = add(&engine, 20);
    drop((engine, publisher));
    fs::remove_file(dir.path().join(FILE)).unwrap();
    assert_eq!(reconciled(dir.path()), all);
    let mut bytes = fs::read(dir.path().join(FILE)).unwrap();
    bytes[4_096..].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(dir.path().join(FILE), &bytes).unwrap();
    assert_eq!(reconciled(dir.path()), all);
    let aside = fs::read(dir.path().join("catalog.redb.damaged")).unwrap();
    assert_eq!(aside[4_096..8_192], bytes[4_096..8_192]);
}

/// Also one that a kill left, which redb mends as it opens it.
#[test]
fn d07_a_catalog_of_another_directory_is_refused_by_name_and_left_alone() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ours = open(dir.path());
    let all = add(&ours.0, 3);
    drop(ours);
    let theirs = open(other.path());
    add(&theirs.0, 50);
    let left = killed(other.path());
    drop(theirs);
    for theirs in [left.path(), other.path()] {
        let bytes = fs::read(theirs.join(FILE)).unwrap();
        fs::write(dir.path().join(FILE), &bytes).unwrap();
        let error = small().directory(dir.path()).start().unwrap_err();
        assert!(matches!(error, StartError::Catalog { .. }), "{error}");
        assert!(error.to_string().contains(FILE), "{error}");
        assert!(fs::read(dir.path().join(FILE)).unwrap() == bytes, "it was written to");
        // Where it belongs it is mended and believed.
        fs::write(other.path().join(FILE), &bytes).unwrap();
        assert_eq!(reconciled(other.path()).len(), 50);
        assert!(!other.path().join("catalog.redb.damaged").exists());
    }
    // Taken away, as the error says, it is made anew.
    fs::remove_file(dir.path().join(FILE)).unwrap();
    assert_eq!(reconciled(dir.path()), all);
}

/// Files copied one after another while shapes come and go are what a kill may leave, and worse:
/// the logs and the catalog are of different moments.
#[test]
fn killed_at_any_moment_what_was_handed_out_lives_and_both_are_made_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, publisher) = open(dir.path());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let coming = scope.spawn(|| {
            let mut last = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let added = add(&engine, 3);
                last.iter().for_each(|handle| engine.remove_shape(*handle).unwrap());
                last = added;
            }
        });
        let kept = add(&engine, 50);
        for _ in 0..20 {
            let copy = killed(dir.path());
            // A copied catalog may be torn as no kill leaves it: then it is made anew.
            let living = reconciled(copy.path());
            assert!(kept.iter().all(|handle| living.contains(handle)));
        }
        done.store(true, Ordering::Relaxed);
        coming.join().unwrap();
    });
    drop((engine, publisher));
}

#[test]
fn many_shapes_are_entered_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, publisher) = open(dir.path());
    let count = 300_000;
    let began = Instant::now();
    let all = add(&engine, count);
    let added = began.elapsed();
    drop((engine, publisher));
    let began = Instant::now();
    let (engine, publisher) = open(dir.path());
    let opened = began.elapsed();
    assert_eq!(engine.shapes().len(), count);
    assert_eq!(entered(killed(dir.path()).path()), all);
    drop((engine, publisher));
    println!("{count} shapes: added in {added:?}, opened in {opened:?}");
    let began = Instant::now();
    fs::remove_file(dir.path().join(FILE)).unwrap();
    let (engine, publisher) = open(dir.path());
    println!("opened without their catalog in {:?}", began.elapsed());
    assert_eq!(entered(killed(dir.path()).path()), all);
    let shapes = Arc::new(engine);
    drop((shapes, publisher));
}
