//! Delivery: one change to N consumers until all have handled it and the LSN is flushed, with the
//! consumers in mailboxes and inline. The log is in memory. Beside it what one would write
//! instead: a bounded crossbeam channel a consumer, with one thread that sends and one that
//! receives, and a boxed closure a consumer that is simply called. Neither keeps a log, tracks
//! what is flushed or survives a consumer's death: they are the least that delivery costs.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::hint::black_box;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use walfan::{
    Ack, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Factory, Fragment, Lsn, Start,
    Started,
};
use walfan_bench::{World, criterion, inserts, items, sized, value_bytes, whole};

const CONSUMERS: &[usize] = &[1_000, 30_000];
const CONSUMERS_TINY: &[usize] = &[20];
/// As many as a mailbox has by default.
const CHANNEL_PLACES: usize = 16;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn main() {
    let mut criterion = criterion();
    delivery(&mut criterion);
    criterion.final_summary();
}

fn delivery(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("delivery");
    for &consumers in sized(CONSUMERS, CONSUMERS_TINY) {
        group.throughput(Throughput::Elements(consumers as u64));
        let ack = Ack::Consumer;
        walfan(&mut group, "walfan, mailboxes", consumers, |factory| ConsumerSpec::Mailbox {
            factory,
            ack,
        });
        walfan(&mut group, "walfan, inline", consumers, |factory| ConsumerSpec::Inline {
            factory,
            ack,
        });
        crossbeam_channels(&mut group, consumers);
        boxed_closures(&mut group, consumers);
    }
}

fn walfan(
    group: &mut Group<'_>,
    name: &str,
    consumers: usize,
    spec: impl Fn(Arc<dyn Factory>) -> ConsumerSpec,
) {
    let mut world = None;
    group.bench_function(BenchmarkId::new(name, consumers), |bencher| {
        let world = world.get_or_insert_with(|| {
            let factory: Arc<dyn Factory> = Arc::new(start);
            let consumer = spec(factory);
            let mut world = World::start(None, vec![(whole(), consumer); consumers]);
            // Every consumer was started when it has handled something.
            let lsn = world.publish(&[0]);
            world.wait_flushed(lsn);
            world
        });
        bencher.iter(|| {
            let lsn = world.publish(&[0]);
            world.wait_flushed(lsn);
        });
    });
    let Some((transactions, metrics)) = world.map(World::finish) else { return };
    assert_eq!(metrics.handled, transactions * consumers as u64, "each consumer handled each");
}

fn start(start: &Start<'_>) -> Result<Started, ConsumerError> {
    Ok(Started::new(Box::new(Reader::default()), start.resume()))
}

/// Looks at a row, and reports what it has seen.
#[derive(Default)]
struct Reader {
    bytes: u64,
    flushed: Lsn,
}

impl Consumer for Reader {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        self.bytes += value_bytes(delivery.new_row().and_then(|row| row.get(0)));
        if let Some(lsn) = delivery.commit() {
            self.flushed = lsn;
            context.flushed(lsn)?;
        }
        Ok(())
    }
}

fn crossbeam_channels(group: &mut Group<'_>, consumers: usize) {
    let mut channels = None;
    group.bench_function(BenchmarkId::new("crossbeam channels", consumers), |bencher| {
        let channels = channels.get_or_insert_with(|| Channels::start(consumers));
        bencher.iter(|| channels.round());
    });
    let Some((rounds, received)) = channels.map(Channels::finish) else { return };
    assert_eq!(received, rounds * consumers as u64, "each channel gave what it was sent");
}

/// Bare channels, with a thread that receives from each in turn.
struct Channels {
    senders: Vec<Sender<u64>>,
    done: Receiver<()>,
    receiver: JoinHandle<u64>,
    rounds: u64,
}

impl Channels {
    fn start(consumers: usize) -> Channels {
        let (senders, receivers) = (0..consumers).map(|_| bounded(CHANNEL_PLACES)).unzip();
        let (to_done, done) = bounded(1);
        let receiver = thread::spawn(move || receive(receivers, &to_done));
        Channels { senders, done, receiver, rounds: 0 }
    }

    fn round(&mut self) {
        self.rounds += 1;
        for sender in &self.senders {
            sender.send(self.rounds).expect("the receiver runs");
        }
        self.done.recv().expect("the receiver runs");
    }

    fn finish(self) -> (u64, u64) {
        drop(self.senders);
        (self.rounds, self.receiver.join().expect("the receiver ends"))
    }
}

fn receive(receivers: Vec<Receiver<u64>>, done: &Sender<()>) -> u64 {
    let mut received = 0;
    loop {
        for receiver in &receivers {
            let Ok(round) = receiver.recv() else { return received };
            black_box(round);
            received += 1;
        }
        if done.send(()).is_err() {
            return received;
        }
    }
}

type Closure = Box<dyn FnMut(&Fragment) -> u64>;

fn boxed_closures(group: &mut Group<'_>, consumers: usize) {
    let items = items();
    let mut handled = 0;
    let mut rounds = 0;
    let mut closures: Vec<Closure> = (0..consumers).map(|_| closure()).collect();
    group.bench_function(BenchmarkId::new("boxed closures", consumers), |bencher| {
        bencher.iter(|| {
            rounds += 1;
            let fragment = inserts(&items, Lsn::new(rounds), &[0]);
            handled = closures.iter_mut().map(|closure| closure(&fragment)).sum();
        });
    });
    assert_eq!(handled, if rounds == 0 { 0 } else { rounds * consumers as u64 });
}

/// Does what [`Reader`] does; how often it was called.
fn closure() -> Closure {
    let mut reader = Reader::default();
    let mut calls = 0;
    Box::new(move |fragment| {
        for change in fragment.changes() {
            reader.bytes += value_bytes(change.new_row().and_then(|row| row.get(0)));
        }
        reader.flushed = fragment.commit_lsn();
        calls += 1;
        black_box(&reader);
        calls
    })
}
