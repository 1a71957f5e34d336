//! Notes: what a shard does about the shapes that were marked: reports are counted, and each note
//! of a runner or the feeder moves its consumer on in its lifecycle. Lifecycles change here, in a
//! fan-out and at a shape's end, always on the shard's own thread (R6).

use super::Shard;
use super::lifecycle::Ending;
use super::slots::{Attended, Entry, Lifecycle, Port};
use crate::consumer::{
    ConsumerSpec, InlineState, Mailbox, Member, Note, Part, Verdict, cause_text,
};
use crate::control::Event;
use crate::words::{Lsn, Offset, Slot};
use std::sync::Arc;
use std::time::Instant;

/// How many marks are looked at before the shard looks at its channel again: all that a fan-out may
/// have brought, since reports that wait hold the flushed LSN.
const MARKS_MAX: usize = 1 << 20;

impl Shard {
    /// Looks at shapes that were marked. Whether there are more.
    pub(crate) fn drain_marks(&mut self, now: Instant) -> bool {
        let mut marked = std::mem::take(&mut self.marked);
        let more = self.dirty.drain(MARKS_MAX, |slot| marked.push(slot));
        for slot in marked.drain(..) {
            self.look_at(slot, now);
        }
        self.marked = marked;
        more
    }

    /// Whether a mark waits: the last look before a sleep.
    pub(crate) fn has_marks(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Counts what the shape's consumer has reported, and reads its note and its verdict.
    pub(super) fn look_at(&mut self, slot: Slot, now: Instant) {
        if !self.take_report(slot) {
            self.check_left(slot, now);
            return;
        }
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let Some(mailbox) = &entry.mailbox else { return };
        if mailbox.has_note() {
            let mailbox = Arc::clone(mailbox);
            if let Some(note) = mailbox.take_note() {
                self.handle_note(slot, &mailbox, note, now);
            }
        } else if mailbox.verdict() != Verdict::None {
            let mailbox = Arc::clone(mailbox);
            self.handle_verdict(slot, &mailbox, now);
        }
    }

    /// Counts a report. False: there is no such shape.
    #[inline]
    pub(super) fn take_report(&mut self, slot: Slot) -> bool {
        let Some(entry) = self.slots.get_mut(slot) else { return false };
        let Some(mailbox) = &entry.mailbox else { return true };
        let flushed = mailbox.flushed_through();
        if flushed > entry.owed.flushed {
            entry.deaths = 0;
            let moved = entry.report(flushed);
            self.owed.apply(entry.ack, moved);
        }
        true
    }

    fn handle_note(&mut self, slot: Slot, mailbox: &Arc<Mailbox>, note: Note, now: Instant) {
        match note {
            Note::Started(resume) => self.started(slot, mailbox, resume, now),
            Note::NotStarted(cause) => {
                let at = Offset::commit_mark(mailbox.flushed());
                self.bury(slot, at, cause, now);
            }
            Note::Died(offset, cause) => self.bury(slot, offset, cause, now),
            Note::Caught(position) => self.join(slot, mailbox.name().incarnation, position),
            Note::Joined => self.joined(slot),
            Note::Lost => self.lost(slot),
            Note::Behind(position) => self.behind(slot, position),
            Note::Drained => self.take_inline(slot, now),
            // Its mailbox was closed, and this one is not.
            Note::Gone => {}
        }
    }

    fn handle_verdict(&mut self, slot: Slot, mailbox: &Arc<Mailbox>, now: Instant) {
        let offset = Offset::commit_mark(mailbox.flushed());
        match mailbox.verdict() {
            Verdict::None => {}
            // A wedged handler gets no second incarnation beside it.
            Verdict::Expired => {
                let cause = "it lives and owes, and did not report within its deadline".to_owned();
                self.end_shape(slot, Ending::Undeliverable { offset, cause });
            }
            Verdict::StartTimedOut => {
                let Some(entry) = self.slots.get_mut(slot) else { return };
                if entry.state == Lifecycle::Restarting {
                    self.bury_hung(slot, Arc::clone(mailbox), now);
                } else {
                    // It has answered while it was condemned.
                    mailbox.pardon();
                }
            }
        }
    }

    /// The factory has answered.
    fn started(&mut self, slot: Slot, mailbox: &Arc<Mailbox>, resume: Offset, now: Instant) {
        let start = self.log.start_of(slot);
        let processed = self.processed_for(slot);
        let Some(entry) = self.slots.get_mut(slot) else { return };
        if entry.state != Lifecycle::Restarting {
            return;
        }
        // Below its first offset there is nothing of the shape.
        let from = resume.max(entry.cold.shape.first);
        let (handle, incarnation) = (entry.cold.shape.handle, entry.cold.incarnation());
        let took_back = from.complete_through() < entry.owed.flushed;
        entry.taken_back |= took_back;
        let cut = from < start;
        let position = if cut { passes_by(entry, from, processed) } else { from };
        if position < start && position.complete_through() < entry.owed.sent {
            return self.behind(slot, from);
        }
        let ack = entry.ack;
        let frontier = self.owed.of(ack).frontier();
        let moved = entry.owed.take_back(from.complete_through(), frontier);
        self.owed.apply(ack, moved);
        if incarnation > 1 {
            self.counters().restarts.add(1);
            self.control.events.say(Event::Restarted { handle, offset: from, incarnation }, now);
        }
        if self.run_at_once(slot, from) {
            return;
        }
        // Most who restart are not far behind: the boundary is named at once. Who is, meets a gap.
        let open = self.stream.open.is_some();
        let Some(entry) = self.slots.get_mut(slot) else { return };
        entry.state = if open { Lifecycle::Lagging } else { Lifecycle::Joining };
        let boundary = (!open).then_some(processed);
        self.feed(mailbox, position, boundary);
    }

    /// Hands a consumer to the feeder.
    fn feed(&mut self, mailbox: &Arc<Mailbox>, position: Offset, boundary: Option<Lsn>) {
        mailbox.set_waits(true);
        let open = !position.is_commit_mark();
        self.link.enlist(Member { mailbox: Arc::clone(mailbox), position, open, boundary });
        self.pool.wake_feeder(self.number);
    }

    /// A consumer that stands before nothing that was sent runs at once, if its part is free.
    fn run_at_once(&mut self, slot: Slot, position: Offset) -> bool {
        let processed = self.processed_for(slot);
        let Some(entry) = self.slots.get_mut(slot) else { return false };
        let Some(mailbox) = entry.mailbox.clone() else { return false };
        // Who still owes what it was fed, or passed by, says so after one more feed.
        if entry.open || entry.owed.owes() || position.complete_through() < entry.owed.sent {
            return false;
        }
        let Some(mut part) = mailbox.seat().take() else { return false };
        part.join();
        mailbox.set_waits(false);
        mailbox.set_gap(false);
        if mailbox.flushed() >= mailbox.handed() {
            // It says nothing of what the LSN had passed already: there was nothing for it (R5).
            let moved = entry.report(position.complete_through());
            self.owed.apply(entry.ack, moved);
        }
        entry.state = Lifecycle::Running;
        let attended = entry.cold.attended();
        let is_inline =
            |attended: &Attended| matches!(*attended.consumer, ConsumerSpec::Inline { .. });
        let inline = attended.is_some_and(is_inline);
        if inline && part.is_level(processed) {
            self.place_inline(slot, *part);
        } else {
            self.pool.park(&mailbox, part);
        }
        self.counters().lagging.sub(1);
        true
    }

    /// The consumer has been fed through the readable end: names the boundary after which it gets
    /// mail (R4). In the middle of a transaction that waits for the commit.
    pub(super) fn join(&mut self, slot: Slot, incarnation: u64, position: Offset) {
        let open = self.stream.open.is_some();
        let Some(entry) = self.slots.get_mut(slot) else { return };
        if entry.cold.incarnation() != incarnation || entry.state != Lifecycle::Lagging {
            return;
        }
        if open {
            self.stream.joiners.push((slot, incarnation, position));
            return;
        }
        if self.run_at_once(slot, position) {
            return;
        }
        // It may have been fed a wave that has not reached its slot: that mail is dropped (INV8).
        let boundary = self.processed_for(slot);
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let Some(mailbox) = entry.mailbox.clone() else { return };
        entry.state = Lifecycle::Joining;
        mailbox.set_gap(false);
        self.feed(&mailbox, position, Some(boundary));
    }

    fn joined(&mut self, slot: Slot) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        // Lagging: its mailbox overflowed meanwhile, and it goes another round.
        if entry.state == Lifecycle::Joining {
            entry.state = Lifecycle::Running;
            self.counters().lagging.sub(1);
        }
    }

    /// Mail was found that refers to a fragment of long ago: from the log, then.
    fn lost(&mut self, slot: Slot) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let Some(mailbox) = entry.mailbox.clone() else { return };
        if entry.state.is_sent_to() {
            let stopped = entry.state.stop(Lifecycle::Lagging);
            self.counters().lagging.add(stopped);
            mailbox.set_gap(true);
        }
        self.wakes.wake(&mailbox);
        self.wakes.flush(&self.pool);
    }

    /// The shape's log does not go back to where the consumer is.
    fn behind(&mut self, slot: Slot, position: Offset) {
        let (start, processed) = (self.log.start_of(slot), self.processed_for(slot));
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let passed = passes_by(entry, position, processed);
        if let Some(mailbox) = entry.mailbox.clone().filter(|_| passed > position.max(start)) {
            // It is before the boundary that it was given, if it had one, and gets another.
            entry.state = Lifecycle::Lagging;
            return self.feed(&mailbox, passed, None);
        }
        let cause =
            format!("its consumer needs what follows {position}, but the log begins after {start}");
        self.invalidate(slot, &cause);
    }

    /// An inline consumer has drained its mailbox: the shard takes it back.
    fn take_inline(&mut self, slot: Slot, now: Instant) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        if entry.state == Lifecycle::Joining {
            // The note that it has joined was superseded by this one.
            entry.state = Lifecycle::Running;
            self.counters().lagging.sub(1);
        }
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let Some(mailbox) = entry.mailbox.clone() else { return };
        if entry.state != Lifecycle::Running || matches!(entry.port, Port::Inline(_)) {
            return;
        }
        // If a runner has it, it says so again when it has drained what came.
        let Some(mut part) = mailbox.seat().take() else { return };
        if let Err((offset, cause)) = part.drain(&mailbox, &mut self.hands) {
            part.retire(&mut self.hands.tally);
            self.show_tally();
            return self.bury(slot, offset, cause_text(cause), now);
        }
        self.show_tally();
        if !part.is_level(self.processed_for(slot)) {
            // In the middle of a transaction, or ahead of the stream: it says so again after the
            // next mail. Or it met mail of long ago, and has left a note of that.
            return self.pool.park(&mailbox, part);
        }
        self.place_inline(slot, *part);
        self.take_report(slot);
    }

    /// From here on the shard hands the consumer its deliveries itself.
    fn place_inline(&mut self, slot: Slot, part: Part) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let shows = |what: fn(&Mailbox) -> bool| entry.mailbox.as_deref().is_some_and(what);
        entry.inline = InlineState {
            has_reporter: shows(Mailbox::has_reporter),
            // What it owed to the runner is seen until it has reported that to the shard.
            shows_debt: shows(|mailbox| mailbox.flushed() < mailbox.handed()),
        };
        let port = std::mem::replace(&mut entry.port, Port::Inline(part.into_consumer()));
        self.drop_port(port);
    }

    /// The backstop for marks that were lost, and for shapes that pin too much: a bounded slice of
    /// all slots.
    pub(super) fn sweep(&mut self, now: Instant) {
        let pinned = self.owed.consumers.unflushed_bytes() > self.limits.consumer_bytes_max;
        let condemns = pinned && self.stopping.is_none() && !self.pool.is_busy();
        let count = if condemns { SWEPT_IN_NEED } else { SWEPT };
        let (slots, next) = self.slots.slice(self.swept, count);
        self.swept = next;
        for slot in slots {
            self.look_at(slot, now);
            if condemns {
                self.check_bytes(slot);
            }
        }
        self.dirty.sweep(Slot::new(self.next_slot));
    }

    /// Under `Ack::Consumer` a shape may pin so many bytes and no more (section 3.7).
    fn check_bytes(&mut self, slot: Slot) {
        let of_consumer = |entry: &&mut Entry| entry.ack == crate::consumer::Ack::Consumer;
        let Some(entry) = self.slots.get_mut(slot).filter(of_consumer) else { return };
        // While its mail waits for a runner it is not to blame, whoever looks idle: one that was
        // woken may not have come to run yet (R17).
        let waits = entry.mailbox.as_ref().is_some_and(|mailbox| mailbox.seat().is_queued());
        if waits || !entry.owed.owes() {
            return;
        }
        let (from, bytes_max) = (entry.owed.from, self.limits.consumer_bytes_max);
        let bytes = self.owed.consumers.pinned_bytes(from);
        if bytes > bytes_max {
            let offset = Offset::commit_mark(entry.owed.flushed);
            let cause = format!("it has not flushed {bytes} bytes, and may leave {bytes_max}");
            self.end_shape(slot, Ending::Undeliverable { offset, cause });
        }
    }
}

/// Where a consumer stands that has everything through `position`, and is past what is none of its
/// shape's: nothing that was routed to it lies between what it has flushed and where it owes from.
/// Who took a report back needs what lies there, though.
fn passes_by(entry: &Entry, position: Offset, processed: Lsn) -> Offset {
    if entry.taken_back || position.complete_through() < entry.owed.flushed {
        return position;
    }
    let through = if entry.owed.owes() { entry.owed.from.previous() } else { processed };
    position.max(Offset::commit_mark(through))
}

/// Slots looked at in a tick.
const SWEPT: usize = 1_024;
/// And while more is pinned than one shape may pin. In unit tests it takes few shapes to need two.
const SWEPT_IN_NEED: usize = if cfg!(test) { 2_048 } else { 32_768 };
