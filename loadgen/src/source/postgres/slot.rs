//! Slot: the engine's replication slot as the server shows it while a run goes on, and at its end.

use super::connection::{Connection, parsed};
use super::error::PostgresFailure;
use std::thread;
use std::time::{Duration, Instant};
use walfan::Lsn;

const LOOK: &str = "SELECT confirmed_flush_lsn, \
    pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint, \
    pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint \
    FROM pg_replication_slots WHERE slot_name = 'walfan_loadgen'";
const WHAT: &str = "look at the slot";
/// Between two looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// See the file's head.
pub(super) struct SlotWatch {
    connection: Connection,
    /// Before the first transaction.
    pub(super) start: Lsn,
    pub(super) confirmed: Lsn,
    /// Different positions that were seen.
    pub(super) moves: u64,
    pub(super) retained_bytes: u64,
    pub(super) unconfirmed_bytes_max: u64,
}

impl SlotWatch {
    /// Begins with a first look.
    pub(super) fn new(connection: Connection) -> Result<SlotWatch, PostgresFailure> {
        let mut watch = SlotWatch {
            connection,
            start: Lsn::ZERO,
            confirmed: Lsn::ZERO,
            moves: 0,
            retained_bytes: 0,
            unconfirmed_bytes_max: 0,
        };
        watch.look()?;
        (watch.start, watch.moves) = (watch.confirmed, 0);
        Ok(watch)
    }

    /// Takes a look.
    pub(super) fn look(&mut self) -> Result<(), PostgresFailure> {
        let [confirmed, unconfirmed, retained] = self.connection.row(LOOK, WHAT)?;
        let confirmed: Lsn = parsed(&confirmed, WHAT)?;
        self.moves += u64::from(confirmed != self.confirmed);
        self.confirmed = confirmed;
        self.unconfirmed_bytes_max = self.unconfirmed_bytes_max.max(parsed(&unconfirmed, WHAT)?);
        self.retained_bytes = parsed(&retained, WHAT)?;
        Ok(())
    }

    /// Looks until the slot has confirmed `lsn`, or `patience` is over; whether it has.
    pub(super) fn await_confirmed(
        &mut self,
        lsn: Lsn,
        patience: Duration,
    ) -> Result<bool, PostgresFailure> {
        let start = Instant::now();
        loop {
            self.look()?;
            if self.confirmed >= lsn || start.elapsed() > patience {
                return Ok(self.confirmed >= lsn);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// The end of the server's WAL.
    pub(super) fn wal_end(&mut self) -> Result<Lsn, PostgresFailure> {
        let what = "name the end of its WAL";
        let [end] = self.connection.row("SELECT pg_current_wal_lsn()", what)?;
        parsed(&end, what)
    }
}
