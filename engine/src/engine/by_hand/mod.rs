//! By hand: one shard's machines, pumped step by step, for what depends on which of two things
//! comes first, and on a time that nobody waits for.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod batches;
mod deaths;
mod ends;
mod feeding;
mod initial;
mod news;
mod order;
mod progress;
mod removal;
mod retention;
mod waiting;
mod whole;

use super::builder::Builder;
use super::keeper::Keeper;
use super::open::{Assembly, assemble};
use super::publisher::Publisher;
use super::retain::Retainer;
use super::threads::{Parts, SyncPart};
use super::{AddError, Engine, Inner};
use crate::consumer::{
    Ack, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Reporter, ShardLink, Start,
    Started,
};
use crate::control::{Counters, Event};
use crate::run::{Runner, Watch};
use crate::shard::{Message, Pump, Refusal};
use crate::words::{
    Column, Fragment, Handle, Lsn, Offset, Relation, ShapeDefinition, TableName,
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
    links: Arc<[Arc<ShardLink>]>,
    watch: Option<Watch>,
    keeper: Option<Keeper>,
    retainer: Option<Retainer>,
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

/// A transaction with a row of this kind.
fn of_kind(kind: &str, commit: u64) -> Fragment {
    let mut transaction = TransactionBuilder::new(1, Lsn::new(commit));
    transaction.insert(&relation(2), ["1", kind].map(|text| Value::Text(text.as_bytes()))).unwrap();
    transaction.commit(Lsn::new(commit + 1))
}

impl ByHand {
    fn open(dir: &Path) -> ByHand {
        ByHand::with(Engine::builder().directory(dir))
    }

    /// One shard and one runner; more of them are the test's to make.
    fn with(builder: Builder) -> ByHand {
        let now = Instant::now();
        let Assembly { inner, parts, publisher } =
            assemble(&builder.shards(1).runners(1), now).unwrap();
        let Parts { mut pumps, mut syncers, watch, links, keeper, retainer, .. } = parts;
        let runner = Runner::new(Arc::clone(&inner.pool), Arc::clone(&links));
        let (pump, syncer) = (pumps.remove(0), syncers.remove(0));
        inner.control.registry.learn(relation(2));
        let watch = Some(watch);
        ByHand { inner, publisher, pump, syncer, runner, links, watch, keeper, retainer, now }
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
        self.add_defined(ShapeDefinition::table(relation(2).table.clone()), consumer)
    }

    fn add_filtered(&self, clause: &str, consumer: ConsumerSpec) -> (Handle, Answer) {
        let table = relation(2).table.clone();
        self.add_defined(ShapeDefinition::filtered(table, clause), consumer)
    }

    fn add_defined(&self, shape: ShapeDefinition, consumer: ConsumerSpec) -> (Handle, Answer) {
        let handle = Handle::new(self.inner.take_handles(1));
        let shape = self.inner.prepare(handle, shape, consumer).unwrap();
        (handle, self.send(|reply| Message::Add(vec![shape], None, reply)))
    }

    fn remove(&self, handle: Handle) -> Answer {
        let slot = self.inner.control.registry.place(handle).unwrap().slot;
        self.send(|reply| Message::Remove(handle, slot, reply))
    }

    fn publish(&mut self, commits: std::ops::RangeInclusive<u64>) {
        commits.for_each(|commit| self.publisher.publish(row(&relation(2), commit)).unwrap());
    }

    /// What the shard alone can do.
    fn pump(&mut self) {
        while self.pump.step(self.now) {}
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
        self.inner.control.waiters.tell(0, self.syncer.syncer.take_news());
        true
    }

    /// Time passes, and the watch looks before and after.
    fn watch(&mut self, passes: Duration) {
        let watch = self.watch.as_mut().unwrap();
        watch.tick(self.now);
        self.now += passes;
        watch.tick(self.now);
    }

    fn living(&self) -> Vec<Handle> {
        self.inner.control.registry.all().iter().map(|shape| shape.handle).collect()
    }

    fn flushed(&self) -> u64 {
        self.inner.control.flushed.global().as_u64()
    }

    fn events(&self) -> Vec<Event> {
        self.inner.control.events.receiver().try_iter().collect()
    }

    fn shapes(&self) -> u64 {
        self.counters().shapes.get()
    }

    fn counters(&self) -> &Counters {
        &self.inner.control.counters[0]
    }
}

/// A consumer that is a closure.
struct Handler<F>(F);

impl<F> Consumer for Handler<F>
where
    F: FnMut(&Delivery<'_>, &mut Context<'_>) -> Result<(), ConsumerError> + Send,
{
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        (self.0)(delivery, context)
    }
}

/// Each incarnation handles with `handle`, and resumes after its predecessor's last report.
fn mailbox(
    ack: Ack,
    handle: impl Fn(&Delivery<'_>, &mut Context<'_>) -> Result<(), ConsumerError>
    + Clone
    + Send
    + Sync
    + 'static,
) -> ConsumerSpec {
    let factory = move |start: &Start<'_>| {
        Ok(Started::new(Box::new(Handler(handle.clone())), start.resume()))
    };
    ConsumerSpec::Mailbox { factory: Arc::new(factory), ack }
}

/// The commits of what was handed over.
type Commits = Arc<Mutex<Vec<u64>>>;

/// Notes in `seen` what it is handed, and reports it.
fn recording(seen: &Commits, ack: Ack) -> ConsumerSpec {
    let seen = Arc::clone(seen);
    mailbox(ack, move |delivery, context| {
        seen.lock().push(delivery.commit_lsn().as_u64());
        reports(delivery, context)
    })
}

/// Reports what it is handed.
fn reports(delivery: &Delivery<'_>, context: &mut Context<'_>) -> Result<(), ConsumerError> {
    Ok(context.flushed(delivery.commit_lsn())?)
}
