//! Initial rows by hand: what depends on when they come.

use super::*;
use crate::shard::{Given, Prepared};
use crate::snapshot::{Initial, PgSnapshot, Snapshot};

impl ByHand {
    /// Adds a shape that is to be given initial rows.
    fn add_awaiting(&mut self, consumer: ConsumerSpec) -> Handle {
        let handle = Handle::new(self.inner.take_handles(1));
        let definition = ShapeDefinition::table(relation(2).table.clone());
        let shape = self.inner.prepare(handle, definition, consumer).unwrap();
        let shape = Prepared { initial: Initial::Awaited, ..shape };
        let added = self.send(|reply| Message::Add(vec![shape], None, reply));
        self.run();
        added.try_recv().unwrap().unwrap();
        handle
    }

    /// Says that its rows are complete, which show nothing.
    fn give(&self, handle: Handle) -> Answer {
        let shown = Arc::new(PgSnapshot::new(1, 1, []).unwrap());
        let (taken_at, rows, bytes, attempt, chunks) = (Lsn::new(100), 0, 0, 1, 1);
        let snapshot = Arc::new(Snapshot { shown, taken_at, rows, bytes, attempt, chunks });
        let slot = self.inner.control.registry.place(handle).unwrap().slot;
        self.send(|reply| Message::Snapshot(Given { handle, slot, snapshot, reply }))
    }
}

/// Writes down what it is handed, and reports it.
fn recorder(seen: &Arc<Mutex<Vec<Offset>>>) -> ConsumerSpec {
    let seen = Arc::clone(seen);
    mailbox(Ack::Consumer, move |delivery, context| {
        seen.lock().push(delivery.offset());
        match delivery.commit() {
            Some(lsn) => Ok(context.flushed(lsn)?),
            None => Ok(()),
        }
    })
}

/// Of a transaction that has begun its consumer would not see the beginning.
#[test]
fn rows_that_come_in_the_middle_of_a_transaction_are_given_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let seen = Arc::default();
    let handle = hand.add_awaiting(recorder(&seen));
    let relation = relation(2);
    let row = || relation.columns.iter().map(|_| Value::Text(b"1"));
    let mut transaction = TransactionBuilder::new(5, Lsn::new(5));
    transaction.insert(&relation, row()).unwrap();
    hand.publisher.publish(transaction.cut()).unwrap();
    hand.run();
    let given = hand.give(handle);
    hand.run();
    assert!(given.try_recv().is_err());
    assert!(hand.inner.control.registry.place(handle).unwrap().initial.is_awaited());
    transaction.insert(&relation, row()).unwrap();
    hand.publisher.publish(transaction.commit(Lsn::new(6))).unwrap();
    hand.run();
    given.try_recv().unwrap().unwrap();
    assert_eq!(*seen.lock(), [0, 2].map(|op| Offset::new(Lsn::new(5), op)));
    assert_eq!(hand.flushed(), 5);
}

/// The LSN waits for no shape whose rows are not complete, and then for what it has not passed.
#[test]
fn a_shape_that_awaits_its_rows_holds_no_lsn_and_one_that_has_them_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let seen = Arc::default();
    let handle = hand.add_awaiting(recorder(&seen));
    hand.publish(1..=3);
    hand.run();
    assert_eq!((hand.flushed(), seen.lock().len()), (3, 0));
    let given = hand.give(handle);
    hand.pump();
    given.try_recv().unwrap().unwrap();
    hand.publish(4..=6);
    hand.settle();
    // Its consumer has not run.
    assert_eq!(hand.flushed(), 3);
    hand.run();
    assert_eq!((hand.flushed(), seen.lock().len()), (6, 6));
}

/// What the LSN has not passed when the rows come is owed by their shape too.
#[test]
fn a_shape_that_is_given_its_rows_owes_what_the_lsn_has_not_passed() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let seen = Arc::default();
    let handle = hand.add_awaiting(recorder(&seen));
    let (other, _) = hand.add_with(mailbox(Ack::Consumer, |_, _| Ok(())));
    hand.publish(1..=3);
    hand.run();
    assert_eq!(hand.flushed(), 0, "the other one does not report");
    let given = hand.give(handle);
    hand.pump();
    given.try_recv().unwrap().unwrap();
    let removed = hand.remove(other);
    hand.settle();
    removed.try_recv().unwrap().unwrap();
    assert_eq!(hand.flushed(), 0, "nor has the consumer that is being made");
    hand.run();
    assert_eq!((hand.flushed(), seen.lock().len()), (3, 3));
}
