//! Restarts: of the source, of the engine, of the connection and of the server. Nothing is lost and
//! nothing is in a log twice.

use crate::world::{World, inserted, items, log_of, wait_until};
use walfan::{ConsumerSpec, PostgresState};

fn insert(world: &World, id: u64) {
    // Several fragments, so that a restart can fall into the middle of a transaction.
    world.sql(&format!(
        "INSERT INTO items SELECT n, 'hot', 'x' FROM generate_series({id} * 100, {id} * 100 + 24) n"
    ));
}

fn expected(count: u64) -> Vec<u64> {
    (0..count).flat_map(|id| id * 100..=id * 100 + 24).collect()
}

/// B08: whatever is restarted, and wherever between commit, flush and acknowledgement that falls.
#[test]
fn b08_a_restart_after_every_commit_loses_and_repeats_nothing() {
    let mut world = World::new();
    let handle = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    let count = 24;
    for number in 0..count {
        insert(&world, number);
        match number % 4 {
            0 => {
                let publisher = world.stop_source();
                world.start_source(publisher);
            }
            1 => world.reopen(|_| {}),
            2 => {
                world.wait_confirmed_end();
                world.reopen(|_| {});
            }
            _ => drop(world.sql(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots \
                 WHERE active_pid IS NOT NULL",
            )),
        }
    }
    world.wait_confirmed_end();
    assert_eq!(inserted(&log_of(&world.engine, handle)), expected(count));
}

#[test]
fn what_is_written_while_the_engine_is_down_comes_when_it_is_up() {
    let mut world = World::new();
    let handle = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    insert(&world, 0);
    world.wait_confirmed_end();
    world.reopen(|world| {
        insert(world, 1);
        insert(world, 2);
    });
    insert(&world, 3);
    world.wait_confirmed_end();
    assert_eq!(inserted(&log_of(&world.engine, handle)), expected(4));
}

#[test]
fn a_server_that_crashes_is_found_again() {
    let mut world = World::new();
    let handle = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    insert(&world, 0);
    world.cluster.restart().unwrap();
    insert(&world, 1);
    wait_until("the second connection", || world.status().connections >= 2);
    world.wait_confirmed_end();
    assert_eq!(world.status().state, PostgresState::Streaming);
    assert!(world.status().last_error.is_some_and(|error| error.is_transient()));
    assert_eq!(inserted(&log_of(&world.engine, handle)), expected(2));
}

/// R2: a transaction of which the engine has a part comes again after a reconnect.
#[test]
fn a_connection_cut_in_the_middle_of_a_transaction_resumes_it() {
    let world = World::new();
    let handle = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    let rows = 60_000;
    let insert = format!(
        "INSERT INTO items SELECT n, 'hot', repeat('x', 200) FROM generate_series(1, {rows}) n"
    );
    let mut cuts = 0;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| world.sql(&insert));
        // Rows are sent after the commit: cut while they are on their way.
        writer.join().unwrap();
        for _ in 0..3 {
            let before = world.status().transactions;
            let cut = world.sql(
                "SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots \
                 WHERE active_pid IS NOT NULL",
            );
            cuts += u32::from(cut == "1" && before == 0);
            std::thread::sleep(std::time::Duration::from_millis(60));
        }
    });
    world.wait_confirmed_end();
    assert!(cuts > 0, "the transaction was through before it could be cut");
    assert_eq!(inserted(&log_of(&world.engine, handle)), (1..=rows).collect::<Vec<u64>>());
}
