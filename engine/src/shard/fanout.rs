//! Fanout: one change, or commit mark, to each consumer that it was routed to. The hot path: it
//! allocates nothing a delivery, takes no lock of ours and makes no system call a shape.

use super::Trackers;
use super::slots::{Lifecycle, Port, Slots};
use super::wakes::Wakes;
use crate::consumer::{Ack, ConsumerError, Due, Hands, Mail, Recipient, hand_inline};
use crate::run::Pool;
use crate::words::{Form, Fragment, Lsn, Offset, Routed, Slot, Targets};
use crossbeam_channel::TrySendError;
use roaring::RoaringBitmap;

/// A consumer whose end was met while delivering.
pub(super) struct Ended {
    pub(super) slot: Slot,
    /// Where, and why, if it ended here; a mailbox's runner leaves a note of its own.
    pub(super) inline: Option<(Offset, ConsumerError)>,
}

/// What deliveries of one fragment are made with. Borrows from the shard for one fan-out.
pub(super) struct Fanout<'a> {
    pub(super) shard: usize,
    pub(super) slots: &'a mut Slots,
    pub(super) attended: &'a RoaringBitmap,
    pub(super) hands: &'a mut Hands,
    pub(super) wakes: &'a mut Wakes,
    pub(super) pool: &'a Pool,
    pub(super) owed: &'a mut Trackers,
    /// Slots that the open transaction has touched and whose commit did not go out with a change.
    pub(super) touched: &'a mut Vec<Slot>,
    pub(super) ended: &'a mut Vec<Ended>,
    pub(super) fragment: &'a Fragment,
    /// The fragment's number in `recent`.
    pub(super) number: u64,
    pub(super) commit: Lsn,
    pub(super) counts: Counts,
}

/// What a fan-out counts.
#[derive(Default)]
pub(super) struct Counts {
    /// Shapes that newly owe the commit, by mode.
    newly: [u32; 2],
    /// Deliveries sent into mailboxes.
    pub(super) mailed: u64,
    /// Deliveries handled on the shard's thread.
    pub(super) inline: u64,
    pub(super) overflows: u64,
    pub(super) retries: u64,
    /// Shapes whose consumer was running and is not any more.
    pub(super) stopped_running: u64,
}

/// One delivery, the same for all that get it.
#[derive(Clone, Copy)]
struct Parcel {
    offset: Offset,
    what: Option<(u32, Form)>,
    mail: Mail,
    commits: bool,
}

impl Fanout<'_> {
    /// Delivers a change. `commits`: it is its transaction's last.
    pub(super) fn change(&mut self, routed: &Routed, commits: bool) {
        let change = self.fragment.get(routed.change as usize);
        let mark = Offset::commit_mark(self.commit);
        let offset = change.map_or(mark, |change| change.offset());
        for (form, targets) in routed.forms() {
            let mail = Mail::change(self.number, routed.change, form, commits);
            let parcel = Parcel { offset, what: Some((routed.change, form)), mail, commits };
            if self.attended.len() == self.slots.len() as u64 {
                targets.for_each(|slot| self.deliver(slot, parcel));
            } else {
                self.deliver_attended(targets, parcel);
            }
        }
    }

    /// Shapes that nobody but the log attends cost nothing here.
    fn deliver_attended(&mut self, targets: &Targets, parcel: Parcel) {
        let attended = self.attended;
        match targets.sets.as_slice() {
            [] => {}
            [only] => {
                let slots = &*only.slots & attended;
                slots.iter().for_each(|slot| self.deliver(Slot::new(slot), parcel));
            }
            several => {
                let all = several.iter().fold(RoaringBitmap::new(), |all, set| all | &*set.slots);
                (all & attended).iter().for_each(|slot| self.deliver(Slot::new(slot), parcel));
            }
        }
        let attended = |slot: &&Slot| attended.contains(slot.as_u32());
        targets.slots.iter().filter(attended).for_each(|slot| self.deliver(*slot, parcel));
    }

    /// Delivers the commit to whom the transaction touched and whose last change it was not (R7).
    pub(super) fn commit_marks(&mut self) {
        let mail = Mail::commit_mark(self.number);
        let offset = Offset::commit_mark(self.commit);
        let parcel = Parcel { offset, what: None, mail, commits: true };
        let touched = std::mem::take(self.touched);
        for &slot in &touched {
            if self.slots.get_mut(slot).is_some_and(|entry| entry.open) {
                self.deliver(slot, parcel);
            }
        }
        *self.touched = touched;
        self.touched.clear();
    }

    /// Adds who newly owes, before anybody's report can be read.
    pub(super) fn settle(&mut self) {
        for (ack, newly) in [Ack::Consumer, Ack::Log].into_iter().zip(self.counts.newly) {
            if newly > 0 {
                self.owed.of(ack).owe(self.commit, newly);
            }
        }
        self.hands.pulse.leave();
    }

    #[inline]
    fn deliver(&mut self, slot: Slot, parcel: Parcel) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        if !parcel.commits && !entry.open {
            self.touched.push(slot);
        }
        // A set that overlaps another names a shape twice: its commit went out already.
        entry.open = !parcel.commits;
        if entry.state.is_sent_to() {
            match (&mut entry.port, &entry.mailbox) {
                (Port::Mail(sender), Some(mailbox)) => match sender.try_send(parcel.mail) {
                    Ok(()) => {
                        self.counts.mailed += 1;
                        self.wakes.wake(mailbox, self.pool);
                    }
                    // Nothing is discarded: the log has it (R4).
                    Err(TrySendError::Full(_)) => {
                        self.counts.stopped_running += entry.state.stop(Lifecycle::Lagging);
                        mailbox.set_gap(true);
                        self.wakes.wake(mailbox, self.pool);
                        self.counts.overflows += 1;
                    }
                    // Dead. It owes this delivery like any other; the retry is the replay.
                    Err(TrySendError::Disconnected(_)) => {
                        self.counts.stopped_running += entry.state.stop(Lifecycle::Dead);
                        self.counts.retries += 1;
                        self.ended.push(Ended { slot, inline: None });
                    }
                },
                (Port::Inline(consumer), Some(mailbox)) => {
                    let Parcel { what, commits, offset, .. } = parcel;
                    let handed = entry.owed.sent;
                    let to = Recipient { shard: self.shard, slot, mailbox, handed };
                    let due = Due { what, commits };
                    let (state, fragment) = (&mut entry.inline, self.fragment);
                    match hand_inline(&mut **consumer, state, to, fragment, due, offset, self.hands)
                    {
                        Ok(reported) => {
                            self.counts.inline += 1;
                            if reported > entry.owed.flushed {
                                entry.deaths = 0;
                                self.owed.apply(entry.ack, entry.owed.report(reported));
                            }
                        }
                        Err(end) => {
                            self.counts.stopped_running += entry.state.stop(Lifecycle::Dead);
                            self.ended.push(Ended { slot, inline: Some(end) });
                        }
                    }
                }
                _ => {}
            }
        }
        if parcel.commits && entry.owed.sent(self.commit) {
            self.counts.newly[usize::from(entry.ack == Ack::Log)] += 1;
        }
    }
}
