//! Publisher: the one way in for changes (R2). It checks that fragments make whole transactions,
//! waits where it must, and hands each fragment to every shard as one shared pointer.

use super::Inner;
use crate::consumer::Mail;
use crate::control::Failure;
use crate::shard::Message;
use crate::sync::Ordering;
use crate::words::{Fragment, Lsn, Offset};
use crossbeam::sync::Parker;
use std::sync::Arc;

/// Why a fragment is not taken. The engine goes on as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A fragment does not begin a transaction, and none is open.
    #[error(
        "a fragment of transaction {commit} came, but its beginning did not: send the \
         transaction from its first fragment"
    )]
    NoBegin {
        /// The fragment's commit LSN.
        commit: Lsn,
    },
    /// Another transaction is open.
    #[error("transaction {found} came while {open} was open: commit that one first")]
    OtherOpen {
        /// The transaction that is open.
        open: Lsn,
        /// The fragment's commit LSN.
        found: Lsn,
    },
    /// Offsets do not rise.
    #[error("offset {found} came after {last}: offsets rise inside a transaction")]
    OffsetsFall {
        /// The last offset that was taken.
        last: Offset,
        /// The offset that does not follow it.
        found: Offset,
    },
    /// The commit LSN stands for no position.
    #[error("{commit} is no commit LSN: it must lie between 0/1 and FFFFFFFF/FFFFFFFE")]
    NoPosition {
        /// The fragment's commit LSN.
        commit: Lsn,
    },
    /// The fragment holds too many changes or bytes.
    #[error("a fragment of {changes} changes and {bytes} bytes is too large: cut it smaller")]
    FragmentTooLarge {
        /// Its changes; at most 2,097,150 are taken.
        changes: usize,
        /// Its bytes; at most 2 GiB are taken.
        bytes: usize,
    },
    /// The open transaction is larger than the memory store (R14).
    #[error(
        "transaction {commit} passes {bytes_max} bytes, which is all that a shard's part of the \
         memory store holds: give it more memory, or use a directory"
    )]
    TransactionTooLarge {
        /// The transaction.
        commit: Lsn,
        /// The bound of one shard's part of the store.
        bytes_max: u64,
    },
    /// The engine has failed or stopped.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A fragment that was not taken, and comes back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TryPublishError {
    /// Taking it would have to wait: try again later. No shard has it.
    #[error("a shard's channel is full: try again later")]
    Full(Arc<Fragment>),
    /// It is refused. No shard has it.
    #[error("{error}")]
    Refused {
        /// Why.
        error: PublishError,
        /// The fragment.
        fragment: Arc<Fragment>,
    },
}

/// Publishes committed transactions, in commit order. There is one, and it cannot be cloned (R2).
///
/// A transaction that was published before may be published again, from its beginning: each shard
/// drops what it has. After a reconnect that is how an open transaction resumes. One that is
/// flushed need not come again, also if it is open.
pub struct Publisher {
    inner: Arc<Inner>,
    parker: Parker,
    open: Option<Open>,
    /// A transaction that was left half-way when an earlier one began again: shards have its
    /// beginning, so it must come again before a later one.
    interrupted: Option<Lsn>,
    /// The highest commit whose transaction was published whole, or is in the directory.
    committed: Lsn,
}

/// The transaction that is being published.
#[derive(Clone, Copy, Debug)]
struct Open {
    commit: Lsn,
    last: Option<Offset>,
    bytes: u64,
}

/// The log writes a fragment as one record, whose length has 32 bits, and decoded it takes more.
const FRAGMENT_BYTES_MAX: usize = 2 << 30;

impl Publisher {
    pub(super) fn new(inner: Arc<Inner>, committed: Lsn) -> Publisher {
        // There is one publisher, so it lies there.
        let parker = inner.control.gate.take_parker().unwrap_or_default();
        Publisher { inner, parker, open: None, interrupted: None, committed }
    }

    /// Publishes a fragment; waits while a shard's channel is full, and before a transaction begins
    /// while consumers as a whole are behind (R17).
    ///
    /// # Errors
    /// When the fragment does not follow what came before, or the engine has failed or stopped.
    pub fn publish(&mut self, fragment: impl Into<Arc<Fragment>>) -> Result<(), PublishError> {
        let fragment = fragment.into();
        let open = self.check(&fragment)?;
        let ready = || self.is_ready(&fragment);
        if !ready() {
            let failed = || self.inner.control.state.check().is_err();
            self.inner.control.gate.wait(&self.parker, || ready() || failed());
        }
        self.inner.control.state.check()?;
        self.send(fragment, open)
    }

    /// Publishes a fragment to all shards, or to none.
    ///
    /// # Errors
    /// The fragment comes back, with the reason.
    pub fn try_publish(&mut self, fragment: Arc<Fragment>) -> Result<(), TryPublishError> {
        let checked = self.inner.control.state.check().map_err(PublishError::from);
        match checked.and_then(|()| self.check(&fragment)) {
            Err(error) => Err(TryPublishError::Refused { error, fragment }),
            Ok(_) if !self.is_ready(&fragment) => Err(TryPublishError::Full(fragment)),
            Ok(open) => {
                let kept = Arc::clone(&fragment);
                let sent = self.send(fragment, open);
                sent.map_err(|error| TryPublishError::Refused { error, fragment: kept })
            }
        }
    }

    /// Whether a transaction was begun and not committed.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Gives up the transaction that is open, because its source will never send the rest: its slot
    /// is gone, or was moved. To be called after [`Engine::invalidate_all`], as the consumers of
    /// shapes that live would be left in the middle of it.
    ///
    /// [`Engine::invalidate_all`]: crate::Engine::invalidate_all
    pub fn abandon(&mut self) {
        (self.open, self.interrupted) = (None, None);
    }

    /// The transaction of which a part was published and that must come again, or go on, before a
    /// later one; `None` if there is none.
    pub fn unfinished(&self) -> Option<Lsn> {
        self.half_way()
    }

    /// What the fragment makes of the open transaction, if it follows what came before.
    fn check(&self, fragment: &Fragment) -> Result<Open, PublishError> {
        let commit = fragment.commit_lsn();
        if commit == Lsn::ZERO || commit == Lsn::MAX {
            return Err(PublishError::NoPosition { commit });
        }
        let (changes, bytes) = (fragment.len(), fragment.bytes());
        if changes >= Mail::CHANGES_MAX || bytes > FRAGMENT_BYTES_MAX {
            return Err(PublishError::FragmentTooLarge { changes, bytes });
        }
        let other = |open| Err(PublishError::OtherOpen { open, found: commit });
        let before = match (self.open, self.half_way()) {
            // A replay begins at or below it, and comes to it again: unless it was one itself, of
            // what is flushed by now.
            (_, Some(open)) if fragment.begins() && open < commit && !self.is_flushed(open) => {
                return other(open);
            }
            _ if fragment.begins() => Open { commit, last: None, bytes: 0 },
            (Some(open), _) if open.commit == commit => open,
            (Some(open), _) => return other(open.commit),
            (None, _) => return Err(PublishError::NoBegin { commit }),
        };
        self.check_offsets(fragment, before)
    }

    /// Whether every shard has had the transaction whole, and dropped what came of it again.
    fn is_flushed(&self, commit: Lsn) -> bool {
        commit <= self.inner.control.flushed.global()
    }

    /// The transaction of which shards have the beginning and not the end.
    fn half_way(&self) -> Option<Lsn> {
        self.interrupted.max(self.open.map(|open| open.commit))
    }

    fn check_offsets(&self, fragment: &Fragment, before: Open) -> Result<Open, PublishError> {
        let mut open = before;
        for change in fragment.changes() {
            let found = change.offset();
            if let Some(last) = open.last.filter(|last| *last >= found) {
                return Err(PublishError::OffsetsFall { last, found });
            }
            open.last = Some(found);
        }
        open.bytes += fragment.bytes() as u64;
        let bytes_max = self.inner.limits.transaction_bytes_max;
        if open.bytes > bytes_max {
            let commit = open.commit;
            return Err(PublishError::TransactionTooLarge { commit, bytes_max });
        }
        Ok(open)
    }

    fn is_ready(&self, fragment: &Fragment) -> bool {
        self.inner.control.gate.has_room() && !(fragment.begins() && self.inner.is_overloaded())
    }

    fn send(&mut self, fragment: Arc<Fragment>, open: Open) -> Result<(), PublishError> {
        for (number, shard) in self.inner.shards.iter().enumerate() {
            self.inner.control.gate.enter(number);
            // There is room, and nobody else sends fragments; a shard that is gone has failed.
            let sent = shard.messages.try_send(Message::Fragment(Arc::clone(&fragment)));
            sent.map_err(|_| self.inner.control.state.failure())?;
        }
        self.interrupted = self.half_way().filter(|half_way| *half_way > open.commit);
        self.open = Some(open);
        if fragment.commits() {
            self.committed = self.committed.max(open.commit);
            self.open = None;
        }
        Ok(())
    }

    /// The highest commit whose transaction was published whole, by this publisher or, as far as
    /// that is durable, by the directory's earlier ones; [`Lsn::ZERO`] if there is none.
    pub fn committed(&self) -> Lsn {
        self.committed
    }
}

impl Inner {
    /// The pool as a whole is behind: no runner is idle, and too much is not flushed or waits in
    /// mailboxes (R17).
    fn is_overloaded(&self) -> bool {
        if !self.pool.is_busy() {
            return false;
        }
        // Relaxed, all of these: hints that are looked at again.
        let sum = |gauge: fn(&crate::consumer::ShardGauges) -> u64| -> u64 {
            self.shards.iter().map(|shard| gauge(&shard.link.gauges)).sum()
        };
        let unflushed = sum(|gauges| gauges.unflushed_bytes.load(Ordering::Relaxed));
        if unflushed > self.limits.unflushed_bytes_soft_max {
            return true;
        }
        let places = sum(|gauges| gauges.mail_places.load(Ordering::Relaxed));
        let sent = sum(|gauges| gauges.mail_sent.load(Ordering::Relaxed));
        sent.saturating_sub(self.mail_taken()) * 2 > places
    }

    fn mail_taken(&self) -> u64 {
        self.pool.tally().mail_taken
            + self.control.counters.iter().map(|c| c.mail_taken.get()).sum::<u64>()
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("open", &self.open)
            .field("committed", &self.committed)
            .finish_non_exhaustive()
    }
}
