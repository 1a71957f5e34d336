//! Batch: several transactions of a wave that bring one change each to the same shapes. A shape
//! gets them one after another: what a delivery costs beside its handler is spent once for all.

use super::fanout::{Desk, Fanout, Leg, Parcel, Turn};
use super::slots::{Entry, Port};
use crate::consumer::{Given, Mail, Streak, hand_streak};
use crate::words::Slot;
use std::ops::RangeInclusive;

/// See the file's head.
pub(super) struct Batch<'a> {
    /// Two or more. Each brings its commit.
    parcels: Vec<Parcel<'a>>,
    /// Who gets them.
    leg: &'a Leg<'a>,
    /// All of them, for a mailbox.
    mail: Mail,
}

/// What of a wave a slot gets at once.
pub(super) enum Step<'a> {
    Batch(Batch<'a>),
    Turn(&'a Turn<'a>),
}

/// A wave's turns, in order, as many of them in batches as can be.
pub(super) fn steps<'a>(mut turns: &'a [Turn<'a>]) -> Vec<Step<'a>> {
    let mut steps = Vec::with_capacity(turns.len());
    while let [first, rest @ ..] = turns {
        let batch = Batch::first_of(turns);
        turns = batch.as_ref().map_or(rest, |batch| &turns[batch.parcels.len()..]);
        steps.push(batch.map_or(Step::Turn(first), Step::Batch));
    }
    steps
}

impl<'a> Batch<'a> {
    /// As many turns as are one, from the first on.
    fn first_of(turns: &'a [Turn<'a>]) -> Option<Batch<'a>> {
        let leg = only_leg(turns.first()?)?;
        let mail = leg.parcel.mail;
        let mut parcels = Vec::with_capacity(turns.len());
        for (turn, number) in turns.iter().zip(0..).take(Mail::FRAGMENTS_MAX) {
            let is_like = |next: &&Leg<'_>| {
                let same = next.set == leg.set && next.slots == leg.slots;
                same && next.parcel.mail == mail.after(number)
            };
            let Some(next) = only_leg(turn).filter(is_like) else { break };
            parcels.push(next.parcel);
        }
        let count = parcels.len();
        (count > 1).then(|| Batch { mail: mail.repeated(count), parcels, leg })
    }
}

/// The transaction's only change and who gets it, if the turn is a whole one.
fn only_leg<'a>(turn: &'a Turn<'a>) -> Option<&'a Leg<'a>> {
    match turn.legs.as_slice() {
        [leg] if turn.fragment.begins() && leg.parcel.given.commits => Some(leg),
        _ => None,
    }
}

impl Fanout<'_> {
    /// Makes those deliveries of a step that go to slots in `tile`; `marks` as for a turn.
    pub(super) fn run(&mut self, step: &Step<'_>, tile: &RangeInclusive<u32>, marks: bool) {
        match step {
            Step::Batch(batch) => self.run_batch(batch, tile),
            Step::Turn(turn) => self.run_turn(turn, tile, marks && turn.fragment.commits()),
        }
    }

    /// Makes those deliveries of a batch that go to slots in `tile`.
    fn run_batch(&mut self, batch: &Batch<'_>, tile: &RangeInclusive<u32>) {
        let Fanout { slots, desk } = self;
        let given = &batch.leg.parcel.given;
        desk.begin();
        batch.leg.visit(slots, tile, |slot, entry| desk.deliver_batch(slot, entry, batch));
        desk.end(given);
        desk.settle(given.fragment);
    }
}

impl Desk<'_> {
    #[inline]
    fn deliver_batch(&mut self, slot: Slot, entry: &mut Entry, batch: &Batch<'_>) {
        debug_assert!(
            !entry.open,
            "each of a batch is a whole transaction, and so is what came before"
        );
        let mut parcels = &batch.parcels[..];
        match entry.port {
            // Some of it may be hidden.
            _ if entry.filters => {}
            Port::Inline(_) => parcels = self.hand_batch(slot, entry, parcels),
            Port::Mail(_) if entry.state.is_sent_to() => {
                self.send(slot, entry, batch.mail, parcels.len() as u64);
                self.owe_batch(entry, parcels);
                return;
            }
            Port::Mail(_) | Port::Closed => {
                self.owe_batch(entry, parcels);
                return;
            }
        }
        for parcel in parcels {
            if self.give(slot, entry, parcel) {
                self.owe_now(entry, &parcel.given);
            }
        }
    }

    /// Hands over what an inline consumer handles and reports at once, and the first that it does
    /// not. What is left.
    #[inline]
    fn hand_batch<'p, 'a>(
        &mut self,
        slot: Slot,
        entry: &mut Entry,
        parcels: &'p [Parcel<'a>],
    ) -> &'p [Parcel<'a>] {
        let (Port::Inline(consumer), Some(mailbox)) = (&mut entry.port, &entry.mailbox) else {
            return parcels;
        };
        if !entry.state.is_sent_to() || entry.inline.is_watched() {
            return parcels;
        }
        self.hands.pulse.enter_slot(self.shard, slot);
        let givens = parcels.iter().map(|parcel| &parcel.given);
        let state = &mut entry.inline;
        let Streak { done, then } =
            hand_streak(&mut **consumer, state, mailbox, givens, &mut self.hands.tally);
        self.handled += done as u64;
        if let Some(last) = done.checked_sub(1).and_then(|last| parcels.get(last)) {
            let through = last.given.fragment.commit_lsn();
            self.take_inline_report(entry, through);
            let newly = entry.owed.sent(through);
            debug_assert!(!newly, "it has reported it");
        }
        let Some(then) = then else { return &[] };
        let left = &parcels[done.min(parcels.len())..];
        let Some((ended, left)) = left.split_first() else { return left };
        self.after_handler(slot, entry, &ended.given, then);
        if entry.owed.sent(ended.given.fragment.commit_lsn()) {
            self.owe_now(entry, &ended.given);
        }
        left
    }

    /// Who owes what was sent: from the first of them, as a rule.
    fn owe_batch(&mut self, entry: &mut Entry, parcels: &[Parcel<'_>]) {
        let [first, .., last] = parcels else { return };
        if entry.owed.sent(first.given.fragment.commit_lsn()) {
            self.counts.owe(entry.ack);
        } else if !entry.owed.owes() {
            // It has flushed the first of them already, and perhaps not all.
            for Parcel { given, .. } in parcels {
                if entry.owed.sent(given.fragment.commit_lsn()) {
                    self.owe_now(entry, given);
                }
            }
            return;
        }
        let newly = entry.owed.sent(last.given.fragment.commit_lsn());
        debug_assert!(!newly, "it owes from before");
    }

    /// Counts one shape that newly owes: what it is handed next may settle that.
    fn owe_now(&mut self, entry: &Entry, given: &Given<'_>) {
        self.owed.of(entry.ack).owe(given.fragment.commit_lsn(), 1);
    }
}
