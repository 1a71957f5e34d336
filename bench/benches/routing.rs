//! Routing: a transaction of 100 changes, each of which matches one of N shapes `id = c`, until
//! the LSN is flushed. The log is in memory. Beside it what one would write instead: every clause
//! evaluated for every change, and, where it is known that all clauses have this one form, a hash
//! map from constant to shape. Both only find the shape and count; walfan also logs and flushes.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use std::collections::HashMap;
use std::sync::Arc;
use walfan::{ConsumerSpec, Fragment, Lsn, Relation, RowRef, Value};
use walfan_bench::{Random, World, criterion, inserts, items, one_row, sized};

const SHAPES: &[u64] = &[1_000, 100_000];
const SHAPES_TINY: &[u64] = &[50];
const CHANGES: usize = 100;
/// Transactions, by the seed; then the first comes again.
const TRANSACTIONS: usize = 64;
const SEED: u64 = 11;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn main() {
    let mut criterion = criterion();
    routing(&mut criterion);
    criterion.final_summary();
}

fn routing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routing");
    group.throughput(Throughput::Elements(CHANGES as u64));
    for &shapes in sized(SHAPES, SHAPES_TINY) {
        let mut random = Random::new(SEED);
        let mut transaction = || (0..CHANGES).map(|_| random.below(shapes)).collect();
        let ids: Vec<Vec<u64>> = (0..TRANSACTIONS).map(|_| transaction()).collect();
        walfan(&mut group, shapes, &ids);
        let clauses: Vec<Clause> = (0..shapes).map(clause).collect();
        baseline(&mut group, "every clause", shapes, &ids, |row, found| {
            let matching = clauses.iter().enumerate().filter(|(_, clause)| clause(row));
            matching.for_each(|(shape, _)| found(shape));
        });
        let by_id: HashMap<i64, usize> = (0..shapes).map(|id| (id as i64, id as usize)).collect();
        baseline(&mut group, "hash map of the one form", shapes, &ids, |row, found| {
            if let Some(&shape) = row.id.and_then(|id| by_id.get(&id)) {
                found(shape);
            }
        });
    }
}

fn walfan(group: &mut Group<'_>, shapes: u64, ids: &[Vec<u64>]) {
    let mut world = None;
    let mut transactions = ids.iter().cycle();
    group.bench_function(BenchmarkId::new("walfan", shapes), |bencher| {
        let world = world.get_or_insert_with(|| {
            let definitions = (0..shapes).map(|id| (one_row(id), ConsumerSpec::Log));
            World::start(None, definitions.collect())
        });
        bencher.iter(|| {
            let ids = transactions.next().map_or(&[][..], Vec::as_slice);
            let lsn = world.publish(ids);
            world.wait_flushed(lsn);
        });
    });
    let Some((transactions, metrics)) = world.map(World::finish) else { return };
    assert_eq!(metrics.logged, transactions * CHANGES as u64, "each change has one shape");
}

/// A row as clauses see it: parsed once, not once a clause.
struct Typed {
    id: Option<i64>,
}

impl Typed {
    fn new(row: &RowRef<'_>) -> Typed {
        let id = match row.get(0) {
            Some(Value::Text(text)) => std::str::from_utf8(text).ok(),
            _ => None,
        };
        Typed { id: id.and_then(|id| id.parse().ok()) }
    }
}

/// Clauses have any form, so each is a call.
type Clause = Box<dyn Fn(&Typed) -> bool>;

fn clause(constant: u64) -> Clause {
    let constant = constant as i64;
    Box::new(move |row| row.id == Some(constant))
}

/// Finds the shapes of each change with `find` and counts each shape's deliveries.
fn baseline(
    group: &mut Group<'_>,
    name: &str,
    shapes: u64,
    ids: &[Vec<u64>],
    find: impl Fn(&Typed, &mut dyn FnMut(usize)),
) {
    let items: Arc<Relation> = items();
    let mut transactions = ids.iter().cycle();
    let mut delivered = vec![0u64; shapes as usize];
    let mut commit = 0;
    group.bench_function(BenchmarkId::new(name, shapes), |bencher| {
        bencher.iter(|| {
            commit += 1;
            let ids = transactions.next().map_or(&[][..], Vec::as_slice);
            let fragment: Fragment = inserts(&items, Lsn::new(commit), ids);
            for row in fragment.changes().filter_map(|change| change.new_row()) {
                find(&Typed::new(&row), &mut |shape| delivered[shape] += 1);
            }
        });
    });
    let all: u64 = delivered.iter().sum();
    assert_eq!(all, commit * CHANGES as u64, "each change has one shape");
}
