//! Stream: a fragment's way through the shard: what was accepted before is dropped (INV8), the
//! rest is routed, logged and delivered, and at the commit everything that waited for it moves.

use super::Shard;
use super::fanout::{Counts, Fanout};
use super::slots::Entry;
use crate::sync::Ordering;
use crate::words::{ChangeRef, Fragment, Lsn, Offset, Relation, Routed, Slot};
use std::collections::VecDeque;
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
    touched: Vec<Slot>,
    /// Shapes whose consumer stands before the readable end, inside the open transaction: they
    /// join after its commit.
    pub(super) joiners: Vec<(Slot, u64, Offset)>,
    /// Shapes that came during the open transaction, and are routed to from the next one on.
    pub(super) newcomers: Vec<Slot>,
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
    pub(super) fn new(accepted: Lsn) -> Stream {
        Stream {
            accepted: Offset::commit_mark(accepted),
            processed: accepted,
            open: None,
            touched: Vec::new(),
            joiners: Vec::new(),
            newcomers: Vec::new(),
            number: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
        }
    }
}

impl Shard {
    /// Takes a fragment.
    pub(super) fn handle_fragment(&mut self, fragment: &Arc<Fragment>, now: Instant) {
        self.counters().fragments.add(1);
        // One without a change reaches no position: what comes next would count as accepted.
        let says_nothing = fragment.is_empty() && !fragment.commits();
        if says_nothing || fragment.last_offset() <= self.stream.accepted {
            return;
        }
        let commit = fragment.commit_lsn();
        let bytes = fragment.bytes() as u64;
        if self.stream.open.as_ref().is_some_and(|open| open.commit != commit) {
            self.abandon_open();
        }
        let open = self.stream.open.get_or_insert(OpenTransaction { commit, bytes: 0 });
        open.bytes += bytes;
        self.route_fragment(fragment);
        if !self.routed.is_empty() || fragment.commits() {
            self.log_fragment(fragment);
            self.deliver_fragment(fragment);
        }
        self.stream.accepted = fragment.last_offset();
        if fragment.commits() {
            self.commit_transaction(commit);
        }
        self.bury_ended(now);
        self.wakes.flush(&self.pool);
    }

    /// Fills `routed` with what of the fragment goes anywhere.
    fn route_fragment(&mut self, fragment: &Fragment) {
        self.routed.clear();
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
            let count = routed.forms().iter().map(|(_, targets)| targets.len()).sum::<u64>();
            if count > 0 {
                logged += count;
                self.routed.push(routed);
            }
        }
        let counters = self.counters();
        counters.changes.add(changes);
        counters.logged.add(logged);
    }

    /// A clause that has no answer for a row ends its own shape only.
    fn invalidate_failed(&mut self, change: ChangeRef<'_>) {
        for (slot, error) in self.router.take_failed() {
            let cause = format!("the clause cannot be evaluated: {error} (at {})", change.offset());
            self.invalidate(slot, &cause);
        }
    }

    /// A table that was altered ends its shapes: their clauses and columns mean something else now.
    fn notice_relation(&mut self, relation: &Arc<Relation>) {
        let Some(known) = self.relations.get_mut(&relation.oid) else { return };
        if Arc::ptr_eq(known, relation) {
            return;
        }
        let same = is_same(known, relation);
        *known = Arc::clone(relation);
        if !same {
            let cause = format!("table {} was altered: add the shape again", relation.table);
            self.invalidate_slots(relation.oid, &cause);
        }
    }

    fn invalidate_table(&mut self, change: ChangeRef<'_>, cause: &str) {
        let cause = format!("{cause} (at {})", change.offset());
        self.invalidate_slots(change.relation().oid, &cause);
    }

    fn invalidate_slots(&mut self, relation_oid: u32, cause: &str) {
        let mut slots = Vec::new();
        self.router.slots_of(relation_oid).for_each(|slot| slots.push(slot));
        for &slot in &self.stream.newcomers {
            let of_it = |entry: &mut Entry| entry.cold.relation.oid == relation_oid;
            if self.slots.get_mut(slot).is_some_and(of_it) {
                slots.push(slot);
            }
        }
        for slot in slots {
            self.invalidate(slot, cause);
        }
        // Changes of this fragment that were routed before stay logged: a shape that is gone reads
        // nothing any more.
    }

    fn log_fragment(&mut self, fragment: &Fragment) {
        let before = self.encoder.len();
        if let Err(error) = self.encoder.fragment(fragment, &self.routed) {
            // The publisher refuses fragments that could be too large for a record.
            self.control.poison(&format!("shard {}: {error}", self.number));
            return;
        }
        self.counters().log_bytes.add((self.encoder.len() - before) as u64);
    }

    fn deliver_fragment(&mut self, fragment: &Arc<Fragment>) {
        if self.attended.is_empty() {
            return;
        }
        let number = self.remember(fragment);
        let mut fanout = Fanout {
            shard: self.number,
            slots: &mut self.slots,
            attended: &self.attended,
            hands: &mut self.hands,
            wakes: &mut self.wakes,
            pool: &self.pool,
            owed: &mut self.owed,
            touched: &mut self.stream.touched,
            ended: &mut self.pacing.ended,
            fragment,
            number,
            commit: fragment.commit_lsn(),
            counts: Counts::default(),
        };
        let last = fragment.len().checked_sub(1).filter(|_| fragment.commits());
        for routed in &self.routed {
            fanout.change(routed, last == Some(routed.change as usize));
        }
        if fragment.commits() {
            fanout.commit_marks();
        }
        fanout.settle();
        let counts = fanout.counts;
        self.count(counts);
    }

    fn count(&self, counts: Counts) {
        let counters = self.counters();
        counters.sent.add(counts.mailed + counts.inline);
        counters.overflows.add(counts.overflows);
        counters.lagging.add(counts.stopped_running);
        counters.retries.add(counts.retries);
        self.show_tally();
        let gauge = &self.link.gauges.mail_sent;
        // Relaxed: one writer; the publisher compares it with what was taken, as a hint (R17).
        gauge.store(gauge.load(Ordering::Relaxed) + counts.mailed, Ordering::Relaxed);
    }

    /// Shows what handlers did on the shard's own thread.
    pub(super) fn show_tally(&self) {
        let (tally, counters) = (self.hands.tally, self.counters());
        counters.handled_inline.set(tally.handled);
        counters.replayed_inline.set(tally.replayed);
        counters.mail_taken.set(tally.mail_taken);
    }

    /// Puts the fragment where runners find it, and lets go of old ones beyond the byte bound.
    fn remember(&mut self, fragment: &Arc<Fragment>) -> u64 {
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

    fn commit_transaction(&mut self, commit: Lsn) {
        let bytes = self.stream.open.take().map_or(0, |open| open.bytes);
        self.stream.processed = commit;
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
        self.route_newcomers();
    }
}

/// Whether two announcements of a table mean the same rows. Which columns are keys depends on the
/// replica identity, and changes nothing for a shape.
pub(super) fn is_same(known: &Relation, relation: &Relation) -> bool {
    let columns = |relation: &Relation| {
        let name_and_type = |c: &crate::words::Column| (c.name.clone(), c.type_oid);
        relation.columns.iter().map(name_and_type).collect::<Vec<_>>()
    };
    known.table == relation.table && columns(known) == columns(relation)
}
