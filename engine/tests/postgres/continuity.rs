//! Continuity: a slot that is not where this engine left it invalidates the shapes (INV11).

use crate::acks::{Release, held_up};
use crate::world::{LONG, World, cluster, config, inserted, items, log_of, wait_until};
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

/// No shape is left, and a new one gets what comes, the row `id`.
fn all_have_ended(world: &World, id: u64) {
    assert_eq!(world.engine.shapes(), []);
    let handle = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    world.sql(&format!("INSERT INTO items VALUES ({id}, 'a', 'b')"));
    world.wait_confirmed_end();
    assert_eq!(inserted(&log_of(&world.engine, handle)), [id]);
}

#[test]
fn inv11_a_slot_that_was_dropped_invalidates_the_shapes() {
    let mut world = fed();
    world.reopen(|world| {
        world.sql("SELECT pg_drop_replication_slot('walfan')");
        world.sql("INSERT INTO items VALUES (2, 'lost', 'lost')");
    });
    all_have_ended(&world, 3);
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
    all_have_ended(&world, 20_001);
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

/// Stops source and engine, and opens the engine again.
fn reopened(world: &mut World) -> (Arc<Engine>, Publisher) {
    drop(world.stop_source());
    world.engine.shutdown(LONG).unwrap();
    // The directory is in use until the engine is gone.
    world.engine = Arc::new(Engine::builder().start().unwrap().0);
    let builder = Engine::builder().shards(2).runners(2).directory(world.directory.path());
    let (engine, publisher) = builder.start().unwrap();
    let engine = Arc::new(engine);
    world.engine = Arc::clone(&engine);
    (engine, publisher)
}

/// Also one whose WAL reaches further, and whose slot stands below the floor.
#[test]
fn inv11_another_server_after_a_restart_is_refused_and_nothing_of_it_taken() {
    let mut world = fed();
    world.sql("INSERT INTO other SELECT generate_series(1, 300000)");
    world.sql("INSERT INTO items VALUES (2, 'a', 'b')");
    world.wait_confirmed_end();
    let (engine, publisher) = reopened(&mut world);
    let (handle, floor) = (engine.shapes()[0].0, engine.floor());
    let other = cluster(&[]);
    other.sql("CREATE PUBLICATION walfan FOR TABLE items").unwrap();
    let slot = "SELECT lsn FROM pg_create_logical_replication_slot('walfan', 'pgoutput')";
    assert!(other.sql(slot).unwrap().parse::<Lsn>().unwrap() < floor);
    other.sql("INSERT INTO other SELECT generate_series(1, 900000)").unwrap();
    other.sql("INSERT INTO items VALUES (3, 'of', 'another server')").unwrap();
    let started = PostgresSource::start(Arc::clone(&engine), publisher, config(&other));
    let error = started.err();
    assert!(matches!(error, Some(PostgresError::OtherServer { .. })), "{error:?}");
    assert_eq!(inserted(&log_of(&engine, handle)), [1, 2]);
    assert_eq!(engine.floor(), floor);
}

/// The server was promoted, or restored, where it had everything that the engine has.
#[test]
fn inv11_h04_a_new_timeline_that_goes_on_from_here_is_followed() {
    let mut world = fed();
    let publisher = world.stop_source();
    world.cluster = world.cluster.fork().unwrap();
    world.start_source(publisher);
    world.sql("INSERT INTO items VALUES (2, 'a', 'b')");
    world.wait_confirmed_end();
    world.reopen(|_| {});
    assert_eq!(world.engine.server().unwrap().timeline.get(), 2);
    assert_eq!(inserted(&log_of(&world.engine, world.engine.shapes()[0].0)), [1, 2]);
}

/// The engine has followed a server further than the one that is there now, a copy of it, has.
fn ahead() -> (World, Publisher) {
    let mut world = fed();
    let publisher = world.stop_source();
    let copy = world.cluster.fork().unwrap();
    world.start_source(publisher);
    world.sql("INSERT INTO other SELECT generate_series(1, 300000)");
    world.sql("INSERT INTO items VALUES (2, 'a', 'b')");
    world.wait_confirmed_end();
    let (_, publisher) = reopened(&mut world);
    world.cluster = copy;
    (world, publisher)
}

#[test]
fn inv11_h04_what_a_new_timeline_does_not_have_ends_the_shapes() {
    let (mut world, publisher) = ahead();
    world.sql("INSERT INTO other SELECT generate_series(1, 900000)");
    let end: Lsn = world.sql("SELECT pg_current_wal_flush_lsn()").parse().unwrap();
    assert!(world.engine.floor() < end && world.confirmed() < world.engine.floor());
    world.start_source(publisher);
    all_have_ended(&world, 3);
}

#[test]
fn a_server_that_is_behind_the_engine_is_refused() {
    let (world, publisher) = ahead();
    let engine = Arc::clone(&world.engine);
    let error = PostgresSource::start(engine, publisher, config(&world.cluster)).unwrap_err();
    assert!(matches!(error, PostgresError::ServerBehind { .. }), "{error}");
    assert_eq!(world.engine.shapes().len(), 1);
}
