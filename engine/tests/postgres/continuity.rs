//! Continuity: a slot that is not where this engine left it invalidates the shapes (INV11).

use crate::acks::{Release, held_up};
use crate::world::{World, cluster, config, inserted, items, log_of, wait_until};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use walfan::{ConsumerSpec, Engine, Lsn, PostgresError, PostgresSource, Publisher};

fn fed() -> World {
    let world = World::new();
    world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    world.sql("INSERT INTO items VALUES (1, 'a', 'b')");
    world.wait_confirmed_end();
    world
}

#[test]
fn inv11_a_slot_that_was_dropped_invalidates_the_shapes() {
    let mut world = fed();
    world.reopen(|world| {
        world.sql("SELECT pg_drop_replication_slot('walfan')");
        world.sql("INSERT INTO items VALUES (2, 'lost', 'lost')");
    });
    assert_eq!(world.engine.shapes(), []);
    let handle = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    world.sql("INSERT INTO items VALUES (3, 'a', 'b')");
    world.wait_confirmed_end();
    assert_eq!(inserted(&log_of(&world.engine, handle)), [3]);
}

#[test]
fn inv11_a_slot_that_somebody_moved_invalidates_the_shapes() {
    let mut world = fed();
    world.reopen(|world| {
        world.sql("INSERT INTO items VALUES (2, 'lost', 'lost')");
        world.sql("SELECT pg_replication_slot_advance('walfan', pg_current_wal_lsn())");
    });
    assert_eq!(world.engine.shapes(), []);
}

/// The engine has a part of a transaction that never comes again, and its shard is held up.
fn dropped_in_the_middle() -> (World, Release, Publisher) {
    let (mut world, release) = held_up();
    world.sql("INSERT INTO items SELECT n, 'a', 'x' FROM generate_series(1, 20000) n");
    wait_until("back-pressure", || world.status().held_back);
    let publisher = world.stop_source();
    assert!(publisher.unfinished().is_some());
    world.sql("SELECT pg_drop_replication_slot('walfan')");
    (world, release, publisher)
}

#[test]
fn inv11_a_slot_that_was_dropped_in_the_middle_of_a_transaction_ends_it() {
    let (mut world, release, publisher) = dropped_in_the_middle();
    drop(release);
    world.start_source(publisher);
    assert_eq!(world.engine.shapes(), []);
    let handle = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    world.sql("INSERT INTO items VALUES (20001, 'a', 'b')");
    world.wait_confirmed_end();
    assert_eq!(inserted(&log_of(&world.engine, handle)), [20_001]);
}

/// What breaks continuity is not forgotten before it has ended the shapes: the floor, by which the
/// next start would know of it, stays below the new slot until they are gone.
#[test]
fn inv11_the_floor_rises_to_a_new_slot_once_the_shapes_are_gone() {
    let (mut world, release, publisher) = dropped_in_the_middle();
    let (engine, before) = (Arc::clone(&world.engine), world.engine.floor());
    let looks = thread::spawn(move || {
        wait_until("the floor at the new slot", || engine.floor() > before);
        engine.shapes().len()
    });
    // The shard that is to end them is held up meanwhile.
    let releases = thread::spawn(move || {
        thread::sleep(Duration::from_secs(1));
        drop(release);
    });
    world.start_source(publisher);
    releases.join().unwrap();
    assert_eq!(looks.join().unwrap(), 0, "shapes that live when the floor has risen");
}

#[test]
fn a_slot_where_it_was_left_invalidates_nothing() {
    let mut world = fed();
    for _ in 0..3 {
        world.reopen(|_| {});
        assert_eq!(world.engine.shapes().len(), 1);
    }
}

#[test]
fn a_server_that_is_behind_the_engine_is_refused() {
    let world = fed();
    world.sql("INSERT INTO other SELECT generate_series(1, 300000)");
    world.sql("INSERT INTO items VALUES (2, 'a', 'b')");
    world.wait_confirmed_end();
    let flushed = world.engine.flushed_lsn();
    let mut world = world;
    drop(world.stop_source());
    world.engine.shutdown(crate::world::LONG).unwrap();
    let other = cluster(&[]);
    let end: Lsn = other.sql("SELECT pg_current_wal_lsn()").unwrap().parse().unwrap();
    assert!(end < flushed);
    world.engine = Arc::new(Engine::builder().start().unwrap().0);
    let (engine, publisher) =
        Engine::builder().shards(2).directory(world.directory.path()).start().unwrap();
    let error = PostgresSource::start(Arc::new(engine), publisher, config(&other)).unwrap_err();
    assert!(matches!(error, PostgresError::ServerBehind { .. }), "{error}");
}
