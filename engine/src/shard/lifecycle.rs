//! Lifecycle: how a shape comes, starts its consumer, and goes. Each coming and going is a record
//! in the log, in stream order, and counts when that record is durable (R3). A shape that goes
//! takes two steps, in any order: its record is synced, and its consumer is dropped (R12).

use super::Shard;
use super::commit::OnSync;
use super::message::{Entering, Gone, Placed, Prepared, Refusal, Reply};
use super::slots::{Attended, Beside, Cold, Entry, Lifecycle, Port};
use crate::consumer::{
    Ack, ConsumerSpec, Foreign, InlineState, Mailbox, MailboxName, Note, drop_contained,
};
use crate::control::{Event, Shape};
use crate::flush::Owed;
use crate::log::EncodeError;
use crate::run::StartJob;
use crate::snapshot::Initial;
use crate::sync::Ordering;
use crate::words::{Handle, Lsn, Offset, Slot};
use crossbeam_channel::Sender;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// How a shape ends.
pub(super) enum Ending {
    /// Its embedder removed it.
    Removed,
    /// Its consumer cannot be served (section 3.6).
    Undeliverable { offset: Offset, cause: String },
    /// Its log is not valid any more.
    Invalidated { cause: String },
}

/// A shape that is on its way out.
pub(super) struct Leaving {
    handle: Handle,
    /// [`Lifecycle::Removed`] or [`Lifecycle::Undeliverable`].
    state: Lifecycle,
    initial: Initial,
    /// Its incarnations, each until its part is dropped.
    mailboxes: Vec<Arc<Mailbox>>,
    durable: bool,
}

/// Shapes on their way out; as many as were removed and whose consumers have not let go.
pub(super) type Leavers = BTreeMap<Slot, Leaving>;

impl Shard {
    /// Adds shapes, all of them or none.
    pub(super) fn handle_add(
        &mut self,
        shapes: Vec<Prepared>,
        placed: Option<Sender<Placed>>,
        reply: Reply,
    ) {
        let count = shapes.len();
        if let Err(refusal) = self.admit(&shapes) {
            drop(reply.send(Err(refusal)));
            return;
        }
        // In the middle of a transaction: the shape starts with the next one.
        let after = self.stream.open.as_ref().map_or(self.stream.processed, |open| open.commit);
        let first = Offset::commit_mark(after);
        if let Some(placed) = placed {
            // Before the sync, so that the catalog is written meanwhile.
            drop(placed.send(Placed { slot: Slot::new(self.next_slot), first }));
        }
        let mut places = Vec::with_capacity(count);
        for shape in shapes {
            let slot = Slot::new(self.next_slot);
            self.next_slot += 1;
            let Prepared { handle, definition, relation, initial, .. } = &shape;
            let told = (&**definition, initial.is_awaited());
            let record = self.encoder.add_shape(slot, *handle, first, relation, told);
            self.must_fit(record);
            let entering = shape.placed(self.number, slot, first);
            places.push(entering.place());
            self.enter_slot(Owed::new(after), entering);
        }
        self.commit.when_durable(OnSync::Enter(places));
        self.commit.when_durable(OnSync::Answer(reply, Ok(count)));
    }

    fn admit(&self, shapes: &[Prepared]) -> Result<(), Refusal> {
        if self.is_stopping() {
            return Err(Refusal::Stopping);
        }
        if u64::from(self.next_slot) + shapes.len() as u64 > u64::from(u32::MAX) {
            return Err(Refusal::Slots);
        }
        // Most are of the same table as the one before.
        let mut current = None;
        for Prepared { relation, .. } in shapes {
            if current.is_some_and(|current| Arc::ptr_eq(current, relation)) {
                continue;
            }
            if !self.is_current(relation) {
                return Err(Refusal::Altered(relation.table.clone()));
            }
            current = Some(relation);
        }
        Ok(())
    }

    /// Gives a shape its slot, and starts its consumer.
    pub(super) fn enter_slot(&mut self, owed: Owed, entering: Entering) {
        let Entering { shape, consumer, initial } = entering;
        let (slot, first) = (shape.slot, shape.first);
        // Until it has its initial rows, its changes are logged, and that is all.
        let has_consumer = consumer.has_factory() && !initial.is_awaited();
        if initial.is_awaited() {
            self.log.claims().hold(slot);
        }
        let filters = initial.complete().is_some();
        let attended = consumer.has_factory().then(|| {
            let (incarnation, hung) = (0, Vec::new());
            Attended { consumer, incarnation, hung }
        });
        let cold = Cold::new(shape, initial, attended);
        let entry = Entry {
            state: if has_consumer { Lifecycle::Dead } else { Lifecycle::Running },
            ack: cold.shape.ack,
            open: false,
            deaths: 0,
            taken_back: false,
            filters,
            inline: InlineState::default(),
            owed,
            port: Port::Closed,
            mailbox: None,
            cold: Box::new(cold),
        };
        self.slots.insert(slot, entry);
        if first.commit > self.stream.processed {
            // What is left of the open transaction is none of its business.
            self.stream.newcomers.insert((first.commit, slot));
        } else {
            self.route(slot);
        }
        if has_consumer {
            self.attended.insert(slot.as_u32());
            self.counters().lagging.add(1);
            self.start_consumer(slot);
        }
    }

    /// The transaction of `commit` begins: shapes that begin before it are routed to from here on
    /// (R3).
    pub(super) fn route_newcomers(&mut self, commit: Lsn) {
        while let Some((first, slot)) = self.stream.newcomers.pop_first() {
            if first >= commit {
                self.stream.newcomers.insert((first, slot));
                return;
            }
            self.route(slot);
        }
    }

    fn route(&mut self, slot: Slot) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let Shape { relation, predicate, view, .. } = &*entry.cold.shape;
        self.tables.enter(relation);
        self.router.insert(slot, relation.oid, view.columns(), predicate);
    }

    /// Queues the factory for the next incarnation. A first start is a restart.
    pub(super) fn start_consumer(&mut self, slot: Slot) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let cold = &mut entry.cold;
        let Some(Beside { initial, attended: Some(attended) }) = cold.beside.as_deref_mut() else {
            return;
        };
        let (factory, inline) = match &*attended.consumer {
            ConsumerSpec::Log => return,
            ConsumerSpec::Mailbox { factory, .. } => (Arc::clone(factory), false),
            ConsumerSpec::Inline { factory, .. } => (Arc::clone(factory), true),
        };
        attended.incarnation += 1;
        let handle = cold.shape.handle;
        let name = MailboxName { handle, slot, incarnation: attended.incarnation };
        let page = self.dirty.page_for(slot);
        let named = (name, cold.shape.view.clone(), initial.complete().cloned());
        let mut mailbox = Mailbox::new(named, Arc::clone(&self.link), page);
        let (sender, receiver) = crossbeam_channel::bounded(self.limits.mailbox_places);
        // An inline consumer soon needs its channel no more.
        if name.incarnation > 1 && !inline {
            mailbox.set_moved(sender.clone());
        }
        let mailbox = Arc::new(mailbox);
        // A watch that is gone has ended with its engine.
        drop(self.watched.send(Arc::downgrade(&mailbox)));
        let first = cold.shape.first;
        let flushed = entry.owed.flushed;
        let last_reported = (flushed > first.complete_through()).then_some(flushed);
        entry.state = Lifecycle::Restarting;
        entry.port = Port::Mail(sender);
        entry.mailbox = Some(Arc::clone(&mailbox));
        if name.incarnation > 1 {
            self.slots.note_moved(slot);
        }
        self.count_places(1);
        let factory = Foreign::new(factory);
        self.pool.start(StartJob { mailbox, receiver, factory, first, last_reported, inline });
    }

    /// Removes a shape.
    pub(super) fn handle_remove(&mut self, handle: Handle, slot: Slot, reply: Reply) {
        if self.is_stopping() {
            drop(reply.send(Err(Refusal::Stopping)));
            return;
        }
        let is_it = |entry: &mut Entry| entry.cold.shape.handle == handle;
        if !self.slots.get_mut(slot).is_some_and(is_it) {
            // It ended while this was on its way: gone for good is it with the record that says so.
            self.commit.when_durable(OnSync::Answer(reply, Err(Refusal::Unknown)));
            return;
        }
        self.end_shape(slot, Ending::Removed);
        self.commit.when_durable(OnSync::Answer(reply, Ok(1)));
    }

    /// Invalidates every shape.
    pub(super) fn handle_invalidate_all(&mut self, cause: &str, reply: Reply) {
        if self.is_stopping() {
            drop(reply.send(Err(Refusal::Stopping)));
            return;
        }
        let slots = self.slots.all();
        for &slot in &slots {
            self.invalidate(slot, cause);
        }
        self.commit.when_durable(OnSync::Answer(reply, Ok(slots.len())));
    }

    /// Invalidates a shape for a reason that is not its consumer's.
    pub(super) fn invalidate(&mut self, slot: Slot, cause: &str) {
        self.end_shape(slot, Ending::Invalidated { cause: cause.to_owned() });
    }

    /// Takes the shape in `slot` out of everything, and writes why. Once stopping, nothing is
    /// invalidated (R16).
    pub(super) fn end_shape(&mut self, slot: Slot, ending: Ending) {
        if self.stopping.is_some() {
            return;
        }
        let Some(mut entry) = self.slots.remove(slot) else { return };
        let handle = entry.cold.shape.handle;
        self.attended.remove(slot.as_u32());
        let Shape { first, relation, predicate, view, .. } = &*entry.cold.shape;
        if !self.stream.newcomers.remove(&(first.commit, slot)) {
            self.router.remove(slot, relation.oid, view.columns(), predicate);
            self.tables.leave(relation);
        }
        if let Some(from) = entry.owed.release() {
            self.commit.when_durable(OnSync::Settle(entry.ack, from));
        }
        let lagging = entry.cold.attended().is_some() && entry.state != Lifecycle::Running;
        self.counters().lagging.sub(u64::from(lagging));
        // Readers are told at once; what they held is void when the record is durable.
        self.control.registry.leave(handle);
        let state = self.write_ending(slot, handle, ending);
        let elsewhere = entry.mailbox.filter(|_| !matches!(entry.port, Port::Inline(_)));
        self.drop_port(entry.port);
        if let Some(mailbox) = &elsewhere {
            mailbox.close();
            self.pool.wake(mailbox);
        }
        let Beside { initial, attended } = *entry.cold.beside.take().unwrap_or_default();
        let mut mailboxes = attended.map(|attended| attended.hung).unwrap_or_default();
        mailboxes.extend(elsewhere);
        let leaving = Leaving { handle, state, initial, mailboxes, durable: false };
        self.leaving.insert(slot, leaving);
        self.commit.when_durable(OnSync::Left(slot));
    }

    fn write_ending(&mut self, slot: Slot, handle: Handle, ending: Ending) -> Lifecycle {
        let at = self.stream.accepted;
        let (cause, event) = match ending {
            Ending::Removed => {
                let record = self.encoder.remove_shape(slot, handle, at);
                self.must_fit(record);
                return Lifecycle::Removed;
            }
            Ending::Undeliverable { offset, cause } => {
                self.counters().undeliverable.add(1);
                (cause.clone(), Event::Undeliverable { handle, offset, cause })
            }
            Ending::Invalidated { cause } => {
                self.counters().invalidated.add(1);
                (cause.clone(), Event::Invalidated { handle, offset: at, cause })
            }
        };
        let record = self.encoder.invalidate(slot, handle, at, &cause);
        self.must_fit(record);
        self.commit.when_durable(OnSync::Say(event));
        Lifecycle::Undeliverable
    }

    /// A record that does not fit would be lost, and with it what it stands for.
    fn must_fit(&self, record: Result<(), EncodeError>) {
        if let Err(error) = record {
            self.control.poison(&format!("shard {}: {error}", self.number));
        }
    }

    /// Closes a shape's port. A consumer that lies in it is dropped here and now: before its
    /// successor's factory runs (R6), and by contract without blocking.
    pub(super) fn drop_port(&mut self, port: Port) {
        match port {
            Port::Inline(consumer) => drop_contained(consumer),
            Port::Mail(_) => self.count_places(-1),
            Port::Closed => {}
        }
    }

    /// Mailboxes came or went: their places count for the publisher (R17).
    pub(super) fn count_places(&mut self, mailboxes: i64) {
        let gauge = &self.link.gauges.mail_places;
        let places = mailboxes * self.limits.mailbox_places as i64;
        // Relaxed: one writer; a hint for the publisher.
        gauge.store(gauge.load(Ordering::Relaxed).wrapping_add_signed(places), Ordering::Relaxed);
    }

    /// The record of a shape's end is durable.
    pub(super) fn left_durably(&mut self, slot: Slot, now: Instant) {
        self.counters().shapes.sub(1);
        if let Some(leaving) = self.leaving.get_mut(&slot) {
            leaving.durable = true;
            if leaving.initial.is_awaited() {
                // Not before: it may be there again after a crash, and await its rows.
                self.log.claims().release(slot);
            }
            let (handle, snapshot) = (leaving.handle, leaving.initial.complete().cloned());
            // A keeper that is gone has failed: what it leaves is cleared up at the next start.
            if let Some(gone) = &self.gone {
                drop(gone.send(Gone { handle, snapshot }));
            }
        }
        self.check_left(slot, now);
    }

    /// Looks at a shape that leaves: are all its incarnations dropped?
    pub(super) fn check_left(&mut self, slot: Slot, now: Instant) {
        let Some(leaving) = self.leaving.get_mut(&slot) else { return };
        leaving.mailboxes.retain(is_there);
        if leaving.durable && leaving.mailboxes.is_empty() {
            let (handle, state) = (leaving.handle, leaving.state);
            self.leaving.remove(&slot);
            if state == Lifecycle::Removed {
                self.control.events.say(Event::Removed { handle }, now);
            }
        }
    }
}

/// Whether the part of a closed mailbox is still somewhere, as far as its notes tell.
pub(super) fn is_there(mailbox: &Arc<Mailbox>) -> bool {
    // A note may be of an end that came before it was told to leave.
    let is_end = |note| matches!(note, Note::Gone | Note::Died(..) | Note::NotStarted(_));
    !mailbox.take_note().is_some_and(is_end)
}

impl ConsumerSpec {
    /// Whether there is a consumer beside the log.
    pub(super) fn has_factory(&self) -> bool {
        !matches!(self, ConsumerSpec::Log)
    }

    /// Whether the flushed LSN waits for it.
    pub(crate) fn ack(&self) -> Ack {
        match self {
            ConsumerSpec::Log => Ack::Log,
            ConsumerSpec::Mailbox { ack, .. } | ConsumerSpec::Inline { ack, .. } => *ack,
        }
    }
}
