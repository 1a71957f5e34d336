//! Postgres source: several connections write the workload into a real server; the engine's own
//! source brings it back from the server's WAL.
//!
//! `server` has the table, `writers` fill it, `slot` looks at how far the engine lets the server
//! forget, `observer` reads past the engine what was committed, and `clauses` asks the server what
//! each shape was to get.

mod clauses;
#[path = "../../../../engine/tests/cluster/mod.rs"]
mod cluster;
mod connection;
mod error;
mod observer;
mod server;
mod slot;
mod writers;

pub(crate) use error::PostgresFailure;

use super::{Closed, Pipe, Source};
use crate::config::Config;
use crate::progress::Progress;
use crate::report::PostgresReport;
use crate::run::RunError;
use crate::verify::{Findings, Oracle};
use crate::workload::{History, Workload};
use connection::Connection;
use server::{SLOT, Server};
use slot::{LOOK_EVERY, SlotWatch};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use walfan::{
    Engine, FragmentLimits, Lsn, PostgresConfig, PostgresSource, PostgresState, PublishedTables,
    Publisher,
};
use writers::{CONNECTIONS, Sent, Writers};

/// How long the slot may take to reach the end of the WAL when everything is flushed.
const CONFIRM_MAX: Duration = Duration::from_secs(60);

/// See the file's head.
pub(crate) struct Postgres {
    workload: Workload,
    window: u64,
    seed: u64,
    connected: Option<Connected>,
    /// Dropped last: it takes away what others use.
    server: Server,
}

/// What there is once the engine streams.
struct Connected {
    stream: PostgresSource,
    slot: SlotWatch,
    observer: Connection,
    wal_end: Lsn,
}

impl Postgres {
    /// Uses the server at `address`, or starts one.
    pub(crate) fn open(config: &Config, address: Option<&str>) -> Result<Postgres, RunError> {
        let server = Server::open(address)?;
        let (workload, window) = (config.workload(), config.window);
        Ok(Postgres { workload, window, seed: config.seed, connected: None, server })
    }

    fn config(&self) -> PostgresConfig {
        let mut config = PostgresConfig::new(self.server.conninfo());
        config.slot = SLOT.into();
        config.publication = SLOT.into();
        config.tables = PublishedTables::List(vec![Workload::table()]);
        let changes_max = self.workload.fragment_changes_max();
        config.limits = FragmentLimits { changes_max, ..FragmentLimits::default() };
        config
    }
}

impl Source for Postgres {
    fn connect(&mut self, engine: &Arc<Engine>, publisher: Publisher) -> Result<(), RunError> {
        let stream = PostgresSource::start(Arc::clone(engine), publisher, self.config());
        let stream = stream.map_err(PostgresFailure::Source)?;
        let mut observer = self.server.connect()?;
        observer::create(&mut observer)?;
        let slot = SlotWatch::new(self.server.connect()?)?;
        self.connected = Some(Connected { stream, slot, observer, wal_end: Lsn::ZERO });
        Ok(())
    }

    fn run(&mut self, pipe: &Pipe) -> Result<History, RunError> {
        let Some(connected) = &mut self.connected else { return Err(RunError::NotConnected) };
        let writers = Writers::new(pipe, &self.workload, self.window);
        let connections: Result<Vec<_>, _> =
            (0..CONNECTIONS).map(|_| self.server.connect()).collect();
        let sent = connected.write(&writers, connections?)?;
        connected.wal_end = connected.slot.wal_end()?;
        let mut findings = Findings::default();
        let observer = &mut connected.observer;
        let commits = observer::read(observer, &self.workload, sent, &mut findings)?;
        if !findings.is_empty() {
            return Err(RunError::Verification(findings.to_string()));
        }
        Ok(History::recorded(&self.workload, commits))
    }

    fn close(
        self: Box<Self>,
        oracle: &Oracle,
        progress: &Progress,
        findings: &mut Findings,
    ) -> Result<Closed, RunError> {
        let Some(Connected { stream, mut slot, mut observer, wal_end }) = self.connected else {
            return Err(RunError::NotConnected);
        };
        progress.phase("waiting for the slot", 1);
        if !slot.await_confirmed(wal_end, CONFIRM_MAX)? {
            findings.add(format!(
                "the slot's confirmed_flush_lsn stands at {}, but the WAL was written to {wal_end}",
                slot.confirmed
            ));
        }
        let clauses_checked =
            clauses::check(&mut observer, &self.workload, oracle, self.seed, progress, findings)?;
        let [server_version] = observer.row("SHOW server_version", "say its version")?;
        let report = PostgresReport {
            server_version,
            throwaway: self.server.is_throwaway(),
            slot_start: slot.start.to_string(),
            confirmed: slot.confirmed.to_string(),
            wal_end: wal_end.to_string(),
            confirmed_bytes: slot.confirmed.as_u64().saturating_sub(slot.start.as_u64()),
            retained_bytes: slot.retained_bytes,
            unconfirmed_bytes_max: slot.unconfirmed_bytes_max,
            slot_moves: slot.moves,
            connections: CONNECTIONS as u32,
            streams: stream.status().connections,
            clauses_checked,
        };
        let publisher = stream.stop().map_err(PostgresFailure::Source)?;
        Ok(Closed { publisher, postgres: Some(report) })
    }
}

impl Connected {
    /// Writes until the schedule ends, and looks at the slot meanwhile.
    fn write(
        &mut self,
        writers: &Writers<'_>,
        connections: Vec<Connection>,
    ) -> Result<Vec<Sent>, RunError> {
        thread::scope(|scope| {
            let spawn = |connection| scope.spawn(move || writers.write(connection));
            let threads: Vec<_> = connections.into_iter().map(spawn).collect();
            let mut looked = Ok(());
            while !threads.iter().all(|thread| thread.is_finished()) {
                looked = looked.and_then(|()| self.look());
                thread::sleep(LOOK_EVERY);
            }
            let mut all = Vec::new();
            for thread in threads {
                all.extend(thread.join().map_err(|_| PostgresFailure::Panicked)??);
            }
            looked.map(|()| all)
        })
    }

    fn look(&mut self) -> Result<(), RunError> {
        let status = self.stream.status();
        if status.state == PostgresState::Failed
            && let Some(error) = status.last_error
        {
            return Err(PostgresFailure::Source(error).into());
        }
        Ok(self.slot.look()?)
    }
}
