//! Stopping: what an engine does at its end, by shutdown and by failure (R16, D12).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use crossbeam_channel::bounded;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use support::*;
use walfan::{
    Ack, AddError, ConsumerSpec, Engine, Event, Failure, FloorRaiseError, Health, Lsn, Offset,
    OpenError, PublishError, StartError, TransactionBuilder, Value, WaitError,
};

/// Who lives may flush until the deadline; who dies then stays dead, owes, and is named. Nothing is
/// invalidated, and when opened again everything goes on.
#[test]
fn d12_the_living_flush_the_dead_owe_and_nobody_is_invalidated() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Engine::builder().shards(1).runners(4).directory(dir.path());
    let (engine, mut publisher) = builder.start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let (let_live, lives) = bounded::<()>(0);
    let (let_die, dies) = bounded::<()>(0);
    let held = move |gate: crossbeam_channel::Receiver<()>, dies: bool| -> Script {
        Arc::new(move |delivery, _| {
            if delivery.commit_lsn() == Lsn::new(5) {
                let _ = gate.recv();
                assert!(!dies, "as the test wants");
            }
            Ok(Report::Yes)
        })
    };
    let seen: [Seen; 3] = Default::default();
    let mailbox = |seen, script| recorder(Placement::Mailbox, Ack::Consumer, seen, script);
    engine.add_shape(shape(""), mailbox(&seen[0], held(lives, false))).unwrap();
    let owes = engine.add_shape(shape(""), mailbox(&seen[1], held(dies, true))).unwrap();
    // It dies in the open transaction, and waits for its end: the sign that the shard stops.
    let deaths = AtomicUsize::new(0);
    let script: Script = Arc::new(move |_, _| {
        assert!(deaths.fetch_add(1, Ordering::SeqCst) > 0, "as the test wants");
        Ok(Report::Yes)
    });
    engine.add_shape(shape("kind = 'open'"), mailbox(&seen[2], script)).unwrap();
    wait_until("they run", || engine.metrics().lagging == 0);
    publish_rows(&mut publisher, &items, 1..9, "a");
    let mut transaction = TransactionBuilder::new(1, Lsn::new(9));
    insert(&mut transaction, &items, 1, "open");
    publisher.publish(transaction.cut()).unwrap();
    wait_until("it waits", || engine.metrics().restarts == 1 && engine.metrics().lagging == 1);
    let report = thread::scope(|scope| {
        let stopping = scope.spawn(|| engine.shutdown(LONG));
        wait_until("the shard stops", || engine.metrics().lagging == 0);
        drop(let_die);
        wait_until("it dies", || engine.metrics().deaths == 2);
        drop(let_live);
        stopping.join().unwrap().unwrap()
    });
    assert!(report.wedged.is_empty());
    let [shard] = report.shards.as_slice() else { panic!("{report:?}") };
    assert_eq!((shard.durable, shard.flushed), (Lsn::new(8), Lsn::new(4)));
    assert_eq!(shard.owing, [owes]);
    // And, if it was in time, what it was sent of the transaction that is sent again.
    assert_eq!(joined(&seen[0])[..8], firsts(1..9));
    let metrics = engine.metrics();
    assert_eq!((metrics.restarts, metrics.undeliverable, metrics.invalidated), (1, 0, 0));
    drop((engine, publisher));
    let again: [Seen; 3] = Default::default();
    let found = again.clone();
    let builder = Engine::builder().shards(1).directory(dir.path()).consumers(move |handle, _| {
        let seen = &found[handle.as_u64() as usize];
        recorder(Placement::Mailbox, Ack::Consumer, seen, reports())
    });
    let (engine, mut publisher) = builder.start().unwrap();
    assert_eq!(engine.shapes().len(), 3);
    publish_rows(&mut publisher, &items, 1..9, "a");
    publish_rows(&mut publisher, &items, 9..11, "open");
    assert_eq!(engine.wait_flushed(Lsn::new(10), LONG).unwrap(), Lsn::new(10));
    assert_eq!(joined(&again[1]), firsts(1..11), "nobody had told it that it may forget");
    assert_eq!(joined(&again[2]), firsts(9..11));
    assert_eq!(log_of(&engine, owes), firsts(1..11));
}

/// A handler on the shard's thread that never returns: it is left behind and named, who waits for
/// the shard is woken, and nobody else may write to the directory while it could.
#[test]
fn r16_a_wedged_shard_is_left_behind_and_its_directory_stays_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Engine::builder().shards(1).runners(1).directory(dir.path());
    let (engine, mut publisher) = builder.clone().start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let log = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    let other = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    let (entered, inside) = bounded(1);
    let (release, gate) = bounded::<()>(0);
    let script: Script = Arc::new(move |delivery, _| {
        if delivery.commit_lsn() == Lsn::new(5) {
            entered.send(())?;
            let _ = gate.recv();
        }
        Ok(Report::Yes)
    });
    let spec = recorder(Placement::Inline, Ack::Log, &Seen::default(), script);
    engine.add_shape(shape(""), spec).unwrap();
    wait_until("it runs", || engine.metrics().lagging == 0);
    publish_rows(&mut publisher, &items, 1..9, "a");
    inside.recv().unwrap();
    thread::scope(|scope| {
        let adding = scope.spawn(|| engine.add_shape(shape(""), ConsumerSpec::Log));
        // Another one than is read below: when it is released, the shard may still remove it.
        let removing = scope.spawn(|| engine.remove_shape(other));
        // So that both are waiting for the shard by then; if not, they are refused at once.
        thread::sleep(Duration::from_millis(50));
        let report = engine.shutdown(Duration::ZERO).unwrap();
        assert!(report.wedged.contains(&"walfan-shard-00".to_owned()), "{report:?}");
        let added = adding.join().unwrap();
        assert!(matches!(added, Err(AddError::Failed(Failure::Stopped))), "{added:?}");
        assert!(removing.join().unwrap().is_err());
    });
    drop((engine, publisher));
    let taken = builder.clone().start().unwrap_err();
    let in_use = matches!(taken, StartError::Directory(OpenError::InUse { .. }));
    assert!(in_use, "the shard may still write: {taken}");
    drop(release);
    let mut opened = None;
    let until = std::time::Instant::now() + LONG;
    while opened.is_none() && std::time::Instant::now() < until {
        opened = builder.clone().start().ok();
        thread::yield_now();
    }
    let (engine, mut publisher) = opened.expect("it is free when the handler has returned");
    publish_rows(&mut publisher, &items, 1..12, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(11), LONG).unwrap(), Lsn::new(11));
    assert_eq!(log_of(&engine, log), firsts(1..12));
}

/// For ever is a time, too.
#[test]
fn r16_waits_may_be_for_ever() {
    let (engine, mut publisher) = small().start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    publish_rows(&mut publisher, &items, 1..3, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(2), Duration::MAX).unwrap(), Lsn::new(2));
    let timed_out = engine.wait_flushed(Lsn::new(3), Duration::ZERO).unwrap_err();
    let (lsn, flushed) = (Lsn::new(3), Lsn::new(2));
    let WaitError::TimedOut { lsn: for_what, flushed: where_to } = timed_out else {
        panic!("{timed_out}")
    };
    assert_eq!((for_what, where_to), (lsn, flushed));
    assert!(engine.shutdown(Duration::MAX).unwrap().wedged.is_empty());
}

const FULL_DISK: &str = "WALFAN_TEST_FULL_DISK";

/// D04, D05, R16: a write that fails is final. The system refuses it because the process may not
/// make files so large; the process is one of its own, as the limit is one for all its threads.
#[test]
fn d04_a_failed_write_poisons_and_nothing_is_acknowledged_past_it() {
    let dir = tempfile::tempdir().unwrap();
    let limited = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" --exact --nocapture \
                   the_process_whose_disk_is_full";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .env(FULL_DISK, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let flushed = text.lines().find_map(|line| line.strip_prefix("flushed "));
    let flushed: u64 = flushed.and_then(|lsn| lsn.parse().ok()).unwrap_or_else(|| panic!("{text}"));
    let (engine, mut publisher) = small().shards(1).directory(dir.path()).start().unwrap();
    let (log, _) = engine.shapes()[0].clone();
    let recovered = log_of(&engine, log);
    assert!(recovered.len() as u64 >= flushed, "{} of {flushed} flushed", recovered.len());
    publish_rows(&mut publisher, &items(), 1..200, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(199), LONG).unwrap(), Lsn::new(199));
    assert_eq!(log_of(&engine, log), firsts(1..200));
}

#[test]
fn the_process_whose_disk_is_full() {
    let Some(dir) = std::env::var_os(FULL_DISK) else {
        return println!("skipped: another test runs it, where no large file may be written");
    };
    let (engine, mut publisher) =
        small().shards(1).directory(Path::new(&dir)).fragment_credits(2).start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let log = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    let note = vec![b'x'; 64 << 10];
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| engine.wait_flushed(Lsn::new(1_000), LONG));
        for commit in 1.. {
            let mut transaction = TransactionBuilder::new(1, Lsn::new(commit));
            let row = [Value::Text(b"1"), Value::Text(b"a"), Value::Text(&note)];
            transaction.insert(&items, row).unwrap();
            match publisher.publish(transaction.commit(Lsn::new(commit + 1))) {
                Ok(()) => assert!(commit < 1_000, "the disk is not full"),
                Err(error) => {
                    let PublishError::Failed(Failure::Poisoned { cause }) = error else {
                        panic!("{error}")
                    };
                    assert!(cause.contains("shard-000.log: writing"), "{cause}");
                    break;
                }
            }
        }
        waiting.join().unwrap()
    });
    assert!(matches!(waiting, Err(WaitError::Failed(Failure::Poisoned { .. }))), "{waiting:?}");
    let flushed = engine.flushed_lsn();
    assert!(Lsn::ZERO < flushed && flushed < Lsn::new(70), "{flushed}");
    assert_eq!(log_of(&engine, log), firsts(1..flushed.as_u64() + 1), "readable to there");
    let added = engine.add_shape(shape(""), ConsumerSpec::Log);
    assert!(matches!(added, Err(AddError::Failed(Failure::Poisoned { .. }))), "{added:?}");
    assert!(engine.remove_shape(log).is_err() && engine.invalidate_all("no").is_err());
    let raised = engine.raise_floor(flushed);
    let refused = matches!(raised, Err(FloorRaiseError::Failed(Failure::Poisoned { .. })));
    assert!(refused, "{raised:?}");
    assert!(matches!(engine.health(), Health::Red { .. }));
    wait_for(&engine, |event| matches!(event, Event::Poisoned { .. }));
    assert!(matches!(engine.shutdown(LONG), Err(Failure::Poisoned { .. })));
    assert_eq!(engine.flushed_lsn(), flushed);
    assert!(engine.read(log, Offset::ZERO, walfan::ReadLimits::default()).is_ok());
    println!("flushed {}", flushed.as_u64());
}
