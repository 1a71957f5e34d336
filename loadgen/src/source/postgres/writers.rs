//! Writers: several connections that write the workload's transactions, each the next one that
//! nobody has begun. In open loop a transaction has its time; at rate max a window bounds how many
//! are committed and not flushed.

use super::connection::{Connection, parsed};
use crate::run::RunError;
use crate::source::Pipe;
use crate::workload::{Workload, marked_payload};
use parking_lot::Mutex;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use walfan::{Lsn, WaitError};

/// How many write at once.
pub(super) const CONNECTIONS: usize = 4;
/// How long to wait for a window to open before the clock is looked at again.
const WINDOW_WAIT: Duration = Duration::from_millis(20);

/// A transaction that was written, and when its writing began.
pub(super) struct Sent {
    pub(super) transaction: u64,
    pub(super) at_us: u64,
}

/// What the writers share.
pub(super) struct Writers<'a> {
    pipe: &'a Pipe,
    workload: &'a Workload,
    next: AtomicU64,
    window: Window,
    failed: AtomicBool,
}

impl<'a> Writers<'a> {
    pub(super) fn new(pipe: &'a Pipe, workload: &'a Workload, window: u64) -> Writers<'a> {
        let transactions_max = (window as usize).max(CONNECTIONS + 1);
        let window = Window { transactions_max, in_flight: Mutex::default() };
        Writers { pipe, workload, next: AtomicU64::new(0), window, failed: AtomicBool::new(false) }
    }

    /// Writes through `connection` until the schedule ends, or somebody fails.
    pub(super) fn write(&self, connection: Connection) -> Result<Vec<Sent>, RunError> {
        let outcome = self.write_on(connection);
        if outcome.is_err() {
            // Relaxed: an order to stop soon.
            self.failed.store(true, Ordering::Relaxed);
        }
        outcome
    }

    fn write_on(&self, mut connection: Connection) -> Result<Vec<Sent>, RunError> {
        let (clock, mut sent, mut sql) = (self.pipe.published.clock(), Vec::new(), String::new());
        // Relaxed: see `write`.
        while !self.failed.load(Ordering::Relaxed) {
            let Some(transaction) = self.next()? else { break };
            self.statements(transaction, &mut sql);
            sent.push(Sent { transaction, at_us: clock.now_us() });
            let what = "commit a transaction";
            let [end] = connection.row(&sql, what)?;
            self.pipe.published.one_more();
            if !self.pipe.schedule.is_open_loop() {
                self.window.leave(parsed(&end, what)?);
            }
        }
        Ok(sent)
    }

    /// The next transaction, when it may go; `None` when the schedule has ended before.
    fn next(&self) -> Result<Option<u64>, RunError> {
        let (clock, schedule) = (self.pipe.published.clock(), &self.pipe.schedule);
        if !schedule.is_open_loop() {
            let entered = self.window.enter(self.pipe)?;
            // Relaxed: a number that nobody else gets.
            return Ok(entered.then(|| self.next.fetch_add(1, Ordering::Relaxed)));
        }
        let transaction = self.next.fetch_add(1, Ordering::Relaxed);
        let intended_us = schedule.intended_us(transaction);
        let Some(intended_us) = intended_us.filter(|us| *us < schedule.end_us) else {
            return Ok(None);
        };
        while let Some(left) = clock.until(intended_us) {
            thread::sleep(left);
        }
        Ok(Some(transaction))
    }

    /// The transaction, and a question for a place in the WAL behind it.
    fn statements(&self, transaction: u64, sql: &mut String) {
        sql.clear();
        sql.push_str("BEGIN; INSERT INTO loadgen.items VALUES ");
        for index in 0..self.workload.changes_of(transaction) {
            let row = self.workload.columns(transaction, index);
            let payload = marked_payload(transaction, index);
            let comma = if index == 0 { "" } else { ", " };
            let (id, kind, price, name) = (row.id, row.kind, row.price, row.name);
            // Writing to a string does not fail.
            let _ok = write!(sql, "{comma}({id}, '{kind}', {price}, '{name}', '{payload}')");
        }
        sql.push_str("; COMMIT; SELECT pg_current_wal_insert_lsn()");
    }
}

/// Transactions in flight: being written, or committed and not known to be flushed. Of a committed
/// one only a place in the WAL behind it is known, which others' commits may precede. So as many as
/// write at once may be taken for unflushed for good, and the window is wider than that.
struct Window {
    transactions_max: usize,
    in_flight: Mutex<InFlight>,
}

#[derive(Default)]
struct InFlight {
    writing: usize,
    /// Places behind those that were committed.
    ends: Vec<Lsn>,
}

impl Window {
    /// Waits for a place; false when the schedule has ended before.
    fn enter(&self, pipe: &Pipe) -> Result<bool, RunError> {
        while pipe.published.clock().now_us() < pipe.schedule.end_us {
            let flushed = pipe.engine.flushed_lsn();
            let oldest = {
                let mut in_flight = self.in_flight.lock();
                in_flight.ends.retain(|end| *end > flushed);
                if in_flight.writing + in_flight.ends.len() < self.transactions_max {
                    in_flight.writing += 1;
                    return Ok(true);
                }
                in_flight.ends.iter().min().copied()
            };
            let wanted = oldest.unwrap_or(Lsn::new(flushed.as_u64() + 1));
            match pipe.engine.wait_flushed(wanted, WINDOW_WAIT) {
                Ok(_) | Err(WaitError::TimedOut { .. }) => {}
                Err(error) => return Err(RunError::engine(error)),
            }
        }
        Ok(false)
    }

    /// A transaction was committed before `end`.
    fn leave(&self, end: Lsn) {
        let mut in_flight = self.in_flight.lock();
        in_flight.writing -= 1;
        in_flight.ends.push(end);
    }
}
