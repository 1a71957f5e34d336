//! Whole: transactions that come in several fragments, and what of them goes out when.

use super::*;
use crate::words::FragmentLimits;

/// A transaction with so many rows, one a fragment.
fn in_fragments(commit: u64, rows: usize) -> Vec<Fragment> {
    let limits = FragmentLimits { changes_max: 1, ..FragmentLimits::default() };
    let mut transaction = TransactionBuilder::new(1, Lsn::new(commit)).with_limits(limits);
    let relation = relation(2);
    let mut fragments = Vec::new();
    for _ in 0..rows {
        if transaction.is_full() {
            fragments.push(transaction.cut());
        }
        transaction.insert(&relation, ["1", "a"].map(|text| Value::Text(text.as_bytes()))).unwrap();
    }
    fragments.push(transaction.commit(Lsn::new(commit + 1)));
    assert_eq!(fragments.len(), rows);
    fragments
}

/// Notes in `seen` of which commit each change is, and reports commits.
fn all_of(seen: &Commits) -> ConsumerSpec {
    let seen = Arc::clone(seen);
    mailbox(Ack::Consumer, move |delivery, context| {
        seen.lock().push(delivery.commit_lsn().as_u64());
        delivery.commit().map_or(Ok(()), |commit| Ok(context.flushed(commit)?))
    })
}

struct World {
    hand: ByHand,
    seen: Commits,
    _dir: tempfile::TempDir,
}

impl World {
    /// One consumer, which runs, and has had commit 1.
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut hand = ByHand::open(dir.path());
        let seen = Commits::default();
        hand.add_with(all_of(&seen));
        hand.run();
        hand.publish(1..=1);
        hand.run();
        World { hand, seen, _dir: dir }
    }

    fn publish(&mut self, fragments: impl IntoIterator<Item = Fragment>) {
        fragments.into_iter().for_each(|fragment| self.hand.publisher.publish(fragment).unwrap());
    }

    /// What the consumer has got after so many rounds of its shard.
    fn seen_after(&mut self, rounds: usize) -> Vec<u64> {
        for _ in 0..rounds {
            self.hand.pump.step(self.hand.now);
        }
        while self.hand.runner.run_one().unwrap() {}
        self.seen.lock().clone()
    }
}

#[test]
fn one_that_is_queued_as_a_whole_goes_out_with_its_neighbours() {
    let mut world = World::new();
    world.hand.publish(2..=2);
    world.publish(in_fragments(3, 2));
    world.hand.publish(4..=4);
    assert_eq!(world.seen_after(1), [1, 2, 3, 3, 4]);
    world.hand.run();
    assert_eq!(world.hand.flushed(), 4);
}

#[test]
fn one_whose_rest_is_not_there_is_not_kept_waiting_for_it() {
    let mut world = World::new();
    let mut fragments = in_fragments(3, 3);
    let last = fragments.pop();
    world.hand.publish(2..=2);
    world.publish(fragments);
    assert_eq!(world.seen_after(3), [1, 2, 3, 3]);
    assert_eq!(world.hand.flushed(), 1, "reports of this round are not looked at yet");
    world.hand.run();
    assert_eq!(world.hand.flushed(), 2);
    world.publish(last);
    world.hand.run();
    assert_eq!((world.hand.flushed(), &*world.seen.lock()), (3, &vec![1, 2, 3, 3, 3]));
}

#[test]
fn one_that_is_too_large_for_a_wave_goes_out_all_the_same() {
    for rows in [7, 8, 9, 20] {
        let mut world = World::new();
        world.hand.publish(2..=2);
        world.publish(in_fragments(3, rows));
        world.hand.publish(4..=4);
        world.hand.run();
        let expected: Vec<u64> = [1, 2].into_iter().chain(vec![3; rows]).chain([4]).collect();
        assert_eq!((&*world.seen.lock(), world.hand.flushed()), (&expected, 4), "{rows} rows");
    }
}

/// What follows does not overtake it, and a shape that is added between its fragments has nothing
/// of it.
#[test]
fn what_comes_between_its_fragments_has_its_place_there() {
    let mut world = World::new();
    let mut fragments = in_fragments(2, 2).into_iter();
    world.publish(fragments.next());
    let later = Commits::default();
    let (_, answer) = world.hand.add_with(all_of(&later));
    world.publish(fragments);
    world.hand.publish(3..=3);
    world.hand.run();
    assert_eq!(answer.try_recv().unwrap(), Ok(1));
    assert_eq!((&*world.seen.lock(), &*later.lock()), (&vec![1, 2, 2, 3], &vec![3]));
    assert_eq!(world.hand.flushed(), 3);
}

/// A source that connects again begins with a transaction from its first fragment on.
#[test]
fn one_that_is_cut_off_and_sent_again_is_handed_over_once() {
    for had in [1, 2] {
        let mut world = World::new();
        world.publish(in_fragments(2, 3).into_iter().take(had));
        world.publish(in_fragments(2, 3));
        world.hand.publish(3..=3);
        world.hand.run();
        assert_eq!((&*world.seen.lock(), world.hand.flushed()), (&vec![1, 2, 2, 2, 3], 3));
    }
}

/// What is handed over at once ends where one in several fragments begins or ends: who has had a
/// part of that owes nothing yet.
#[test]
fn neighbours_of_one_in_fragments_are_flushed_when_they_are_reported() {
    for late in [2, 3, 4, 5, 6] {
        let reports_late = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
            let commit = delivery.commit().filter(|commit| commit.as_u64() != late);
            commit.map_or(Ok(()), |commit| Ok(context.flushed(commit)?))
        };
        let factory = move |start: &Start<'_>| {
            Ok(Started::new(Box::new(Handler(reports_late)), start.resume()))
        };
        let inline = ConsumerSpec::Inline { factory: Arc::new(factory), ack: Ack::Consumer };
        for consumer in [inline, mailbox(Ack::Consumer, reports_late)] {
            let mut world = World::new();
            world.hand.add_with(consumer);
            world.hand.run();
            world.hand.publish(2..=3);
            world.publish(in_fragments(4, 2));
            world.hand.publish(5..=6);
            world.hand.run();
            assert_eq!(world.hand.flushed(), if late == 6 { 5 } else { 6 }, "late: {late}");
        }
    }
}
