//! Refused: what the operating system refuses costs what it was asked for and no more: a write
//! where there is no room, a file that is not what it was, a thread. Limits of the system are a
//! process's, so what needs one runs in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::*;
use walfan::{
    ConsumerSpec, Engine, Failure, FloorRaiseError, Handle, Health, Lsn, PgSnapshot, PublishError,
    Publisher, ReadLimits, SnapshotError, SnapshotLoader, SnapshotPosition, StartError, Value,
};

const ALONE: &str = "WALFAN_TEST_ALONE";
/// A thread's stack in such a process: address space, which nobody touches.
const STACK_BYTES: u64 = 64 << 20;
/// Room for some threads, and not for a thousand.
const ADDRESS_BYTES: u64 = 8 << 30;

/// Runs the test of this name in a process of its own, on its first thread. True: this is it.
fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    // A write that passes a limit is then an error, and no signal that ends the process.
    let run = "trap '' XFSZ; exec \"$0\" --exact --nocapture --test-threads=1 \"$1\"";
    let output = Command::new("sh")
        .args(["-c", run])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(ALONE, "1")
        .env("RUST_MIN_STACK", STACK_BYTES.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{text}{}", String::from_utf8_lossy(&output.stderr));
    false
}

/// What `work` gives when this process may have no more than `most`.
fn limited<T>(resource: Resource, most: u64, work: impl FnOnce() -> T) -> T {
    let before = getrlimit(resource);
    setrlimit(resource, Rlimit { current: Some(most), maximum: before.maximum }).unwrap();
    let given = work();
    setrlimit(resource, before).unwrap();
    given
}

/// An engine whose log has four transactions, and a shape that awaits its rows.
struct World {
    dir: tempfile::TempDir,
    engine: Engine,
    publisher: Publisher,
    plain: Handle,
    awaits: Handle,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let (engine, mut publisher) = small().directory(dir.path()).start().unwrap();
        engine.learn(items());
        let plain = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
        let awaits = engine.add_shape_with_snapshot(shape(""), ConsumerSpec::Log).unwrap();
        publish_rows(&mut publisher, &items(), 1..5, "a");
        assert_eq!(engine.wait_flushed(Lsn::new(4), LONG).unwrap(), Lsn::new(4));
        World { dir, engine, publisher, plain, awaits }
    }

    fn loader(&self) -> SnapshotLoader {
        let shown = PgSnapshot::new(5, 5, []).unwrap();
        self.engine.load_snapshot(self.awaits, shown, Lsn::new(10)).unwrap()
    }

    fn snapshots(&self) -> PathBuf {
        self.dir.path().join("snapshots")
    }

    /// The engine is as it was, and the shape can be given its rows.
    fn goes_on(&mut self) {
        assert_eq!(self.engine.health(), Health::Green);
        publish_rows(&mut self.publisher, &items(), 5..7, "a");
        assert_eq!(self.engine.wait_flushed(Lsn::new(6), LONG).unwrap(), Lsn::new(6));
        let mut loader = self.loader();
        push(&mut loader, 10).unwrap();
        assert_eq!(loader.finish().unwrap().rows(), 1);
        assert_eq!(rows(&self.engine, self.awaits), 1);
        assert_eq!(log_of(&self.engine, self.awaits), firsts(5..7));
        assert_eq!(log_of(&self.engine, self.plain), firsts(1..7));
    }
}

/// A row of about so many bytes; one of more than 1 MiB is a file of its own.
fn push(loader: &mut SnapshotLoader, bytes: usize) -> Result<(), SnapshotError> {
    loader.push([Value::Text(b"1"), Value::Null, Value::Text(&vec![b'x'; bytes])])
}

fn rows(engine: &Engine, handle: Handle) -> usize {
    let limits = ReadLimits::default();
    engine.read_snapshot(handle, SnapshotPosition::START, limits).unwrap().rows.len()
}

/// The files in a folder, by name.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// That `text` says all of this.
fn says(text: &str, all: &[&str]) {
    all.iter().for_each(|what| assert!(text.contains(what), "{text:?} does not say {what:?}"));
}

#[test]
fn f08_initial_rows_that_find_no_room_go_and_others_come_when_there_is_some() {
    if !is_alone("f08_initial_rows_that_find_no_room_go_and_others_come_when_there_is_some") {
        return;
    }
    let mut world = World::new();
    let mut loader = world.loader();
    push(&mut loader, 1 << 20).unwrap();
    assert_eq!(files(&world.snapshots()).len(), 1);
    let error = limited(Resource::Fsize, 2 << 20, || push(&mut loader, 3 << 20).unwrap_err());
    assert!(matches!(error, SnapshotError::Full { .. }), "{error:?}");
    let path = format!("{}/{:016x}-", world.snapshots().display(), world.awaits.as_u64());
    says(&error.to_string(), &[&path, "there is no room: make some, then load another snapshot"]);
    assert_eq!(files(&world.snapshots()), [""; 0]);
    let error = push(&mut loader, 1).unwrap_err();
    assert!(matches!(error, SnapshotError::Abandoned { .. }), "{error}");
    drop(loader);
    world.goes_on();
}

#[test]
fn f08_initial_rows_that_the_disk_refuses_cost_that_snapshot_alone() {
    let mut world = World::new();
    let mut loader = world.loader();
    push(&mut loader, 1 << 20).unwrap();
    let away = world.dir.path().join("away");
    fs::rename(world.snapshots(), &away).unwrap();
    let error = push(&mut loader, 1 << 20).unwrap_err();
    assert!(matches!(error, SnapshotError::Disk { .. }), "{error:?}");
    let path = format!("{}/{:016x}-", world.snapshots().display(), world.awaits.as_u64());
    says(&error.to_string(), &[&path, "see to the disk, then load another snapshot"]);
    drop(loader);
    fs::rename(away, world.snapshots()).unwrap();
    world.goes_on();
    // What could not be deleted is when the directory is opened again.
    assert_eq!(files(&world.snapshots()).len(), 2);
    let World { dir, engine, publisher, awaits, .. } = world;
    drop((engine, publisher));
    let (engine, _publisher) = small().directory(dir.path()).start().unwrap();
    assert_eq!((files(&dir.path().join("snapshots")).len(), rows(&engine, awaits)), (1, 1));
}

#[test]
fn d07_initial_rows_that_cannot_be_listed_or_read_are_named_and_left_alone() {
    let mut world = World::new();
    world.goes_on();
    let snapshots = world.snapshots();
    let World { dir, engine, publisher, awaits, .. } = world;
    drop((engine, publisher));
    let refused = |path: &Path, what: &str| {
        let error = small().directory(dir.path()).start().unwrap_err();
        assert!(matches!(error, StartError::Snapshots { .. }), "{error:?}");
        says(&error.to_string(), &[&path.display().to_string(), what, "see to the disk"]);
    };
    let away = dir.path().join("away");
    fs::rename(&snapshots, &away).unwrap();
    fs::write(&snapshots, "not a folder").unwrap();
    refused(&snapshots, "listing failed");
    assert_eq!(fs::read(&snapshots).unwrap(), b"not a folder");
    fs::remove_file(&snapshots).unwrap();
    fs::rename(&away, &snapshots).unwrap();
    // Without the catalog, which knows them, they are read at once.
    let file = snapshots.join(&files(&snapshots)[0]);
    fs::rename(&file, &away).unwrap();
    fs::create_dir(&file).unwrap();
    fs::remove_file(dir.path().join("catalog.redb")).unwrap();
    refused(&file, "reading failed");
    fs::remove_dir(&file).unwrap();
    fs::rename(&away, &file).unwrap();
    let (engine, _publisher) = small().directory(dir.path()).start().unwrap();
    assert_eq!(rows(&engine, awaits), 1);
}

#[test]
fn d04_a_floor_that_cannot_be_raised_poisons_and_the_one_before_it_holds() {
    if !is_alone("d04_a_floor_that_cannot_be_raised_poisons_and_the_one_before_it_holds") {
        return;
    }
    let World { dir, engine, mut publisher, plain, .. } = World::new();
    // Its two slots are written in turn, and the second one lies at byte 4096.
    let raise = |lsn| limited(Resource::Fsize, 4096, || engine.raise_floor(Lsn::new(lsn)));
    assert_eq!(raise(4).unwrap().lsn(), Lsn::new(4));
    let error = raise(5).unwrap_err();
    let FloorRaiseError::Io { source } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), ErrorKind::FileTooLarge);
    says(&error.to_string(), &["the acknowledgement floor", "see to the disk, restart"]);
    assert_eq!(engine.floor(), Lsn::new(4));
    let error = raise(4).unwrap_err();
    assert!(matches!(error, FloorRaiseError::Failed(Failure::Poisoned { .. })), "{error}");
    let refused = publisher.publish(inserts(&items(), 5, &[])).unwrap_err();
    assert!(matches!(refused, PublishError::Failed(Failure::Poisoned { .. })), "{refused}");
    drop((engine, publisher));
    let (engine, _publisher) = small().directory(dir.path()).start().unwrap();
    assert_eq!((engine.floor(), log_of(&engine, plain)), (Lsn::new(4), firsts(1..5)));
    engine.raise_floor(Lsn::new(5)).unwrap();
}

/// What clears up after a shape is as bound by what failed as who adds one (INV10).
#[test]
fn d04_a_catalog_that_cannot_be_cleared_up_poisons_and_the_log_says_what_lives() {
    if !is_alone("d04_a_catalog_that_cannot_be_cleared_up_poisons_and_the_log_says_what_lives") {
        return;
    }
    let World { dir, engine, publisher, plain, awaits } = World::new();
    // The logs are smaller than this, and the catalog's first page is followed by others.
    limited(Resource::Fsize, 4096, || {
        engine.remove_shape(plain).unwrap();
        wait_until("the failure", || engine.failure().is_some());
    });
    let failure = engine.failure().unwrap().to_string();
    says(&failure, &["catalog.redb", "a commit", "see to the cause"]);
    drop((engine, publisher));
    let (engine, _publisher) = small().directory(dir.path()).start().unwrap();
    let living: Vec<_> = engine.shapes().into_iter().map(|(handle, _)| handle).collect();
    assert_eq!(living, [awaits]);
}

#[test]
fn r16_a_thread_that_cannot_be_started_is_named_and_those_that_were_end() {
    if !is_alone("r16_a_thread_that_cannot_be_started_is_named_and_those_that_were_end") {
        return;
    }
    let World { dir, engine, publisher, plain, .. } = World::new();
    drop((engine, publisher));
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let many = small().runners(1_024).directory(dir.path());
    let error = limited(Resource::As, ADDRESS_BYTES, || many.start().unwrap_err());
    let StartError::Thread { name, .. } = &error else { panic!("{error}") };
    says(&error.to_string(), &["thread walfan-run-", name, "raise the limit of threads"]);
    wait_until("the end of the threads that were started", || threads() <= before);
    let (engine, _publisher) = small().directory(dir.path()).start().unwrap();
    assert_eq!(log_of(&engine, plain), firsts(1..5));
}
