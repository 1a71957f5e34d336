//! Stream: a fragment's way into the shard: what was accepted before is dropped (INV8), the rest is
//! routed and logged and joins the wave; at the commit everything that waited for it moves.

use super::Shard;
use super::message::Given;
use super::slots::Cold;
use super::xids::Xids;
use crate::words::{ChangeRef, Fragment, Lsn, Offset, Operation, Routed, Slot};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Bytes of fragments that `recent` may hold on to, beside the newest.
const RECENT_BYTES_MAX: usize = 64 << 20;

/// Where the shard is in the stream.
pub(super) struct Stream {
    /// The last position that was accepted (INV8).
    pub(super) accepted: Offset,
    /// The last commit that was processed.
    pub(super) processed: Lsn,
    /// The transaction that has begun and not committed.
    pub(super) open: Option<OpenTransaction>,
    /// Its consumers that were touched; kept for its buffer.
    pub(super) touched: Vec<Slot>,
    /// Shapes whose consumer stands before the readable end, inside the open transaction: they
    /// join after its commit.
    pub(super) joiners: Vec<(Slot, u64, Offset)>,
    /// Shapes that begin after a commit that is not processed yet, by that commit: they came while
    /// its transaction was open, or in an earlier life. Nobody routes to them before.
    pub(super) newcomers: BTreeSet<(Lsn, Slot)>,
    /// Initial rows that came while a transaction was open: they are given after it. At most once
    /// for each shape that awaits them.
    pub(super) given: Vec<Given>,
    /// Which transactions came.
    pub(super) xids: Xids,
    /// The next fragment's number, and what is recent with its bytes.
    number: u64,
    recent: VecDeque<(u64, usize)>,
    recent_bytes: usize,
}

/// See [`Stream::open`].
pub(super) struct OpenTransaction {
    pub(super) commit: Lsn,
    bytes: u64,
}

impl Stream {
    /// Everything through `accepted` came before; also where that is nothing's LSN, where a shard
    /// `has_past`.
    pub(super) fn new(accepted: Lsn, has_past: bool) -> Stream {
        Stream {
            accepted: Offset::commit_mark(accepted),
            processed: accepted,
            open: None,
            touched: Vec::new(),
            joiners: Vec::new(),
            newcomers: BTreeSet::new(),
            given: Vec::new(),
            xids: Xids::new(has_past || accepted > Lsn::ZERO),
            number: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
        }
    }
}

impl Shard {
    /// Takes a fragment. What it brings to consumers `joins` the wave, if all of its transaction
    /// does, or makes one alone: then that stays open until all of the fragment has gone out.
    pub(super) fn handle_fragment(&mut self, fragment: Arc<Fragment>, joins: bool, now: Instant) {
        self.counters().fragments.add(1);
        if fragment.begins() {
            self.stream.xids.note(fragment.commit_lsn(), fragment.xid());
        }
        // One without a change reaches no position: what comes next would count as accepted.
        let says_nothing = fragment.is_empty() && !fragment.commits();
        if says_nothing || fragment.last_offset() <= self.stream.accepted {
            return;
        }
        let commit = fragment.commit_lsn();
        let bytes = fragment.bytes() as u64;
        if self.stream.open.as_ref().is_some_and(|open| open.commit != commit) {
            self.deliver_wave(now);
            self.abandon_open();
        }
        if self.stream.open.is_none() {
            self.route_newcomers(commit);
        }
        if !joins {
            self.deliver_wave(now);
        }
        let open = self.stream.open.get_or_insert(OpenTransaction { commit, bytes: 0 });
        open.bytes += bytes;
        let mut taken = self.wave.make_room();
        let deliveries = self.route_fragment(&fragment, &mut taken.routed);
        if deliveries > 0 || fragment.commits() {
            self.log_fragment(&fragment, &taken.routed);
        }
        self.stream.accepted = fragment.last_offset();
        if fragment.commits() {
            let bytes = self.stream.open.as_ref().map_or(0, |open| open.bytes);
            taken.commits = Some((commit, bytes));
            if joins {
                self.stream.open = None;
            }
        }
        taken.fragment = Some(fragment);
        self.wave.push(taken, deliveries, joins);
    }

    /// Fills `routes` with what of the fragment goes anywhere: how many deliveries that is.
    fn route_fragment(&mut self, fragment: &Fragment, routes: &mut Vec<Routed>) -> u64 {
        let (mut changes, mut logged) = (0, 0);
        for (index, change) in fragment.changes().enumerate() {
            if change.offset() <= self.stream.accepted {
                continue;
            }
            changes += 1;
            self.notice_relation(change.relation());
            let mut routed = Routed { change: index as u32, ..Routed::default() };
            if let Err(error) = self.router.route(change, &mut routed) {
                self.invalidate_table(change, &error.to_string());
            }
            self.invalidate_failed(change);
            if change.operation() == Operation::Truncate {
                // Of what its shapes hold nothing is left.
                let table = &change.relation().table;
                self.invalidate_table(change, &format!("table {table} was truncated"));
                continue;
            }
            let count = routed.forms().iter().map(|(_, targets)| targets.len()).sum::<u64>();
            if count > 0 {
                logged += count;
                routes.push(routed);
            }
        }
        let counters = self.counters();
        counters.changes.add(changes);
        counters.logged.add(logged);
        logged
    }

    /// A clause that has no answer for a row ends its own shape only.
    fn invalidate_failed(&mut self, change: ChangeRef<'_>) {
        for (slot, error) in self.router.take_failed() {
            let cause = format!("the clause cannot be evaluated: {error} (at {})", change.offset());
            self.invalidate(slot, &cause);
        }
    }

    fn invalidate_table(&mut self, change: ChangeRef<'_>, cause: &str) {
        let cause = format!("{cause} (at {})", change.offset());
        self.invalidate_routed(change.relation().oid, &cause, |_| true);
    }

    /// Invalidates the shapes of a table that are routed to and that `is_meant`. Those that begin
    /// after the open transaction have no part in what it holds.
    pub(super) fn invalidate_routed(
        &mut self,
        relation_oid: u32,
        cause: &str,
        is_meant: impl Fn(&Cold) -> bool,
    ) {
        let mut slots = Vec::new();
        self.router.slots_of(relation_oid).for_each(|slot| slots.push(slot));
        for slot in slots {
            if self.slots.get_mut(slot).is_some_and(|entry| is_meant(&entry.cold)) {
                self.invalidate(slot, cause);
            }
        }
        // Changes that were routed before stay logged: a shape that is gone reads nothing any more.
    }

    fn log_fragment(&mut self, fragment: &Fragment, routes: &[Routed]) {
        let before = self.encoder.len();
        if let Err(error) = self.encoder.fragment(fragment, routes) {
            // The publisher refuses fragments that could be too large for a record.
            self.control.poison(&format!("shard {}: {error}", self.number));
            return;
        }
        self.counters().log_bytes.add((self.encoder.len() - before) as u64);
    }

    /// Puts the fragment where runners find it, and lets go of old ones beyond the byte bound.
    pub(super) fn remember(&mut self, fragment: &Arc<Fragment>) -> u64 {
        let stream = &mut self.stream;
        let (number, bytes) = (stream.number, fragment.bytes());
        stream.number += 1;
        self.link.recent.put(number, fragment);
        stream.recent.push_back((number, bytes));
        stream.recent_bytes += bytes;
        let places = self.link.recent.places();
        while stream.recent_bytes - bytes > RECENT_BYTES_MAX || stream.recent.len() > places {
            let Some((old, old_bytes)) = stream.recent.pop_front() else { break };
            stream.recent_bytes -= old_bytes;
            if number - old < places as u64 {
                self.link.recent.forget(old);
            }
        }
        number
    }

    /// Everything of the transaction is delivered.
    pub(super) fn commit_transaction(&mut self, commit: Lsn, bytes: u64) {
        (self.stream.processed, self.stream.open) = (commit, None);
        self.owed.processed(commit, bytes);
        self.counters().transactions.add(1);
        self.end_open();
    }

    /// The open transaction never comes to its commit. What was logged of it is void when another
    /// one begins, and whose consumer saw of it is gone with it.
    pub(super) fn abandon_open(&mut self) {
        self.stream.open = None;
        self.end_open();
    }

    /// No transaction is open: who waited for that goes on.
    fn end_open(&mut self) {
        let joiners = std::mem::take(&mut self.stream.joiners);
        for &(slot, incarnation, position) in &joiners {
            self.join(slot, incarnation, position);
        }
        self.stream.joiners = joiners;
        self.stream.joiners.clear();
        for given in std::mem::take(&mut self.stream.given) {
            self.give_snapshot(given);
        }
    }
}
