//! Support: a table, transactions on it, and a consumer that writes down what it sees.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "a module of several tests")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use walfan::{
    Ack, Builder, Column, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Engine, Event,
    Fragment, Handle, Lsn, Offset, Publisher, ReadLimits, Relation, ShapeDefinition, Start,
    Started, TableName, TransactionBuilder, Value,
};

/// So long nothing in a test takes; what takes longer has failed.
pub const LONG: Duration = Duration::from_secs(60);

/// `public.items (id int8 primary key, kind text, note text)`.
pub fn items() -> Arc<Relation> {
    let columns = vec![
        Column::new("id", 20, true),
        Column::new("kind", 25, false),
        Column::new("note", 25, false),
    ];
    Arc::new(Relation::new(16_384, TableName::new("public", "items"), columns))
}

pub fn shape(clause: &str) -> ShapeDefinition {
    let table = TableName::new("public", "items");
    if clause.is_empty() {
        ShapeDefinition::table(table)
    } else {
        ShapeDefinition::filtered(table, clause)
    }
}

/// A directory in memory where the machine has such a place: for tests that wait for thousands of
/// syncs, one after the other, and look at none.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Settings that suit a test.
pub fn small() -> Builder {
    Engine::builder().shards(2).runners(2)
}

/// A transaction of inserts `(id, kind)`, in one fragment.
pub fn inserts(items: &Arc<Relation>, commit: u64, rows: &[(u64, &str)]) -> Fragment {
    let mut transaction = TransactionBuilder::new(commit as u32, Lsn::new(commit));
    for (id, kind) in rows {
        insert(&mut transaction, items, *id, kind);
    }
    transaction.commit(Lsn::new(commit + 1))
}

pub fn insert(transaction: &mut TransactionBuilder, items: &Arc<Relation>, id: u64, kind: &str) {
    let id = id.to_string();
    let row = [Value::Text(id.as_bytes()), Value::Text(kind.as_bytes()), Value::Null];
    transaction.insert(items, row).unwrap();
}

/// What one consumer saw: incarnation, offset, whether it came with a commit.
pub type Seen = Arc<Mutex<Vec<(u64, Offset, bool)>>>;

/// What a consumer is to do with a delivery, beside writing it down.
pub type Script =
    Arc<dyn Fn(&Delivery<'_>, &mut Context<'_>) -> Result<Report, ConsumerError> + Send + Sync>;

/// Whether a commit is reported.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Yes,
    No,
}

struct Recorder {
    seen: Seen,
    script: Script,
}

impl Consumer for Recorder {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        let report = (self.script)(delivery, context)?;
        let commits = delivery.commit();
        if delivery.operation().is_some() || commits.is_some() {
            let at = (context.incarnation(), delivery.offset(), commits.is_some());
            self.seen.lock().unwrap().push(at);
        }
        match commits {
            Some(lsn) if report == Report::Yes => Ok(context.flushed(lsn)?),
            _ => Ok(()),
        }
    }
}

/// One incarnation that follows `script` and writes down what it handled.
pub fn recording(seen: &Seen, script: Script) -> Box<dyn Consumer> {
    Box::new(Recorder { seen: Arc::clone(seen), script })
}

/// Where a consumer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    Mailbox,
    Inline,
}

pub const PLACEMENTS: [Placement; 2] = [Placement::Mailbox, Placement::Inline];

/// A consumer that follows `script` and writes down what it handled.
pub fn recorder(placement: Placement, ack: Ack, seen: &Seen, script: Script) -> ConsumerSpec {
    let seen = Arc::clone(seen);
    let factory = move |start: &Start<'_>| {
        Ok(Started::new(recording(&seen, Arc::clone(&script)), start.resume()))
    };
    placed(placement, ack, factory)
}

pub fn placed(
    placement: Placement,
    ack: Ack,
    factory: impl Fn(&Start<'_>) -> Result<Started, ConsumerError> + Send + Sync + 'static,
) -> ConsumerSpec {
    let factory = Arc::new(factory);
    match placement {
        Placement::Mailbox => ConsumerSpec::Mailbox { factory, ack },
        Placement::Inline => ConsumerSpec::Inline { factory, ack },
    }
}

/// Runs the factory of a consumer.
pub fn start_of(spec: &ConsumerSpec, start: &Start<'_>) -> Result<Started, ConsumerError> {
    match spec {
        ConsumerSpec::Mailbox { factory, .. } | ConsumerSpec::Inline { factory, .. } => {
            factory.start(start)
        }
        ConsumerSpec::Log => Err("there is no factory".into()),
    }
}

/// A script that reports every commit.
pub fn reports() -> Script {
    Arc::new(|_, _| Ok(Report::Yes))
}

/// All offsets in the log of a shape.
pub fn log_of(engine: &Engine, handle: Handle) -> Vec<Offset> {
    let mut offsets = Vec::new();
    let mut after = Offset::ZERO;
    loop {
        let page = engine.read(handle, after, ReadLimits::default()).unwrap();
        offsets.extend(page.changes.iter().map(|change| change.offset()));
        after = page.through;
        if page.up_to_date {
            return offsets;
        }
    }
}

/// Publishes `count` transactions of one row each, at commits `from..`.
pub fn publish_rows(
    publisher: &mut Publisher,
    items: &Arc<Relation>,
    commits: std::ops::Range<u64>,
    kind: &str,
) {
    for commit in commits {
        publisher.publish(inserts(items, commit, &[(commit, kind)])).unwrap();
    }
}

/// The change offsets that `seen` has over all incarnations, each once, in order; panics where an
/// incarnation saw something out of order.
pub fn joined(seen: &Seen) -> Vec<Offset> {
    let seen = seen.lock().unwrap();
    let mut all: Vec<Offset> = Vec::new();
    let mut before: Option<(u64, Offset)> = None;
    for &(incarnation, offset, _) in seen.iter() {
        if let Some((last, at)) = before {
            assert!(last != incarnation || at < offset, "{offset} after {at} in one incarnation");
            assert!(last <= incarnation, "incarnation {last} handled after {incarnation}");
        }
        before = Some((incarnation, offset));
        if !offset.is_commit_mark() {
            all.push(offset);
        }
    }
    all.sort();
    all.dedup();
    all
}

/// Waits until an event is accepted by `wanted`.
pub fn wait_for(engine: &Engine, wanted: impl Fn(&Event) -> bool) -> Event {
    let events = engine.events();
    let until = Instant::now() + LONG;
    loop {
        let event = events.recv_deadline(until).expect("the event comes");
        if wanted(&event) {
            return event;
        }
    }
}

/// Waits until `condition` holds.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < until, "{what} does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The offsets of the first change of each commit.
pub fn firsts(commits: std::ops::Range<u64>) -> Vec<Offset> {
    commits.map(|commit| Offset::new(Lsn::new(commit), 0)).collect()
}
