//! Altered: tables that change under their shapes, and rows that cannot be read. Exactly the shapes
//! of that table end, durably and with a word to everybody; all others go on (C01, C18).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use support::*;
use walfan::{
    Ack, AddError, Column, ConsumerSpec, Engine, Event, Handle, Lsn, Offset, Publisher, ReadError,
    ReadLimits, Relation, ShapeDefinition, TableName, TransactionBuilder, Value,
};

fn orders() -> Arc<Relation> {
    let columns = vec![Column::new("id", 20, true), Column::new("kind", 25, false)];
    Arc::new(Relation::new(16_390, TableName::new("public", "orders"), columns))
}

/// `items`, with another column.
fn wider() -> Arc<Relation> {
    let mut columns = items().columns.to_vec();
    columns.push(Column::new("price", 23, false));
    Arc::new(Relation::new(16_384, TableName::new("public", "items"), columns))
}

/// `items`, dropped and made again.
fn remade() -> Arc<Relation> {
    let items = items();
    Arc::new(Relation::new(items.oid + 1, items.table.clone(), items.columns.to_vec()))
}

struct World {
    dir: tempfile::TempDir,
    engine: Engine,
    publisher: Publisher,
    items: Arc<Relation>,
    orders: Arc<Relation>,
    /// Shapes of `items`, whole and filtered, with and without consumers, in both shards.
    of_items: Vec<Handle>,
    of_orders: Vec<Handle>,
    seen_of_orders: Seen,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let (engine, publisher) = small().directory(dir.path()).start().unwrap();
        let (items, orders) = (items(), orders());
        engine.learn(Arc::clone(&items));
        engine.learn(Arc::clone(&orders));
        let mut of_items = Vec::new();
        for clause in ["", "id = 1 OR kind = 'a'"] {
            for placement in PLACEMENTS {
                for ack in [Ack::Consumer, Ack::Log] {
                    let spec = recorder(placement, ack, &Seen::default(), reports());
                    of_items.push(engine.add_shape(shape(clause), spec).unwrap());
                }
            }
            for _ in 0..2 {
                of_items.push(engine.add_shape(shape(clause), ConsumerSpec::Log).unwrap());
            }
        }
        let seen_of_orders = Seen::default();
        let of = |clause| ShapeDefinition::filtered(orders.table.clone(), clause);
        let spec = recorder(Placement::Mailbox, Ack::Consumer, &seen_of_orders, reports());
        let of_orders = vec![
            engine.add_shape(of("kind = 'a'"), spec).unwrap(),
            engine.add_shape(of("kind = 'a'"), ConsumerSpec::Log).unwrap(),
        ];
        World { dir, engine, publisher, items, orders, of_items, of_orders, seen_of_orders }
    }

    fn orders(&mut self, commits: std::ops::Range<u64>) {
        for commit in commits {
            let mut transaction = TransactionBuilder::new(1, Lsn::new(commit));
            let row = [Value::Text(b"1"), Value::Text(b"a")];
            transaction.insert(&self.orders, row).unwrap();
            self.publisher.publish(transaction.commit(Lsn::new(commit + 1))).unwrap();
        }
    }

    /// Every shape of `items` is invalidated and every other one has `orders`, now and when opened
    /// again.
    fn only_items_ended(self, cause: &str, orders: &[Offset]) {
        let last = orders.last().unwrap().commit;
        assert_eq!(self.engine.wait_flushed(last, LONG).unwrap(), last);
        let mut ended = Vec::new();
        while ended.len() < self.of_items.len() {
            let event = wait_for(&self.engine, |e| matches!(e, Event::Invalidated { .. }));
            let Event::Invalidated { handle, cause: said, .. } = event else { unreachable!() };
            assert!(said.contains(cause), "{said}");
            ended.push(handle);
        }
        ended.sort();
        assert_eq!(ended, self.of_items);
        let metrics = self.engine.metrics();
        assert_eq!((metrics.invalidated, metrics.deaths), (ended.len() as u64, 0));
        assert_eq!((metrics.shapes, metrics.undeliverable), (self.of_orders.len() as u64, 0));
        assert_eq!(joined(&self.seen_of_orders), orders);
        self.reads(&self.engine, orders);
        self.engine.shutdown(LONG).unwrap();
        let World { dir, engine, publisher, of_items, of_orders, .. } = self;
        drop((engine, publisher));
        let (engine, _publisher) = small().directory(dir.path()).start().unwrap();
        let living: Vec<_> = engine.shapes().into_iter().map(|(handle, _)| handle).collect();
        assert_eq!(living, of_orders);
        assert!(of_items.iter().all(|&handle| is_unknown(&engine, handle)));
        assert_eq!(log_of(&engine, of_orders[1]), orders);
    }

    fn reads(&self, engine: &Engine, orders: &[Offset]) {
        assert!(self.of_items.iter().all(|&handle| is_unknown(engine, handle)));
        assert!(self.of_orders.iter().all(|&handle| log_of(engine, handle) == orders));
    }
}

fn is_unknown(engine: &Engine, handle: Handle) -> bool {
    let read = engine.read(handle, Offset::ZERO, ReadLimits::default());
    matches!(read, Err(ReadError::Unknown { handle: named }) if named == handle)
}

#[test]
fn c18_an_altered_table_ends_its_shapes_and_no_others() {
    let mut world = World::new();
    publish_rows(&mut world.publisher, &world.items, 1..4, "a");
    world.orders(4..6);
    // In the middle of a transaction that touched them, and an order beside it.
    let (items, wider) = (Arc::clone(&world.items), wider());
    let mut transaction = TransactionBuilder::new(1, Lsn::new(6));
    insert(&mut transaction, &items, 1, "a");
    let row = [Value::Text(b"1"), Value::Text(b"a"), Value::Null, Value::Text(b"3")];
    transaction.insert(&wider, row).unwrap();
    transaction.insert(&world.orders, [Value::Text(b"1"), Value::Text(b"a")]).unwrap();
    world.publisher.publish(transaction.commit(Lsn::new(7))).unwrap();
    world.orders(7..9);
    // Who still knows the old table is told.
    let late = world.engine.add_shape(shape(""), ConsumerSpec::Log).unwrap_err();
    assert!(matches!(&late, AddError::Altered { table } if *table == items.table), "{late}");
    world.engine.learn(Arc::clone(&wider));
    let new = ShapeDefinition::filtered(wider.table.clone(), "price = 3");
    let new = world.engine.add_shape(new, ConsumerSpec::Log).unwrap();
    let mut transaction = TransactionBuilder::new(1, Lsn::new(9));
    transaction.insert(&wider, row).unwrap();
    world.publisher.publish(transaction.commit(Lsn::new(10))).unwrap();
    assert_eq!(world.engine.wait_flushed(Lsn::new(9), LONG).unwrap(), Lsn::new(9));
    assert_eq!(log_of(&world.engine, new), firsts(9..10));
    world.engine.remove_shape(new).unwrap();
    world.orders(10..11);
    let middle = vec![Offset::new(Lsn::new(6), 4)];
    let expected = [firsts(4..6), middle, firsts(7..9), firsts(10..11)].concat();
    world.only_items_ended("was altered", &expected);
}

/// It has the name of the old one, another OID, and is announced by its first row.
#[test]
fn g02_a_table_that_is_made_again_ends_the_shapes_of_the_old_one() {
    let mut world = World::new();
    publish_rows(&mut world.publisher, &world.items, 1..4, "a");
    world.orders(4..6);
    let remade = remade();
    let mut transaction = TransactionBuilder::new(1, Lsn::new(6));
    insert(&mut transaction, &world.items, 1, "a");
    transaction.insert(&world.orders, [Value::Text(b"1"), Value::Text(b"a")]).unwrap();
    insert(&mut transaction, &remade, 1, "a");
    transaction.insert(&world.orders, [Value::Text(b"1"), Value::Text(b"a")]).unwrap();
    world.publisher.publish(transaction.commit(Lsn::new(7))).unwrap();
    let late = world
        .engine
        .wait_flushed(Lsn::new(6), LONG)
        .map(|_| world.engine.add_shape(shape(""), ConsumerSpec::Log).unwrap_err());
    assert!(matches!(&late, Ok(AddError::Altered { table }) if *table == remade.table), "{late:?}");
    world.engine.learn(Arc::clone(&remade));
    let new = world.engine.add_shape(shape("kind = 'a'"), ConsumerSpec::Log).unwrap();
    publish_rows(&mut world.publisher, &remade, 7..9, "a");
    assert_eq!(world.engine.wait_flushed(Lsn::new(8), LONG).unwrap(), Lsn::new(8));
    assert_eq!(log_of(&world.engine, new), firsts(7..9));
    world.engine.remove_shape(new).unwrap();
    world.orders(9..10);
    let middle = vec![Offset::new(Lsn::new(6), 2), Offset::new(Lsn::new(6), 6)];
    let expected = [firsts(4..6), middle, firsts(9..10)].concat();
    world.only_items_ended("is another one now (OID 16385, was 16384)", &expected);
}

/// What comes again after a restart is older than the shapes of the table as it is now: it says
/// nothing of them, and is not theirs.
#[test]
fn g02_a_replay_of_an_older_table_ends_no_shape_of_the_present_one() {
    for (older, present) in [(items(), remade()), (items(), wider())] {
        let dir = tempfile::tempdir().unwrap();
        let row = |relation: &Arc<Relation>, commit: u64| {
            let row = [Value::Text(b"1"), Value::Text(b"a"), Value::Null, Value::Null];
            let mut transaction = TransactionBuilder::new(1, Lsn::new(commit));
            transaction.insert(relation, row[..relation.columns.len()].iter().copied()).unwrap();
            transaction.commit(Lsn::new(commit + 1))
        };
        let (engine, mut publisher) = small().directory(dir.path()).start().unwrap();
        (1..5).for_each(|commit| publisher.publish(row(&older, commit)).unwrap());
        publisher.publish(row(&present, 5)).unwrap();
        assert_eq!(engine.wait_flushed(Lsn::new(5), LONG).unwrap(), Lsn::new(5));
        engine.learn(Arc::clone(&present));
        let shapes = ["", "", "kind = 'a'", "kind = 'a'"];
        let shapes = shapes.map(|clause| (shape(clause), ConsumerSpec::Log));
        let shapes = engine.add_shapes(shapes.to_vec()).unwrap();
        engine.shutdown(LONG).unwrap();
        drop((engine, publisher));
        let (engine, mut publisher) = small().directory(dir.path()).start().unwrap();
        (1..5).for_each(|commit| publisher.publish(row(&older, commit)).unwrap());
        (5..8).for_each(|commit| publisher.publish(row(&present, commit)).unwrap());
        assert_eq!(engine.wait_flushed(Lsn::new(7), LONG).unwrap(), Lsn::new(7));
        for &shape in &shapes {
            assert_eq!(log_of(&engine, shape), firsts(6..8));
        }
        // And from here on it is no replay.
        publisher.publish(row(&older, 8)).unwrap();
        assert_eq!(engine.wait_flushed(Lsn::new(8), LONG).unwrap(), Lsn::new(8));
        assert_eq!(engine.metrics().invalidated, shapes.len() as u64);
    }
}

/// Nothing tells of an altered table but an announcement, until its next row.
#[test]
fn c01_shapes_of_an_altered_table_are_added_before_its_next_row() {
    let mut world = World::new();
    publish_rows(&mut world.publisher, &world.items, 1..4, "a");
    let wider = wider();
    world.engine.learn(Arc::clone(&wider));
    let shapes = ["price = 3", "price = 3", "price = 4", "price = 4"];
    let shapes = shapes.map(|clause| (shape(clause), ConsumerSpec::Log));
    let new = world.engine.add_shapes(shapes.to_vec()).unwrap();
    let row = [Value::Text(b"1"), Value::Text(b"a"), Value::Null, Value::Text(b"3")];
    let mut transaction = TransactionBuilder::new(1, Lsn::new(4));
    transaction.insert(&wider, row).unwrap();
    world.publisher.publish(transaction.commit(Lsn::new(5))).unwrap();
    world.orders(5..6);
    assert_eq!(world.engine.wait_flushed(Lsn::new(5), LONG).unwrap(), Lsn::new(5));
    let logs: Vec<_> = new.iter().map(|shape| log_of(&world.engine, *shape)).collect();
    assert_eq!(logs, [firsts(4..5), firsts(4..5), vec![], vec![]]);
    new.iter().for_each(|shape| world.engine.remove_shape(*shape).unwrap());
    world.only_items_ended("was altered", &firsts(5..6));
}

/// Which columns are keys says nothing of what rows mean (G05), unless a shape selects the key.
#[test]
fn g05_another_primary_key_ends_the_shapes_that_select_columns_and_no_others() {
    let mut world = World::new();
    let some = shape("kind = 'a'").with_columns(["note"]);
    let some = vec![(some, ConsumerSpec::Log); 2];
    let some = world.engine.add_shapes(some).unwrap();
    let columns = world.items.columns.iter();
    let keys = columns.map(|c| Column::new(&c.name, c.type_oid, true)).collect();
    let full = Arc::new(Relation::new(16_384, world.items.table.clone(), keys));
    publish_rows(&mut world.publisher, &world.items, 1..3, "a");
    publish_rows(&mut world.publisher, &full, 3..6, "a");
    assert_eq!(world.engine.wait_flushed(Lsn::new(5), LONG).unwrap(), Lsn::new(5));
    assert_eq!(world.engine.metrics().invalidated, some.len() as u64);
    assert!(some.iter().all(|&handle| is_unknown(&world.engine, handle)));
    assert_eq!(log_of(&world.engine, world.of_items[4]), firsts(1..6));
}

/// A value that no clause can be decided by: the old row of a table without REPLICA IDENTITY FULL.
#[test]
fn c01_a_row_that_cannot_be_routed_ends_its_tables_shapes_and_no_others() {
    let mut world = World::new();
    world.orders(1..3);
    let mut transaction = TransactionBuilder::new(1, Lsn::new(3));
    transaction.insert(&world.orders, [Value::Text(b"1"), Value::Text(b"a")]).unwrap();
    let old = [Value::Text(b"1"), Value::Unchanged, Value::Unchanged];
    let new = [Value::Text(b"1"), Value::Text(b"a"), Value::Null];
    transaction.update(&world.items, old, new).unwrap();
    transaction.insert(&world.orders, [Value::Text(b"1"), Value::Text(b"a")]).unwrap();
    world.publisher.publish(transaction.commit(Lsn::new(4))).unwrap();
    publish_rows(&mut world.publisher, &world.items, 4..6, "a");
    world.orders(6..8);
    let middle = vec![Offset::new(Lsn::new(3), 0), Offset::new(Lsn::new(3), 4)];
    let expected = [firsts(1..3), middle, firsts(6..8)].concat();
    world.only_items_ended("(at 0/3_2)", &expected);
}

#[test]
fn g01_a_truncate_ends_every_shape_of_its_table_and_no_others() {
    let mut world = World::new();
    let none = ShapeDefinition::filtered(world.items.table.clone(), "id = NULL");
    world.of_items.push(world.engine.add_shape(none, ConsumerSpec::Log).unwrap());
    let some = ShapeDefinition::table(world.items.table.clone()).with_columns(["kind"]);
    world.of_items.push(world.engine.add_shape(some, ConsumerSpec::Log).unwrap());
    publish_rows(&mut world.publisher, &world.items, 1..3, "a");
    let mut transaction = TransactionBuilder::new(1, Lsn::new(3));
    transaction.insert(&world.orders, [Value::Text(b"1"), Value::Text(b"a")]).unwrap();
    transaction.truncate(&world.items);
    world.publisher.publish(transaction.cut()).unwrap();
    // It starts with the next transaction: what is truncated in this one it never had.
    wait_until("the truncate", || {
        world.engine.metrics().invalidated == world.of_items.len() as u64
    });
    let late = world.engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    transaction.truncate(&world.items);
    world.publisher.publish(transaction.commit(Lsn::new(4))).unwrap();
    publish_rows(&mut world.publisher, &world.items, 4..5, "a");
    world.orders(5..6);
    assert_eq!(world.engine.wait_flushed(Lsn::new(5), LONG).unwrap(), Lsn::new(5));
    assert_eq!(log_of(&world.engine, late), firsts(4..5));
    world.engine.remove_shape(late).unwrap();
    world.only_items_ended("was truncated (at 0/3_2)", &[firsts(3..4), firsts(5..6)].concat());
}

/// What a source sends again after a restart is older than shapes that were added meanwhile.
#[test]
fn g01_a_truncate_that_comes_again_does_not_end_who_came_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let items = items();
    let open = || {
        let (engine, publisher) = small().directory(dir.path()).start().unwrap();
        engine.learn(Arc::clone(&items));
        (engine, publisher)
    };
    // Of these commits nothing is logged, so they are not known after the restart.
    let send = |publisher: &mut Publisher| {
        publish_rows(publisher, &items, 1..3, "b");
        let mut transaction = TransactionBuilder::new(1, Lsn::new(3));
        transaction.truncate(&items);
        publisher.publish(transaction.commit(Lsn::new(4))).unwrap();
    };
    let (engine, mut publisher) = open();
    send(&mut publisher);
    assert_eq!(engine.wait_flushed(Lsn::new(3), LONG).unwrap(), Lsn::new(3));
    let added = vec![(shape("kind = 'a'"), ConsumerSpec::Log); 2];
    let added = engine.add_shapes(added).unwrap();
    engine.shutdown(LONG).unwrap();
    drop((engine, publisher));
    let (engine, mut publisher) = open();
    send(&mut publisher);
    publish_rows(&mut publisher, &items, 4..6, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(5), LONG).unwrap(), Lsn::new(5));
    assert!(added.iter().all(|&handle| log_of(&engine, handle) == firsts(4..6)));
}
