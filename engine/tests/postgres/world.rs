//! World: a cluster with a table, an engine in a directory, and a source between them.

use crate::cluster::Cluster;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use walfan::{
    Builder, Engine, FragmentLimits, Handle, LoggedChange, Lsn, Offset, Operation, PostgresConfig,
    PostgresSource, PostgresStatus, Publisher, ReadLimits, ShapeDefinition, TableName, Value,
};

/// So long nothing in a test takes; what takes longer has failed.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// The table of all tests. Notes lie outside their rows, so that an update can leave them out.
const TABLE: &str = "CREATE TABLE items (id bigint PRIMARY KEY, kind text, note text);
    ALTER TABLE items ALTER note SET STORAGE EXTERNAL;
    ALTER TABLE items REPLICA IDENTITY FULL;
    CREATE TABLE other (id bigint)";

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) directory: TempDir,
    pub(crate) engine: Arc<Engine>,
    source: Option<PostgresSource>,
    builder: fn(&TempDir) -> Builder,
}

fn small(directory: &TempDir) -> Builder {
    Engine::builder().shards(2).runners(2).directory(directory.path())
}

impl World {
    pub(crate) fn new() -> World {
        World::with(&[], small)
    }

    /// A world whose server has `settings`, and whose engine is made by `builder`.
    pub(crate) fn with(settings: &[&str], builder: fn(&TempDir) -> Builder) -> World {
        let cluster = cluster(settings);
        let directory = tempfile::tempdir().unwrap();
        let (engine, publisher) = builder(&directory).start().unwrap();
        let engine = Arc::new(engine);
        let source = PostgresSource::start(Arc::clone(&engine), publisher, config(&cluster));
        let source = Some(source.unwrap());
        World { cluster, directory, engine, source, builder }
    }

    pub(crate) fn status(&self) -> PostgresStatus {
        self.source.as_ref().unwrap().status()
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.cluster.sql(sql).unwrap()
    }

    /// Stops the source alone.
    pub(crate) fn stop_source(&mut self) -> Publisher {
        self.source.take().unwrap().stop().unwrap()
    }

    pub(crate) fn start_source(&mut self, publisher: Publisher) {
        let config = config(&self.cluster);
        let source = PostgresSource::start(Arc::clone(&self.engine), publisher, config);
        self.source = Some(source.unwrap());
    }

    /// Stops the source and the engine, and opens both again on the same directory. `meanwhile`
    /// runs between the two.
    pub(crate) fn reopen(&mut self, meanwhile: impl FnOnce(&World)) {
        self.reopen_after(LONG, meanwhile);
    }

    /// The same, where consumers have `patience` to flush what they owe.
    pub(crate) fn reopen_after(&mut self, patience: Duration, meanwhile: impl FnOnce(&World)) {
        drop(self.stop_source());
        self.engine.shutdown(patience).unwrap();
        meanwhile(self);
        // The directory is in use until the engine is gone.
        self.engine = Arc::new(Engine::builder().start().unwrap().0);
        let (engine, publisher) = (self.builder)(&self.directory).start().unwrap();
        self.engine = Arc::new(engine);
        self.start_source(publisher);
    }

    /// What the slot has confirmed.
    pub(crate) fn confirmed(&self) -> Lsn {
        self.sql("SELECT confirmed_flush_lsn FROM pg_replication_slots").parse().unwrap()
    }

    /// Waits until the slot has confirmed everything that is in the WAL by now.
    pub(crate) fn wait_confirmed_end(&self) {
        let end: Lsn = self.sql("SELECT pg_current_wal_lsn()").parse().unwrap();
        wait_until("the slot's confirmation of the WAL's end", || self.confirmed() >= end);
    }

    /// The process that sends the WAL.
    pub(crate) fn walsender(&self) -> String {
        self.sql("SELECT active_pid FROM pg_replication_slots")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The source holds the engine, and the server waits for whoever streams from it.
        self.source = None;
    }
}

/// A server with the table.
pub(crate) fn cluster(settings: &[&str]) -> Cluster {
    let cluster = Cluster::start(settings).unwrap();
    cluster.sql(TABLE).unwrap();
    cluster
}

/// Small fragments, so that transactions have several; hasty, so that tests do not wait.
pub(crate) fn config(cluster: &Cluster) -> PostgresConfig {
    let mut config = PostgresConfig::new(cluster.conninfo());
    config.tables = walfan::PublishedTables::List(vec![TableName::new("public", "items")]);
    config.status_interval = Duration::from_millis(20);
    config.limits = FragmentLimits { changes_max: 10, bytes_max: 1 << 16 };
    config
}

pub(crate) fn items(clause: &str) -> ShapeDefinition {
    let table = TableName::new("public", "items");
    match clause {
        "" => ShapeDefinition::table(table),
        clause => ShapeDefinition::filtered(table, clause),
    }
}

/// All that is in a shape's log.
pub(crate) fn log_of(engine: &Engine, handle: Handle) -> Vec<LoggedChange> {
    let (mut changes, mut after) = (Vec::new(), Offset::ZERO);
    loop {
        let page = engine.read(handle, after, ReadLimits::default()).unwrap();
        changes.extend(page.changes);
        after = page.through;
        if page.up_to_date {
            return changes;
        }
    }
}

/// A text column's value.
pub(crate) fn text(value: Value<'_>) -> Option<String> {
    match value {
        Value::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        _ => None,
    }
}

/// The ids of the rows that were inserted, in the log's order.
pub(crate) fn inserted(changes: &[LoggedChange]) -> Vec<u64> {
    let inserts = changes.iter().filter(|change| change.operation() == Operation::Insert);
    inserts.map(|change| id(change.new_row().unwrap().get(0).unwrap())).collect()
}

pub(crate) fn id(value: Value<'_>) -> u64 {
    text(value).unwrap().parse().unwrap()
}

/// The rows that a shape's log leads to, by id, as psql prints them.
pub(crate) fn state(changes: &[LoggedChange]) -> BTreeMap<u64, String> {
    let mut rows: BTreeMap<u64, Vec<Option<String>>> = BTreeMap::new();
    for change in changes {
        let old = change.old_row().map(|row| id(row.get(0).unwrap()));
        let new = change.new_row();
        let before = old.and_then(|id| rows.remove(&id));
        assert_eq!(before.is_some(), old.is_some(), "{change:?} of a row that is not there");
        let Some(new) = new else { continue };
        let values = new.values().enumerate().map(|(column, value)| match value {
            Value::Unchanged => before.as_ref().unwrap()[column].clone(),
            value => text(value),
        });
        let twice = rows.insert(id(new.get(0).unwrap()), values.collect());
        assert!(twice.is_none(), "{change:?} of a row that is there");
    }
    let print = |row: Vec<Option<String>>| {
        row.into_iter().map(|value| value.unwrap_or_default()).collect::<Vec<_>>().join("|")
    };
    rows.into_iter().map(|(id, row)| (id, print(row))).collect()
}

/// The rows that Postgres has.
pub(crate) fn selected(world: &World, clause: &str) -> BTreeMap<u64, String> {
    let clause = if clause.is_empty() { "true" } else { clause };
    let rows = world.sql(&format!("SELECT * FROM items WHERE {clause} ORDER BY id"));
    let id = |row: &str| row.split('|').next().unwrap().parse().unwrap();
    rows.lines().map(|row| (id(row), row.to_owned())).collect()
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < until, "{what} does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}
