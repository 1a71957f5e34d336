//! Routing by kinds of clauses: what one insert costs among 300,000 clauses of a kind, in the index
//! alone and on one core, and what it costs to add a clause to them and to remove one. Beside it
//! the same clauses without an index, each asked: that is also the oracle of who is found. Rows are
//! drawn anew, so that what each one finds is as cold as it is in a stream; and what one look-up
//! in a bare hash table of as many numbers costs in the same run says how fast the machine's
//! memory is.
//!
//! Then the same clauses added in bulk to a whole engine, and the memory that each takes: by how
//! much the process's resident memory grows while 300,000 of them are made, divided by their
//! number. That is measured of definitions alone, each in an `Arc` as an engine keeps it; of an
//! index alone, with each clause's compiled form and its entry; and of an engine with its registry,
//! slots and log too.

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use walfan::{
    ChangeRef, ClauseIndex, ConsumerSpec, Engine, Fragment, Relation, ShapeDefinition, Slot,
};
use walfan_bench::clauses::{CASES, Case, products};
use walfan_bench::{Random, SHARDS, criterion, sized};

const CLAUSES: u64 = 300_000;
const CLAUSES_TINY: u64 = 300;
/// The equality is measured among so many too.
const CLAUSES_MANY: u64 = 1_000_000;
const CLAUSES_MANY_TINY: u64 = 500;
/// Rows that every clause is asked about in turn.
const ROWS: u64 = 256;
/// Rows that are made, and then routed: few, so that they are as warm as one that just came.
const BATCH: BatchSize = BatchSize::NumIterations(64);
const SEED: u64 = 23;

/// Built by the first that is measured, if any is.
struct Lazy<'a> {
    make: &'a dyn Fn() -> ClauseIndex,
    index: Option<ClauseIndex>,
}

impl Lazy<'_> {
    fn get(&mut self) -> &mut ClauseIndex {
        self.index.get_or_insert_with(self.make)
    }
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn main() {
    let mut criterion = criterion();
    memory();
    probe(&mut criterion);
    bulk(&mut criterion);
    for case in &CASES {
        kind(&mut criterion, case, sized(CLAUSES, CLAUSES_TINY));
    }
    kind(&mut criterion, &CASES[0], sized(CLAUSES_MANY, CLAUSES_MANY_TINY));
    criterion.final_summary();
}

/// The least that finding one among so many can cost.
fn probe(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("clauses: bare hash probe");
    for (many, tiny) in [(CLAUSES, CLAUSES_TINY), (CLAUSES_MANY, CLAUSES_MANY_TINY)] {
        let (count, mut random) = (sized(many, tiny), Random::new(SEED));
        let table: HashMap<u64, u32, RandomState> = (0..count).map(|n| (n, n as u32)).collect();
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            let draw = || random.below(count);
            bencher.iter_batched(draw, |number| table.get(&number).copied(), BATCH);
        });
    }
}

fn kind(criterion: &mut Criterion, case: &Case, clauses: u64) {
    let products = products();
    let mut random = Random::new(SEED);
    let order = random.shuffled(clauses as usize);
    let mut number = || number(&mut random, clauses);
    let rows: Vec<(u64, Fragment)> = match case.name.starts_with("length") {
        true => vec![(7, case.insert(&products, 7))],
        false => (0..ROWS).map(|_| number()).map(|k| (k, case.insert(&products, k))).collect(),
    };
    let mut group = criterion.benchmark_group(format!("clauses: {}", case.name));
    let make = || {
        let mut index = case.index(&products, &order);
        check(case, clauses, &rows, &mut index);
        index
    };
    let mut index = Lazy { make: &make, index: None };
    route(&mut group, (case, &products), clauses, &mut index);
    scan(&mut group, clauses, &rows, &mut index);
    add(&mut group, case, clauses, &mut index);
    remove(&mut group, case, clauses, &mut index);
}

fn change(fragment: &Fragment) -> ChangeRef<'_> {
    fragment.get(0).expect("each transaction has one change")
}

/// Who is found is whom each clause by itself takes, and no more clauses are asked than need be.
fn check(case: &Case, clauses: u64, rows: &[(u64, Fragment)], index: &mut ClauseIndex) {
    for (number, fragment) in rows.iter().take(5) {
        let before = index.evaluations();
        let routed = index.route(change(fragment)).expect("the row can be read");
        assert_eq!(routed.count(), (case.matches)(*number, clauses), "{} of {number}", case.name);
        let slots = routed.slots();
        let evaluations = index.evaluations() - before;
        assert!(evaluations <= (case.evaluations_max)(clauses), "{}: {evaluations}", case.name);
        let asked = index.ask_each(change(fragment)).expect("the row can be read");
        assert_eq!(slots, asked.slots(), "{} of {number}", case.name);
    }
}

/// An insert, from the row's text to the sets of slots.
fn route(
    group: &mut Group<'_>,
    (case, products): (&Case, &Arc<Relation>),
    clauses: u64,
    index: &mut Lazy<'_>,
) {
    let mut random = Random::new(SEED + 3);
    group.bench_function(BenchmarkId::new("route", clauses), |bencher| {
        let index = index.get();
        let row = || case.insert(products, number(&mut random, clauses));
        let route = |row: &mut Fragment| {
            index.route(change(row)).expect("the row can be read").failed().len()
        };
        bencher.iter_batched_ref(row, route, BATCH);
    });
}

/// Not at the ends, where fewer clauses match.
fn number(random: &mut Random, clauses: u64) -> u64 {
    20 + random.below(clauses - 40)
}

fn scan(group: &mut Group<'_>, clauses: u64, rows: &[(u64, Fragment)], index: &mut Lazy<'_>) {
    let mut next = rows.iter().cycle();
    group.bench_function(BenchmarkId::new("every clause", clauses), |bencher| {
        let index = index.get();
        bencher.iter(|| {
            let (_, fragment) = next.next().expect("rows come again");
            index.ask_each(change(fragment)).expect("the row can be read").count()
        });
    });
}

/// From the clause's text to its place in the index.
fn add(group: &mut Group<'_>, case: &Case, clauses: u64, index: &mut Lazy<'_>) {
    let mut random = Random::new(SEED + 1);
    group.bench_function(BenchmarkId::new("add one", clauses), |bencher| {
        let index = index.get();
        bencher.iter_custom(|count| {
            // In turns, so that the index stays as large as it is.
            let mut spent = Duration::ZERO;
            for _ in 0..count {
                let clause = (case.clause)(clauses + random.below(clauses), clauses);
                let start = Instant::now();
                let slot = index.add(Some(&clause)).expect("the clause is in the language");
                spent += start.elapsed();
                index.remove(slot);
            }
            spent
        });
    });
}

/// One of those that are there, and another one comes in its place.
fn remove(group: &mut Group<'_>, case: &Case, clauses: u64, index: &mut Lazy<'_>) {
    let mut random = Random::new(SEED + 2);
    group.bench_function(BenchmarkId::new("remove one", clauses), |bencher| {
        let index = index.get();
        let mut slots: Vec<Slot> = (0..clauses).map(|slot| Slot::new(slot as u32)).collect();
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            for _ in 0..count {
                let place = random.below(clauses) as usize;
                let start = Instant::now();
                index.remove(slots[place]);
                spent += start.elapsed();
                let clause = (case.clause)(random.below(clauses), clauses);
                slots[place] = index.add(Some(&clause)).expect("it was taken");
            }
            spent
        });
    });
}

fn definitions(case: &Case, products: &Arc<Relation>) -> Vec<(ShapeDefinition, ConsumerSpec)> {
    let clauses = sized(CLAUSES, CLAUSES_TINY);
    let order = Random::new(SEED).shuffled(clauses as usize);
    let clause = |number: usize| (case.clause)(number as u64, clauses);
    let shape = |clause: String| ShapeDefinition::filtered(products.table.clone(), &clause);
    order.into_iter().map(|number| (shape(clause(number)), ConsumerSpec::Log)).collect()
}

fn engine(products: &Arc<Relation>) -> Engine {
    let builder = Engine::builder().shards(SHARDS).runners(1);
    let (engine, _) = builder.start().expect("an engine starts");
    engine.learn(Arc::clone(products));
    engine
}

/// All clauses of a kind as shapes of an engine that had none: compiled on all cores, each in its
/// shard's index and in the log.
fn bulk(criterion: &mut Criterion) {
    let products = products();
    let mut group = criterion.benchmark_group("clauses: bulk");
    for case in &CASES {
        let definitions = definitions(case, &products);
        group.bench_function(BenchmarkId::new(case.name, definitions.len()), |bencher| {
            bencher.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    let engine = engine(&products);
                    let shapes = definitions.clone();
                    let start = Instant::now();
                    engine.add_shapes(shapes).expect("shapes are added");
                    spent += start.elapsed();
                }
                spent
            });
        });
    }
}

/// Bytes of a shape of the first kind: its definition, its clause in an index, all of it.
fn memory() {
    let (products, case) = (products(), &CASES[0]);
    let shapes = sized(CLAUSES, CLAUSES_TINY);
    let definition = |number| {
        let clause = (case.clause)(number, shapes);
        Arc::new(ShapeDefinition::filtered(products.table.clone(), &clause))
    };
    // All of it is kept until the end, so that nothing takes the place of what was dropped.
    let (_kept, by_definition) = grown(shapes, || (0..shapes).map(definition).collect::<Vec<_>>());
    let order = Random::new(SEED).shuffled(shapes as usize);
    let (_index, by_index) = grown(shapes, || case.index(&products, &order));
    let (definitions, engine) = (definitions(case, &products), engine(&products));
    let start = Instant::now();
    let added = || engine.add_shapes(definitions).expect("shapes are added");
    let (_handles, by_engine) = grown(shapes, added);
    println!(
        "{shapes} shapes {}: {by_definition} bytes of memory each for the definition, {by_index} \
         in the index; in an engine {by_engine} beside the definition that was passed, added in \
         {:.2?}",
        case.name,
        start.elapsed(),
    );
}

/// What `make` makes, and for each of `count` the bytes of memory that it holds on to.
fn grown<T>(count: u64, make: impl FnOnce() -> T) -> (T, u64) {
    let before = resident();
    let made = make();
    (made, resident().saturating_sub(before) / count)
}

/// The process's resident memory in bytes, where the system tells.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4_096
}
