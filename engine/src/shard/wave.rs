//! Wave: fragments whose deliveries go out together. What is queued up anyway is gathered, and then
//! each tile of slots gets the deliveries of all of them: entries and consumers are read into the
//! cache once a wave, not once a fragment. Nobody waits for a wave to grow. A large one goes out in
//! slices, so that a consumer that comes back does not wait for all of it.

use super::Shard;
use super::batch::steps;
use super::fanout::{Counts, Desk, Fanout, Turn};
use super::whole::Held;
use crate::sync::Ordering;
use crate::words::{Fragment, Lsn, Routed, Slot};
use std::sync::Arc;
use std::time::Instant;

/// A wave of so many fragments takes no more, nor one of so many changes: all that a consumer gets
/// of it comes at once, and its mailbox has 16 places.
pub(super) const WAVE_FRAGMENTS_MAX: usize = 8;
pub(super) const WAVE_CHANGES_MAX: usize = 8;
/// One of so many takes no more, if they go into mailboxes: a send costs more than an inline call,
/// and all of them are sent before the first one is flushed by everybody.
const WAVE_MAILS_MAX: usize = 4;
/// Nor does one of so many deliveries: the frontier and the log's sync wait for it.
const WAVE_DELIVERIES_MAX: u64 = 1_200_000;
/// Slots whose deliveries are made together: their entries and consumers fit a core's cache.
/// In unit tests the few shapes of the simulator are to span several.
const TILE_SLOTS: u32 = if cfg!(test) { 4 } else { 1_024 };
/// After so many deliveries, or so much mail, marks are looked at, runners are waited for if they
/// are far behind (`Pump::keep_pace`), and the wave goes on.
const SLICE_DELIVERIES: u64 = if cfg!(test) { 8 } else { 16_384 };
const SLICE_MAILS: u64 = if cfg!(test) { 4 } else { 1_024 };
/// Tiles are worth their cost if each has so many deliveries.
const TILE_DELIVERIES_MIN: u64 = if cfg!(test) { 1 } else { 64 };

/// A fragment that was taken, routed and logged.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) fragment: Option<Arc<Fragment>>,
    pub(super) routed: Vec<Routed>,
    /// The commit that it brings, and the bytes of its transaction.
    pub(super) commits: Option<(Lsn, u64)>,
    /// The fragment's number in `recent`.
    number: u64,
}

/// See the file's head. Several fragments are whole transactions; any other is alone.
#[derive(Default)]
pub(super) struct Wave {
    taken: Vec<Taken>,
    changes: usize,
    deliveries: u64,
    /// Whether it goes out, and takes no more.
    goes: bool,
    /// It is one fragment that is not a whole transaction.
    alone: bool,
    /// Slots below this one have got all of it, those from here on nothing.
    reached: u32,
    /// The wave before this one went into mailboxes for the most part.
    mails: bool,
    /// Buffers that are kept.
    spare: Vec<Taken>,
}

impl Wave {
    pub(super) fn make_room(&mut self) -> Taken {
        self.spare.pop().unwrap_or_default()
    }

    /// `whole`: all of its transaction is in the wave, as all of every other. Then a slot has
    /// either all of it or nothing, and what comes in between has a place in the stream for each.
    /// Any other goes out alone, and until its end who comes back waits for its commit.
    pub(super) fn push(&mut self, taken: Taken, deliveries: u64, whole: bool) {
        self.alone = !whole;
        self.changes += taken.routed.len();
        self.deliveries += deliveries;
        self.taken.push(taken);
    }

    /// Whether more can join it.
    pub(super) fn has_room(&self) -> bool {
        let most = if self.mails { WAVE_MAILS_MAX } else { WAVE_FRAGMENTS_MAX };
        !self.goes
            && !self.alone
            && self.taken.len() < most
            && self.changes < WAVE_CHANGES_MAX
            && self.deliveries < WAVE_DELIVERIES_MAX
    }

    /// Whether all of a transaction can.
    pub(super) fn has_room_for(&self, held: &Held) -> bool {
        self.has_room()
            && self.taken.len() + held.len() <= WAVE_FRAGMENTS_MAX
            && self.changes + held.changes() <= WAVE_CHANGES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }
}

impl Counts {
    fn fit_a_slice(&self) -> bool {
        self.delivered() < SLICE_DELIVERIES && self.mails < SLICE_MAILS
    }
}

impl Shard {
    /// The last commit that is processed as far as this slot is concerned: in the middle of a wave
    /// some have got it and some have not.
    pub(super) fn processed_for(&self, slot: Slot) -> Lsn {
        let of_wave = || self.wave.taken.last().and_then(|taken| taken.commits);
        match of_wave() {
            Some((commit, _)) if slot.as_u32() < self.wave.reached && !self.wave.alone => commit,
            _ => self.stream.processed,
        }
    }

    /// Whether another fragment can be taken now: what is held would come before it.
    pub(super) fn wave_has_room(&self) -> bool {
        self.wave.has_room() && !self.held.is_whole()
    }

    /// Whether what goes out goes into mailboxes for the most part.
    pub(super) fn sends_mail(&self) -> bool {
        self.wave.mails
    }

    /// Whether a wave is under way.
    pub(super) fn is_sending(&self) -> bool {
        !self.wave.is_empty()
    }

    /// Sends out all that was gathered.
    pub(super) fn deliver_wave(&mut self, now: Instant) {
        while self.continue_wave(now) {}
    }

    /// Sends out a slice of what was gathered; after the last one comes what waited for it. False:
    /// there was nothing.
    pub(crate) fn continue_wave(&mut self, now: Instant) -> bool {
        if self.wave.taken.is_empty() {
            return false;
        }
        let mut taken = std::mem::take(&mut self.wave.taken);
        if !std::mem::replace(&mut self.wave.goes, true) {
            for taken in &mut taken {
                if let Some(fragment) = &taken.fragment {
                    taken.number = self.remember(fragment);
                }
            }
        }
        let done = self.attended.is_empty() || self.fan_out(&taken);
        self.wave.taken = taken;
        self.bury_ended(now);
        self.wakes.flush(&self.pool);
        if done {
            self.end_wave();
        }
        true
    }

    /// Everybody has got it.
    fn end_wave(&mut self) {
        let mut taken = std::mem::take(&mut self.wave.taken);
        let Wave { changes, deliveries, alone, goes, reached, .. } = &mut self.wave;
        (*changes, *deliveries, *alone, *goes, *reached) = (0, 0, false, false, 0);
        for mut taken in taken.drain(..) {
            if let Some((commit, bytes)) = taken.commits.take() {
                self.commit_transaction(commit, bytes);
            }
            taken.fragment = None;
            taken.routed.clear();
            self.wave.spare.push(taken);
        }
        self.wave.taken = taken;
    }

    /// Makes a slice of the deliveries. Whether that was the last one.
    fn fan_out(&mut self, wave: &[Taken]) -> bool {
        let some = self.attended.len() < self.slots.len() as u64;
        let attended = some.then_some(&self.attended);
        let mut turns = Vec::with_capacity(wave.len());
        for taken in wave {
            if let Some(fragment) = taken.fragment.as_deref() {
                turns.push(Turn::new(fragment, taken.number, &taken.routed, attended));
            }
        }
        let desk = Desk {
            shard: self.number,
            hands: &mut self.hands,
            wakes: &mut self.wakes,
            owed: &mut self.owed,
            touched: &mut self.stream.touched,
            ended: &mut self.pacing.ended,
            counts: Counts::default(),
            handled: 0,
        };
        let mut fanout = Fanout { slots: &mut self.slots, desk };
        let tiles = u64::from(self.next_slot.div_ceil(TILE_SLOTS));
        let Wave { deliveries, alone, mut reached, .. } = self.wave;
        let steps = steps(&turns);
        if deliveries >= tiles * TILE_DELIVERIES_MIN {
            while reached < self.next_slot && fanout.desk.counts.fit_a_slice() {
                let tile = reached..=reached.saturating_add(TILE_SLOTS - 1);
                reached = tile.end().saturating_add(1);
                // Who was touched by what came before may be anywhere: marks go last.
                let marks = !alone || reached >= self.next_slot;
                steps.iter().for_each(|step| fanout.run(step, &tile, marks));
            }
        } else {
            steps.iter().for_each(|step| fanout.run(step, &(0..=u32::MAX), true));
            reached = self.next_slot;
        }
        let counts = fanout.desk.counts;
        self.hands.pulse.leave();
        self.wave.reached = reached;
        self.wave.mails = counts.mailed > counts.inline;
        self.count(counts);
        reached >= self.next_slot
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
        gauge.store(gauge.load(Ordering::Relaxed) + counts.mails, Ordering::Relaxed);
    }

    /// Shows what handlers did on the shard's own thread.
    pub(super) fn show_tally(&self) {
        let (tally, counters) = (self.hands.tally, self.counters());
        counters.handled_inline.set(tally.handled);
        counters.replayed_inline.set(tally.replayed);
        counters.mail_taken.set(tally.mail_taken);
    }
}
