//! What an embedder says of the server, the slot and the tables.

use super::error::PostgresError;
use crate::words::{FragmentLimits, TableName};
use std::fmt;
use std::time::Duration;

/// How often the server is told the confirmed LSN, unless it wants to hear more often.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// The longest pause before the source connects again.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// How long a connection, or a statement at set-up, may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Which tables the publication holds, if the source has to create it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PublishedTables {
    /// All tables of the database, also those that come later. Needs a superuser.
    #[default]
    All,
    /// These. Each must be in the publication also if that exists already.
    List(Vec<TableName>),
}

/// The source's configuration. [`PostgresConfig::new`] fills in defaults; set what differs.
#[derive(Clone)]
pub struct PostgresConfig {
    /// How to connect, as libpq takes it: `host=… dbname=…` or `postgres://…`.
    pub conninfo: String,
    /// The replication slot; created if missing. Default: `walfan`.
    pub slot: String,
    /// The publication; created if missing. Default: `walfan`.
    pub publication: String,
    /// What is published. Default: all tables.
    pub tables: PublishedTables,
    /// How often the confirmed LSN is sent; the server's `wal_sender_timeout` may shorten it.
    /// Default: 1 s.
    pub status_interval: Duration,
    /// The longest pause before connecting again. Default: 10 s.
    pub retry_interval_max: Duration,
    /// How long connecting, and each statement at set-up, may take. Default: 30 s.
    pub command_timeout: Duration,
    /// How large fragments may grow.
    pub limits: FragmentLimits,
}

impl PostgresConfig {
    /// Defaults for the server that `conninfo` names.
    pub fn new(conninfo: impl Into<String>) -> PostgresConfig {
        PostgresConfig {
            conninfo: conninfo.into(),
            slot: "walfan".into(),
            publication: "walfan".into(),
            tables: PublishedTables::default(),
            status_interval: STATUS_INTERVAL,
            retry_interval_max: RETRY_INTERVAL_MAX,
            command_timeout: COMMAND_TIMEOUT,
            limits: FragmentLimits::default(),
        }
    }

    /// Refuses what no server would take.
    pub(super) fn check(&self) -> Result<(), PostgresError> {
        let slot_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if !(1..=63).contains(&self.slot.len()) || !self.slot.bytes().all(slot_letter) {
            return Err(PostgresError::Config {
                what: "slot",
                cause: format!("{:?} is not 1 to 63 of the letters a-z, 0-9 and _", self.slot),
            });
        }
        if !(1..=63).contains(&self.publication.len()) || self.publication.contains('\0') {
            let cause = format!("{:?} is not 1 to 63 bytes", self.publication);
            return Err(PostgresError::Config { what: "publication", cause });
        }
        if self.status_interval.is_zero() {
            let cause = "it must be longer than nothing".into();
            return Err(PostgresError::Config { what: "status_interval", cause });
        }
        if self.limits.changes_max == 0 {
            let cause = "a fragment must have room for a change".into();
            return Err(PostgresError::Config { what: "limits.changes_max", cause });
        }
        Ok(())
    }

    /// The connection string of a replication connection to the same database.
    pub(super) fn replication_conninfo(&self) -> String {
        let uri = ["postgres://", "postgresql://"];
        if !uri.iter().any(|scheme| self.conninfo.starts_with(scheme)) {
            return format!("{} replication=database", self.conninfo);
        }
        let joint = if self.conninfo.contains('?') { '&' } else { '?' };
        format!("{}{joint}replication=database", self.conninfo)
    }
}

/// The connection string may hold a password: it is not shown.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("slot", &self.slot)
            .field("publication", &self.publication)
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replication_connection_is_asked_for_in_both_forms() {
        let of = |conninfo: &str| PostgresConfig::new(conninfo).replication_conninfo();
        assert_eq!(of("host=/tmp dbname=a"), "host=/tmp dbname=a replication=database");
        assert_eq!(of("postgres://h/a"), "postgres://h/a?replication=database");
        assert_eq!(of("postgresql://h/a?x=1"), "postgresql://h/a?x=1&replication=database");
    }

    #[test]
    fn what_no_server_takes_is_refused_and_passwords_are_not_shown() {
        let config = PostgresConfig::new("password=secret");
        assert!(config.check().is_ok() && !format!("{config:?}").contains("secret"));
        for slot in ["", "Slot", "a-b", "a'b", &"x".repeat(64)] {
            let config = PostgresConfig { slot: slot.into(), ..config.clone() };
            assert!(config.check().unwrap_err().to_string().contains("slot"), "{slot}");
        }
        let publication = String::new();
        assert!(PostgresConfig { publication, ..config.clone() }.check().is_err());
        let status_interval = Duration::ZERO;
        assert!(PostgresConfig { status_interval, ..config }.check().is_err());
    }
}
