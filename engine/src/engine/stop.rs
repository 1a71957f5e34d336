//! Stop: the engine's end, in an order that leaves nothing to be waited for in vain.
//!
//! 1. The state says stopping: nothing new is taken, nothing restarted, nothing invalidated.
//! 2. Each shard gets a Stop as its last message; it drops the open transaction, syncs, and gives
//!    the living until the deadline to flush what they owe.
//! 3. Shards end and let every consumer go; runners drop them and end when nothing is left.
//! 4. The syncing threads end when their shards are gone, the watch at the state's end.
//! 5. What is wedged past the deadline (a handler, a hung sync) is left behind and named.

use super::Engine;
use crate::control::{Failure, Phase};
use crate::shard::Message;
use crate::words::{Handle, Lsn};
use std::time::Duration;

/// Where the engine ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// One a shard.
    pub shards: Vec<ShardReport>,
    /// Threads that did not end in time and were left behind, by name.
    pub wedged: Vec<String>,
}

/// Where a shard ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardReport {
    /// The last commit that is durable in its log.
    pub durable: Lsn,
    /// The last commit at or below which it owes nothing.
    pub flushed: Lsn,
    /// Shapes that the flushed LSN still waits for: what they have not flushed is sent again when
    /// the engine is opened again.
    pub owing: Vec<Handle>,
}

impl Engine {
    /// Stops the engine: takes nothing new, makes durable what was committed, and waits up to
    /// `timeout` until consumers have flushed what they owe. Where each shard ended.
    ///
    /// # Errors
    /// When it was stopped before, or has failed: then it stops too, and what it had made durable
    /// stays so.
    pub fn shutdown(&self, timeout: Duration) -> Result<ShutdownReport, Failure> {
        let Some(threads) = self.threads.lock().take() else { return Err(Failure::Stopped) };
        let control = &self.inner.control;
        let deadline = super::after(timeout);
        control.state.advance(Phase::Stopping);
        control.wake_all();
        for shard in &self.inner.shards {
            // It has a place of its own in the channel; a shard that is gone has failed.
            drop(shard.messages.try_send(Message::Stop(deadline)));
        }
        let report = threads.join(&self.inner, deadline);
        match control.state.poisoned() {
            Some(cause) => Err(Failure::Poisoned { cause: cause.to_owned() }),
            None => Ok(report),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Who wants to wait for consumers calls `shutdown`.
        drop(self.shutdown(Duration::ZERO));
    }
}
