//! Death: what a shard does when an incarnation has ended: it reads the last report, raises the
//! incarnation and restarts, or gives the shape up as undeliverable (section 3.6 of the rules in
//! ARCHITECTURE.md, R6).

use super::Shard;
use super::fanout::Ended;
use super::lifecycle::{Ending, is_there};
use super::slots::{Beside, Lifecycle, Port};
use crate::consumer::{Mailbox, Note, cause_text};
use crate::control::Event;
use crate::words::{Offset, Slot};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many deaths since a shape's flushed mark last moved make it undeliverable.
const DEATHS_MAX: u8 = 3;
/// The pacing budget is renewed this often.
const PACING_WINDOW: Duration = Duration::from_millis(10);

/// Delays restarts after the first one, so that consumers that die at once do not take all the
/// runners. It condemns nobody.
pub(super) struct Pacing {
    /// Ends met while delivering, to be looked at after the fan-out.
    pub(super) ended: Vec<Ended>,
    per_window: u32,
    window: Instant,
    left: u32,
    /// Slots that wait for their restart, with the incarnation that died. Bounded by the shapes.
    waiting: VecDeque<(Slot, u64)>,
}

impl Pacing {
    pub(super) fn new(restarts_per_second: u32, now: Instant) -> Pacing {
        let windows_per_second = 1_000 / PACING_WINDOW.as_millis() as u32;
        let per_window = (restarts_per_second / windows_per_second).max(1);
        Pacing {
            ended: Vec::new(),
            per_window,
            window: now,
            left: per_window,
            waiting: VecDeque::new(),
        }
    }

    /// Whether a restart waits for its turn.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn next(&mut self, now: Instant) -> Option<(Slot, u64)> {
        if now.duration_since(self.window) >= PACING_WINDOW {
            (self.window, self.left) = (now, self.per_window);
        }
        if self.left == 0 {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.left -= 1;
        Some(next)
    }
}

impl Shard {
    /// Buries those whose end was met while delivering.
    pub(super) fn bury_ended(&mut self, now: Instant) {
        while let Some(Ended { slot, inline }) = self.pacing.ended.pop() {
            let inline = inline.map(|(offset, cause)| (offset, cause_text(cause)));
            let (offset, cause) = inline.unwrap_or_else(|| self.last_words(slot));
            self.bury(slot, offset, cause, now);
        }
    }

    /// What a consumer said whose channel was found disconnected: its note may still be on its way.
    fn last_words(&mut self, slot: Slot) -> (Offset, String) {
        let mailbox = self.slots.get_mut(slot).and_then(|entry| entry.mailbox.clone());
        let note = mailbox.as_ref().and_then(|mailbox| mailbox.take_note());
        match (note, mailbox) {
            (Some(Note::Died(offset, cause)), _) => (offset, cause),
            (_, Some(mailbox)) => {
                (Offset::commit_mark(mailbox.flushed()), "its channel is disconnected".into())
            }
            _ => (self.stream.accepted, "its channel is disconnected".into()),
        }
    }

    /// The factory of an incarnation has not answered in time. It may come back, or not.
    pub(super) fn bury_hung(&mut self, slot: Slot, mailbox: Arc<Mailbox>, now: Instant) {
        let entry = self.slots.get_mut(slot);
        let beside = entry.and_then(|entry| entry.cold.beside.as_deref_mut());
        if let Some(Beside { attended: Some(attended), .. }) = beside {
            attended.hung.retain(is_there);
            attended.hung.push(Arc::clone(&mailbox));
        }
        let offset = Offset::commit_mark(mailbox.flushed());
        self.bury(slot, offset, "its factory did not answer in time".into(), now);
    }

    /// An incarnation of the shape in `slot` has ended at `offset`.
    pub(super) fn bury(&mut self, slot: Slot, offset: Offset, cause: String, now: Instant) {
        // Once more: what it reported before it died counts (R6).
        self.take_report(slot);
        let stopping = self.stopping.is_some();
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let Some(mailbox) = entry.mailbox.take() else { return };
        // The feeder lets go of it, and a zombie's part is dropped when it comes back.
        mailbox.close();
        self.pool.wake(&mailbox);
        // A fan-out has counted those whose end it met.
        let lagging = u64::from(entry.state == Lifecycle::Running);
        let port = std::mem::replace(&mut entry.port, Port::Closed);
        entry.state = Lifecycle::Dead;
        entry.deaths = entry.deaths.saturating_add(1);
        let (deaths, handle) = (entry.deaths, entry.cold.shape.handle);
        let incarnation = entry.cold.incarnation();
        self.drop_port(port);
        let counters = self.counters();
        counters.deaths.add(1);
        counters.lagging.add(lagging);
        self.control.events.say(Event::Died { handle, offset, cause: cause.clone() }, now);
        match deaths {
            _ if stopping => {}
            DEATHS_MAX.. => {
                let cause = format!("{DEATHS_MAX} deaths without progress, the last one: {cause}");
                self.end_shape(slot, Ending::Undeliverable { offset, cause });
            }
            1 => self.start_consumer(slot),
            _ => self.pacing.waiting.push_back((slot, incarnation)),
        }
    }

    /// Restarts those whose turn it is.
    pub(super) fn restart_paced(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        while let Some((slot, incarnation)) = self.pacing.next(now) {
            let died = |entry: &mut super::slots::Entry| {
                entry.state == Lifecycle::Dead && entry.cold.incarnation() == incarnation
            };
            if self.slots.get_mut(slot).is_some_and(died) {
                self.start_consumer(slot);
            }
        }
    }
}
