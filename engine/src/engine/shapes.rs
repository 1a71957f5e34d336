//! Shapes: adding and removing them. Clauses are compiled in parallel, on the caller's side; what
//! reaches a shard has an exact place in the stream, and the caller gets its answer when the
//! record is durable.

use super::error::{AddError, DefinitionError, RemoveError};
use super::{Engine, Inner};
use crate::catalog::{Catalog, Change, Entry};
use crate::consumer::{Ack, ConsumerSpec, Foreign};
use crate::control::{Failure, Known, Phase};
use crate::predicate::{Predicate, canonical, compile_with, quoted};
use crate::shard::{ADDED_MAX, Message, Placed, Prepared, Refusal, Reply};
use crate::snapshot::Initial;
use crate::words::{Handle, Relation, Replica, ShapeDefinition, Slot, TableName, View};
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, bounded};
use rayon::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// How often a caller that waits looks whether the engine has failed.
const LOOK: Duration = Duration::from_millis(50);

/// How many shapes of a bulk are compiled at once: what compiling takes beside its result is given
/// back before the next ones need it, and does not stand between what stays.
const PREPARED_AT_ONCE: usize = 4_096;

pub(super) type Answer = Receiver<Result<usize, Refusal>>;

/// Shapes that a shard was asked to add.
struct Sent {
    shard: usize,
    shapes: Vec<(Handle, Arc<ShapeDefinition>)>,
    /// The same for all.
    initial: Initial,
    placed: Receiver<Placed>,
    answer: Answer,
}

impl Engine {
    /// Adds a shape; its record is durable when this returns. Everything that commits after the
    /// call began, and is published after it returned, is delivered to it; a shape that is added in
    /// the middle of a transaction starts with the next one.
    ///
    /// # Errors
    /// When its table is unknown, its clause refused, or the engine has failed or stopped.
    pub fn add_shape(
        &self,
        definition: ShapeDefinition,
        consumer: ConsumerSpec,
    ) -> Result<Handle, AddError> {
        let handles = self.add_shapes(vec![(definition, consumer)])?;
        handles.first().copied().ok_or(AddError::Failed(Failure::Stopped))
    }

    /// Adds many shapes, all or none; the handles, in the order of `shapes`.
    ///
    /// # Errors
    /// The first that is found; then none of the shapes exists.
    pub fn add_shapes(
        &self,
        shapes: Vec<(ShapeDefinition, ConsumerSpec)>,
    ) -> Result<Vec<Handle>, AddError> {
        self.add_all(shapes, &Initial::None)
    }

    /// Adds shapes, all or none, that are to be given what `initial` says.
    pub(super) fn add_all(
        &self,
        shapes: Vec<(ShapeDefinition, ConsumerSpec)>,
        initial: &Initial,
    ) -> Result<Vec<Handle>, AddError> {
        let inner = &self.inner;
        inner.control.state.check()?;
        let durable_only = inner.durable_only.read();
        inner.check_durable(*durable_only, &shapes)?;
        let first = inner.take_handles(shapes.len());
        let mut prepared = Vec::with_capacity(shapes.len());
        let mut shapes = shapes.into_iter().zip(first..);
        loop {
            let piece: Vec<_> = shapes.by_ref().take(PREPARED_AT_ONCE).collect();
            if piece.is_empty() {
                break;
            }
            let piece = piece.into_par_iter().map(|((definition, consumer), handle)| {
                let shape = inner.prepare(Handle::new(handle), definition, consumer)?;
                Ok(Prepared { initial: initial.clone(), ..shape })
            });
            prepared.extend(piece.collect::<Result<Vec<_>, AddError>>()?);
        }
        let handles: Vec<Handle> = prepared.iter().map(|shape| shape.handle).collect();
        if let Err(error) = inner.add(prepared) {
            // What some shards took is taken out again.
            for &handle in &handles {
                drop(self.remove_shape(handle));
            }
            return Err(error);
        }
        Ok(handles)
    }

    /// One text for all spellings of a definition that are known to mean the same: whatever the
    /// blanks, brackets, case and quotes of its clause, the order of its columns and how its
    /// constants are given. Who adds shapes can find by it that there is one already.
    ///
    /// # Errors
    /// When the shape could not be added: its table is unknown, or its definition refused.
    pub fn canonical(&self, definition: &ShapeDefinition) -> Result<String, AddError> {
        let relation = self.inner.relation_of(definition)?;
        let refused = |source| refused(definition, source);
        let view = View::of(&relation, definition).map_err(|error| refused(error.into()))?;
        let TableName { schema, name } = &relation.table;
        let mut text = format!("{}.{}", quoted(schema), quoted(name));
        if let Some(columns) = view.columns() {
            let named = relation.columns.iter().enumerate();
            let named = named.filter(|(index, _)| columns.contains(*index));
            let named: Vec<_> = named.map(|(_, column)| quoted(&column.name)).collect();
            text.push_str(&format!(" ({})", named.join(", ")));
        }
        if definition.replica == Replica::Full {
            text.push_str(" replica full");
        }
        let clause = definition.where_clause.as_deref();
        let clause = canonical(&relation, clause, &definition.params);
        if let Some(clause) = clause.map_err(|error| refused(error.into()))? {
            text.push_str(&format!(" where {clause}"));
        }
        Ok(text)
    }

    /// Says that the source forgets what this engine has flushed, as a replication slot does. From
    /// then on shapes that acknowledge by their log alone ([`Ack::Log`](crate::Ack)) are refused if
    /// the log is only memory (R14).
    ///
    /// # Errors
    /// The first such shape that exists already.
    pub fn require_durable(&self) -> Result<(), Handle> {
        let inner = &self.inner;
        *inner.durable_only.write() = true;
        if self.is_durable() {
            return Ok(());
        }
        let shapes = inner.control.registry.all();
        let found = shapes.iter().find(|shape| shape.ack == Ack::Log);
        found.map_or(Ok(()), |shape| Err(shape.handle))
    }

    /// Removes a shape; durable when this returns. What its consumer was handed may still be
    /// running; [`Event::Removed`](crate::Event::Removed) says when its consumer is dropped.
    ///
    /// # Errors
    /// When there is no such shape, or the engine has failed or stopped.
    pub fn remove_shape(&self, handle: Handle) -> Result<(), RemoveError> {
        let inner = &self.inner;
        inner.control.state.check()?;
        let unknown = RemoveError::Unknown { handle };
        let Some(place) = inner.control.registry.place(handle) else { return Err(unknown) };
        let (reply, answer) = bounded(1);
        inner.send(place.shard as usize, Message::Remove(handle, place.slot, reply))?;
        match inner.wait_for(&answer)? {
            Ok(_) => Ok(()),
            Err(Refusal::Stopping) => Err(Failure::Stopped.into()),
            Err(_) => Err(unknown),
        }
    }

    /// Invalidates every shape, durably when this returns: what the source sends does not continue
    /// what they hold (INV11). The number of shapes.
    ///
    /// # Errors
    /// When the engine has failed or stopped.
    pub fn invalidate_all(&self, cause: &str) -> Result<usize, Failure> {
        let inner = &self.inner;
        inner.control.state.check()?;
        let cause: Arc<str> = cause.into();
        let mut answers = Vec::new();
        for shard in 0..inner.shards.len() {
            let (reply, answer) = bounded(1);
            inner.send(shard, Message::InvalidateAll(Arc::clone(&cause), reply))?;
            answers.push(answer);
        }
        let mut count = 0;
        for answer in answers {
            // The only reason to refuse it is that the shard stops.
            count += inner.wait_for(&answer)?.map_err(|_| Failure::Stopped)?;
        }
        Ok(count)
    }
}

/// What `definition` means for the rows of `relation`, and for their columns.
pub(super) fn compiled(
    relation: &Relation,
    definition: &ShapeDefinition,
) -> Result<(Predicate, View), DefinitionError> {
    let clause = definition.where_clause.as_deref();
    let predicate = compile_with(relation, clause, &definition.params)?;
    Ok((predicate, View::of(relation, definition)?))
}

/// The name of no table.
fn no_table() -> TableName {
    TableName::new("", "")
}

fn refused(definition: &ShapeDefinition, source: DefinitionError) -> AddError {
    let definition = definition.to_string();
    match source {
        DefinitionError::Where(source) => AddError::Where { definition, source },
        DefinitionError::Columns(source) => AddError::Columns { definition, source },
    }
}

impl Inner {
    fn relation_of(&self, definition: &ShapeDefinition) -> Result<Arc<Relation>, AddError> {
        let table = &definition.table;
        let known = self.control.registry.relation(table);
        match known.ok_or_else(|| AddError::UnknownTable { table: table.clone() })? {
            Known { outdated: true, .. } => Err(AddError::Altered { table: table.clone() }),
            Known { relation, .. } => Ok(relation),
        }
    }

    fn check_durable(
        &self,
        durable_only: bool,
        shapes: &[(ShapeDefinition, ConsumerSpec)],
    ) -> Result<(), AddError> {
        if !durable_only || self.directory.is_some() {
            return Ok(());
        }
        match shapes.iter().find(|(_, consumer)| consumer.ack() == Ack::Log) {
            Some((shape, _)) => Err(AddError::NotDurable { definition: shape.to_string() }),
            None => Ok(()),
        }
    }

    pub(super) fn prepare(
        &self,
        handle: Handle,
        definition: ShapeDefinition,
        consumer: ConsumerSpec,
    ) -> Result<Prepared, AddError> {
        let relation = self.relation_of(&definition)?;
        let found = compiled(&relation, &definition);
        let (predicate, view) = found.map_err(|source| refused(&definition, source))?;
        let definition = Arc::new(definition);
        let consumer = Foreign::new(consumer);
        let initial = Initial::None;
        Ok(Prepared { handle, definition, relation, predicate, view, consumer, initial })
    }

    /// Hands shapes out to the shards, in turn, and waits until all are durable, in the logs and in
    /// the catalog.
    fn add(&self, shapes: Vec<Prepared>) -> Result<(), AddError> {
        let mut filling: Vec<Vec<Prepared>> = self.shards.iter().map(|_| Vec::new()).collect();
        let mut sent = Vec::new();
        for shape in shapes {
            let shard = (shape.handle.as_u64() % self.shards.len() as u64) as usize;
            let part = &mut filling[shard];
            part.push(shape);
            if part.len() == ADDED_MAX {
                sent.push(self.send_added(shard, std::mem::take(part))?);
            }
        }
        for (shard, part) in filling.into_iter().enumerate() {
            if !part.is_empty() {
                sent.push(self.send_added(shard, part)?);
            }
        }
        // While the records are synced.
        self.enter_in_catalog(&sent)?;
        // All of them, also after a refusal: what was taken is then known, and can be taken out.
        let mut refused = None;
        for Sent { shapes, answer, .. } in &sent {
            if let Err(refusal) = self.wait_for(answer)? {
                let table = shapes.first().map(|(_, definition)| definition.table.clone());
                refused.get_or_insert((table.unwrap_or_else(no_table), refusal));
            }
        }
        self.leave_catalog(&sent)?;
        match refused {
            None => Ok(()),
            Some((_, Refusal::Altered(table))) => Err(AddError::Altered { table }),
            Some((_, Refusal::Slots)) => Err(AddError::SlotsExhausted),
            Some((table, Refusal::Unknown)) => Err(AddError::UnknownTable { table }),
            Some((_, Refusal::Stopping | Refusal::Unshown(_) | Refusal::Untold)) => {
                Err(AddError::Failed(Failure::Stopped))
            }
        }
    }

    fn send_added(&self, shard: usize, shapes: Vec<Prepared>) -> Result<Sent, Failure> {
        let named = shapes.iter().map(|shape| (shape.handle, Arc::clone(&shape.definition)));
        let named = named.collect();
        let initial = shapes.first().map(|shape| shape.initial.clone()).unwrap_or_default();
        let (reply, answer): (Reply, Answer) = bounded(1);
        let (tell, placed) = bounded(1);
        let tell = self.catalog.is_some().then_some(tell);
        self.send(shard, Message::Add(shapes, tell, reply))?;
        Ok(Sent { shard, shapes: named, initial, placed, answer })
    }

    /// Writes shapes that are being added into the catalog, in one transaction.
    fn enter_in_catalog(&self, sent: &[Sent]) -> Result<(), Failure> {
        let Some(catalog) = &self.catalog else { return Ok(()) };
        let mut changes = Vec::new();
        for Sent { shard, shapes, initial, placed, .. } in sent {
            // A shard that refuses them, or is gone, answers that.
            let Some(Placed { slot, first }) = self.receive(placed)? else { continue };
            for ((handle, definition), slot) in shapes.iter().zip(slot.as_u32()..) {
                let (shard, slot) = (*shard as u32, Slot::new(slot));
                let entry = Entry { shard, slot, first, definition, initial };
                changes.push(Change::put(*handle, &entry));
            }
        }
        self.write_catalog(catalog, changes)
    }

    /// Takes those out again that have ended by now: who clears up after them may have come before
    /// they were entered.
    fn leave_catalog(&self, sent: &[Sent]) -> Result<(), Failure> {
        let Some(catalog) = &self.catalog else { return Ok(()) };
        let handles = sent.iter().flat_map(|sent| sent.shapes.iter().map(|(handle, _)| *handle));
        let gone = handles.filter(|handle| self.control.registry.place(*handle).is_none());
        let changes: Vec<_> = gone.map(Change::Take).collect();
        if changes.is_empty() { Ok(()) } else { self.write_catalog(catalog, changes) }
    }

    /// What cannot be written to the catalog is as fatal as what cannot be written to a log
    /// (INV10).
    pub(super) fn write_catalog(
        &self,
        catalog: &Catalog,
        changes: Vec<Change>,
    ) -> Result<(), Failure> {
        catalog.write(changes, self.next_handle()).map_err(|error| {
            self.control.poison(&error.to_string());
            self.control.state.failure()
        })
    }

    /// Sends a lifecycle message; waits while the shard's channel has no place for one.
    pub(super) fn send(&self, shard: usize, message: Message) -> Result<(), Failure> {
        let door = &self.shards[shard];
        loop {
            self.control.state.check()?;
            match door.lifecycle_credits.send_timeout((), LOOK) {
                Ok(()) => break,
                Err(SendTimeoutError::Timeout(())) => {}
                Err(SendTimeoutError::Disconnected(())) => {
                    return Err(self.control.state.failure());
                }
            }
        }
        door.messages.send(message).map_err(|_| self.control.state.failure())
    }

    /// Waits for a shard's answer, and no longer than the engine lives.
    pub(super) fn wait_for(&self, answer: &Answer) -> Result<Result<usize, Refusal>, Failure> {
        self.receive(answer)?.ok_or_else(|| self.control.state.failure())
    }

    /// The same; `None` if none will come.
    fn receive<T>(&self, answer: &Receiver<T>) -> Result<Option<T>, Failure> {
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(answer) => return Ok(Some(answer)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    let state = &self.control.state;
                    // Ended: a shard that has not answered by now was left behind.
                    if state.poisoned().is_some() || state.phase() == Phase::Ended {
                        return Err(state.failure());
                    }
                }
            }
        }
    }
}
