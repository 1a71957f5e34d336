//! By hand: one shard's machines, pumped step by step, for what depends on which message lies
//! before which one in a shard's channel; and a log that was written by hand.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::builder::Builder;
use super::open::{Assembly, assemble};
use super::publisher::Publisher;
use super::threads::{Parts, SyncPart};
use super::{AddError, Engine, Inner};
use crate::consumer::{
    Ack, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Start, Started,
};
use crate::log::{BLOCK_BYTES_MAX, Directory, recover};
use crate::run::{Runner, Watch};
use crate::shard::{Message, Pump, Refusal};
use crate::words::{
    Column, Fragment, Handle, Lsn, Offset, Relation, ShapeDefinition, Slot, TableName,
    TransactionBuilder, Value,
};
use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Answer = Receiver<Result<usize, Refusal>>;

struct ByHand {
    inner: Arc<Inner>,
    publisher: Publisher,
    pump: Pump,
    syncer: SyncPart,
    runner: Runner,
    watch: Option<Watch>,
    now: Instant,
}

fn relation(columns: usize) -> Arc<Relation> {
    let columns = ["id", "kind"].into_iter().take(columns);
    let columns = columns.map(|name| Column::new(name, 20, false)).collect();
    Arc::new(Relation::new(1, TableName::new("public", "items"), columns))
}

fn row(relation: &Arc<Relation>, commit: u64) -> Fragment {
    let mut transaction = TransactionBuilder::new(1, Lsn::new(commit));
    transaction.insert(relation, relation.columns.iter().map(|_| Value::Text(b"1"))).unwrap();
    transaction.commit(Lsn::new(commit + 1))
}

impl ByHand {
    fn open(dir: &Path) -> ByHand {
        let now = Instant::now();
        let builder: Builder = Engine::builder().shards(1).runners(1).directory(dir);
        let Assembly { inner, parts } = assemble(&builder, now).unwrap();
        let Parts { mut pumps, mut syncers, watch, links, .. } = parts;
        let runner = Runner::new(Arc::clone(&inner.pool), links);
        let publisher = Publisher::new(Arc::clone(&inner));
        let (pump, syncer) = (pumps.remove(0), syncers.remove(0));
        inner.control.registry.learn(relation(2));
        ByHand { inner, publisher, pump, syncer, runner, watch: Some(watch), now }
    }

    fn send(&self, message: impl FnOnce(crate::shard::Reply) -> Message) -> Answer {
        let (reply, answer) = bounded(1);
        self.inner.send(0, message(reply)).unwrap();
        answer
    }

    fn add(&self) -> (Handle, Answer) {
        self.add_with(ConsumerSpec::Log)
    }

    fn add_with(&self, consumer: ConsumerSpec) -> (Handle, Answer) {
        let handle = Handle::new(self.inner.take_handles(1));
        let definition = ShapeDefinition::table(relation(2).table.clone());
        let shape = self.inner.prepare(handle, definition, consumer).unwrap();
        (handle, self.send(|reply| Message::Add(vec![shape], reply)))
    }

    /// Until everything is durable.
    fn settle(&mut self) {
        while self.pump.step(self.now) | self.sync() {}
    }

    /// Until everybody has handled everything.
    fn run(&mut self) {
        while self.pump.step(self.now) | self.sync() | self.runner.run_one().unwrap() {}
    }

    fn sync(&mut self) -> bool {
        let Ok(batch) = self.syncer.batches.try_recv() else { return false };
        self.syncer.syncer.commit(&batch).unwrap();
        self.syncer.synced.send(batch).unwrap();
        true
    }

    fn living(&self) -> Vec<Handle> {
        self.inner.control.registry.all().into_iter().map(|(handle, _)| handle).collect()
    }

    fn shapes(&self) -> u64 {
        self.inner.control.counters[0].shapes.get()
    }
}

/// R3: a shape that ends before its beginning is durable is not there when both are.
#[test]
fn r03_a_shape_that_ends_before_its_record_is_durable_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (altered, added) = hand.add();
    hand.publisher.publish(row(&relation(1), 1)).unwrap();
    hand.settle();
    assert_eq!(added.try_recv(), Ok(Ok(1)));
    assert_eq!((hand.living(), hand.shapes()), (vec![], 0), "{altered} is invalidated");
    hand.inner.control.registry.learn(relation(1));
    // The same for a batch that is in sync while its shapes end.
    let definition = ShapeDefinition::table(relation(1).table.clone());
    let handle = Handle::new(hand.inner.take_handles(1));
    let shape = hand.inner.prepare(handle, definition, ConsumerSpec::Log).unwrap();
    let added = hand.send(|reply| Message::Add(vec![shape], reply));
    hand.pump.step(hand.now);
    let ended = hand.send(|reply| Message::InvalidateAll("as the test wants".into(), reply));
    hand.pump.step(hand.now);
    hand.settle();
    assert_eq!((added.try_recv(), ended.try_recv()), (Ok(Ok(1)), Ok(Ok(1))));
    assert_eq!((hand.living(), hand.shapes()), (vec![], 0));
}

/// R16: Stop is the last message. What lies behind it is not done, and nobody is told that it was.
#[test]
fn r16_nothing_is_done_behind_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (handle, _) = hand.add();
    hand.settle();
    let place = hand.inner.control.registry.place(handle).unwrap();
    hand.publisher.publish(row(&relation(2), 1)).unwrap();
    hand.inner.shards[0].messages.send(Message::Stop(hand.now)).unwrap();
    let removed = hand.send(|reply| Message::Remove(handle, place.slot, reply));
    let ended = hand.send(|reply| Message::InvalidateAll("as the test wants".into(), reply));
    let (_, added) = hand.add();
    // Of a table that is another one by now: its shapes cannot be invalidated any more.
    hand.publisher.publish(row(&relation(1), 2)).unwrap();
    hand.settle();
    for answer in [removed, ended, added] {
        assert_eq!(answer.try_recv(), Ok(Err(Refusal::Stopping)));
    }
    assert_eq!(hand.living(), [handle]);
    let end = hand.pump.finish();
    assert_eq!((end.durable, end.flushed), (Lsn::new(1), Lsn::new(1)));
    drop((hand.inner, hand.publisher, hand.syncer, hand.runner, hand.watch));
    let again = ByHand::open(dir.path());
    assert_eq!(again.living(), [handle]);
}

/// Reports what it is handed.
struct Reports;

impl Consumer for Reports {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        Ok(context.flushed(delivery.commit_lsn())?)
    }
}

/// R9: its consumer may be in a runner's hands by the time that the verdict is read.
#[test]
fn r09_a_factory_that_answers_while_it_is_given_up_has_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (watch, now) = (Mutex::new(hand.watch.take().unwrap()), hand.now);
    let factory = Arc::new(move |start: &Start<'_>| {
        let mut watch = watch.lock();
        for seconds in [0, 1_000] {
            watch.tick(now + Duration::from_secs(seconds));
        }
        Ok(Started::new(Box::new(Reports), start.resume()))
    });
    let (handle, _) = hand.add_with(ConsumerSpec::Mailbox { factory, ack: Ack::Consumer });
    hand.run();
    for commit in 1..4 {
        hand.publisher.publish(row(&relation(2), commit)).unwrap();
        hand.run();
    }
    assert_eq!(hand.living(), [handle]);
    assert_eq!(hand.inner.control.flushed.global(), Lsn::new(3));
    let counters = &hand.inner.control.counters[0];
    assert_eq!((counters.deaths.get(), counters.lagging.get()), (0, 0));
}

/// R3: one shard takes its part, the other one has no slot left to give.
#[test]
fn r03_what_one_shard_took_goes_if_another_one_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open(dir.path(), 2).unwrap();
    let device = Box::new(directory.shard_device(1).unwrap());
    let found = recover(device, &directory.identity(1), BLOCK_BYTES_MAX).unwrap();
    let (mut encoder, mut syncer) = (found.encoder, found.syncer);
    let (slot, handle) = (Slot::new(u32::MAX - 3), Handle::new(1));
    let definition = ShapeDefinition::table(relation(2).table.clone());
    encoder.add_shape(slot, handle, Offset::ZERO, &relation(2), &definition).unwrap();
    encoder.remove_shape(slot, handle, Offset::ZERO).unwrap();
    syncer.commit(&encoder.take(Vec::new())).unwrap();
    drop((encoder, syncer, found.log, directory));
    let (engine, mut publisher) =
        Engine::builder().shards(2).runners(1).directory(dir.path()).start().unwrap();
    engine.learn(relation(2));
    let spec = || {
        let factory = Arc::new(|_: &Start<'_>| Err("its shape is taken out again".into()));
        ConsumerSpec::Mailbox { factory, ack: Ack::Consumer }
    };
    let shapes = (0..6).map(|_| (definition.clone(), spec())).collect();
    let refused = engine.add_shapes(shapes).unwrap_err();
    assert!(matches!(refused, AddError::SlotsExhausted), "{refused}");
    assert_eq!(engine.shapes(), []);
    publisher.publish(row(&relation(2), 1)).unwrap();
    let last = Lsn::new(1);
    assert_eq!(engine.wait_flushed(last, Duration::from_secs(60)).unwrap(), last);
    let metrics = engine.metrics();
    assert_eq!((metrics.shapes, metrics.lagging, metrics.invalidated), (0, 0, 0));
}
