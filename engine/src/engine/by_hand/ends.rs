//! Ends: a consumer that keeps its own reporter keeps the mailbox in which it lies, and so itself.
//! It is dropped all the same when its shape or its engine ends, however that is and wherever it
//! lies.

use super::*;

/// Consumers that keep their reporter, and `token`, as does their factory.
fn keeps_its_reporter(inline: bool, token: &Arc<()>) -> ConsumerSpec {
    let token = Arc::clone(token);
    let factory = move |start: &Start<'_>| {
        let kept = (start.reporter(), Arc::clone(&token));
        let handle = move |delivery: &Delivery<'_>, _: &mut Context<'_>| {
            let (reporter, _) = &kept;
            // Of the last one nothing, which its deadline then finds.
            if delivery.commit_lsn() < Lsn::new(100) {
                reporter.flushed(delivery.commit_lsn())?;
            }
            Ok(())
        };
        Ok(Started::new(Box::new(Handler(handle)), start.resume()))
    };
    let (factory, ack) = (Arc::new(factory), Ack::Consumer);
    if inline {
        ConsumerSpec::Inline { factory, ack }
    } else {
        ConsumerSpec::Mailbox { factory, ack }
    }
}

fn run_one(hand: &mut ByHand, _: Handle) {
    hand.runner.run_one().unwrap();
}

/// What becomes of the consumers, one after the other.
const STEPS: [fn(&mut ByHand, Handle); 8] = [
    |hand, _| hand.pump(),
    // Some are made, and one is parked without a word to its shard.
    run_one,
    |hand, _| hand.run(),
    |hand, _| {
        hand.publish(1..=1);
        hand.settle();
    },
    // A runner has taken all that have mail, and run one.
    run_one,
    // More than a mailbox takes.
    |hand, _| {
        hand.publish(2..=60);
        hand.settle();
    },
    run_one,
    |hand, handle| {
        hand.remove(handle);
        hand.settle();
    },
];

/// Nobody comes to drop them: the process goes on, and its engine has failed.
#[test]
fn a_consumer_goes_with_its_engine_whatever_it_was_at() {
    for inline in [false, true] {
        for steps in 0..=STEPS.len() {
            let token = Arc::new(());
            let mut hand = ByHand::with(Engine::builder());
            let [_, handle, _] =
                [(); 3].map(|()| hand.add_with(keeps_its_reporter(inline, &token)).0);
            STEPS[..steps].iter().for_each(|step| step(&mut hand, handle));
            drop(hand);
            assert_eq!(Arc::strong_count(&token), 1, "inline: {inline}, after {steps} steps");
        }
    }
}

/// R9, R16: a factory that hangs is left behind by its engine, and may answer after all.
#[test]
fn r16_what_a_factory_makes_for_an_engine_that_is_gone_is_dropped() {
    let token = Arc::new(());
    let mut hand = ByHand::with(Engine::builder());
    hand.add_with(keeps_its_reporter(false, &token));
    hand.pump();
    let mut hangs = Runner::new(Arc::clone(&hand.inner.pool), Arc::clone(&hand.links));
    let job = hangs.run_or_hang().unwrap().expect("its factory");
    drop(hand);
    hangs.come_back(*job);
    drop(hangs);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn a_consumer_goes_with_its_shape() {
    for inline in [false, true] {
        let token = Arc::new(());
        let mut hand = ByHand::with(Engine::builder());
        let ends: [fn(&mut ByHand, Handle); 3] = [
            |hand, handle| drop(hand.remove(handle)),
            |hand, _| {
                drop(hand.send(|reply| Message::InvalidateAll("as the test wants".into(), reply)));
            },
            |hand, _| {
                hand.publish(100..=100);
                hand.run();
                hand.watch(Duration::from_secs(1_000));
            },
        ];
        for end in ends {
            let (handle, _) = hand.add_with(keeps_its_reporter(inline, &token));
            hand.run();
            assert_eq!((hand.living(), Arc::strong_count(&token)), (vec![handle], 3));
            end(&mut hand, handle);
            hand.run();
            assert_eq!((hand.living(), Arc::strong_count(&token)), (vec![], 1));
        }
    }
}
