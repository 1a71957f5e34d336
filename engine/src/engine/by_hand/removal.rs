//! Removal, whose every step may be done twice and cut off anywhere (INV5): by who asks again, and
//! by who starts again.

use super::*;

/// A shape that owes something, beside one that does not.
fn one_that_owes(hand: &mut ByHand) -> [Handle; 2] {
    let (gone, _) = hand.add_with(mailbox(Ack::Consumer, |_, _| Ok(())));
    let (stays, _) = hand.add();
    hand.run();
    hand.publish(1..=1);
    hand.run();
    assert_eq!(hand.flushed(), 0, "it owes");
    [gone, stays]
}

fn removed(events: &[Event]) -> Vec<Handle> {
    let removed = events.iter().filter_map(|event| match event {
        Event::Removed { handle } => Some(*handle),
        _ => None,
    });
    removed.collect()
}

/// INV5: whoever comes second hears that the shape is gone, when it is so for good; and nothing is
/// counted twice.
#[test]
fn inv5_a_second_removal_finds_the_shape_gone_and_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let [gone, stays] = one_that_owes(&mut hand);
    let slot = hand.inner.control.registry.place(gone).unwrap().slot;
    let again = |hand: &ByHand| hand.send(|reply| Message::Remove(gone, slot, reply));
    // Before the first is looked at, while its record is synced, and before its consumer is gone.
    let first = hand.remove(gone);
    let mut more = vec![again(&hand)];
    hand.pump();
    more.push(again(&hand));
    hand.pump();
    assert!(first.is_empty() && more.iter().all(Receiver::is_empty), "nothing is durable yet");
    hand.settle();
    more.push(again(&hand));
    hand.run();
    assert_eq!(first.try_recv(), Ok(Ok(1)));
    assert!(more.iter().all(|answer| answer.try_recv() == Ok(Err(Refusal::Unknown))));
    assert_eq!((hand.living(), hand.shapes(), hand.flushed()), (vec![stays], 1, 1));
    assert_eq!(removed(&hand.events()), [gone]);
    let ended = hand.send(|reply| Message::InvalidateAll("as the test wants".into(), reply));
    hand.run();
    assert_eq!((ended.try_recv(), hand.shapes()), (Ok(Ok(1)), 0));
    drop(hand);
    assert_eq!(ByHand::open(dir.path()).living(), []);
}

/// INV5: the record is durable, and the process dies before anybody does what is left to do.
#[test]
fn inv5_a_removal_of_which_the_log_alone_knows_is_completed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let [gone, stays] = one_that_owes(&mut hand);
    drop(hand);
    // At a start the catalog is made to know of both.
    let mut hand = ByHand::open(dir.path());
    let entered = |hand: &ByHand| hand.inner.catalog.as_ref().unwrap().held().handles();
    assert_eq!(entered(&hand), [gone, stays]);
    let slot = hand.inner.control.registry.place(gone).unwrap().slot;
    hand.remove(gone);
    hand.run();
    // Nobody pumps who clears up.
    assert_eq!((entered(&hand), hand.living()), (vec![gone, stays], vec![stays]));
    drop(hand);
    let mut hand = ByHand::open(dir.path());
    assert_eq!((entered(&hand), hand.living()), (vec![stays], vec![stays]));
    let again = hand.send(|reply| Message::Remove(gone, slot, reply));
    hand.publish(1..=2);
    hand.run();
    assert_eq!((again.try_recv(), hand.flushed()), (Ok(Err(Refusal::Unknown)), 2));
    assert_eq!((hand.living(), hand.shapes()), (vec![stays], 1));
}

/// R3: what is kept of a shape beside its log goes when the record of its end is durable. Before
/// that a power cut would bring the shape back, and not its initial rows.
#[test]
fn r03_who_clears_up_hears_of_an_end_once_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let [gone, _] = one_that_owes(&mut hand);
    hand.remove(gone);
    hand.pump();
    let keeper = hand.keeper.take().unwrap();
    assert!(keeper.is_idle(), "its record is not durable");
    hand.run();
    assert!(keeper.step().unwrap() && keeper.is_idle());
}

/// R12: a removal has ended when its record is durable and its consumer dropped, in any order.
#[test]
fn r12_a_removal_ends_with_its_record_and_its_consumer_whichever_comes_last() {
    for record_is_last in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut hand = ByHand::open(dir.path());
        let [gone, _] = one_that_owes(&mut hand);
        hand.remove(gone);
        hand.pump();
        let drops = |hand: &mut ByHand| assert!(hand.runner.run_one().unwrap());
        if record_is_last {
            drops(&mut hand);
        } else {
            hand.settle();
        }
        hand.pump();
        assert_eq!(removed(&hand.events()), [], "{record_is_last}");
        if record_is_last {
            hand.settle();
        } else {
            drops(&mut hand);
        }
        hand.pump();
        assert_eq!(removed(&hand.events()), [gone], "{record_is_last}");
    }
}
