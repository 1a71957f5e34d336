//! Who waits for whom while time passes: deadlines, the sweep, and health.

use super::*;
use crate::control::{HolderState, Phase};
use crate::sync::{AtomicUsize, Ordering};

const LONG: Duration = Duration::from_secs(1_000);

type Handled = Result<(), ConsumerError>;

/// Reports commits from `from` on.
fn reports_from(
    from: u64,
) -> impl Fn(&Delivery<'_>, &mut Context<'_>) -> Handled + Clone + Send + Sync + 'static {
    move |delivery, context| match delivery.commit_lsn().as_u64() {
        commit if commit < from => Ok(()),
        _ => reports(delivery, context),
    }
}

/// R10: its clock stands still while it waits for a runner, and for the feeder; and when it was
/// handed everything it runs.
#[test]
fn r10_who_waits_for_us_is_not_condemned_and_who_does_not_is() {
    let dir = tempfile::tempdir().unwrap();
    // One mail stands for several transactions.
    let builder = Engine::builder().directory(dir.path()).mailbox_places(4);
    let mut hand = ByHand::with(builder);
    let (handle, _) = hand.add_with(mailbox(Ack::Consumer, reports_from(40)));
    hand.run();
    hand.publish(1..=1);
    hand.run();
    hand.publish(2..=2);
    hand.pump();
    // Its mail waits for a runner.
    hand.watch(LONG);
    hand.run();
    assert_eq!(hand.living(), [handle]);
    hand.publish(3..=30);
    hand.pump();
    assert_eq!(hand.counters().overflows.get(), 1);
    assert!(hand.runner.run_one().unwrap());
    // It has drained its mailbox, and waits for the feeder.
    hand.watch(LONG);
    hand.run();
    assert_eq!(hand.living(), [handle]);
    hand.publish(31..=40);
    hand.run();
    assert_eq!(hand.flushed(), 40);
    let (silent, _) = hand.add_with(mailbox(Ack::Consumer, |_, _| Ok(())));
    hand.run();
    hand.publish(41..=41);
    hand.run();
    hand.watch(LONG);
    hand.run();
    assert_eq!((hand.living(), hand.flushed()), (vec![handle], 41));
    let condemned =
        |event: &Event| matches!(event, Event::Undeliverable { handle, .. } if *handle == silent);
    assert!(hand.events().iter().any(condemned));
}

/// R4: mail names its fragment by number, and one that is no longer recent is in the log.
#[test]
fn r04_mail_of_long_ago_is_found_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let seen = Commits::default();
    hand.add_with(recording(&seen, Ack::Log));
    hand.run();
    // It gets what commits first, and waits for a runner while more come than are kept.
    hand.publish(1..=2);
    hand.pump();
    let recent = hand.links[0].recent.places() as u64;
    let last = 3 + recent;
    for commit in 3..=last {
        let other = Arc::new(Relation::new(2, TableName::new("public", "other"), vec![]));
        let mut transaction = TransactionBuilder::new(1, Lsn::new(commit));
        transaction.truncate(&other);
        hand.publisher.publish(transaction.commit(Lsn::new(commit + 1))).unwrap();
        hand.settle();
    }
    hand.publish(last + 1..=last + 1);
    hand.run();
    assert_eq!(*seen.lock(), [1, 2, last + 1]);
    assert_eq!(hand.counters().lagging.get(), 0);
}

/// R4: whose mailbox overflows while it is on its way to it goes another round, though it says that
/// it has joined.
#[test]
fn r04_who_joins_while_its_mailbox_overflows_goes_another_round() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::with(Engine::builder().directory(dir.path()).mailbox_places(4));
    let seen = Commits::default();
    hand.add_with(recording(&seen, Ack::Consumer));
    hand.run();
    hand.publish(1..=30);
    hand.settle();
    assert!(hand.runner.run_one().unwrap(), "its mailbox is drained");
    hand.publish(31..=31);
    hand.pump();
    while hand.runner.run_one().unwrap() {}
    assert_eq!((seen.lock().len(), hand.counters().overflows.get()), (30, 1));
    // It stands at the readable end, and one more is to be durable: that is its boundary.
    hand.pump();
    hand.publish(32..=60);
    hand.pump();
    assert_eq!(hand.counters().overflows.get(), 2);
    hand.settle();
    while hand.runner.run_one().unwrap() {
        hand.pump();
        let lags = seen.lock().len() < 60;
        assert!(!lags || hand.counters().lagging.get() == 1, "{:?}", seen.lock());
    }
    hand.run();
    assert_eq!(*seen.lock(), (1..=60).collect::<Vec<u64>>());
    assert_eq!((hand.flushed(), hand.counters().lagging.get()), (60, 0));
}

/// R17: a runner that was woken looks idle until it comes to run, and whoever waits for it is not
/// to blame; who has handled everything and is silent is.
#[test]
fn r17_who_waits_for_a_runner_may_pin_more_than_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Engine::builder().directory(dir.path()).consumer_bytes_max(1_000);
    let mut hand = ByHand::with(builder);
    let (handle, _) = hand.add_with(mailbox(Ack::Consumer, reports_from(40)));
    hand.run();
    // Time passes while a runner rests, and the shard looks at who pins too much.
    let sweep = |hand: &mut ByHand| {
        hand.now += Duration::from_secs(1);
        let pool = Arc::clone(&hand.inner.pool);
        pool.rest(|| {
            hand.settle();
            true
        });
    };
    hand.publish(1..=40);
    hand.pump();
    assert!(hand.inner.shards[0].link.gauges.unflushed_bytes.load(Ordering::Relaxed) > 1_000);
    sweep(&mut hand);
    hand.run();
    assert_eq!((hand.living(), hand.flushed()), (vec![handle], 40));
    hand.add_with(mailbox(Ack::Consumer, |_, _| Ok(())));
    hand.run();
    hand.publish(41..=80);
    hand.run();
    assert_eq!((hand.living().len(), hand.flushed()), (2, 40), "while all runners are busy");
    sweep(&mut hand);
    assert_eq!((hand.living(), hand.flushed()), (vec![handle], 80));
    let cause = |event: &Event| match event {
        Event::Undeliverable { cause, .. } => cause.contains("and may leave 1000"),
        _ => false,
    };
    assert!(hand.events().iter().any(cause));
}

/// R16: once stopping, deadlines stand still; and a verdict that crosses Stop invalidates nothing.
#[test]
fn r16_nobody_is_condemned_once_the_engine_stops() {
    for crosses in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut hand = ByHand::open(dir.path());
        let (handle, _) = hand.add_with(mailbox(Ack::Consumer, |_, _| Ok(())));
        hand.run();
        hand.publish(1..=1);
        hand.run();
        if crosses {
            let deadline = hand.now + 10 * LONG;
            hand.inner.shards[0].messages.send(Message::Stop(deadline)).unwrap();
            hand.run();
        } else {
            hand.inner.control.state.advance(Phase::Stopping);
        }
        hand.watch(LONG);
        hand.run();
        assert_eq!(hand.living(), [handle]);
        assert!(hand.events().iter().all(|event| !matches!(event, Event::Undeliverable { .. })));
        assert_eq!(hand.pump.finish().owing, [handle]);
    }
}

/// Reports what it was handed before.
fn one_behind(delivery: &Delivery<'_>, context: &mut Context<'_>) -> Handled {
    Ok(context.flushed(delivery.commit_lsn().previous())?)
}

/// What it flushes puts a deadline off, also if it owes all the time; what comes later does not.
#[test]
fn a05_a_deadline_is_put_off_by_progress_and_by_nothing_else() {
    for (ack, flushed) in [(Ack::Consumer, 2), (Ack::Log, 3)] {
        let dir = tempfile::tempdir().unwrap();
        let builder = Engine::builder().directory(dir.path()).consumer_deadline(LONG);
        let mut hand = ByHand::with(builder);
        let (silent, _) = hand.add_with(mailbox(ack, |_, _| Ok(())));
        let (slow, _) = hand.add_with(mailbox(ack, one_behind));
        hand.run();
        for commit in 1..=3 {
            assert_eq!(hand.living(), [silent, slow], "before {commit}");
            hand.publish(commit..=commit);
            hand.run();
            hand.watch(LONG * 2 / 5);
        }
        hand.run();
        assert_eq!((hand.living(), hand.flushed()), (vec![slow], flushed), "{ack:?}");
    }
}

/// A lease is renewed by asking again, and ends at the maximum (3.8).
#[test]
fn a_lease_has_a_maximum() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Engine::builder().directory(dir.path()).lease_max(LONG);
    let mut hand = ByHand::with(builder);
    let defers = |_: &Delivery<'_>, context: &mut Context<'_>| {
        context.defer(3 * LONG);
        Ok(())
    };
    let (handle, _) = hand.add_with(mailbox(Ack::Consumer, defers));
    hand.run();
    hand.publish(1..=1);
    hand.run();
    hand.watch(LONG / 2);
    hand.publish(2..=2);
    hand.run();
    assert_eq!(hand.living(), [handle]);
    hand.watch(LONG);
    hand.run();
    assert_eq!(hand.living(), []);
}

/// A lease holds for who asks for it and goes on with the same delivery, also in the middle of a
/// transaction, and ends (3.8): at the maximum, however long it is.
#[test]
fn a_lease_holds_inside_the_handler_that_asks_for_it() {
    for (lease, looks, living) in [(2, 4, 1), (2, 7, 0), (200, 20, 1), (200, 22, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let builder = Engine::builder().directory(dir.path()).consumer_deadline(LONG);
        let mut hand = ByHand::with(builder.lease_max(10 * LONG));
        let watch = Arc::new(Mutex::new(hand.watch.take().unwrap()));
        let now = hand.now;
        hand.add_with(mailbox(Ack::Log, move |_, context| {
            context.defer(lease * LONG);
            (0..looks).for_each(|look| {
                watch.lock().tick(now + look * LONG / 2);
            });
            Ok(())
        }));
        hand.run();
        let mut transaction = TransactionBuilder::new(1, Lsn::new(1));
        let relation = relation(2);
        transaction.insert(&relation, [Value::Text(b"1"), Value::Text(b"1")]).unwrap();
        hand.publisher.publish(transaction.cut()).unwrap();
        hand.run();
        assert_eq!(hand.living().len(), living, "after {looks} looks");
    }
}

/// The sweep is the backstop for a mark that is lost (3.8).
#[test]
fn the_sweep_finds_a_report_whose_mark_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let reporter: Arc<Mutex<Option<Reporter>>> = Arc::default();
    let taken = Arc::clone(&reporter);
    let factory = move |start: &Start<'_>| {
        *taken.lock() = Some(start.reporter());
        Ok(Started::new(
            Box::new(Handler(|_: &Delivery<'_>, _: &mut Context<'_>| Ok(()))),
            start.resume(),
        ))
    };
    hand.add_with(ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer });
    hand.run();
    hand.publish(1..=2);
    hand.run();
    reporter.lock().as_ref().unwrap().mailbox().raise_flushed(Lsn::new(1));
    hand.run();
    assert_eq!(hand.flushed(), 0);
    hand.now += Duration::from_secs(1);
    hand.run();
    assert_eq!(hand.flushed(), 1);
    reporter.lock().as_ref().unwrap().flushed(Lsn::new(2)).unwrap();
    hand.run();
    assert_eq!(hand.flushed(), 2, "a mark needs no clock");
}

/// INV12: healthy and stuck exclude each other.
#[test]
fn j01_a_flushed_lsn_that_is_stuck_and_a_hung_sync_turn_health_red() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let red = |hand: &ByHand| hand.inner.control.vitals.red();
    hand.add();
    hand.run();
    hand.watch(LONG);
    assert_eq!(red(&hand), None, "nothing is owed");
    hand.publish(1..=1);
    hand.pump();
    hand.watch(LONG);
    assert!(red(&hand).unwrap().contains("the flushed LSN stands at 0/0"));
    hand.run();
    hand.watch(LONG);
    assert_eq!(red(&hand), None);
    hand.inner.control.vitals.sync_began(0, hand.now);
    hand.watch(Duration::from_secs(20));
    assert!(red(&hand).unwrap().contains("the sync of shard 0"));
    assert_eq!(hand.living().len(), 1, "it invalidates nothing");
    hand.inner.control.vitals.sync_ended(0);
    hand.watch(LONG);
    assert_eq!(red(&hand), None);
}

/// Who holds the flushed LSN is named, with where it stands and since when, before it is given up.
#[test]
fn j04_who_holds_the_flushed_lsn_is_named_before_it_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Engine::builder().directory(dir.path()).consumer_deadline(LONG);
    let mut hand = ByHand::with(builder);
    hand.add_with(mailbox(Ack::Consumer, reports));
    let (silent, _) = hand.add_with(mailbox(Ack::Consumer, reports_from(40)));
    hand.run();
    hand.publish(1..=3);
    hand.run();
    hand.watch(LONG / 4);
    let stalled = |hand: &ByHand| {
        let events = hand.events().into_iter();
        let stalled = events.filter(|event| matches!(event, Event::Stalled { .. }));
        stalled.collect::<Vec<_>>()
    };
    assert_eq!(stalled(&hand).len(), 0);
    let holder = |hand: &ByHand| {
        let holder = hand.inner.metrics().holder;
        holder.map(|holder| (holder.handle, holder.age, holder.state))
    };
    assert_eq!(holder(&hand), Some((silent, LONG / 4, HolderState::Silent)));
    hand.watch(LONG / 2);
    let said = stalled(&hand);
    let [Event::Stalled { handle, cause, .. }] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!((*handle, hand.flushed()), (silent, 0));
    assert!(cause.contains("silent for 750"), "{cause}");
    hand.watch(LONG / 8);
    assert_eq!((stalled(&hand).len(), hand.living().len()), (0, 2), "it is said once");
    // While its mail waits for a runner it is the engine's turn.
    hand.publish(4..=4);
    hand.pump();
    hand.watch(Duration::ZERO);
    assert_eq!(holder(&hand), Some((silent, LONG * 7 / 8, HolderState::Waiting)));
    hand.run();
    hand.watch(LONG);
    hand.run();
    hand.watch(Duration::ZERO);
    assert_eq!((holder(&hand), hand.flushed()), (None, 4), "nobody holds it any more");
}

/// Who needs no runner is not to wait again and again for runners that do not come near.
#[test]
fn a_shard_that_waited_for_its_runners_in_vain_hurries() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    for kind in 0..20 {
        hand.add_filtered(&format!("kind = '{kind}'"), mailbox(Ack::Consumer, reports));
    }
    hand.run();
    let publish = |hand: &mut ByHand, commit: u64| {
        hand.publisher.publish(of_kind(&commit.to_string(), commit)).unwrap();
    };
    for commit in 1..18 {
        publish(&mut hand, commit);
        hand.pump();
    }
    // With nothing more to send it waits for nobody.
    hand.pump.keep_pace();
    assert!(!hand.pump.hurries());
    publish(&mut hand, 18);
    hand.pump.keep_pace();
    assert!(hand.pump.hurries());
    let mut waits_again = 0..100;
    assert!(waits_again.any(|_| {
        hand.pump.keep_pace();
        !hand.pump.hurries()
    }));
    hand.run();
    assert_eq!(hand.flushed(), 18);
    publish(&mut hand, 19);
    hand.pump.keep_pace();
    assert!(!hand.pump.hurries(), "they are near");
}

/// Factories go before deliveries, but not all of them.
#[test]
fn who_runs_does_not_wait_for_all_who_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (starts, handled) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let consumer = || {
        let (starts, handled) = (Arc::clone(&starts), Arc::clone(&handled));
        let factory = move |start: &Start<'_>| {
            starts.fetch_add(1, Ordering::Relaxed);
            let handled = Arc::clone(&handled);
            let handle = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
                handled.fetch_add(1, Ordering::Relaxed);
                reports(delivery, context)
            };
            Ok(Started::new(Box::new(Handler(handle)), start.resume()))
        };
        ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer }
    };
    hand.add_with(consumer());
    hand.run();
    for _ in 0..100 {
        hand.add_with(consumer());
        hand.settle();
    }
    hand.publish(1..=1);
    hand.settle();
    while handled.load(Ordering::Relaxed) == 0 {
        assert!(hand.runner.run_one().unwrap(), "the first consumer has mail");
    }
    let started = starts.load(Ordering::Relaxed);
    assert!(started < 50, "{started} of 101 were started before one got its mail");
    hand.run();
    assert_eq!(starts.load(Ordering::Relaxed), 101);
}

/// Whose mail comes as fast as it is handled does not keep its runner from the others.
#[test]
fn who_always_has_more_lets_the_others_have_their_turn() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let handled = [Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default()];
    // The shard, which goes on while the first consumer handles something.
    let source: Arc<Mutex<Option<(Publisher, Pump)>>> = Arc::default();
    let now = hand.now;
    for (number, handled) in handled.iter().enumerate() {
        let (handled, source) = (Arc::clone(handled), Arc::clone(&source));
        let factory = move |start: &Start<'_>| {
            let (handled, source) = (Arc::clone(&handled), Arc::clone(&source));
            let handle = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
                handled.fetch_add(1, Ordering::Relaxed);
                let commit = delivery.commit_lsn().as_u64();
                if let (0, Some((publisher, pump))) = (number, &mut *source.lock()) {
                    publisher.try_publish(Arc::new(row(&relation(2), commit + 1))).unwrap();
                    while pump.step(now) {}
                }
                reports(delivery, context)
            };
            Ok(Started::new(Box::new(Handler(handle)), start.resume()))
        };
        hand.add_with(ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer });
    }
    // Their mailboxes are empty, so nobody waits because others are full (R17).
    for _ in 0..100 {
        hand.add_filtered("kind = 2", recording(&Arc::default(), Ack::Consumer));
        hand.settle();
    }
    hand.run();
    hand.publish(1..=1);
    hand.settle();
    let ByHand { publisher, pump, mut runner, .. } = hand;
    *source.lock() = Some((publisher, pump));
    assert!(runner.run_one().unwrap());
    let first = handled[0].load(Ordering::Relaxed);
    assert!((2..600).contains(&first), "{first} in one turn, and another one waits");
    assert!(runner.run_one().unwrap() && handled[1].load(Ordering::Relaxed) > 0);
    *source.lock() = None;
}
