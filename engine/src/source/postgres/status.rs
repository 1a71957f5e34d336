//! Status: what the source shows of itself while it runs.

use super::error::PostgresError;
use crate::words::Lsn;
use parking_lot::Mutex;

/// What the source is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PostgresState {
    /// It connects and prepares the server.
    #[default]
    Connecting,
    /// It streams.
    Streaming,
    /// The connection broke; it connects again soon.
    Waiting,
    /// It was stopped.
    Stopped,
    /// It has ended for a reason that trying again does not cure.
    Failed,
}

/// A source's state and figures. Refreshed with each status update that is sent, and at each change
/// of state.
#[derive(Clone, Debug, Default)]
pub struct PostgresStatus {
    /// What it is doing.
    pub state: PostgresState,
    /// Why the last connection ended, or the source.
    pub last_error: Option<PostgresError>,
    /// Connections that came to stream.
    pub connections: u64,
    /// Transactions that the engine has accepted, those that came again included.
    pub transactions: u64,
    /// The commit LSN of the last one.
    pub published: Lsn,
    /// How far the server said that it has come.
    pub server: Lsn,
    /// The LSN that the server was last told.
    pub confirmed: Lsn,
    /// Commits that are published and not acknowledged, about.
    pub unconfirmed: u64,
    /// Whether the engine's channels are full, so that nothing is read from the server.
    pub held_back: bool,
}

/// The status, as the source's thread writes it and its owner reads it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    status: Mutex<PostgresStatus>,
}

impl Shared {
    pub(super) fn read(&self) -> PostgresStatus {
        self.status.lock().clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut PostgresStatus)) {
        change(&mut self.status.lock());
    }

    /// Enters a state that `error` has led to.
    pub(super) fn fall(&self, state: PostgresState, error: &PostgresError) {
        let error = error.clone();
        self.update(|status| {
            status.state = state;
            status.last_error = Some(error);
        });
    }
}
