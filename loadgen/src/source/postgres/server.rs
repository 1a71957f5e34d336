//! Server: the Postgres that a run writes into: the one that was given, or one that is started for
//! the run and goes with it. On a given one the run makes a schema with its table, slots and a
//! publication; whatever happens, it takes them away again.

use super::cluster::Cluster;
use super::connection::Connection;
use super::error::PostgresFailure;
use std::thread;
use std::time::{Duration, Instant};

/// The engine's slot, and the publication. The observer's slot has a name of its own.
pub(super) const SLOT: &str = "walfan_loadgen";
/// How long slots may stay busy after those who read from them are gone.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// Between two looks at a slot that is busy.
const BUSY_STEP: Duration = Duration::from_millis(50);

const MAKE: &str = "CREATE SCHEMA loadgen;
    CREATE TABLE loadgen.items (id bigint NOT NULL, kind text NOT NULL, price integer NOT NULL,
        name text NOT NULL, payload text NOT NULL);
    ALTER TABLE loadgen.items REPLICA IDENTITY FULL";
const REMOVE: &str = "DROP PUBLICATION IF EXISTS walfan_loadgen; \
    DROP SCHEMA IF EXISTS loadgen CASCADE;";
const REMOVE_SLOTS: &str = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
    WHERE slot_name IN ('walfan_loadgen', 'walfan_loadgen_observer') AND NOT active";
const LEFT: &str = "SELECT concat_ws(', ',
    (SELECT 'a schema loadgen' FROM pg_namespace WHERE nspname = 'loadgen'),
    (SELECT 'a publication walfan_loadgen' FROM pg_publication WHERE pubname = 'walfan_loadgen'),
    (SELECT 'slots of loadgen' FROM pg_replication_slots
     WHERE slot_name IN ('walfan_loadgen', 'walfan_loadgen_observer') LIMIT 1))";

/// See the file's head.
pub(super) struct Server {
    conninfo: String,
    /// Whether what the run needs was made on a server that stays.
    made: bool,
    /// Dropped last.
    cluster: Option<Cluster>,
}

impl Server {
    /// The server at `address`, or a new one. It has the run's table, which is empty.
    pub(super) fn open(address: Option<&str>) -> Result<Server, PostgresFailure> {
        let (conninfo, cluster) = match address {
            Some(address) => (address.to_owned(), None),
            None => {
                let cluster = Cluster::start(&[]).map_err(PostgresFailure::Start)?;
                (cluster.conninfo(), Some(cluster))
            }
        };
        let mut server = Server { conninfo, made: false, cluster };
        let mut connection = server.connect()?;
        let [found] = connection.row(LEFT, "look for what another run left")?;
        if !found.is_empty() {
            let remedy = format!("{REMOVE} {REMOVE_SLOTS}");
            return Err(PostgresFailure::Leftovers { found, remedy });
        }
        server.made = !server.is_throwaway();
        connection.run(MAKE, "create the table loadgen.items")?;
        Ok(server)
    }

    pub(super) fn conninfo(&self) -> &str {
        &self.conninfo
    }

    /// Whether it was started for this run.
    pub(super) fn is_throwaway(&self) -> bool {
        self.cluster.is_some()
    }

    pub(super) fn connect(&self) -> Result<Connection, PostgresFailure> {
        Connection::open(&self.conninfo)
    }

    /// Takes away what the run has made.
    fn remove(&self) -> Result<(), PostgresFailure> {
        let mut connection = self.connect()?;
        let start = Instant::now();
        loop {
            connection.run(REMOVE_SLOTS, "drop the run's slots")?;
            let left = "SELECT count(*) FROM pg_replication_slots \
                WHERE slot_name IN ('walfan_loadgen', 'walfan_loadgen_observer')";
            let [left] = connection.row(left, "look for the run's slots")?;
            if left == "0" {
                break;
            }
            if start.elapsed() > BUSY_MAX {
                let cause = "somebody still reads from them".to_owned();
                return Err(PostgresFailure::Statement { what: "drop the run's slots", cause });
            }
            thread::sleep(BUSY_STEP);
        }
        connection.run(REMOVE, "drop the run's publication and table").map(|_| ())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.made
            && let Err(error) = self.remove()
        {
            eprintln!("loadgen: its slots keep WAL and its table stays: {error}");
        }
    }
}
