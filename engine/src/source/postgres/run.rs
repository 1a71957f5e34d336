//! Run: the source's thread: connects, prepares, checks continuity, streams; and again, with
//! growing pauses, while trying again can help.

use super::config::PostgresConfig;
use super::continuity::{Continuity, Positions};
use super::error::{PostgresError, one_line};
use super::floor::Floor;
use super::link::Link;
use super::setup::{Prepared, Server};
use super::status::PostgresState;
use super::stream::{Pump, Stream};
use crate::engine::Engine;
use crate::words::{Lsn, ServerId};
use crossbeam_channel::Sender;
use pg_walstream::PgReplicationConnection;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first pause before connecting again; each further one is twice as long.
const RETRY_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// How long a start waits for a slot that is still in the hands of a connection that has died.
const SLOT_BUSY_MAX: Duration = Duration::from_secs(10);
/// The server hears from us at least this often in the time after which it would drop us.
const STATUS_PER_TIMEOUT: u32 = 3;

/// The source's life, over all connections.
pub(super) struct Run {
    pub(super) pump: Pump,
    pub(super) config: PostgresConfig,
    /// The tables, by OID, whose earlier transactions the engine was told of.
    pub(super) told: Option<BTreeSet<u32>>,
}

impl Run {
    /// Runs until stopped or failed. Says on `started` how the first connection went.
    pub(super) async fn run(&mut self, started: Sender<Result<(), PostgresError>>) {
        let begun = Instant::now();
        let (mut started, mut pause) = (Some(started), RETRY_INTERVAL_MIN);
        while !self.pump.stop.is_cancelled() {
            let before = self.pump.transactions;
            let connected = Instant::now();
            let error = match self.connection(&mut started).await {
                Ok(()) => break,
                Err(error) => error,
            };
            let waits = started.is_none() || (slot_busy(&error) && begun.elapsed() < SLOT_BUSY_MAX);
            if !(error.is_transient() && waits) {
                self.fail(error, &mut started);
                return;
            }
            tracing::warn!(%error, ?pause, "Postgres source: connecting again");
            self.pump.shared.fall(PostgresState::Waiting, &error);
            tokio::select! {
                () = self.pump.stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            let worked = self.pump.transactions > before
                || connected.elapsed() >= self.config.retry_interval_max;
            let next = if worked { RETRY_INTERVAL_MIN } else { pause * 2 };
            pause = next.min(self.config.retry_interval_max);
        }
        self.pump.shared.update(|status| status.state = PostgresState::Stopped);
        self.answer(&mut started, Ok(()));
    }

    fn fail(
        &mut self,
        error: PostgresError,
        started: &mut Option<Sender<Result<(), PostgresError>>>,
    ) {
        tracing::error!(%error, "Postgres source: ended");
        self.pump.shared.fall(PostgresState::Failed, &error);
        self.answer(started, Err(error));
    }

    fn answer(
        &mut self,
        started: &mut Option<Sender<Result<(), PostgresError>>>,
        outcome: Result<(), PostgresError>,
    ) {
        if let Some(started) = started.take() {
            // Whoever started the source waits for this one message.
            let _ = started.send(outcome);
        }
    }

    /// One connection, from its set-up to its end.
    async fn connection(
        &mut self,
        started: &mut Option<Sender<Result<(), PostgresError>>>,
    ) -> Result<(), PostgresError> {
        self.pump.shared.update(|status| status.state = PostgresState::Connecting);
        let stop = self.pump.stop.clone();
        let stream = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            stream = self.open() => stream?,
        };
        self.pump.shared.update(|status| {
            status.state = PostgresState::Streaming;
            status.connections += 1;
        });
        self.answer(started, Ok(()));
        self.pump.pump(stream, &self.config).await
    }

    async fn open(&mut self) -> Result<Stream, PostgresError> {
        let mut server = Server::connect(&self.config).await?;
        server.check_wal_level().await?;
        let mut connection = self.replication(&mut server).await?;
        let (now, history) = self.identify(&mut connection).await?;
        let prepared = server.prepare(&self.config).await?;
        let continuity = self.continuity(&prepared, now, history)?;
        let is_kept = continuity == Continuity::Kept;
        // First: whoever adds shapes while others are ended is told.
        self.tell_earlier(&mut server, &prepared, is_kept).await?;
        drop(server);
        if let Continuity::Broken { cause } = continuity {
            self.break_continuity(cause).await?;
        }
        let start = prepared.slot.start();
        let floor = self.join(&prepared, now).await?;
        let options = [
            ("proto_version", "1"),
            (
                "publication_names",
                &*format!("\"{}\"", self.config.publication.replace('"', "\"\"")),
            ),
        ];
        // The slot knows where to start: what was not acknowledged comes again.
        let starting = connection.start_replication_async(&self.config.slot, 0, &options);
        let outcome = tokio::time::timeout(self.config.command_timeout, starting).await;
        let late = |_| PostgresError::Lost { cause: "START_REPLICATION got no answer".into() };
        let slot = &self.config.slot;
        outcome.map_err(late)?.map_err(|error| PostgresError::stream(&error, slot))?;
        tracing::info!(%start, slot, "Postgres source: streaming");
        let status_interval = self.status_interval(prepared.wal_sender_timeout);
        Ok(Stream { link: Link::new(connection), floor, status_interval })
    }

    /// A connection in replication mode. Where it fails, the catalog tells whether the role lacks
    /// the right.
    async fn replication(
        &self,
        server: &mut Server,
    ) -> Result<PgReplicationConnection, PostgresError> {
        let conninfo = self.config.replication_conninfo();
        let connecting = PgReplicationConnection::connect_async(&conninfo);
        let late = |_| PostgresError::Connect {
            cause: format!("no answer within {:?}", self.config.command_timeout),
            transient: true,
        };
        let outcome = tokio::time::timeout(self.config.command_timeout, connecting).await;
        match outcome.map_err(late)? {
            Ok(connection) => Ok(connection),
            Err(error) if server.may_replicate().await? => Err(PostgresError::connect(&error)),
            Err(error) => Err(server.no_replication(one_line(&error))),
        }
    }

    /// Which server it is; if it is on another timeline than before, that one's history too.
    async fn identify(
        &self,
        connection: &mut PgReplicationConnection,
    ) -> Result<(ServerId, String), PostgresError> {
        let failed = |error| PostgresError::stream(&error, &self.config.slot);
        let identity = connection.identify_system_async().await.map_err(failed)?;
        let number = |column| identity.get_value(0, column);
        let server = number(0).zip(number(1)).and_then(|(system, timeline)| {
            Some(ServerId { system: system.parse().ok()?, timeline: timeline.parse().ok()? })
        });
        let silent = |action| PostgresError::Statement { action, cause: "no answer".into() };
        let now = server.ok_or_else(|| silent("identify the server"))?;
        let forked = |before: ServerId| before.system == now.system && before != now;
        // The first timeline has no history.
        let has_history = now.timeline > NonZeroU32::MIN;
        if !(has_history && self.pump.engine.server().is_some_and(forked)) {
            return Ok((now, String::new()));
        }
        let ask = format!("TIMELINE_HISTORY {}", now.timeline);
        let history = connection.exec_async(&ask).await.map_err(failed)?;
        Ok((now, history.get_value(0, 1).ok_or_else(|| silent("read the timeline's history"))?))
    }

    /// Tells the engine which transactions may have committed before what the slot sends of a
    /// table. Not at each connection: whoever is given rows waits for those that still run.
    async fn tell_earlier(
        &mut self,
        server: &mut Server,
        prepared: &Prepared,
        is_kept: bool,
    ) -> Result<(), PostgresError> {
        let tables: BTreeSet<u32> =
            prepared.tables.iter().map(|table| table.relation.oid).collect();
        let is_told = self.told.as_ref().is_some_and(|told| is_kept && tables.is_subset(told));
        if !is_told {
            let xid = server.newest_xid().await?;
            self.wait_for_engine(move |engine| engine.note_earlier_xids(xid)).await?;
        }
        // One that is published no more is told of again when it is.
        self.told = Some(tables);
        Ok(())
    }

    /// Whether anything is missing.
    fn continuity(
        &self,
        prepared: &Prepared,
        now: ServerId,
        history: String,
    ) -> Result<Continuity, PostgresError> {
        let Pump { engine, publisher, .. } = &self.pump;
        let positions = Positions {
            before: engine.server(),
            floor: engine.floor(),
            last_commit: publisher.committed().max(publisher.unfinished().unwrap_or(Lsn::ZERO)),
            now,
            history,
            slot: prepared.slot,
            wal_end: prepared.wal_end,
        };
        match positions.judge() {
            Continuity::OtherServer { before } => {
                Err(PostgresError::OtherServer { before, now: now.system })
            }
            Continuity::ServerBehind { reached } => {
                Err(PostgresError::ServerBehind { server: positions.wal_end, reached })
            }
            continuity => Ok(continuity),
        }
    }

    /// Something is missing: no shape is left to miss it.
    async fn break_continuity(&mut self, cause: String) -> Result<(), PostgresError> {
        tracing::error!(cause, "Postgres source: continuity is broken, shapes invalidated");
        self.wait_for_engine(move |engine| engine.invalidate_all(&cause)).await?;
        self.pump.close_unfinished().await
    }

    /// Asks the engine, which may wait for a shard, on a thread where that holds up nobody.
    async fn wait_for_engine<T: Send + 'static, E: Display + Send + 'static>(
        &self,
        ask: impl FnOnce(&Engine) -> Result<T, E> + Send + 'static,
    ) -> Result<T, PostgresError> {
        let engine = Arc::clone(&self.pump.engine);
        let outcome = tokio::task::spawn_blocking(move || ask(&engine)).await;
        let thread = |error| PostgresError::Thread { cause: format!("asking the engine: {error}") };
        let failed = |error: E| PostgresError::Engine { cause: error.to_string() };
        outcome.map_err(thread)?.map_err(failed)
    }

    /// Makes the engine and the machines ready for what the slot sends. The engine knows the server
    /// first, and the floor rises to the slot's position: whoever comes to another one later, or
    /// finds the slot beyond the floor, knows that this is not what was left.
    async fn join(&mut self, prepared: &Prepared, now: ServerId) -> Result<Floor, PostgresError> {
        let start = prepared.slot.start();
        self.wait_for_engine(move |engine| engine.set_server(now)).await?;
        let floor = Floor::raised_to(start, Arc::clone(&self.pump.engine)).await?;
        for table in &prepared.tables {
            self.pump.engine.learn(Arc::clone(&table.relation));
            self.pump.assembler.learn(Arc::clone(&table.relation));
        }
        self.pump.outbox.clear();
        self.pump.assembler.connected();
        self.pump.acks.connected(start);
        Ok(floor)
    }

    fn status_interval(&self, wal_sender_timeout: Option<Duration>) -> Duration {
        let wanted = self.config.status_interval;
        wal_sender_timeout.map_or(wanted, |timeout| wanted.min(timeout / STATUS_PER_TIMEOUT))
    }
}

/// Another connection still streams from the slot (SQLSTATE object_in_use).
fn slot_busy(error: &PostgresError) -> bool {
    matches!(error, PostgresError::Lost { cause } if cause.contains("[55006]"))
}
