//! Deaths, and what is said of them twice, late or too early.

use super::*;

/// Says that it is gone.
struct WhenDropped<F: Fn()>(F);

impl<F: Fn()> Drop for WhenDropped<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// R9: its consumer may be in a runner's hands by the time that the verdict is read.
#[test]
fn r09_a_factory_that_answers_while_it_is_given_up_has_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (watch, now) = (Mutex::new(hand.watch.take().unwrap()), hand.now);
    let factory = Arc::new(move |start: &Start<'_>| {
        let mut watch = watch.lock();
        for seconds in [0, 1_000] {
            watch.tick(now + Duration::from_secs(seconds));
        }
        Ok(Started::new(Box::new(Handler(reports)), start.resume()))
    });
    let (handle, _) = hand.add_with(ConsumerSpec::Mailbox { factory, ack: Ack::Consumer });
    hand.run();
    for commit in 1..4 {
        hand.publish(commit..=commit);
        hand.run();
    }
    assert_eq!((hand.living(), hand.flushed()), (vec![handle], 3));
    assert_eq!((hand.counters().deaths.get(), hand.counters().lagging.get()), (0, 0));
}

/// R9: a verdict that comes too late is taken back, and shields nobody who is silent later.
#[test]
fn r09_who_answered_while_it_was_given_up_has_a_deadline_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (handle, _) = hand.add_with(mailbox(Ack::Consumer, |_, _| Ok(())));
    hand.pump();
    let job = hand.runner.run_or_hang().unwrap().expect("its factory");
    hand.watch(Duration::from_secs(1_000));
    hand.runner.come_back(*job);
    hand.run();
    assert_eq!((hand.living(), hand.counters().deaths.get()), (vec![handle], 0));
    hand.publish(1..=1);
    hand.run();
    hand.watch(Duration::from_secs(1_000));
    hand.run();
    assert_eq!((hand.living(), hand.flushed()), (vec![], 1));
}

/// R9, R12: what a factory makes that was given up is handed nothing and dropped, and until then
/// its shape's removal has not ended.
#[test]
fn r12_a_factory_that_was_given_up_and_hangs_holds_up_the_end_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (handled, dropped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (handles, drops) = (Arc::clone(&handled), Arc::clone(&dropped));
    let factory = move |start: &Start<'_>| {
        let (incarnation, handles) = (start.incarnation(), Arc::clone(&handles));
        let drops = Arc::clone(&drops);
        let noticed = WhenDropped(move || drops.lock().push(incarnation));
        let handle = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
            let _noticed = &noticed;
            handles.lock().push((incarnation, delivery.commit_lsn().as_u64()));
            reports(delivery, context)
        };
        // Who comes late says that it has everything.
        let late = Offset::commit_mark(Lsn::new(1_000));
        let resume = if incarnation == 1 { late } else { start.resume() };
        Ok(Started::new(Box::new(Handler(handle)), resume))
    };
    let spec = ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer };
    let (handle, _) = hand.add_with(spec);
    hand.pump();
    let job = hand.runner.run_or_hang().unwrap().expect("its factory");
    hand.watch(Duration::from_secs(1_000));
    hand.run();
    hand.publish(1..=2);
    hand.run();
    assert_eq!((&*handled.lock(), hand.flushed()), (&vec![(2, 1), (2, 2)], 2));
    hand.remove(handle);
    hand.run();
    let removed = |hand: &ByHand| hand.events().contains(&Event::Removed { handle });
    assert!(!removed(&hand), "one incarnation is in its factory");
    assert_eq!((hand.living(), &*dropped.lock()), (vec![], &vec![2]));
    hand.runner.come_back(*job);
    hand.run();
    assert!(removed(&hand));
    assert_eq!((handled.lock().len(), &*dropped.lock()), (2, &vec![2, 1]));
}

/// R9: who resumes below its last report owes from there again, as far as the LSN has not passed
/// it.
#[test]
fn r09_who_resumes_below_its_last_report_takes_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (holds, _) = hand.add_with(mailbox(Ack::Consumer, |_, _| Ok(())));
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    let sees = Arc::clone(&seen);
    let factory = move |start: &Start<'_>| {
        let (incarnation, sees) = (start.incarnation(), Arc::clone(&sees));
        let handle = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
            let commit = delivery.commit_lsn().as_u64();
            match (incarnation, commit) {
                (1, 6) => return Err("as the test wants".into()),
                (1, _) | (_, 7) => reports(delivery, context)?,
                _ => {}
            }
            sees.lock().push(commit);
            Ok(())
        };
        // What it had from there on is lost.
        let lost = Offset::commit_mark(Lsn::new(2));
        let resume = if incarnation == 1 { start.resume() } else { lost };
        Ok(Started::new(Box::new(Handler(handle)), resume))
    };
    hand.add_with(ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer });
    hand.run();
    hand.publish(1..=5);
    hand.run();
    hand.publish(6..=6);
    hand.run();
    assert_eq!((&*seen.lock(), hand.flushed()), (&vec![1, 2, 3, 4, 5, 3, 4, 5, 6], 0));
    hand.remove(holds);
    hand.run();
    assert_eq!(hand.flushed(), 2, "it has reported nothing of the rest again");
    hand.publish(7..=7);
    hand.run();
    assert_eq!(hand.flushed(), 7);
}

/// R6: a send that finds the channel disconnected and the runner's note tell of one death. Either
/// is enough.
#[test]
fn r06_one_death_that_is_seen_twice_or_once_is_one_death() {
    for note_is_lost in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut hand = ByHand::open(dir.path());
        let runner = Runner::new(Arc::clone(&hand.inner.pool), Arc::clone(&hand.links));
        let runner = Mutex::new(Some(runner));
        let reporter: Arc<Mutex<Option<Reporter>>> = Arc::default();
        let (found, seen) = (Arc::clone(&reporter), Arc::new(Mutex::new(Vec::new())));
        // On the shard's thread, before the other one's turn: that one dies by then.
        let runs = Arc::new(move |delivery: &Delivery<'_>| {
            if delivery.commit_lsn() == Lsn::new(2) {
                let mut runner = runner.lock().take().unwrap();
                assert!(runner.run_one().unwrap());
                let reporter = found.lock().take().unwrap();
                if note_is_lost {
                    assert!(reporter.mailbox().take_note().is_some());
                }
            }
        });
        let factory = move |start: &Start<'_>| {
            let runs = Arc::clone(&runs);
            let handle = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
                runs(delivery);
                reports(delivery, context)
            };
            Ok(Started::new(Box::new(Handler(handle)), start.resume()))
        };
        hand.add_with(ConsumerSpec::Inline { factory: Arc::new(factory), ack: Ack::Consumer });
        let sees = Arc::clone(&seen);
        let factory = move |start: &Start<'_>| {
            let (incarnation, sees) = (start.incarnation(), Arc::clone(&sees));
            *reporter.lock() = Some(start.reporter());
            let handle = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
                if incarnation == 1 {
                    return Err("as the test wants".into());
                }
                sees.lock().push(delivery.commit_lsn().as_u64());
                reports(delivery, context)
            };
            Ok(Started::new(Box::new(Handler(handle)), start.resume()))
        };
        hand.add_with(ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer });
        hand.run();
        hand.publish(1..=1);
        hand.pump();
        hand.publish(2..=2);
        hand.run();
        let counters = hand.counters();
        assert_eq!((counters.deaths.get(), counters.retries.get()), (1, 1), "{note_is_lost}");
        assert_eq!((counters.restarts.get(), counters.lagging.get()), (1, 0));
        assert_eq!((&*seen.lock(), hand.flushed()), (&vec![1, 2], 2), "the retry is the replay");
    }
}

/// An inline consumer whose first incarnation dies at commit 2.
fn dies_at_2() -> ConsumerSpec {
    let factory = |start: &Start<'_>| {
        let incarnation = start.incarnation();
        let handle = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
            if incarnation == 1 && delivery.commit_lsn() == Lsn::new(2) {
                return Err("as the test wants".into());
            }
            reports(delivery, context)
        };
        Ok(Started::new(Box::new(Handler(handle)), start.resume()))
    };
    ConsumerSpec::Inline { factory: Arc::new(factory), ack: Ack::Consumer }
}

/// It comes back also where others have commits on its way: there is nothing in them for it.
#[test]
fn an_inline_consumer_comes_back_beside_commits_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    hand.add_filtered("kind = 1", dies_at_2());
    hand.run();
    hand.publish(1..=2);
    hand.settle();
    assert!(hand.runner.run_one().unwrap(), "its factory");
    hand.settle();
    hand.publisher.publish(of_kind("2", 3)).unwrap();
    hand.run();
    let before = hand.counters().handled_inline.get();
    hand.publish(4..=4);
    // No runner has a hand in it.
    hand.settle();
    assert_eq!((hand.flushed(), hand.counters().handled_inline.get()), (4, before + 1));
}

/// Who is ahead of the stream cannot be handed it inline yet: it waits for its next mail, and its
/// shard for what comes.
#[test]
fn an_inline_consumer_that_cannot_come_back_yet_keeps_nobody_busy() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let seen = Commits::default();
    let sees = Arc::clone(&seen);
    let factory = move |_: &Start<'_>| {
        let seen = Arc::clone(&sees);
        let handle = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
            seen.lock().push(delivery.commit_lsn().as_u64());
            reports(delivery, context)
        };
        Ok(Started::new(Box::new(Handler(handle)), Offset::commit_mark(Lsn::new(3))))
    };
    hand.add_with(ConsumerSpec::Inline { factory: Arc::new(factory), ack: Ack::Consumer });
    hand.run();
    hand.publish(1..=1);
    let works =
        |hand: &mut ByHand| hand.pump.step(hand.now) | hand.sync() | hand.runner.run_one().unwrap();
    let worked = (0..1_000).take_while(|_| works(&mut hand)).count();
    assert!(worked < 100, "they go on for {worked} rounds, and nothing comes");
    hand.publish(2..=4);
    hand.run();
    hand.publish(5..=5);
    hand.settle();
    assert_eq!((hand.flushed(), &*seen.lock()), (5, &vec![4, 5]));
}

/// An inline consumer that died comes back by way of a mailbox, and then to its shard (3.2).
#[test]
fn an_inline_consumer_that_died_is_its_shards_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    hand.add_with(dies_at_2());
    hand.run();
    for commit in 1..=2 {
        hand.publish(commit..=commit);
        hand.run();
    }
    let before = hand.counters().handled_inline.get();
    hand.publish(3..=5);
    // No runner has a hand in it.
    hand.settle();
    assert_eq!((hand.flushed(), hand.counters().handled_inline.get()), (5, before + 3));
}

/// A replay goes first, also to a consumer whose mail waits behind everybody else's already.
#[test]
fn a_replay_does_not_wait_behind_the_mail_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let consumer = |name: &'static str| {
        let seen = Arc::clone(&seen);
        let factory = move |start: &Start<'_>| {
            let (incarnation, seen) = (start.incarnation(), Arc::clone(&seen));
            let handle = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
                let commit = delivery.commit_lsn().as_u64();
                if (name, incarnation, commit) == ("dies", 1, 2) {
                    return Err("as the test wants".into());
                }
                seen.lock().push((name, commit));
                reports(delivery, context)
            };
            Ok(Started::new(Box::new(Handler(handle)), start.resume()))
        };
        ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer }
    };
    for name in ["first", "second", "dies"] {
        hand.add_with(consumer(name));
    }
    hand.run();
    for commit in 1..=2 {
        hand.publish(commit..=commit);
        hand.settle();
        while hand.runner.run_one().unwrap() {}
    }
    // Its restart, and what it owes on its way; its mail comes last.
    hand.pump();
    assert!(hand.runner.run_one().unwrap(), "the factory");
    hand.pump();
    seen.lock().clear();
    hand.publish(3..=3);
    hand.settle();
    hand.run();
    let seen = seen.lock();
    assert_eq!((seen[0], seen.len()), (("dies", 2), 4), "{seen:?}");
}

/// Progress on the shard's own thread counts like any other (3.6).
#[test]
fn deaths_with_inline_progress_in_between_condemn_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let factory = |start: &Start<'_>| {
        let incarnation = start.incarnation();
        let handle = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
            let commit = delivery.commit_lsn().as_u64();
            // One death with progress; progress; and two deaths without.
            match (commit, incarnation) {
                (1, _) => context.exit(),
                (3, 2 | 3) => return Err("as the test wants".into()),
                _ => {}
            }
            reports(delivery, context)
        };
        Ok(Started::new(Box::new(Handler(handle)), start.resume()))
    };
    let inline = ConsumerSpec::Inline { factory: Arc::new(factory), ack: Ack::Consumer };
    let (handle, _) = hand.add_with(inline);
    hand.run();
    for commit in 1..=4 {
        hand.publish(commit..=commit);
        hand.run();
        // Restarts after the first are paced.
        hand.now += Duration::from_secs(1);
        hand.run();
    }
    assert_eq!((hand.living(), hand.flushed(), hand.counters().deaths.get()), (vec![handle], 4, 3));
}

/// The first restart is immediate, later ones are paced, and nobody is condemned for that (3.6).
#[test]
fn restarts_after_the_first_are_paced() {
    let dir = tempfile::tempdir().unwrap();
    // One in ten milliseconds.
    let builder = Engine::builder().directory(dir.path()).restarts_per_second(100);
    let mut hand = ByHand::with(builder);
    let window = Duration::from_millis(10);
    for _ in 0..5 {
        let factory = |start: &Start<'_>| match start.incarnation() {
            1 | 2 => Err("as the test wants".into()),
            _ => Ok(Started::new(Box::new(Handler(reports)), start.resume())),
        };
        hand.add_with(ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer });
    }
    hand.run();
    assert_eq!(hand.counters().deaths.get(), 10, "each was restarted once");
    for started in 1..=5 {
        hand.now += window;
        hand.run();
        assert_eq!(hand.counters().restarts.get(), started);
    }
    hand.publish(1..=1);
    hand.run();
    assert_eq!((hand.living().len(), hand.flushed()), (5, 1));
}

/// R10: what a runner took and has not run is run by others when it ends.
#[test]
fn r10_a_runner_that_ends_leaves_its_queue_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    for _ in 0..3 {
        hand.add_with(mailbox(Ack::Consumer, reports));
    }
    hand.run();
    hand.publish(1..=1);
    hand.pump();
    let mut ends = Runner::new(Arc::clone(&hand.inner.pool), Arc::clone(&hand.links));
    assert!(ends.run_one().unwrap(), "it takes all three, and runs one");
    drop(ends);
    hand.run();
    assert_eq!(hand.flushed(), 1);
}

/// R10: who waits behind a wedged handler is run by others, also by such as are never idle.
#[test]
fn r10_what_waits_behind_a_wedged_handler_goes_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (watch, now) = (Mutex::new(hand.watch.take().unwrap()), hand.now);
    let pool = Arc::clone(&hand.inner.pool);
    let other = Mutex::new(Runner::new(Arc::clone(&pool), Arc::clone(&hand.links)));
    let handled: Arc<Mutex<Vec<_>>> = Arc::default();
    let notes = Arc::clone(&handled);
    let hangs = Arc::new(move |own: &Reporter| {
        let (mut watch, mut other) = (watch.lock(), other.lock());
        watch.tick(now);
        watch.tick(now + Duration::from_millis(100));
        // The others have something to do: there is nothing in it, as its part is taken.
        (0..2).for_each(|_| pool.run_batch(vec![Arc::clone(own.mailbox())]));
        (0..2).for_each(|_| assert!(other.run_one().unwrap()));
        notes.lock().push("hangs");
    });
    let factory = move |start: &Start<'_>| {
        let (hangs, own) = (Arc::clone(&hangs), start.reporter());
        let handle = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
            hangs(&own);
            reports(delivery, context)
        };
        Ok(Started::new(Box::new(Handler(handle)), start.resume()))
    };
    hand.add_with(ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer });
    for _ in 0..2 {
        let notes = Arc::clone(&handled);
        hand.add_with(mailbox(Ack::Consumer, move |delivery, context| {
            notes.lock().push("waits");
            reports(delivery, context)
        }));
    }
    hand.run();
    hand.publish(1..=1);
    hand.settle();
    hand.run();
    assert_eq!(*handled.lock(), ["waits", "waits", "hangs"]);
    assert_eq!((hand.flushed(), hand.counters().deaths.get()), (1, 0));
}
