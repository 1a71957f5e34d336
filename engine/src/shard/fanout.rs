//! Fanout: one change, or commit mark, to each consumer that it was routed to. The hot path: it
//! allocates nothing a delivery, takes no lock of ours and makes no system call a shape.

use super::Trackers;
use super::slots::{Entry, Lifecycle, Port, Slots};
use super::wakes::Wakes;
use crate::consumer::{Ack, ConsumerError, Given, Hands, Mail, hand_inline};
use crate::words::{Fragment, Lsn, Offset, Routed, Slot};
use crossbeam_channel::TrySendError;
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// A consumer whose end was met while delivering.
pub(super) struct Ended {
    pub(super) slot: Slot,
    /// Where, and why, if it ended here; a mailbox's runner leaves a note of its own.
    pub(super) inline: Option<(Offset, ConsumerError)>,
}

/// One delivery, the same for all that get it.
#[derive(Clone, Copy)]
pub(super) struct Parcel<'a> {
    pub(super) given: Given<'a>,
    pub(super) mail: Mail,
}

/// One change to all that get it in the same form.
pub(super) struct Leg<'a> {
    pub(super) parcel: Parcel<'a>,
    pub(super) set: Option<Cow<'a, RoaringBitmap>>,
    /// And these, which are not in the set.
    pub(super) slots: &'a [Slot],
}

impl Leg<'_> {
    /// Calls `visit` for those in `tile` who get it.
    #[inline]
    pub(super) fn visit(
        &self,
        slots: &mut Slots,
        tile: &RangeInclusive<u32>,
        mut visit: impl FnMut(Slot, &mut Entry),
    ) {
        if let Some(set) = &self.set {
            slots.visit(set, tile, &mut visit);
        }
        let from = self.slots.partition_point(|slot| slot.as_u32() < *tile.start());
        for &slot in self.slots[from..].iter().take_while(|slot| slot.as_u32() <= *tile.end()) {
            if let Some(entry) = slots.get_mut(slot).filter(|entry| entry.is_attended()) {
                visit(slot, entry);
            }
        }
    }
}

/// A fragment's deliveries.
pub(super) struct Turn<'a> {
    pub(super) fragment: &'a Fragment,
    pub(super) legs: Vec<Leg<'a>>,
    commit_mark: Parcel<'a>,
}

impl<'a> Turn<'a> {
    /// The deliveries of `fragment`, which is `number` in `recent`, to those of its targets who are
    /// attended: shapes that nobody but the log attends cost nothing here. `None`: all are.
    pub(super) fn new(
        fragment: &'a Fragment,
        number: u64,
        routes: &'a [Routed],
        attended: Option<&RoaringBitmap>,
    ) -> Turn<'a> {
        let last = fragment.len().checked_sub(1).filter(|_| fragment.commits());
        let mut legs = Vec::with_capacity(routes.len());
        for routed in routes {
            let commits = last == Some(routed.change as usize);
            for (form, targets) in routed.forms() {
                if !targets.is_empty() {
                    let given = Given::new(fragment, Some((routed.change, form)), commits);
                    let mail = Mail::change(number, routed.change, form, commits);
                    let parcel = Parcel { given, mail };
                    legs.push(Leg { parcel, set: targets.set(attended), slots: &targets.slots });
                }
            }
        }
        let given = Given::new(fragment, None, true);
        let commit_mark = Parcel { given, mail: Mail::commit_mark(number) };
        Turn { fragment, legs, commit_mark }
    }
}

/// What deliveries are made with. Borrows from the shard for one wave.
pub(super) struct Fanout<'a> {
    pub(super) slots: &'a mut Slots,
    pub(super) desk: Desk<'a>,
}

/// What each delivery needs beside the shape that gets it.
pub(super) struct Desk<'a> {
    pub(super) shard: usize,
    pub(super) hands: &'a mut Hands,
    pub(super) wakes: &'a mut Wakes,
    pub(super) owed: &'a mut Trackers,
    /// Slots that the open transaction has touched and whose commit did not go out with a change.
    pub(super) touched: &'a mut Vec<Slot>,
    pub(super) ended: &'a mut Vec<Ended>,
    pub(super) counts: Counts,
    /// Calls of inline handlers for the same delivery that went well.
    pub(super) handled: u64,
}

/// What a fan-out counts.
#[derive(Default)]
pub(super) struct Counts {
    /// Shapes that newly owe the commit, by mode.
    newly: [u32; 2],
    /// Mail sent into mailboxes, and the deliveries that it stands for.
    pub(super) mails: u64,
    pub(super) mailed: u64,
    /// Deliveries handled on the shard's thread.
    pub(super) inline: u64,
    pub(super) overflows: u64,
    pub(super) retries: u64,
    /// Shapes whose consumer was running and is not any more.
    pub(super) stopped_running: u64,
}

impl Counts {
    pub(super) fn delivered(&self) -> u64 {
        self.mailed + self.inline
    }

    /// One more newly owes the commit that goes out.
    #[inline]
    pub(super) fn owe(&mut self, ack: Ack) {
        self.newly[usize::from(ack == Ack::Log)] += 1;
    }
}

impl Fanout<'_> {
    /// Makes those deliveries of a turn that go to slots in `tile`. `marks`: these are the last
    /// ones of a transaction.
    pub(super) fn run_turn(&mut self, turn: &Turn<'_>, tile: &RangeInclusive<u32>, marks: bool) {
        let Fanout { slots, desk } = self;
        for leg in &turn.legs {
            desk.begin();
            leg.visit(slots, tile, |slot, entry| desk.deliver(slot, entry, &leg.parcel));
            desk.end(&leg.parcel.given);
        }
        if marks {
            self.commit_marks(&turn.commit_mark);
        }
        self.desk.settle(turn.fragment);
    }

    /// Delivers the commit to whom the transaction touched and whose last change it was not (R7).
    fn commit_marks(&mut self, mark: &Parcel<'_>) {
        let Fanout { slots, desk } = self;
        desk.begin();
        let touched = std::mem::take(desk.touched);
        for &slot in &touched {
            // Its commit may have gone out with a change.
            if let Some(entry) = slots.get_mut(slot).filter(|entry| entry.open) {
                desk.deliver(slot, entry, mark);
            }
        }
        desk.end(&mark.given);
        *desk.touched = touched;
        desk.touched.clear();
    }
}

impl Desk<'_> {
    /// Slots may come again from here on: the watch must not take that for one long call.
    pub(super) fn begin(&mut self) {
        self.hands.pulse.beat();
    }

    /// Who was handed this inline has handled it.
    pub(super) fn end(&mut self, given: &Given<'_>) {
        let handled = std::mem::take(&mut self.handled);
        let tally = &mut self.hands.tally;
        tally.handled += if given.change.is_some() { handled } else { 0 };
        tally.commits += if given.commits { handled } else { 0 };
        self.counts.inline += handled;
    }

    /// Adds who newly owes, before anybody's report can be read.
    pub(super) fn settle(&mut self, fragment: &Fragment) {
        for (ack, newly) in [Ack::Consumer, Ack::Log].into_iter().zip(&mut self.counts.newly) {
            if *newly > 0 {
                self.owed.of(ack).owe(fragment.commit_lsn(), std::mem::take(newly));
            }
        }
    }

    #[inline]
    fn deliver(&mut self, slot: Slot, entry: &mut Entry, parcel: &Parcel<'_>) {
        if self.give(slot, entry, parcel) {
            self.counts.owe(entry.ack);
        }
    }

    /// Makes a delivery. True: the shape newly owes its commit.
    #[inline]
    pub(super) fn give(&mut self, slot: Slot, entry: &mut Entry, parcel: &Parcel<'_>) -> bool {
        let Parcel { given, mail } = parcel;
        if entry.filters && entry.hides(given.fragment) {
            return false;
        }
        if !given.commits && !entry.open {
            self.touched.push(slot);
        }
        // A set that overlaps another names a shape twice: its commit went out already.
        entry.open = !given.commits;
        if entry.state.is_sent_to() {
            match &entry.port {
                Port::Inline(_) => self.hand(slot, entry, given),
                Port::Mail(_) => self.send(slot, entry, *mail, 1),
                Port::Closed => {}
            }
        }
        given.commits && entry.owed.sent(given.fragment.commit_lsn())
    }

    #[inline]
    fn hand(&mut self, slot: Slot, entry: &mut Entry, given: &Given<'_>) {
        let (Port::Inline(consumer), Some(mailbox)) = (&mut entry.port, &entry.mailbox) else {
            return;
        };
        self.hands.pulse.enter_slot(self.shard, slot);
        let (state, handed) = (&mut entry.inline, entry.owed.sent);
        let tally = &mut self.hands.tally;
        let ended = hand_inline(&mut **consumer, state, mailbox, handed, given, tally);
        self.after_handler(slot, entry, given, ended);
    }

    /// What comes of a handler's end on the shard's thread: a report, or a death.
    #[inline]
    pub(super) fn after_handler(
        &mut self,
        slot: Slot,
        entry: &mut Entry,
        given: &Given<'_>,
        ended: Result<Lsn, ConsumerError>,
    ) {
        match ended {
            Ok(reported) => {
                self.handled += 1;
                self.take_inline_report(entry, reported);
            }
            Err(cause) => {
                self.counts.stopped_running += entry.state.stop(Lifecycle::Dead);
                self.ended.push(Ended { slot, inline: Some((given.offset, cause)) });
            }
        }
    }

    #[inline]
    pub(super) fn take_inline_report(&mut self, entry: &mut Entry, reported: Lsn) {
        if reported > entry.owed.flushed {
            entry.deaths = 0;
            let moved = entry.report(reported);
            self.owed.apply(entry.ack, moved);
        }
    }

    /// Sends mail that stands for `count` deliveries.
    // Not inlined: a call by value costs less than what its registers cost `hand`.
    #[inline(never)]
    pub(super) fn send(&mut self, slot: Slot, entry: &mut Entry, mail: Mail, count: u64) {
        let (Port::Mail(sender), Some(mailbox)) = (&entry.port, &entry.mailbox) else { return };
        match sender.try_send(mail) {
            Ok(()) => {
                self.counts.mails += 1;
                self.counts.mailed += count;
                self.wakes.wake_for_mail(mailbox);
            }
            // Nothing is discarded: the log has it (R4).
            Err(TrySendError::Full(_)) => {
                self.counts.stopped_running += entry.state.stop(Lifecycle::Lagging);
                mailbox.set_gap(true);
                self.wakes.wake(mailbox);
                self.counts.overflows += 1;
            }
            // Dead. It owes this delivery like any other; the retry is the replay.
            Err(TrySendError::Disconnected(_)) => {
                self.counts.stopped_running += entry.state.stop(Lifecycle::Dead);
                self.counts.retries += count;
                self.ended.push(Ended { slot, inline: None });
            }
        }
    }
}
