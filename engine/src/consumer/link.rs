//! Link: what a shard shows to those who work for it on other threads: the runners, the feeder,
//! the watchdog.

use super::mailbox::Mailbox;
use super::recent::Recent;
use crate::report::Wake;
use crate::sync::{AtomicBool, AtomicU64, Ordering, fence};
use crate::words::{Lsn, Offset};
use crossbeam::utils::CachePadded;
use crossbeam_channel::Sender;
use std::sync::Arc;

/// A lagging consumer on its way through the log (R4). It exists once: whoever holds it (feeder,
/// lane, channel) is the one that moves the consumer on.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) mailbox: Arc<Mailbox>,
    /// It has been fed through here.
    pub(crate) position: Offset,
    /// It was handed a part of the transaction there and needs the commit, which may lie in another
    /// block than all that it has of it (R7).
    pub(crate) open: bool,
    /// The shard's answer B: after this commit the mailbox goes on.
    pub(crate) boundary: Option<Lsn>,
}

/// Counts of mail by one shard and of its parts. One writer each.
#[derive(Debug, Default)]
pub(crate) struct ShardGauges {
    /// Mail sent into mailboxes since the start.
    pub(crate) mail_sent: AtomicU64,
    /// Places in the mailboxes of running consumers.
    pub(crate) mail_places: AtomicU64,
    /// Bytes of commits that are processed and not flushed.
    pub(crate) unflushed_bytes: AtomicU64,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct ShardLink {
    pub(crate) shard: usize,
    pub(crate) recent: Recent,
    pub(crate) wake: Arc<Wake>,
    pub(crate) gauges: CachePadded<ShardGauges>,
    /// Consumers for the feeder. Unbounded as a channel, bounded by the shard's consumers: each
    /// has one member.
    pub(crate) members: Sender<Member>,
    /// Every commit at or below this one is processed by the shard and, where something of it was
    /// logged, durable and readable. Written by the shard, read by the feeder.
    durable_through: CachePadded<AtomicU64>,
    /// The feeder has members that wait for `durable_through` to move.
    awaits_sync: AtomicBool,
}

impl ShardLink {
    pub(crate) fn new(
        shard: usize,
        recent: Recent,
        wake: Arc<Wake>,
        members: Sender<Member>,
    ) -> ShardLink {
        ShardLink {
            shard,
            recent,
            wake,
            gauges: CachePadded::default(),
            members,
            durable_through: CachePadded::default(),
            awaits_sync: AtomicBool::new(false),
        }
    }

    /// Hands a member to the feeder. The caller wakes the feeder. A feeder that is gone has
    /// stopped with its engine, and the member goes with it.
    pub(crate) fn enlist(&self, member: Member) {
        drop(self.members.send(member));
    }

    /// Reads `durable_through`, after saying that the shard shall wake the feeder when it moves.
    pub(crate) fn await_sync(&self) -> Lsn {
        self.awaits_sync.store(true, Ordering::Relaxed);
        // Pairs with the fence in `set_durable_with`: flag and position are a store and a load on
        // each side; one of the two sides must see the other's store, or the feeder sleeps.
        fence(Ordering::SeqCst);
        self.durable_through()
    }

    pub(crate) fn durable_through(&self) -> Lsn {
        // Acquire: pairs with the release in `set_durable_through`; what is durable is readable.
        Lsn::new(self.durable_through.load(Ordering::Acquire))
    }

    /// Moves `durable_through`. True: the caller wakes the feeder.
    #[must_use]
    pub(crate) fn set_durable_through(&self, lsn: Lsn) -> bool {
        self.set_durable_with(lsn, || fence(Ordering::SeqCst))
    }

    /// `set_durable_through` with the barrier as an argument, so that a model can show what it is
    /// for.
    fn set_durable_with(&self, lsn: Lsn, barrier: impl FnOnce()) -> bool {
        self.durable_through.store(lsn.as_u64(), Ordering::Release);
        // Pairs with the fence in `await_sync`.
        barrier();
        // Relaxed: the fence orders it; at worst the feeder is woken once too often.
        self.awaits_sync.load(Ordering::Relaxed) && self.awaits_sync.swap(false, Ordering::Relaxed)
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::report::Sleeper;
    use crate::sync::model;

    /// A shard makes a commit durable, and a feeder waits for it.
    fn sync_and_await(set: impl Fn(&ShardLink, Lsn) -> bool + Send + Sync + Copy + 'static) {
        model::check(move || {
            let (_sleeper, wake) = Sleeper::new();
            let (members, _) = crossbeam_channel::unbounded();
            let link = Arc::new(ShardLink::new(0, Recent::new(1), wake, members));
            let shard = {
                let link = Arc::clone(&link);
                model::spawn(move || set(&link, Lsn::new(1)))
            };
            let found = link.await_sync() == Lsn::new(1);
            let is_woken = shard.join().unwrap();
            assert!(found || is_woken, "asleep on what is durable");
        });
    }

    #[test]
    fn loom_the_feeder_is_woken_or_finds_what_is_durable() {
        sync_and_await(|link, lsn| link.set_durable_through(lsn));
    }

    #[test]
    #[should_panic(expected = "asleep on what is durable")]
    fn loom_without_the_fence_the_feeder_sleeps_on() {
        sync_and_await(|link, lsn| link.set_durable_with(lsn, || ()));
    }
}
