//! What walfan's benches share: how they run, the table and its transactions, seeded numbers, and
//! an engine with its publisher. Each bench brings its own baselines and its own sizes.
//!
//! Under `cargo test` each bench runs once with its tiny sizes, and checks what it counted; under
//! `cargo bench` the same code is measured with its full sizes.

pub mod clauses;

use criterion::Criterion;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use walfan::{
    Builder, Column, ConsumerSpec, Engine, Fragment, FragmentLimits, Handle, Lsn, Metrics,
    Publisher, Relation, ShapeDefinition, TableName, TransactionBuilder, Value,
};

/// What walfan's own binaries allocate with, for walfan and the baselines alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Worker threads of each engine. Fixed, so that runs on different machines do the same work.
pub const SHARDS: usize = 2;
/// Threads that run mailbox consumers.
pub const RUNNERS: usize = 2;
/// Bytes of each row's note: with its other columns a row of about 300 bytes.
pub const NOTE_BYTES: usize = 280;

/// Runs of each bench; each run has as many rounds as fit.
const SAMPLES: usize = 10;
const WARM_UP: Duration = Duration::from_millis(500);
const MEASUREMENT: Duration = Duration::from_secs(2);
/// So long no round takes; what takes longer has failed.
const LONG: Duration = Duration::from_secs(60);

/// Criterion as these benches use it: few samples and short times, since they are many.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(WARM_UP)
        .measurement_time(MEASUREMENT)
        .configure_from_args()
}

/// `full` under `cargo bench`, `tiny` under `cargo test`, by the argument that tells criterion.
pub fn sized<T>(full: T, tiny: T) -> T {
    let mut measured = false;
    for argument in std::env::args() {
        match argument.as_str() {
            "--bench" => measured = true,
            "--test" => return tiny,
            _ => {}
        }
    }
    if measured { full } else { tiny }
}

/// `public.items (id int8 primary key, kind text, note text)`.
pub fn items() -> Arc<Relation> {
    let columns = vec![
        Column::new("id", 20, true),
        Column::new("kind", 25, false),
        Column::new("note", 25, false),
    ];
    Arc::new(Relation::new(16_384, table(), columns))
}

/// All of the table.
pub fn whole() -> ShapeDefinition {
    ShapeDefinition::table(table())
}

/// The row whose id is `id`.
pub fn one_row(id: u64) -> ShapeDefinition {
    ShapeDefinition::filtered(table(), &format!("id = {id}"))
}

fn table() -> TableName {
    TableName::new("public", "items")
}

/// A transaction, in one fragment, that inserts a row for each of `ids`.
pub fn inserts(items: &Arc<Relation>, commit: Lsn, ids: &[u64]) -> Fragment {
    let limits = FragmentLimits { changes_max: usize::MAX, bytes_max: usize::MAX };
    let xid = commit.as_u64() as u32;
    let mut transaction = TransactionBuilder::new(xid, commit).with_limits(limits);
    for id in ids {
        let id = id.to_string();
        let row = [Value::Text(id.as_bytes()), Value::Text(b"hot"), Value::Text(&NOTE)];
        transaction.insert(items, row).expect("a row has the table's columns");
    }
    transaction.commit(Lsn::new(commit.as_u64() + 1))
}

const NOTE: [u8; NOTE_BYTES] = [b'x'; NOTE_BYTES];

/// The bytes of a value; 0 for one that has none. What consumers and readers of these benches do
/// with a row, so that it is looked at and costs little.
pub fn value_bytes(value: Option<Value<'_>>) -> u64 {
    match value {
        Some(Value::Text(text)) => text.len() as u64,
        _ => 0,
    }
}

/// Numbers that follow from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next number below `bound`, which is small: the bias is of no weight here.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// The numbers below `count` in an order of its own.
    pub fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            all.swap(last, self.below(last as u64 + 1) as usize);
        }
        all
    }
}

/// An empty folder under `parent`, which lies on the disk to be measured; gone when dropped.
pub fn scratch(parent: &str) -> TempDir {
    tempfile::tempdir_in(Path::new(parent)).expect("the build's folder can be written to")
}

/// What the environment says for `name`, or else `otherwise`.
pub fn from_environment(name: &str, otherwise: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(otherwise, |text| text.parse().expect("it is a number"))
}

/// This process's anonymous memory that is resident: the heap and stacks. 0 where the kernel does
/// not say.
pub fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// An engine, its publisher and the table.
#[derive(Debug)]
pub struct World {
    engine: Engine,
    publisher: Publisher,
    items: Arc<Relation>,
    last: Lsn,
}

impl World {
    /// Starts an engine in `directory`, or in memory, with `shapes`.
    pub fn start(directory: Option<&Path>, shapes: Vec<(ShapeDefinition, ConsumerSpec)>) -> World {
        let mut builder: Builder = Engine::builder().shards(SHARDS).runners(RUNNERS);
        if let Some(path) = directory {
            builder = builder.directory(path);
        }
        World::start_with(builder, shapes)
    }

    /// Starts an engine of these settings with `shapes`.
    pub fn start_with(builder: Builder, shapes: Vec<(ShapeDefinition, ConsumerSpec)>) -> World {
        let (engine, publisher) = builder.start().expect("an engine starts");
        let items = items();
        engine.learn(Arc::clone(&items));
        engine.add_shapes(shapes).expect("shapes are added");
        World { engine, publisher, items, last: Lsn::new(1) }
    }

    /// Opens what lies in `directory`, to read it.
    pub fn reopen(directory: &Path) -> World {
        let builder: Builder = Engine::builder().shards(SHARDS).runners(RUNNERS);
        let opened = builder.directory(directory).start();
        let (engine, publisher) = opened.expect("the directory is opened");
        World { engine, publisher, items: items(), last: Lsn::new(1) }
    }

    /// Publishes the insert of a row for each of `ids` as one transaction; its commit LSN.
    pub fn publish(&mut self, ids: &[u64]) -> Lsn {
        self.last = Lsn::new(self.last.as_u64() + 2);
        let fragment = inserts(&self.items, self.last, ids);
        self.publisher.publish(fragment).expect("the engine runs");
        self.last
    }

    /// Waits until everything through `lsn` is flushed.
    pub fn wait_flushed(&self, lsn: Lsn) {
        self.engine.wait_flushed(lsn, LONG).expect("what was published is flushed");
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The shapes' handles, in the order in which they were added.
    pub fn handles(&self) -> Vec<Handle> {
        let mut handles: Vec<Handle> =
            self.engine.shapes().into_iter().map(|(handle, _)| handle).collect();
        handles.sort_unstable();
        handles
    }

    /// Stops the engine; the transactions that were published, and what the engine counted.
    pub fn finish(self) -> (u64, Metrics) {
        self.engine.shutdown(LONG).expect("the engine stops");
        (self.last.as_u64() / 2, self.engine.metrics())
    }
}
