//! What keeps the Postgres source from starting, or ends it. Each text says what to do.

use super::assemble::AssembleError;
use super::decode::DecodeError;
use super::frame::FrameError;
use crate::words::{Handle, Lsn};
use pg_walstream::ReplicationError;

/// Why the source does not start, or has ended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// A part of the configuration cannot be used.
    #[error("the source's {what} cannot be used: {cause}")]
    Config {
        /// Which part.
        what: &'static str,
        /// Why.
        cause: String,
    },
    /// The server cannot be reached, or does not let us in.
    #[error("cannot connect to Postgres: {cause}")]
    Connect {
        /// What libpq said.
        cause: String,
        /// Whether trying again may help.
        transient: bool,
    },
    /// The connection broke. The source connects again by itself.
    #[error("the connection to Postgres was lost: {cause}")]
    Lost {
        /// What libpq or the server said.
        cause: String,
    },
    /// The server writes too little into its WAL.
    #[error(
        "wal_level is {found}, but logical replication needs wal_level = logical: set it in \
         postgresql.conf and restart the server"
    )]
    WalLevel {
        /// The server's setting.
        found: String,
    },
    /// The role may not do what is needed.
    #[error("role {role} may not {action}: {remedy} (the server said: {cause})")]
    Rights {
        /// The role.
        role: String,
        /// What it may not do.
        action: &'static str,
        /// What to do.
        remedy: String,
        /// The server's words.
        cause: String,
    },
    /// A published table does not write the rows before into the WAL.
    #[error(
        "{count} published tables have no REPLICA IDENTITY FULL, without which an update or \
         delete cannot be matched against shapes; run: {statements}"
    )]
    NotFull {
        /// How many tables.
        count: usize,
        /// The statements that set it, of the first few.
        statements: String,
    },
    /// A configured table does not exist, or the publication leaves it out.
    #[error(
        "table {table} is not in publication {publication}: create the table if it does not \
         exist, then run ALTER PUBLICATION {publication} ADD TABLE {table}"
    )]
    NotPublished {
        /// The table, quoted for SQL.
        table: String,
        /// The publication, quoted for SQL.
        publication: String,
    },
    /// A replication slot of this name is used for something else.
    #[error(
        "replication slot {slot} cannot be used: {cause}; drop it if nobody needs it, or configure \
         another name"
    )]
    Slot {
        /// The slot.
        slot: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The server has thrown away WAL that the slot still needed.
    #[error(
        "replication slot {slot} is lost (the server removed WAL that it needed, see \
         max_slot_wal_keep_size): run SELECT pg_drop_replication_slot('{slot}') and start the \
         source again; it makes a new slot and invalidates all shapes"
    )]
    SlotLost {
        /// The slot.
        slot: String,
    },
    /// A statement took too long.
    #[error(
        "could not {action} in time; a transaction that is open for long holds it up: look for it \
         in pg_stat_activity (the server said: {cause})"
    )]
    TimedOut {
        /// What.
        action: &'static str,
        /// The server's words.
        cause: String,
    },
    /// A statement failed.
    #[error("could not {action}: {cause}")]
    Statement {
        /// What the statement was to do.
        action: &'static str,
        /// The server's words.
        cause: String,
    },
    /// The server was restored, or a standby was promoted that had not received everything.
    #[error(
        "the server's WAL ends at {server}, but the engine is at {reached}: it was restored, or \
         it is a standby that was behind; start with an empty data directory"
    )]
    ServerBehind {
        /// The end of the server's WAL.
        server: Lsn,
        /// The last commit that the engine was sent, or the acknowledgement floor.
        reached: Lsn,
    },
    /// The connection leads to another server than the one that the engine belongs to.
    #[error(
        "the server's system identifier is {now}, but the engine belongs to {before}: it is \
         another server; restore the way to the first one, or start with an empty data directory"
    )]
    OtherServer {
        /// The identifier of the server that it was connected to first.
        before: u64,
        /// The identifier now.
        now: u64,
    },
    /// A shape counts on a log that a power cut would erase (R14).
    #[error(
        "shape {handle} acknowledges when its log is durable, but the engine has only memory: \
         start the engine with a data directory, or give the shape a consumer with Ack::Consumer"
    )]
    NotDurable {
        /// The first such shape.
        handle: Handle,
    },
    /// A replication message cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A pgoutput message cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// pgoutput's messages do not fit together.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The engine takes nothing more.
    #[error("the engine refused what Postgres sent: {cause}")]
    Engine {
        /// Why.
        cause: String,
    },
    /// The source's own thread cannot be started, or has ended without a word.
    #[error("the source's thread: {cause}")]
    Thread {
        /// Why.
        cause: String,
    },
}

impl PostgresError {
    /// Whether the source tries again by itself.
    pub fn is_transient(&self) -> bool {
        match self {
            PostgresError::Connect { transient, .. } => *transient,
            PostgresError::Lost { .. } | PostgresError::TimedOut { .. } => true,
            _ => false,
        }
    }

    /// What libpq's failure to connect means.
    pub(super) fn connect(error: &ReplicationError) -> PostgresError {
        let transient = !error.is_permanent();
        PostgresError::Connect { cause: one_line(error), transient }
    }

    /// What a failure in the open stream means. The transport names what no retry can cure;
    /// everything else is worth a new connection.
    pub(super) fn stream(error: &ReplicationError, slot: &str) -> PostgresError {
        let cause = one_line(error);
        match error {
            ReplicationError::ReplicationSlot(_) => {
                PostgresError::Slot { slot: slot.to_owned(), cause }
            }
            error if error.is_permanent() => {
                PostgresError::Statement { action: "stream from the slot", cause }
            }
            _ => PostgresError::Lost { cause },
        }
    }
}

/// An error's text without line breaks, which libpq's have.
pub(super) fn one_line(error: &ReplicationError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
