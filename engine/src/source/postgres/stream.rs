//! Stream: one connection, from START_REPLICATION to its end.
//!
//! Three things happen side by side on the source's thread and none waits for another (INV6):
//! frames are read and become fragments, fragments are published, and a timer tells the server how
//! far it may forget. When the engine's channels are full no more frames are read; the timer goes
//! on, so the server keeps the connection.

use super::acks::Acks;
use super::assemble::{Assembled, Assembler};
use super::config::PostgresConfig;
use super::decode::decode;
use super::error::PostgresError;
use super::floor::Floor;
use super::frame::Frame;
use super::link::Link;
use super::status::Shared;
use crate::engine::{Engine, Publisher, TryPublishError};
use crate::words::{Fragment, TransactionBuilder};
use pg_walstream::CancellationToken;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How soon a fragment that found the channels full is offered again. The shards work through less
/// than their full channels in this time, so they do not run dry.
const OFFER_INTERVAL: Duration = Duration::from_millis(1);
/// How long the last acknowledgement may hold up a stop.
pub(super) const FAREWELL_MAX: Duration = Duration::from_secs(5);
/// Frames between two looks at the timers: a stream that is never idle would starve them.
const FRAMES_BETWEEN_YIELDS: u32 = 128;

/// What lives as long as the source, over all its connections.
pub(super) struct Pump {
    pub(super) engine: Arc<Engine>,
    pub(super) publisher: Publisher,
    pub(super) assembler: Assembler,
    pub(super) acks: Acks,
    pub(super) shared: Arc<Shared>,
    pub(super) stop: CancellationToken,
    /// What the last frame became and the engine has not taken yet.
    pub(super) outbox: VecDeque<Assembled>,
    /// Transactions accepted since the source was started.
    pub(super) transactions: u64,
}

/// A connection that streams, and what it was told.
pub(super) struct Stream {
    pub(super) link: Link,
    pub(super) floor: Floor,
    pub(super) status_interval: Duration,
}

impl Pump {
    /// Pumps until the source is stopped, or until the connection, the engine or the stream's
    /// content fails.
    pub(super) async fn pump(
        &mut self,
        stream: Stream,
        config: &PostgresConfig,
    ) -> Result<(), PostgresError> {
        let Stream { mut link, mut floor, status_interval } = stream;
        let stop = self.stop.clone();
        let mut timer = tokio::time::interval(status_interval);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut frames: u32 = 0;
        loop {
            self.publish()?;
            let held_back = !self.outbox.is_empty();
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    return self.farewell(&mut link, &mut floor, config).await;
                }
                outcome = floor.finished(), if floor.is_raising() => {
                    outcome?;
                    self.tell(&mut link, &floor, config).await?;
                }
                _ = timer.tick() => {
                    self.check_engine()?;
                    floor.want(self.acks.allowed(self.engine.flushed_lsn()));
                    self.tell(&mut link, &floor, config).await?;
                }
                () = tokio::time::sleep(OFFER_INTERVAL), if held_back => {}
                frame = link.frame(), if !held_back => {
                    let frame = frame.map_err(|e| PostgresError::stream(&e, &config.slot))?;
                    if self.take(&frame)? {
                        self.tell(&mut link, &floor, config).await?;
                    }
                    frames = frames.wrapping_add(1);
                    if frames.is_multiple_of(FRAMES_BETWEEN_YIELDS) {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }

    /// Takes one frame; says whether the server wants an answer at once.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, PostgresError> {
        match Frame::read(bytes)? {
            Frame::Data { payload } => {
                self.assembler.take(decode(payload)?, &mut self.outbox)?;
                Ok(false)
            }
            Frame::Keepalive { wal_end, reply_requested } => {
                self.acks.keepalive(wal_end);
                Ok(reply_requested)
            }
        }
    }

    /// Hands the engine what it takes without waiting.
    fn publish(&mut self) -> Result<(), PostgresError> {
        while let Some(assembled) = self.outbox.pop_front() {
            match assembled {
                Assembled::Relation(relation) => self.engine.learn(relation),
                Assembled::Begin => self.acks.begun(),
                Assembled::Fragment(fragment) => {
                    if let Some(fragment) = self.offer(fragment)? {
                        self.outbox.push_front(Assembled::Fragment(fragment));
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives the fragment back if the engine's channels are full.
    fn offer(&mut self, fragment: Arc<Fragment>) -> Result<Option<Arc<Fragment>>, PostgresError> {
        let (commit_lsn, end_lsn) = (fragment.commit_lsn(), fragment.end_lsn());
        match self.publisher.try_publish(fragment) {
            Ok(()) => {}
            Err(TryPublishError::Full(fragment)) => return Ok(Some(fragment)),
            Err(TryPublishError::Refused { error, .. }) => {
                return Err(PostgresError::Engine { cause: error.to_string() });
            }
        }
        if let Some(end_lsn) = end_lsn {
            self.acks.published(commit_lsn, end_lsn);
            self.transactions += 1;
        }
        Ok(None)
    }

    /// Ends a transaction of which the engine has a part and that will not come again. To be called
    /// when every shape is invalidated, so that no log shows it as whole.
    pub(super) async fn close_unfinished(&mut self) -> Result<(), PostgresError> {
        let Some(commit_lsn) = self.publisher.unfinished() else { return Ok(()) };
        let end = TransactionBuilder::new(0, commit_lsn).commit(commit_lsn);
        let mut fragment = Some(Arc::new(end));
        while let Some(offered) = fragment.take() {
            fragment = match self.publisher.try_publish(offered) {
                Ok(()) => None,
                Err(TryPublishError::Full(fragment)) => Some(fragment),
                Err(TryPublishError::Refused { error, .. }) => {
                    return Err(PostgresError::Engine { cause: error.to_string() });
                }
            };
            if fragment.is_some() {
                tokio::time::sleep(OFFER_INTERVAL).await;
            }
        }
        Ok(())
    }

    /// Tells the server what is durably allowed. Moves nothing (INV6).
    async fn tell(
        &mut self,
        link: &mut Link,
        floor: &Floor,
        config: &PostgresConfig,
    ) -> Result<(), PostgresError> {
        let sent = tokio::time::timeout(config.command_timeout, link.tell(floor.raised())).await;
        let late = || PostgresError::Lost {
            cause: format!("no status update went out within {:?}", config.command_timeout),
        };
        sent.map_err(|_| late())?.map_err(|error| PostgresError::stream(&error, &config.slot))?;
        let (acks, transactions) = (&self.acks, self.transactions);
        let held_back = !self.outbox.is_empty();
        self.shared.update(|status| {
            status.confirmed = floor.raised().lsn();
            status.published = acks.newest();
            status.server = acks.server();
            status.unconfirmed = acks.pending() as u64;
            status.transactions = transactions;
            status.held_back = held_back;
        });
        Ok(())
    }

    /// Acknowledges once more what is flushed by now.
    async fn farewell(
        &mut self,
        link: &mut Link,
        floor: &mut Floor,
        config: &PostgresConfig,
    ) -> Result<(), PostgresError> {
        let last = async {
            floor.finished().await?;
            floor.want(self.acks.allowed(self.engine.flushed_lsn()));
            floor.finished().await?;
            self.tell(link, floor, config).await
        };
        // Whatever is not told now is sent again at the next start.
        match tokio::time::timeout(FAREWELL_MAX, last).await {
            Ok(outcome) => outcome,
            Err(_) => Ok(()),
        }
    }

    fn check_engine(&self) -> Result<(), PostgresError> {
        match self.engine.failure() {
            Some(failure) => Err(PostgresError::Engine { cause: failure.to_string() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
