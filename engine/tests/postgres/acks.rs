//! Acknowledgements: what the slot is told, and when.

use crate::world::{LONG, World, inserted, items, log_of, wait_until};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use walfan::{
    Ack, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Engine, Lsn, Reporter, Start,
    Started,
};

/// Hands its commits out to be reported by the test.
struct Silent {
    reporter: Reporter,
    commits: Arc<Mutex<Vec<(Reporter, Lsn)>>>,
}

impl Consumer for Silent {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        _: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        if let Some(commit) = delivery.commit() {
            self.commits.lock().unwrap().push((self.reporter.clone(), commit));
        }
        Ok(())
    }
}

#[test]
fn b01_a_keepalive_between_commit_and_flush_acknowledges_nothing() {
    let world = World::new();
    let commits = Arc::new(Mutex::new(Vec::new()));
    let handed = Arc::clone(&commits);
    let factory = move |start: &Start<'_>| {
        let silent = Silent { reporter: start.reporter(), commits: Arc::clone(&handed) };
        Ok(Started::new(Box::new(silent), start.resume()))
    };
    let consumer = ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer };
    world.engine.add_shape(items(""), consumer).unwrap();
    world.wait_confirmed_end();
    world.sql("INSERT INTO items VALUES (1, 'a', 'b')");
    wait_until("the commit", || !commits.lock().unwrap().is_empty());
    let (reporter, commit) = commits.lock().unwrap()[0].clone();
    // Other WAL makes the server name positions beyond the commit.
    for _ in 0..20 {
        world.sql("INSERT INTO other SELECT generate_series(1, 100)");
        let end: Lsn = world.sql("SELECT pg_current_wal_lsn()").parse().unwrap();
        wait_until("a keepalive", || world.status().server >= end);
        assert!(world.confirmed() <= commit, "{} was not flushed", commit);
    }
    reporter.flushed(commit).unwrap();
    world.wait_confirmed_end();
}

#[test]
fn b02_wal_of_other_tables_moves_the_slot() {
    let world = World::new();
    world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    let before = world.confirmed();
    for _ in 0..10 {
        world.sql("INSERT INTO other SELECT generate_series(1, 20000)");
    }
    world.wait_confirmed_end();
    assert!(world.confirmed().as_u64() - before.as_u64() > 8 << 20);
    assert!(world.engine.floor() >= world.confirmed(), "the floor comes first (R13)");
    assert_eq!(world.status().transactions, 0);
}

/// Blocks its shard while told so.
struct Blocking {
    blocked: Arc<AtomicBool>,
}

impl Consumer for Blocking {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        while self.blocked.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        match delivery.commit() {
            Some(commit) => Ok(context.flushed(commit)?),
            None => Ok(()),
        }
    }
}

/// Lets the handler go also when the test fails, so that it ends.
pub(crate) struct Release(Arc<AtomicBool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// A world of one shard, whose handler blocks it until released.
pub(crate) fn held_up() -> (World, Release) {
    let world = World::with(&["wal_sender_timeout=5s"], |directory| {
        Engine::builder().shards(1).runners(1).fragment_credits(4).directory(directory.path())
    });
    let blocked = Arc::new(AtomicBool::new(true));
    let release = Release(Arc::clone(&blocked));
    let factory = move |start: &Start<'_>| {
        let blocking = Box::new(Blocking { blocked: Arc::clone(&blocked) });
        Ok(Started::new(blocking, start.resume()))
    };
    let consumer = ConsumerSpec::Inline { factory: Arc::new(factory), ack: Ack::Log };
    world.engine.add_shape(items("id = 1"), consumer).unwrap();
    (world, release)
}

/// The shape's handler holds up its shard, the shard its channel, the channel the source: for
/// several times as long as the server waits for a word from us.
#[test]
fn b03_back_pressure_beyond_wal_sender_timeout_keeps_the_connection() {
    let timeout = Duration::from_secs(5);
    let (world, release) = held_up();
    let all = world.engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    let walsender = world.walsender();
    let rows = 20_000;
    world.sql(&format!(
        "INSERT INTO items SELECT n, 'a', repeat('x', 500) FROM generate_series(1, {rows}) n"
    ));
    wait_until("back-pressure", || world.status().held_back);
    let until = Instant::now() + timeout * 5 / 2;
    while Instant::now() < until {
        assert!(world.status().held_back);
        assert_eq!(world.walsender(), walsender, "{}", world.cluster.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(release);
    world.wait_confirmed_end();
    assert!(world.status().last_error.is_none(), "{}", world.cluster.log());
    assert_eq!((world.walsender(), world.status().connections), (walsender, 1));
    assert_eq!(inserted(&log_of(&world.engine, all)), (1..=rows).collect::<Vec<u64>>());
    world.engine.shutdown(LONG).unwrap();
}
