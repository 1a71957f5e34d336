//! Tables that are dropped and made again under the shapes on them (G02), and what of their columns
//! the stream does not tell.

use crate::world::{LONG, World, inserted, items, log_of, selected, state, wait_until};
use std::sync::Arc;
use std::time::Duration;
use walfan::{
    Ack, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Event, Handle, ShapeDefinition,
    Start, Started, TableName,
};

/// Reports nothing, so that everything is sent again after a restart.
struct Silent;

impl Consumer for Silent {
    fn handle(&mut self, _: &Delivery<'_>, _: &mut Context<'_>) -> Result<(), ConsumerError> {
        Ok(())
    }
}

const MADE_AGAIN: &str = "DROP TABLE items;
    CREATE TABLE items (id bigint PRIMARY KEY, kind text, note text);
    ALTER TABLE items REPLICA IDENTITY FULL;
    ALTER PUBLICATION walfan ADD TABLE items";

#[test]
fn g02_a_table_that_is_made_again_ends_its_shapes_and_new_ones_live_on() {
    let mut world = World::new();
    world.sql("ALTER TABLE other REPLICA IDENTITY FULL; ALTER PUBLICATION walfan ADD TABLE other");
    let publisher = world.stop_source();
    // It reads the catalog again.
    world.start_source(publisher);
    let old = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    let other = ShapeDefinition::table(TableName::new("public", "other"));
    let factory = Arc::new(|start: &Start<'_>| Ok(Started::new(Box::new(Silent), start.resume())));
    let silent = ConsumerSpec::Mailbox { factory, ack: Ack::Consumer };
    let silent = world.engine.add_shape(other, silent).unwrap();
    world.sql("INSERT INTO other VALUES (0)");
    world.sql("INSERT INTO items VALUES (1, 'a', 'b')");
    wait_until("the first row", || inserted(&log_of(&world.engine, old)) == [1]);
    world.sql(MADE_AGAIN);
    world.sql("INSERT INTO items VALUES (2, 'a', 'b')");
    let event = world.engine.events().recv_timeout(LONG).unwrap();
    assert!(matches!(event, Event::Invalidated { handle, .. } if handle == old), "{event:?}");
    let shapes = ["", "kind = 'a'"].map(|clause| (items(clause), ConsumerSpec::Log));
    let new = world.engine.add_shapes(shapes.to_vec()).unwrap();
    world.sql("INSERT INTO items VALUES (3, 'a', 'b')");
    let all_have = |world: &World, expected: &[u64]| {
        wait_until("the rows", || {
            new.iter().all(|&shape| inserted(&log_of(&world.engine, shape)) == expected)
        });
    };
    all_have(&world, &[3]);
    world.reopen_after(Duration::ZERO, |_| {});
    // Rows of the old table came again, and say nothing of the shapes of the new one.
    world.sql("INSERT INTO items VALUES (4, 'a', 'b')");
    all_have(&world, &[3, 4]);
    let newest = world.engine.add_shape(items("id > 4"), ConsumerSpec::Log).unwrap();
    world.sql("INSERT INTO items VALUES (5, 'a', 'b')");
    all_have(&world, &[3, 4, 5]);
    wait_until("its row", || inserted(&log_of(&world.engine, newest)) == [5]);
    let mut living = [new.as_slice(), &[silent, newest]].concat();
    living.sort();
    let found: Vec<_> = world.engine.shapes().into_iter().map(|(handle, _)| handle).collect();
    assert_eq!(found, living);
}

/// What OIDs do not tell the catalog does, and the log remembers.
#[test]
fn shapes_on_enums_and_arrays_of_them_get_their_rows_in_each_life() {
    let mut world = World::new();
    world.sql(
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
         CREATE DOMAIN named AS mood[];
         ALTER TABLE items ADD mood mood, ADD moods mood[], ADD named named",
    );
    let publisher = world.stop_source();
    // It reads the catalog again.
    world.start_source(publisher);
    let mut shapes = Vec::new();
    let add = |world: &World, clause| {
        (clause, world.engine.add_shape(items(clause), ConsumerSpec::Log).unwrap())
    };
    for clause in ["moods @> '{ok}'", "mood = ANY (moods)", "moods[1] = 'sad' OR moods = '{}'"] {
        shapes.push(add(&world, clause));
    }
    let refused = world.engine.add_shape(items("named @> '{ok}'"), ConsumerSpec::Log);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("\"named\" at line 1, column 1 has type OID"), "{refused}");
    let write = |world: &World, first: u64| {
        world.sql(&format!(
            "INSERT INTO items (id, mood, moods) VALUES ({first}, 'ok', '{{ok,sad}}'),
             ({first} + 1, 'sad', '{{sad,happy}}'), ({first} + 2, 'sad', '{{}}'),
             ({first} + 3, NULL, '{{happy,ok}}'), ({first} + 4, 'ok', NULL)"
        ));
        world.sql(&format!("UPDATE items SET moods = '{{sad}}' WHERE id = {first} + 3"));
    };
    let all_have = |world: &World, shapes: &[(&str, Handle)]| {
        world.wait_confirmed_end();
        for (clause, handle) in shapes {
            let expected = selected(world, clause);
            assert_eq!(state(&log_of(&world.engine, *handle)), expected, "{clause}");
        }
    };
    write(&world, 10);
    all_have(&world, &shapes);
    world.reopen(|world| write(world, 20));
    shapes.push(add(&world, "moods && '{happy}' AND id > 30"));
    write(&world, 30);
    all_have(&world, &shapes);
    // The stream says that the table is another, and nothing of enums.
    world.sql("ALTER TABLE items RENAME note TO remark; DELETE FROM items");
    world.wait_confirmed_end();
    let renamed = add(&world, "'happy' = ANY (moods)");
    write(&world, 40);
    all_have(&world, &[renamed]);
}
