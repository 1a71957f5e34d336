//! Rows: what several connections write reaches each shape, exactly and in order.

use crate::world::{World, inserted, items, log_of, selected, state};
use walfan::{ConsumerSpec, Offset, ReadLimits};

const WRITERS: u64 = 4;
const TRANSACTIONS: u64 = 60;

/// Each writer has ids of its own, in rising order; some rows then change or go.
fn write(world: &World) {
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut session = world.cluster.session().unwrap();
            scope.spawn(move || {
                for number in 0..TRANSACTIONS {
                    let id = number * WRITERS + writer;
                    let kind = ["hot", "cold", "warm"][number as usize % 3];
                    let earlier = number / 2 * WRITERS + writer;
                    let large = if number % 7 == 0 { 5000 } else { 3 };
                    let statement = format!(
                        "BEGIN;
                         INSERT INTO items VALUES ({id}, '{kind}', repeat('x', {large}));
                         UPDATE items SET kind = CASE kind WHEN 'hot' THEN 'cold' ELSE 'hot' END
                           WHERE id = {earlier};
                         DELETE FROM items WHERE id = {earlier} AND id % 5 = 0;
                         COMMIT"
                    );
                    session.run(&statement).unwrap();
                }
            });
        }
    });
}

#[test]
fn shapes_receive_what_several_connections_write() {
    let world = World::new();
    let clauses = ["", "kind = 'hot'", "kind = 'cold' OR id = 7", "id = 11", "kind = 'never'"];
    let shapes = clauses
        .map(|clause| (clause, world.engine.add_shape(items(clause), ConsumerSpec::Log).unwrap()));
    write(&world);
    world.wait_confirmed_end();
    for (clause, handle) in shapes {
        let log = log_of(&world.engine, handle);
        assert!(log.windows(2).all(|pair| pair[0].offset() < pair[1].offset()), "{clause}");
        assert_eq!(state(&log), selected(&world, clause), "{clause}");
    }
    let all = inserted(&log_of(&world.engine, shapes[0].1));
    for writer in 0..WRITERS {
        let own: Vec<_> = all.iter().copied().filter(|id| id % WRITERS == writer).collect();
        let expected: Vec<_> = (0..TRANSACTIONS).map(|n| n * WRITERS + writer).collect();
        assert_eq!(own, expected, "each writer's rows, once and in order");
    }
    assert_eq!(all.len() as u64, WRITERS * TRANSACTIONS);
}

#[test]
fn one_large_transaction_and_large_rows_arrive_whole() {
    let world = World::new();
    let handle = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    world.sql("INSERT INTO items SELECT n, 'bulk', 'x' FROM generate_series(1, 3000) n");
    // Larger than any buffer on the way.
    world.sql(
        "INSERT INTO items SELECT n, 'large', repeat('y', 3000000) \
         FROM generate_series(4001, 4012) n",
    );
    world.sql("INSERT INTO items VALUES (5000, NULL, '')");
    world.wait_confirmed_end();
    let log = log_of(&world.engine, handle);
    let expected: Vec<u64> = (1..=3000).chain(4001..=4012).chain([5000]).collect();
    assert_eq!(inserted(&log), expected);
    let large = log.iter().filter_map(|change| change.new_row()).filter(
        |row| matches!(row.get(2), Some(walfan::Value::Text(note)) if note.len() == 3_000_000),
    );
    assert_eq!(large.count(), 12);
    let last = log.last().unwrap().new_row().unwrap();
    assert_eq!(last.get(1), Some(walfan::Value::Null));
    assert_eq!(last.get(2), Some(walfan::Value::Text(b"")));
}

#[test]
fn a_truncate_ends_the_shapes_of_its_table() {
    let world = World::new();
    let ended = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    world.sql("INSERT INTO items VALUES (1, 'a', '')");
    world.sql("BEGIN; TRUNCATE items; INSERT INTO items VALUES (2, 'a', ''); COMMIT");
    world.wait_confirmed_end();
    assert_eq!(world.engine.metrics().invalidated, 1);
    assert!(world.engine.read(ended, Offset::ZERO, ReadLimits::default()).is_err());
    let again = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    world.sql("INSERT INTO items VALUES (3, 'a', '')");
    world.wait_confirmed_end();
    assert_eq!(inserted(&log_of(&world.engine, again)), [3]);
}

#[test]
fn a_table_that_is_altered_in_mid_stream_goes_on_in_its_new_form() {
    let world = World::new();
    let before = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    world.sql("INSERT INTO items VALUES (1, 'a', 'b')");
    world.wait_confirmed_end();
    assert_eq!(inserted(&log_of(&world.engine, before)), [1]);
    world.sql("ALTER TABLE items ADD extra int; INSERT INTO items VALUES (2, 'a', 'b', 3)");
    world.wait_confirmed_end();
    let after = world.engine.add_shape(items("extra = 4"), ConsumerSpec::Log).unwrap();
    world.sql("INSERT INTO items VALUES (3, 'a', 'b', 4), (4, 'a', 'b', 5)");
    world.wait_confirmed_end();
    assert_eq!(inserted(&log_of(&world.engine, after)), [3]);
}
