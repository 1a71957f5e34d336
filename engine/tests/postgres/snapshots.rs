//! Snapshots: rows that are read while writers write, and the log behind them, are the table.

use crate::world::{World, items, log_of, selected};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use walfan::{
    ConsumerSpec, Engine, Handle, LoggedChange, Lsn, PgSnapshot, ReadLimits, SnapshotError,
    SnapshotPosition, Value,
};

const WRITERS: u64 = 4;
const ROUNDS: usize = 12;

type Rows = BTreeMap<u64, Vec<Option<String>>>;

fn text(value: Value<'_>) -> Option<String> {
    crate::world::text(value)
}

/// Each writer has rows of its own; some of its transactions stay open for a while, and some end
/// in nothing.
fn write(world: &World, number: u64, done: &AtomicBool, count: &AtomicU64) {
    let mut session = world.cluster.session().unwrap();
    let mut turn = 0;
    while !done.load(Ordering::Relaxed) {
        let id = turn * WRITERS + number;
        let earlier = turn / 2 * WRITERS + number;
        let kind = ["hot", "cold", "warm"][turn as usize % 3];
        let (wait, end) = (turn % 5 == 0, if turn % 7 == 3 { "ROLLBACK" } else { "COMMIT" });
        let wait = if wait { "SELECT pg_sleep(0.02);" } else { "" };
        let statement = format!(
            "BEGIN;
             INSERT INTO items VALUES ({id}, '{kind}', repeat('x', 5000));
             UPDATE items SET kind = CASE kind WHEN 'hot' THEN 'cold' ELSE 'hot' END
               WHERE id = {earlier};
             SAVEPOINT one;
             DELETE FROM items WHERE id = {earlier} AND id % 5 = 0;
             {wait}
             {end}"
        );
        session.run(&statement).unwrap();
        count.fetch_add(1, Ordering::Relaxed);
        turn += 1;
    }
}

/// Adds a shape, and loads its rows as they are now; how often the snapshot had to be taken anew.
fn load(world: &World, clause: &str) -> (Handle, usize) {
    let engine = &world.engine;
    let handle = engine.add_shape_with_snapshot(items(clause), ConsumerSpec::Log).unwrap();
    let condition = if clause.is_empty() { "true" } else { clause };
    let mut session = world.cluster.session().unwrap();
    for taken_anew in 0.. {
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").unwrap();
        let taken =
            session.run("SELECT pg_current_snapshot(), pg_current_wal_insert_lsn()").unwrap();
        let (shown, at) = taken.trim().split_once('|').unwrap();
        let (shown, at) = (shown.parse::<PgSnapshot>().unwrap(), at.parse::<Lsn>().unwrap());
        match engine.load_snapshot(handle, shown, at) {
            Ok(mut loader) => {
                let sql = format!("SELECT id, kind, note FROM items WHERE {condition}");
                let rows = session.run(&sql).unwrap();
                session.run("COMMIT").unwrap();
                for row in rows.lines().filter(|line| !line.is_empty()) {
                    let values = row.split('|').map(|value| Value::Text(value.as_bytes()));
                    loader.push(values).unwrap();
                }
                loader.finish().unwrap();
                return (handle, taken_anew);
            }
            // Another backend was between its commit record and being seen: once more.
            Err(SnapshotError::Unshown { .. } | SnapshotError::TooOld { .. }) => {
                session.run("COMMIT").unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("there is always another number")
}

/// Others do not see a transaction that waits for its standby, though it is in the WAL, may have
/// come here, and may have been confirmed. So in rows it is not, nor does it come again.
#[test]
fn g11_a_commit_that_waits_for_a_standby_is_not_lost_over_a_restart() {
    let mut world = World::new();
    world.sql("INSERT INTO items VALUES (1, 'hot', NULL)");
    world.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    world.sql("SELECT pg_reload_conf()");
    let shows = || world.sql("SHOW synchronous_standby_names");
    crate::world::wait_until("the setting", || shows() == "nobody");
    let log = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    let mut waits = world.cluster.session().unwrap();
    let insert = std::thread::spawn(move || waits.run("INSERT INTO items VALUES (2, 'hot', NULL)"));
    crate::world::wait_until("it came", || log_of(&world.engine, log).len() == 1);
    world.wait_confirmed_end();
    assert_eq!(world.sql("SELECT count(*) FROM items"), "1", "it is not seen yet");
    world.reopen(|_| {});
    let mut session = world.cluster.session().unwrap();
    let handle = world.engine.add_shape_with_snapshot(items(""), ConsumerSpec::Log).unwrap();
    let taken = "SELECT pg_current_snapshot(), pg_current_wal_insert_lsn()";
    let taken = session.run(taken).unwrap();
    let (shown, at) = taken.trim().split_once('|').unwrap();
    let loaded = world.engine.load_snapshot(handle, shown.parse().unwrap(), at.parse().unwrap());
    let error = loaded.map(drop).unwrap_err();
    assert!(matches!(error, SnapshotError::Unshown { .. }), "{error}");
    world.sql("ALTER SYSTEM RESET synchronous_standby_names");
    world.sql("SELECT pg_reload_conf()");
    insert.join().unwrap().unwrap();
    let (handle, _) = load(&world, "");
    assert_eq!(initial(&world.engine, handle).len(), 2);
}

fn initial(engine: &Engine, handle: Handle) -> Rows {
    let (mut rows, mut from) = (Rows::new(), SnapshotPosition::START);
    loop {
        let page = engine.read_snapshot(handle, from, ReadLimits::default()).unwrap();
        for row in &page.rows {
            let values: Vec<_> = row.row().values().map(text).collect();
            let id = values[0].as_ref().unwrap().parse().unwrap();
            assert!(rows.insert(id, values).is_none(), "row {id} is there twice");
        }
        from = page.next;
        if page.is_last {
            return rows;
        }
    }
}

/// The rows that a log leads to; a change of a row that is not there, or that comes twice, is told.
fn applied(mut rows: Rows, log: &[LoggedChange]) -> BTreeMap<u64, String> {
    for change in log {
        let id = |row: walfan::RowRef<'_>| text(row.get(0).unwrap()).unwrap().parse().unwrap();
        let before = change.old_row().map(|row| (rows.remove(&id(row)), row));
        if let Some((before, old)) = &before {
            assert!(before.is_some(), "{change:?} of row {:?}, which is not there", old.get(0));
        }
        let Some(new) = change.new_row() else { continue };
        let before = before.and_then(|(before, _)| before);
        let values = new.values().enumerate().map(|(column, value)| match value {
            Value::Unchanged => before.as_ref().unwrap()[column].clone(),
            value => text(value),
        });
        let twice = rows.insert(id(new), values.collect());
        assert!(twice.is_none(), "{change:?} of a row that is there");
    }
    let print = |row: Vec<Option<String>>| {
        row.into_iter().map(|value| value.unwrap_or_default()).collect::<Vec<_>>().join("|")
    };
    rows.into_iter().map(|(id, row)| (id, print(row))).collect()
}

#[test]
fn d19_initial_rows_and_the_log_behind_them_are_the_table() {
    let mut world = World::new();
    let clauses = ["", "kind = 'hot'", "kind = 'cold' OR id % 3 = 0"];
    let (done, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut loaded = Vec::new();
    let mut anew = 0;
    std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let (world, done, count) = (&world, &done, &count);
            scope.spawn(move || write(world, number, done, count));
        }
        for round in 0..ROUNDS {
            let clause = clauses[round % clauses.len()];
            let (handle, again) = load(&world, clause);
            loaded.push((handle, clause));
            anew += again;
            let reached = count.load(Ordering::Relaxed) + 5;
            crate::world::wait_until("writing", || count.load(Ordering::Relaxed) >= reached);
        }
        done.store(true, Ordering::Relaxed);
    });
    world.wait_confirmed_end();
    let count = count.load(Ordering::Relaxed);
    println!("{ROUNDS} snapshots beside {count} transactions; {anew} were taken anew");
    let check = |world: &World| {
        for (handle, clause) in &loaded {
            let log = log_of(&world.engine, *handle);
            let rows = applied(initial(&world.engine, *handle), &log);
            assert_eq!(rows, selected(world, clause), "{clause:?}");
        }
    };
    check(&world);
    world.reopen(|_| {});
    world.sql("UPDATE items SET kind = 'hot' WHERE id % 4 = 1");
    world.wait_confirmed_end();
    check(&world);
}
