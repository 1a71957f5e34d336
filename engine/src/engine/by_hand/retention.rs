//! Retention, whose failures cost nothing but another try (R15).

use super::*;
use crate::words::Slot;
use std::fs;

/// Files of a few transactions, of which nothing is kept that nobody needs.
fn keeps_nothing(dir: &Path) -> Builder {
    let mut builder = Engine::builder().directory(dir).log_bytes_max(1).shape_quota_bytes(0);
    builder.segment_bytes_max = Some(1_000);
    builder
}

fn slot_of(hand: &ByHand, handle: Handle) -> Slot {
    hand.inner.control.registry.place(handle).unwrap().slot
}

/// Many files, that are whole and sealed; `run` says who does something meanwhile.
fn fill(hand: &mut ByHand, first: u64, run: impl Fn(&mut ByHand)) {
    for commit in first..first + 100 {
        hand.publish(commit..=commit);
        run(hand);
    }
    while hand.inner.shards[0].log.seal().unwrap() {}
}

/// Thins what can be, and counts the failures that are told.
fn thin(hand: &mut ByHand) -> usize {
    let retainer = hand.retainer.as_mut().unwrap();
    while retainer.step(hand.now, Duration::ZERO) {}
    let events = hand.events();
    events.into_iter().filter(|event| matches!(event, Event::NotThinned { .. })).count()
}

/// R15: a failure is told once and leaves the log as it is; when its pause is over it is tried
/// again.
#[test]
fn r15_a_failure_to_thin_is_told_and_tried_again_after_a_pause() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::with(keeps_nothing(dir.path()));
    let (handle, _) = hand.add();
    hand.run();
    let slot = slot_of(&hand, handle);
    fill(&mut hand, 1, ByHand::run);
    let start = |hand: &ByHand| hand.inner.shards[0].log.start_of(slot);
    let obstacle = dir.path().join("shard-000.log.new");
    fs::create_dir(&obstacle).unwrap();
    assert_eq!(thin(&mut hand), 1);
    assert_eq!(thin(&mut hand), 0, "it rests");
    fs::remove_dir(&obstacle).unwrap();
    hand.now += Duration::from_secs(9);
    assert_eq!((thin(&mut hand), start(&hand)), (0, Offset::ZERO), "it still rests");
    hand.now += Duration::from_secs(1);
    assert_eq!(thin(&mut hand), 0);
    assert!(start(&hand) > Offset::ZERO);
    hand.publish(101..=101);
    hand.run();
    assert_eq!((hand.flushed(), hand.inner.control.state.poisoned()), (101, None));
}

/// R15: whoever owes is known from the start on, and who is gone stays gone.
#[test]
fn r15_opened_again_nothing_that_is_owed_is_thinned_and_nobody_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let silent = || mailbox(Ack::Consumer, |_, _| Ok(()));
    let open = || ByHand::with(keeps_nothing(dir.path()).consumers(move |_, _| silent()));
    let mut hand = open();
    let (gone, _) = hand.add();
    hand.run();
    let (owes, _) = hand.add_with(silent());
    hand.run();
    hand.remove(gone);
    hand.run();
    let slot = slot_of(&hand, owes);
    fill(&mut hand, 1, ByHand::run);
    assert_eq!((thin(&mut hand), hand.flushed()), (0, 0));
    drop(hand);
    let mut hand = open();
    assert_eq!(hand.living(), [owes]);
    // Before its shard has done anything.
    assert_eq!(thin(&mut hand), 0);
    assert_eq!(hand.inner.shards[0].log.start_of(slot), Offset::ZERO, "all of it is owed");
    let (gone, _) = hand.add();
    hand.run();
    hand.remove(gone);
    let ended = hand.remove(owes);
    hand.run();
    assert_eq!((ended.try_recv(), hand.flushed()), (Ok(Ok(1)), 100));
    let (stays, _) = hand.add();
    hand.run();
    fill(&mut hand, 101, ByHand::run);
    assert_eq!(thin(&mut hand), 0);
    assert!(hand.counters().log_bytes_freed.get() > 0);
    drop(hand);
    assert_eq!(open().living(), [stays]);
}

/// Who is fed while its log is cut is told that it has lost something, and is fed nothing beyond.
#[test]
fn r15_who_is_overtaken_by_the_cut_on_its_way_is_invalidated() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::with(keeps_nothing(dir.path()));
    let seen = Commits::default();
    let (handle, _) = hand.add_with(recording(&seen, Ack::Log));
    hand.settle();
    fill(&mut hand, 1, ByHand::settle);
    assert!(hand.runner.run_one().unwrap(), "its factory");
    hand.pump();
    assert_eq!(thin(&mut hand), 0);
    assert!(hand.inner.shards[0].log.start_of(slot_of(&hand, handle)) > Offset::ZERO);
    hand.run();
    assert_eq!((hand.living(), &*seen.lock()), (vec![], &vec![]));
    let invalidated = |event: &Event| matches!(event, Event::Invalidated { .. });
    assert!(hand.events().iter().any(invalidated));
}

/// Who has lost its state needs what the LSN has passed: nothing of that is passed over.
#[test]
fn r15_who_took_its_report_back_and_is_overtaken_by_the_cut_is_invalidated() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::with(keeps_nothing(dir.path()));
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    let sees = Arc::clone(&seen);
    let factory = move |start: &Start<'_>| {
        let (incarnation, sees) = (start.incarnation(), Arc::clone(&sees));
        let handle = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
            match (incarnation, delivery.commit_lsn().as_u64()) {
                (1, 101) => return Err("as the test wants".into()),
                (1, _) => {}
                (_, commit) => sees.lock().push(commit),
            }
            reports(delivery, context)
        };
        Ok(Started::new(Box::new(Handler(handle)), start.first()))
    };
    let spec = ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer };
    let (handle, _) = hand.add_with(spec);
    hand.run();
    fill(&mut hand, 1, ByHand::run);
    assert_eq!(hand.flushed(), 100);
    hand.publish(101..=101);
    hand.settle();
    let slot = slot_of(&hand, handle);
    // Its end, its restart, and what comes of that; before it is fed.
    while hand.counters().restarts.get() == 0 {
        assert!(hand.runner.run_one().unwrap());
        hand.pump();
    }
    assert_eq!(thin(&mut hand), 0);
    assert!(hand.inner.shards[0].log.start_of(slot) > Offset::ZERO);
    hand.run();
    assert_eq!((hand.living(), &*seen.lock()), (vec![], &vec![]));
}

/// The same inside of a transaction: a log begins after an offset, and not after a commit (INV7).
#[test]
fn r15_who_is_overtaken_inside_a_transaction_is_invalidated() {
    const ROWS: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::with(keeps_nothing(dir.path()));
    let seen = Commits::default();
    let sees = Arc::clone(&seen);
    let notes = mailbox(Ack::Log, move |delivery, _| {
        sees.lock().push(delivery.commit_lsn().as_u64());
        Ok(())
    });
    let (handle, _) = hand.add_filtered("kind = 1", notes);
    let (other, _) = hand.add_filtered("kind = 2", ConsumerSpec::Log);
    hand.settle();
    let mut transaction = TransactionBuilder::new(1, Lsn::new(1));
    for _ in 0..ROWS {
        transaction.insert(&relation(2), [Value::Text(b"1"); 2]).unwrap();
        hand.publisher.publish(transaction.cut()).unwrap();
        hand.settle();
    }
    hand.publisher.publish(transaction.commit(Lsn::new(2))).unwrap();
    hand.settle();
    for commit in 2..100 {
        hand.publisher.publish(of_kind("2", commit)).unwrap();
        hand.settle();
    }
    while hand.inner.shards[0].log.seal().unwrap() {}
    while seen.lock().is_empty() {
        assert!(hand.runner.run_one().unwrap());
        hand.settle();
    }
    let had = seen.lock().len();
    assert_eq!((had < ROWS, thin(&mut hand)), (true, 0));
    assert_eq!(hand.inner.shards[0].log.start_of(slot_of(&hand, handle)).commit, Lsn::new(1));
    hand.run();
    assert_eq!((hand.living(), seen.lock().len()), (vec![other], had));
}
