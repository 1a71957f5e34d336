//! Scattered: parts and consumers that lie anywhere in memory, as after many restarts, and that a
//! runner comes to in turn. Each is read when it is needed, which is when the one before it was
//! read; or the core is asked, a batch ahead, to fetch them. It is what the engine's one `unsafe`
//! has to pay for.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::sync::atomic::{AtomicU64, Ordering};
use walfan::testing::prefetch;
use walfan_bench::{Random, criterion, sized};

/// More than a core's cache holds, and as many as a runner takes at a time.
const MAILBOXES: usize = 300_000;
const MAILBOXES_TINY: usize = 300;
const BATCH: usize = 128;

/// Each is changed once a visit, as one is that runs.
#[repr(align(128))]
struct Mailbox {
    word: AtomicU64,
    part: Box<Part>,
    /// Where part and consumer lie.
    hints: [usize; 2],
}

#[repr(align(128))]
struct Part {
    word: AtomicU64,
    consumer: Box<Consumer>,
}

#[repr(align(128))]
struct Consumer {
    word: AtomicU64,
}

fn main() {
    let mut criterion = criterion();
    scattered(&mut criterion);
    criterion.final_summary();
}

fn scattered(criterion: &mut Criterion) {
    let mailboxes = mailboxes(sized(MAILBOXES, MAILBOXES_TINY));
    let mut group = criterion.benchmark_group("scattered");
    group.throughput(Throughput::Elements(mailboxes.len() as u64));
    for (name, ahead) in [("when it is needed", false), ("a batch ahead", true)] {
        group.bench_function(BenchmarkId::new(name, mailboxes.len()), |bencher| {
            bencher.iter(|| visit_all(&mailboxes, ahead));
        });
    }
    let visits = |mailbox: &Mailbox| mailbox.part.consumer.word.load(Ordering::Relaxed);
    let first = visits(&mailboxes[0]);
    assert!(first > 0 && mailboxes.iter().all(|each| visits(each) == first), "one was left out");
}

/// Their parts and consumers lie in another order.
fn mailboxes(count: usize) -> Vec<Mailbox> {
    let word = || AtomicU64::new(0);
    let mut random = Random::new(7);
    let consumers = anywhere((0..count).map(|_| Consumer { word: word() }), &mut random);
    let parts = consumers.into_iter().map(|consumer| Part { word: word(), consumer });
    let parts = anywhere(parts, &mut random);
    let with_hints = |part: Box<Part>| {
        let consumer = std::ptr::from_ref(&*part.consumer).addr();
        let hints = [std::ptr::from_ref(&*part).addr(), consumer];
        Mailbox { word: word(), part, hints }
    };
    parts.into_iter().map(with_hints).collect()
}

fn anywhere<T>(all: impl Iterator<Item = T>, random: &mut Random) -> Vec<Box<T>> {
    let mut boxes: Vec<_> = all.map(|one| Some(Box::new(one))).collect();
    let order = random.shuffled(boxes.len());
    order.into_iter().filter_map(|place| boxes[place].take()).collect()
}

fn visit_all(mailboxes: &[Mailbox], ahead: bool) {
    for batch in mailboxes.chunks(BATCH) {
        if ahead {
            batch.iter().flat_map(|mailbox| mailbox.hints).for_each(prefetch);
        }
        for mailbox in batch {
            mailbox.word.fetch_add(1, Ordering::AcqRel);
            mailbox.part.word.fetch_add(1, Ordering::AcqRel);
            mailbox.part.consumer.word.fetch_add(1, Ordering::AcqRel);
        }
    }
}
