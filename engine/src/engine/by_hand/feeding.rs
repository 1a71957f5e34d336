//! Who is fed from the log: in which order, and what it costs whom.

use super::*;

/// A log of many blocks, all of whose rows are of kind 1.
const COMMITS: u64 = 400;

/// A life that leaves shapes with these clauses, and then a long log.
fn backlog(dir: &Path, clauses: &[&str]) {
    let mut hand = ByHand::open(dir);
    for clause in clauses {
        hand.add_filtered(clause, ConsumerSpec::Log);
    }
    for commit in 1..=COMMITS {
        hand.publish(commit..=commit);
        hand.settle();
    }
}

/// Every second turn is of who is farthest behind, and every other one of who is nearest: neither
/// waits until the others are at the end.
#[test]
fn who_is_farthest_behind_and_who_is_nearest_are_fed_in_turn() {
    const FAR: u64 = 20;
    let dir = tempfile::tempdir().unwrap();
    backlog(dir.path(), &["kind = 1"; 8]);
    // By handle, in the order in which they were handed something.
    let seen = Commits::default();
    let sees = Arc::clone(&seen);
    let builder = Engine::builder().directory(dir.path()).consumers(move |handle, _| {
        let (seen, number) = (Arc::clone(&sees), handle.as_u64());
        let factory = move |_: &Start<'_>| {
            let seen = Arc::clone(&seen);
            let handler = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
                seen.lock().push(number);
                reports(delivery, context)
            };
            let resume = Offset::commit_mark(Lsn::new(FAR + number * 40));
            Ok(Started::new(Box::new(Handler(handler)), resume))
        };
        ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer }
    });
    let mut hand = ByHand::with(builder);
    hand.run();
    assert_eq!(hand.flushed(), COMMITS);
    let seen = seen.lock();
    let first = |number| seen.iter().position(|seen| *seen == number);
    let last = |number| seen.iter().rposition(|seen| *seen == number);
    assert!(first(0) < last(7), "the farthest one waits for the nearest: {seen:?}");
    assert!(first(7) < last(0), "the nearest one waits for the farthest: {seen:?}");
}

/// INV9: a block in which a consumer's shape has nothing does not concern the consumer.
#[test]
fn inv9_blocks_with_nothing_for_a_shape_are_passed_without_its_consumer() {
    let dir = tempfile::tempdir().unwrap();
    backlog(dir.path(), &["kind = 1", "kind = 2"]);
    let builder =
        Engine::builder().directory(dir.path()).consumers(|_, definition| {
            match definition.where_clause.as_deref() {
                Some("kind = 2") => {
                    mailbox(Ack::Consumer, |_, _| Err("it is none of its own".into()))
                }
                _ => ConsumerSpec::Log,
            }
        });
    let mut hand = ByHand::with(builder);
    hand.run();
    assert_eq!((hand.flushed(), hand.counters().lagging.get()), (COMMITS, 0));
    let (runs, _) = hand.runner.shared().pulse.look();
    assert!(runs < 5, "its consumer was run {runs} times");
}
