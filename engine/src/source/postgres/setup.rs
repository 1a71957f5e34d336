//! Setup: prepares the server before each connection, over an ordinary connection that is closed
//! again: settings, publication, tables, slot.
//!
//! Out goes what the source has to know of the server. What that means for the shapes (INV11) is
//! decided by the caller: nothing here knows the engine.

use super::catalog::{self, Table};
use super::config::{PostgresConfig, PublishedTables};
use super::error::{PostgresError, one_line};
use super::quote;
use crate::words::Lsn;
use pg_walstream::{PgReplicationConnection, PgResult, ReplicationError};
use std::time::Duration;

/// What was found, and made.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) slot: Slot,
    /// The tables of the publication, each with REPLICA IDENTITY FULL.
    pub(super) tables: Vec<Table>,
    /// The end of the server's WAL.
    pub(super) wal_end: Lsn,
    /// After which silence the server drops us; `None`: never.
    pub(super) wal_sender_timeout: Option<Duration>,
}

/// The replication slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// It was there; everything before `confirmed` was acknowledged.
    Found { confirmed: Lsn },
    /// It was made now, and sends what commits after `at`.
    Created { at: Lsn },
}

impl Slot {
    /// From where the server sends.
    pub(super) fn start(self) -> Lsn {
        match self {
            Slot::Found { confirmed } => confirmed,
            Slot::Created { at } => at,
        }
    }
}

/// An ordinary connection.
pub(super) struct Server {
    connection: PgReplicationConnection,
    role: String,
}

impl Server {
    /// Connects, and bounds how long each statement may take.
    pub(super) async fn connect(config: &PostgresConfig) -> Result<Server, PostgresError> {
        let connecting = PgReplicationConnection::connect_async(&config.conninfo);
        let connection = tokio::time::timeout(config.command_timeout, connecting).await;
        let connection = connection
            .map_err(|_| PostgresError::Connect {
                cause: format!("no answer within {:?}", config.command_timeout),
                transient: true,
            })?
            .map_err(|error| PostgresError::connect(&error))?;
        let mut server = Server { connection, role: String::new() };
        let milliseconds = config.command_timeout.as_millis().clamp(1, i32::MAX as u128);
        for setting in [
            "SET client_encoding = 'UTF8'".to_owned(),
            "SET standard_conforming_strings = on".to_owned(),
            format!("SET statement_timeout = {milliseconds}"),
        ] {
            server.run(&setting, "set up a connection").await?;
        }
        server.role = server.text("SELECT current_user", "ask who we are").await?;
        Ok(server)
    }

    /// Comes first: a server with too low a level may refuse replication connections altogether.
    pub(super) async fn check_wal_level(&mut self) -> Result<(), PostgresError> {
        let found = self.text("SHOW wal_level", "read wal_level").await?;
        if found == "logical" { Ok(()) } else { Err(PostgresError::WalLevel { found }) }
    }

    /// Makes what is missing, and says what there is.
    pub(super) async fn prepare(
        &mut self,
        config: &PostgresConfig,
    ) -> Result<Prepared, PostgresError> {
        self.publication(config).await?;
        let tables = catalog::tables(self, &config.publication).await?;
        check_tables(&tables, config)?;
        let slot = self.slot(config).await?;
        let wal_end = self.lsn(
            "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() \
             ELSE pg_current_wal_flush_lsn() END",
            "read the WAL's end",
        );
        let wal_end = wal_end.await?;
        let milliseconds = self.text(
            "SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'",
            "read wal_sender_timeout",
        );
        let milliseconds: u64 = milliseconds.await?.parse().unwrap_or(0);
        let wal_sender_timeout = (milliseconds > 0).then(|| Duration::from_millis(milliseconds));
        Ok(Prepared { slot, tables, wal_end, wal_sender_timeout })
    }

    async fn publication(&mut self, config: &PostgresConfig) -> Result<(), PostgresError> {
        let name = quote::literal(&config.publication);
        let count = format!("SELECT count(*) FROM pg_publication WHERE pubname = {name}");
        if self.text(&count, "look for the publication").await? != "0" {
            return Ok(());
        }
        let tables = match &config.tables {
            PublishedTables::All => "FOR ALL TABLES".to_owned(),
            PublishedTables::List(tables) if tables.is_empty() => String::new(),
            PublishedTables::List(tables) => {
                let tables: Vec<_> = tables.iter().map(quote::table).collect();
                format!("FOR TABLE {}", tables.join(", "))
            }
        };
        let create = format!("CREATE PUBLICATION {} {tables}", quote::ident(&config.publication));
        self.run(&create, "create the publication").await?;
        Ok(())
    }

    async fn slot(&mut self, config: &PostgresConfig) -> Result<Slot, PostgresError> {
        let name = quote::literal(&config.slot);
        let look = format!(
            "SELECT plugin, database = current_database(), wal_status, confirmed_flush_lsn \
             FROM pg_replication_slots WHERE slot_name = {name}"
        );
        let found = self.run(&look, "look for the replication slot").await?;
        if found.ntuples() > 0 {
            return read_slot(&found, &config.slot);
        }
        let create =
            format!("SELECT lsn FROM pg_create_logical_replication_slot({name}, 'pgoutput')");
        let at = self.lsn(&create, "create the replication slot").await?;
        Ok(Slot::Created { at })
    }

    /// A transaction's number, without its epoch, above those of all that have committed, also of
    /// those that others do not see yet; on a standby, where these are seen when they come, the
    /// highest that has come.
    pub(super) async fn newest_xid(&mut self) -> Result<u32, PostgresError> {
        let action = "ask for the newest transaction";
        let sql = "SELECT CASE WHEN pg_is_in_recovery() \
                   THEN txid_snapshot_xmax(txid_current_snapshot()) - 1 ELSE txid_current() END";
        let text = self.text(sql, action).await?;
        let xid: Result<u64, _> = text.parse();
        let xid =
            xid.map_err(|error| PostgresError::Statement { action, cause: error.to_string() });
        Ok(xid? as u32)
    }

    /// Whether the role may open a replication connection, as far as the catalog tells.
    pub(super) async fn may_replicate(&mut self) -> Result<bool, PostgresError> {
        let sql = "SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user";
        Ok(self.text(sql, "read the role's rights").await? == "t")
    }

    /// The error of a role that may not open a replication connection.
    pub(super) fn no_replication(&self, cause: String) -> PostgresError {
        let action = "open a replication connection";
        let remedy = format!("run ALTER ROLE {} REPLICATION", quote::ident(&self.role));
        PostgresError::Rights { role: self.role.clone(), action, remedy, cause }
    }

    /// The server's version, as 150018 for 15.18.
    pub(super) fn version(&self) -> i32 {
        self.connection.server_version()
    }

    /// Runs one statement.
    pub(super) async fn run(
        &mut self,
        sql: &str,
        action: &'static str,
    ) -> Result<PgResult, PostgresError> {
        let result = self.connection.exec_async(sql).await;
        result.map_err(|error| self.failed(&error, action))
    }

    async fn text(&mut self, sql: &str, action: &'static str) -> Result<String, PostgresError> {
        let result = self.run(sql, action).await?;
        let missing = || PostgresError::Statement { action, cause: "no answer".into() };
        result.get_value(0, 0).ok_or_else(missing)
    }

    async fn lsn(&mut self, sql: &str, action: &'static str) -> Result<Lsn, PostgresError> {
        let text = self.text(sql, action).await?;
        text.parse().map_err(|error| PostgresError::Statement { action, cause: format!("{error}") })
    }

    /// The transport puts the server's code, which does not depend on its language, before the
    /// text.
    fn failed(&self, error: &ReplicationError, action: &'static str) -> PostgresError {
        let cause = one_line(error);
        if cause.contains("[42501]") {
            let role = self.role.clone();
            let remedy = format!(
                "let a superuser do it once, or run GRANT CREATE ON DATABASE … TO {name}, make \
                 {name} the owner of the published tables, and run ALTER ROLE {name} REPLICATION; \
                 to publish all tables needs a superuser",
                name = quote::ident(&role)
            );
            return PostgresError::Rights { role, action, remedy, cause };
        }
        if cause.contains("[57014]") {
            return PostgresError::TimedOut { action, cause };
        }
        if error.is_transient() {
            return PostgresError::Lost { cause };
        }
        PostgresError::Statement { action, cause }
    }
}

/// Each configured table must be published, and each published one must send whole old rows.
fn check_tables(tables: &[Table], config: &PostgresConfig) -> Result<(), PostgresError> {
    if let PublishedTables::List(wanted) = &config.tables {
        let missing = wanted.iter().find(|&name| !tables.iter().any(|t| t.relation.table == *name));
        if let Some(missing) = missing {
            let table = quote::table(missing);
            let publication = quote::ident(&config.publication);
            return Err(PostgresError::NotPublished { table, publication });
        }
    }
    let partial: Vec<_> = tables.iter().filter(|table| !table.full).collect();
    if partial.is_empty() {
        return Ok(());
    }
    let statements: Vec<_> = partial
        .iter()
        .take(STATEMENTS_MAX)
        .map(|t| format!("ALTER TABLE {} REPLICA IDENTITY FULL;", quote::table(&t.relation.table)))
        .collect();
    Err(PostgresError::NotFull { count: partial.len(), statements: statements.join(" ") })
}

/// How many tables an error names.
const STATEMENTS_MAX: usize = 5;

fn read_slot(found: &PgResult, slot: &str) -> Result<Slot, PostgresError> {
    let unusable = |cause: String| PostgresError::Slot { slot: slot.to_owned(), cause };
    let plugin = found.get_value(0, 0).unwrap_or_default();
    if plugin != "pgoutput" {
        return Err(unusable(format!("its output plugin is {plugin:?}, not pgoutput")));
    }
    if found.get_value(0, 1).as_deref() != Some("t") {
        return Err(unusable("it belongs to another database".into()));
    }
    if found.get_value(0, 2).as_deref() == Some("lost") {
        return Err(PostgresError::SlotLost { slot: slot.to_owned() });
    }
    let confirmed = found.get_value(0, 3).and_then(|lsn| lsn.parse().ok());
    let unready = || unusable("it has no confirmed_flush_lsn yet, somebody is creating it".into());
    confirmed.map(|confirmed| Slot::Found { confirmed }).ok_or_else(unready)
}
